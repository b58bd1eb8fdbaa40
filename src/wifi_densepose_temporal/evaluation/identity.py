"""Recognising persons again: embeddings of windows, and how well probe windows find their person in a gallery.

A recording is cut into consecutive windows of packets; each goes through a chain and a stream of its own, as if nothing
had come before, and the embedding at its last frame stands for it. Similarity is the cosine. Whether gallery and probe
are days apart or seconds is the data's to say, and decides what the figures mean.

    rank-k   share of probe windows whose person is among the k nearest persons, a person being as near as the nearest
             of their gallery windows; among equals the right person comes last. All k at once are the CMC
    mAP      mean over probe windows of the average precision of the gallery windows, the nearest first
    AUC      of verification: chance that a pair of one person's windows is nearer than a pair of two persons'
    EER      of verification, of the same pairs: open_set.py
    TPIR     at an FPIR, where the probe has persons that the gallery does not hold: open_set.py

Rank and mAP are of probe persons that the gallery holds (closed set); the pairs of the others count for AUC and EER.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.csi import Capture, extract
from wifi_densepose_temporal.csi.majority import main_chain
from wifi_densepose_temporal.datasets import Recording, check_leakage, packets_of
from wifi_densepose_temporal.datasets.recording import in_time
from wifi_densepose_temporal.errors import ConfigError, FormatError, MemoryLimitError
from wifi_densepose_temporal.evaluation.bootstrap import Interval, draw_counts, interval, ratio_interval
from wifi_densepose_temporal.evaluation.decisions import SOURCE
from wifi_densepose_temporal.evaluation.open_set import equal_error_rate, search, tpirs_of
from wifi_densepose_temporal.evaluation.scikit import metrics
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.timeline import feature_config

DEFAULT_PACKETS = 100
RANKS = (1, 5, 10)
MAX_PAIRS = 1 << 25  # probe times gallery windows: a quarter of a gigabyte of similarities, and 3 for their ROC


@dataclass(frozen=True, eq=False)
class WindowEmbeddings:
    """Windows of one recording."""

    embedding: NDArray[np.float32]
    """[n, E], unit vectors."""
    start_s: NDArray[np.float64]
    """[n] time of the window's first packet, seconds, on the capture's clock."""
    end_s: NDArray[np.float64]
    """[n] of its last packet."""
    unavailable: int
    """Windows without an embedding: no packet in them is a measurement."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Windows of several recordings, and whose they are; the probe is one too."""

    recordings: tuple[Recording, ...]
    embedding: NDArray[np.float32]
    """[n, E]."""
    person: NDArray[np.str_]
    """[n]."""
    unavailable: int
    """Windows without an embedding, and recordings too short for one window."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a matrix of similarities says."""

    cmc: NDArray[np.float64]
    """[persons in the gallery]: rank-1, rank-2, ..., the last one 1."""
    map: float
    auc: float | None
    """None where every pair is of one person, or every pair of two."""
    eer: float | None
    """None as the AUC."""
    tpir: Mapping[str, float | None]
    """By the names of `FPIRS`; None where the FPIR is less than one of `non_mated`."""
    non_mated: int
    """Probe windows of persons that the gallery does not hold."""
    intervals: Mapping[str, Interval | None]
    """95 % by bootstrap over the persons of the probe; None with fewer than two."""
    probe_windows: int
    """Windows that rank and mAP are the mean of."""
    strangers: tuple[str, ...]
    """Persons of the probe that the gallery does not hold."""

    def rank(self, k: int) -> float:
        """Rank-k, 0..1; 1 where the gallery holds no more than k persons."""
        return float(self.cmc[min(k, len(self.cmc)) - 1])


@dataclass(frozen=True, eq=False)
class IdentityResult:
    """Probe against gallery."""

    packets: int
    gallery: Gallery
    probe: Gallery
    scores: Scores


def evaluate_identity(
    model: TemporalModel,
    gallery: Sequence[Recording],
    probe: Sequence[Recording],
    packets: int = DEFAULT_PACKETS,
    *,
    seed: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> IdentityResult:
    """Embeds the windows of both sides and compares them.

    Args:
        model: gives the embeddings.
        gallery: recordings of known persons.
        probe: recordings whose person is looked for; none of them may be in the gallery.
        packets: length of a window.
        seed: of the bootstrap's draws.
        advance: called after each recording.

    Raises:
        LeakageError: a recording is in both, be it under another name.
        FormatError: a recording of nobody known, a side without a window, or no person in both.
        ConfigError, FileError: a recording does not fit the model's feature chain, or cannot be read.
        MemoryLimitError: more than `MAX_PAIRS` pairs of windows.
        MissingExtraError: scikit-learn is not installed.
    """
    metrics()  # refused before the work, not after it
    for recording in (*gallery, *probe):
        if not recording.person:
            raise FormatError(
                f"{recording.name}: whose it is is not known; state the person in the manifest, or leave it out"
            )
    check_leakage({"gallery": gallery, "probe": probe}, "recording")
    known, asked = (embed_recordings(model, side, packets, advance) for side in (gallery, probe))
    for name, side in (("gallery", known), ("probe", asked)):
        if not len(side.embedding):
            raise FormatError(
                f"unavailable: none of the {len(side.recordings)} {name} recordings gives a window of {packets} "
                "packets; give longer recordings or a smaller --window"
            )
    if len(known.embedding) * len(asked.embedding) > MAX_PAIRS:
        raise MemoryLimitError(
            f"{len(asked.embedding)} probe times {len(known.embedding)} gallery windows; at most {MAX_PAIRS} pairs are "
            "compared at once: select fewer recordings"
        )
    similarity = asked.embedding.astype(np.float64) @ known.embedding.astype(np.float64).T
    return IdentityResult(packets, known, asked, score(similarity, known.person, asked.person, seed))


def gallery_and_probe(recordings: Sequence[Recording]) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """The recordings of the first session, and of the second, in the order of their sessions' first start.

    Raises:
        ConfigError: there is one session only, or none that is known.
    """
    ordered = in_time(recordings)
    sessions = [name for name in dict.fromkeys(one.session for one in ordered) if name]
    if len(sessions) < 2:
        raise ConfigError(
            f"the recordings have {len(sessions)} sessions; expected two, to look for the persons of one in the other: "
            "choose gallery and probe (--gallery and --probe)"
        )
    known, asked = (tuple(one for one in ordered if one.session == name) for name in sessions[:2])
    return known, asked


# ------------------------------------------------------------------------------------------------------- embeddings


def embed_recordings(
    model: TemporalModel, recordings: Sequence[Recording], packets: int, advance: Callable[[], object]
) -> Gallery:
    """The windows of recordings, which are read one after the other."""
    per_recording = []
    for recording in recordings:
        per_recording.append(embed_windows(model, packets_of(recording), packets))
        advance()
    return Gallery(
        recordings=tuple(recordings),
        embedding=np.concatenate(
            [np.empty((0, model.embedding_dim), np.float32), *(w.embedding for w in per_recording)]
        ),
        person=np.repeat(
            np.array([one.person for one in recordings], np.str_), [len(w.embedding) for w in per_recording]
        ),
        unavailable=sum(w.unavailable + (not len(w.embedding) and not w.unavailable) for w in per_recording),
    )


def embed_windows(model: TemporalModel, capture: Capture, packets: int | None) -> WindowEmbeddings:
    """The embedding of each window of a recording, each made as if nothing had come before it.

    Where a packet holds a single receive chain, windows are of the packets of the recording's most frequent one.

    Args:
        model: gives the embeddings.
        capture: the recording.
        packets: length of a window; the packets after the last whole one are left out. None: the whole recording.

    Raises:
        ConfigError: packets is below 1, or the model's feature chain does not fit the capture.
        NonFiniteError: a frame that the model refuses.
    """
    capture = one_chain(capture)
    size = len(capture) if packets is None else as_int("window", packets, least=1)
    config = feature_config(model)[0]
    rows, starts, unavailable = [], [], 0
    for start in range(0, len(capture) - size + 1, size):
        frames = extract(cut(capture, slice(start, start + size)), config)
        if len(frames.values):
            rows.append(model.predict(frames.values, SOURCE).embedding[-1].copy())  # and lets go of the rows before it
            starts.append(start)
        else:
            unavailable += 1
    first = np.asarray(starts, np.intp)
    return WindowEmbeddings(
        np.asarray(rows, np.float32).reshape(-1, model.embedding_dim),
        capture.timestamps[first],
        capture.timestamps[first + size - 1],
        unavailable,
    )


def one_chain(capture: Capture) -> Capture:
    """The packets of one chain, for all windows: each chain sees the room its own way."""
    if capture.chain is None or not capture.chain.size:
        return capture
    return cut(capture, main_chain(capture.chain))


def cut(capture: Capture, which: slice | NDArray[np.bool_]) -> Capture:
    """Some packets of a capture: a slice of them, as views, or those of a mask `[T]`."""

    def part(array: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
        return None if array is None else array[which]

    names = ("timestamps", "iq", "amplitude", "rssi", "chain")
    parts = {name: part(getattr(capture, name)) for name in names}
    return dataclasses.replace(capture, **parts)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- metrics


def score(
    similarity: NDArray[np.float64], gallery_person: NDArray[np.str_], probe_person: NDArray[np.str_], seed: int = 0
) -> Scores:
    """CMC, mAP, AUC, EER and TPIR of a matrix of similarities, `[probe windows, gallery windows]`, larger is nearer.

    Args:
        similarity: of each probe window to each gallery window.
        gallery_person: `[gallery windows]`.
        probe_person: `[probe windows]`.
        seed: of the bootstrap.

    Raises:
        FormatError: no person is in both.
    """
    persons, gallery_number = np.unique(gallery_person, return_inverse=True)
    asked, probe_number = np.unique(probe_person, return_inverse=True)
    known = np.isin(probe_person, persons)
    if not known.any():
        raise FormatError(
            f"none of the probe's {len(asked)} persons is in the gallery, which holds {_few(persons)}; "
            "give a gallery and a probe of the same persons, in other recordings"
        )
    ranks = person_ranks(similarity[known], gallery_number, np.searchsorted(persons, probe_person[known]))
    precisions = average_precisions(similarity[known], gallery_person, probe_person[known])
    wins, positives, negatives = verification_wins(similarity, gallery_person, asked, probe_number)
    group = probe_number[known]
    total = np.bincount(group, minlength=len(asked))
    inside = total > 0

    def mean_interval(figures: NDArray[np.generic]) -> Interval | None:
        """Of the mean of one figure a probe window."""
        return ratio_interval(np.bincount(group, figures, len(asked))[inside], total[inside], seed)

    drawn = draw_counts(len(asked), seed)
    with np.errstate(invalid="ignore", divide="ignore"):  # no pair of a kind: no AUC
        auc = float(wins.sum() / (positives.sum() * negatives.sum()))
        pairs = (drawn @ positives) * (drawn @ negatives)
        aucs = ((drawn @ wins) * drawn).sum(axis=1) / pairs
    same = probe_person[:, np.newaxis] == gallery_person
    eer, eers = equal_error_rate(similarity, same, probe_number, drawn)
    searches = search(person_scores(similarity, gallery_number), persons, asked, probe_number)
    tpirs, tpir_intervals = tpirs_of(searches, drawn)
    return Scores(
        cmc=np.cumsum(np.bincount(ranks, minlength=len(persons) + 1)[1:]) / len(ranks),
        map=float(precisions.mean()),
        auc=auc if np.isfinite(auc) else None,
        eer=eer,
        tpir=tpirs,
        non_mated=searches.non_mated,
        intervals={
            **{f"rank{k}": mean_interval(ranks <= k) for k in RANKS},
            "map": mean_interval(precisions),
            "auc": interval(aucs, len(asked)),
            "eer": interval(eers, len(asked)),
            **tpir_intervals,
        },
        probe_windows=len(ranks),
        strangers=tuple(str(name) for name in asked if name not in persons),
    )


def person_scores(similarity: NDArray[np.float64], gallery_number: NDArray[np.intp]) -> NDArray[np.float64]:
    """Similarity of each probe window to the nearest window of the gallery's persons 0, 1, ..., `[P, persons]`."""
    nearest = np.full((len(similarity), int(gallery_number.max()) + 1), -np.inf)
    for person in range(nearest.shape[1]):
        nearest[:, person] = similarity[:, gallery_number == person].max(axis=1)
    return nearest


def person_ranks(
    similarity: NDArray[np.float64], gallery_number: NDArray[np.intp], own_number: NDArray[np.intp]
) -> NDArray[np.intp]:
    """The rank, from 1, of each probe window's own person, `[P]`, among the persons 0, 1, ... of the gallery.

    Others who are exactly as near come first.
    """
    nearest = person_scores(similarity, gallery_number)
    own = nearest[np.arange(len(similarity)), own_number]
    ranks: NDArray[np.intp] = (nearest >= own[:, np.newaxis]).sum(axis=1)  # the own person is one of them
    return ranks


def average_precisions(
    similarity: NDArray[np.float64], gallery_person: NDArray[np.str_], probe_person: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Average precision of the gallery windows for each probe window, `[P]`, whose person the gallery holds."""
    precision = metrics().average_precision_score
    rows = zip(similarity, probe_person, strict=True)
    return np.array([precision(gallery_person == person, row) for row, person in rows], np.float64)


def verification_wins(
    similarity: NDArray[np.float64],
    gallery_person: NDArray[np.str_],
    probe_names: NDArray[np.str_],
    probe_number: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The AUC in parts, so that it can be had for every draw of persons.

    It is `wins.sum() / (positives.sum() * negatives.sum())`.

    Args:
        similarity: of each probe window to each gallery window.
        gallery_person: `[gallery windows]`.
        probe_names: `[n]` persons of the probe.
        probe_number: `[probe windows]`, which of them each window is of.

    Returns:
        wins `[n, n]`: over pairs of one person's windows, of probe person p, and pairs of two persons', of probe
        person q: how many of the former are nearer, a tie counting half; positives and negatives `[n]`: pairs of
        each kind of each probe person.
    """
    asked = int(probe_number.max()) + 1
    same = probe_names[probe_number][:, np.newaxis] == gallery_person
    own = similarity[same]
    own_number = np.broadcast_to(probe_number[:, np.newaxis], same.shape)[same]
    in_order = np.argsort(own)
    own, own_number = own[in_order], own_number[in_order]
    wins, negatives = np.zeros((asked, asked)), np.zeros(asked, np.int64)
    for person in range(asked):
        mine = probe_number == person
        others = np.sort(similarity[mine][~same[mine]])
        below = np.searchsorted(others, own, side="left") + np.searchsorted(others, own, side="right")
        wins[:, person] = np.bincount(own_number, below / 2, asked)
        negatives[person] = len(others)
    return wins, np.bincount(own_number, minlength=asked), negatives


def _few(names: NDArray[np.str_]) -> str:
    return ", ".join(map(str, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
