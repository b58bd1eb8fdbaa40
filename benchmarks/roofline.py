"""docs/roofline.png: measured speed over arithmetic intensity, below what multiply-add and memory allow.

Intensity is floating-point operations over bytes: 4 D operations a pair of query and candidate and query head (10 D in
the gradient), and each number of the inputs and outputs that the call touches once, whatever cache it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from measure import Result

COLOURS = {"window": "tab:blue", "step": "tab:orange", "gradient": "tab:green"}
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Point:
    """One measured case."""

    kind: str
    label: str
    flops: float
    bytes: float
    gflops: float


def points(results: dict[str, Result]) -> list[Point]:
    """Windows and gradients with the fastest set, steps and batches."""
    fastest = next(iter(results["prefill"]["peaks"]))
    windows = [row for row in results["prefill"]["rows"] if row["set"] == fastest]
    steps = [row for row in results["decode"]["step"] if row["way"] == "out"]
    batches = [*results["decode"]["small_batches"], *results["decode"]["large_batches"]]
    gradients = [row for row in results["backward"]["rows"] if row["T"] == 1024]
    return [
        *(Point("window", f"forward {row['case']}", row["flops"], row["bytes"], row["gflops"]) for row in windows),
        *(Point("gradient", f"backward {row['head']}", row["flops"], row["bytes"], row["gflops"]) for row in gradients),
        *(_step(f"step, T = {row['T']:,}", row, row["us"]) for row in steps),
        *(_step(f"step_batch, {row['case']}, {row['dtype']}", row, row["us_per_track"]) for row in batches),
    ]


def _step(label: str, row: Result, microseconds: float) -> Point:
    return Point("step", label, row["flops"], row["bytes"], row["flops"] / microseconds / 1e3)


def draw(results: dict[str, Result], path: Path) -> None:
    """Writes the picture."""
    mpl.use("Agg")
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    _draw_roofs(axes, results["prefill"])
    counts: dict[str, int] = {}
    for point in points(results):
        at = counts[point.kind] = counts.get(point.kind, -1) + 1
        (mark,) = axes.plot(point.flops / point.bytes, point.gflops, linestyle="none", label=point.label)
        mark.set(color=COLOURS[point.kind], marker=MARKERS[at % len(MARKERS)], markersize=7)
    axes.set(xscale="log", yscale="log", xlim=(0.5, 100), ylim=(1, 300))
    axes.set(xlabel="arithmetic intensity, FLOP / byte", ylabel="GFLOP/s, one thread")
    axes.set_title(f"{results['prefill']['machine']}; synthetic input", fontsize=10)
    axes.grid(which="both", linewidth=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _draw_roofs(axes: Axes, result: Result) -> None:
    intensity = np.geomspace(0.5, 100, 200)
    for peak in result["peaks"].values():
        axes.plot(intensity, np.minimum(peak, intensity * result["copy_gb_s"]), color="grey", linewidth=1)
    for peak, names in _grouped(result["peaks"]):
        axes.annotate(f"{names} {peak:.0f}", (95, peak * 1.05), ha="right", fontsize=8, color="dimgrey")
    label = f"memory, {result['copy_gb_s']:.0f} GB/s"
    axes.annotate(label, (1.1, 1.25 * result["copy_gb_s"]), ha="right", fontsize=8, color="dimgrey")


def _grouped(peaks: dict[str, float]) -> list[tuple[float, str]]:
    """Peaks with the names of the sets that share them, to within a tenth."""
    groups: list[tuple[float, list[str]]] = []
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
        if groups and peak > 0.9 * groups[-1][0]:
            groups[-1][1].append(name)
        else:
            groups.append((peak, [name]))
    return [(peak, ", ".join(names)) for peak, names in groups]
