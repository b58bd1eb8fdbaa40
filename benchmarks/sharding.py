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
#: Bytes of a track's name as it travels, and of a decision beside its numbers: counts, flags.
NAME_BYTES, TOLD_BYTES = 16, 26
NEVER = 1 << 29  # operations until a snapshot that nobody asked for


class Ticks:
    """The same synthetic tracks for every pool: frame n of all of them."""

    def __init__(self, tracks: int) -> None:
        self.names = [f"track-{number}" for number in range(tracks)]
        self.period_s = StreamPool(load_model(MODEL)).period_s
        rng = np.random.default_rng(0)
        self.frames = rng.normal(0, 0.1, (8, tracks, load_model(MODEL).input_dim)).astype(np.float32)
        self.pushed: dict[int, int] = {}

    def push(self, pool: StreamPool | ShardedPool) -> tuple[float, Decisions]:
        """Seconds of a pool's next tick, and its decisions."""
        number = self.pushed[id(pool)] = self.pushed.get(id(pool), -1) + 1
        frames, times = self.frames[number % len(self.frames)], np.full(len(self.names), number * self.period_s)
        start = time.perf_counter()
        made = pool.push(self.names, frames, times)
        return time.perf_counter() - start, made


def measure(quick: bool) -> Result:
    """All pools hold the same tracks and are pushed in turn, so that a slow minute is slow for all."""
    tracks, warm, turns, deaths = (200, 3, 5, 1) if quick else (4000, 300, 200, 5)
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
        driver: list[float] = []
        for turn in range(warm + turns):
            for name, pool in pools.items():
                busy = time.process_time()
                seconds, made = ticks.push(pool)
                busy = time.process_time() - busy
                if not made.accepted.all():
                    raise RuntimeError(f"{name}: {next(iter(made.refused.values()))}")
                if turn >= warm:
                    samples[name].append(seconds)
                    if name == "2":
                        driver.append(busy)
        facts = {"tracks": tracks, "ticks": turns, "ms": {name: 1e3 * median(times) for name, times in samples.items()}}
        facts["fastest_ms"] = {name: 1e3 * min(times) for name, times in samples.items()}
        facts |= {"period_s": ticks.period_s, "driver_us": 1e6 * median(driver) / tracks, "sizes": _sizes()}
        result = {**facts, "snapshot": _snapshot(pools["2"], Path(folder) / "2")}
        result["recovery"] = _recovery(pools["2"], ticks, deaths, facts["ms"]["2"])
        for workers in (1, 2):
            pools[str(workers)].stop()
    return result


def _sizes() -> Result:
    """Of a track, by model and dtype of its caches: bytes in memory and in a snapshot, and the numbers of a frame."""
    sizes: Result = {}
    for name in ("activity", "reid"):
        model = load_model(name)
        sizes[name] = {"features": model.input_dim, "classes": model.header.n_classes, "embedding": model.embedding_dim}
        for dtype in ("float32", "float16"):
            pool = StreamPool(model, cache_dtype=dtype)
            pool.open(0)
            one = len(pool.export_tracks([0]))
            pool.open(1)
            sizes[name][dtype] = {
                "memory": pool.bytes_per_track,
                "snapshot": len(pool.export_tracks([0, 1])) - one,
            }
    return sizes


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
    fastest = result["fastest_ms"]
    names = {"alone": "one pool in the caller's process", "1": "1 worker", "2": "2 workers"}
    rows = [
        (
            named,
            digits(ms[name]),
            digits(fastest[name]),
            digits(1e3 * ms[name] / tracks),
            f"{ms['1'] / ms[name]:.2f}x",
            f"{fastest['1'] / fastest[name]:.2f}x",
        )
        for name, named in names.items()
    ]
    intro = f"A tick of {tracks:,} tracks of `{MODEL}`, a frame each; medians of {result['ticks']}, taken in turn."
    columns = ("", "ms a tick", "fastest", "µs a track", "1 worker / this", "of the fastest")
    outro = (
        f"A snapshot of all tracks, by two workers, takes {digits(snapshot['ms'])} ms and "
        f"{snapshot['bytes'] / 1e6:.0f} MB. A worker that is killed {recovery['log']} ticks after its snapshot costs "
        f"{digits(recovery['ms'])} ms (median of {recovery['deaths']} deaths); its {recovery['in_flight']:.0f} frames "
        "in flight are reported as such."
    )
    return [Table("sharding", intro, columns, rows, outro), _track_sizes(result), _scale(result)]


def _track_sizes(result: Result) -> Table:
    rows = [
        (
            f"`{name}`",
            dtype,
            *(f"{sizes[dtype][what] / 1e3:.0f} kB" for what in ("memory", "snapshot")),
            str(4 * sizes["features"]),
            str(4 * sizes["embedding"] + 12 * sizes["classes"]),
        )
        for name, sizes in result["sizes"].items()
        for dtype in ("float32", "float16")
    ]
    columns = ("model", "caches", "memory", "snapshot", "bytes of a frame", "bytes of a decision")
    return Table("track_sizes", "A track of a pool's default capacity, 256 frames a layer.", columns, rows)


def _scale(result: Result) -> Table:
    """What so many tracks need, from what one takes: no measurement."""
    sizes, rate, us = result["sizes"][MODEL], 1 / result["period_s"], 1e3 * result["ms"]["alone"] / result["tracks"]
    sent = 4 * sizes["features"] + 8 + NAME_BYTES
    told = 4 * sizes["embedding"] + 12 * sizes["classes"] + TOLD_BYTES + NAME_BYTES
    counts = (10_000, 100_000, 1_000_000)

    def row(what: str, unit: str, of_one: float) -> tuple[str, ...]:
        return (what, *(f"{digits(count * of_one)} {unit}" for count in counts))

    rows = [
        row("frames a second", "million", rate / 1e6),
        row("workers, a core each", "cores", rate * us / 1e6),
        row("drivers, a core each", "cores", rate * result["driver_us"] / 1e6),
        row("memory, float32 caches", "GB", sizes["float32"]["memory"] / 1e9),
        row("memory, float16 caches", "GB", sizes["float16"]["memory"] / 1e9),
        row("frames to the shards", "GB/s", rate * sent / 1e9),
        row("decisions back", "GB/s", rate * told / 1e9),
        row("a snapshot of all, float32", "GB", sizes["float32"]["snapshot"] / 1e9),
        row("the driver's log of 100 ticks", "GB", 100 * sent / 1e9),
    ]
    intro = (
        f"`{MODEL}` at {rate:.0f} frames a second a track. A frame takes {us:.1f} µs of a worker and "
        f"{result['driver_us']:.2f} µs of the driver, both measured with {result['tracks']:,} tracks; the rest is "
        "multiplication."
    )
    outro = f"So one driver has time for {1e6 / (rate * result['driver_us']):,.0f} of these tracks."
    return Table("scale", intro, ("", *(f"{count:,} tracks" for count in counts)), rows, outro)


if __name__ == "__main__":
    main(__file__, measure, tables)
