"""Lays benchmarks/results/*.json out: tables of docs/*.md and of the README, and docs/roofline.png.

Text between `<!-- name -->` and `<!-- end name -->` is written by this script; the rest of the pages is not touched.
`--check` writes nothing, and fails if a page is not what would be written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import against_torch
import backward
import decode
import eviction
import gallery
import node
import pool
import prefill
import sharding
import threads
from measure import Result, Table, digits

from wifi_densepose_temporal import StreamPool, load_model

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = (
    ROOT / "docs" / "performance.md",
    ROOT / "docs" / "firmware.md",
    ROOT / "docs" / "scale.md",
    ROOT / "README.md",
)
SCRIPTS = {
    "prefill": prefill,
    "against_torch": against_torch,
    "decode": decode,
    "backward": backward,
    "threads": threads,
    "pool": pool,
    "eviction": eviction,
    "gallery": gallery,
}


def read_results() -> dict[str, Result]:
    """All result files, by benchmark."""
    return {
        name: json.loads((RESULTS / f"{name}.json").read_text()) for name in (*SCRIPTS, "sharding", "node", "speedup")
    }


def sections(results: dict[str, Result]) -> dict[str, str]:
    """What stands between the markers, by name."""
    scripts = SCRIPTS | {"sharding": sharding, "node": node}  # node measures no time: of no machine's facts
    tables = [table for name, script in scripts.items() for table in script.tables(results[name])]
    texts = {table.name: table.markdown() for table in tables}
    return texts | {
        "machine": _machine(results),
        "tracks_a_core": tracks_a_core(results["pool"]).markdown(),
        "sharding_machine": "{machine}; {software}. Load average before it started: {load:.1f}.".format(
            **results["sharding"]
        ),
        "summary": summary(results).markdown(),
        "speedup": speedup(results["speedup"]).markdown(),
    }


def _machine(results: dict[str, Result]) -> str:
    facts = [results[name] for name in SCRIPTS]
    lines = sorted({f"{fact['machine']}; {fact['software']}" for fact in facts})
    loads = ", ".join(f"{name} {results[name]['load']:.1f}" for name in SCRIPTS)
    quick = ["**Made with --quick: these figures show that the scripts run, and nothing else.**"] * any(
        fact["quick"] for fact in facts
    )
    return "\n\n".join([*quick, *lines, f"Load average before each script started: {loads}."])


def summary(results: dict[str, Result]) -> Table:
    """The README's few lines."""
    windows = {(row["case"], row["set"]): row for row in results["prefill"]["rows"]}
    fastest = next(iter(results["prefill"]["peaks"]))
    yardstick = prefill.yardstick(results["prefill"])
    peak = results["prefill"]["peaks"][yardstick]
    ratios = {row["T"]: row["ms"]["sdpa"] / row["ms"]["sparse"] for row in results["against_torch"]["rows"]}
    steps = [row for row in results["decode"]["step"] if row["way"] == "out"]
    small, large = results["decode"]["small_batches"]
    gradient = next(row for row in results["backward"]["rows"] if row["head"] == "MQA" and row["T"] == 1024)
    shared = {(row["case"], row["threads"]): row["ratio"] for row in results["threads"]["rows"]}
    pooled = next(row for row in results["pool"]["cases"] if (row["model"], row["dtype"]) == ("activity", "float32"))
    evicting = {row["policy"]: row for row in results["eviction"]["rows"]}
    searched = results["gallery"]["galleries"][-1]

    def window(case: str) -> str:
        row = windows[case, fastest]
        share = 100 * row["gflops"] / peak
        return f"{digits(row['ms_out'])} ms, {share:.0f} % of the core's {yardstick.upper()} multiply-add peak"

    named = [f"T = {length}: {digits(ratios[length])}x" for length in (64, 512, 2048, 8192) if length in ratios]
    rows = [
        ("window of 1,024 frames, 1 key/value head (the AETHER head)", window("MQA")),
        ("window of 1,024 frames, 4 key/value heads", window("MHA")),
        ("the AETHER head against PyTorch's attention over all pairs, one thread", ", ".join(named)),
        (
            f"a frame, after {' and '.join(format(row['T'], ',') for row in steps)} frames",
            " and ".join(f"{row['us']:.1f} µs" for row in steps),
        ),
        (
            f"a frame of one of {small['tracks']} and of {large['tracks']:,} tracks, in one call",
            f"{small['us_per_track']:.1f} and {large['us_per_track']:.1f} µs",
        ),
        (
            f"a frame of one of {results['pool']['tracks']:,} tracks through `activity`, in a pool",
            f"{pooled['us']:.1f} µs, {pooled['bytes_per_track'] / 1e3:.0f} kB a track",
        ),
        (
            f"a step on a cache of {results['eviction']['capacity']} tokens, the last tenth of "
            f"{results['eviction']['steps']:,} against the first",
            ", ".join(f"{policy} {row['ratio']:.2f}x" for policy, row in evicting.items()),
        ),
        (
            f"`identify` of one embedding among {searched['vectors']:,}, all compared",
            f"{searched['exact_ms']['even']['p50']:.1f} ms",
        ),
        ("a frame through the reference blob's model", f"{results['decode']['model']['push_us']:.1f} µs"),
        ("gradient, T = 1024", f"{gradient['backward_ms'] / gradient['forward_ms']:.1f} times the forward pass"),
        ("two threads, T = 8192", f"{shared['T = 8192', 2]:.2f}x"),
    ]
    return Table("summary", "", ("through Python, float32", "median"), rows)


def tracks_a_core(result: Result) -> Table:
    """How many tracks a core has time for, from what a frame takes of it."""
    rows = []
    for case in result["cases"]:
        rate = 1 / StreamPool(load_model(case["model"])).period_s
        tracks = 1e6 / (rate * case["cpu_us"])
        rows.append((f"`{case['model']}`", case["dtype"], f"{case['cpu_us']:.1f}", f"{rate:.0f}", f"{tracks:,.0f}"))
    columns = ("model", "caches", "µs of a core a frame", "frames a second", "tracks a core")
    return Table("tracks_a_core", f"From `benchmarks/pool.py`, with {result['tracks']:,} tracks.", columns, rows)


def speedup(result: Result) -> Table:
    """`wdt bench-speedup`, from its JSON."""
    columns = ("T", "sparse ms", "dense ms", "speed-up", "pairs per head, dense / sparse")
    rows = [
        (
            str(row["T"]),
            digits(row["sparse_ms"]),
            digits(row["dense_ms"]),
            f"{digits(row['speedup'])}x",
            f"{digits(row['edge_ratio'])}x",
        )
        for row in result["rows"]
    ]
    first = next(row for row in result["rows"] if row["T"] == 1024)
    last = result["rows"][-1]
    outro = (
        f"Sparse time grows {last['sparse_ms'] / first['sparse_ms']:.0f}-fold from T = 1024 to {last['T']}, the number "
        f"of pairs {last['sparse_edges'] / first['sparse_edges']:.0f}-fold."
    )
    return Table("speedup", "", columns, rows, outro)


def filled_in(page: str, texts: dict[str, str]) -> str:
    """The page with each marked place's text.

    Raises:
        KeyError: a marker that no table has.
    """

    def text(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- {name} -->\n{texts[name]}\n<!-- end {name} -->"

    return re.sub(r"<!-- (\w+) -->\n(?:.*?\n)??<!-- end \1 -->", text, page, flags=re.DOTALL)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/report.py")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    given = parser.parse_args()
    results = read_results()
    texts = sections(results)
    unplaced = [name for name in texts if not any(f"<!-- {name} -->" in path.read_text() for path in PAGES)]
    if unplaced:
        sys.exit(f"no page has a place for {', '.join(unplaced)}")
    for path in PAGES:
        page = path.read_text()
        new = filled_in(page, texts)
        if given.check and new != page:
            sys.exit(f"{path.relative_to(ROOT)} is not what benchmarks/results says: run python benchmarks/report.py")
        if not given.check:
            path.write_text(new)
    if not given.check:
        from roofline import draw  # matplotlib takes a second to import

        draw(results, ROOT / "docs" / "roofline.png")


if __name__ == "__main__":
    main()
