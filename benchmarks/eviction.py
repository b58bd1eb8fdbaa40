"""A track of a million steps on caches that let tokens go: does a step slow down, does memory grow? One thread.

Each policy steps one cache of the default head; times are of the first and the last tenth of the steps.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import MQA, Result, Table, main, median, uniform

from wifi_densepose_temporal import AetherTemporalHead

HEAD = AetherTemporalHead(MQA)
CAPACITY, STEPS, QUICK = 256, 1_000_000, 20_000

#: Steps in a sample, and random tokens that come again and again.
SAMPLE, ROWS = 100, 9973


def measure(quick: bool) -> Result:
    """One row a policy."""
    steps = QUICK if quick else STEPS
    policies = ("sliding", "heavy-hitter")
    return {"capacity": CAPACITY, "steps": steps, "rows": [_long_track(policy, steps) for policy in policies]}


def _long_track(policy: Any, steps: int) -> Result:
    cache, (q, k, v) = HEAD.make_cache(CAPACITY, "float32", policy), uniform(MQA, ROWS)
    out, times, tenth = np.empty_like(q[0]), np.ones(steps // SAMPLE), steps // SAMPLE // 10
    for sample in range(len(times)):
        begin = sample * SAMPLE
        rows = [(begin + t) % ROWS for t in range(SAMPLE)]
        start = time.perf_counter()
        for row in rows:
            HEAD.step(q[row], k[row], v[row], cache, out=out)
        times[sample] = (time.perf_counter() - start) / SAMPLE
        if sample == tenth:
            resident = _resident_bytes()
    grown = _resident_bytes() - resident
    first, last = median(times[:tenth].tolist()), median(times[-tenth:].tolist())
    return {
        "policy": policy,
        "first_us": 1e6 * first,
        "last_us": 1e6 * last,
        "ratio": last / first,
        "cache_bytes": cache.nbytes,
        "grown_bytes": grown,
    }


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def tables(result: Result) -> list[Table]:
    """One table."""
    rows = [
        (
            row["policy"],
            f"{row['first_us']:.2f}",
            f"{row['last_us']:.2f}",
            f"{row['ratio']:.2f}",
            f"{row['cache_bytes']:,}",
            f"{row['grown_bytes']:,}",
        )
        for row in result["rows"]
    ]
    intro = (
        f"`step` of the default head into `out`, float32, capacity {result['capacity']}, {result['steps']:,} steps; "
        "medians over the first and the last tenth. Growth is the process's resident memory between them."
    )
    columns = ("policy", "µs a step, first", "last", "ratio", "bytes of the cache", "bytes grown")
    return [Table("eviction", intro, columns, rows)]


if __name__ == "__main__":
    main(__file__, measure, tables)
