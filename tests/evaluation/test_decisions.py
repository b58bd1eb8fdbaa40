"""Decisions of a recording: those of a live stream, without a look ahead; windows and their labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.evaluation.recordings import CHAIN, LABELS, SUBCARRIERS, label_runs, make_model, wander
from wifi_densepose_temporal import ConfigError, FeatureStream, Frames, ShapeError, TemporalModel
from wifi_densepose_temporal.evaluation import NO_DECISION, Decisions, Windowing, decide, frames_at_packets
from wifi_densepose_temporal.evaluation.decisions import majority_label

MODEL = make_model()

# Packets close together, at the chain's period, in silences that are filled, and in one that ends the segment.
INTERVALS_S = st.lists(st.sampled_from([0.0, 0.003, 0.01, 0.02, 0.05, 0.15, 0.2, 0.5]), min_size=1, max_size=60)


def chained(times_s: NDArray[np.float64], amplitude: NDArray[np.float32]) -> Frames:
    stream = FeatureStream(CHAIN, 1, SUBCARRIERS)
    parts = stream.push(times_s, amplitude[:, np.newaxis]), stream.flush()
    arrays = (np.concatenate(pair) for pair in zip(*(part[:3] for part in parts), strict=True))
    return Frames(*arrays, parts[0].skipped_packets, parts[0].late_packets)


def decided(model: TemporalModel, times_s: NDArray[np.float64], amplitude: NDArray[np.float32]) -> NDArray[np.str_]:
    """The decision at each packet."""
    made = decide(model, chained(times_s, amplitude), times_s, np.full(len(times_s), "walk"), Windowing())
    assert made.packets is not None
    return np.array([*model.labels, NO_DECISION])[made.packets]


def live(model: TemporalModel, times_s: NDArray[np.float64], amplitude: NDArray[np.float32]) -> list[str]:
    """The plain reference: one packet at a time through the chain, one frame at a time through a stream."""
    chain, stream = FeatureStream(CHAIN, 1, SUBCARRIERS), model.stream()
    decisions, now = [], NO_DECISION
    for number in range(len(times_s) + 1):
        ended = number == len(times_s)
        made = chain.flush() if ended else chain.push(times_s[number], amplitude[number][np.newaxis])
        for frame, held in zip(made.values, made.held, strict=True):
            label = str(stream.push(frame).labels)
            now = now if held else label
        if number:
            decisions.append(now)  # what stood when the next packet came, which is in none of these frames
    return decisions


@given(INTERVALS_S, st.integers(0, 99))
def test_equal_to_one_packet_and_one_frame_at_a_time(intervals_s: list[float], seed: int) -> None:
    times_s = np.cumsum([0.0, *intervals_s])
    amplitude = wander(len(times_s), seed)
    assert decided(MODEL, times_s, amplitude).tolist() == live(MODEL, times_s, amplitude)


def test_a_recording_has_several_decisions_and_none_before_the_first_frame() -> None:
    """Or the tests of this file would compare a constant with itself."""
    decisions = decided(MODEL, np.arange(300) / 100, wander(300, 1))
    assert set(decisions.tolist()) == {NO_DECISION, *LABELS}
    assert (decisions == NO_DECISION).sum() == 1  # a bin of 20 ms holds two packets; the second one ends it


@given(INTERVALS_S, st.data())
def test_what_later_packets_hold_changes_no_decision(intervals_s: list[float], data: st.DataObject) -> None:
    times_s = np.cumsum([0.0, *intervals_s])
    amplitude = wander(len(times_s), 5)
    last = data.draw(st.integers(0, len(times_s) - 1))
    other = amplitude.copy()
    other[last + 1 :] = wander(len(times_s), 6, step=1)[last + 1 :]
    silent = data.draw(st.lists(st.integers(last + 1, len(times_s)), max_size=20))
    other[[packet for packet in silent if packet < len(times_s)]] = 0  # no measurement: the chain skips it
    before, after = decided(MODEL, times_s, amplitude), decided(MODEL, times_s, other)
    if last < len(times_s) - 1:
        assert before[: last + 1].tolist() == after[: last + 1].tolist()


@given(
    st.lists(st.sampled_from([-0.3, -0.02, 0.0, 0.01, 0.01, 0.02, 0.03, 0.3]), min_size=1, max_size=40),
    st.sets(st.integers(0, 40)),
)
def test_no_frame_holds_a_later_packet_however_the_clock_jumps(steps_s: list[float], silent: set[int]) -> None:
    times_s = np.cumsum([0.0, *steps_s])
    amplitude = wander(len(times_s), 7)
    amplitude[[packet for packet in silent if packet < len(times_s)]] = 0
    frames = chained(times_s, amplitude)
    newest_us, taken = -(10**12), []
    for packet, t_us in enumerate(np.rint(times_s * 1e6)):
        if amplitude[packet].any() and t_us >= newest_us:
            taken.append((packet, t_us))
            newest_us = t_us
    for packet, frame in enumerate(frames_at_packets(frames, times_s)):
        if frame >= 0:
            assert not frames.held[frame]
            end_us = round(frames.times_s[frame] * 1e6)
            assert all(t_us >= end_us for later, t_us in taken if later > packet)


def test_a_late_packet_delays_no_decision() -> None:
    times_s = np.arange(40) / 100
    usual = frames_at_packets(chained(times_s, wander(40, 1)), times_s)
    times_s[20] = 0.05
    late = frames_at_packets(chained(times_s, wander(40, 1)), times_s)
    assert late[[10, 30]].tolist() == usual[[10, 30]].tolist()


@pytest.mark.parametrize(("window", "hop"), [(50, 25), (7, 3), (1, 1), (100, 200)])
def test_windows_are_those_of_plain_loops(window: int, hop: int) -> None:
    times_s, amplitude = np.arange(233) / 100, wander(233, 8)
    labels = label_runs(233, LABELS, 31)
    frames = chained(times_s, amplitude)
    made = decide(MODEL, frames, times_s, labels, Windowing(window, hop))
    of_packets = live(MODEL, times_s, amplitude)
    truth, decisions, start = [], [], 0
    while start + window <= 233:
        counts = Counter(labels[start : start + window].tolist())
        tied = {name for name, count in counts.items() if count == max(counts.values())}
        truth.append(next(name for name in reversed(labels[start : start + window].tolist()) if name in tied))
        decisions.append(of_packets[start + window - 1])
        start += hop
    assert made.truth.tolist() == truth
    assert made.decided.tolist() == decisions


def test_a_tie_goes_to_the_label_that_is_there_last() -> None:
    assert majority_label(np.array(["a", "b", "b", "a", "c"])) == "a"
    assert majority_label(np.array(["b", "a", "a", "b", "c"])) == "b"
    assert majority_label(np.array(["c", "c", "a"])) == "c"


def test_a_whole_recording_is_one_window_decided_at_its_end() -> None:
    times_s, amplitude = np.arange(90) / 100, wander(90, 9)
    made = decide(MODEL, chained(times_s, amplitude), times_s, np.full(90, "sit"), Windowing(), whole=True)
    assert (made.truth.tolist(), made.decided.tolist()) == (["sit"], live(MODEL, times_s, amplitude)[-1:])


@pytest.mark.parametrize("context_s", [0.001, 0.5, 2.0])
def test_a_limited_context_is_a_model_that_was_just_switched_on(context_s: float) -> None:
    times_s, amplitude = np.cumsum(np.tile([0.01, 0.01, 0.01, 0.07], 100)), wander(400, 10)
    frames = chained(times_s, amplitude)
    made = decide(MODEL, frames, times_s, np.full(400, "sit"), Windowing(50, 25, context_s))
    assert made.packets is None
    newest = frames_at_packets(frames, times_s)
    for window, end in enumerate(range(49, 400, 25)):
        now = newest[end]
        inside = [t for t in range(now + 1) if round(1e6 * (frames.times_s[now] - frames.times_s[t])) < 1e6 * context_s]
        assert made.decided[window] == MODEL.predict(frames.values[inside]).labels[-1]


def test_without_a_frame_a_limited_context_decides_nothing() -> None:
    times_s = np.arange(4) / 1000
    made = decide(MODEL, chained(times_s, wander(4, 1)), times_s, np.full(4, "sit"), Windowing(2, 1, 1.0))
    assert made.decided.tolist()[:2] == [NO_DECISION, NO_DECISION]


@pytest.mark.parametrize(
    "wrong", [{"packets": 0}, {"packets": 2.5}, {"hop": 0}, {"context_s": 0}, {"context_s": float("nan")}]
)
def test_a_windowing_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Windowing(**wrong)  # type: ignore[arg-type]


def test_labels_that_are_not_one_a_packet_are_refused() -> None:
    times_s = np.arange(10) / 100
    with pytest.raises(ShapeError, match="one for each"):
        decide(MODEL, chained(times_s, wander(10, 1)), times_s, np.full(9, "sit"), Windowing())


def test_a_long_recording_is_decided_as_it_streams() -> None:
    """Equal to `predict` over all frames at once, which would hold every logit and embedding."""
    times_s, amplitude = np.arange(3000) / 100, wander(3000, 11)
    frames = chained(times_s, amplitude)
    made: Decisions = decide(MODEL, frames, times_s, np.full(3000, "sit"), Windowing())
    assert made.packets is not None
    at = frames_at_packets(frames, times_s)
    assert made.packets[at >= 0].tolist() == MODEL.predict(frames.values).logits.argmax(axis=1)[at[at >= 0]].tolist()
    assert set(made.packets[at < 0].tolist()) == {-1}
