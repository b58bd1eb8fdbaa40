"""Silences, and decisions over time, against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.streams.conftest import model_of
from tests.streams.test_pool import normal
from wifi_densepose_temporal import ForwardFilter, GapPolicy, StreamPool
from wifi_densepose_temporal.errors import ConfigError, NonFiniteError

PERIOD = 0.04  # of the activity model's frames


@pytest.mark.parametrize("fill", ["hold", "interpolate"])
def test_missing_frames_are_filled(fill: Any) -> None:
    model = model_of("activity")
    pool, stream = StreamPool(model, gap=GapPolicy(fill=fill)), model.stream()
    pool.open("a"), pool.open("b")
    frames = normal(model, 4)
    for t in (0, 1):
        pool.push(["a", "b"], frames[[t, t]], [t * PERIOD] * 2)
        stream.push(frames[t])
    decisions = pool.push(["b", "a"], frames[[2, 2]], [2 * PERIOD, 5 * PERIOD])
    for k in (1, 2, 3):
        share = np.float32(k / 4)
        stream.push(frames[1] if fill == "hold" else frames[1] + (frames[2] - frames[1]) * share)
    np.testing.assert_array_equal(decisions.logits[1], stream.push(frames[2]).logits)
    assert decisions.filled.tolist() == [0, 3]
    assert pool.counters("a").filled == 3
    assert pool.counters("a").frames == 3


def test_a_long_silence_starts_anew() -> None:
    model = model_of("activity")
    pool, frames = StreamPool(model), normal(model, 3)
    pool.open("a")
    for t in (0.0, 0.9):
        pool.push(["a"], frames[:1], [t])
    assert pool.counters("a").resets == 0
    decisions = pool.push(["a"], frames[1:2], [2.0])
    np.testing.assert_array_equal(decisions.logits[0], model.stream().push(frames[1]).logits)
    assert decisions.reset.tolist() == [True]
    assert pool.counters("a").resets == 1
    assert StreamPool(model, gap=None).gap is None


@pytest.mark.parametrize("after", [0.2, 5.0])
def test_a_frame_that_is_refused_after_a_silence_has_filled_nothing(after: float) -> None:
    model = model_of("reference")
    pool = StreamPool(model, gap=GapPolicy("hold", PERIOD, 1.0), capacity=8, policy="heavy-hitter")
    twin = StreamPool(model, gap=GapPolicy("hold", PERIOD, 1.0), capacity=8, policy="heavy-hitter")
    frames = normal(model, 12)
    for each in (pool, twin):
        each.open("a")
        for t in range(10):
            each.push(["a"], frames[t : t + 1], [t * PERIOD])
    for bad in (np.full_like(frames[:1], np.nan), frames[:1] * 9e11):
        decisions = pool.push(["a"], bad, [0.36 + after])
        assert isinstance(decisions.refused[0], NonFiniteError)
        assert decisions.filled.tolist() == [0]
        assert decisions.reset.tolist() == [False]
    one, other = (each.push(["a"], frames[11:], [0.36 + after]) for each in (pool, twin))
    np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(one.belief, other.belief)


@pytest.mark.parametrize(
    "arguments", [{"fill": "zero"}, {"period_s": 0}, {"reset_after_s": -1}, {"period_s": math.inf}, {"period_s": "a"}]
)
def test_gaps_that_cannot_be(arguments: Any) -> None:
    with pytest.raises(ConfigError):
        GapPolicy(**arguments)


def test_a_gap_has_room_for_so_many_frames() -> None:
    with pytest.raises(ConfigError, match="1000"):
        StreamPool(model_of("activity"), gap=GapPolicy("hold", reset_after_s=math.inf))


def test_smoothing_is_the_forward_algorithm() -> None:
    model, times = model_of("activity"), np.cumsum([0.04, 0.04, 0.3, 0.04, 0.04])
    pool, frames = StreamPool(model, smoothing=ForwardFilter(dwell_s=0.5)), normal(model, 5)
    pool.open("a")
    classes = len(model.labels)
    belief = np.full(classes, 1 / classes)
    for t, frame in enumerate(frames):
        decisions = pool.push(["a"], frame[None], times[t : t + 1])
        apart = times[t] - times[t - 1] if t else PERIOD
        left = 1 - math.exp(-apart / 0.5 * classes / (classes - 1))
        moved = np.full((classes, classes), left / classes) + np.eye(classes) * (1 - left)
        belief = belief @ moved * decisions.probabilities[0].astype(np.float64)
        belief /= belief.sum()
        assert decisions.belief is not None
        np.testing.assert_allclose(decisions.belief[0], belief, rtol=1e-4)
        assert decisions.smoothed_labels is not None
        assert decisions.smoothed_labels[0] == model.labels[belief.argmax()]


def test_without_smoothing_there_is_none() -> None:
    pool = StreamPool(model_of("activity"), smoothing=None)
    pool.open("a")
    decisions = pool.push(["a"], normal(pool.model, 1))
    assert decisions.belief is None
    assert decisions.smoothed_labels is None
    assert (decisions.source, decisions.trained, decisions.model_sha256) == ("unstated", True, pool.model.sha256)


@pytest.mark.parametrize("dwell_s", [0, -1, math.inf, math.nan, "a"])
def test_dwell_times_that_cannot_be(dwell_s: Any) -> None:
    with pytest.raises(ConfigError):
        ForwardFilter(dwell_s)
