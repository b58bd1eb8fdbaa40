"""Metrics of activity decisions over recordings: window, packet and recording accuracy, macro F1, confusion.

Each recording is decided alone, by a stream of its own (decisions.py), and leaves its counts and the labels of its
windows. A recording whose label changes gives windows of packets; one with a single label is one window, decided at its
end. A window without a decision is wrong, and counted; a label that the model does not have stays in the truth, and is
always wrong. The formulas are scikit-learn's, but for those of the bootstrap, which needs them for all draws at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.datasets import FeatureCache, Recording, labelled_frames
from wifi_densepose_temporal.errors import FormatError
from wifi_densepose_temporal.evaluation.bootstrap import Interval, draw_counts, interval, ratio_interval
from wifi_densepose_temporal.evaluation.decisions import NO_DECISION, Labels, Windowing, decide
from wifi_densepose_temporal.evaluation.scikit import metrics
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.timeline import feature_config


@dataclass(frozen=True, eq=False)
class ScoredRecording:
    """What is kept of a recording once it is decided."""

    recording: Recording
    whole: bool
    """One label for the whole recording, which is its only window."""
    truth: Labels
    """[W] label of each window."""
    decided: Labels
    """[W] the decision at its end."""
    packets: int
    packets_right: int | None
    """None where decisions were made at the ends of windows only."""
    packets_undecided: int | None
    """Packets that came before the first frame."""


@dataclass(frozen=True)
class ClassScore:
    """One label of the data. A figure is None where it is 0 / 0."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    """Windows of this label."""
    known: bool
    """Whether the model has this class."""


@dataclass(frozen=True, eq=False)
class ActivityResult:
    """Metrics over recordings; None where there is nothing to count."""

    windowing: Windowing
    scored: tuple[ScoredRecording, ...]
    window_accuracy: float | None
    """Share of the windows decided right."""
    frame_accuracy: float | None
    """Share of the packets (CSI frames, as they arrive) at which the decision is the packet's label."""
    recording_accuracy: float | None
    """Share of the recordings with a single label decided right at their end."""
    macro_f1: float | None
    """Mean of the F1 of the data's labels, over windows; a label that is never decided has F1 0."""
    per_class: tuple[ClassScore, ...]
    rows: tuple[str, ...]
    """Labels of the data: those that the model has, in its order, then the others."""
    columns: tuple[str, ...]
    """What was or could be decided: `rows`, the model's other classes, and `NO_DECISION` where there is one."""
    confusion: NDArray[np.int64]
    """[rows, columns] windows of a label that were decided so."""
    intervals: Mapping[str, Interval | None]
    """95 % by bootstrap over recordings; None with fewer than two."""

    @property
    def unknown_labels(self) -> tuple[str, ...]:
        """Labels of the data that the model does not have."""
        return tuple(score.label for score in self.per_class if not score.known)

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes of the model that no window of the data has."""
        return tuple(label for label in self.columns[len(self.rows) :] if label != NO_DECISION)


def evaluate_activity(
    model: TemporalModel,
    recordings: Sequence[Recording],
    windowing: Windowing | None = None,
    *,
    seed: int = 0,
    cache: FeatureCache | None = None,
    advance: Callable[[], object] = lambda: None,
) -> ActivityResult:
    """Decides every recording and counts.

    Args:
        model: what is evaluated.
        recordings: read one after the other; the frames of one are held at a time.
        windowing: how recordings with changing labels are cut; by default windows of 50 packets, 25 apart.
        seed: of the bootstrap's draws.
        cache: of features; None makes them anew.
        advance: called after each recording.

    Raises:
        FileError: a recording cannot be read.
        FormatError: it is no capture, it has no label, or its labels do not fit; there is no window at all.
        ConfigError: the model's feature chain does not fit the recordings.
        MissingExtraError: scikit-learn is not installed.
    """
    metrics()  # refused before the work, not after it
    windowing = windowing or Windowing()
    scored = []
    for recording in recordings:
        scored.append(score_recording(model, recording, windowing, cache))
        advance()
    return summarise(model.labels, tuple(scored), windowing, seed)


def score_recording(
    model: TemporalModel, recording: Recording, windowing: Windowing, cache: FeatureCache | None = None
) -> ScoredRecording:
    """Decides one recording; raises as `evaluate_activity`."""
    labelled = labelled_frames(recording, feature_config(model)[0], cache)
    labels, whole = labelled.packet_labels, recording.labels_path is None
    if labels is None:
        raise FormatError(
            f"{recording.name} has no label to hold a decision against; state it in the manifest, or leave it out"
        )
    made = decide(model, labelled.frames, labelled.packet_times_s, labels, windowing, whole)
    right = undecided = None
    if made.packets is not None:
        right = sum(
            int(np.count_nonzero((made.packets == number) & (labels == name)))
            for number, name in enumerate(model.labels)
        )
        undecided = int(np.count_nonzero(made.packets < 0))
    return ScoredRecording(recording, whole, made.truth, made.decided, len(labels), right, undecided)


def summarise(
    classes: tuple[str, ...], scored: tuple[ScoredRecording, ...], windowing: Windowing, seed: int
) -> ActivityResult:
    """The metrics of decided recordings.

    Args:
        classes: of the model, in its order.
        scored: the recordings.
        windowing: how they were cut.
        seed: of the bootstrap.

    Raises:
        FormatError: not one recording has a window.
    """
    if not any(len(one.truth) for one in scored):
        raise FormatError(
            f"unavailable: none of the {len(scored)} recordings has {windowing.packets} packets, one window; "
            "give longer recordings or a smaller --window"
        )
    truth = np.concatenate([one.truth for one in scored])
    decided = np.concatenate([one.decided for one in scored])
    found = set(truth.tolist())
    rows = (*(name for name in classes if name in found), *sorted(found.difference(classes)))
    missing = (NO_DECISION,) if NO_DECISION in decided else ()
    columns = (*rows, *(name for name in classes if name not in found), *missing)
    tables = np.stack([confusion_table(one.truth, one.decided, rows, columns) for one in scored])
    with_packets = [one for one in scored if one.packets_right is not None]
    whole = [one for one in scored if one.whole]
    return ActivityResult(
        windowing=windowing,
        scored=scored,
        window_accuracy=float(np.mean(truth == decided)),
        frame_accuracy=_share([one.packets_right for one in with_packets], [one.packets for one in with_packets]),
        recording_accuracy=_share([int((one.truth == one.decided).sum()) for one in whole], [1] * len(whole)),
        macro_f1=float(metrics().f1_score(truth, decided, labels=rows, average="macro", zero_division=0)),
        per_class=_per_class(truth, decided, rows, classes),
        rows=rows,
        columns=columns,
        confusion=tables.sum(axis=0),
        intervals=_intervals(scored, tables, seed),
    )


def confusion_table(
    truth: Labels, decided: Labels, rows: tuple[str, ...], columns: tuple[str, ...]
) -> NDArray[np.int64]:
    """How many windows of each label (`rows`) were decided as each of `columns`, of which `rows` are the first."""
    table = np.zeros((len(rows), len(columns)), np.int64)
    row, column = ({name: number for number, name in enumerate(names)} for names in (rows, columns))
    for true, made in zip(truth.tolist(), decided.tolist(), strict=True):
        table[row[true], column[made]] += 1
    return table


def macro_f1s(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro F1 of each confusion table, `[n, rows, columns]` to `[n]`: the mean of 2 tp / (support + decided).

    Over the labels that the table has windows of; NaN where it has none.
    """
    rows = tables.shape[1]
    hits = np.diagonal(tables, axis1=1, axis2=2)
    support = tables.sum(axis=2)
    f1 = 2 * hits / np.maximum(1, support + tables[:, :, :rows].sum(axis=1))
    count = (support > 0).sum(axis=1)
    return np.where(count, (f1 * (support > 0)).sum(axis=1) / np.maximum(1, count), np.nan)


def _per_class(
    truth: Labels, decided: Labels, rows: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[ClassScore, ...]:
    figures = metrics().precision_recall_fscore_support(truth, decided, labels=rows, zero_division=np.nan)

    def figure(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return tuple(
        ClassScore(label, figure(precision), figure(recall), figure(f1), int(support), label in classes)
        for label, precision, recall, f1, support in zip(rows, *figures, strict=True)
    )


def _intervals(scored: tuple[ScoredRecording, ...], tables: NDArray[np.int64], seed: int) -> dict[str, Interval | None]:
    rights = np.array([np.count_nonzero(one.truth == one.decided) for one in scored])
    windows = tables.sum(axis=(1, 2))
    counted = [one for one in scored if one.packets_right is not None]
    packets_right, packets = (
        np.array([one.packets_right for one in counted]),
        np.array([one.packets for one in counted]),
    )
    whole = np.array([one.whole for one in scored])
    drawn = draw_counts(len(scored), seed)
    return {
        "window_accuracy": ratio_interval(rights, windows, seed),
        "frame_accuracy": ratio_interval(packets_right, packets, seed),
        "recording_accuracy": ratio_interval(rights[whole], windows[whole], seed),
        "macro_f1": interval(macro_f1s(np.tensordot(drawn, tables, axes=1)), len(scored)),
    }


def _share(parts: list[int | None], wholes: list[int]) -> float | None:
    total = sum(wholes)
    return sum(part or 0 for part in parts) / total if total else None
