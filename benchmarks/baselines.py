"""Plain scikit-learn baselines on the recordings of ../shared/data: what a temporal head has to beat, from one command.

    python benchmarks/baselines.py --data ../shared/data -o benchmarks/results/baselines.json [--only NAME]

Two to three minutes on one core. Features are in baseline_features.py, splits and estimators in baseline_activity.py
and baseline_identity.py, and what a row of the result holds in baseline_row.py.

What is varied between rows (one step or several, parts, which columns) is reported whole, next to each other, and was
not chosen by nested splits: taking the best row of a split flatters the baseline, never the head that is held against
it. A row marked "never use" shows what a random split of windows would have claimed for the same baseline.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import sklearn
from baseline_activity import har, har_adapted, stability
from baseline_identity import wiper81
from baseline_row import SEEDS, no_row, percent
from measure import Result, Table, software
from rich.console import Console

from wifi_densepose_temporal.speedup import machine

#: Name to the data set's folder and its rows.
GROUPS: dict[str, tuple[str, Callable[[Path], list[Result]]]] = {
    "esp32-stability": ("esp32-stability", stability),
    "csi-har": ("csi-har", har),
    "csi-har-adapted": ("csi-har", har_adapted),
    "wiper81": ("wiper81", wiper81),
}

#: First metric of the group's table, then the others.
METRICS = ("accuracy", "macro_f1", "rank1", "rank5", "rank10", "map", "auc")


def measure(data: Path, names: list[str]) -> Result:
    """The rows of some of `GROUPS`.

    Args:
        data: the folder that holds the data sets' folders; a data set that is not there is unavailable.
        names: of the groups.
    """
    rows: list[Result] = []
    for name in names:
        folder, group = GROUPS[name]
        if not (data / folder).is_dir():
            rows.append(no_row(name, "", f"there is no folder {folder}") | {"group": name})
            continue
        rows += [{"group": name, **row} for row in group(data)]
    return {"seeds": list(SEEDS), "rows": rows}


def tables(result: Result) -> list[Table]:
    """One table for each group: figures in percent as mean and spread."""
    made = []
    for name in dict.fromkeys(row["group"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["group"] == name]
        metrics = [metric for metric in METRICS if any(metric in row["metrics"] for row in rows)] or METRICS[:1]
        lines = [[_title(row), *(cell(row, metric) for metric in metrics)] for row in rows]
        made.append(Table(f"baselines_{name.replace('-', '_')}", name, ("row", *metrics), lines))
    return made


def cell(row: Result, metric: str) -> str:
    """A metric of a row as a text: ``62.4 ± 1.5``, in percent."""
    if row["unavailable"]:
        return "unavailable"
    if metric not in row["metrics"]:
        return ""
    return percent(row["metrics"][metric])


def _title(row: Result) -> str:
    return row["name"] + (" (NEVER USE)" if row["never_use"] else "")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/baselines.py")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="holds the data sets' folders")
    parser.add_argument("-o", type=Path, metavar="OUT.json", dest="out", help="also write the result here")
    parser.add_argument("--only", choices=GROUPS, help="the rows of one group; OUT.json then holds no others")
    given = parser.parse_args()
    if not given.data.is_dir():
        parser.error(f"--data: there is no folder {given.data}")
    names = [given.only] if given.only else list(GROUPS)
    only = f" --only {given.only}" if given.only else ""
    facts: Result = {
        "benchmark": "baselines",
        "command": f"python benchmarks/baselines.py --data FOLDER -o OUT.json{only}",
        "source": "replay",
        "machine": machine(),
        "software": f"{software()}, scikit-learn {sklearn.__version__}",
        "load": os.getloadavg()[0],
    }
    start = time.perf_counter()
    result = {**facts, **measure(given.data, names)}
    result["seconds"] = round(time.perf_counter() - start, 1)
    console = Console(width=None if Console().is_terminal else 160)
    console.print(f"{result['machine']}; {result['software']}; {result['seconds']} s; percent, mean and spread")
    for table in tables(result):
        table.show(console)
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
