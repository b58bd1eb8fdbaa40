"""What is no model, what a model refuses to run, and that a refusal leaves no trace."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tests.reference_model import SMALL, ReferenceModel, check, normal, random_model, tiny
from wifi_densepose_temporal import (
    FeatureConfig,
    TemporalHeadConfig,
    TemporalModel,
    WeightBlob,
    WeightBlobHeader,
    WeightBlobView,
    errors,
)
from wifi_densepose_temporal.rvne import Record, records


def header_with(**sizes: int) -> WeightBlobHeader:
    fields = {"input_dim": 2, "n_q_heads": 1, "n_kv_heads": 1, "head_dim": 1, "n_layers": 1, "n_classes": 2}
    return WeightBlobHeader(**(fields | sizes))


NO_MODELS = {
    "a weight short": WeightBlob(header_with(), np.zeros(11, np.float32)),
    "a weight too many": WeightBlob(header_with(), np.zeros(13, np.float32)),
    "sizes beyond any payload": WeightBlob(
        header_with(input_dim=65535, n_q_heads=65535, n_kv_heads=65535, head_dim=65535, n_layers=65535),
        np.zeros(12, np.float32),
    ),
    "nan weight": WeightBlob(header_with(), np.full(12, np.nan, np.float32)),
    "weight beyond any use": WeightBlob(header_with(), np.full(12, 2e6, np.float32)),
    "infinite half": WeightBlob(WeightBlobHeader(2, 1, 1, 1, 1, 2, "float16"), np.full(12, np.inf, np.float16)),
}


def packed(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


WORDS = {  # record payloads that a container accepts and a model cannot have
    "pattern cut": Record(1, bytes(28), critical=True),
    "pattern not causal": Record(1, packed(0, 4, 4, 0, 1, 1, 0, 0), True),
    "pattern switch of 2": Record(1, packed(2, 4, 4, 1, 1, 1, 0, 0), True),
    "pattern block of 0": Record(1, packed(0, 4, 0, 1, 1, 1, 0, 0), True),
    "pattern huge window": Record(1, packed(0, 2**31, 4, 1, 1, 1, 0, 0), True),
    "pattern 2^32 globals": Record(1, packed(0, 4, 4, 1, 1, 1, 0, 2**30), True),
    "pattern globals not ascending": Record(1, packed(0, 4, 4, 1, 1, 1, 0, 2, 5, 5), True),
    "pattern unknown norm": Record(1, packed(0, 4, 4, 1, 1, 1, 9, 0), True),
    "pooling unknown": Record(2, b"\x09" + bytes(7), critical=True),
    "pooling of no frames": Record(2, b"\x02" + bytes(7), critical=True),
    "too many pooling frames": Record(2, packed(2, 65537), critical=True),
    "pooling frames of mean": Record(2, bytes(4) + b"\x01" + bytes(3), critical=True),
    "scale of one feature": Record(3, bytes(8), critical=True),
    "scale of nan": Record(3, np.full(4, np.nan, "<f4").tobytes(), critical=True),
    "embedding of another input": Record(4, packed(3, 0, 1) + bytes(16), True),
    "embedding without tensors": Record(4, packed(2, 0, 9), True),
    "embedding of 4 GB": Record(4, packed(2, 65535, 65535), True),
    "input of no features": Record(5, bytes(4), critical=True),
    "feed-forward of nothing": Record(6, bytes(8), critical=True),
    "feed-forward too short": Record(6, b"\x05" + bytes(7), critical=True),
    "chain of other frames": records.feature_chain(FeatureConfig(bands=2).to_words()),
    "chain of another version": Record(7, packed(99, 1, 20000, 250000, 10**6), True),
    "one label too few": Record(8, b"still\0", critical=False),
    "label not ended": Record(8, b"still\0moving", critical=False),
    "label not text": Record(8, b"\xff\0b\0", critical=False),
    "label of a megabyte": Record(8, b"a" * 1_000_000 + b"\0b\0", critical=False),
    "label with an escape sequence": Record(8, b"a\x1b[31m\0b\0", critical=False),
    "bias of another length": Record(10, bytes(4), critical=True),
    "bias of nan": Record(10, np.full(2, np.nan, "<f4").tobytes(), critical=True),
    "provenance not json": Record(9, b"{", critical=False),
    "provenance deep": Record(9, b"[" * 100_000, critical=False),
    "provenance no object": Record(9, b"[]", critical=False),
    "provenance with nan": Record(9, b'{"accuracy": NaN}', critical=False),
    "trained twice": Record(9, b'{"trained": false, "trained": true}', critical=False),
    "trained is a text": Record(9, b'{"trained": "yes"}', critical=False),
}


@pytest.mark.parametrize("name", NO_MODELS)
def test_containers_that_are_no_models(name: str) -> None:
    content = NO_MODELS[name].serialize()
    WeightBlobView.parse(content)
    with pytest.raises(errors.BlobModelError):
        TemporalModel.from_bytes(content)


@pytest.mark.parametrize("name", WORDS)
def test_records_that_no_model_can_have(name: str) -> None:
    content = tiny(WORDS[name])
    WeightBlobView.parse(content)
    with pytest.raises(errors.BlobModelError):
        TemporalModel.from_bytes(content)


@pytest.mark.parametrize(
    ("frames", "kind", "sentence"),
    [
        (np.zeros((5, 15), np.float32), errors.ShapeError, "15 features; this model takes 16"),
        (np.zeros(16, np.float32), errors.ShapeError, "expected"),
        (np.zeros((5, 16)), errors.DtypeError, "float64"),
        (np.full((5, 16), np.nan, np.float32), errors.NonFiniteError, r"frames\[0, 0\] is nan"),
    ],
)
def test_predict_refuses(
    reference_blob_model: TemporalModel, frames: Any, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        reference_blob_model.predict(frames)


@pytest.mark.parametrize(
    ("cache_dtype", "tensor", "factor", "size"),
    [("float32", 0, 1e5, 1e9), ("float32", 3, 1e5, 1e9), ("float16", 1, 1e3, 1e3)],
    ids=["q too large", "h too large behind Wo", "k beyond float16"],
)
def test_a_push_refused_in_the_second_layer_leaves_the_stream(
    cache_dtype: Any, tensor: int, factor: float, size: float
) -> None:
    """At every phase of a block: the first layer has appended, in one case the second one too, and all is undone."""
    reference = random_model(np.random.default_rng(8), SMALL)
    reference.feed_forward = []
    reference.layers[1][tensor][:] *= np.float32(factor)
    model, frames = TemporalModel.from_bytes(reference.blob()), normal((30, 7), seed=9)
    clean, shaken = model.stream(30, cache_dtype), model.stream(30, cache_dtype)
    for frame in frames:
        with pytest.raises(errors.NonFiniteError):
            shaken.push(np.sign(frame) * np.float32(size))
        expected, given_back = clean.push(frame), shaken.push(frame)
        np.testing.assert_array_equal(given_back.logits, expected.logits)
        np.testing.assert_array_equal(given_back.embedding, expected.embedding)


def test_a_refused_frame_leaves_the_stream() -> None:
    model = TemporalModel.from_bytes(random_model(np.random.default_rng(8), SMALL).blob())
    frames = normal((30, 7), seed=9)
    clean, shaken = model.stream(30), model.stream(30)
    for frame in frames:
        for bad in (frame * np.float32(1e38), np.full(7, np.nan, np.float32)):
            with pytest.raises(errors.NonFiniteError):
                shaken.push(bad)
        for wrong in (frame[:6], np.stack([frame, frame])):
            with pytest.raises(errors.ShapeError):
                shaken.push(wrong)
        np.testing.assert_array_equal(shaken.push(frame).logits, clean.push(frame).logits)
    with pytest.raises(errors.CacheFullError, match="30 of 30 frames"):
        shaken.push(frames[0])


def overflowing(stage: str) -> tuple[bytes, float]:
    """A one-layer model in which exactly this stage leaves the range, and the frame value that does it."""
    one, zero = np.ones((2, 1), np.float32), np.zeros((2, 1), np.float32)
    out = np.ones((1, 2), np.float32)
    weights = {"q": (one * 1e6, zero, zero, out * 0), "k": (zero, one * 1e6, zero, out * 0)}
    weights |= {"v": (zero, zero, one * 1e6, out * 0), "attention": (zero, zero, one, out * 1e6)}
    layer = weights.get(stage, (zero, zero, zero, out * 0))
    model = ReferenceModel(TemporalHeadConfig("sparse_gqa", 1, 1, 1, 4, 4), [layer], np.eye(2, dtype=np.float32))
    if stage == "feed-forward":
        model.feed_forward = [(np.eye(2, dtype=np.float32) * 1e6, np.eye(2, dtype=np.float32))]
    return model.blob(), 1e7


@pytest.mark.parametrize("stage", ["q", "k", "v", "attention", "feed-forward"])
def test_an_activation_out_of_range_is_refused_where_it_arises(stage: str) -> None:
    blob, size = overflowing(stage)
    model = TemporalModel.from_bytes(blob)
    model.predict(np.full((3, 2), size / 100, np.float32))
    with pytest.raises(errors.NonFiniteError, match="activations"):
        model.predict(np.full((3, 2), size, np.float32))


def test_the_limits_are_what_the_page_says() -> None:
    model = TemporalModel.from_bytes(tiny())
    for value in (1e12, -1e12):
        model.predict(np.full((1, 2), value, np.float32))
        with pytest.raises(errors.NonFiniteError):
            model.predict(np.full((1, 2), np.nextafter(np.float32(value), np.float32(value * 2)), np.float32))
    limit = np.float32(1e6)
    above = np.nextafter(limit, np.float32(np.inf))
    for weight, taken in ((limit, True), (-limit, True), (above, False), (-above, False)):
        blobs = [
            WeightBlob(header_with(), np.full(12, weight, np.float32)).serialize(),
            tiny(records.embedding_projection([(np.full((2, 3), weight), np.zeros(3))], "float32")),
            tiny(records.input_projection(np.full((2, 2), weight), np.zeros(2), "float32")),
            tiny(records.feed_forward([(np.full((2, 1), weight), np.zeros((1, 2)))], "relu", "float32")),
        ]
        for blob in blobs:
            if taken:
                TemporalModel.from_bytes(blob)
            else:
                with pytest.raises(errors.BlobModelError):
                    TemporalModel.from_bytes(blob)


def test_rms_norm_of_small_and_zero_frames() -> None:
    """Where the epsilon decides: mean squares of 10^-6 against 10^-5."""
    model = random_model(np.random.default_rng(13), SMALL, norm="rms")
    model.scale, model.input = None, None
    small = normal((20, 5), seed=14) * np.float32(1e-3)
    check(model, np.concatenate([np.zeros((2, 5), np.float32), small]))


@pytest.mark.parametrize(("pooling", "frames"), [("mean", 0), ("last_n", 65536)])
def test_long_means_do_not_wear_out(pooling: str, frames: int) -> None:
    config = TemporalHeadConfig("sparse_gqa", 1, 1, 1, window=0, block_size=1, log_stride=False, landmarks=False)
    zero = np.zeros((1, 1), np.float32)
    classifier = np.array([[1, 0]], np.float32)
    model = ReferenceModel(config, [(zero, zero, zero, zero)], classifier, pooling=pooling, pool_frames=frames)
    values = np.random.default_rng(15).uniform(1000, 1001, (70_000, 1)).astype(np.float32)
    logits = TemporalModel.from_bytes(model.blob()).predict(values).logits[-1]
    exact = values.astype(np.float64)[-frames if pooling == "last_n" else 0 :].mean()
    np.testing.assert_allclose(logits[0], exact, rtol=1.2e-7)


def test_a_reset_stream_is_a_new_one(reference_blob_model: TemporalModel) -> None:
    frames, stream = normal((60, 16)), reference_blob_model.stream(capacity=60)
    first = [stream.push(frame).logits for frame in frames]
    stream.reset()
    assert len(stream) == 0
    np.testing.assert_array_equal([stream.push(frame).logits for frame in frames], first)


@pytest.mark.parametrize(("capacity", "dtype"), [(0, "float32"), (1.5, "float32"), (4, "float64")])
def test_impossible_streams_are_refused(reference_blob_model: TemporalModel, capacity: Any, dtype: str) -> None:
    with pytest.raises(errors.ConfigError):
        reference_blob_model.stream(capacity, dtype)


def test_hostile_records_give_an_error_or_a_model() -> None:
    """Mutated payloads of a model with every record; whatever loads must also run."""
    rng = np.random.default_rng(10)
    view = WeightBlobView.parse(random_model(rng, SMALL, norm="rms", pooling="last_n", pool_frames=4).blob())
    loaded = 0
    for _ in range(3000):
        mutants = list(view.records)
        which = int(rng.integers(len(mutants)))
        payload = bytearray(mutants[which].payload)
        for _ in range(rng.integers(1, 3)):
            payload[int(rng.integers(min(len(payload), 40)))] = rng.integers(256)
        if rng.integers(4) == 0:
            del payload[int(rng.integers(len(payload))) :]
        mutants[which] = Record(mutants[which].tag, bytes(payload), mutants[which].critical)
        content = WeightBlob(view.header, view.weights, mutants).serialize()
        try:
            model = TemporalModel.from_bytes(content)
            model.predict(normal((3, model.input_dim)))
            loaded += 1
        except errors.TemporalError:
            continue
    assert 0 < loaded < 3000


def test_finite_in_is_finite_out() -> None:
    """The largest weights, frames and activations that are taken give finite logits and unit embeddings."""
    big = np.full((2, 2), 1e6, np.float32)
    projection = [(np.hstack([big, -big]), np.zeros(4)), (np.full((4, 3), 1e6), np.zeros(3))]
    for pooling in ("mean", "last", "mean_spread"):
        rows = 4 if pooling == "mean_spread" else 2
        weights = np.concatenate([np.zeros(8), np.full(2 * rows, 1e6)]).astype(np.float32)
        first = np.vstack([projection[0][0]] * (rows // 2))
        extra = [
            records.pooling(pooling),
            records.embedding_projection([(first, projection[0][1]), projection[1]], "float32"),
        ]
        model = TemporalModel.from_bytes(WeightBlob(header_with(), weights, extra).serialize())
        frames = np.array([[1e12, 1e12], [-1e12, 1e12], [0, 0], [1e-30, 1e-30]], np.float32)
        prediction = model.predict(frames)
        assert np.isfinite(prediction.logits).all()
        assert np.isfinite(prediction.probabilities).all()
        norms = np.linalg.norm(prediction.embedding, axis=1)
        assert np.all((np.abs(norms - 1) < 1e-5) | (norms == 0))


def test_a_tiny_embedding_still_has_a_direction() -> None:
    frames = np.array([[3e-25, 4e-25]], np.float32)
    np.testing.assert_allclose(TemporalModel.from_bytes(tiny()).predict(frames).embedding, [[0.6, 0.8]], rtol=1e-6)


def test_the_doubts_about_many_classes_are_short() -> None:
    """All 4,000 classes of a zero classifier are doubtful: the sentence names a few, and the search for winners, which
    would take minutes, is cut short."""
    header = WeightBlobHeader(1, 1, 1, 1, 1, 4000)
    model = TemporalModel.from_bytes(WeightBlob(header, np.zeros(4004, np.float32)).serialize())
    assert "class_0, class_1, class_2 and 3997 more" in model.warnings[0]


def test_a_model_owns_its_bytes() -> None:
    blob = bytearray(tiny())
    model, frames = TemporalModel(blob), normal((4, 2))
    before = model.predict(frames).logits
    blob[24:] = bytes(len(blob) - 24)
    np.testing.assert_array_equal(model.predict(frames).logits, before)


def test_an_odd_float16_model_with_every_record_runs() -> None:
    """3 features, 3 classes: 12 + 9 weights. Everything behind them is misaligned for float32."""
    header = WeightBlobHeader(3, 1, 1, 1, 1, 3, "float16")
    rng = np.random.default_rng(11)
    model = ReferenceModel(
        TemporalHeadConfig("sparse_gqa", 1, 1, 1, window=4, block_size=2),
        [tuple(rng.normal(size=s).astype(np.float16) for s in ((3, 1), (3, 1), (3, 1), (1, 3)))],
        rng.normal(size=(3, 3)).astype(np.float16),
        scale=(rng.normal(size=3).astype(np.float32), rng.uniform(0.5, 2, 3).astype(np.float32)),
        embedding=[(rng.normal(size=(3, 5)).astype(np.float16), rng.normal(size=5).astype(np.float16))],
        dtype="float16",
    )
    assert len(WeightBlobView.parse(model.blob()).weights) == 21
    assert WeightBlobView.parse(model.blob()).header == header
    check(model, normal((30, 3), seed=12))


@pytest.mark.parametrize("source", ["simulated", None, 3, "LIVE", np.array(["live", "live"])])
def test_a_source_is_one_of_the_words(reference_blob_model: TemporalModel, source: Any) -> None:
    with pytest.raises(errors.ConfigError, match="expected one of live, replay, synthetic"):
        reference_blob_model.predict(normal((3, 16)), source)


def test_a_stream_is_not_copied(reference_blob_model: TemporalModel) -> None:
    for copied in (copy.copy, copy.deepcopy):
        with pytest.raises(errors.ConfigError, match="cannot be copied"):
            copied(reference_blob_model.stream(4))


def test_a_ring_of_4_gb_is_refused() -> None:
    """65,536 frames are allowed, and so is a width of 65; together they ask for more than 2^22 numbers."""
    header = WeightBlobHeader(65, 1, 1, 1, 1, 2)
    for frames, taken in ((2**22 // 65, True), (2**22 // 65 + 1, False)):
        extra = [records.pooling("last_n", frames)]
        blob = WeightBlob(header, np.zeros(header.model_floats(), np.float32), extra).serialize()
        if taken:
            TemporalModel.from_bytes(blob)
        else:
            with pytest.raises(errors.BlobModelError, match="ring"):
                TemporalModel.from_bytes(blob)


@pytest.mark.parametrize(
    "make",
    [
        lambda: records.pooling("last_n", 2.7),  # type: ignore[arg-type]
        lambda: records.pooling("median"),
        lambda: records.feature_scale([1j], [1]),
        lambda: records.feature_scale([np.inf], [1]),
        lambda: records.input_projection(np.full((2, 2), 1e5), np.zeros(2), "float16"),
        lambda: records.input_projection(5, 5, "float32"),
        lambda: records.input_projection(np.zeros((2, 2)), np.zeros(2), "int8"),
        lambda: records.feed_forward([], "relu", "float32"),
        lambda: records.feed_forward([(np.zeros((5, 11)), np.zeros((5, 11)))], "relu", "float32"),
        lambda: records.feed_forward(
            [(np.zeros((5, 3)), np.zeros((3, 5))), (np.zeros((3, 5)),) * 2], "relu", "float32"
        ),
        lambda: records.input_projection(np.zeros((3, 2)), np.zeros(7), "float32"),
        lambda: records.embedding_projection(
            [(np.zeros((3, 2)), np.zeros(2)), (np.zeros((3, 2)), np.zeros(2))], "float32"
        ),
        lambda: records.embedding_projection([], "float32"),
        lambda: records.class_labels([""]),
        lambda: records.class_labels([1]),  # type: ignore[list-item]
        lambda: records.provenance({"a": float("nan")}),
        lambda: records.provenance({"a": object()}),
        lambda: records.feature_chain({"version": 1}),
        lambda: Record("x", b"", critical=True).serialize(),  # type: ignore[arg-type]
        lambda: Record(1 << 16, b"", critical=True).serialize(),
    ],
)
def test_records_that_cannot_be_written(make: Any) -> None:
    with pytest.raises(errors.BlobRecordError):
        make()
