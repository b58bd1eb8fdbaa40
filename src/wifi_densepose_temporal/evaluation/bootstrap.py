"""Bootstrap intervals: the percentile method of Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), 13.3.

What is drawn with replacement are whole groups (recordings, persons), never windows or packets: those of one recording
are alike, and drawing them one by one would give intervals that are far too narrow. A metric that can be told from sums
over groups is computed for all draws at once from `draw_counts`. What an interval cannot show: how much the figure
would move in another room or in another month that no group here has seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95

Interval = tuple[float, float]


def draw_counts(groups: int, seed: int) -> NDArray[np.int64]:
    """How often each of `groups` groups is in each draw of as many, `[DRAWS, groups]`."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=DRAWS)


def interval(figures: NDArray[np.float64], groups: int) -> Interval | None:
    """The 95 % interval of a metric from its value in each draw, `[DRAWS]`; NaN where a draw has none.

    None where there are fewer than two groups, which say nothing of how groups differ.
    """
    known = figures[np.isfinite(figures)]
    if groups < 2 or not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio_interval(
    parts: NDArray[np.int64] | NDArray[np.float64], wholes: NDArray[np.int64], seed: int
) -> Interval | None:
    """The interval of `sum(parts) / sum(wholes)`, both `[groups]`; None as `interval`."""
    if not len(wholes):
        return None
    drawn = draw_counts(len(wholes), seed)
    with np.errstate(invalid="ignore"):  # a draw of groups without any item has no ratio
        return interval((drawn @ parts) / (drawn @ wholes), len(wholes))
