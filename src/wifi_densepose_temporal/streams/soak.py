"""A pool under load for as long as one likes: how long ticks take, what memory does, what is refused or dropped.

Frames are those of the recordings in the package, over and over, so the load is a replay and its decisions mean nothing
for anybody. A tick that is due when the one after it is due already is dropped with all its frames, and counted:
a service that cannot keep up must say so. A tick is timed twice: the push alone, and from when it was due to when it
was done, so that one that waited behind a slow one counts as late.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.streams.pool import StreamPool

#: Of the run, at least and at most: until then caches fill, and memory with them.
WARM_UP, LONGEST_WARM_UP = 0.2, 0.5
MAX_RATE_HZ, MAX_MINUTES = 10_000, 100_000
STATM = Path("/proc/self/statm")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, eq=False)
class Soak:
    """What a run showed."""

    tracks: int
    rate_hz: float
    """Frames a second and track that were asked for."""
    seconds: float
    tick_s: NDArray[np.float64]
    """`[ticks]`, seconds that each `push` took."""
    late_s: NDArray[np.float64]
    """`[ticks]`, seconds from when each tick was due to when it was done."""
    warm_up_s: float | None
    """When `warm_bytes` was read, seconds after the start."""
    refused: int
    """Frames that the pool refused."""
    dropped: int
    """Frames of ticks that were not pushed, for the pool was behind."""
    warm_bytes: int | None
    """Memory of the process after the warm-up; None where the system does not tell."""
    end_bytes: int | None

    @property
    def memory_growth_percent(self) -> float | None:
        """From the end of the warm-up to the end; None where memory is not told, or the run ended before."""
        if self.warm_bytes is None or self.end_bytes is None:
            return None
        return 100.0 * (self.end_bytes - self.warm_bytes) / self.warm_bytes


def percentile_ms(seconds: NDArray[np.float64], percentile: float) -> float | None:
    """A percentile of ticks' times, milliseconds; None without a tick."""
    return 1e3 * float(np.percentile(seconds, percentile)) if len(seconds) else None


def soak(
    pool: StreamPool,
    frames: NDArray[np.float32],
    tracks: int,
    rate_hz: float,
    minutes: float,
    advance: Callable[[float], object] = lambda seconds: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Soak:
    """Pushes frames to tracks in real time, every track once a tick.

    Args:
        pool: empty; the tracks are opened here and closed at the end.
        frames: `[T, F]`; track i begins at row i and goes round.
        tracks: how many.
        rate_hz: ticks a second, 1 to 10,000.
        minutes: how long.
        advance: called after each tick with the seconds so far.
        stopped: asked after each tick; where it says so, the run ends with the figures so far.

    Raises:
        ConfigError: tracks below 1, or a rate or a time out of range.
        MemoryLimitError: the pool has no room for so many tracks.
    """
    count = as_int("tracks", tracks, least=1)
    if not (1 <= rate_hz <= MAX_RATE_HZ and 0 < minutes <= MAX_MINUTES):
        raise ConfigError(
            f"rate {rate_hz:g} Hz for {minutes:g} minutes; expected 1 to {MAX_RATE_HZ} Hz, and more than 0 and at most "
            f"{MAX_MINUTES} minutes"
        )
    names = [f"track {number}" for number in range(count)]
    run = _Run(pool, frames, names, rate_hz, 60 * minutes, advance)
    try:
        for name in names:
            pool.open(name)
        run.go(stopped)
        end_bytes = resident_bytes()
    finally:
        for track in pool.tracks():
            pool.close(track)
    took, late = run.times[:, : run.done]
    return Soak(
        count, rate_hz, run.seconds, took, late, run.warm_up_s, run.refused, run.dropped, run.warm_bytes, end_bytes
    )


class _Run:
    """The ticks of one soak."""

    def __init__(
        self,
        pool: StreamPool,
        frames: NDArray[np.float32],
        names: list[str],
        rate_hz: float,
        seconds: float,
        advance: Callable[[float], object],
    ) -> None:
        self.pool, self.names, self.advance = pool, names, advance
        self.frames = np.concatenate([frames] * (1 + -(-len(names) // len(frames))))  # without a seam at the end
        self.period_s, self.length = 1 / rate_hz, len(frames)
        self.ticks = max(1, round(seconds * rate_hz))
        self.times = np.ones((2, self.ticks))  # took and late: touched now, or it would be the growth that is measured
        self.done = self.refused = self.dropped = 0
        self.seconds = 0.0
        self.warm_up_s: float | None = None
        self.warm_bytes: int | None = None

    def _warm_ticks(self) -> float:
        """Until every cache of a track is full, its landmarks too, if the run is long enough."""
        pool = self.pool
        fills = max(pool.capacity, pool.landmark_blocks * pool.model.config.block_size)
        return min(max(WARM_UP * self.ticks, fills), LONGEST_WARM_UP * self.ticks)

    def go(self, stopped: Callable[[], bool]) -> None:
        begin, warm_ticks = time.perf_counter(), self._warm_ticks()
        for tick in range(self.ticks):
            due = begin + tick * self.period_s
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)  # at most a period
            if -wait >= self.period_s:
                self.dropped += len(self.names)
            else:
                self._push(tick, due)
            self.seconds = time.perf_counter() - begin
            if self.warm_up_s is None and tick >= warm_ticks:
                self.warm_up_s, self.warm_bytes = self.seconds, resident_bytes()
            self.advance(self.seconds)
            if stopped():
                break

    def _push(self, tick: int, due: float) -> None:
        at, count = tick % self.length, len(self.names)
        times_s = np.full(count, tick * self.period_s)
        before = time.perf_counter()
        decisions = self.pool.push(self.names, self.frames[at : at + count], times_s)
        after = time.perf_counter()
        self.times[:, self.done] = after - before, after - due
        self.done += 1
        self.refused += len(decisions.refused)


def resident_bytes() -> int | None:
    """Memory that this process holds now; None where the system has no /proc."""
    try:
        return int(STATM.read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return None
