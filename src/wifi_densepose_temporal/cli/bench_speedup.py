"""`wdt bench-speedup`: sparse against dense attention on this machine. The measuring is in speedup.py."""

from __future__ import annotations

import dataclasses
import logging
import platform
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

import wifi_densepose_temporal
from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table
from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.speedup import HEADS, SpeedupRow, machine, measure, powers_of_two

logger = logging.getLogger(__name__)

COLUMNS = ("T", "sparse ms", "dense ms", "speedup", "edges sparse", "edges dense", "edge ratio")


class HeadName(StrEnum):
    """Heads that can be measured by name."""

    BENCH = "bench"
    AETHER = "aether"


SizeOption = Annotated[int | None, typer.Option(metavar="N", help="Instead of the named head's.")]


def bench_speedup(
    min_t: Annotated[int, typer.Option(min=1, help="Shortest sequence; powers of two are measured.")] = 64,
    max_t: Annotated[int, typer.Option(min=1, max=1 << 20, help="Longest sequence.")] = 8192,
    repeat: Annotated[int, typer.Option(min=1, help="Calls of the sparse head per length; medians are shown.")] = 20,
    dense_budget: Annotated[
        float, typer.Option(min=0, metavar="S", help="Seconds per length after which dense stops, at 3 calls or more.")
    ] = 5.0,
    heads_config: Annotated[
        HeadName, typer.Option(help="The head of the README's table, or the model's.")
    ] = HeadName.BENCH,
    q_heads: SizeOption = None,
    kv_heads: SizeOption = None,
    head_dim: SizeOption = None,
    window: SizeOption = None,
    block_size: SizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure sparse against dense attention.

    Side by side on this machine, on random input, over sequences of growing length.
    """
    sizes = {
        "q_heads": q_heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "window": window,
        "block_size": block_size,
    }
    given: dict[str, Any] = {name: value for name, value in sizes.items() if value is not None}
    config = dataclasses.replace(HEADS[heads_config], **given)
    lengths = powers_of_two(min_t, max_t)
    with Progress(
        console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal
    ) as progress:
        task = progress.add_task("measuring", total=repeat * len(lengths))
        logger.info("measuring T=%s", ", ".join(map(str, lengths)))
        rows = measure(lengths, config, repeat, dense_budget, lambda: progress.advance(task))
    _print(rows, config, repeat, as_json)


def _print(rows: list[SpeedupRow], config: TemporalHeadConfig, repeat: int, as_json: bool) -> None:
    software = f"wifi-densepose-temporal {wifi_densepose_temporal.__version__}, Python {platform.python_version()}"
    if as_json:
        print_json(
            {
                "source": "synthetic",
                "machine": machine(),
                "software": software,
                "repeat": repeat,
                "config": dataclasses.asdict(config),
                "rows": [dataclasses.asdict(row) for row in rows],
            }
        )
        return
    print_line(f"{machine()}; {software}", style="bold")
    heads = f"{config.q_heads} query heads, {config.kv_heads} key/value heads of {config.head_dim}"
    dense = min(row.dense_repeats for row in rows)
    print_line(f"{heads}, window {config.window}, block {config.block_size}")
    print_line(f"medians of {repeat} alternating calls (dense: {dense} or more)")
    print_table([_cells(row) for row in rows], COLUMNS)
    print_line("source synthetic: uniform random input. Edges are (query, candidate) pairs per query head.")


def _cells(row: SpeedupRow) -> list[object]:
    return [
        row.T,
        f"{row.sparse_ms:.3f}",
        f"{row.dense_ms:.3f}",
        f"{row.speedup:.2f}x",
        row.sparse_edges,
        row.dense_edges,
        f"{row.edge_ratio:.2f}x",
    ]
