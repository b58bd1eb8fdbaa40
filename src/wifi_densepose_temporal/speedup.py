"""How much faster the sparse head is than the dense one on this machine, over the length of the sequence.

Inputs are uniform random, so the numbers say nothing about accuracy. Calls of sparse and dense, and of all lengths,
alternate, so that a change of the machine's speed hits all; medians are compared. It prints nothing
(cli/bench_speedup.py does).
"""

from __future__ import annotations

import dataclasses
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.head import AetherTemporalHead

#: Dense attention is measured at least this often, whatever its time budget.
MIN_DENSE_REPEATS = 3

#: Heads to measure: the one of the README's table, and the one of the AETHER model.
HEADS = {
    "bench": TemporalHeadConfig(backend="sparse_gqa", q_heads=4, kv_heads=4, head_dim=32, window=16, block_size=32),
    "aether": TemporalHeadConfig.default_aether(),
}


@dataclass(frozen=True)
class SpeedupRow:
    """Sparse against dense attention over one sequence of T positions."""

    T: int
    sparse_ms: float
    """Median of the sparse calls, milliseconds."""
    dense_ms: float
    """Median of the dense calls, milliseconds."""
    speedup: float
    """dense_ms / sparse_ms."""
    sparse_edges: int
    """(query, candidate) pairs per query head."""
    dense_edges: int
    edge_ratio: float
    """dense_edges / sparse_edges: the speedup that the work alone would give."""
    sparse_repeats: int
    dense_repeats: int


def powers_of_two(first: int, last: int) -> list[int]:
    """The powers of two from `first` to `last`, both included.

    Raises:
        ConfigError: no power of two lies between them.
    """
    lengths = [1 << exponent for exponent in range(31) if first <= 1 << exponent <= last]
    if not lengths:
        raise ConfigError(f"no power of two lies between T={first} and T={last}; give min-t <= max-t, such as 64 8192")
    return lengths


@dataclass
class _Length:
    """One length under measurement."""

    qkv: list[NDArray[np.float32]]
    sparse_ms: list[float] = field(default_factory=list)
    dense_ms: list[float] = field(default_factory=list)


def measure(
    lengths: Sequence[int],
    config: TemporalHeadConfig,
    repeat: int = 20,
    dense_budget_s: float = 10.0,
    on_call: Callable[[], None] = lambda: None,
) -> list[SpeedupRow]:
    """Times `forward` of a sparse head and of the dense one of the same sizes over several lengths.

    Every turn goes over all lengths, and calls sparse and dense one after the other. So a machine that is slower for
    a while is slower for all of them, and their ratios stand.

    Args:
        lengths: T of each row.
        config: the sparse head.
        repeat: turns, at least 1.
        dense_budget_s: seconds per length after which dense is not called again, once it was `MIN_DENSE_REPEATS` times.
        on_call: called after each length of each turn.

    Raises:
        ConfigError: `repeat` below 1, or `config` is the dense head itself.
    """
    if repeat < 1 or config.backend == "dense":
        raise ConfigError(f"repeat={repeat}, backend={config.backend}; expected at least 1 repeat of a sparse head")
    sparse, dense = AetherTemporalHead(config), AetherTemporalHead(dataclasses.replace(config, backend="dense"))
    measured = {length: _Length(_uniform(length, config)) for length in lengths}
    for turn in range(repeat):
        for at in measured.values():
            sparse.forward(*at.qkv)  # brings the inputs into the caches, for both
            at.sparse_ms.append(_milliseconds(sparse, at.qkv))
            if turn < MIN_DENSE_REPEATS or sum(at.dense_ms) < 1e3 * dense_budget_s:
                at.dense_ms.append(_milliseconds(dense, at.qkv))
            on_call()
    return [_row(length, at, sparse, dense) for length, at in measured.items()]


def _row(length: int, at: _Length, sparse: AetherTemporalHead, dense: AetherTemporalHead) -> SpeedupRow:
    fast, slow = statistics.median(at.sparse_ms), statistics.median(at.dense_ms)
    edges, all_edges = sparse.edge_count(length), dense.edge_count(length)
    counts = len(at.sparse_ms), len(at.dense_ms)
    return SpeedupRow(length, fast, slow, slow / fast, edges, all_edges, all_edges / edges, *counts)


def machine() -> str:
    """The processor's name and how many cores this process may use, as far as the platform says."""
    name = platform.processor() or platform.machine() or "unknown processor"
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # not Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores or '?'} cores, {platform.system()} {platform.machine()}"


def _uniform(length: int, config: TemporalHeadConfig) -> list[NDArray[np.float32]]:
    """Inputs q `[T, Hq, D]`, k and v `[T, Hkv, D]`, uniform in [-1, 1)."""
    rng = np.random.default_rng(0)
    heads = (config.q_heads, config.kv_heads, config.kv_heads)
    return [rng.uniform(-1, 1, (length, n, config.head_dim)).astype(np.float32) for n in heads]


def _milliseconds(head: AetherTemporalHead, qkv: list[NDArray[np.float32]]) -> float:
    start = time.perf_counter()
    head.forward(*qkv)
    return 1e3 * (time.perf_counter() - start)
