"""What the node's calls cost on emulated chips, counted in instructions: the table of docs/firmware.md.

Counts depend on the C files and the compiler, and on no load. Needs the packages of firmware/emulation/packages.txt.
--quick counts on one target instead of all.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from measure import Result, Table, main

from wifi_densepose_temporal.node.bench import CASES, Row, assumption, facts
from wifi_densepose_temporal.node.bench import measure as count
from wifi_densepose_temporal.node.emulation import COUNTED, TARGETS, build

#: Cases that do the same whether caches are float32 or float16.
NO_CACHE = {case for case in CASES if case.endswith(("_init", "window_push", "session_classify", "_features"))}


def measure(quick: bool) -> Result:
    """Rows of each target, its compiler and emulator, and the clocks that times are made with."""
    names = COUNTED[:1] if quick else COUNTED
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows += count(build(TARGETS[name], Path(folder) / name))
    return facts(rows)


def tables(result: Result) -> list[Table]:
    """One row a case and dtype, instructions and times of every target beside each other."""
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    for given in result["rows"]:
        row = Row(**given)
        if row.dtype == "float32" or row.case not in NO_CACHE:
            rows.setdefault((row.case, row.dtype), {})[row.target] = row
    targets = result["targets"]
    clocks = {name: target["chips"][0] for name, target in targets.items()}
    columns = ["a call", "caches", *(f"{name}, instructions" for name in targets)]
    columns += [f"ms, {chip['name']} at {chip['mhz']} MHz" for chip in clocks.values()]
    cells = [
        [
            CASES[case],
            "" if case in NO_CACHE or case == "attention_window" else dtype,
            *(f"{row.instructions:,}" for row in of.values()),
            *(_times(row, clocks[name]["mhz"], result) for name, row in of.items()),
            *_sizes(list(of.values())),
        ]
        for (case, dtype), of in rows.items()
    ]
    return [Table("node", _intro(result), [*columns, "stack", "heap"], cells, assumption())]


def _intro(result: Result) -> str:
    code = {row["target"]: f"{row['target']} {row['code_bytes']:,}" for row in result["rows"]}
    units = ", ".join(f"{name} {target['counted_in_instructions']}" for name, target in result["targets"].items())
    software = "; ".join(f"{name}: {target['software']}" for name, target in result["targets"].items())
    return (
        f"`wdt node bench` ({software}). Bytes of code, constants and initialised data, C library included: "
        f"{', '.join(code.values())}. Stack and heap in bytes, the largest of the targets; the heap of the C ABI "
        f"is its one allocation, besides the blob. Counts are exact to within, in instructions: {units}."
    )


def _times(row: Row, mhz: float, result: Result) -> str:
    times = [row.milliseconds(mhz, cycles) for cycles in result["cycles_per_instruction_assumed"]]
    return " to ".join(f"{ms:.0f}" if ms >= 10 else f"{ms:.1f}" if ms >= 1 else f"{ms:.3f}" for ms in times)


def _sizes(rows: list[Row]) -> tuple[str, str]:
    return f"{max(row.stack_bytes for row in rows):,}", f"{max(row.heap_bytes for row in rows):,}"


if __name__ == "__main__":
    main(__file__, measure, tables)
