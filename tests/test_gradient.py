"""The gradient: against finite differences, matrices in float64 and PyTorch's autograd; the same on any threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests import reference, reference_gradient
from tests.strategies import configs, uniform
from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig
from wifi_densepose_temporal.errors import ConfigError, DtypeError, NonFiniteError, ShapeError, TemporalError

CONFIG = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=2, head_dim=8, window=5, block_size=4)
HEAD = AetherTemporalHead(CONFIG)
KINDS = [
    pytest.param(TemporalHeadConfig(backend, q_heads, kv_heads, 8, 5, block_size, causal=causal), id=name)
    for backend, q_heads, kv_heads, block_size, causal, name in (
        ("sparse_gqa", 3, 3, 4, True, "mha"),
        ("sparse_gqa", 4, 2, 1, True, "gqa, blocks of one"),
        ("sparse_gqa", 4, 1, 64, False, "mqa, not causal, one partial block"),
        ("sparse_gqa", 4, 2, 7, False, "gqa, not causal"),
        ("dense", 4, 2, 1, True, "dense"),
        ("dense", 2, 2, 1, False, "dense, not causal"),
    )
]


def cotangent(like: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed + 1).uniform(-1, 1, like.shape).astype(np.float32)


def gradient(
    head: AetherTemporalHead, q: NDArray, k: NDArray, v: NDArray, d_out: NDArray, threads: int = 1
) -> tuple[NDArray[np.float32], ...]:
    out, log_sum = head.forward_for_backward(q, k, v, threads=threads)
    return head.backward(q, k, v, out, log_sum, d_out, threads=threads)


def assert_close(got: tuple[NDArray, ...], expected: tuple[NDArray, ...], tolerance: float) -> None:
    """Relative to the gradient's largest number: that of one input alone may be nothing but rounding."""
    assert [x.shape for x in got] == [x.shape for x in expected]
    largest = max((float(np.abs(x).max(initial=0)) for x in expected), default=0)
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=0, atol=tolerance * largest)


@settings(max_examples=150)
@given(configs(), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_the_gradient_equals_the_reference(config: TemporalHeadConfig, T: int, seed: int) -> None:
    q, k, v = uniform(config, T, seed)
    d_out = cotangent(q, seed)
    expected = reference_gradient.backward(config, q, k, v, d_out)
    assert_close(gradient(AetherTemporalHead(config), q, k, v, d_out), expected, 1e-5)


@pytest.mark.parametrize("config", KINDS)
def test_gradient_and_reference_equal_finite_differences(config: TemporalHeadConfig) -> None:
    arrays = [x.astype(np.float64) for x in uniform(config, 11, seed=1)]
    d_out, step = cotangent(arrays[0], 1).astype(np.float64), 1e-5
    expected = []
    for which, array in enumerate(arrays):
        differences = np.empty_like(array)
        for index in np.ndindex(array.shape):
            sides = []
            for sign in (1, -1):
                moved = [x.copy() for x in arrays]
                moved[which][index] += sign * step
                sides.append(np.vdot(reference.forward(config, *moved), d_out))
            differences[index] = (sides[0] - sides[1]) / (2 * step)
        expected.append(differences)
    assert_close(reference_gradient.backward(config, *arrays, d_out), tuple(expected), 1e-8)
    singles = [x.astype(np.float32) for x in (*arrays, d_out)]
    assert_close(gradient(AetherTemporalHead(config), *singles), tuple(expected), 1e-5)


@pytest.mark.parametrize("config", KINDS)
def test_the_gradient_equals_autograds(config: TemporalHeadConfig) -> None:
    T, group = 90, config.q_heads // config.kv_heads
    q, k, v = uniform(config, T, seed=2)
    d_out = cotangent(q, 2)
    M, mask = (torch.from_numpy(x) for x in reference_gradient.candidates(config, T))
    leaves = [torch.from_numpy(x.astype(np.float64)).requires_grad_() for x in (q, k, v)]
    keys, values = (
        torch.einsum("ct,thd->hcd", M, x).repeat_interleave(group, dim=0) for x in leaves[1:]
    )  # [Hq, T + blocks, D]
    scores = torch.einsum("thd,hcd->htc", leaves[0], keys) / config.head_dim**0.5
    weights = torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    out = torch.einsum("htc,hcd->thd", weights, values)
    out.backward(torch.from_numpy(d_out.astype(np.float64)))
    head = AetherTemporalHead(config)
    np.testing.assert_allclose(head.forward(q, k, v), out.detach().numpy(), atol=1e-6, rtol=0)
    expected = tuple(x.grad.numpy() for x in leaves if x.grad is not None)
    assert_close(gradient(head, q, k, v, d_out), expected, 1e-5)


@settings(max_examples=40)
@given(configs(), st.integers(0, 400), st.sampled_from([(), (2,)]), st.integers(0, 2**32 - 1))
def test_the_gradient_is_the_same_on_any_number_of_threads(
    config: TemporalHeadConfig, T: int, batch: tuple[int, ...], seed: int
) -> None:
    head, count = AetherTemporalHead(config), int(np.prod(batch, dtype=int))
    arrays = [x.reshape(*batch, T, *x.shape[1:]) for x in uniform(config, T * count, seed)]
    d_out = cotangent(arrays[0], seed)
    one = gradient(head, *arrays, d_out)
    for threads in (2, 3):
        for x, y in zip(gradient(head, *arrays, d_out, threads=threads), one, strict=True):
            np.testing.assert_array_equal(x, y)
    for b in range(count if batch else 0):
        for x, y in zip(gradient(head, *(a[b] for a in arrays), d_out[b]), one, strict=True):
            np.testing.assert_array_equal(x, y[b])


def test_log_sum_is_the_logarithm_of_the_denominator() -> None:
    q, k, v = uniform(CONFIG, 30, seed=3)
    out, log_sum = HEAD.forward_for_backward(q, k, v)
    np.testing.assert_array_equal(out, HEAD.forward(q, k, v))
    M, mask = reference_gradient.candidates(CONFIG, 30)
    for h in range(4):
        scores = np.where(mask, q[:, h] @ (M @ k[:, h // 2]).T / np.sqrt(8), -np.inf)
        np.testing.assert_allclose(log_sum[:, h], np.log(np.exp(scores).sum(axis=1)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 0), (0, 5), (3, 1)])
def test_short_windows_have_gradients_too(shape: tuple[int, ...]) -> None:
    q, k, v = (np.ones((*shape, heads, 8), np.float32) for heads in (4, 2, 2))
    out, log_sum = HEAD.forward_for_backward(q, k, v)
    assert log_sum.shape == (*shape, 4)
    dq, dk, dv = HEAD.backward(q, k, v, out, log_sum, q)
    assert (dq.shape, dk.shape, dv.shape) == (q.shape, k.shape, v.shape)
    np.testing.assert_allclose(dv, np.full_like(v, 2), atol=1e-6)  # both query heads of a group, and one candidate
    np.testing.assert_allclose(dq, 0, atol=1e-6)


def test_arrays_that_need_it_are_converted() -> None:
    q, k, v = uniform(CONFIG, 20, seed=4)
    out, log_sum = HEAD.forward_for_backward(torch.from_numpy(q), np.asfortranarray(k), v)
    expected = HEAD.backward(q, k, v, out, log_sum, q)
    got = HEAD.backward(q, torch.from_numpy(k), v, out, np.asfortranarray(log_sum), q.astype(">f4"))
    for x, y in zip(got, expected, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("name", "change", "kind", "sentence"),
    [
        ("log_sum", lambda x: x[..., None], ShapeError, r"log_sum has shape \(20, 4, 1\); expected \(20, 4\)"),
        ("log_sum", lambda x: x[:-1], ShapeError, "log_sum has shape"),
        ("log_sum", lambda x: x.astype(np.float64), DtypeError, "log_sum has dtype"),
        ("out", lambda x: x[:, :2], ShapeError, "out has shape"),
        ("d_out", lambda x: x[..., :4], ShapeError, "d_out has shape"),
        ("d_out", lambda x: np.where(np.arange(8) == 3, np.nan, x), NonFiniteError, r"d_out\[0, 0, 3\] is nan"),
        ("v", lambda x: x[:5], ShapeError, "v has shape"),
        ("threads", lambda x: 0, ConfigError, "threads is 0"),
    ],
)
def test_backward_refuses(name: str, change: Any, kind: type[TemporalError], sentence: str) -> None:
    q, k, v = uniform(CONFIG, 20, seed=5)
    out, log_sum = HEAD.forward_for_backward(q, k, v)
    arguments: dict[str, Any] = {"q": q, "k": k, "v": v, "out": out, "log_sum": log_sum, "d_out": q, "threads": 1}
    with pytest.raises(kind, match=sentence):
        HEAD.backward(**(arguments | {name: change(arguments[name])}))
