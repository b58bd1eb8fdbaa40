"""The picture of a training: loss, validation, and what a contrastive loss does, of every run over its steps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wifi_densepose_temporal.plot import save_figure
from wifi_densepose_temporal.training.fit import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_curves(histories: Mapping[str, History], title: str, path: str | os.PathLike[str]) -> None:
    """Draws loss, validation where there is one, and alignment and uniformity where a contrastive loss was trained.

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
        contrastive = any(history.alignments for history in histories.values())
        figure.set_size_inches(8, 8 if contrastive else 5.5)
        panels = figure.subplots(3 if contrastive else 2, 1, sharex=True)
        loss, score = panels[:2]
        for name, history in histories.items():
            loss.plot(history.steps, history.losses, lw=0.9, label=name if len(histories) <= 6 else None)
            if history.scores:
                score.plot(history.steps, history.scores, lw=0.9)
                score.axvline(history.best_step, lw=0.4, color="#999999")
        loss.set_ylabel("training loss")
        score.set_ylabel("validation score")
        panels[-1].set_xlabel("step")
        if not any(history.scores for history in histories.values()):
            score.text(0.5, 0.5, "no validation recordings", ha="center", transform=score.transAxes)
        if 0 < len(histories) <= 6:
            loss.legend(frameon=False, fontsize=8)
        if contrastive:
            _draw_views(panels[2], histories)
        figure.suptitle(title, size=10)

    save_figure(draw, path)


def _draw_views(panel: Axes, histories: Mapping[str, History]) -> None:
    """Alignment as lines, uniformity dashed: of embeddings that collapse both go to 0."""
    for number, history in enumerate(histories.values()):
        color = f"C{number % 10}"
        panel.plot(history.steps[: len(history.alignments)], history.alignments, lw=0.9, color=color)
        panel.plot(history.steps[: len(history.uniformities)], history.uniformities, lw=0.9, ls="--", color=color)
    panel.set_ylabel("alignment (line)\nuniformity (dashed)")
