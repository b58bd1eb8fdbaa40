"""The head's attention as a differentiable PyTorch operator.

`temporal_attention` runs the C core's kernels, forward and backward, where they apply (float32 on the CPU), and the
gather form of gather.py everywhere else: another device or dtype. Both are the pattern of docs/semantics.md, and tests
hold one against the other. Not here: projections and layers (network.py).

Axis letters: B batch, T positions, Hq query heads, Hkv key/value heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.errors import ShapeError
from wifi_densepose_temporal.head import AetherTemporalHead
from wifi_densepose_temporal.training.gather import gather_attention


def temporal_attention(q: Tensor, k: Tensor, v: Tensor, config: TemporalHeadConfig) -> Tensor:
    """Attention of whole windows; `AetherTemporalHead.forward` with a gradient.

    Args:
        q: `[B, T, Hq, D]`, floating point.
        k: `[B, T, Hkv, D]`, of q's dtype and device.
        v: like `k`.
        config: the pattern and the heads.

    Returns:
        `[B, T, Hq, D]`.

    Raises:
        ShapeError: shapes that do not fit each other or the configuration.
        NonFiniteError: on the CPU in float32: NaN, infinity or a number beyond 1e12 in an input, or in the output's
            gradient during the backward pass.
    """
    _require_shapes(q, k, v, config)
    if q.device.type != "cpu" or q.dtype != torch.float32:
        return gather_attention(q, k, v, config)
    out, _ = torch.ops.wifi_densepose_temporal.attention(
        q,
        k,
        v,
        config.backend == "dense",
        config.window,
        config.block_size,
        config.causal,
        list(config.global_tokens),
        config.log_stride,
        config.landmarks,
    )
    result: Tensor = out
    return result


def _require_shapes(q: Tensor, k: Tensor, v: Tensor, config: TemporalHeadConfig) -> None:
    for name, array, heads in (("q", q, config.q_heads), ("k", k, config.kv_heads), ("v", v, config.kv_heads)):
        expected = (*q.shape[:2], heads, config.head_dim)
        if array.ndim != 4 or tuple(array.shape) != expected:
            raise ShapeError(f"{name} has shape {tuple(array.shape)}; expected [B, T, heads, D], that is {expected}")
        if array.dtype != q.dtype or array.device != q.device:
            raise ShapeError(f"{name} is {array.dtype} on {array.device}; expected {q.dtype} on {q.device}, as q is")


# ---------------------------------------------------------------------------- the operator and its gradient
# A custom operator takes tensors and plain numbers, so a head's configuration travels as its fields.


@lru_cache(maxsize=64)
def _head(
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    dense: bool,
    window: int,
    block_size: int,
    causal: bool,
    global_tokens: tuple[int, ...],
    log_stride: bool,
    landmarks: bool,
) -> AetherTemporalHead:
    return AetherTemporalHead(
        TemporalHeadConfig(
            "dense" if dense else "sparse_gqa",
            q_heads,
            kv_heads,
            head_dim,
            window,
            block_size,
            causal,
            global_tokens,
            log_stride,
            landmarks,
        )
    )


def _head_of(q: Tensor, k: Tensor, fields: Sequence[Any]) -> AetherTemporalHead:
    dense, window, block_size, causal, global_tokens, *switches = fields
    sizes = (q.shape[2], k.shape[2], q.shape[3])
    return _head(*sizes, dense, window, block_size, causal, tuple(global_tokens), *switches)


@torch.library.custom_op("wifi_densepose_temporal::attention", mutates_args=(), device_types="cpu")
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dense: bool,
    window: int,
    block_size: int,
    causal: bool,
    global_tokens: Sequence[int],
    log_stride: bool,
    landmarks: bool,
) -> tuple[Tensor, Tensor]:
    """The output `[B, T, Hq, D]`, and the logarithm of each softmax's denominator `[B, T, Hq]` for the gradient."""
    head = _head_of(q, k, (dense, window, block_size, causal, global_tokens, log_stride, landmarks))
    arrays = (x.detach().contiguous().numpy() for x in (q, k, v))
    out, log_sum = head.forward_for_backward(*arrays, threads=torch.get_num_threads())
    return torch.from_numpy(out), torch.from_numpy(log_sum)


@torch.library.custom_op("wifi_densepose_temporal::attention_backward", mutates_args=(), device_types="cpu")
def _attention_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sum: Tensor,
    d_out: Tensor,
    dense: bool,
    window: int,
    block_size: int,
    causal: bool,
    global_tokens: Sequence[int],
    log_stride: bool,
    landmarks: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by q, k and v."""
    head = _head_of(q, k, (dense, window, block_size, causal, global_tokens, log_stride, landmarks))
    arrays = (x.detach().contiguous().numpy() for x in (q, k, v, out, log_sum, d_out))
    dq, dk, dv = head.backward(*arrays, threads=torch.get_num_threads())
    return torch.from_numpy(dq), torch.from_numpy(dk), torch.from_numpy(dv)


@_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *fields: Any) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:-1])


@_attention_backward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, *ctx.fields = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.wifi_densepose_temporal.attention_backward(*ctx.saved_tensors, d_out, *ctx.fields)
    return (*gradients, *(None for _ in ctx.fields))


_attention.register_autograd(_differentiate, setup_context=_keep)
