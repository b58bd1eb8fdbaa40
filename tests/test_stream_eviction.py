"""Streams whose caches let tokens go: without end, as defined, and a frame that is refused half-way leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests import reference_eviction
from tests.reference_model import SMALL, Float64, ReferenceModel, normal, random_model
from wifi_densepose_temporal import TemporalHeadConfig, TemporalModel
from wifi_densepose_temporal.errors import ConfigError, NonFiniteError

CAPACITY, BLOCKS = 11, 3


class EvictingModel(ReferenceModel):
    """The reference with a cache of this policy in every layer."""

    policy = "sliding"

    def attend(self, q: Float64, k: Float64, v: Float64) -> Float64:
        return reference_eviction.forward(self.config, self.policy, CAPACITY, BLOCKS, q, k, v)


class HeavyHitterModel(EvictingModel):
    policy = "heavy-hitter"


@pytest.mark.parametrize("kind", [EvictingModel, HeavyHitterModel])
@pytest.mark.parametrize("kv_heads", [1, 2])  # with one, and head_dim above the width, caches hold the layers' inputs
@pytest.mark.parametrize("pooling", ["mean", "last_n"])
def test_a_stream_is_the_reference_at_every_frame(kind: type[EvictingModel], kv_heads: int, pooling: str) -> None:
    options = {"norm": "rms", "pooling": pooling, "pool_frames": 5 if pooling == "last_n" else 0}
    drawn = random_model(np.random.default_rng(1), replace(SMALL, kv_heads=kv_heads), **options)
    model, frames = kind(**vars(drawn)), normal((80, 7), seed=2)
    stream = TemporalModel.from_bytes(model.blob()).stream(CAPACITY, policy=kind.policy, landmark_blocks=BLOCKS)
    logits, embedding = model.predict(frames)
    nbytes = stream.nbytes
    said = [stream.push(frame) for frame in frames]
    np.testing.assert_allclose([p.logits for p in said], logits, atol=2e-5 * max(1, np.abs(logits).max()), rtol=0)
    np.testing.assert_allclose([p.embedding for p in said], embedding, atol=2e-5, rtol=0)
    assert (len(stream), stream.capacity, stream.nbytes) == (80, CAPACITY, nbytes)
    stream.reset()
    np.testing.assert_array_equal(stream.push(frames[0]).logits, said[0].logits)


def amplifier(kv_heads: int) -> ReferenceModel:
    """Two layers, between which a frame of ones grows beyond float16 and a frame of hundredths does not."""
    rng = np.random.default_rng(3)
    config = TemporalHeadConfig("sparse_gqa", 2, kv_heads, 3, window=4, block_size=2, global_tokens=(0, 6))
    shapes = ((2, 6), (2, 3 * kv_heads), (2, 3 * kv_heads), (6, 2))
    layers = [tuple(rng.uniform(0.5, 1, shape).astype(np.float32) for shape in shapes) for _ in range(2)]
    grow = (np.eye(2, dtype=np.float32) * 1e3, np.eye(2, dtype=np.float32) * 1e3)
    return ReferenceModel(config, layers, np.eye(2, dtype=np.float32), feed_forward=[grow, grow])


@pytest.mark.parametrize("policy", ["refuse", "sliding", "heavy-hitter"])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_a_frame_that_the_second_layer_refuses_leaves_no_trace(policy: Any, kv_heads: int) -> None:
    model, frames = TemporalModel.from_bytes(amplifier(kv_heads).blob()), normal((120, 2), seed=4) * np.float32(1e-3)
    capacity = 120 if policy == "refuse" else 9
    plain, disturbed = (model.stream(capacity, "float16", policy=policy, landmark_blocks=2) for _ in range(2))
    for t, frame in enumerate(frames):
        for _ in range(t % 3):
            with pytest.raises(NonFiniteError, match="65504"):
                disturbed.push(np.ones(2, np.float32))
        assert len(disturbed) == t
        np.testing.assert_array_equal(disturbed.push(frame).logits, plain.push(frame).logits)


def test_what_a_stream_cannot_have(reference_blob_model: TemporalModel) -> None:
    for words in ({"policy": "h2o-compact"}, {"policy": "lru"}, {"landmark_blocks": 0}):
        with pytest.raises(ConfigError, match=next(iter(words))):
            reference_blob_model.stream(8, **words)
