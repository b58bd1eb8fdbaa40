"""Thousands of tracks: `StreamPool.push` with decisions and smoothing, against a `Stream` for each, pushed one by one.

Of each case a pool of `tracks` takes `frames` frames a track, in one thread; a sample is one call, which pushes a
frame into every track. Between two frames of a track all others come, so that it is out of the processor's caches.
Streams are of the same policy and capacity, and are measured right after, over fewer frames.
"""

from __future__ import annotations

import gc
import time
from functools import partial
from typing import Any

import numpy as np
from measure import Result, Table, main, median

from wifi_densepose_temporal import StreamPool, load_model

CASES = [("activity", "float32"), ("activity", "float16"), ("reid", "float32"), ("reid", "float16")]


def measure(quick: bool) -> Result:
    """Both models, both kinds of caches."""
    tracks, frames, alone = (500, 5, 2) if quick else (10_000, 100, 10)
    return {
        "tracks": tracks,
        "frames": frames,
        "cases": [_measure_case(name, dtype, tracks, frames, alone) for name, dtype in CASES],
    }


def _measure_case(name: str, dtype: Any, tracks: int, frames: int, alone: int) -> Result:
    model = load_model(name)
    rows = np.random.default_rng(0).standard_normal((tracks, model.input_dim)).astype(np.float32)
    pool = StreamPool(model, cache_dtype=dtype, source="synthetic")
    ids = [f"track {i}" for i in range(tracks)]
    for track in ids:
        pool.open(track)

    def push_all(t: int) -> None:
        _ = pool.push(ids, rows, np.full(tracks, pool.period_s * t)).smoothed_labels

    samples = [_time(partial(push_all, t)) for t in range(frames)]
    seconds, busy = zip(*samples, strict=True)
    figures = {
        "model": name,
        "dtype": dtype,
        "us": 1e6 * median(seconds) / tracks,
        "cpu_us": 1e6 * median(busy) / tracks,
        "fastest_us": 1e6 * min(seconds) / tracks,
    }
    figures |= {"bytes_per_track": pool.bytes_per_track, "samples": frames}
    for track in ids:
        pool.close(track)
    streams = [model.stream(256, dtype, "synthetic", policy="sliding", landmark_blocks=256) for _ in range(tracks)]

    def push_each() -> None:
        for stream, row in zip(streams, rows, strict=True):
            stream.push(row)

    for _ in range(alone):
        push_each()
    apart = [_time(push_each) for _ in range(alone)]
    return figures | {
        "streams_us": 1e6 * median(wall for wall, _ in apart) / tracks,
        "streams_cpu_us": 1e6 * median(busy for _, busy in apart) / tracks,
        "streams_samples": alone,
    }


def _time(call: Any) -> tuple[float, float]:
    """Seconds that a call takes, and seconds of a processor: fewer, where something else runs too."""
    gc.disable()
    try:
        start, busy = time.perf_counter(), time.process_time()
        call()
        return time.perf_counter() - start, time.process_time() - busy
    finally:
        gc.enable()


def tables(result: Result) -> list[Table]:
    """One row a case."""
    rows = [
        (
            f"`{case['model']}`",
            case["dtype"],
            f"{case['us']:.1f} ({case['cpu_us']:.1f})",
            f"{case['streams_us']:.1f} ({case['streams_cpu_us']:.1f})",
            f"{case['bytes_per_track']:,}",
        )
        for case in result["cases"]
    ]
    intro = (
        f"`StreamPool.push` of {result['tracks']:,} tracks, sliding caches of 256 frames, one thread, smoothing and "
        f"times included; medians of {result['frames']} calls. In brackets the processor's time. "
        "Beside it a `Stream` for each, without smoothing."
    )
    columns = ("model", "cache", "µs a track and frame", "µs with streams", "bytes a track")
    return [Table("pool", intro, columns, rows)]


if __name__ == "__main__":
    main(__file__, measure, tables)
