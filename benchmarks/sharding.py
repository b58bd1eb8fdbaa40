"""Tracks over processes: a tick of one worker and of two beside a pool in this process, snapshots, and a death.

Needs the extra `ray`. The driver, which routes, copies and merges, is a process of its own beside the workers: on a
machine of two cores, two workers and the driver share them.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from measure import Result, Table, digits, main, median

from wifi_densepose_temporal import load_model
from wifi_densepose_temporal.distributed import ShardedPool
from wifi_densepose_temporal.errors import ShardLostError
from wifi_densepose_temporal.streams import Decisions, StreamPool

MODEL = "activity"
RATE_HZ = 50
NEVER = 1 << 29  # operations until a snapshot that nobody asked for


class Ticks:
    """The same synthetic tracks for every pool: frame n of all of them."""

    def __init__(self, tracks: int) -> None:
        self.names = [f"track-{number}" for number in range(tracks)]
        rng = np.random.default_rng(0)
        self.frames = rng.normal(0, 0.1, (8, tracks, load_model(MODEL).input_dim)).astype(np.float32)
        self.pushed: dict[int, int] = {}

    def push(self, pool: StreamPool | ShardedPool) -> tuple[float, Decisions]:
        """Seconds of a pool's next tick, and its decisions."""
        number = self.pushed[id(pool)] = self.pushed.get(id(pool), -1) + 1
        frames, times = self.frames[number % len(self.frames)], np.full(len(self.names), number / RATE_HZ)
        start = time.perf_counter()
        made = pool.push(self.names, frames, times)
        return time.perf_counter() - start, made


def measure(quick: bool) -> Result:
    """All pools hold the same tracks and are pushed in turn, so that a slow minute is slow for all."""
    tracks, warm, turns, deaths = (200, 3, 5, 1) if quick else (4000, 60, 200, 5)
    model, ticks = load_model(MODEL), Ticks(tracks)
    with TemporaryDirectory() as folder:
        pools: dict[str, Any] = {"alone": StreamPool(model)}
        for workers in (1, 2):
            pools[str(workers)] = ShardedPool(
                model, Path(folder) / str(workers), workers=workers, snapshot_every=NEVER, source="synthetic"
            )
        for pool in pools.values():
            for name in ticks.names:
                pool.open(name)
        samples: dict[str, list[float]] = {name: [] for name in pools}
        for turn in range(warm + turns):
            for name, pool in pools.items():
                seconds, made = ticks.push(pool)
                if not made.accepted.all():
                    raise RuntimeError(f"{name}: {next(iter(made.refused.values()))}")
                if turn >= warm:
                    samples[name].append(seconds)
        facts = {"tracks": tracks, "ticks": turns, "ms": {name: 1e3 * median(times) for name, times in samples.items()}}
        result = {**facts, "snapshot": _snapshot(pools["2"], Path(folder) / "2")}
        result["recovery"] = _recovery(pools["2"], ticks, deaths, facts["ms"]["2"])
        for workers in (1, 2):
            pools[str(workers)].stop()
    return result


def _snapshot(pool: ShardedPool, folder: Path) -> Result:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        pool.save()
        times.append(time.perf_counter() - start)
    return {"ms": 1e3 * median(times), "bytes": sum(path.stat().st_size for path in folder.iterdir())}


def _recovery(pool: ShardedPool, ticks: Ticks, deaths: int, usual_ms: float) -> Result:
    """A shard killed 20 ticks after its snapshot: what the tick that finds out and the next one take longer."""
    lost_ms, in_flight = [], []
    for death in range(deaths):
        pool.save()
        for _ in range(20):
            ticks.push(pool)
        os.kill(pool.processes()[pool.shards[death % 2]], signal.SIGKILL)
        found, made = ticks.push(pool)
        after, whole = ticks.push(pool)
        if not whole.accepted.all():
            raise RuntimeError(f"not recovered: {next(iter(whole.refused.values()))}")
        lost_ms.append(1e3 * (found + after) - 2 * usual_ms)
        in_flight.append(sum(isinstance(error, ShardLostError) for error in made.refused.values()))
    return {"deaths": deaths, "log": 20, "ms": median(lost_ms), "in_flight": median(in_flight)}


def tables(result: Result) -> list[Table]:
    """A tick, and what a death costs."""
    ms, tracks, snapshot, recovery = result["ms"], result["tracks"], result["snapshot"], result["recovery"]
    names = {"alone": "one pool in the caller's process", "1": "1 worker", "2": "2 workers"}
    rows = [
        (named, digits(ms[name]), digits(1e3 * ms[name] / tracks), f"{ms['1'] / ms[name]:.2f}x")
        for name, named in names.items()
    ]
    intro = f"A tick of {tracks:,} tracks of `{MODEL}`, a frame each; medians of {result['ticks']}, taken in turn."
    columns = ("", "ms a tick", "µs a track", "1 worker / this")
    outro = (
        f"A snapshot of all tracks, by two workers, takes {digits(snapshot['ms'])} ms and "
        f"{snapshot['bytes'] / 1e6:.1f} MB. A worker that is killed {recovery['log']} ticks after its snapshot costs {digits(recovery['ms'])} ms "
        f"(median of {recovery['deaths']}), and its {recovery['in_flight']:.0f} frames in flight are reported as such."
    )
    return [Table("sharding", intro, columns, rows, outro)]


if __name__ == "__main__":
    main(__file__, measure, tables)
