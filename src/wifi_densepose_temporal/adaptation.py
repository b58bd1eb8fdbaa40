"""A model adapted to a new room, person or day from a few labelled recordings: its classifier refitted in closed form.

What a network makes of a window (the pooled vector) carries over to a new place better than where the classes lie in
it does. So the network stays, and the classifier becomes a linear discriminant (Fisher 1936) whose class means and
covariance are those of training, which travel in the blob (`class_statistics`), moved towards the few new windows.

A refit that would not help is refused: `Validation` says how that is found. Not here: training (training/), and what an
adapted model is worth elsewhere (`wdt evaluate`).

Letters: C classes, P pooled_dim, N windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.datasets import FeatureCache, Recording, labelled_frames
from wifi_densepose_temporal.errors import AdaptationError, BlobModelError, ConfigError, FormatError
from wifi_densepose_temporal.evaluation.decisions import Windowing, frames_at_packets, run, windows_of
from wifi_densepose_temporal.evaluation.report import DIGEST_LETTERS, few, of_whom, seen_in_training
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.rvne import Record, WeightBlob, WeightBlobView, records
from wifi_densepose_temporal.timeline import feature_config

Float64 = NDArray[np.float64]

#: Training's class means count as this many new recordings of each class.
PRIOR_RECORDINGS = 0.5
#: A new window counts as this many of training's in the covariance, which training has fitted itself to.
NEW_WINDOW_WEIGHT = 8.0
#: How far the covariance is shrunk towards features that vary independently (Ledoit and Wolf 2004 for why).
SHRINKAGE = 0.03

_ONE_READER = ("class_labels", "provenance", "classifier_bias", "class_statistics")


@dataclass(frozen=True, eq=False)
class Windows:
    """What a model's network makes of the windows of some recordings, at the moments at which they are decided."""

    pooled: Float64
    """[N, P]"""
    label: NDArray[np.int64]
    """[N] number of the class."""
    recording: NDArray[np.int64]
    """[N] number of the recording."""

    def __len__(self) -> int:
        return len(self.label)

    def where(self, chosen: NDArray[np.bool_]) -> Windows:
        """The windows chosen by a mask `[N]`."""
        return Windows(self.pooled[chosen], self.label[chosen], self.recording[chosen])


class ClassStatistics(NamedTuple):
    """How the classes lie in the pooled vectors of training."""

    windows: Float64
    """[C] how many each class had."""
    mean: Float64
    """[C, P]"""
    covariance: Float64
    """[P, P] of pooled vectors around their class's mean."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """`pooled @ weight + bias`, `[P, C]` and `[C]`."""

    weight: Float64
    bias: Float64

    def right(self, windows: Windows) -> int:
        """Number of windows that it decides right."""
        return int(np.count_nonzero((windows.pooled @ self.weight + self.bias).argmax(axis=1) == windows.label))


@dataclass(frozen=True)
class Validation:
    """Whether a refit helps, in windows decided right of those in the recordings given.

    Each recording is decided by a refit on the others. With one recording of a class that refit knows nothing new of
    the class, so what it decides is less than what the whole refit will: one standard error is allowed for that.
    """

    windows: int
    recordings: int
    before: int
    """By the model as it was."""
    after: int
    """By refits that have not seen the recording."""
    error: float
    """Standard error of `after - before`, over recordings."""
    seen: int
    """By the refit on all of them."""
    most_frequent: int
    """Windows of the most frequent class."""

    @property
    def helps(self) -> bool:
        """There is something to gain, nothing that speaks against it, and it is no guess at the most frequent class.

        A guess may be right by luck: two standard errors of it, over recordings, do not count.
        """
        guess = self.most_frequent / self.windows
        luck = 2 * (guess * (1 - guess) / self.recordings) ** 0.5
        knows = self.after > self.windows * (guess + luck)
        return knows and self.seen > self.before and self.after >= self.before - self.error

    def __str__(self) -> str:
        before, after, seen = (
            f"{count} ({count / self.windows:.1%})" for count in (self.before, self.after, self.seen)
        )
        return (
            f"of {self.windows} windows in {self.recordings} recordings, {self.most_frequent} of the most frequent "
            f"class, the model as it is decides {before} right; refitted without the recording decided {after}, a "
            f"difference with a standard error of {self.error:.1f}; refitted with it {seen}"
        )


@dataclass(frozen=True, eq=False)
class Adaptation:
    """An adapted model, and what it is worth on the recordings it is adapted to."""

    blob: bytes
    validation: Validation
    windows: dict[str, int]
    """Of each class."""


def adapt(
    blob: bytes,
    recordings: Sequence[Recording],
    *,
    cache: FeatureCache | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Adaptation:
    """The model of `blob` with a classifier for the place where `recordings` were made.

    Args:
        blob: of a trained activity model.
        recordings: labelled, at least two. One whose label changes counts in windows of 50 packets, as in
            `wdt evaluate`; one with a single label is one window.
        cache: of features; None makes them anew.
        advance: called after each recording.

    Raises:
        AdaptationError: it would not help, there are fewer than two recordings, or the blob carries no statistics.
        ConfigError: a label that the model does not have.
        FileError, FormatError, BlobError: a recording or the blob cannot be read.
    """
    model, view = TemporalModel.from_bytes(blob), WeightBlobView.parse(blob)
    statistics = statistics_of(model, view)
    require_apart(model, recordings)
    windows = windows_in(blob, recordings, cache=cache, advance=advance)
    if len(set(windows.recording.tolist())) < 2:
        raise AdaptationError(
            "an adaptation takes at least two recordings with a whole window, so that each is decided without itself"
        )
    validation = validate(statistics, classifier_of(model, view), windows)
    if not validation.helps:
        raise AdaptationError(f"it would not help: {validation}. Keep the model, or give more recordings of each class")
    adapted = with_classifier(model, view, refit(statistics, windows), recordings, validation)
    counts = np.bincount(windows.label, minlength=len(model.labels)).tolist()
    return Adaptation(adapted, validation, dict(zip(model.labels, counts, strict=True)))


def require_apart(model: TemporalModel, recordings: Sequence[Recording]) -> None:
    """Refuses recordings that would make the check worthless: copies, and those that the model was trained on.

    Raises:
        AdaptationError: it names them.
    """
    first: dict[str, str] = {}
    for recording in recordings:
        if recording.sha256 in first:
            raise AdaptationError(
                f"{recording.name} is a copy of {first[recording.sha256]}, and would decide itself; leave one out"
            )
        first[recording.sha256] = recording.name
    seen = seen_in_training(model, recordings)
    if seen:
        raise AdaptationError(f"the model was trained on {len(seen)} of these recordings ({few(seen)}); leave them out")


# ------------------------------------------------------------------------------------------ what the network sees


def windows_in(
    blob: bytes,
    recordings: Sequence[Recording],
    *,
    cache: FeatureCache | None = None,
    advance: Callable[[], object] = lambda: None,
) -> Windows:
    """Pooled vectors of the recordings' windows, as the core computes them; raises as `adapt`."""
    model, reader = TemporalModel.from_bytes(blob), TemporalModel.from_bytes(_reading_pooled(blob))
    number = {label: c for c, label in enumerate(model.labels)}
    pooled, labels, sources = [], [], []
    for source, recording in enumerate(recordings):
        labelled = labelled_frames(recording, feature_config(model)[0], cache)
        if labelled.packet_labels is None:
            raise FormatError(f"{recording.name} has no label; state it in the manifest, or leave it out")
        truth, ends = windows_of(labelled.packet_labels, Windowing(), recording.labels_path is None)
        unknown = sorted(set(truth.tolist()).difference(number))
        if unknown:
            raise ConfigError(
                f"{recording.name} is labelled {', '.join(unknown)}; the model knows {', '.join(number)}: relabel or "
                "leave it out, since a new class takes training"
            )
        frame = frames_at_packets(labelled.frames, labelled.packet_times_s)[ends]
        wanted = dict.fromkeys(frame[frame >= 0].tolist())
        seen = {t: now.logits for t, now in enumerate(run(reader, labelled.frames.values)) if t in wanted}
        for t, label in zip(frame.tolist(), truth.tolist(), strict=True):
            if t in seen:
                pooled.append(seen[t])
                labels.append(number[label])
                sources.append(source)
        advance()
    if not pooled:
        raise FormatError(f"unavailable: none of the {len(recordings)} recordings has a whole window")
    return Windows(np.array(pooled, np.float64), np.array(labels), np.array(sources))


def _reading_pooled(blob: bytes) -> bytes:
    """The model with the identity for a classifier, so that its logits are the pooled vectors."""
    model, view = TemporalModel.from_bytes(blob), WeightBlobView.parse(blob)
    return _with_weights(view, np.eye(model.pooled_dim), [r for r in view.records if r.name not in _ONE_READER])


# --------------------------------------------------------------------------------------------------- the closed form


def measure(windows: Windows, classes: int) -> ClassStatistics:
    """Statistics of training's windows; a class without a window has a mean of zeros."""
    counts = np.bincount(windows.label, minlength=classes).astype(np.float64)
    mean = _class_means(windows, classes)
    around = windows.pooled - mean[windows.label]
    return ClassStatistics(counts, mean, around.T @ around / max(1.0, len(windows) - int(np.count_nonzero(counts))))


def refit(statistics: ClassStatistics, windows: Windows) -> Classifier:
    """The linear discriminant of training's statistics moved towards new windows.

    A class's mean is that of its new windows, weighed by the number of recordings they are from, with training's mean
    moved by what the other classes have moved, weighed by `PRIOR_RECORDINGS`: a class without a new window moves along.
    The covariance is shrunk in units of training's spread.

    Raises:
        BlobModelError: statistics that are no covariance.
    """
    counts, mean, covariance = statistics
    classes = len(counts)
    centre = counts @ mean / counts.sum()
    spread = np.sqrt(np.diag(covariance) + counts @ (mean - centre) ** 2 / counts.sum()) + 1e-6
    recordings = np.array([len(set(windows.recording[windows.label == c].tolist())) for c in range(classes)])
    present = recordings > 0
    new, old = (_class_means(windows, classes) - centre) / spread, (mean - centre) / spread
    moved = (new - old)[present].mean(axis=0)
    weight = (recordings / (recordings + PRIOR_RECORDINGS))[:, None]
    means = weight * new + (1 - weight) * (old + moved)
    around = (windows.pooled - centre) / spread - new[windows.label]
    scatter = counts.sum() * covariance / np.outer(spread, spread) + NEW_WINDOW_WEIGHT * around.T @ around
    within = scatter / (counts.sum() + NEW_WINDOW_WEIGHT * max(0, len(windows) - int(np.count_nonzero(present))))
    within = (1 - SHRINKAGE) * within + SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    try:
        factor = np.linalg.cholesky(within)
    except np.linalg.LinAlgError:
        raise BlobModelError(
            "the class statistics of this model are no covariance; was it written by this tool?"
        ) from None
    directions = np.linalg.solve(factor.T, np.linalg.solve(factor, means.T))
    weights = directions / spread[:, None]
    return Classifier(weights, -0.5 * np.sum(means.T * directions, axis=0) - centre @ weights)


def validate(statistics: ClassStatistics, original: Classifier, windows: Windows) -> Validation:
    """Refits without each recording in turn decide it, and are held against the model as it was."""
    before, after = [], []
    for recording in np.unique(windows.recording):
        held_out = windows.recording == recording
        before.append(original.right(windows.where(held_out)))
        after.append(refit(statistics, windows.where(~held_out)).right(windows.where(held_out)))
    gain = np.subtract(after, before)
    return Validation(
        windows=len(windows),
        recordings=len(gain),
        before=sum(before),
        after=sum(after),
        error=float(gain.std(ddof=1) * np.sqrt(len(gain))),
        seen=refit(statistics, windows).right(windows),
        most_frequent=int(np.bincount(windows.label).max()),
    )


def _class_means(windows: Windows, classes: int) -> Float64:
    sums = np.zeros((classes, windows.pooled.shape[1]))
    np.add.at(sums, windows.label, windows.pooled)
    return sums / np.maximum(np.bincount(windows.label, minlength=classes), 1)[:, None]


# -------------------------------------------------------------------------------------------------- from and to blobs


def with_statistics(blob: bytes, recordings: Sequence[Recording], cache: FeatureCache | None = None) -> bytes:
    """A trained blob that carries the statistics of its training recordings, and so can be adapted."""
    view, windows = WeightBlobView.parse(blob), windows_in(blob, recordings, cache=cache)
    record = records.class_statistics(*measure(windows, view.header.n_classes))
    return WeightBlob(view.header, view.weights, [*view.records, record]).serialize()


def statistics_of(model: TemporalModel, view: WeightBlobView) -> ClassStatistics:
    """What a blob carries.

    Raises:
        AdaptationError: it carries none.
        BlobModelError: they are not of this model's sizes.
    """
    record = view.record("class_statistics")
    if record is None and "adapted" in model.provenance:
        raise AdaptationError(
            f"the model {model.sha256[:12]} has been adapted already; adapt the one that it came from, "
            "with all recordings"
        )
    if record is None:
        raise AdaptationError(
            f"the model {model.sha256[:12]} carries no class statistics to adapt by; an activity model of "
            "`wdt train` does, and people are enrolled in a gallery instead"
        )
    found = ClassStatistics(*records.read_class_statistics(record.payload))
    if found.mean.shape != (view.header.n_classes, model.pooled_dim) or found.windows.sum() < 1:
        raise BlobModelError(
            f"class statistics of {found.mean.shape}; expected {view.header.n_classes, model.pooled_dim}"
        )
    return found


def classifier_of(model: TemporalModel, view: WeightBlobView) -> Classifier:
    """The classifier that a blob has."""
    weight = np.asarray(view.weights[-model.pooled_dim * view.header.n_classes :], np.float64)
    record, bias = view.record("classifier_bias"), np.zeros(view.header.n_classes)
    if record is not None:
        bias = np.frombuffer(record.payload, view.weights.dtype, len(bias)).astype(np.float64)
    return Classifier(weight.reshape(model.pooled_dim, -1), bias)


def with_classifier(
    model: TemporalModel,
    view: WeightBlobView,
    classifier: Classifier,
    recordings: Sequence[Recording],
    validation: Validation,
) -> bytes:
    """The blob with another classifier, which says in its provenance what it was adapted from and with."""
    facts = dict(model.provenance)
    stated = facts.get("data")
    data: dict[str, Any] = dict(stated) if isinstance(stated, dict) else {}
    for key, values in (
        ("recordings", [r.name for r in recordings]),
        ("sha256", [r.sha256[:DIGEST_LETTERS] for r in recordings]),
    ):
        known = data.get(key)
        data[key] = [*(known if isinstance(known, list) else []), *values]
    told = f"Then adapted with {len(recordings)} recordings: {of_whom(recordings)}."
    facts |= {
        "data": data,
        "split": f"{facts.get('split', '')} {told}".strip(),
        "adapted": {"from": model.sha256, "recordings": [r.name for r in recordings], "validation": asdict(validation)},
    }
    kept = [r for r in view.records if r.name not in ("provenance", "classifier_bias", "class_statistics")]
    bias = records.classifier_bias(classifier.bias, view.header.dtype)
    return _with_weights(view, classifier.weight, [*kept, bias, records.provenance(facts)])


def _with_weights(view: WeightBlobView, classifier: Float64, extra: Sequence[Record]) -> bytes:
    rows, columns = classifier.shape
    with np.errstate(over="ignore"):
        stored = classifier.astype(view.weights.dtype)
    if not np.isfinite(stored).all():
        raise AdaptationError(
            f"the refitted classifier does not fit {view.header.dtype}; do the recordings differ at all?"
        )
    layers = view.weights[: len(view.weights) - rows * view.header.n_classes]
    header = replace(view.header, n_classes=columns)
    return WeightBlob(header, np.concatenate([layers, stored.ravel()]), extra).serialize()
