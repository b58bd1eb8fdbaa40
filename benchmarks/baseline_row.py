"""A row of the baselines' table: what was done, in words, and its figures as mean and spread. No data, no estimators.

The rows are plain JSON objects, so that a page can take its figures from benchmarks/results/baselines.json:

    name        data set, split and baseline, unique: "esp32-stability/D2/motion"
    baseline    features and estimator, in words
    split       in words
    metrics     name to {mean, spread, values, over}: shares from 0 to 1; the spread is the standard deviation over
                seeds, draws or folds (n - 1); {} where the data set has no such part
    tested      windows or recordings of one run of the test
    unavailable why there is no figure, or None
    never_use   why no such figure may be compared with others, or None
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from measure import Result

SEEDS = (0, 1, 2)


def summary(values: Sequence[float], over: str) -> Result:
    """Mean and spread of one metric, and the values themselves."""
    return {
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else 0.0,
        "values": [round(float(value), 6) for value in values],
        "over": over,
    }


def summaries(runs: Sequence[Mapping[str, float]], over: str) -> dict[str, Result]:
    """Mean and spread of each metric of several runs."""
    return {name: summary([run[name] for run in runs], over) for name in runs[0]}


def percent(figure: Result) -> str:
    """A share of any result file as ``62.4 ± 1.5``, in percent; without a spread where there is one value."""
    spread = figure["std"] if "std" in figure else figure["spread"]
    count = figure["n"] if "n" in figure else len(figure["values"])
    return f"{100 * figure['mean']:.1f}" if count == 1 else f"{100 * figure['mean']:.1f} ± {100 * spread:.1f}"


def row(
    name: str,
    baseline: str,
    split: str,
    metrics: Mapping[str, Result],
    tested: int,
    *,
    never_use: str | None = None,
) -> Result:
    """A row with figures."""
    return {
        "name": name,
        "baseline": baseline,
        "split": split,
        "metrics": dict(metrics),
        "tested": tested,
        "unavailable": None,
        "never_use": never_use,
    }


def no_row(name: str, baseline: str, why: str) -> Result:
    """A row that this copy of the data set cannot give."""
    return row(name, baseline, "", {}, 0) | {"unavailable": why}


def scalar(result: Result, name: str, metric: str) -> float | None:
    """The mean of a metric in a row of a result file; None where it is unavailable.

    Raises:
        KeyError: no row of that name, or the row has figures and not this one.
    """
    found = {one["name"]: one for one in result["rows"]}[name]
    return None if found["unavailable"] else float(found["metrics"][metric]["mean"])
