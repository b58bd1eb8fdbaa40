"""Recordings as the traffic of many tracks: every frame comes once, in order, at its time."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from wifi_densepose_temporal import FeatureConfig, features, load_model, read_capture
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.streams.traffic import Traffic, traffic_of

DATA = resources.files("wifi_densepose_temporal") / "data"
MODEL = load_model("reid")
CAPTURES = {name: read_capture(str(DATA / f"wiper81_{name}.npz")) for name in ("p01_A", "p02_B")}


def frames_of(name: str) -> np.ndarray:
    chain = MODEL.feature_chain
    assert chain is not None
    return features(CAPTURES[name], FeatureConfig.from_words(chain))


def per_track(traffic: Traffic, after_s: np.ndarray | None = None) -> dict[str, tuple[list[np.ndarray], list[float]]]:
    taken: dict[str, tuple[list[np.ndarray], list[float]]] = {name: ([], []) for name in traffic.track_ids}
    for tick in traffic.ticks(after_s):
        assert len(set(tick.track_ids)) == len(tick.track_ids) > 0
        assert tick.time_s == max(tick.times_s)
        for name, frame, time_s in zip(tick.track_ids, tick.frames, tick.times_s, strict=True):
            taken[name][0].append(frame)
            taken[name][1].append(float(time_s))
    return taken


def test_each_recording_is_a_track_with_its_frames_at_their_times() -> None:
    traffic = traffic_of(CAPTURES, MODEL)
    assert (traffic.track_ids, traffic.source) == (("p01_A", "p02_B"), "replay")
    assert any("Trained" in note for note in traffic.notes)
    for name, (frames, times) in per_track(traffic).items():
        np.testing.assert_array_equal(frames, frames_of(name))
        assert times[0] == pytest.approx(traffic.period_s)
        assert (np.diff(times) > 0).all()
        assert times[-1] <= traffic.duration_s


def test_more_tracks_than_recordings_begin_elsewhere_and_go_round() -> None:
    traffic = traffic_of(CAPTURES, MODEL, tracks=5)
    assert traffic.track_ids == ("p01_A", "p02_B", "p01_A#2", "p02_B#2", "p01_A#3")
    taken = per_track(traffic)
    whole = frames_of("p01_A")
    second = np.array(taken["p01_A#2"][0])
    assert len(second) == len(whole)
    start = len(whole) // 3
    np.testing.assert_array_equal(second, np.roll(whole, -start, axis=0))
    assert (np.diff(taken["p01_A#2"][1]) > 0).all()


def test_what_a_track_has_seen_does_not_come_again() -> None:
    traffic = traffic_of(CAPTURES, MODEL)
    whole = per_track(traffic)
    seen = np.array([whole["p01_A"][1][99], -np.inf])
    rest = per_track(traffic, seen)
    np.testing.assert_array_equal(rest["p01_A"][0], whole["p01_A"][0][100:])
    np.testing.assert_array_equal(rest["p02_B"][0], whole["p02_B"][0])


def test_too_few_tracks_or_no_recording_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 tracks of 2 recordings"):
        traffic_of(CAPTURES, MODEL, tracks=1)
    with pytest.raises(ConfigError, match="0 tracks of 0 recordings"):
        traffic_of({}, MODEL)
