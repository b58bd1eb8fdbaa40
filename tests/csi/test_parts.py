"""Chains that list their parts: against NumPy in float64, in any cut, in and out of a blob, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.csi.reference_features import reference_parts

from wifi_densepose_temporal import FeatureConfig, _core
from wifi_densepose_temporal.csi import FeaturePart, FeatureStream
from wifi_densepose_temporal.errors import BlobRecordError, ConfigError, DtypeError
from wifi_densepose_temporal.rvne import records

COLUMNS = list(range(-28, 29))  # of which the chain keeps 48

times = st.sampled_from([0.0, 0.02, 0.3])


@st.composite
def parts(draw: st.DrawFn) -> FeaturePart:
    kind = draw(st.sampled_from(["level", "motion", "quadrature"]))
    bands = draw(st.integers(2, 48))
    size_s = draw(times)
    return FeaturePart(
        kind,
        bands,
        lag=0 if kind == "level" else draw(st.integers(1, min(64, bands - 1) if kind == "quadrature" else 64)),
        time_s=draw(times),
        log_floor=draw(st.sampled_from([0, 0.01])) if kind != "quadrature" else 0,
        slow_s=draw(times | st.just(math.inf)),
        size_s=size_s,
        size_floor=0.02 if size_s else 0,
    )


chains = st.builds(
    FeatureConfig,
    parts=st.lists(parts(), min_size=1, max_size=4).map(tuple),
    rate_hz=st.sampled_from([50, 100]),
    frame_bins=st.integers(1, 4),
    hold=st.booleans(),
)


def recording(seed: int, antennas: int = 1, packets: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Arrival times in microseconds, with empty bins and crowded ones, and I/Q of some gain."""
    rng = np.random.default_rng(seed)
    t_us = 7_000_000 + np.cumsum(rng.choice([0, 900, 10_000, 12_000, 55_000], packets))
    iq = rng.normal(size=(packets, antennas, len(COLUMNS), 2)) @ [1, 1j] * rng.uniform(1, 50, (packets, 1, 1))
    return t_us, iq.astype(np.complex64)


@given(chains, st.integers(0, 2**32 - 1), st.integers(1, 2))
def test_frames_equal_the_formulas(config: FeatureConfig, seed: int, antennas: int) -> None:
    t_us, iq = recording(seed, antennas)
    expected, times_us = reference_parts(t_us, iq.astype(np.complex128), COLUMNS, config)
    stream = FeatureStream(config, antennas, COLUMNS)
    taken, last = stream.push(t_us / 1e6, iq), stream.flush()
    values = np.concatenate([taken.values, last.values])
    assert values.shape == (len(expected), config.input_dim)
    assert np.rint(np.concatenate([taken.times_s, last.times_s]) * 1e6).astype(int).tolist() == times_us.tolist()
    # Values are of order 1 and averages of a few dozen float32 sums: 2e-5. A logarithm divides that by its floor of
    # 0.01 at most, a size by its 0.02.
    worst = max((1 / part.log_floor if part.log_floor else 1) / (part.size_floor or 1) for part in config.parts)
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-5 * worst)


@given(chains, st.integers(0, 2**32 - 1), st.lists(st.integers(0, 60), max_size=5))
def test_any_cut_of_the_packets_gives_the_same_bits(config: FeatureConfig, seed: int, cuts: list[int]) -> None:
    t_us, iq = recording(seed)
    whole, pieces = FeatureStream(config, 1, COLUMNS), FeatureStream(config, 1, COLUMNS)
    expected = [whole.push(t_us / 1e6, iq).values, whole.flush().values]
    edges = [0, *sorted(cuts), 60]
    got = [pieces.push(t_us[a:b] / 1e6, iq[a:b]).values for a, b in itertools.pairwise(edges)]
    assert np.concatenate(expected).tobytes() == np.concatenate([*got, pieces.flush().values]).tobytes()


@given(chains)
def test_a_record_survives_the_way_there_and_back(config: FeatureConfig) -> None:
    words = config.to_words()
    assert FeatureConfig.from_words(words).to_words() == words
    assert len(records.feature_chain(words).payload) == 4 * (5 + 3 + 8 * len(config.parts))


@given(st.integers(0, 2**32 - 1))
def test_a_packet_may_turn_its_phase_and_its_gain(seed: int) -> None:
    config = FeatureConfig(parts=(FeaturePart("quadrature", 12, lag=2), FeaturePart("level", 8, slow_s=0.3)))
    t_us, iq = recording(seed)
    turn = np.exp(1j * np.random.default_rng(seed).uniform(0, 6.3, (60, 1, 1))) * 4
    frames = [
        FeatureStream(config, 1, COLUMNS).push(t_us / 1e6, x.astype(np.complex64)).values for x in (iq, iq * turn)
    ]
    np.testing.assert_allclose(frames[0], frames[1], atol=2e-5, rtol=0)


def test_a_new_segment_remembers_nothing() -> None:
    config = FeatureConfig(
        parts=(FeaturePart("level", 8, slow_s=math.inf, size_s=1, size_floor=0.1), FeaturePart("motion", 8, lag=3)),
        frame_bins=2,
    )
    t_us, iq = recording(3)
    fresh = FeatureStream(config, 1, COLUMNS).push(t_us / 1e6, iq).values
    stream = FeatureStream(config, 1, COLUMNS)
    stream.push(np.arange(10) * 0.02, iq[:10])
    again = stream.push(60 + t_us / 1e6, iq)
    np.testing.assert_array_equal(again.values[-len(fresh) :], fresh)
    assert not stream.push(1000.0, iq[0]).held.any()


def test_version_1_is_a_chain_of_level_and_motion() -> None:
    t_us, iq = recording(0)
    old = FeatureConfig(bands=6, motion_time_s=0.4)
    new = FeatureConfig(parts=(FeaturePart("level", 6), FeaturePart("motion", 6, lag=1, time_s=0.4)))
    frames = [FeatureStream(c, 1, COLUMNS).push(t_us / 1e6, np.abs(iq)).values for c in (old, new)]
    assert frames[0].tobytes() == frames[1].tobytes()


def test_phases_need_iq() -> None:
    config = FeatureConfig(parts=(FeaturePart("quadrature", 12, lag=2),))
    with pytest.raises(DtypeError, match="give I/Q as complex64"):
        FeatureStream(config, 1, COLUMNS).push(0.0, np.ones((1, 57), np.float32))


@pytest.mark.parametrize(
    "part",
    [
        {"kind": "speed", "bands": 8},
        {"kind": "level", "bands": 0},
        {"kind": "level", "bands": 8, "lag": 1},
        {"kind": "motion", "bands": 8},
        {"kind": "motion", "bands": 8, "lag": 65},
        {"kind": "quadrature", "bands": 8, "lag": 8},
        {"kind": "quadrature", "bands": 8, "lag": 2, "log_floor": 0.1},
        {"kind": "level", "bands": 8, "size_s": 1},
        {"kind": "level", "bands": 8, "size_floor": 0.1},
        {"kind": "level", "bands": 8, "size_s": math.inf, "size_floor": 0.1},
        {"kind": "level", "bands": 8, "slow_s": 1000},
        {"kind": "level", "bands": 8, "log_floor": 2},
        {"kind": "level", "bands": 8, "time_s": 1000},
        {"kind": "level", "bands": 8, "time_s": float("nan")},
        {"kind": "level", "bands": 8, "time_s": -1},
    ],
)
def test_parts_that_cannot_be_are_refused(part: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FeatureConfig(parts=(part,))  # type: ignore[arg-type]


def test_more_parts_than_a_chain_can_have_are_refused_by_the_core_too() -> None:
    words = FeatureConfig(parts=(FeaturePart("level", 8),)).to_words()
    words["parts"] *= 13
    with pytest.raises(ValueError, match="1 to 12 parts"):
        _core.chain_features(words)
    with pytest.raises(ValueError, match="1 to 12 parts"):
        _core.Chain(words, 1, 57, None)


def test_what_stands_beside_parts_is_refused() -> None:
    level = FeaturePart("level", 8)
    for choices in ({"bands": 4}, {"frame_bins": 0}, {"frame_bins": 1001}, {"parts": (level,) * 13}):
        with pytest.raises(ConfigError):
            FeatureConfig(**({"parts": (level,)} | choices))  # type: ignore[arg-type]
    for choices in ({"frame_bins": 2}, {"hold": False}):
        with pytest.raises(ConfigError, match="without parts"):
            FeatureConfig(**choices)  # type: ignore[arg-type]
    with pytest.raises(BlobRecordError):
        records.feature_chain(FeatureConfig(parts=(level,)).to_words() | {"frame_bins": -1})
