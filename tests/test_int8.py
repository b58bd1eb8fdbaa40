"""int8 weights: their bytes, what rounding does to numbers and decisions, and who refuses them."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.reference_model import ReferenceModel, check_blob, normal, random_model, tiny
from tests.test_rvne import header_bytes, record, sealed
from wifi_densepose_temporal import (
    TemporalHeadConfig,
    TemporalModel,
    WeightBlob,
    WeightBlobHeader,
    WeightBlobView,
    errors,
    extract,
    init_random_blob,
    read_capture,
)
from wifi_densepose_temporal.adaptation import adapt
from wifi_densepose_temporal.models import SHIPPED, find_model
from wifi_densepose_temporal.rvne import quantise, records
from wifi_densepose_temporal.timeline import feature_config

CONFIG = TemporalHeadConfig(
    "sparse_gqa", q_heads=4, kv_heads=1, head_dim=6, window=5, block_size=3
)  # width 5: absorbed
SPLIT = TemporalHeadConfig(
    "sparse_gqa", q_heads=4, kv_heads=2, head_dim=3, window=5, block_size=3
)  # keys, values cached


# ------------------------------------------------------------------------------------------------------------- bytes


def tensor(scale: float, *numbers: int) -> bytes:
    return struct.pack(f"<f{len(numbers)}b", scale, *numbers) + bytes(-len(numbers) % 4)


def test_a_blob_of_int8_is_the_pages_bytes() -> None:
    """Wq, Wk, Wv, Wo and Wc, a bias behind them: written out once more by hand."""
    numbers = [127.0, -63.5, 0.0, 1.0, 0.5, -254.0, 0.0, 0.0, 2.0, -1.0, 127.0, 1.5]
    blob = WeightBlob(
        WeightBlobHeader(2, 1, 1, 1, 1, 2), np.array(numbers, np.float32), [records.classifier_bias([1, 0], "float32")]
    ).serialize()
    weights = (
        tensor(1, 127, -64)  # -63.5 to the even one
        + tensor(np.float32(1) / np.float32(127), 0, 127)
        + tensor(2, 0, -127)
        + tensor(0, 0, 0)
        + tensor(1, 2, -1, 127, 2)  # 1.5 to the even one
    )
    facts = f'{{"quantised": {{"dtype": "int8", "from": "{hashlib.sha256(blob).hexdigest()}"}}}}'
    section = record(10, 1, tensor(np.float32(1) / np.float32(127), 127, 0)) + record(9, 0, facts.encode())
    body = header_bytes(flags=6, dims=(2, 1, 1, 1, 1, 2), weights_len=len(weights)) + weights
    assert quantise(blob) == sealed(body + struct.pack("<I", len(section)) + section)


def test_it_travels_like_any_other_blob() -> None:
    content = quantise(init_random_blob())
    view = WeightBlobView.parse(content)
    assert (view.header.dtype, view.weights.dtype) == ("int8", np.int8)
    assert WeightBlob(view.header, view.weights, view.records).serialize() == content


@settings(max_examples=60)
@given(arrays.arrays(np.float32, 12, elements=st.floats(-9e5, 9e5, width=32)))
def test_no_weight_moves_by_more_than_half_a_scale(weights: Any) -> None:
    blob = WeightBlob(WeightBlobHeader(2, 1, 1, 1, 1, 2), weights).serialize()
    rounded = WeightBlobView.parse(quantise(blob)).tensors()
    for before, after in zip(WeightBlobView.parse(blob).tensors(), rounded, strict=True):
        half_a_scale = max(np.abs(before).max() / 254, np.finfo(np.float32).tiny / 2)
        np.testing.assert_array_less(np.abs(after - before.astype(np.float64)), half_a_scale * (1 + 1e-5) + 1e-45)
    assert TemporalModel(quantise(blob)).header.dtype == "int8"


def test_everything_else_is_kept() -> None:
    model = random_model(np.random.default_rng(0), CONFIG, norm="rms", pooling="last_n", pool_frames=3)
    extra = [
        records.class_labels(["a", "b", "c"]),
        records.class_statistics(np.ones(3), np.ones((3, 5)), np.eye(5)),
        records.provenance({"trained": True, "metrics": {"accuracy": 0.5}}),
    ]
    source = WeightBlobView.parse(model.blob())
    blob = WeightBlob(source.header, source.weights, [*source.records, *extra]).serialize()
    before, after = WeightBlobView.parse(blob), WeightBlobView.parse(quantise(blob))
    for name in ("pattern", "pooling", "feature_scale", "class_labels", "class_statistics"):
        assert after.record(name) == before.record(name), name
    made = TemporalModel(quantise(blob))
    assert made.trained is True
    assert made.provenance["metrics"] == {"accuracy": 0.5}
    assert made.provenance["quantised"] == {"dtype": "int8", "from": hashlib.sha256(blob).hexdigest()}


def test_the_reference_blob_stays_untrained() -> None:
    assert TemporalModel(quantise(init_random_blob())).trained is False
    assert TemporalModel(quantise(tiny())).trained is None


# --------------------------------------------------------------------------------------------------------- arithmetic


def dequantised(model: ReferenceModel, blob: bytes) -> ReferenceModel:
    """The reference with the numbers that an int8 blob holds, scale by scale, read from its bytes by hand."""
    view = WeightBlobView.parse(blob)
    payloads = {record.name: record.payload for record in view.records}

    def taken(payload: bytes, *likes: Any) -> list[Any]:
        tensors = []
        for like in likes:
            scale, size = struct.unpack_from("<f", payload)[0], int(np.size(like))
            tensors.append(np.frombuffer(payload, np.int8, size, 4).astype(np.float64).reshape(np.shape(like)) * scale)
            payload = payload[4 + -(-size // 4) * 4 :]
        assert not payload
        return tensors

    flat = taken(view.weights.tobytes(), *(w for layer in model.layers for w in layer), model.classifier)
    layers: list[Any] = [tuple(flat[at : at + 4]) for at in range(0, len(flat) - 1, 4)]
    exact = ReferenceModel(model.config, layers, flat[-1], norm=model.norm, activation=model.activation)
    exact.pooling, exact.pool_frames, exact.scale = model.pooling, model.pool_frames, model.scale
    if model.input:
        weight, bias = taken(payloads["input_projection"][4:], *model.input)
        exact.input = weight, bias
    if model.feed_forward:
        blocks = taken(payloads["feed_forward"][8:], *(w for block in model.feed_forward for w in block))
        exact.feed_forward = [pair for at, pair in enumerate(pairwise(blocks)) if at % 2 == 0]
    if model.bias is not None:
        exact.bias = taken(payloads["classifier_bias"], model.bias)[0]
    if model.embedding:
        affine = taken(payloads["embedding_projection"][12:], *(w for layer in model.embedding for w in layer))
        exact.embedding = [pair for at, pair in enumerate(pairwise(affine)) if at % 2 == 0]
    return exact


@pytest.mark.parametrize("config", [CONFIG, SPLIT], ids=["inputs cached", "keys cached"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize(("pooling", "frames"), [("mean", 0), ("last", 0), ("last_n", 7), ("mean_spread", 0)])
def test_a_model_of_int8_is_the_reference_on_its_numbers(
    config: TemporalHeadConfig, activation: str, pooling: str, frames: int
) -> None:
    rng = np.random.default_rng(1)
    model = random_model(rng, config, norm="rms", activation=activation, pooling=pooling, pool_frames=frames)
    blob = quantise(model.blob())
    check_blob(dequantised(model, blob), blob, normal((40, 7), seed=2))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("heads", [1, 3, 8])
def test_any_number_of_heads_and_one_affine_layer(heads: int, dtype: str) -> None:
    config = TemporalHeadConfig("dense", q_heads=heads, kv_heads=1, head_dim=9, window=4, block_size=2)
    model = random_model(np.random.default_rng(3), config, norm="rms", dtype=dtype)
    model.embedding = model.embedding[:1]
    blob = quantise(model.blob())
    check_blob(dequantised(model, blob), blob, normal((30, 7), seed=4))


@pytest.mark.parametrize("config", [CONFIG, SPLIT], ids=["inputs cached", "keys cached"])
def test_a_stream_is_predict_frame_by_frame(config: TemporalHeadConfig) -> None:
    model = TemporalModel(quantise(random_model(np.random.default_rng(5), config, norm="rms").blob()))
    frames = normal((60, 7), seed=6)
    whole, stream = model.predict(frames), model.stream(len(frames))
    pushed = [stream.push(frame) for frame in frames]
    np.testing.assert_array_equal([p.logits for p in pushed], whole.logits)
    np.testing.assert_array_equal([p.embedding for p in pushed], whole.embedding)


def test_the_shipped_model_decides_alike_on_the_shipped_recordings() -> None:
    """99.4 % and 99.6 % of frames, of which the others' two largest logits are close; the blob is 57 % of float16's."""
    blob = find_model("activity").read_bytes()
    made = quantise(blob)
    assert len(made) < 0.58 * len(blob)
    before, after = TemporalModel(blob), TemporalModel(made)
    for name in ("demo_esp32.csv", "wiper81_p01_A.npz"):
        frames = extract(read_capture(SHIPPED.parent / name), feature_config(before)[0]).values
        assert (before.predict(frames).labels == after.predict(frames).labels).mean() >= 0.98


# ----------------------------------------------------------------------------------------------------------- refusals


def test_int8_of_int8_is_refused() -> None:
    with pytest.raises(errors.BlobModelError, match="int8 already"):
        quantise(quantise(init_random_blob()))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (np.full(12, 999_999, np.float32), "expected at most 992188"),
        (np.full(12, np.nan, np.float32), "largest weight is nan"),
        (np.ones(13, np.float32), "52 bytes of float32 tensors"),
    ],
)
def test_what_int8_cannot_be_made_of_is_refused(weights: Any, sentence: str) -> None:
    with pytest.raises(errors.BlobModelError, match=sentence):
        quantise(WeightBlob(WeightBlobHeader(2, 1, 1, 1, 1, 2), weights).serialize())


GOOD = [tensor(1, 1, 2)] * 4 + [tensor(1, 1, 2, 3, 4)]
BROKEN = {
    "negative scale": tensor(-1, 1, 2),
    "scale of nan": tensor(np.nan, 1, 2),
    "infinite scale": tensor(np.inf, 1, 2),
    "weights beyond any use": tensor(7813, 0, 0),
    "padding not zero": struct.pack("<f4b", 1, 1, 2, 0, 1),
}


def int8_blob(tensors: list[bytes], *sections: bytes) -> bytes:
    weights, section = b"".join(tensors), b"".join(sections)
    flags = 6 if section else 4
    body = header_bytes(flags=flags, dims=(2, 1, 1, 1, 1, 2), weights_len=len(weights)) + weights
    return sealed(body + (struct.pack("<I", len(section)) + section if section else b""))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_tensor_is_no_model(name: str) -> None:
    assert TemporalModel(int8_blob(GOOD)).header.dtype == "int8"
    assert TemporalModel(int8_blob(GOOD, record(10, 1, GOOD[0]))).header.dtype == "int8"
    for at in range(4):
        with pytest.raises(errors.BlobModelError, match="int8"):
            TemporalModel(int8_blob([*GOOD[:at], BROKEN[name], *GOOD[at + 1 :]]))
    with pytest.raises(errors.BlobModelError, match="classifier bias"):
        TemporalModel(int8_blob(GOOD, record(10, 1, BROKEN[name])))


def test_tensors_of_another_length_are_no_model() -> None:
    for tensors in (GOOD[:-1], [*GOOD, GOOD[0]], [*GOOD[:-1], tensor(1, 1, 2, 3, 4, 5)]):
        with pytest.raises(errors.BlobModelError, match="the number of weights"):
            TemporalModel(int8_blob(tensors))
    for payload in (GOOD[0][:-4], GOOD[0][:-2], GOOD[0] + bytes(4)):
        with pytest.raises(errors.BlobModelError, match="classifier bias"):
            TemporalModel(int8_blob(GOOD, record(10, 1, payload)))


def test_it_is_not_adapted() -> None:
    with pytest.raises(errors.AdaptationError, match="adapt the one that it came from"):
        adapt(quantise(find_model("activity").read_bytes()), [])


def test_records_are_not_made_of_it_by_hand() -> None:
    with pytest.raises(errors.BlobRecordError, match="expected real numbers, float32 or float16"):
        records.classifier_bias([1.0], "int8")
