"""The gate's statistics, against plain loops and the libraries that training uses; its verdicts at the bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from wifi_densepose_temporal.evaluation.bootstrap import DRAWS
from wifi_densepose_temporal.evaluation.gate import (
    contrastive_loss,
    crossed_draws,
    judge,
    mean_over_runs,
    neighbour_similarity,
    nt_xent,
    rank_agreement,
    ratio_over_runs,
    unavailable,
    verdict,
)
from wifi_densepose_temporal.evaluation.latency import LatencyRow, Timing, reached_from
from wifi_densepose_temporal.training import losses

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(2, 12))
def test_rank_agreement_is_spearman_over_the_references_nearest(seed: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(5), rng.integers(1, 6, 5))
    similarity = [
        np.where(recording[:, None] == recording, -np.inf, np.round(rng.normal(size=(len(recording),) * 2), 1))
        for _ in range(2)
    ]
    correlation, shared = rank_agreement(*similarity, top=top)
    count = min(top, min(int((recording != own).sum()) for own in recording))
    for window, (reference, other) in enumerate(zip(*similarity, strict=True)):
        nearest, others = (
            sorted(range(len(row)), key=lambda n, row=row: -row[n])[:count] for row in (reference, other)
        )
        assert shared[window] == pytest.approx(len(set(nearest) & set(others)) / count)
        if len(set(reference[nearest])) == 1 or len(set(other[nearest])) == 1:
            assert correlation[window] == 0
        else:
            expected = spearmanr(reference[nearest], other[nearest]).statistic
            assert correlation[window] == pytest.approx(expected, abs=1e-12)


def test_windows_of_the_same_recording_are_no_neighbours() -> None:
    unit = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    similarity = neighbour_similarity(unit, np.array([0, 0, 1]))
    np.testing.assert_array_equal(similarity, [[-np.inf, -np.inf, 0], [-np.inf, -np.inf, 0], [0, 0, -np.inf]])


def test_the_contrastive_loss_is_that_of_training() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(0, 0.5, (11, 6))
    second = first + rng.normal(0, 0.3, first.shape)
    pulled, spread = contrastive_loss(first, second, np.arange(11) // 2, np.ones((1, 6), np.int64))
    expected = losses.Contrastive()(torch.from_numpy(first), torch.from_numpy(second)).detach()
    assert pulled[0] + spread[0] == pytest.approx(float(expected), rel=1e-6)
    assert spread[0] > 1, "both parts are there"


def test_a_draw_of_the_contrastive_loss_is_that_of_the_windows_drawn() -> None:
    rng = np.random.default_rng(1)
    first, second, group = rng.normal(0, 0.5, (9, 4)), rng.normal(0, 0.5, (9, 4)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    drawn = np.array([[1, 1, 1], [0, 2, 1], [3, 0, 0]])
    pulled, spread = contrastive_loss(first, second, group, drawn)
    vicreg = losses.Contrastive()._spread
    for row, counts in enumerate(drawn):
        windows = [window for window in range(9) for _ in range(counts[group[window]])]
        assert pulled[row] == pytest.approx(nt_xent(first, second)[windows].mean())
        views = (torch.from_numpy(view[windows]) for view in (first, second))
        assert spread[row] == pytest.approx(float(vicreg(next(views), ref_emb=next(views))), rel=1e-6)


def test_ratios_and_their_intervals_are_those_of_what_was_drawn() -> None:
    rng = np.random.default_rng(2)
    wholes = [np.array([4.0, 6.0, 5.0]), np.array([3.0, 8.0])]
    parts = [rng.integers(0, 4, (2, 3)).astype(float), rng.integers(0, 4, (2, 2)).astype(float)]
    draws = crossed_draws(2, [3, 2])
    figures = ratio_over_runs(parts, wholes, draws)
    assert figures[0] == pytest.approx(sum(part.sum() for part in parts) / (2 * sum(whole.sum() for whole in wholes)))
    by_hand = []
    for draw in range(1, DRAWS + 1):
        right = count = 0.0
        for fold in range(2):
            for seed in np.repeat([0, 1], draws.seeds[draw]):
                for group in np.repeat(np.arange(len(wholes[fold])), draws.groups[fold][draw]):
                    right, count = right + parts[fold][seed, group], count + wholes[fold][group]
        by_hand.append(right / count)
    np.testing.assert_allclose(figures[1:], by_hand)
    assert draws.interval_of(figures) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])))


def test_a_mean_over_runs_weighs_seeds_as_drawn_and_folds_alike() -> None:
    draws = crossed_draws(2, [1, 1])
    rows = [np.array([np.full(DRAWS + 1, 1.0), np.full(DRAWS + 1, 3.0)]), np.full((2, DRAWS + 1), 5.0)]
    expected = [(seeds @ [1.0, 3.0] + 5.0 * 2) / 4 for seeds in draws.seeds]
    np.testing.assert_allclose(mean_over_runs(rows, draws), expected)


def test_nothing_to_draw_from_is_no_interval() -> None:
    draws = crossed_draws(1, [1])
    assert draws.interval_of(np.ones(DRAWS + 1)) is None
    assert crossed_draws(1, [2]).interval_of(np.ones(DRAWS + 1)) == (1, 1)


@pytest.mark.parametrize(
    ("difference", "most", "status", "within", "certain"),
    [
        (0.95, False, "pass", (0.96, 0.99), True),
        (0.95, False, "pass", (0.90, 0.99), False),
        (0.949, False, "fail", (0.90, 0.94), True),
        (0.949, False, "fail", (0.90, 0.95), False),
        (0.95, True, "pass", (0.90, 0.95), True),
        (0.951, True, "fail", None, None),
    ],
)
def test_the_bound_itself_passes_and_the_interval_says_how_sure_that_is(
    difference: float, most: bool, status: str, within: tuple[float, float] | None, certain: bool | None
) -> None:
    line = judge("x", "rule", (None, None), difference, 0.95, within, "draws", "said", most=most)
    assert (line.status, line.certain) == (status, certain)


def test_sparse_may_replace_dense_only_where_everything_passes() -> None:
    good = judge("a", "rule", (None, None), 1.0, 0.9, (0.95, 1.0), "draws", "said")
    open_ = judge("b", "rule", (None, None), 1.0, 0.9, (0.5, 1.0), "draws", "said")
    bad = judge("c", "rule", (None, None), 0.0, 0.9, None, "draws", "said")
    assert verdict([good, good]).endswith("yes, all criteria pass")
    assert verdict([good, open_]).endswith("their intervals leave open b")
    assert "no; c fails, d is unavailable" in verdict([good, bad, unavailable("d", "rule", "no test")])


def test_a_speedup_is_reached_from_the_length_after_the_last_that_misses_it() -> None:
    timing = Timing(1, 1, 1, None, 3)
    rows = [LatencyRow(T, timing, timing, speedup, 1, 1, 1) for T, speedup in ((64, 6), (128, 4), (256, 5), (512, 9))]
    assert reached_from(rows, lambda row: row.attention_speedup, 5) == 256
    assert reached_from(rows, lambda row: row.attention_speedup, 10) is None
