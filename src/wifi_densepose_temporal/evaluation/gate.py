"""Statistics of the validation gate: a sparse and a dense model on the same held-out windows. NumPy alone.

A gate has runs: S seeds in each of F folds (one fold where there is a plain split), and in each fold G groups of
windows (persons, or recordings) that the bootstrap draws whole. Draws are crossed (Owen, "The pigeonhole bootstrap",
2007): seeds are drawn, the same for all folds, and in each fold groups are drawn, the same for all seeds and for both
models; every person is tested in one fold, so folds are not drawn besides. What an interval cannot show: other rooms,
other months, and, where one seed was trained, what retraining alone would change.

Here are figures and verdicts; models and recordings are training/gate.py's.

Letters: N windows, E embedding size, D draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.evaluation.bootstrap import Interval, draw_counts, interval

Floats = NDArray[np.float64]
Status = Literal["pass", "fail", "unavailable"]

TOP = 50  # neighbours whose order counts

#: Of the contrastive loss, as training.losses.Contrastive starts: temperature, and VICReg's weights and epsilon.
TEMPERATURE, VARIANCE_WEIGHT, COVARIANCE_WEIGHT, VICREG_EPSILON = 0.07, 25.0, 1.0, 1e-4

#: Draws whose covariances are in memory at once.
AT_ONCE = 50


# ------------------------------------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Criterion:
    """One line of the gate.

    Attributes:
        name: what is compared.
        status: by `difference` and `bound` alone; the interval says how sure that is.
        rule: the criterion in words.
        sparse: the sparse model's figure, mean over runs.
        dense: the dense model's, or of what the criterion holds it against.
        difference: what the bound is on.
        bound: the least or most that passes.
        interval: 95 % of the difference.
        drawn: what the interval's draws are of.
        certain: whether the whole interval is on the difference's side of the bound; None without an interval.
        said: what was found, in a sentence; why it is unavailable.
    """

    name: str
    status: Status
    rule: str
    sparse: float | None = None
    dense: float | None = None
    difference: float | None = None
    bound: float | None = None
    interval: Interval | None = None
    drawn: str | None = None
    certain: bool | None = None
    said: str = ""


def judge(
    name: str,
    rule: str,
    figures: tuple[float | None, float | None],
    difference: float,
    bound: float,
    within: Interval | None,
    drawn: str,
    said: str,
    *,
    most: bool = False,
) -> Criterion:
    """A line that passes where the difference is at least the bound; with `most`, at most."""
    side = -1.0 if most else 1.0
    passed = side * difference >= side * bound
    certain = None
    if within is not None:
        certain = all((side * end >= side * bound) == passed for end in within)
    status: Status = "pass" if passed else "fail"
    return Criterion(name, status, rule, *figures, difference, bound, within, drawn, certain, said)


def unavailable(name: str, rule: str, why: str) -> Criterion:
    """A line without a figure."""
    return Criterion(name, "unavailable", rule, said=why)


def verdict(criteria: Sequence[Criterion]) -> str:
    """Whether sparse may replace dense, and why not, in a sentence: it may where every criterion passes."""
    missed = [
        f"{one.name} {'fails' if one.status == 'fail' else 'is unavailable'}"
        for one in criteria
        if one.status != "pass"
    ]
    if missed:
        return f"sparse may replace dense: no; {', '.join(missed)}"
    unsure = [one.name for one in criteria if not one.certain]
    return "sparse may replace dense: yes, all criteria pass" + (
        f", though their intervals leave open {', '.join(unsure)}" if unsure else ""
    )


# ---------------------------------------------------------------------------------------------------------- draws


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each seed, and each group of each fold, is in each draw. Row 0 is no draw: everything once."""

    seeds: NDArray[np.int64]
    """[D, S]."""
    groups: tuple[NDArray[np.int64], ...]
    """[D, G] of each fold."""

    def interval_of(self, figures: Floats) -> Interval | None:
        """The 95 % interval of a figure `[D]`; None where neither seeds nor groups are two."""
        return interval(figures[1:], max(self.seeds.shape[1], *(drawn.shape[1] for drawn in self.groups)))


def crossed_draws(seeds: int, groups: Sequence[int], seed: int = 0) -> Draws:
    """Draws of that many seeds, and of that many groups in each fold."""
    drawn = [draw_counts(count, seed + part) for part, count in enumerate((seeds, *groups))]
    first, *others = (np.concatenate([np.ones((1, rows.shape[1]), np.int64), rows]) for rows in drawn)
    return Draws(first, tuple(others))


def ratio_over_runs(parts: Sequence[Floats], wholes: Sequence[Floats], draws: Draws) -> Floats:
    """`sum(parts) / sum(wholes)` in each draw, `[D]`, such as the share of windows that are right.

    Args:
        parts: of each fold `[S, G]`.
        wholes: of each fold `[G]`: all seeds are tested on the same windows.
        draws: of them.
    """
    total = sum((drawn @ part.T * draws.seeds).sum(1) for drawn, part in zip(draws.groups, parts, strict=True))
    count = sum(drawn @ whole for drawn, whole in zip(draws.groups, wholes, strict=True)) * draws.seeds.sum(1)
    return np.asarray(total / count, np.float64)


def mean_over_runs(figures: Sequence[Floats], draws: Draws) -> Floats:
    """The mean of a figure that each run has in each draw: of each fold `[S, D]`; gives `[D]`."""
    weighted = sum((rows.T * draws.seeds).sum(1) for rows in figures)
    return np.asarray(weighted / (draws.seeds.sum(1) * len(figures)), np.float64)


# --------------------------------------------------------------------------------------------- contrastive loss


def contrastive_loss(
    first: Floats, second: Floats, group: NDArray[np.intp], drawn: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """NT-Xent and VICReg of two views of all windows at once, in each draw of groups.

    With every group once it is `training.losses.Contrastive` at its first temperature. NT-Xent is a mean over windows
    whose negatives are all the other windows, drawn or not; VICReg is of the drawn windows' own covariance.

    Args:
        first: `[N, E]` one view of each window, as projected: not of unit length.
        second: `[N, E]` the other.
        group: `[N]`, 0 to G - 1.
        drawn: `[D, G]`.

    Returns:
        NT-Xent `[D]` and VICReg `[D]`, weights included; the loss is their sum.
    """
    count = np.bincount(group, minlength=drawn.shape[1])
    losses = np.bincount(group, nt_xent(first, second), drawn.shape[1])
    pulled = (drawn @ losses) / (drawn @ count)
    return pulled, _vicreg(first, group, drawn) + _vicreg(second, group, drawn)


def nt_xent(first: Floats, second: Floats) -> Floats:
    """`[N]`: of each window, the mean over its two views of -log of the other view's share among all other views."""
    views = np.concatenate([first, second])
    unit = views / np.maximum(np.linalg.norm(views, axis=1, keepdims=True), 1e-12)
    logits = unit @ unit.T / TEMPERATURE
    np.fill_diagonal(logits, -np.inf)
    other = np.roll(np.arange(len(views)), len(first))
    highest = logits.max(1)
    total = highest + np.log(np.exp(logits - highest[:, np.newaxis]).sum(1))
    losses = total - logits[np.arange(len(views)), other]
    return np.asarray(losses.reshape(2, -1).mean(0), np.float64)


def _vicreg(view: Floats, group: NDArray[np.intp], drawn: NDArray[np.int64]) -> Floats:
    """Variance and covariance terms of one view `[D]`, from each group's sums of products."""
    size, centred = view.shape[1], view - view.mean(0)
    rows = [centred[group == number] for number in range(drawn.shape[1])]
    sums = np.stack([some.sum(0) for some in rows])
    products = np.stack([(some.T @ some).ravel() for some in rows])
    count = drawn @ np.bincount(group, minlength=drawn.shape[1])
    terms = []
    for start in range(0, len(drawn), AT_ONCE):
        part, n = drawn[start : start + AT_ONCE].astype(np.float64), count[start : start + AT_ONCE, np.newaxis]
        mean = part @ sums / n
        outer = n[:, :, np.newaxis] * mean[:, :, np.newaxis] * mean[:, np.newaxis]
        covariance = ((part @ products).reshape(-1, size, size) - outer) / np.maximum(n - 1, 1)[:, :, np.newaxis]
        variance = np.diagonal(covariance, axis1=1, axis2=2)
        spread = np.maximum(0, 1 - np.sqrt(np.maximum(variance, 0) + VICREG_EPSILON)).mean(1) / 2
        together = ((covariance**2).sum((1, 2)) - (variance**2).sum(1)) / size
        terms.append(VARIANCE_WEIGHT * spread + COVARIANCE_WEIGHT * together)
    return np.concatenate(terms)


# ------------------------------------------------------------------------------------------ nearest neighbours


def neighbour_similarity(unit: Floats, recording: NDArray[np.intp]) -> Floats:
    """Cosine of each window `[N]` to each other `[N, N]`; -inf to those of its own recording, which are no neighbours.

    Args:
        unit: `[N, E]`, of unit length.
        recording: `[N]`.
    """
    return np.where(recording[:, np.newaxis] == recording, -np.inf, unit @ unit.T)


def rank_agreement(reference: Floats, other: Floats, top: int = TOP) -> tuple[Floats, Floats]:
    """How alike two models order the nearest neighbours of each window.

    Args:
        reference: `[P, N]` similarities; -inf is no neighbour.
        other: `[P, N]` the other model's, -inf at the same places.
        top: neighbours that count; fewer where a window has no more.

    Returns:
        `[P]` Spearman's rank correlation, over the `top` nearest of the reference, of the two models' similarities
        (ties share their mean rank; 0 where a model tells none of them apart); `[P]` the share of them that is among
        the `top` nearest of the other too.
    """
    top = min(top, int(np.isfinite(reference).sum(1).min()))
    nearest, others = (np.argsort(-rows, axis=1, kind="stable")[:, :top] for rows in (reference, other))
    first, second = (_centred_ranks(np.take_along_axis(rows, nearest, 1)) for rows in (reference, other))
    size = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    correlation = np.divide((first * second).sum(1), size, out=np.zeros(len(size)), where=size > 0)
    shared = (nearest[:, :, np.newaxis] == others[:, np.newaxis]).any(2).mean(1)
    return correlation, shared


def _centred_ranks(rows: Floats) -> Floats:
    """Rank of each value in its row, less the mean rank; ties share theirs."""
    left, right = rows[:, :, np.newaxis], rows[:, np.newaxis]
    return np.asarray(((left > right).sum(2) + (left >= right).sum(2) - rows.shape[1]) / 2, np.float64)
