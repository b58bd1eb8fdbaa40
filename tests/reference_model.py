"""The model of docs/semantics.md in plain NumPy and float64, whole sequences at once, built on tests/reference.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import reference
from wifi_densepose_temporal import TemporalHeadConfig, TemporalModel, WeightBlob, WeightBlobHeader
from wifi_densepose_temporal.rvne import Record, records

Float64 = NDArray[np.float64]
Affine = tuple[NDArray[Any], NDArray[Any]]


@dataclass
class ReferenceModel:
    """Weights of a model and what it does with frames; `blob()` is the same model for the core."""

    config: TemporalHeadConfig
    layers: list[tuple[NDArray[Any], ...]]  # Wq, Wk, Wv, Wo
    classifier: NDArray[Any]
    norm: str = "none"
    pooling: str = "mean"
    pool_frames: int = 0
    scale: tuple[NDArray[Any], NDArray[Any]] | None = None
    input: Affine | None = None
    feed_forward: list[Affine] = field(default_factory=list)
    activation: str = "relu"
    embedding: list[Affine] = field(default_factory=list)
    dtype: Any = "float32"
    bias: NDArray[Any] | None = None  # of the classifier

    def blob(self) -> bytes:
        weights = [np.ravel(w) for layer in self.layers for w in layer] + [np.ravel(self.classifier)]
        width = self.layers[0][0].shape[0]
        c = self.config
        header = WeightBlobHeader(
            width, c.q_heads, c.kv_heads, c.head_dim, len(self.layers), self.classifier.shape[1], self.dtype
        )
        extra = [records.pattern(c, self.norm), records.pooling(self.pooling, self.pool_frames)]
        if self.scale:
            extra.append(records.feature_scale(*self.scale))
        if self.input:
            extra.append(records.input_projection(*self.input, dtype=self.dtype))
        if self.feed_forward:
            extra.append(records.feed_forward(self.feed_forward, self.activation, self.dtype))
        if self.embedding:
            extra.append(records.embedding_projection(self.embedding, self.dtype))
        if self.bias is not None:
            extra.append(records.classifier_bias(self.bias, self.dtype))
        return WeightBlob(header, np.concatenate(weights).astype(self.dtype), extra).serialize()

    def predict(self, frames: NDArray[Any]) -> tuple[Float64, Float64]:
        """Logits [T, C] and embedding [T, E] as of every frame."""
        h = np.asarray(frames, np.float64)
        if self.scale:
            h = (h - self.scale[0]) * self.scale[1]
        if self.input:
            h = h @ self.input[0] + self.input[1]
        for number, (Wq, Wk, Wv, Wo) in enumerate(self.layers):
            x = self.normalise(h)
            q, k, v = (self.heads(x @ W) for W in (Wq, Wk, Wv))
            h = h + self.attend(q, k, v).reshape(len(h), -1) @ Wo
            if self.feed_forward:
                W1, W2 = self.feed_forward[number]
                h = h + self.activate(self.normalise(h) @ W1) @ W2
        pooled = np.array([self.pool(h[: t + 1]) for t in range(len(h))])
        logits = pooled @ self.classifier
        return logits + (0 if self.bias is None else self.bias), self.embed(pooled)

    def attend(self, q: Float64, k: Float64, v: Float64) -> Float64:
        return reference.forward(self.config, q, k, v)

    def heads(self, x: Float64) -> Float64:
        return x.reshape(len(x), -1, self.config.head_dim)

    def normalise(self, h: Float64) -> Float64:
        return h / np.sqrt((h**2).mean(axis=1, keepdims=True) + 1e-5) if self.norm == "rms" else h

    def activate(self, x: Float64) -> Float64:
        return np.maximum(x, 0) if self.activation == "relu" else x / (1 + np.exp(-x))

    def pool(self, h: Float64) -> Float64:
        if self.pooling == "mean":
            return np.asarray(h.mean(axis=0))
        if self.pooling == "last":
            return np.asarray(h[-1])
        if self.pooling == "last_n":
            return np.asarray(h[-self.pool_frames :].mean(axis=0))
        return np.concatenate([h.mean(axis=0), h.std(axis=0)])

    def embed(self, pooled: Float64) -> Float64:
        for number, (weight, bias) in enumerate(self.embedding):
            pooled = (np.maximum(pooled, 0) if number else pooled) @ weight + bias
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def random_model(rng: np.random.Generator, config: TemporalHeadConfig, **options: Any) -> ReferenceModel:
    """A model with every optional part; sizes are small primes, so that a swapped one shows."""
    features, width, hidden, classes, layers = 7, 5, 11, 3, 2
    pooled = width * (2 if options.get("pooling") == "mean_spread" else 1)

    dtype = options.get("dtype", "float32")

    def weights(*shape: int) -> NDArray[Any]:
        return rng.normal(0, 1 / np.sqrt(shape[0]), shape).astype(dtype)

    dq, dkv = config.q_heads * config.head_dim, config.kv_heads * config.head_dim
    model = ReferenceModel(
        config=config,
        layers=[
            (weights(width, dq), weights(width, dkv), weights(width, dkv), weights(dq, width)) for _ in range(layers)
        ],
        classifier=weights(pooled, classes),
        **options,
    )
    model.scale = (rng.normal(size=features).astype(np.float32), rng.uniform(0.5, 2, features).astype(np.float32))
    model.input = (weights(features, width), weights(width))
    model.feed_forward = [(weights(width, hidden), weights(hidden, width)) for _ in range(layers)]
    model.bias = weights(classes)
    model.embedding = [(weights(pooled, 13), weights(13)), (weights(13, 6), weights(6))]
    return model


SMALL = TemporalHeadConfig(
    "sparse_gqa", q_heads=4, kv_heads=2, head_dim=6, window=5, block_size=3, global_tokens=(0, 9)
)


def normal(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tiny(*extra: Record, classifier: Any = ((1, 0), (0, 1))) -> bytes:
    """A one-layer model of two features whose logits are the pooled frame, with these records."""
    zero = np.zeros(2, np.float32)
    weights = np.concatenate([zero, zero, zero, zero, np.ravel(classifier)]).astype(np.float32)
    return WeightBlob(WeightBlobHeader(2, 1, 1, 1, 1, 2), weights, extra).serialize()


def check(model: ReferenceModel, frames: NDArray[np.float32], tolerance: float = 2e-5) -> None:
    """Predict equals the float64 reference; logits are of order 1 and go through two layers in float32."""
    check_blob(model, model.blob(), frames, tolerance)


def check_blob(model: ReferenceModel, blob: bytes, frames: NDArray[np.float32], tolerance: float = 2e-5) -> None:
    """The same of a blob that says what the reference says, in whatever dtype."""
    logits, embedding = model.predict(frames)
    prediction = TemporalModel.from_bytes(blob).predict(frames)
    np.testing.assert_allclose(prediction.logits, logits, atol=tolerance * max(1, np.abs(logits).max()), rtol=0)
    np.testing.assert_allclose(prediction.embedding, embedding, atol=tolerance, rtol=0)
