"""How long a sparse and a dense model of the same sizes take in the C core, over the length of the sequence.

One thread, through the binding, on frames that are repeated to the length wanted: time does not depend on their values.
Calls of both models and of all lengths alternate, so that a change of the machine's speed hits all; medians are
compared. A stream's memory is reserved before the clock starts. Attention without the model around it is speedup.py's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core, speedup
from wifi_densepose_temporal.errors import NonFiniteError
from wifi_densepose_temporal.evaluation.bootstrap import DRAWS, Interval, interval
from wifi_densepose_temporal.model import TemporalModel

Frames = NDArray[np.float32]

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
REPEAT, LEAST_REPEATS = 15, 3
BUDGET_S = 4.0  # a length, after which it is not measured again
PUSHES = 5  # frames stepped after each prefill; their median is one measurement


@dataclass(frozen=True)
class Timing:
    """One measurement, both models."""

    sparse_ms: float
    """Median."""
    dense_ms: float
    speedup: float
    """dense_ms / sparse_ms."""
    interval: Interval | None
    """95 % of the speedup, by bootstrap over the repeats: this machine's noise, and nothing else."""
    repeats: int


@dataclass(frozen=True)
class LatencyRow:
    """Sparse against dense at one length."""

    T: int
    """Frames."""
    step: Timing
    """The whole model, one more frame after T."""
    prefill: Timing
    """The whole model, a recording of T frames from its start, an answer for each."""
    attention_speedup: float
    """One layer's attention over T positions alone."""
    attention_sparse_ms: float
    attention_dense_ms: float
    edge_ratio: float
    """(query, key) pairs of dense for each of sparse."""


def measure(
    sparse: TemporalModel,
    dense: TemporalModel,
    frames: Frames,
    lengths: Sequence[int],
    advance: Callable[[], object] = lambda: None,
) -> list[LatencyRow]:
    """Times both models.

    Args:
        sparse: with the sparse pattern.
        dense: of the same sizes, with the dense one.
        frames: `[n, F]`, n at least 1; repeated.
        lengths: T of each row, different, at least 1.
        advance: called after each turn of `REPEAT`.

    Raises:
        NonFiniteError: frames that a model refuses.
    """
    pairs = {length: (_Timed(sparse, frames, length), _Timed(dense, frames, length)) for length in sorted(lengths)}
    for turn in range(REPEAT):
        for length, pair in pairs.items():
            if turn < LEAST_REPEATS or sum(timed.spent_s for timed in pair) < BUDGET_S:
                for timed in pair[:: 1 if turn % 2 else -1]:
                    timed.take(length)
        advance()
    attention = speedup.measure(sorted(lengths), sparse.config, REPEAT, BUDGET_S / 2)
    return [
        LatencyRow(
            length,
            _timing(pair[0].step_ms, pair[1].step_ms),
            _timing(pair[0].prefill_ms, pair[1].prefill_ms),
            alone.speedup,
            alone.sparse_ms,
            alone.dense_ms,
            alone.edge_ratio,
        )
        for (length, pair), alone in zip(pairs.items(), attention, strict=True)
    ]


def reached_from(rows: Sequence[LatencyRow], speedup_of: Callable[[LatencyRow], float], factor: float) -> int | None:
    """The shortest measured length from which on every measured one is at least `factor` faster; None: none is."""
    found = None
    for row in sorted(rows, key=lambda row: -row.T):
        if speedup_of(row) < factor:
            break
        found = row.T
    return found


class _Timed:
    """One model at one length."""

    def __init__(self, model: TemporalModel, frames: Frames, length: int) -> None:
        self.frames = np.ascontiguousarray(frames[np.arange(length + PUSHES) % len(frames)], np.float32)
        self.stream = model.stream(capacity=length + PUSHES, source="replay")._core
        self.logits = np.empty((length, model.header.n_classes), np.float32)
        self.embedding = np.empty((length, model.embedding_dim), np.float32)
        self.prefill_ms: list[float] = []
        self.step_ms: list[float] = []
        self.spent_s = 0.0

    def take(self, length: int) -> None:
        """One prefill, and the steps after it."""
        self.stream.reset()
        start = time.perf_counter()
        status, _ = self.stream.run(self.frames[:length], self.logits, self.embedding)
        prefilled = time.perf_counter()
        steps = []
        for frame in self.frames[length:]:
            before = time.perf_counter()
            taken = self.stream.push(frame)
            steps.append(time.perf_counter() - before)
            if status != _core.Status.OK or not isinstance(taken, tuple):
                raise NonFiniteError("a held-out frame is so large that the model's activations overflow")
        self.prefill_ms.append(1e3 * (prefilled - start))
        self.step_ms.append(1e3 * statistics.median(steps))
        self.spent_s += time.perf_counter() - start


def _timing(sparse: list[float], dense: list[float]) -> Timing:
    fast, slow = np.array(sparse), np.array(dense)
    drawn = np.random.default_rng(0).integers(len(fast), size=(DRAWS, len(fast)))
    ratios = np.median(slow[drawn], axis=1) / np.median(fast[drawn], axis=1)
    medians = float(np.median(fast)), float(np.median(slow))
    return Timing(*medians, medians[1] / medians[0], interval(ratios, len(fast)), len(fast))
