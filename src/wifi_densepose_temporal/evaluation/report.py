"""What an evaluation says, as a document for programs and as sentences for people; the printing is cli/evaluate.py's.

First of all the split in words: which recordings, and which of them the model saw in training, as far as its blob says.
A figure that there is not is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wifi_densepose_temporal.datasets import Recording
from wifi_densepose_temporal.evaluation.activity import ActivityResult, ScoredRecording
from wifi_densepose_temporal.evaluation.decisions import NO_DECISION, SOURCE
from wifi_densepose_temporal.evaluation.identity import RANKS, Gallery, IdentityResult, Scores
from wifi_densepose_temporal.evaluation.open_set import FPIRS
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.timeline import training_note

DIGEST_LETTERS = 16  # of each training file's sha256 that a provenance holds
MAX_SHOWN = 5

#: Every document has all of these, None where the task has no such thing.
METRICS = (
    "window_accuracy",
    "frame_accuracy",
    "recording_accuracy",
    "macro_f1",
    *(f"rank{k}" for k in RANKS),
    "map",
    "auc",
    "eer",
    *FPIRS,
)
_REST = ("per_class", "confusion", "intervals", "window", "context_s", "gallery", "probe", "cmc")


# ---------------------------------------------------------------------------------------------------------- the split


def seen_in_training(model: TemporalModel, recordings: Sequence[Recording]) -> tuple[str, ...] | None:
    """Names of the recordings whose bytes the model was trained on, by the digests in its provenance.

    None where the blob lists no digests, so that nothing is known.

    Raises:
        FileError: a recording's file cannot be read.
    """
    data = model.provenance.get("data")
    digests = data.get("sha256") if isinstance(data, dict) else None
    if not isinstance(digests, list) or not digests:
        return None
    trained_on = {str(digest)[:DIGEST_LETTERS].lower() for digest in digests}
    return tuple(one.name for one in recordings if one.sha256[:DIGEST_LETTERS] in trained_on)


def leak_warning(seen: tuple[str, ...] | None, count: int) -> str | None:
    """The sentence that must not be missed, where the model has seen some of the `count` recordings."""
    if not seen:
        return None
    return (
        f"WARNING: the model was trained on {len(seen)} of these {count} recordings ({few(seen)}): the figures show "
        "what it remembers, not what it recognises. Evaluate on recordings that it has not seen."
    )


def split_words(
    model: TemporalModel, recordings: Sequence[Recording], seen: tuple[str, ...] | None, chosen: str
) -> str:
    """The split in sentences: which recordings, of whom and when, and what the model's blob says of its training.

    Args:
        model: the one that is evaluated.
        recordings: all that it is evaluated on.
        seen: of `seen_in_training`.
        chosen: how they were selected, such as ``session=D2``.
    """
    said = [f"Evaluated on {counted(len(recordings), 'recording')} ({chosen}): {of_whom(recordings)}."]
    if not model.trained:
        said.append(
            "The model does not state that it was trained." if model.trained is None else "The model is untrained."
        )
    elif seen is None:
        said.append("Which recordings the model was trained on is unavailable: its blob does not list them.")
    elif seen:
        said.append(leak_warning(seen, len(recordings)) or "")
    else:
        said.append("By its blob, the model was trained on none of them.")
    data = model.provenance.get("data")
    if isinstance(data, dict) and "incomplete" in data:
        said.append("Its blob does not list what the model that its training started from was trained on.")
    if model.provenance.get("classifier") == "untrained" and model.provenance.get("task") != "identity":
        said.append("WARNING: its classifier was not trained, so its labels mean nothing, and no figure of them does.")
    stated = model.provenance.get("split")
    if isinstance(stated, str) and stated:
        said.append(f"Its blob says of its training: {stated}")
    return " ".join(said)


def of_whom(recordings: Sequence[Recording]) -> str:
    """Persons, sessions and rooms of some recordings, as many as can be named."""
    said = []
    for what in ("person", "session", "room"):
        values = list(dict.fromkeys(one.value(what) for one in recordings))
        known = [value for value in values if value]
        said.append(f"{counted(len(known), what)} ({few(known)})" if known else f"{what} not stated")
    return ", ".join(said)


# ------------------------------------------------------------------------------------------------------- for programs


def activity_document(model: TemporalModel, result: ActivityResult, split: str) -> dict[str, Any]:
    """The document of an activity evaluation; its split in words comes from `split_words`."""
    scored, windowing = result.scored, result.windowing
    recordings = [one.recording for one in scored]
    seen = seen_in_training(model, recordings)
    untrained = model.provenance.get("classifier") == "untrained"  # of an encoder: its labels mean nothing
    return _document(model, "activity", split) | {
        "trained": False if untrained else model.trained,
        "window_accuracy": result.window_accuracy,
        "frame_accuracy": result.frame_accuracy,
        "recording_accuracy": result.recording_accuracy,
        "macro_f1": result.macro_f1,
        "per_class": [asdict(score) for score in result.per_class],
        "confusion": {
            "labels": result.rows,
            "decisions": [None if name == NO_DECISION else name for name in result.columns],
            "windows": result.confusion,
        },
        "intervals": result.intervals,
        "window": {"packets": windowing.packets, "hop": windowing.hop},
        "context_s": windowing.context_s,
        "recordings": [_scored(one) | _seen(one.recording, seen) for one in scored],
        "notes": activity_notes(model, result),
    }


def identity_document(model: TemporalModel, result: IdentityResult, split: str) -> dict[str, Any]:
    """The document of an identity evaluation; its split in words comes from `split_words`."""
    sides = (("gallery", result.gallery), ("probe", result.probe))
    seen = seen_in_training(model, [one for _, side in sides for one in side.recordings])
    return _document(model, "identity", split) | {
        **{f"rank{k}": result.scores.rank(k) for k in RANKS},
        "map": result.scores.map,
        "auc": result.scores.auc,
        "eer": result.scores.eer,
        **result.scores.tpir,
        "cmc": result.scores.cmc,
        "intervals": result.scores.intervals,
        "window": {"packets": result.packets, "hop": result.packets},
        "gallery": _side(result.gallery),
        "probe": _side(result.probe),
        "recordings": [
            _named(one) | {"side": name} | _seen(one, seen) for name, side in sides for one in side.recordings
        ],
        "notes": identity_notes(model, result),
    }


def _document(model: TemporalModel, task: str, split: str) -> dict[str, Any]:
    return {
        "task": task,
        "split": split,
        "source": SOURCE,
        "model_sha256": model.sha256,
        "trained": model.trained,
        "seeds": model.provenance.get("seeds"),
        **dict.fromkeys((*METRICS, *_REST)),
    }


def _named(recording: Recording) -> dict[str, Any]:
    return {name: getattr(recording, name) for name in ("name", "person", "session", "room")}


def _scored(one: ScoredRecording) -> dict[str, Any]:
    return _named(one.recording) | {
        "packets": one.packets,
        "packets_right": one.packets_right,
        "packets_undecided": one.packets_undecided,
        "windows": len(one.truth),
        "windows_right": int((one.truth == one.decided).sum()),
        "whole": one.whole,
    }


def _seen(recording: Recording, seen: tuple[str, ...] | None) -> dict[str, Any]:
    return {"seen_in_training": None if seen is None else recording.name in seen}


def _side(side: Gallery) -> dict[str, Any]:
    return {
        "sessions": list(dict.fromkeys(one.session for one in side.recordings)),
        "persons": len(set(side.person.tolist())),
        "recordings": len(side.recordings),
        "windows": len(side.embedding),
        "windows_unavailable": side.unavailable,
    }


# --------------------------------------------------------------------------------------------------------- for people


def activity_notes(model: TemporalModel, result: ActivityResult) -> list[str]:
    """What a reader must know before believing the figures."""
    windowing, scored = result.windowing, result.scored
    whole = sum(one.whole for one in scored)
    said = []
    if whole < len(scored):
        said.append(
            f"Recordings with a label for each packet ({len(scored) - whole}): windows of {windowing.packets} packets, "
            f"{windowing.hop} apart, labelled by most of their packets and judged by the decision at their last packet."
        )
    if whole:
        said.append(
            f"Recordings with a single label ({whole}): one window each, the whole recording, decided at its end."
        )
    if windowing.context_s is None:
        said.append("Every decision is made streaming, from the recording's start up to that packet and no further.")
    else:
        said.append(
            f"Each decision is made from the frames of the last {windowing.context_s:g} s alone; only what the "
            "feature chain remembers, such as its average of motion, reaches further back. Decisions between "
            "the ends of windows, and frame_accuracy with them, are unavailable."
        )
    undecided = sum(one.packets_undecided or 0 for one in scored)
    if undecided:
        said.append(f"Counted as wrong: {undecided} packets before the first frame, where there is no decision yet.")
    windows = int((result.confusion[:, -1]).sum()) if NO_DECISION in result.columns else 0
    if windows:
        said.append(f"Counted as wrong: {counted(windows, 'window')} without a decision.")
    short = [one.recording.name for one in scored if not len(one.truth)]
    if short:
        said.append(
            f"{counted(len(short), 'recording')} shorter than one window, counted by packets only: {few(short)}."
        )
    if result.unknown_labels:
        said.append(f"Always wrong: labels of the data that the model does not have: {few(result.unknown_labels)}.")
    if result.absent_classes:
        said.append(f"Classes of the model that no window here has: {few(result.absent_classes)}.")
    return [*said, _intervals_note("recordings", len(scored)), *_model_notes(model)]


def identity_notes(model: TemporalModel, result: IdentityResult) -> list[str]:
    """What a reader must know before believing the figures."""
    scores = result.scores
    said = [gallery_words(result), "Each window is embedded alone, as if nothing had come before it."]
    persons = len(scores.cmc)
    said += [f"rank{k} says nothing: the gallery holds {counted(persons, 'person')}." for k in RANKS if k >= persons]
    if scores.strangers:
        said.append(
            f"Persons of the probe that are not in the gallery count for AUC, EER and FPIR only, not for rank and mAP: "
            f"{few(scores.strangers)}."
        )
    said += open_set_notes(scores)
    for name, side in (("gallery", result.gallery), ("probe", result.probe)):
        if side.unavailable:
            said.append(
                f"Left out of the {name}: {counted(side.unavailable, 'window')} too short or not a measurement."
            )
    return [
        *said,
        _intervals_note("persons of the probe", len(set(result.probe.person.tolist()))),
        *_model_notes(model),
    ]


def open_set_notes(scores: Scores) -> list[str]:
    """What TPIR means here, and why there is none."""
    if not scores.strangers:
        return ["TPIR is unavailable: every person of the probe is in the gallery."]
    said = [
        f"{name} is unavailable: {fpir:.0%} of {counted(scores.non_mated, 'window')} of persons who are not in the "
        "gallery is less than one."
        for name, fpir in FPIRS.items()
        if scores.tpir[name] is None
    ]
    if len(said) < len(FPIRS):
        said.append(
            "TPIR: windows of persons in the gallery that find their person first and above the threshold that the "
            f"stated share of the {counted(scores.non_mated, 'window')} of others passes; the threshold is of these "
            "windows themselves, and one that was chosen beforehand gives another FPIR."
        )
    return said


def gallery_words(result: IdentityResult) -> str:
    """Who is looked for in whom, and of which sessions."""

    def side(one: Gallery) -> str:
        of = _side(one)
        sizes = [counted(of[f"{what}s"], what) for what in ("recording", "person", "window")]
        sessions = few([session or "not stated" for session in of["sessions"]])
        return f"{', '.join(sizes)} of {result.packets} packets, session {sessions}"

    return f"Gallery: {side(result.gallery)}. Probe: {side(result.probe)}. No recording is in both."


def counted(count: int, what: str) -> str:
    """A number and its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def few(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _intervals_note(groups: str, count: int) -> str:
    if count < 2:
        return f"Intervals are unavailable: they are drawn over {groups}, of which there are fewer than two."
    return f"Intervals: 95 %, bootstrap over {groups} ({count})."


def _model_notes(model: TemporalModel) -> list[str]:
    return [training_note(model), *(f"Doubtful: {warning}." for warning in model.warnings)]
