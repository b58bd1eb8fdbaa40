"""The differentiable operator: the C kernels against the gather form in float64, and PyTorch's own checks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.strategies import configs
from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig
from wifi_densepose_temporal.errors import NonFiniteError, ShapeError
from wifi_densepose_temporal.training.gather import candidates
from wifi_densepose_temporal.training.operator import temporal_attention

CONFIG = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=2, head_dim=8, window=5, block_size=4)


def draw(config: TemporalHeadConfig, batch: int, length: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = (config.q_heads, config.kv_heads, config.kv_heads)
    return [torch.rand(batch, length, h, config.head_dim, generator=generator) * 2 - 1 for h in heads]


@settings(max_examples=100, deadline=None)
@given(configs(), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_kernels_equal_the_gather_form_forward_and_backward(config: TemporalHeadConfig, length: int, seed: int) -> None:
    narrow = [x.requires_grad_() for x in draw(config, 2, length, seed)]
    wide = [x.detach().double().requires_grad_() for x in narrow]
    out, expected = (temporal_attention(*x, config) for x in (narrow, wide))
    torch.testing.assert_close(out.double(), expected, atol=1e-6, rtol=0)
    weights = draw(config, 2, length, seed + 1)[0]
    gradients = torch.autograd.grad(out, narrow, weights)
    references = torch.autograd.grad(expected, wide, weights.double())
    largest = max(float(x.abs().max()) for x in references)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient.double(), reference, atol=1e-5 * max(largest, 1e-3), rtol=0)


@settings(max_examples=200, deadline=None)
@given(configs(), st.integers(0, 200))
def test_the_gather_form_has_as_many_candidates_as_the_core(config: TemporalHeadConfig, length: int) -> None:
    if length:
        assert int(candidates(config, length)[1].sum()) == AetherTemporalHead(config).edge_count(length)
    else:
        narrow = draw(config, 2, 0, 0)
        for inputs in (narrow, [x.double() for x in narrow]):
            assert temporal_attention(*inputs, config).shape == inputs[0].shape


@pytest.mark.parametrize("causal", [True, False])
def test_pytorch_accepts_the_operator(causal: bool) -> None:
    """Schema, fake tensors, autograd registration and dynamic shapes, as torch.library checks them."""
    inputs = [x.requires_grad_() for x in draw(CONFIG, 2, 20, 0)]
    fields = (False, 5, 4, causal, [0], True, True)
    torch.library.opcheck(torch.ops.wifi_densepose_temporal.attention.default, (*inputs, *fields))


def test_the_gather_form_passes_gradcheck() -> None:
    inputs = [x.double().requires_grad_() for x in draw(CONFIG, 1, 11, 0)]
    assert torch.autograd.gradcheck(lambda q, k, v: temporal_attention(q, k, v, CONFIG), inputs)


def test_inputs_that_are_not_contiguous_are_taken_as_they_are() -> None:
    q, k, v = draw(CONFIG, 2, 30, 0)
    turned = q.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(temporal_attention(turned, k, v, CONFIG), temporal_attention(q, k, v, CONFIG))


def test_wrong_shapes_and_nan_are_refused_with_what_was_expected() -> None:
    q, k, v = draw(CONFIG, 2, 9, 0)
    with pytest.raises(ShapeError, match=r"k has shape .* expected \[B, T, heads, D\], that is \(2, 9, 2, 8\)"):
        temporal_attention(q, k[:, :8], v, CONFIG)
    with pytest.raises(ShapeError, match=r"v is torch\.float64 .* as q is"):
        temporal_attention(q, k, v.double(), CONFIG)
    q[1, 3, 2, 1] = torch.nan
    with pytest.raises(NonFiniteError, match=r"q\[1, 3, 2, 1\]"):
        temporal_attention(q, k, v, CONFIG)
