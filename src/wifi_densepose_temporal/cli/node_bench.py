"""`wdt node bench`: what the node's calls cost on emulated chips. The measuring is in node/bench.py."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table
from wifi_densepose_temporal.node.bench import CASES, CYCLES, Row, assumption, facts, measure
from wifi_densepose_temporal.node.emulation import COUNTED, TARGETS, Target, build, versions


def _known_target(name: str | None) -> str | None:
    if name is not None and name not in COUNTED:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(COUNTED)}")
    return name


def node_bench(
    target: Annotated[
        str | None, typer.Option(metavar="T", callback=_known_target, help=f"One alone: {', '.join(COUNTED)}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count what the node's code costs on emulated chips.

    Instructions, stack, heap and code of each call. Builds bare-metal images from the repository's C files: run it in
    a clone, with the cross-compilers and QEMU installed (an error names Debian's packages).
    """
    names = [target] if target else list(COUNTED)
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="wdt-") as folder,
        Progress(
            console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal
        ) as progress,
    ):
        task = progress.add_task("", total=2 * len(names))
        for name in names:
            progress.update(task, description=f"building {name}")
            image = build(TARGETS[name], Path(folder) / name)
            progress.update(task, advance=1, description=f"running {name}")
            rows += measure(image)
            progress.advance(task)
    if as_json:
        print_json(facts(rows))
        return
    for name in names:
        _print(TARGETS[name], [row for row in rows if row.target == name])
    print_table(CASES.items(), ("case", "a call of it"), words=("case", "a call of it"))
    print_line(assumption())


def _print(target: Target, rows: list[Row]) -> None:
    """A line a case, caches in float32; the float16 column is empty where a case keeps none."""
    print_line(f"{target.name}: {versions(target)}; code and constants {rows[0].code_bytes} bytes", style="bold")
    cells = []
    for case in CASES:
        full, *half = [row for row in rows if row.case == case]
        other = f"{half[0].instructions:,}" if half else None
        cells.append((case, f"{full.instructions:,}", other, *_times(target, full), full.stack_bytes, full.heap_bytes))
    clocks = [f"ms, {chip}" for chip, _ in target.chips]
    print_table(cells, ("case", "instructions", "float16", *clocks, "stack", "heap"), words=("case",))


def _times(target: Target, row: Row) -> list[str]:
    return [" to ".join(_short(row.milliseconds(mhz, cycles)) for cycles in CYCLES) for _, mhz in target.chips]


def _short(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 10 else f"{ms:.2f}"
