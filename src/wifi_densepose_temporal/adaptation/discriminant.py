"""The closed form: a linear discriminant of training, moved towards a few new windows, and whether that helps.

Fisher 1936, with the class means and the covariance as `refit` says. No recordings, no blobs: those are adapt.py's.

Letters: C classes, P pooled_dim, N windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import BlobModelError

Float64 = NDArray[np.float64]

#: Training's class means count as this many new recordings of each class.
PRIOR_RECORDINGS = 0.5
#: A new window counts as this many of training's in the covariance, which training has fitted itself to.
NEW_WINDOW_WEIGHT = 8.0
#: How far the covariance is shrunk towards features that vary independently (Ledoit and Wolf 2004 for why).
SHRINKAGE = 0.03
#: What a class of which nothing is known is behind the others in the logits; float16 holds it.
NEVER = 1e3


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

    def right(self, windows: Windows) -> NDArray[np.bool_]:
        """`[N]`: which windows it decides right."""
        decided = (windows.pooled @ self.weight + self.bias).argmax(axis=1)
        return np.asarray(decided == windows.label)


@dataclass(frozen=True)
class Validation:
    """Whether a refit helps, in windows decided right of those in the recordings given.

    Each recording is decided by a refit without it and its fold. Where that refit has seen one new window of a class or
    none, it decides less than the whole refit will, and one standard error is allowed for that.
    """

    windows: int
    recordings: int
    before: int
    """By the model as it was."""
    after: int
    """By refits that have not seen the recording."""
    error: float
    """Standard error of `after - before`: root of the windows that one of the two has right (McNemar 1947)."""
    seen: int
    """By the refit on all of them."""
    most_frequent: int
    """Windows of the most frequent class."""
    scarce: bool
    """Whether a refit decided a class of which it had seen at most one new window."""

    @property
    def helps(self) -> bool:
        """There is something to gain, the check bears it out, and it is no guess at the most frequent class.

        A guess may be right by luck: two standard errors of it, over recordings, do not count. With two
        classes that takes six recordings at least.
        """
        guess = self.most_frequent / self.windows
        luck = 2 * (guess * (1 - guess) / self.recordings) ** 0.5
        knows = self.after > self.windows * (guess + luck)
        better = self.after >= self.before - self.error if self.scarce else self.after > self.before
        return knows and better and self.seen > self.before

    def __str__(self) -> str:
        before, after, seen = (
            f"{count} ({count / self.windows:.1%})" for count in (self.before, self.after, self.seen)
        )
        return (
            f"of {self.windows} windows in {self.recordings} recordings, {self.most_frequent} of the most frequent "
            f"class, the model as it is decides {before} right; refitted without the recording decided {after}, a "
            f"difference with a standard error of {self.error:.1f}; refitted with it {seen}"
        )


def measure(windows: Windows, classes: int) -> ClassStatistics:
    """Statistics of training's windows; a class without a window has a mean of zeros."""
    counts = np.bincount(windows.label, minlength=classes).astype(np.float64)
    mean = group_means(windows.pooled, windows.label, classes)
    around = windows.pooled - mean[windows.label]
    return ClassStatistics(counts, mean, around.T @ around / max(1.0, len(windows) - int(np.count_nonzero(counts))))


def refit(statistics: ClassStatistics, windows: Windows) -> Classifier:
    """The linear discriminant of training's statistics moved towards new windows.

    A class's mean is that of its new windows, weighed by the number of recordings they are from, with training's mean
    moved by what the other classes have moved, weighed by `PRIOR_RECORDINGS`: a class without a new window moves along.
    Of a class that training had no window of the new ones alone count; without those it is not decided for.
    The covariance is shrunk in units of training's spread.

    Raises:
        BlobModelError: statistics that are no covariance.
    """
    counts, mean, covariance = statistics
    classes = len(counts)
    centre = counts @ mean / counts.sum()
    spread = np.sqrt(np.diag(covariance) + counts @ (mean - centre) ** 2 / counts.sum()) + 1e-6
    recordings = np.array([len(set(windows.recording[windows.label == c].tolist())) for c in range(classes)])
    present, known = recordings > 0, counts > 0  # here, and in training
    new, old = (group_means(windows.pooled, windows.label, classes) - centre) / spread, (mean - centre) / spread
    moved = (new - old)[present & known].mean(axis=0) if (present & known).any() else np.zeros(len(centre))
    weight = np.where(known, recordings / (recordings + PRIOR_RECORDINGS), 1.0)[:, None]
    means = weight * new + (1 - weight) * (old + moved)
    around = (windows.pooled - centre) / spread - new[windows.label]
    scatter = counts.sum() * covariance / np.outer(spread, spread) + NEW_WINDOW_WEIGHT * around.T @ around
    within = scatter / (counts.sum() + NEW_WINDOW_WEIGHT * max(0, len(windows) - int(np.count_nonzero(present))))
    try:
        factor = np.linalg.cholesky(shrunk(within, SHRINKAGE))
    except np.linalg.LinAlgError:
        raise BlobModelError(
            "the class statistics of this model are no covariance; was it written by this tool?"
        ) from None
    directions = np.linalg.solve(factor.T, np.linalg.solve(factor, means.T))
    weights = directions / spread[:, None]
    bias = -0.5 * np.sum(means.T * directions, axis=0) - centre @ weights
    bias[~present & ~known] = bias.min() - NEVER  # nothing is known of such a class
    return Classifier(weights, bias)


def validate(statistics: ClassStatistics, original: Classifier, windows: Windows) -> Validation:
    """Refits without the recordings of each fold decide these, and are held against the model as it was."""
    before, after, scarce = original.right(windows), np.zeros(len(windows), np.bool_), False
    fold = folds(windows)
    for number in np.unique(fold):
        held_out = fold == number
        kept = np.bincount(windows.label[~held_out], minlength=int(windows.label.max()) + 1)
        scarce = scarce or bool((kept[windows.label[held_out]] <= 1).any())
        after[held_out] = refit(statistics, windows.where(~held_out)).right(windows.where(held_out))
    return Validation(
        windows=len(windows),
        recordings=len(np.unique(windows.recording)),
        before=int(before.sum()),
        after=int(after.sum()),
        error=float(np.sqrt(np.count_nonzero(before != after))),
        seen=int(refit(statistics, windows).right(windows).sum()),
        most_frequent=int(np.bincount(windows.label).max()),
        scarce=scarce,
    )


def folds(windows: Windows) -> NDArray[np.int64]:
    """`[N]`: which windows are decided together by a refit on all others; those of a recording always are.

    Where each class has several recordings, a fold has one or more of each: a class that alone has fewer recordings
    than the others would lose to them. Otherwise each recording is a fold.
    """
    recordings, first, place = np.unique(windows.recording, return_index=True, return_inverse=True)
    label = windows.label[first]
    fewest = np.bincount(label)[np.unique(label)].min()
    if fewest < 2 or len(np.unique(label)) < len(np.unique(windows.label)):
        return np.asarray(place)
    order = np.array([np.count_nonzero(label[:number] == label[number]) for number in range(len(recordings))])
    return np.asarray((order % fewest)[place])


def group_means(rows: Float64, group: NDArray[np.integer], count: int) -> Float64:
    """`[count, P]`: mean of the rows `[N, P]` of each group; zeros of a group without one."""
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, group, rows)
    return sums / np.maximum(np.bincount(group, minlength=count), 1)[:, None]


def shrunk(covariance: Float64, share: float) -> Float64:
    """A covariance `[P, P]` moved by a share towards independent features of one variance (Ledoit and Wolf 2004)."""
    level = share * np.trace(covariance) / len(covariance)
    return np.asarray((1 - share) * covariance + level * np.eye(len(covariance)))
