"""Timestamps from a device's tick counter, or from a nominal rate where there is no clock.

Counters of 32 bits wrap (a 1 MHz one every 71.6 minutes). Steps are taken as signed: a step of less than half
the range backwards is a packet reported late, everything else is a step forwards across a wrap. A silence of
more than half the range (35.8 minutes at 1 MHz) therefore cannot be told from a step backwards.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Clock
from wifi_densepose_temporal.errors import ConfigError

logger = logging.getLogger(__name__)

DEFAULT_RATE_HZ = 100.0
MIN_RATE_HZ, MAX_RATE_HZ = 1e-6, 1e9
NOMINAL = "nominal rate"
MAX_TIME_S = 1e12  # no recording is 30,000 years old: larger numbers are damage, and their differences overflow


def unwrap_s(ticks: NDArray[np.uint64], bits: int, tick_s: float) -> NDArray[np.float64]:
    """Seconds since the first packet, float64 [T], with wraps undone.

    Args:
        ticks: uint64 [T], the counter's values.
        bits: the counter's width.
        tick_s: seconds a tick.
    """
    if len(ticks) == 0:
        return np.zeros(0)
    shift = np.uint64(64 - bits)
    # At the top of 64 bits the difference wraps by itself; the arithmetic shift brings its sign back.
    steps = (np.diff(ticks << shift)).view(np.int64) >> shift.astype(np.int64)
    return np.concatenate([[0.0], np.cumsum(steps)]) * tick_s


def unwrap_narrow_s(ticks: NDArray[np.uint64], tick_s: float) -> NDArray[np.float64]:
    """Seconds since the first packet, float64 [T], of a 64-bit field that a 32-bit counter may have filled.

    The ath9k driver's `rs_tstamp` is 32 bits wide, and the logs keep it in 64: a capture without a value of 2^32
    or more is taken to wrap at 32 bits.

    Args:
        ticks: uint64 [T], the field's values.
        tick_s: seconds a tick.
    """
    return unwrap_s(ticks, 32 if np.all(ticks < 2**32) else 64, tick_s)


def nominal_s(count: int, rate_hz: float) -> NDArray[np.float64]:
    """Times of `count` packets in seconds, float64 [count], as if they came at exactly `rate_hz`.

    Raises:
        ConfigError: `rate_hz` is not between `MIN_RATE_HZ` and `MAX_RATE_HZ`.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ConfigError(
            f"a nominal rate of {rate_hz} Hz was given; expected a positive number of packets a second,"
            f" {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}"
        )
    return np.arange(count) / rate_hz


def measured_or_nominal(
    timestamps: NDArray[np.float64], source: str, nominal_rate_hz: float
) -> tuple[NDArray[np.float64], Clock, str]:
    """The file's own times, unless they stand still over several packets: that is no clock.

    Args:
        timestamps: float64 [T], seconds.
        source: the field of the file that they come from.
        nominal_rate_hz: the rate to assume where they stand still.

    Returns:
        times in seconds, float64 [T]; which clock they are of; where they come from.
    """
    if len(timestamps) > 1 and not np.any(np.diff(timestamps)):
        logger.warning(
            "the clock of this capture (%s) stands still over %d packets: %g packets a second are assumed",
            source,
            len(timestamps),
            nominal_rate_hz,
        )
        return nominal_s(len(timestamps), nominal_rate_hz), "nominal", NOMINAL
    return timestamps, "measured", source
