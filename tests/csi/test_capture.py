"""What a Capture promises, and the clock and subcarrier rules that all readers share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import measured_or_nominal, nominal_s, unwrap_s
from wifi_densepose_temporal.csi.subcarriers import HT20, HT20_DATA, HT40, INTEL20, INTEL40, fft_order, order_of_64
from wifi_densepose_temporal.errors import ConfigError, ShapeError


def capture_at(*times_s: float) -> Capture:
    iq = np.full((len(times_s), 1, 3), 3 + 4j, dtype=np.complex64)
    return Capture.from_iq("test", np.array(times_s, dtype=np.float64), "measured", iq)


def test_amplitude_is_the_float32_magnitude():
    capture = capture_at(0.0, 0.1)
    assert capture.amplitude.dtype == np.float32
    np.testing.assert_array_equal(capture.amplitude, np.full((2, 1, 3), 5, dtype=np.float32))


def test_rate_is_intervals_over_elapsed_time():
    assert capture_at(0.0, 0.01, 0.05).rate_hz == pytest.approx(2 / 0.05)


@pytest.mark.parametrize("times_s", [(0.0,), (0.0, 0.0)])
def test_rate_is_unknown_without_elapsed_time(times_s):
    assert capture_at(*times_s).rate_hz is None


def test_gaps_are_silences_of_five_medians_and_a_tenth_of_a_second():
    # Median interval 10 ms: 50 ms is five medians, yet below 0.1 s.
    assert capture_at(0.0, 0.01, 0.02, 0.07, 0.08).gaps == []
    ((start_s, length_s),) = capture_at(0.0, 0.01, 0.02, 0.22, 0.23).gaps
    assert (start_s, length_s) == (pytest.approx(0.02), pytest.approx(0.2))
    # Median interval 1 s: 4 s is less than five medians.
    assert capture_at(0.0, 1.0, 2.0, 6.0, 7.0).gaps == []
    assert capture_at(0.0).gaps == []


def test_arrays_that_disagree_are_refused():
    iq = np.zeros((2, 1, 3), dtype=np.complex64)
    with pytest.raises(ShapeError, match=r"timestamps has shape \(3,\)"):
        Capture.from_iq("test", np.zeros(3), "measured", iq)
    with pytest.raises(ShapeError, match="subcarriers"):
        Capture.from_iq("test", np.zeros(2), "measured", iq, subcarriers=np.zeros(4, dtype=np.int16))
    with pytest.raises(ShapeError, match="packets, antennas, subcarriers"):
        Capture.from_iq("test", np.zeros(0), "measured", iq[:0])


@given(st.lists(st.integers(-(2**31) + 1, 2**31 - 1), max_size=30), st.integers(0, 2**32 - 1))
def test_unwrapping_a_32_bit_clock_gives_back_every_step(steps_us, start):
    true_us = np.cumsum([0, *steps_us])
    ticks = ((start + true_us) % 2**32).astype(np.uint64)
    # 1e-9: the rounding of a product near 2^31 * 30 us = 6.4e4 s in float64 is below 1e-11 s.
    np.testing.assert_allclose(unwrap_s(ticks, 32, 1e-6), true_us * 1e-6, rtol=0, atol=1e-9)


def test_a_64_bit_clock_may_hold_anything():
    seconds = unwrap_s(np.array([0, 2**64 - 1, 2**63, 5], dtype=np.uint64), 64, 1e-6)
    assert np.isfinite(seconds).all()
    assert seconds[1] == pytest.approx(-1e-6)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_refused(rate_hz):
    with pytest.raises(ConfigError, match="positive"):
        nominal_s(3, rate_hz)


def test_a_clock_that_stands_still_is_replaced_and_says_so(caplog):
    times_s, clock, source = measured_or_nominal(np.full(3, 7.0), "ticks", 50.0)
    assert (clock, source) == ("nominal", "nominal rate")
    np.testing.assert_allclose(times_s, [0, 0.02, 0.04])
    assert "stands still" in caplog.text


def test_subcarrier_tables_have_the_sizes_and_ends_of_the_standard():
    for table, count, last in (
        (HT20, 56, 28),
        (HT20_DATA, 52, 28),
        (HT40, 114, 58),
        (INTEL20, 30, 28),
        (INTEL40, 30, 58),
    ):
        assert (len(table), table[0], table[-1]) == (count, -last, last)
        assert (np.diff(table) > 0).all()
        assert 0 not in table
    assert not {-21, -7, 7, 21} & set(HT20_DATA.tolist())


def test_order_of_64_columns_is_told_by_the_silent_guard_band():
    index = np.arange(-32, 32, dtype=np.int16)
    used = (np.abs(index) <= 28) & (index != 0)
    shifted = np.tile(np.where(used, 20, 0).astype(np.float32), (5, 1))
    shifted[:, :2] = 100  # what an ESP32 leaves in the first word
    np.testing.assert_array_equal(order_of_64(shifted), index)

    fft = np.tile(np.where(used, 20, 0).astype(np.float32)[fft_order(64).astype(int) + 32], (5, 1))
    fft[:, :2] = 100
    np.testing.assert_array_equal(order_of_64(fft), fft_order(64))

    assert order_of_64(np.ones((5, 64), dtype=np.float32)) is None
