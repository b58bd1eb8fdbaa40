"""Pictures of an evaluation: a confusion matrix, and a cumulative match characteristic (CMC).

As plot.py, it needs matplotlib and imports it only to draw; the picture is written whole or not at all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from wifi_densepose_temporal.evaluation.activity import ActivityResult
from wifi_densepose_temporal.evaluation.decisions import NO_DECISION
from wifi_densepose_temporal.evaluation.identity import IdentityResult
from wifi_densepose_temporal.plot import save_figure, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LETTERS = 20  # of a label beside the matrix
MAX_NUMBERED = 20  # classes up to which each cell has its number


def plot_confusion(result: ActivityResult, title: str, path: str | os.PathLike[str]) -> None:
    """Draws how the windows of each label were decided: numbers are windows, colour is their share of the label's.

    Args:
        result: of `evaluate_activity`.
        title: above the matrix; says whose decisions, on what.
        path: ends in .png, .pdf or .svg.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: another suffix.
        FileError: the picture cannot be written.
    """
    share = result.confusion / np.maximum(1, result.confusion.sum(axis=1, keepdims=True))
    columns = ["no decision" if name == NO_DECISION else shortened(name, MAX_LETTERS) for name in result.columns]

    def draw(figure: Figure) -> None:
        figure.set_size_inches(3 + 0.5 * len(columns), 2.2 + 0.5 * len(result.rows))
        axes = figure.subplots()
        image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(result.rows)), [shortened(name, MAX_LETTERS) for name in result.rows])
        axes.set_xlabel("decided")
        axes.set_ylabel("label")
        axes.set_title(title, loc="left", size=9, wrap=True)
        if max(result.confusion.shape) <= MAX_NUMBERED:
            for (row, column), count in np.ndenumerate(result.confusion):
                colour = "white" if share[row, column] > 0.5 else "black"
                axes.text(column, row, str(count) if count else "", ha="center", va="center", color=colour, size=8)
        figure.colorbar(image, label="share of the label's windows")

    save_figure(draw, path)


def plot_cmc(result: IdentityResult, title: str, path: str | os.PathLike[str]) -> None:
    """Draws rank-k over k, beside what guessing would give.

    Args:
        result: of `evaluate_identity`.
        title: above the curve.
        path: as for `plot_confusion`.

    Raises:
        MissingExtraError, ConfigError, FileError: as `plot_confusion`.
    """
    cmc = result.scores.cmc
    ranks = np.arange(1, len(cmc) + 1)

    def draw(figure: Figure) -> None:
        figure.set_size_inches(6, 4)
        axes = figure.subplots()
        axes.plot(ranks, 100 * cmc, marker="o", ms=3, color="#0072B2", label="probe windows")
        axes.plot(ranks, 100 * ranks / len(cmc), ls="--", lw=0.9, color="#999999", label="guessing")
        axes.set_xlabel("k")
        axes.set_ylabel("person among the k nearest (%)")
        axes.set_ylim(0, 102)
        axes.set_title(title, loc="left", size=9, wrap=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", frameon=False)

    save_figure(draw, path)
