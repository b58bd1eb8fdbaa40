"""The sparse pattern in PyTorch: a mask over tokens and block means behind them. What others' kernels are given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wifi_densepose_temporal import TemporalHeadConfig

Mask = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def candidate_mask(config: TemporalHeadConfig, length: int) -> Mask:
    """Which of the `length` tokens and the block means behind them a query sees: causal heads, docs/semantics.md.

    Called with batch, head, query and key indices, as FlexAttention does; broadcasts.
    """
    window, block, marked = config.window, config.block_size, config.global_tokens

    def sees(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        back = i - j
        near = back <= window
        for token in marked:
            near = near | (j == token)
        blocks_back = (i + 1) // block - 1 - (j - length)
        tokens = (j < length) & (back >= 0) & (near | _is_power_of_two_or_zero(back))
        return tokens | ((j >= length) & (blocks_back >= 0) & _is_power_of_two_or_zero(blocks_back))

    return sees


def _is_power_of_two_or_zero(x: Tensor) -> Tensor:
    return (x & (x - 1)) == 0


def with_means(x: Tensor, block: int) -> Tensor:
    """`[heads, T + blocks, D]` of x `[heads, T, D]`: its rows, then the means of its complete blocks."""
    heads, length, dim = x.shape
    count = length // block
    return torch.cat([x, x[:, : count * block].reshape(heads, count, block, dim).mean(2)], 1)


def attend_dense(config: TemporalHeadConfig, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The head's output for q `[T, Hq, D]`, k, v `[T, Hkv, D]` by a masked softmax over everything; differentiable."""
    length, group = len(q), config.q_heads // config.kv_heads
    keys, values = (with_means(x.movedim(1, 0), config.block_size).repeat_interleave(group, 0) for x in (k, v))
    i, j = torch.arange(length)[:, None], torch.arange(keys.shape[1])[None]
    mask = candidate_mask(config, length)(i, i, i, j)
    scores = torch.einsum("thd,hcd->htc", q, keys) / config.head_dim**0.5
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return torch.einsum("htc,hcd->thd", weights, values)
