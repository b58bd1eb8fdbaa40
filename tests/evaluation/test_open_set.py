"""TPIR, FPIR and EER against plain loops, their intervals, what there is no figure for, and four real recordings."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from wifi_densepose_temporal import load_model
from wifi_densepose_temporal.datasets import open_dataset
from wifi_densepose_temporal.errors import ShapeError
from wifi_densepose_temporal.evaluation import (
    FPIRS,
    Searches,
    evaluate_identity,
    identity_document,
    joined,
    rates_at,
    score,
    search,
    threshold_at,
    tpir,
)
from wifi_densepose_temporal.evaluation.bootstrap import draw_counts
from wifi_densepose_temporal.evaluation.open_set import equal_error_rate, tpirs_of

SHIPPED = Path(__file__).parents[2] / "src" / "wifi_densepose_temporal" / "data"
LEVELS = st.sampled_from([-np.inf, -0.5, 0.0, 0.25, 0.5, 1.0])  # few, so that many tie


@st.composite
def several(draw: st.DrawFn) -> Searches:
    """Up to 40 searches of up to 5 persons, of whom the first ones are enrolled."""
    person = np.array(draw(st.lists(st.integers(0, 4), min_size=1, max_size=40)), np.intp)
    values = np.array([draw(LEVELS) for _ in person])
    mated = person < draw(st.integers(0, 5))
    first = np.array([draw(st.booleans()) for _ in person]) & mated & np.isfinite(values)
    return Searches(values, mated, first, person)


def repeated(searches: Searches, counts: NDArray[np.int64]) -> Searches:
    """Each search as often as its person was drawn, one by one."""
    rows = [row for row, person in enumerate(searches.person) for _ in range(counts[person])]
    return Searches(*(getattr(searches, name)[rows] for name in ("score", "mated", "first", "person")))


def plain_tpir(searches: Searches, fpir: float) -> float | None:
    """The best TPIR over all thresholds whose FPIR is allowed, by trying each of them."""
    strangers, known = searches.score[~searches.mated], int(searches.mated.sum())
    if not known or round(fpir * len(strangers), 9) < 1:
        return None
    best = 0.0
    for threshold in [*searches.score.tolist(), 2.0]:
        passed = sum(score > threshold for score in strangers.tolist())
        if passed <= round(fpir * len(strangers), 9):
            right = sum(
                bool(first) and score > threshold
                for score, first in zip(searches.score.tolist(), searches.first.tolist(), strict=True)
            )
            best = max(best, right / known)
    return best


def once(persons: int) -> NDArray[np.int64]:
    return np.ones((1, persons), np.int64)


@given(several(), st.sampled_from([0.01, 0.1, 0.3, 0.5]), st.integers(0, 9))
def test_tpir_is_the_best_that_any_allowed_threshold_gives_and_so_in_each_draw(
    searches: Searches, fpir: float, seed: int
) -> None:
    drawn = np.random.default_rng(seed).multinomial(5, np.full(5, 1 / 5), size=4)
    for counts, found in zip(drawn, tpir(searches, fpir, drawn), strict=True):
        expected = plain_tpir(repeated(searches, counts), fpir)
        assert (None if np.isnan(found) else found) == (None if expected is None else pytest.approx(expected))


@given(several(), st.sampled_from([0.1, 0.3, 0.5]))
def test_at_its_threshold_no_more_strangers_pass_than_stated_and_the_tpir_is_the_one_reported(
    searches: Searches, fpir: float
) -> None:
    threshold, figure = threshold_at(searches, fpir), tpir(searches, fpir, once(5))[0]
    if threshold is None:
        assert np.isnan(figure)
        return
    measured, right = rates_at(searches, threshold)
    assert measured is not None
    assert measured <= fpir
    assert (np.nan if right is None else right) == pytest.approx(figure, nan_ok=True)
    if np.isfinite(threshold):  # at any lower one too many would
        lower = np.nextafter(threshold, -np.inf)
        assert (searches.score[~searches.mated] > lower).sum() > round(fpir * searches.non_mated, 9)


def test_a_search_finds_the_nearest_person_and_among_equals_not_the_right_one() -> None:
    scores = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.4], [0.3, 0.8], [-np.inf, -np.inf]])
    names, number = np.array(["ann", "bo", "zoe"]), np.array([0, 0, 1, 2, 1])
    found = search(scores, np.array(["ann", "bo"]), names, number)
    assert found.score.tolist() == [0.9, 0.5, 0.4, 0.8, -np.inf]
    assert found.mated.tolist() == [True, True, True, False, True]
    assert found.first.tolist() == [True, False, True, False, False]  # a probe without an embedding finds nobody
    assert rates_at(found, 0.45) == (1.0, 0.25)
    assert rates_at(found, 0.8) == (0.0, 0.25)  # a score passes when it is above


def test_scores_of_another_shape_and_an_empty_gallery_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3\) for 2 probes and 2 enrolled"):
        search(np.ones((2, 3)), np.array(["ann", "bo"]), np.array(["ann"]), np.zeros(2, np.intp))
    with pytest.raises(ShapeError, match="0 enrolled persons"):
        search(np.ones((1, 0)), np.array([], np.str_), np.array(["ann"]), np.zeros(1, np.intp))


def test_searches_of_two_galleries_share_one_threshold() -> None:
    names, number = np.array(["ann", "bo"]), np.array([0, 1])
    one = search(np.array([[0.9], [0.3]]), np.array(["ann"]), names, number)
    other = search(np.array([[0.5], [0.4]]), np.array(["bo"]), names, number)
    both = joined([one, other])
    assert (both.mated.tolist(), both.person.tolist()) == ([True, False, False, True], [0, 1, 0, 1])
    assert threshold_at(both, 0.5) == 0.3
    assert tpir(both, 0.5, once(2)).tolist() == [1.0]


# --------------------------------------------------------------------------------------------------- verification


def plain_eer(own: list[float], other: list[float]) -> float:
    """Walks down the thresholds and crosses the line where both rates are equal."""
    before = (0.0, 1.0)
    for threshold in sorted({*own, *other}, reverse=True):
        now = sum(x >= threshold for x in other) / len(other), sum(x < threshold for x in own) / len(own)
        if now[0] >= now[1]:
            part = (before[1] - before[0]) / ((before[1] - before[0]) + (now[0] - now[1]))
            return before[0] + part * (now[0] - before[0])
        before = now
    raise AssertionError("rates never cross")


PAIR = st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0]), st.booleans())


@given(st.lists(st.lists(PAIR, min_size=4, max_size=4), min_size=1, max_size=6), st.integers(0, 9))
def test_eer_is_that_of_plain_loops_and_so_in_each_draw(pairs: list[list[tuple[float, bool]]], seed: int) -> None:
    similarity, same = (np.array([[pair[k] for pair in row] for row in pairs]) for k in (0, 1))
    same = same.astype(bool)
    person = np.arange(len(pairs), dtype=np.intp) % 3
    drawn = np.concatenate([once(3), np.random.default_rng(seed).multinomial(3, np.full(3, 1 / 3), size=3)])
    eer, of_draws = equal_error_rate(similarity, same, person, drawn)
    for number, counts in enumerate(drawn):
        rows = np.repeat(np.arange(len(pairs)), counts[person])
        own, other = similarity[rows][same[rows]].tolist(), similarity[rows][~same[rows]].tolist()
        if own and other:
            assert of_draws[number] == pytest.approx(plain_eer(own, other))
        else:
            assert np.isnan(of_draws[number])
    assert (np.nan if eer is None else eer) == pytest.approx(of_draws[0], nan_ok=True)


def test_more_pairs_than_a_draws_roc_has_points_move_an_interval_by_a_thousandth_at_most() -> None:
    rng = np.random.default_rng(3)
    same = rng.random((60, 200)) < 0.1
    similarity = rng.normal(size=same.shape) + 2.0 * same
    eer, of_draws = equal_error_rate(similarity, same, np.zeros(60, np.intp), once(1))
    false, true, _ = roc_curve(same.ravel(), similarity.ravel())
    assert eer is not None
    assert abs(np.interp(eer, false, true) - (1 - eer)) < 1e-9
    assert of_draws[0] == pytest.approx(eer, abs=1e-3)


# ------------------------------------------------------------------------------------------ intervals, and no figure


def strangers_and_known(strangers: int, searches: int = 30) -> Searches:
    """Three known persons, found by their scores of 1, and strangers below; 30 searches each."""
    person = np.repeat(np.arange(3 + strangers), searches)
    values = np.where(person < 3, 1.0, np.linspace(0, 0.9, len(person)))
    return Searches(values, person < 3, person < 3, person)


def test_intervals_hold_the_figure_and_need_two_persons_of_each_kind() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat(np.arange(12), 20)
    values = rng.normal(0, 1, 240) + np.repeat(rng.normal(0, 0.5, 12), 20) + (person < 6)
    many = Searches(values, person < 6, person < 6, person)
    figures, intervals = tpirs_of(many, draw_counts(12, 0))
    for name in FPIRS:
        low, high = intervals[name] or (1, 0)
        assert low <= (figures[name] or 0) <= high
        assert low < high
    assert tpirs_of(strangers_and_known(2), draw_counts(5, 0))[1]["tpir_fpir10"] == (1.0, 1.0)
    figures, intervals = tpirs_of(strangers_and_known(1), draw_counts(4, 0))
    assert (figures["tpir_fpir10"], intervals["tpir_fpir10"]) == (1.0, None)


@pytest.mark.parametrize(
    ("strangers", "searches", "expected"),
    [(0, 30, (None, None)), (1, 1, (None, None)), (1, 9, (None, None)), (1, 10, (1.0, None)), (1, 100, (1.0, 1.0))],
)
def test_where_the_share_is_less_than_one_search_there_is_no_figure(
    strangers: int, searches: int, expected: tuple[float | None, float | None]
) -> None:
    figures, intervals = tpirs_of(strangers_and_known(strangers, searches), draw_counts(3 + strangers, 0))
    assert (figures["tpir_fpir10"], figures["tpir_fpir1"]) == expected
    assert set(intervals.values()) == {None}
    assert (threshold_at(strangers_and_known(strangers, searches), 0.01) is None) == (expected[1] is None)


def test_without_a_search_of_a_kind_its_rate_is_none() -> None:
    known = strangers_and_known(0)
    assert rates_at(known, 0.5) == (None, 1.0)
    strangers = Searches(known.score, ~known.mated, ~known.first, known.person)
    assert rates_at(strangers, 0.5) == (1.0, None)


# --------------------------------------------------------------------------------------------------------- recordings


def test_scores_of_an_evaluation_have_them_where_the_probe_has_strangers() -> None:
    rng = np.random.default_rng(2)
    gallery, probe = np.repeat(["ann", "bo"], 3), np.repeat(["ann", "bo", "cy", "d"], 10)
    similarity = rng.normal(size=(40, 6)) + 2 * (probe[:, np.newaxis] == gallery)
    scores = score(similarity, gallery, probe)
    best = np.stack([similarity[:, :3].max(axis=1), similarity[:, 3:].max(axis=1)], axis=1)
    names, number = np.unique(probe, return_inverse=True)
    searches = search(best, np.array(["ann", "bo"]), names, number)
    assert scores.tpir == {"tpir_fpir10": plain_tpir(searches, 0.1), "tpir_fpir1": None}
    assert (scores.non_mated, scores.intervals["tpir_fpir1"]) == (20, None)
    assert scores.intervals["tpir_fpir10"] is not None
    same = probe[:, np.newaxis] == gallery
    assert scores.eer == pytest.approx(plain_eer(similarity[same].tolist(), similarity[~same].tolist()))
    assert score(similarity[:20], gallery, probe[:20]).tpir == {"tpir_fpir10": None, "tpir_fpir1": None}


def test_four_recordings_of_the_package_one_person_enrolled_one_not(tmp_path: Path) -> None:
    for person, session in itertools.product(("p01", "p02"), "AB"):
        shutil.copy(SHIPPED / f"wiper81_{person}_{session}.npz", tmp_path / f"{person}_{session}.npz")
    manifest, model = open_dataset(tmp_path), load_model("reid")
    result = evaluate_identity(model, manifest.select("session=A,person=p01"), manifest.select("session=B"))
    scores = result.scores
    assert (scores.strangers, scores.non_mated, scores.rank(1)) == (("p02",), 10, 1.0)
    assert scores.tpir == {"tpir_fpir10": 1.0, "tpir_fpir1": None}  # the shipped model was trained on both persons
    assert scores.eer == 0.0
    notes = " ".join(identity_document(model, result, "")["notes"])
    assert "tpir_fpir1 is unavailable: 1% of 10 windows" in notes
    assert "the 10 windows of others passes" in notes
