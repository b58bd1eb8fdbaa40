"""CMC, mAP and AUC against plain loops, the embeddings behind them, and what may not be compared."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.evaluation.recordings import CHAIN, make_model, wander, write_persons
from wifi_densepose_temporal import Capture, ConfigError, FormatError, extract, read_capture
from wifi_densepose_temporal.datasets import Manifest, Recording
from wifi_densepose_temporal.errors import LeakageError, MemoryLimitError
from wifi_densepose_temporal.evaluation import Scores, embed_windows, evaluate_identity, identity, score
from wifi_densepose_temporal.evaluation.bootstrap import draw_counts
from wifi_densepose_temporal.evaluation.identity import cut, gallery_and_probe
from wifi_densepose_temporal.evaluation.within import evaluate_within

MODEL = make_model()


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]]:
    """Similarities of few values, so that many tie; gallery and probe persons; at least one in both."""
    gallery = draw(st.lists(st.sampled_from(["ann", "bo", "cy", "d"]), min_size=1, max_size=9))
    probe = [draw(st.sampled_from(gallery)), *draw(st.lists(st.sampled_from(["ann", "bo", "cy", "eve"]), max_size=7))]
    values = st.lists(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0]), min_size=len(gallery), max_size=len(gallery))
    rows = [draw(values) for _ in probe]
    return np.array(rows), np.array(gallery), np.array(probe)


def plain_rank(row: NDArray[np.float64], gallery: NDArray[np.str_], own: str) -> int:
    nearest: dict[str, float] = {}
    for similarity, person in zip(row, gallery, strict=True):
        nearest[person] = max(similarity, nearest.get(person, -9.0))
    return 1 + sum(value >= nearest[own] for person, value in nearest.items() if person != own)


def plain_average_precision(row: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Sum over thresholds of the gain in recall times the precision; windows that tie come at once."""
    total = found = 0.0
    for threshold in sorted(set(row.tolist()), reverse=True):
        shown = row >= threshold
        recall = (shown & right).sum() / right.sum()
        total += (recall - found) * (shown & right).sum() / shown.sum()
        found = recall
    return total


def plain_auc(similarity: NDArray[np.float64], gallery: NDArray[np.str_], probe: NDArray[np.str_]) -> float | None:
    own, other = [], []
    for row, person in zip(similarity, probe, strict=True):
        for value, known in zip(row, gallery, strict=True):
            (own if person == known else other).append(value)
    if not own or not other:
        return None
    return sum((a > b) + 0.5 * (a == b) for a in own for b in other) / (len(own) * len(other))


@given(comparisons())
def test_figures_are_those_of_plain_loops(
    drawn: tuple[NDArray[np.float64], NDArray[np.str_], NDArray[np.str_]],
) -> None:
    similarity, gallery, probe = drawn
    scores = score(similarity, gallery, probe)
    ranks, precisions = [], []
    for row, person in zip(similarity, probe, strict=True):
        if person in gallery:
            ranks.append(plain_rank(row, gallery, person))
            precisions.append(plain_average_precision(row, gallery == person))
    persons = len(set(gallery.tolist()))
    assert scores.cmc == pytest.approx([np.mean([rank <= k for rank in ranks]) for k in range(1, persons + 1)])
    assert scores.map == pytest.approx(np.mean(precisions))
    expected = plain_auc(similarity, gallery, probe)
    assert scores.auc == (None if expected is None else pytest.approx(expected))
    assert scores.probe_windows == len(ranks)
    assert scores.strangers == tuple(sorted({*probe.tolist()} - {*gallery.tolist()}))


def test_intervals_are_those_of_persons_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.evaluation.bootstrap.DRAWS", 60)
    rng = np.random.default_rng(1)
    gallery, probe = np.repeat(["ann", "bo", "cy", "d"], 3), np.repeat(["ann", "bo", "cy", "d"], [3, 2, 1, 3])
    similarity = rng.normal(size=(9, 12)) + (probe[:, np.newaxis] == gallery)
    scores = score(similarity, gallery, probe, seed=4)
    figures: dict[str, list[float]] = {"rank1": [], "map": [], "auc": []}
    for counts in draw_counts(4, seed=4):
        rows = [
            row
            for person, count in zip(["ann", "bo", "cy", "d"], counts, strict=True)
            for row in [*np.flatnonzero(probe == person)] * count
        ]
        drawn = score(similarity[rows], gallery, probe[rows])
        figures["rank1"].append(drawn.rank(1))
        figures["map"].append(drawn.map)
        figures["auc"].append(drawn.auc or 0)
    for name, values in figures.items():
        assert scores.intervals[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975]))), name


def test_one_person_in_the_probe_has_no_interval() -> None:
    scores = score(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array(["ann", "bo"]), np.array(["ann", "ann"]))
    assert scores.rank(1) == 0.5
    assert set(scores.intervals.values()) == {None}


def test_a_model_that_finds_everybody_alike_recognises_nobody() -> None:
    persons = np.array(["ann", "bo", "cy", "d"])
    scores: Scores = score(np.ones((4, 4)), persons, persons)
    assert scores.cmc.tolist() == [0, 0, 0, 1]
    assert (scores.map, scores.auc) == (0.25, 0.5)


def test_beyond_the_gallery_every_rank_is_one() -> None:
    scores = score(np.array([[0.0, 1.0]]), np.array(["ann", "bo"]), np.array(["ann"]))
    assert [scores.rank(k) for k in (1, 2, 5, 10)] == [0, 1, 1, 1]


def test_no_person_in_common_is_refused() -> None:
    with pytest.raises(FormatError, match="none of the probe's 1 persons is in the gallery, which holds ann"):
        score(np.ones((1, 1)), np.array(["ann"]), np.array(["bo"]))


# ------------------------------------------------------------------------------------------------------- embeddings


def capture_of(amplitude: NDArray[np.float32], rate_hz: float = 100) -> Capture:
    times_s = np.arange(len(amplitude)) / rate_hz
    return Capture("test", times_s, "nominal", None, amplitude[:, np.newaxis], None, None, 0, None, {})


def test_a_window_is_embedded_as_if_nothing_had_come_before_it() -> None:
    amplitude = wander(370, 1)
    windows = embed_windows(MODEL, capture_of(amplitude), 100)
    assert windows.embedding.shape == (3, MODEL.embedding_dim)  # the last 70 packets are no whole window
    for number, embedding in enumerate(windows.embedding):
        alone = extract(capture_of(amplitude[100 * number : 100 * number + 100]), CHAIN)
        np.testing.assert_allclose(embedding, MODEL.predict(alone.values).embedding[-1], atol=1e-6)
        assert windows.start_s[number] == pytest.approx(number)
        assert windows.end_s[number] == pytest.approx(number + 0.99)
    assert windows.unavailable == 0


def test_the_receive_chain_is_chosen_once_for_all_windows() -> None:
    """Chain 1 has most packets of the recording, chain 0 most of its first stretch, and another room to see."""
    chain = np.array([0, 0, 1] * 40 + [1] * 160, np.int16)
    amplitude = np.where((chain == 0)[:, np.newaxis], wander(280, 2), wander(280, 1))
    mixed = dataclasses.replace(capture_of(amplitude), chain=chain)
    alone = cut(capture_of(amplitude), chain == 1)
    windows, expected = embed_windows(MODEL, mixed, 40), embed_windows(MODEL, alone, 40)
    assert windows.embedding.shape == (5, MODEL.embedding_dim)
    np.testing.assert_array_equal(windows.embedding, expected.embedding)
    np.testing.assert_array_equal(windows.start_s, alone.timestamps[::40])


def test_without_a_length_the_recording_is_one_window() -> None:
    capture = capture_of(wander(370, 1))
    windows = embed_windows(MODEL, capture, None)
    expected = MODEL.predict(extract(capture, CHAIN).values).embedding[-1:]
    np.testing.assert_allclose(windows.embedding, expected, atol=1e-6)
    assert (windows.start_s.tolist(), windows.end_s.tolist()) == ([0], [3.69])


def test_a_window_without_a_measurement_has_no_embedding_and_is_counted() -> None:
    amplitude = wander(300, 1)
    amplitude[100:200] = 0
    windows = embed_windows(MODEL, capture_of(amplitude), 100)
    assert (windows.unavailable, windows.start_s.tolist()) == (1, [0, 2])
    assert embed_windows(MODEL, capture_of(amplitude[:50]), 100).embedding.shape == (0, MODEL.embedding_dim)


def test_a_window_of_no_packets_is_refused() -> None:
    with pytest.raises(ConfigError, match="window is 0"):
        embed_windows(MODEL, capture_of(wander(10, 1)), 0)


# ------------------------------------------------------------------------------------------------------- recordings


def sides(manifest: Manifest) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    return manifest.select("session=A"), manifest.select("session=B")


def test_recordings_of_both_sides_are_cut_embedded_and_compared(tmp_path: Path) -> None:
    gallery, probe = sides(write_persons(tmp_path, ["ann", "bo", "cy"], length=130))
    result = evaluate_identity(MODEL, gallery, probe, 40)
    embeddings, persons = [], []
    for side in (gallery, probe):
        made = [(one.person, embed_windows(MODEL, read_capture(one.path), 40).embedding) for one in side]
        embeddings.append(np.concatenate([rows for _, rows in made]))
        persons.append(np.array([person for person, rows in made for _ in rows]))
    assert persons[0].tolist() == ["ann"] * 3 + ["bo"] * 3 + ["cy"] * 3
    assert result.gallery.person.tolist() == persons[0].tolist()
    expected = score(embeddings[1].astype(float) @ embeddings[0].astype(float).T, *persons)
    assert (result.scores.map, result.scores.auc) == (expected.map, expected.auc)
    assert result.scores.cmc.tolist() == expected.cmc.tolist()
    assert result.scores.auc is not None
    assert result.scores.auc > 0.6  # a person's two recordings start alike


def test_the_first_session_is_known_and_the_second_is_asked_for_numbers_counting_by_value(tmp_path: Path) -> None:
    recordings = write_persons(tmp_path, ["ann", "bo"], sessions=("A", "B", "C")).recordings
    starts = {"A": "visit 10", "B": "visit 9", "C": "visit 100"}
    placed = [dataclasses.replace(one, start=starts[one.session]) for one in recordings]
    known, asked = gallery_and_probe(placed)
    assert {one.session for one in known} == {"B"}
    assert {one.session for one in asked} == {"A"}


def test_windows_are_looked_for_among_others_of_their_recording(tmp_path: Path) -> None:
    _, recordings = sides(write_persons(tmp_path, ["ann", "bo", "cy"], length=130))
    scores = evaluate_within(MODEL, recordings, probe=[0], gallery=[1, 2], packets=40)
    windows = [embed_windows(MODEL, read_capture(one.path), 40).embedding.astype(float) for one in recordings]
    similarity = np.concatenate([w[[0]] for w in windows]) @ np.concatenate([w[[1, 2]] for w in windows]).T
    people = np.array(["ann", "bo", "cy"])
    expected = score(similarity, np.repeat(people, 2), people)
    assert (scores.map, scores.probe_windows, scores.cmc.tolist()) == (expected.map, 3, expected.cmc.tolist())
    with pytest.raises(FormatError, match=r"ann_B\.npy: 3 windows of 40 packets"):
        evaluate_within(MODEL, recordings, probe=[0], gallery=[3], packets=40)


@pytest.mark.parametrize(
    ("probe", "gallery", "said"),
    [
        ([-1], [0], "a window of the probe is -1; expected at least 0"),
        ([0], [1, -2], "a window of the gallery is -2"),
        ([0, 1], [1, 2], "windows 1 are in probe and gallery"),
        ([0], [], "the gallery has no windows"),
        ([], [0], "the probe has no windows"),
    ],
)
def test_windows_that_are_no_two_sides_are_refused(
    tmp_path: Path, probe: list[int], gallery: list[int], said: str
) -> None:
    _, recordings = sides(write_persons(tmp_path, ["ann", "bo"], length=130))
    with pytest.raises(ConfigError, match=said):
        evaluate_within(MODEL, recordings, probe, gallery, packets=40)


def test_a_recording_on_both_sides_is_refused(tmp_path: Path) -> None:
    gallery, probe = sides(write_persons(tmp_path, ["ann", "bo"]))
    with pytest.raises(LeakageError, match=r"ann_A\.npy"):
        evaluate_identity(MODEL, gallery, [*probe, gallery[0]])


def test_a_copy_of_a_recording_on_both_sides_is_refused(tmp_path: Path) -> None:
    gallery, probe = sides(write_persons(tmp_path, ["ann", "bo"]))
    shutil.copy(gallery[0].path, probe[1].path)
    with pytest.raises(LeakageError, match="same bytes"):
        evaluate_identity(MODEL, gallery, probe)


def test_a_recording_of_nobody_known_is_refused(tmp_path: Path) -> None:
    manifest = write_persons(tmp_path, ["ann", "bo"])
    gallery, probe = sides(manifest)
    (tmp_path / "manifest.csv").write_text((tmp_path / "manifest.csv").read_text().replace(",bo,B", ",,B"))
    from wifi_densepose_temporal.datasets import read_manifest

    probe = read_manifest(tmp_path / "manifest.csv").select("session=B")
    with pytest.raises(FormatError, match=r"bo_B\.npy: whose it is is not known"):
        evaluate_identity(MODEL, gallery, probe)


def test_recordings_too_short_for_a_window_are_left_out_and_counted(tmp_path: Path) -> None:
    gallery, probe = sides(write_persons(tmp_path, ["ann", "bo", "cy"]))
    np.save(probe[1].path, wander(60, 1).T)
    result = evaluate_identity(MODEL, gallery, probe)
    assert (result.probe.unavailable, result.probe.person.tolist()) == (1, ["ann", "cy"])
    with pytest.raises(FormatError, match="none of the 3 gallery recordings gives a window of 101 packets"):
        evaluate_identity(MODEL, gallery, probe, 101)


def test_more_pairs_than_fit_are_refused_before_they_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery, probe = sides(write_persons(tmp_path, ["ann", "bo"]))
    monkeypatch.setattr(identity, "MAX_PAIRS", 3)
    with pytest.raises(MemoryLimitError, match="2 probe times 2 gallery windows; at most 3"):
        evaluate_identity(MODEL, gallery, probe)


def test_progress_moves_on_once_a_recording(tmp_path: Path) -> None:
    done: list[int] = []
    evaluate_identity(MODEL, *sides(write_persons(tmp_path, ["ann", "bo"])), advance=lambda: done.append(1))
    assert len(done) == 4


def test_the_curve_never_falls_and_ends_at_one(tmp_path: Path) -> None:
    result = evaluate_identity(MODEL, *sides(write_persons(tmp_path, ["ann", "bo", "cy"])), 25)
    assert all(before <= after for before, after in pairwise(result.scores.cmc))
    assert result.scores.cmc[-1] == 1
