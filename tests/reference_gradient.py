"""The gradient of tests/reference.py as dense matrices in float64: one masked softmax over tokens and block means.

all keys = M k, with M [T + blocks, T]: the identity over the blocks' means; all values = M v
P = softmax of q (M k)^T / sqrt(D), where the mask has a candidate; out = P M v
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests import reference
from wifi_densepose_temporal import TemporalHeadConfig

Float64 = NDArray[np.float64]


def candidates(config: TemporalHeadConfig, T: int) -> tuple[Float64, NDArray[np.bool_]]:
    """M [T + blocks, T], and the mask [T, T + blocks] of each query's candidates."""
    B = config.block_size
    blocks = -(-T // B)
    means = np.zeros((blocks, T))
    for b in range(blocks):
        means[b, b * B : (b + 1) * B] = 1 / len(range(b * B, min((b + 1) * B, T)))
    mask = np.zeros((T, T + blocks), np.bool_)
    for i in range(T):
        mask[i, list(reference.token_candidates(config, i, T))] = True
        mask[i, [T + b for b in reference.landmark_candidates(config, i, T)]] = True
    return np.concatenate([np.eye(T), means]), mask


def backward(config: TemporalHeadConfig, q: NDArray, k: NDArray, v: NDArray, d_out: NDArray) -> tuple[Float64, ...]:
    """dq [T, Hq, D], dk, dv [T, Hkv, D] for d_out [T, Hq, D]."""
    q, k, v, d_out = (np.asarray(x, np.float64) for x in (q, k, v, d_out))
    M, mask = candidates(config, len(q))
    group, scale = config.q_heads // config.kv_heads, 1 / np.sqrt(config.head_dim)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for h in range(config.q_heads):
        keys, values = M @ k[:, h // group], M @ v[:, h // group]
        scores = np.where(mask, q[:, h] @ keys.T * scale, -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        P = weights / weights.sum(axis=1, keepdims=True)
        dP = d_out[:, h] @ values.T
        dS = P * (dP - (P * dP).sum(axis=1, keepdims=True)) * scale
        dq[:, h] = dS @ keys
        dk[:, h // group] += M.T @ (dS.T @ q[:, h])
        dv[:, h // group] += M.T @ (P.T @ d_out[:, h])
    return dq, dk, dv
