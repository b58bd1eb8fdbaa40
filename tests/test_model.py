"""A loaded model against the NumPy reference, a stream against a window, and what a model says of itself."""

from __future__ import annotations

import hashlib
import logging
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference_model import SMALL, ReferenceModel, check, normal, random_model, tiny
from wifi_densepose_temporal import (
    FeatureConfig,
    NonFiniteError,
    TemporalHeadConfig,
    TemporalModel,
    WeightBlobView,
    features,
    init_random_blob,
    read_capture,
)
from wifi_densepose_temporal.rvne import records

# --------------------------------------------------------------------------------------------------- the arithmetic


def test_a_version_1_blob_runs_with_the_defaults(reference_blob_model: TemporalModel) -> None:
    view = WeightBlobView.parse(init_random_blob())
    sizes = [(16, 128), (16, 32), (16, 32), (128, 16)] * 2 + [(16, 4)]
    ends = np.cumsum([a * b for a, b in sizes])
    tensors = [w.reshape(size) for w, size in zip(np.split(view.weights, ends[:-1]), sizes, strict=True)]
    model = ReferenceModel(TemporalHeadConfig.default_aether(), [tuple(tensors[:4]), tuple(tensors[4:8])], tensors[8])
    frames = normal((150, 16))
    logits, embedding = model.predict(frames)
    prediction = reference_blob_model.predict(frames)
    np.testing.assert_allclose(prediction.logits, logits, atol=1e-6, rtol=0)
    np.testing.assert_allclose(prediction.embedding, embedding, atol=1e-5, rtol=0)


@pytest.mark.parametrize("norm", ["none", "rms"])
@pytest.mark.parametrize("activation", ["relu", "silu"])
@pytest.mark.parametrize(
    ("pooling", "frames"), [("mean", 0), ("last", 0), ("last_n", 7), ("last_n", 500), ("mean_spread", 0)]
)
def test_every_record_does_what_the_page_says(norm: str, activation: str, pooling: str, frames: int) -> None:
    rng = np.random.default_rng(1)
    model = random_model(rng, SMALL, norm=norm, activation=activation, pooling=pooling, pool_frames=frames)
    check(model, normal((40, 7), seed=2))


@pytest.mark.parametrize("backend", ["sparse_gqa", "dense"])
def test_float16_weights_are_the_same_model(backend: Any) -> None:
    config = TemporalHeadConfig(backend, q_heads=3, kv_heads=1, head_dim=5, window=4, block_size=2, landmarks=False)
    check(random_model(np.random.default_rng(3), config, norm="rms", dtype="float16"), normal((30, 7), seed=4))


@pytest.mark.parametrize("head_dim", [4, 5, 9])  # the width is 5: up to it, a cache keeps keys and values
@pytest.mark.parametrize("backend", ["sparse_gqa", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_one_key_value_head_is_the_same_attention_whatever_a_cache_keeps(
    head_dim: int, backend: Any, dtype: str
) -> None:
    config = TemporalHeadConfig(backend, q_heads=4, kv_heads=1, head_dim=head_dim, window=6, block_size=4)
    check(random_model(np.random.default_rng(8), config, norm="rms", dtype=dtype), normal((70, 7), seed=9))


def test_a_cache_keeps_the_smaller_of_inputs_and_keys(reference_blob_model: TemporalModel) -> None:
    """16 numbers of a frame and layer instead of 64, and as many of a block."""
    smaller, larger = (reference_blob_model.stream(capacity).nbytes for capacity in (256, 512))
    assert larger - smaller == 2 * (256 + 256 // 16) * 16 * 4


def test_a_refused_frame_leaves_a_cache_of_inputs_as_it_was() -> None:
    config = TemporalHeadConfig("sparse_gqa", q_heads=2, kv_heads=1, head_dim=8, window=3, block_size=2)
    model = TemporalModel.from_bytes(random_model(np.random.default_rng(10), config).blob())
    frames = normal((9, 7), seed=11)
    stream = model.stream(20)
    for frame in frames:
        for value in (2e11, 3e11, 1e12):  # beyond the limit in the layers, or before them
            with pytest.raises(NonFiniteError, match="activations overflow"):
                stream.push(np.full(7, value, np.float32))
        stream.push(frame)
    np.testing.assert_array_equal(stream.push(frames[0]).logits, model.predict([*frames, frames[0]]).logits[-1])


def test_one_layer_embedding_projection() -> None:
    model = random_model(np.random.default_rng(5), SMALL, norm="rms")
    model.embedding = model.embedding[:1]
    check(model, normal((20, 7), seed=6))


@settings(max_examples=40)
@given(st.integers(1, 80), st.sampled_from(["mean", "last", "last_n", "mean_spread"]), st.integers(0, 2**32 - 1))
def test_push_equals_predict_frame_by_frame(length: int, pooling: str, seed: int) -> None:
    pool_frames = 5 if pooling == "last_n" else 0
    blob = random_model(np.random.default_rng(seed), SMALL, pooling=pooling, pool_frames=pool_frames, norm="rms").blob()
    model, frames = TemporalModel.from_bytes(blob), normal((length, 7), seed)
    whole, stream = model.predict(frames), model.stream(capacity=length)
    pushed = [stream.push(frame) for frame in frames]
    np.testing.assert_array_equal([p.logits for p in pushed], whole.logits)
    np.testing.assert_array_equal([p.embedding for p in pushed], whole.embedding)
    assert [p.labels for p in pushed] == whole.labels.tolist()


def check_stream(model: TemporalModel, recording: Path) -> None:
    frames = features(read_capture(recording))
    whole, stream = model.predict(frames), model.stream(capacity=len(frames))
    for t, frame in enumerate(frames):
        one = stream.push(frame)
        np.testing.assert_allclose(one.logits, whole.logits[t], atol=1e-5, rtol=0)
        np.testing.assert_allclose(one.embedding, whole.embedding[t], atol=1e-5, rtol=0)


def test_push_equals_predict_on_the_demo_recording(reference_blob_model: TemporalModel) -> None:
    with resources.as_file(resources.files("wifi_densepose_temporal") / "data" / "demo_esp32.csv") as recording:
        check_stream(reference_blob_model, recording)


def test_push_equals_predict_on_every_capture(shared: Path, reference_blob_model: TemporalModel) -> None:
    recordings = sorted((shared / "data" / "captures").iterdir())
    assert recordings
    for recording in recordings:
        check_stream(reference_blob_model, recording)


def test_a_decision_does_not_know_the_future(reference_blob_model: TemporalModel) -> None:
    frames = normal((90, 16))
    whole, start = reference_blob_model.predict(frames), reference_blob_model.predict(frames[:37])
    np.testing.assert_array_equal(start.logits, whole.logits[:37])
    np.testing.assert_array_equal(start.embedding, whole.embedding[:37])


def test_mean_pooling_does_not_wear_out() -> None:
    """Of 200,000 frames: a plain float32 sum is 0.2 % off here, and a plain variance is negative."""
    rng = np.random.default_rng(7)
    config = TemporalHeadConfig("sparse_gqa", 1, 1, 1, window=0, block_size=1, log_stride=False, landmarks=False)
    zero = np.zeros((1, 1), np.float32)
    classifier = np.diag([2.0**-10, 1.0]).astype(np.float32)  # so that the mean's rounding is not the spread's error
    model = ReferenceModel(config, [(zero, zero, zero, zero)], classifier, pooling="mean_spread")
    frames = rng.uniform(1000, 1001, (200_000, 1)).astype(np.float32)
    logits = TemporalModel.from_bytes(model.blob()).predict(frames).logits[-1]
    exact = frames.astype(np.float64)
    np.testing.assert_allclose(logits, [exact.mean() * 2**-10, exact.std()], rtol=2e-7 * 2)


def test_float16_caches_stay_close(reference_blob_model: TemporalModel) -> None:
    frames = normal((200, 16))
    stream = reference_blob_model.stream(200, "float16")
    logits = np.array([stream.push(frame).logits for frame in frames])
    np.testing.assert_allclose(logits, reference_blob_model.predict(frames).logits, atol=2e-3)
    assert stream.nbytes < reference_blob_model.stream(200).nbytes


# -------------------------------------------------------------------------------------- what a prediction carries


def test_every_prediction_says_where_it_comes_from(reference_blob_model: TemporalModel) -> None:
    frames = normal((3, 16))
    digest = hashlib.sha256(init_random_blob()).hexdigest()
    for prediction in (
        reference_blob_model.predict(frames, source="replay"),
        reference_blob_model.stream(source="replay").push(frames[0]),
    ):
        assert (prediction.source, prediction.model_sha256, prediction.trained) == ("replay", digest, False)
    assert reference_blob_model.predict(frames).source == "unstated"


def test_shapes_labels_and_confidence(reference_blob_model: TemporalModel) -> None:
    prediction = reference_blob_model.predict(normal((50, 16)))
    assert (prediction.logits.shape, prediction.embedding.shape, prediction.labels.shape) == ((50, 4), (50, 16), (50,))
    np.testing.assert_allclose(np.linalg.norm(prediction.embedding, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, atol=1e-6)
    winners = prediction.probabilities.argmax(axis=1)
    assert prediction.labels.tolist() == [f"class_{c}" for c in winners]
    np.testing.assert_array_equal(prediction.confidence, prediction.probabilities[range(50), winners])
    assert reference_blob_model.predict(np.zeros((0, 16), np.float32)).logits.shape == (0, 4)


def test_labels_and_provenance_come_from_the_blob() -> None:
    chain = FeatureConfig(bands=1, rate_hz=20.0)
    model = TemporalModel.from_bytes(
        tiny(
            records.class_labels(["still", "moving"]),
            records.provenance({"trained": True, "data": "sha256:00"}),
            records.feature_chain(chain.to_words()),
        )
    )
    assert (model.labels, model.trained, model.provenance["data"]) == (("still", "moving"), True, "sha256:00")
    assert model.feature_chain == chain.to_words()
    assert FeatureConfig.from_words(model.feature_chain or {}) == chain
    prediction = model.predict(np.array([[0, 1], [5, 0]], np.float32))
    assert prediction.labels.tolist() == ["moving", "still"]
    assert prediction.trained is True


def test_a_blob_that_says_nothing_is_of_unknown_training() -> None:
    model = TemporalModel.from_bytes(tiny())
    assert (model.trained, model.provenance, model.feature_chain) == (None, {}, None)


@pytest.mark.parametrize(
    ("blob", "sentence"),
    [
        (tiny(classifier=((1, 1), (0, 0))), "no input was found that makes it answer class_0, class_1"),
        (
            tiny(records.embedding_projection([(np.zeros((2, 3)), np.ones(3))], "float32")),
            "does not depend on the input",
        ),
    ],
)
def test_a_doubtful_model_says_so(blob: bytes, sentence: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = TemporalModel.from_bytes(blob)
    assert any(sentence in warning for warning in model.warnings)
    assert sentence in caplog.text


def test_a_sound_model_raises_no_doubt(reference_blob_model: TemporalModel) -> None:
    assert reference_blob_model.warnings == ()
