"""One call of `forward` on one thread and on more: time, and that every bit of the result is the same."""

from __future__ import annotations

import os
from functools import partial

import numpy as np
from measure import MQA, Case, Result, Table, digits, interleave, main, median, uniform

from wifi_densepose_temporal import AetherTemporalHead

HEAD = AetherTemporalHead(MQA)
CASES = {"T = 1024": (1024,), "T = 8192": (8192,), "64 windows of T = 100": (64, 100)}


def measure(quick: bool) -> Result:
    """All shapes and numbers of threads in the same turns, into memory that is there."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    counts = [n for n in (1, 2, 4) if n <= max(cores, 2)]
    cases: dict[str, Case] = {}
    equal: dict[str, bool] = {}
    for name, shape in CASES.items():
        qkv = uniform(MQA, *shape)
        one = HEAD.forward(*qkv)
        for n in counts:
            into = np.full_like(qkv[0], np.nan)
            call = partial(HEAD.forward, *qkv, threads=n, out=into)
            call()
            equal[f"{name}/{n}"] = into.tobytes() == one.tobytes()
            cases[f"{name}/{n}"] = Case(call)
    times = interleave(cases, turns=3 if quick else 100)
    rows = [
        {
            "case": name,
            "threads": n,
            "ms": 1e3 * median(times[f"{name}/{n}"]),
            "ratio": median(times[f"{name}/1"]) / median(times[f"{name}/{n}"]),
            "equal": equal[f"{name}/{n}"],
        }
        for name in CASES
        for n in counts
    ]
    return {"cores": cores, "samples": len(times["T = 1024/1"]), "rows": rows}


def tables(result: Result) -> list[Table]:
    """Times and ratios."""
    rows = [
        (row["case"], str(row["threads"]), digits(row["ms"]), f"{row['ratio']:.2f}x", "yes" if row["equal"] else "NO")
        for row in result["rows"]
    ]
    intro = f"`forward` of the default head on {result['cores']} cores; medians of {result['samples']} samples."
    return [Table("threads", intro, ("input", "threads", "ms", "one thread / this", "same bits"), rows)]


if __name__ == "__main__":
    main(__file__, measure, tables)
