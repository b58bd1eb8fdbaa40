"""The picture of a training: loss and validation of every run over its steps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wifi_densepose_temporal.plot import save_figure
from wifi_densepose_temporal.training.fit import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_curves(histories: Mapping[str, History], title: str, path: str | os.PathLike[str]) -> None:
    """Draws loss, and validation where there is one.

    Args:
        histories: by the run's name.
        title: over the picture.
        path: .png, .pdf or .svg; written whole or not at all.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: another suffix.
        FileError: the picture cannot be written.
    """

    def draw(figure: Figure) -> None:
        figure.set_size_inches(8, 5.5)
        loss, score = figure.subplots(2, 1, sharex=True)
        for name, history in histories.items():
            loss.plot(history.steps, history.losses, lw=0.9, label=name if len(histories) <= 6 else None)
            if history.scores:
                score.plot(history.steps, history.scores, lw=0.9)
                score.axvline(history.best_step, lw=0.4, color="#999999")
        loss.set_ylabel("training loss")
        score.set_ylabel("validation score")
        score.set_xlabel("step")
        if not any(history.scores for history in histories.values()):
            score.text(0.5, 0.5, "no validation recordings", ha="center", transform=score.transAxes)
        if 0 < len(histories) <= 6:
            loss.legend(frameon=False, fontsize=8)
        figure.suptitle(title, size=10)

    save_figure(draw, path)
