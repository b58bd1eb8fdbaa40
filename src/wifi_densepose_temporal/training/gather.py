"""The same attention in plain PyTorch: each query's candidates are gathered, on any device and in any dtype.

It is what a GPU trains with, and what tests hold the C kernels against. Memory is O(B T Hkv C D) for C candidates a
query, so it suits the windows that models are trained on, not hours. The pattern is that of docs/semantics.md.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from wifi_densepose_temporal.config import TemporalHeadConfig


def gather_attention(q: Tensor, k: Tensor, v: Tensor, config: TemporalHeadConfig) -> Tensor:
    """Attention of q `[B, T, Hq, D]` to k, v `[B, T, Hkv, D]`, gives `[B, T, Hq, D]`; differentiable by PyTorch."""
    batch, length, q_heads, dim = q.shape
    if length == 0:
        return torch.zeros_like(q)
    if config.landmarks and config.backend != "dense":
        k, v = (torch.cat([x, _block_means(x, config)], 1) for x in (k, v))
    index, seen = (x.to(q.device) for x in candidates(config, length))  # [T, C]
    keys, values = k[:, index], v[:, index]  # [B, T, C, Hkv, D]
    grouped = q.reshape(batch, length, config.kv_heads, -1, dim)  # query heads of one key/value head side by side
    scores = torch.einsum("bthgd,btchd->bthgc", grouped, keys) * dim**-0.5
    weights = scores.masked_fill(~seen[:, None, None], -torch.inf).softmax(-1)
    return torch.einsum("bthgc,btchd->bthgd", weights, values).reshape(batch, length, q_heads, dim)


def _block_means(x: Tensor, config: TemporalHeadConfig) -> Tensor:
    """`[B, blocks, Hkv, D]`: mean of each block's tokens; if not causal, the last block may be partial."""
    batch, length, heads, dim = x.shape
    whole = length // config.block_size
    means = x[:, : whole * config.block_size].reshape(batch, whole, config.block_size, heads, dim).mean(2)
    rest = x[:, whole * config.block_size :]
    if config.causal or rest.shape[1] == 0:
        return means
    return torch.cat([means, rest.mean(1, keepdim=True)], 1)


@lru_cache(maxsize=16)
def candidates(config: TemporalHeadConfig, length: int) -> tuple[Tensor, Tensor]:
    """Each query's candidates: int64 `[T, C]` rows of tokens, block means behind them; bool `[T, C]`, which are real.

    The number of real ones is `AetherTemporalHead.edge_count(T)`.
    """
    i = torch.arange(length)[:, None]
    if config.backend == "dense":
        index = torch.arange(length).expand(length, length)
        return index, index <= i if config.causal else torch.ones_like(index, dtype=torch.bool)
    tokens = [i + offset for offset in range(-config.window, (0 if config.causal else config.window) + 1)]
    tokens += [torch.full_like(i, token) for token in config.global_tokens]
    if config.log_stride:
        tokens += _strides(i, length, config.causal)
    index, seen = _each_once(torch.cat(tokens, 1), length)
    if config.causal:
        seen &= index <= i
    if config.landmarks:
        blocks, present = _landmarks(i, length, config)
        index, seen = torch.cat([index, blocks + length], 1), torch.cat([seen, present], 1)
    index = torch.where(seen, index, i)  # a row that is there; its weight is zero
    return index, seen


def _landmarks(i: Tensor, length: int, config: TemporalHeadConfig) -> tuple[Tensor, Tensor]:
    """Candidate blocks of the queries `i [T, 1]`, and which are real."""
    size = config.block_size
    pivot = (i + 1) // size - 1 if config.causal else i // size
    count = length // size if config.causal else -(-length // size)
    blocks = [pivot - 1, pivot] if config.causal else [pivot - 1, pivot + 1]
    if config.log_stride:
        blocks += _strides(pivot, count, config.causal)
    index, seen = _each_once(torch.cat(blocks, 1), count)
    if config.causal:
        seen &= (index <= pivot) & (pivot >= 0)
    else:
        seen &= index != pivot
    return index, seen


def _strides(center: Tensor, count: int, causal: bool) -> list[Tensor]:
    strides = [1 << s for s in range(max(count, 1).bit_length())]
    return [center - stride for stride in strides] + ([] if causal else [center + stride for stride in strides])


def _each_once(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sorted along each row, with every position from 0 to count - 1 marked the first time it stands there."""
    index = index.sort(1).values
    seen = (index >= 0) & (index < count)
    seen[:, 1:] &= index[:, 1:] != index[:, :-1]
    return index.clamp(0, max(count - 1, 0)), seen
