"""What all benchmarks share: interleaved timing, the facts about a run, tables, and the JSON file.

A benchmark is a script with `measure(quick)`, which gives its result as a JSON object, and `tables(result)`, which lays
that out for reading; `main` is its command line. `report.py` lays the same files out as docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

import wifi_densepose_temporal
from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.speedup import HEADS, machine

Result = dict[str, Any]

#: The fewest samples of a call; of one that takes longer than LONG_S, once its budget is spent.
MIN_SAMPLES, MIN_LONG_SAMPLES = 20, 5
LONG_S = 0.1

#: A sample is so many calls that it takes about this long: much more than reading the clock.
SAMPLE_S = 300e-6

MQA, MHA = HEADS["aether"], HEADS["bench"]


def nothing() -> None:
    """Done before a sample where nothing has to be."""


@dataclass(frozen=True)
class Case:
    """A call to time."""

    call: Callable[[], object]
    before: Callable[[], object] = nothing
    """Called before each sample, and not timed."""
    calls: int | None = None
    """In a sample; None takes as many as SAMPLE_S has room for."""


def interleave(cases: dict[str, Case], turns: int, budget_s: float = math.inf) -> dict[str, list[float]]:
    """Seconds per call, for each case one number per turn.

    Every turn goes over all cases, so that a machine that is slower for a while is slower for all. Before each sample
    the case is called once, which brings its data into the caches.

    Args:
        cases: what to time, by name.
        turns: samples of each case.
        budget_s: seconds of a case after which it gets no more samples than it needs (MIN_SAMPLES, MIN_LONG_SAMPLES).
    """
    samples: dict[str, list[float]] = {name: [] for name in cases}
    calls = {name: case.calls or _calls_per_sample(case) for name, case in cases.items()}
    gc.collect()
    gc.disable()
    try:
        for _ in range(turns):
            for name, case in cases.items():
                if not _has_enough(samples[name], calls[name], budget_s):
                    samples[name].append(_sample(case, calls[name]))
    finally:
        gc.enable()
    return samples


def _calls_per_sample(case: Case) -> int:
    _sample(case, 1)
    return max(1, round(SAMPLE_S / _sample(case, 1)))


def _sample(case: Case, calls: int) -> float:
    case.before()
    case.call()
    call, repeats = case.call, range(calls)
    start = time.perf_counter()
    for _ in repeats:
        call()
    return (time.perf_counter() - start) / calls


def _has_enough(samples: list[float], calls: int, budget_s: float) -> bool:
    if not samples:
        return False
    least = MIN_LONG_SAMPLES if samples[0] > LONG_S else MIN_SAMPLES
    return len(samples) >= least and sum(samples) * calls > budget_s


median = statistics.median


def using(instruction_set: str) -> None:
    """Takes this set's kernels from here on; one that `_core.instruction_sets()` names."""
    if not _core.use_instruction_set(instruction_set):
        raise ValueError(f"{instruction_set} is not among {_core.instruction_sets()}")


def uniform(config: TemporalHeadConfig, *lead: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Synthetic q `[*lead, Hq, D]`, k and v `[*lead, Hkv, D]`, uniform in [-1, 1)."""
    rng = np.random.default_rng(seed)

    def draw(heads: int) -> Floats:
        return rng.uniform(-1, 1, (*lead, heads, config.head_dim)).astype(np.float32)

    return draw(config.q_heads), draw(config.kv_heads), draw(config.kv_heads)


# ------------------------------------------------------------------------------------------- tables and files


@dataclass(frozen=True)
class Table:
    """Cells as texts, with sentences before (what it is) and after (what it shows)."""

    name: str
    intro: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    outro: str = ""

    def markdown(self) -> str:
        """As docs/performance.md has it: figures to the right."""
        return "\n\n".join(part for part in (self.intro, markdown(self.columns, self.rows), self.outro) if part)

    def show(self, console: Console) -> None:
        """On a terminal."""
        table = RichTable(title=self.intro, title_justify="left", caption=self.outro or None, caption_justify="left")
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="left" if i == 0 else "right")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table whose first `texts` columns are words, and the others figures."""
    lines = ["| " + " | ".join(row) + " |" for row in (columns, *rows)]
    aligned = ("---" if number < texts else "---:" for number in range(len(columns)))
    return "\n".join([lines[0], f"|{'|'.join(aligned)}|", *lines[1:]])


def digits(x: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{x:.0f}" if abs(x) >= 100 else f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}" if abs(x) >= 1 else f"{x:.3f}"


def software() -> str:
    """Versions that a figure depends on, and the set in use."""
    ours = f"wifi-densepose-temporal {wifi_densepose_temporal.__version__} ({_core.instruction_set()})"
    return f"{ours}, Python {platform.python_version()}, NumPy {np.__version__}"


def main(script: str, measure: Callable[[bool], Result], tables: Callable[[Result], list[Table]]) -> None:
    """The command line of a benchmark: measures, prints tables, writes JSON.

    Args:
        script: its `__file__`.
        measure: given `--quick` or not, gives the result.
        tables: lays a result out.
    """
    name = Path(script).stem
    parser = argparse.ArgumentParser(prog=f"python benchmarks/{name}.py")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="also write the result here")
    parser.add_argument("--quick", action="store_true", help="few samples: shows that it runs, not how fast")
    given = parser.parse_args()
    facts: Result = {"benchmark": name, "source": "synthetic", "machine": machine(), "software": software()}
    facts["load"] = os.getloadavg()[0]
    start = time.perf_counter()
    result = {**facts, "quick": given.quick, **measure(given.quick)}
    result["seconds"] = round(time.perf_counter() - start, 1)
    console = Console(width=None if Console().is_terminal else 160)
    console.print(f"{result['machine']}; {result['software']}; synthetic input; {result['seconds']} s")
    for table in tables(result):
        table.show(console)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(result, indent=1) + "\n")
