"""The model of docs/semantics.md as a PyTorch module: what `TemporalModel` runs, with gradients.

It is causal as the core's is: row t of every result depends on frames 0 to t alone, so sequences of different lengths
are padded at their ends and read at their last frames. Not here: losses, loops, and the blob (blob.py).

Axis letters: B batch, T frames, F features of a frame, d width, P pooled_dim, C classes, E embedding_dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.training.operator import temporal_attention

RMS_EPSILON = 1e-5

Pooling = Literal["mean", "last", "last_n", "mean_spread"]


@dataclass(frozen=True)
class NetworkSizes:
    """Sizes and choices of a model; the blob's header and records hold them.

    Attributes:
        features: F.
        classes: C, at least 2.
        layers: of attention (and feed-forward), at least 1.
        width: d; without `input_projection` it is F.
        input_projection: an affine map from F features to the width.
        norm: before attention and feed-forward: `"rms"` or `"none"`.
        hidden: of the feed-forward blocks; 0 for none.
        activation: of the feed-forward blocks.
        pooling: over the frames so far.
        pool_frames: n of `"last_n"`, 0 with the others.
        embedding: sizes of the projection from pooled vector to embedding: () for none, (E,) for one affine layer, or
            (H, E) for Linear(P, H), BatchNorm, ReLU, Linear(H, E).
        classifier_bias: whether the logits have one.
        dropout: of what attention and feed-forward add, while training.
        input_noise: while training, scaled features get noise of a standard deviation of up to this,
        input_offset: one more number for all frames of a window, of this standard deviation,
        input_mask: and up to this share of them is zero for a whole window.
    """

    features: int
    classes: int
    layers: int
    width: int
    input_projection: bool = True
    norm: Literal["none", "rms"] = "rms"
    hidden: int = 0
    activation: Literal["relu", "silu"] = "silu"
    pooling: Pooling = "last"
    pool_frames: int = 0
    embedding: tuple[int, ...] = ()
    classifier_bias: bool = False
    dropout: float = 0.0
    input_noise: float = 0.0
    input_offset: float = 0.0
    input_mask: float = 0.0

    def __post_init__(self) -> None:
        if self.layers < 1 or self.classes < 2 or self.features < 1 or self.width < 1:
            raise ConfigError(f"{self}: expected at least 1 layer, 2 classes, 1 feature and a width of 1")
        if not self.input_projection and self.width != self.features:
            raise ConfigError(f"width {self.width} with {self.features} features needs input_projection")
        if (self.pooling == "last_n") != (self.pool_frames > 0):
            raise ConfigError(f"pooling {self.pooling!r} with pool_frames {self.pool_frames}; last_n takes at least 1")
        if len(self.embedding) > 2:
            raise ConfigError(f"embedding {self.embedding}; expected (), (E,) or (H, E)")

    @property
    def pooled_dim(self) -> int:
        """P: the width, or twice that with mean and spread."""
        return 2 * self.width if self.pooling == "mean_spread" else self.width


class TemporalNetwork(nn.Module):
    """Frames in, pooled vectors, logits and embeddings as of every frame out."""

    mean: Tensor
    scale: Tensor

    def __init__(self, sizes: NetworkSizes, config: TemporalHeadConfig) -> None:
        """A network of random weights; PyTorch's global generator draws them."""
        super().__init__()
        if not config.causal:
            raise ConfigError("a model streams, so its head is causal")
        self.sizes, self.config = sizes, config
        self.register_buffer("mean", torch.zeros(sizes.features))
        self.register_buffer("scale", torch.ones(sizes.features))
        self.input = nn.Linear(sizes.features, sizes.width) if sizes.input_projection else nn.Identity()
        self.layers = nn.ModuleList(Layer(sizes, config) for _ in range(sizes.layers))
        self.classifier = nn.Linear(sizes.pooled_dim, sizes.classes, bias=sizes.classifier_bias)
        self.projection = _projection(sizes)

    def hidden(self, frames: Tensor) -> Tensor:
        """The last layer's h `[B, T, d]` of frames `[B, T, F]`."""
        scaled = (frames - self.mean) * self.scale
        h: Tensor = self.input(self._disturbed(scaled) if self.training else scaled)
        for layer in self.layers:
            h = layer(h)
        return h

    def _disturbed(self, scaled: Tensor) -> Tensor:
        """What training makes of scaled frames `[B, T, F]`; a strength of its own for each window."""
        batch, _, features = scaled.shape
        sizes = self.sizes
        if sizes.input_offset:
            scaled = scaled + torch.randn(batch, 1, features) * sizes.input_offset
        if sizes.input_noise:
            scaled = scaled + torch.randn_like(scaled) * torch.rand(batch, 1, 1) * sizes.input_noise
        if sizes.input_mask:
            kept = torch.rand(batch, 1, features) >= torch.rand(batch, 1, 1) * sizes.input_mask
            scaled = scaled * kept
        return scaled

    def pooled(self, frames: Tensor) -> Tensor:
        """`[B, T, P]`: row t is pooled over frames 0 to t."""
        return pool(self.hidden(frames), self.sizes.pooling, self.sizes.pool_frames)

    def logits(self, pooled: Tensor) -> Tensor:
        """`[..., C]` of pooled vectors `[..., P]`."""
        scores: Tensor = self.classifier(pooled)
        return scores

    def embedding(self, pooled: Tensor) -> Tensor:
        """Unit vectors `[..., E]` of pooled vectors `[..., P]`."""
        projected: Tensor = self.projection(pooled.reshape(-1, pooled.shape[-1]))
        return functional.normalize(projected, dim=-1).reshape(*pooled.shape[:-1], -1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[B, T, C]` and embeddings `[B, T, E]` as of every frame of `[B, T, F]`."""
        pooled = self.pooled(frames)
        return self.logits(pooled), self.embedding(pooled)


class Layer(nn.Module):
    """`h + Attn(norm(h)) Wo`, then `h + W2 act(W1 norm(h))` if there is a feed-forward block; no biases."""

    def __init__(self, sizes: NetworkSizes, config: TemporalHeadConfig) -> None:
        """A layer of random weights."""
        super().__init__()
        self.sizes, self.config = sizes, config
        query, key = config.q_heads * config.head_dim, config.kv_heads * config.head_dim
        self.query = nn.Linear(sizes.width, query, bias=False)
        self.key = nn.Linear(sizes.width, key, bias=False)
        self.value = nn.Linear(sizes.width, key, bias=False)
        self.out = nn.Linear(query, sizes.width, bias=False)
        nn.init.zeros_(self.out.weight)  # a layer starts as the identity
        self.widen = nn.Linear(sizes.width, sizes.hidden, bias=False) if sizes.hidden else None
        self.narrow = nn.Linear(sizes.hidden, sizes.width, bias=False) if sizes.hidden else None
        if self.narrow is not None:
            nn.init.zeros_(self.narrow.weight)

    def forward(self, h: Tensor) -> Tensor:
        """`[B, T, d]` to the same."""
        x = self._norm(h)
        q, k, v = (self._heads(linear(x)) for linear in (self.query, self.key, self.value))
        attended = temporal_attention(q, k, v, self.config).flatten(2)
        h = h + self._drop(self.out(attended))
        if self.widen is not None and self.narrow is not None:
            inner = self.widen(self._norm(h))
            active = functional.silu(inner) if self.sizes.activation == "silu" else functional.relu(inner)
            h = h + self._drop(self.narrow(active))
        return h

    def _norm(self, h: Tensor) -> Tensor:
        if self.sizes.norm == "none":
            return h
        return h * torch.rsqrt((h * h).mean(-1, keepdim=True) + RMS_EPSILON)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.config.head_dim)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.sizes.dropout, self.training)


def pool(h: Tensor, kind: Pooling, frames: int) -> Tensor:
    """Pooling as of every frame: h `[B, T, d]` gives `[B, T, P]`. Sums run in float64, as a stream's are compensated.

    Args:
        h: `[B, T, d]`.
        kind: `"mean"`, `"last"`, `"last_n"` or `"mean_spread"` (mean and population standard deviation side by side).
        frames: n of `"last_n"`: fewer at a sequence's start, where there are no more.
    """
    if kind == "last":
        return h
    position = torch.arange(1, h.shape[1] + 1, device=h.device)
    wide = h.double()
    if kind == "last_n":
        start = (position - frames).clamp(min=0)
        sums = functional.pad(wide.cumsum(1), (0, 0, 1, 0))
        return ((sums[:, position] - sums[:, start]) / (position - start)[:, None]).to(h.dtype)
    mean = wide.cumsum(1) / position[:, None]
    if kind == "mean":
        return mean.to(h.dtype)
    variance = (wide * wide).cumsum(1) / position[:, None] - mean * mean
    # The root's slope at zero is infinite; 1e-12 bounds it and moves no spread that float32 tells from zero.
    spread = (variance.clamp(min=0) + 1e-12).sqrt()
    return torch.cat([mean, spread], -1).to(h.dtype)


def _projection(sizes: NetworkSizes) -> nn.Module:
    if not sizes.embedding:
        return nn.Identity()
    if len(sizes.embedding) == 1:
        return nn.Linear(sizes.pooled_dim, sizes.embedding[0])
    inner, outer = sizes.embedding
    return nn.Sequential(nn.Linear(sizes.pooled_dim, inner), nn.BatchNorm1d(inner), nn.ReLU(), nn.Linear(inner, outer))
