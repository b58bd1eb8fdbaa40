"""A whole window through `forward`, one thread, with every instruction set: time, GFLOP/s, share of the core's peak.

The peak is `_core.multiply_add`: multiplications and additions in registers alone, timed in the same turns. A pair of
query and candidate costs 4 D floating-point operations per query head, as `edge_count` says; means of blocks, maxima
and exponentials are not counted.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
from measure import MHA, MQA, Case, Result, Table, digits, interleave, main, median, uniform, using

from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig, _core

CASES = {
    "MQA": (1024, MQA),
    "MHA": (1024, MHA),
    "GQA": (1024, dataclasses.replace(MQA, kv_heads=2)),
    "MQA, D = 64": (1024, dataclasses.replace(MQA, head_dim=64)),
    "MQA, T = 100": (100, MQA),
}

#: Rounds of `multiply_add` in a burst: about half a millisecond with a vector set.
PEAK_ROUNDS = 300_000

#: Floats that are copied for the memory's bandwidth: far more than caches hold.
COPIED = 64 << 20


def flops(config: TemporalHeadConfig, length: int) -> float:
    """Of `forward` over `length` positions."""
    return 4.0 * config.head_dim * config.q_heads * AetherTemporalHead(config).edge_count(length)


def bytes_touched(config: TemporalHeadConfig, length: int) -> int:
    """Of q, k, v and the output, each once."""
    return 4 * length * config.head_dim * 2 * (config.q_heads + config.kv_heads)


def measure(quick: bool) -> Result:
    """Every case, with and without `out`, and the peak, with every set, in the same turns."""
    sets = _core.instruction_sets()
    default = _core.instruction_set()
    cases: dict[str, Case] = {}
    for name in sets:
        choose = partial(using, name)
        cases[f"{name}/peak"] = Case(partial(_core.multiply_add, PEAK_ROUNDS), choose, calls=1)
        for title, (length, config) in CASES.items():
            head, qkv = AetherTemporalHead(config), uniform(config, length)
            into = np.empty_like(qkv[0])
            cases[f"{name}/{title}/new"] = Case(partial(head.forward, *qkv), choose)
            cases[f"{name}/{title}/out"] = Case(partial(head.forward, *qkv, out=into), choose)
    times = interleave(cases, turns=3 if quick else 100)
    result = {
        "samples": len(times[f"{sets[0]}/peak"]),
        "peaks": {name: _peak(name, times[f"{name}/peak"]) for name in sets},
        "rows": [_row(name, title, times) for title in CASES for name in sets],
    }
    using(default)
    return {**result, "copy_gb_s": _copy_gb_s(turns=3 if quick else 30)}


def _peak(name: str, seconds: list[float]) -> float:
    using(name)
    return _core.multiply_add(PEAK_ROUNDS) / median(seconds) / 1e9


def _row(name: str, title: str, times: dict[str, list[float]]) -> Result:
    length, config = CASES[title]
    seconds = median(times[f"{name}/{title}/out"])
    return {
        "case": title,
        "set": name,
        "T": length,
        "config": dataclasses.asdict(config),
        "ms": 1e3 * median(times[f"{name}/{title}/new"]),
        "ms_out": 1e3 * seconds,
        "flops": flops(config, length),
        "bytes": bytes_touched(config, length),
        "gflops": flops(config, length) / seconds / 1e9,
    }


def _copy_gb_s(turns: int) -> float:
    """Bytes read and bytes written per second, when NumPy copies a large array."""
    source, target = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
    seconds = median(interleave({"copy": Case(partial(np.copyto, target, source), calls=1)}, turns)["copy"])
    return 2 * source.nbytes / seconds / 1e9


def yardstick(result: Result) -> str:
    """The set whose peak all are compared with: AVX2, or the fastest where there is none."""
    peaks = result["peaks"]
    return "avx2" if "avx2" in peaks else max(peaks, key=peaks.__getitem__)


def tables(result: Result) -> list[Table]:
    """Kernels by set, and the peaks."""
    peaks, best = result["peaks"], yardstick(result)
    columns = ("case", "set", "ms, into `out`", "ms, new array", "GFLOP/s", f"% of {best} peak", "% of own peak")
    rows = []
    for row in result["rows"]:
        speed = row["gflops"]
        own = "" if row["set"] == "scalar" else f"{100 * speed / peaks[row['set']]:.0f}"
        times = digits(row["ms_out"]), digits(row["ms"])
        rows.append((row["case"], row["set"], *times, digits(speed), f"{100 * speed / peaks[best]:.1f}", own))
    listed = ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items())
    return [
        Table(
            "prefill",
            f"4 query heads of 32 and T = 1024 unless the case says otherwise; medians of {result['samples']} samples.",
            columns,
            rows,
            f"Peak of `multiply_add` in GFLOP/s, in the same turns: {listed}. That of scalar is one chain of dependent "
            f"operations, not what the core could do, so it has no own share. "
            f"Memory, copied by NumPy (bytes read plus written): {result['copy_gb_s']:.1f} GB/s.",
        )
    ]


if __name__ == "__main__":
    main(__file__, measure, tables)
