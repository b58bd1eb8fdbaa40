"""The semantics of docs/semantics.md in plain NumPy and float64: slow, and written to be compared with the page.

It shares no code and no trick with the core: candidates are Python sets, softmax is over a whole row at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import TemporalHeadConfig

Float64 = NDArray[np.float64]


def token_candidates(config: TemporalHeadConfig, i: int, T: int) -> set[int]:
    if config.backend == "dense":
        return set(range(i + 1 if config.causal else T))
    tokens = set(range(i - config.window, i + 1 if config.causal else i + config.window + 1))
    tokens |= set(config.global_tokens)
    if config.log_stride:
        strides = [1 << s for s in range(T.bit_length() + 1)]
        tokens |= {i - stride for stride in strides}
        if not config.causal:
            tokens |= {i + stride for stride in strides}
    last = i if config.causal else T - 1
    return {t for t in tokens if 0 <= t <= last}


def landmark_candidates(config: TemporalHeadConfig, i: int, T: int) -> set[int]:
    if config.backend == "dense" or not config.landmarks:
        return set()
    B = config.block_size
    if config.causal:
        blocks = (i + 1) // B
        if blocks == 0:
            return set()
        pivot = blocks - 1
        chosen = {pivot - 1, pivot}
    else:
        blocks = -(-T // B)
        pivot = i // B
        chosen = {pivot - 1, pivot + 1}
    if config.log_stride:
        strides = [1 << s for s in range(blocks.bit_length() + 1)]
        chosen |= {pivot - stride for stride in strides}
        if not config.causal:
            chosen |= {pivot + stride for stride in strides}
    if not config.causal:
        chosen.discard(pivot)
    return {b for b in chosen if 0 <= b < blocks}


def block_means(x: Float64, block_size: int) -> Float64:
    """[blocks, Hkv, D] of x [T, Hkv, D]; the last block may be partial."""
    starts = range(0, len(x), block_size)
    return np.array([x[b : b + block_size].mean(axis=0) for b in starts]).reshape(-1, *x.shape[1:])


def attend(q: Float64, keys: Float64, values: Float64) -> Float64:
    """softmax(q k^T / sqrt(D)) v for one query [D] over rows [N, D]."""
    scores = keys @ q / np.sqrt(len(q))
    weights = np.exp(scores - scores.max())
    return np.asarray(weights @ values / weights.sum())


def forward(config: TemporalHeadConfig, q: NDArray, k: NDArray, v: NDArray) -> Float64:
    """[T, Hq, D] of q [T, Hq, D], k, v [T, Hkv, D]."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    T, group = len(q), config.q_heads // config.kv_heads
    mean_k, mean_v = block_means(k, config.block_size), block_means(v, config.block_size)
    out = np.empty_like(q)
    for i in range(T):
        tokens = sorted(token_candidates(config, i, T))
        blocks = sorted(landmark_candidates(config, i, T))
        for h in range(config.q_heads):
            g = h // group
            keys = np.concatenate([k[tokens, g], mean_k[blocks, g]])
            values = np.concatenate([v[tokens, g], mean_v[blocks, g]])
            out[i, h] = attend(q[i, h], keys, values)
    return out


def edge_count(config: TemporalHeadConfig, T: int) -> int:
    return sum(len(token_candidates(config, i, T)) + len(landmark_candidates(config, i, T)) for i in range(T))
