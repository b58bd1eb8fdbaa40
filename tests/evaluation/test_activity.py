"""Metrics over recordings against plain loops; what is unknown, absent or missing is said and counts as wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.evaluation.recordings import CHAIN, LABELS, make_model, wander, write_labelled, write_whole_labels
from wifi_densepose_temporal import FormatError, MissingExtraError, extract, read_capture
from wifi_densepose_temporal.datasets import Recording, labelled_frames
from wifi_densepose_temporal.evaluation import (
    NO_DECISION,
    ActivityResult,
    Windowing,
    decide,
    evaluate_activity,
    frames_at_packets,
)
from wifi_densepose_temporal.evaluation.activity import macro_f1s
from wifi_densepose_temporal.evaluation.bootstrap import draw_counts

MODEL = make_model()


def plain(recording: Recording, window: int, hop: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Labels and decisions of the packets and of the windows, one frame at a time."""
    capture = read_capture(recording.path, nominal_rate_hz=recording.rate_hz)
    frames, stream = extract(capture, CHAIN), MODEL.stream()
    of_frames = [str(stream.push(frame).labels) for frame in frames.values]
    at = frames_at_packets(frames, capture.timestamps)
    packets = [NO_DECISION if frame < 0 else of_frames[frame] for frame in at]
    assert recording.labels_path is not None
    labels = np.load(recording.labels_path).tolist()
    truth, decided = [], []
    for start in range(0, len(labels) - window + 1, hop):
        inside = labels[start : start + window]
        most = max(map(inside.count, inside))
        truth.append([name for name in inside if inside.count(name) == most][-1])
        decided.append(packets[start + window - 1])
    return labels, packets, truth, decided


def joined(lists: tuple[list[str], ...]) -> list[str]:
    return [item for some in lists for item in some]


def f1_of(truth: list[str], decided: list[str], label: str) -> float:
    hits = sum(t == d == label for t, d in zip(truth, decided, strict=True))
    return 2 * hits / (truth.count(label) + decided.count(label))


@pytest.mark.parametrize(("window", "hop"), [(50, 25), (30, 7)])
def test_metrics_are_those_of_plain_loops(tmp_path: Path, window: int, hop: int) -> None:
    recordings = write_labelled(tmp_path).recordings
    result = evaluate_activity(MODEL, recordings, Windowing(window, hop))
    parts = [plain(recording, window, hop) for recording in recordings]
    labels, packets, truth, decided = map(joined, zip(*parts, strict=True))
    assert len(set(decided)) > 1
    assert result.window_accuracy == pytest.approx(np.mean([t == d for t, d in zip(truth, decided, strict=True)]))
    assert result.frame_accuracy == pytest.approx(np.mean([t == d for t, d in zip(labels, packets, strict=True)]))
    assert result.macro_f1 == pytest.approx(np.mean([f1_of(truth, decided, label) for label in sorted(set(truth))]))
    assert result.recording_accuracy is None
    for score in result.per_class:
        hits = sum(t == d == score.label for t, d in zip(truth, decided, strict=True))
        assert score.support == truth.count(score.label)
        assert score.recall == pytest.approx(hits / truth.count(score.label))
        made = decided.count(score.label)
        assert score.precision == (pytest.approx(hits / made) if made else None)
        assert score.f1 == pytest.approx(f1_of(truth, decided, score.label))
    for (row, column), count in np.ndenumerate(result.confusion):
        pair = (result.rows[row], result.columns[column])
        assert count == list(zip(truth, decided, strict=True)).count(pair)
    assert result.confusion.sum() == len(truth)
    undecided = sum(one.packets_undecided or 0 for one in result.scored)
    assert undecided == packets.count(NO_DECISION) > 0


def test_intervals_are_those_of_recordings_drawn_one_by_one(tmp_path: Path) -> None:
    recordings = write_labelled(tmp_path, lengths=(230, 175, 300, 120)).recordings
    result = evaluate_activity(MODEL, recordings, seed=3)
    parts = [plain(recording, 50, 25) for recording in recordings]
    figures: dict[str, list[float]] = {"window_accuracy": [], "frame_accuracy": [], "macro_f1": []}
    for counts in draw_counts(len(parts), seed=3):
        drawn = [part for part, count in zip(parts, counts, strict=True) for _ in range(count)]
        labels, packets, truth, decided = map(joined, zip(*drawn, strict=True))
        figures["window_accuracy"].append(float(np.mean(np.array(truth) == np.array(decided))))
        figures["frame_accuracy"].append(float(np.mean(np.array(labels) == np.array(packets))))
        figures["macro_f1"].append(float(np.mean([f1_of(truth, decided, name) for name in set(truth)])))
    for name, values in figures.items():
        assert result.intervals[name] == pytest.approx(tuple(np.quantile(values, [0.025, 0.975]))), name
    assert result.intervals["recording_accuracy"] is None
    low, high = result.intervals["window_accuracy"] or (0, 0)
    assert low < (result.window_accuracy or 0) < high


def test_a_seed_gives_the_same_intervals_and_another_one_others(tmp_path: Path) -> None:
    recordings = write_labelled(tmp_path, lengths=(230, 175, 300, 120, 90, 260, 145)).recordings
    first, again, other = (evaluate_activity(MODEL, recordings, seed=seed).intervals for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_one_recording_has_figures_but_no_interval(tmp_path: Path) -> None:
    result = evaluate_activity(MODEL, write_labelled(tmp_path).recordings[:1])
    assert result.window_accuracy is not None
    assert set(result.intervals.values()) == {None}


def test_macro_f1_of_tables_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    truth, decided = rng.choice(["a", "b", "c"], 60), rng.choice(["a", "b", "c", "d", NO_DECISION], 60)
    table = [[int(((truth == t) & (decided == d)).sum()) for d in ("a", "b", "c", "d", "")] for t in ("a", "b", "c")]
    expected = f1_score(truth, decided, labels=["a", "b", "c"], average="macro")
    assert macro_f1s(np.array([table])) == pytest.approx([expected])


def test_a_recording_with_one_label_is_one_window_decided_at_its_end(tmp_path: Path) -> None:
    recordings = write_whole_labels(tmp_path, ["walk", "sit", "fall", "sit", "sit"]).recordings
    result = evaluate_activity(MODEL, recordings)
    ends = []
    for recording in recordings:
        capture = read_capture(recording.path, nominal_rate_hz=100)
        ends.append(str(MODEL.predict(extract(capture, CHAIN).values).labels[-1]))
    right = np.mean([end == recording.label for end, recording in zip(ends, recordings, strict=True)])
    assert [str(one.decided[0]) for one in result.scored] == ends
    assert 0 < right < 1
    assert result.recording_accuracy == result.window_accuracy == pytest.approx(right)
    assert result.intervals["recording_accuracy"] == result.intervals["window_accuracy"] is not None
    assert sum(score.support for score in result.per_class) == len(recordings)


def test_labels_that_the_model_lacks_are_wrong_and_said(tmp_path: Path) -> None:
    result = evaluate_activity(MODEL, write_labelled(tmp_path, labels=("sit", "jump")).recordings)
    assert result.unknown_labels == ("jump",)
    jump = next(score for score in result.per_class if score.label == "jump")
    assert (jump.precision, jump.recall, jump.f1, jump.known) == (None, 0, 0, False)
    assert jump.support > 0
    assert set(result.absent_classes) == {"walk", "fall"}
    assert result.rows == ("sit", "jump")
    assert result.macro_f1 == pytest.approx(result.per_class[0].f1 / 2)  # type: ignore[operator]


def test_a_window_without_a_decision_is_wrong_and_counted(tmp_path: Path) -> None:
    result = evaluate_activity(MODEL, write_labelled(tmp_path).recordings, Windowing(1, 1))
    assert result.columns[-1] == NO_DECISION
    assert result.confusion[:, -1].sum() == 3  # the first packet of each recording
    assert result.window_accuracy == result.frame_accuracy


def test_limited_context_has_no_decisions_between_the_ends_of_windows(tmp_path: Path) -> None:
    recordings = write_labelled(tmp_path).recordings
    result: ActivityResult = evaluate_activity(MODEL, recordings, Windowing(context_s=0.3))
    assert result.frame_accuracy is None
    assert result.intervals["frame_accuracy"] is None
    for one in result.scored:
        labelled = labelled_frames(one.recording, CHAIN)
        assert labelled.packet_labels is not None
        arguments = (MODEL, labelled.frames, labelled.packet_times_s, labelled.packet_labels)
        assert one.decided.tolist() == decide(*arguments, Windowing(context_s=0.3)).decided.tolist()


def test_a_recording_shorter_than_a_window_counts_by_its_packets(tmp_path: Path) -> None:
    result = evaluate_activity(MODEL, write_labelled(tmp_path, lengths=(40, 100)).recordings)
    assert [len(one.truth) for one in result.scored] == [0, 3]
    assert result.frame_accuracy == sum(one.packets_right or 0 for one in result.scored) / 140


def test_without_any_window_there_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="none of the 2 recordings has 50 packets"):
        evaluate_activity(MODEL, write_labelled(tmp_path, lengths=(40, 49)).recordings)


def test_a_recording_without_a_label_is_refused(tmp_path: Path) -> None:
    manifest = write_whole_labels(tmp_path, ["walk", ""])
    with pytest.raises(FormatError, match=r"w1\.npy has no label"):
        evaluate_activity(MODEL, manifest.recordings)


def test_each_recording_is_a_track_of_its_own(tmp_path: Path) -> None:
    recordings = write_labelled(tmp_path).recordings
    together = evaluate_activity(MODEL, recordings)
    for one in together.scored:
        alone = evaluate_activity(MODEL, [one.recording]).scored[0]
        assert alone.decided.tolist() == one.decided.tolist()


def test_without_scikit_learn_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtraError, match=r"\[evaluate\]"):
        evaluate_activity(MODEL, write_labelled(tmp_path).recordings)


def test_on_a_real_recording_the_figures_are_those_of_pushing_frame_by_frame(shared: Path) -> None:
    paths = sorted((shared / "data" / "esp32-stability").glob("D2/*-x.npy"))[:2]
    labels_of = [path.with_name(path.name.replace("-x", "-y")) for path in paths]
    recordings = [
        Recording(path, path.name, "", labels, "1", "D2", "1", path.name, 100.0)
        for path, labels in zip(paths, labels_of, strict=True)
    ]
    names = sorted({str(name) for labels in labels_of for name in np.load(labels).ravel()})
    model = make_model(names)
    result = evaluate_activity(model, recordings)
    right = total = 0
    for recording, labels in zip(recordings, labels_of, strict=True):
        capture, truth, stream = read_capture(recording.path), np.load(labels).ravel(), model.stream()
        frames = extract(capture, CHAIN)
        of_frames = [str(stream.push(frame).labels) for frame in frames.values]
        decisions = [of_frames[at] if at >= 0 else "" for at in frames_at_packets(frames, capture.timestamps)]
        right += sum(name == true for name, true in zip(decisions, truth, strict=True))
        total += len(truth)
    assert result.frame_accuracy == right / total


def test_the_wandering_amplitudes_differ() -> None:
    assert not np.array_equal(wander(10, 1), wander(10, 2))
    assert set(LABELS) == set(MODEL.labels)
