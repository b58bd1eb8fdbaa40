"""Open-set identification and verification: strangers among the probes, and what a threshold then lets through.

A search compares one probe with all enrolled persons; the highest score is its candidate. Terms are of ISO/IEC 19795-1:

    FPIR   share of the searches for persons not enrolled (non-mated) that give a candidate: a score above the threshold
    TPIR   share of the searches for enrolled persons (mated) whose own person comes first, and above the threshold;
           1 - TPIR is the FNIR
    EER    of verification, one probe against one claim: where the false match rate equals the false non-match rate

Conventions. A score passes a threshold when it is above it, so that the scores of one value pass together. TPIR at an
FPIR f is at the lowest threshold that lets no more than f of the non-mated searches through; where f of them is less
than one search there is no such figure, and it is None: the threshold would be the luck of a single stranger. Where
another person is exactly as near, the own one does not come first. A probe without an embedding has the score -inf: it
passes no threshold, and counts. The EER is on the straight line between the two points of the ROC that it lies between.

Intervals are over persons, as bootstrap.py has them: every draw finds the threshold anew, with its persons' searches.
Who is enrolled, and how a person's windows become one score, is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import ShapeError
from wifi_densepose_temporal.evaluation.bootstrap import Interval, interval
from wifi_densepose_temporal.evaluation.scikit import metrics

FPIRS = {"tpir_fpir10": 0.10, "tpir_fpir1": 0.01}
"""The reported TPIRs by name, and the FPIR of each."""

MAX_THRESHOLDS = 1024  # of the ROC of a draw; the figure itself is of all
CELLS = 1 << 21  # draws times searches that are weighted at once

Draws = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Searches:
    """What each of n probes gave."""

    score: NDArray[np.float64]
    """[n] of the candidate, larger is nearer; -inf where the probe has no embedding."""
    mated: NDArray[np.bool_]
    """[n] the probe's person is enrolled."""
    first: NDArray[np.bool_]
    """[n] and is the candidate; False for a non-mated search."""
    person: NDArray[np.intp]
    """[n] number of the probe's person; what intervals are drawn over."""

    @property
    def non_mated(self) -> int:
        """Searches for persons who are not enrolled."""
        return int((~self.mated).sum())


def search(
    scores: NDArray[np.float64],
    enrolled: NDArray[np.str_],
    probe_names: NDArray[np.str_],
    probe_number: NDArray[np.intp],
) -> Searches:
    """Searches for the persons of probes.

    Args:
        scores: `[n, enrolled persons]` of each probe and person; a probe without an embedding has -inf everywhere.
        enrolled: `[enrolled persons]`, each once, in the order of `np.unique`.
        probe_names: `[persons of the probe]`, each once.
        probe_number: `[n]`, which of them each probe is of.

    Raises:
        ShapeError: the scores are not one for each probe and person, or nobody is enrolled.
    """
    if scores.shape != (len(probe_number), len(enrolled)) or not len(enrolled):
        raise ShapeError(
            f"scores of shape {scores.shape} for {len(probe_number)} probes and {len(enrolled)} enrolled persons; "
            "expected [probes, enrolled persons], and at least one person"
        )
    place = np.searchsorted(enrolled, probe_names)
    is_enrolled = enrolled[np.minimum(place, len(enrolled) - 1)] == probe_names
    mated, best = is_enrolled[probe_number], scores.max(axis=1)
    own = scores[np.arange(len(scores)), np.where(mated, place[probe_number], 0)]
    alone = (scores == best[:, np.newaxis]).sum(axis=1) == 1
    return Searches(best, mated, mated & (own == best) & alone & np.isfinite(best), probe_number)


def joined(parts: Sequence[Searches]) -> Searches:
    """Searches that share one threshold: of one model in several galleries, such as each half of some persons."""
    names = ("score", "mated", "first", "person")
    return Searches(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def threshold_at(searches: Searches, fpir: float) -> float | None:
    """The lowest threshold that at most `fpir`, 0..1, of the non-mated searches pass; None as the figures at it.

    It describes these searches, as TPIR and FPIR do. A gallery's threshold, of reid/calibration.py, is for a stranger
    who is still to come, and so a little stricter; and there a score passes when it is at it, not only above.
    """
    scores = np.sort(searches.score[~searches.mated])[::-1]
    allowed = int(_allowed(np.array([len(scores)]), fpir)[0])
    return float(scores[allowed]) if 0 < allowed < len(scores) else None


def rates_at(searches: Searches, threshold: float) -> tuple[float | None, float | None]:
    """FPIR and TPIR at a threshold that comes from elsewhere; None where there is no search of the kind."""
    passed = searches.score > threshold
    fpir, tpir = passed[~searches.mated], (passed & searches.first)[searches.mated]
    return (float(fpir.mean()) if len(fpir) else None), (float(tpir.mean()) if len(tpir) else None)


def tpir(searches: Searches, fpir: float, drawn: Draws) -> NDArray[np.float64]:
    """TPIR at an FPIR, for each draw of persons; NaN where there is none.

    Args:
        searches: all of them.
        fpir: 0..1.
        drawn: `[draws, persons]`, how often each is in a draw; one row of ones gives the figure itself.

    Returns:
        `[draws]`.
    """
    scores, owner = _falling(searches, ~searches.mated)
    hits, hit_owner = _falling(searches, searches.first)
    above = np.searchsorted(-hits, -scores, side="left")  # hits above a threshold at each of the scores
    mated = drawn @ np.bincount(searches.person[searches.mated], minlength=drawn.shape[1])
    found = np.full(len(drawn), np.nan)
    size = max(1, CELLS // max(1, len(searches.score)))
    for start in range(0, len(drawn) if len(scores) else 0, size):
        part = slice(start, start + size)
        passed = np.cumsum(drawn[part][:, owner], axis=1)
        allowed = _allowed(passed[:, -1], fpir)
        threshold = (passed > allowed[:, np.newaxis]).argmax(axis=1)  # the first score that must not pass
        right = np.cumsum(np.pad(drawn[part][:, hit_owner], ((0, 0), (1, 0))), axis=1)
        counted = (allowed > 0) & (allowed < passed[:, -1]) & (mated[part] > 0)
        share = right[np.arange(len(right)), above[threshold]] / np.maximum(1, mated[part])
        found[part] = np.where(counted, share, np.nan)
    return found


def tpirs_of(searches: Searches, drawn: Draws) -> tuple[dict[str, float | None], dict[str, Interval | None]]:
    """The TPIRs of `FPIRS` by name, and their intervals.

    An interval is None where there is no figure, and where the mated or the non-mated searches are of one person.

    Args:
        searches: all of them.
        drawn: `[DRAWS, persons]` of `draw_counts`.
    """
    groups = min(len(np.unique(searches.person[kind])) for kind in (searches.mated, ~searches.mated))
    found: dict[str, float | None] = dict.fromkeys(FPIRS)
    intervals: dict[str, Interval | None] = dict.fromkeys(FPIRS)
    for name, fpir in FPIRS.items():
        figure = tpir(searches, fpir, np.ones_like(drawn[:1]))[0]
        if np.isfinite(figure):
            found[name], intervals[name] = float(figure), interval(tpir(searches, fpir, drawn), groups)
    return found, intervals


def equal_error_rate(
    similarity: NDArray[np.float64], same: NDArray[np.bool_], person: NDArray[np.intp], drawn: Draws
) -> tuple[float | None, NDArray[np.float64]]:
    """EER of pairs, and in each draw of persons.

    The figure is of the ROC of scikit-learn; a draw's ROC has no more than `MAX_THRESHOLDS` of its points, so that an
    interval may be off by about one in as many.

    Args:
        similarity: `[probes, references]`, larger is nearer.
        same: the pair is of one person.
        person: `[probes]`, number of each probe's person; a pair is drawn with the person of its probe.
        drawn: as for `tpir`.

    Returns:
        the EER, None where all pairs are of one kind; and `[draws]`, NaN likewise.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    if same.all() or not same.any():
        return None, np.full(len(drawn), np.nan)
    false, true, thresholds = metrics().roc_curve(same.ravel(), similarity.ravel(), drop_intermediate=False)
    few = np.unique(np.linspace(0, len(thresholds) - 1, MAX_THRESHOLDS).round().astype(np.intp))
    matches = np.zeros((2, drawn.shape[1], len(few)))  # pairs of two persons and of one, of each probe person
    for number in np.unique(person):
        mine = person == number
        for kind in (0, 1):
            rising = np.sort(similarity[mine][same[mine] == kind])
            matches[kind, number] = len(rising) - np.searchsorted(rising, thresholds[few], side="left")
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw without pairs of a kind
        of_draws = _crossing(*((drawn @ kind) / (drawn @ kind[:, -1])[:, np.newaxis] for kind in matches))
    return float(_crossing(false[np.newaxis], true[np.newaxis])[0]), of_draws


def _crossing(false: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where false matches are as frequent as missed ones, on ROCs `[n, points]` from (0, 0) to (1, 1)."""
    gap = false - (1 - true)  # from -1 to 1, never falling
    after, row = np.maximum(1, (gap >= 0).argmax(axis=1)), np.arange(len(gap))
    low, high = gap[row, after - 1], gap[row, after]
    part = -low / (high - low)
    found: NDArray[np.float64] = false[row, after - 1] + part * (false[row, after] - false[row, after - 1])
    return found


def _allowed(searches: NDArray[np.int64], fpir: float) -> NDArray[np.int64]:
    """How many of so many searches may pass; 0.1 of 30 is 3, and 3.0000000000000004 in floating point."""
    return np.floor(np.round(fpir * searches, 9)).astype(np.int64)


def _falling(searches: Searches, of: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Scores of some searches, the highest first, and whose they are."""
    order = np.argsort(-searches.score[of], kind="stable")
    return searches.score[of][order], searches.person[of][order]
