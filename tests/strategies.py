"""What hypothesis draws: heads of every kind, and inputs for them; and how equal a step and a window are."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from wifi_densepose_temporal import TemporalHeadConfig, _core


@st.composite
def configs(draw: st.DrawFn, causal: bool | None = None, max_length: int = 300) -> TemporalHeadConfig:
    kv_heads = draw(st.integers(1, 3))
    return TemporalHeadConfig(
        backend=draw(st.sampled_from(["sparse_gqa", "sparse_gqa", "sparse_gqa", "dense"])),
        q_heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 64)),
        window=draw(st.integers(0, 40) | st.integers(0, 2 * max_length)),
        block_size=draw(st.integers(1, 40) | st.integers(1, 2 * max_length)),
        causal=draw(st.booleans()) if causal is None else causal,
        global_tokens=tuple(draw(st.lists(st.integers(0, 2 * max_length), max_size=5))),
        log_stride=draw(st.booleans()),
        landmarks=draw(st.booleans()),
    )


def uniform(config: TemporalHeadConfig, T: int, seed: int, scale: float = 1.0) -> tuple[NDArray[np.float32], ...]:
    """q [T, Hq, D], k, v [T, Hkv, D], uniform in [-scale, scale]."""
    rng = np.random.default_rng(seed)
    heads = (config.q_heads, config.kv_heads, config.kv_heads)
    return tuple(rng.uniform(-scale, scale, (T, h, config.head_dim)).astype(np.float32) for h in heads)


def assert_step_equals_forward(streamed: NDArray[np.float32], forward: NDArray[np.float32]) -> None:
    """Inputs are in [-1, 1]. The scalar kernels sum both in one order; others keep to the contract's tolerance."""
    atol = 0 if _core.instruction_set() == "scalar" else 1e-6
    np.testing.assert_allclose(streamed, forward, atol=atol, rtol=0)
