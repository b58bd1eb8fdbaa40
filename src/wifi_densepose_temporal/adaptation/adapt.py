"""A model adapted to a new room, person or day from a few labelled recordings: its classifier refitted in closed form.

What a network makes of a window (the pooled vector) carries over to a new place better than where the classes lie in
it does. So the network stays, and the classifier becomes the linear discriminant of discriminant.py, by statistics of
training that travel in the blob (`class_statistics`). A refit that would not help is refused.

Not here: training (training/), and what an adapted model is worth elsewhere (`wdt evaluate`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from wifi_densepose_temporal.adaptation.discriminant import (
    Classifier,
    ClassStatistics,
    Float64,
    Validation,
    Windows,
    measure,
    refit,
    validate,
)
from wifi_densepose_temporal.datasets import FeatureCache, Recording, labelled_frames
from wifi_densepose_temporal.errors import AdaptationError, BlobModelError, ConfigError, FormatError
from wifi_densepose_temporal.evaluation.decisions import Windowing, frames_at_packets, run, windows_of
from wifi_densepose_temporal.evaluation.report import DIGEST_LETTERS, few, of_whom, seen_in_training
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.rvne import Record, WeightBlob, WeightBlobView, records
from wifi_densepose_temporal.timeline import feature_config

#: Records of the classifier's outputs, and those that it says of itself: a model that only reads has none of them.
_OF_THE_CLASSIFIER = ("class_labels", "provenance", "classifier_bias", "class_statistics")


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
    model = TemporalModel.from_bytes(blob)
    reader, chain = TemporalModel.from_bytes(_reading_pooled(blob, model.pooled_dim)), feature_config(model)[0]
    number = {label: c for c, label in enumerate(model.labels)}
    pooled, labels, sources = [], [], []
    for source, recording in enumerate(recordings):
        labelled = labelled_frames(recording, chain, cache)
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


def _reading_pooled(blob: bytes, pooled_dim: int) -> bytes:
    """The model with the identity for a classifier, so that its logits are the pooled vectors."""
    view = WeightBlobView.parse(blob)
    if view.header.dtype == "int8":
        raise AdaptationError(
            "a model of int8 weights cannot be adapted; adapt the one that it came from, and quantise what comes out"
        )
    return _with_weights(view, np.eye(pooled_dim), [r for r in view.records if r.name not in _OF_THE_CLASSIFIER])


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
    weight, bias = view.classifier(model.pooled_dim)
    return Classifier(weight, np.zeros(view.header.n_classes) if bias is None else bias)


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
