"""Networks and blobs: the same numbers in PyTorch and in the core, and nothing lost on the way there and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from wifi_densepose_temporal import FeatureConfig, TemporalHeadConfig, TemporalModel
from wifi_densepose_temporal.errors import BlobModelError, ConfigError
from wifi_densepose_temporal.rvne import quantise
from wifi_densepose_temporal.training.blob import to_blob, to_network
from wifi_densepose_temporal.training.network import NetworkSizes, TemporalNetwork, pool

HEAD = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=2, head_dim=6, window=8, block_size=4)
CHAIN = FeatureConfig()
LABELS = ("sitting", "walking", "nobody")
POOLINGS = (("mean", 0), ("last", 0), ("last_n", 7), ("mean_spread", 0))


def network_of(seed: int = 0, **choices: object) -> TemporalNetwork:
    """A network whose every number is random, its BatchNorm's statistics included."""
    torch.manual_seed(seed)
    sizes = NetworkSizes(**{"features": 16, "classes": 3, "layers": 2, "width": 11, **choices})  # type: ignore[arg-type]
    network = TemporalNetwork(sizes, HEAD)
    for parameter in network.parameters():  # a new network's layers are the identity, which would hide their mistakes
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    network.mean.normal_()
    network.scale.uniform_(0.5, 2)
    network.train()
    network(torch.randn(4, 50, 16))
    return network.eval()


def blob_of(network: TemporalNetwork, dtype: str = "float32") -> bytes:
    return to_blob(network, labels=LABELS, chain=CHAIN, provenance={"trained": False}, dtype=dtype).serialize()  # type: ignore[arg-type]


CHOICES = [
    {"pooling": pooling, "pool_frames": frames, **rest}
    for (pooling, frames), rest in itertools.product(
        POOLINGS,
        (
            {"embedding": (13, 9), "hidden": 20},
            {"embedding": (5,), "width": 16, "input_projection": False, "norm": "none"},
            {"hidden": 6, "activation": "relu", "classifier_bias": True},
        ),
    )
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: f"{c['pooling']}-{c.get('embedding', 'plain')}")
def test_core_and_network_agree_within_1e_5(choices: dict[str, object], dtype: str) -> None:
    blob = blob_of(network_of(**choices), dtype)
    frames = np.random.default_rng(1).normal(size=(300, 16)).astype(np.float32)
    prediction = TemporalModel.from_bytes(blob).predict(frames)
    with torch.no_grad():
        logits, embedding = to_network(blob)(torch.from_numpy(frames)[None])
    largest = max(1.0, float(logits.abs().max()))
    np.testing.assert_allclose(prediction.logits, logits[0], atol=1e-5 * largest, rtol=0)
    np.testing.assert_allclose(prediction.embedding, embedding[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("choices", CHOICES, ids=lambda c: f"{c['pooling']}-{c.get('embedding', 'plain')}")
def test_a_blob_read_and_written_again_is_the_same_bytes(choices: dict[str, object]) -> None:
    for dtype in ("float32", "float16"):
        blob = blob_of(network_of(**choices), dtype)
        assert blob_of(to_network(blob), dtype) == blob


def test_int8_is_neither_written_by_training_nor_trained_on() -> None:
    network = network_of()
    with pytest.raises(BlobModelError, match="float32 or float16"):
        blob_of(network, "int8")
    with pytest.raises(BlobModelError, match="start from the one that it came from"):
        to_network(quantise(blob_of(network)))


def test_a_folded_batch_norm_gives_the_embeddings_of_the_unfolded() -> None:
    network = network_of(embedding=(13, 9))
    frames = torch.randn(1, 40, 16)
    with torch.no_grad():
        expected, got = network(frames)[1], to_network(blob_of(network))(frames)[1]
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_the_network_is_causal() -> None:
    network, frames = network_of(pooling="mean_spread", hidden=20), torch.randn(1, 60, 16)
    changed = frames.clone()
    changed[:, 37:] += 1
    with torch.no_grad():
        before, after = network(frames)[0], network(changed)[0]
    assert torch.equal(before[:, :37], after[:, :37])
    assert not torch.equal(before[:, 37:], after[:, 37:])


@pytest.mark.parametrize(("kind", "frames"), POOLINGS)
def test_pooling_equals_a_loop(kind: str, frames: int) -> None:
    h = torch.randn(2, 30, 3, dtype=torch.float64)
    for t in range(30):
        seen = h[:, max(0, t + 1 - frames) : t + 1] if frames else h[:, : t + 1]
        expected = {"last": h[:, t], "mean_spread": torch.cat([seen.mean(1), seen.std(1, correction=0)], -1)}
        torch.testing.assert_close(pool(h, kind, frames)[:, t], expected.get(kind, seen.mean(1)), atol=2e-6, rtol=0)  # type: ignore[arg-type]


def test_a_blob_needs_a_label_for_each_class_and_finite_weights() -> None:
    network = network_of()
    with pytest.raises(BlobModelError, match="2 labels for a network of 3 classes"):
        to_blob(network, labels=LABELS[:2], chain=CHAIN, provenance={"trained": False})
    with torch.no_grad():
        network.classifier.weight[0, 0] = 1e6
    with pytest.raises(BlobModelError, match="float16 cannot hold"):
        to_blob(network, labels=LABELS, chain=CHAIN, provenance={"trained": False}, dtype="float16")


@pytest.mark.parametrize(
    "choices",
    [
        {"layers": 0},
        {"width": 8, "input_projection": False},
        {"pooling": "last_n"},
        {"pooling": "mean", "pool_frames": 3},
        {"embedding": (1, 2, 3)},
    ],
)
def test_sizes_that_no_blob_can_hold_are_refused(choices: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        network_of(**choices)
