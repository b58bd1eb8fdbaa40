"""Amplitudes as one .npy array (the esp32-stability recordings): [S, T] or [T, S], no clock.

Subcarriers are the shorter axis, if it has at most 512 entries; of two equal axes, the first. Their `-y.npy`
companions hold labels and are refused by name.
"""

from __future__ import annotations

import numpy as np

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, NOMINAL, nominal_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.npy import read_npy
from wifi_densepose_temporal.csi.subcarriers import by_count
from wifi_densepose_temporal.errors import FormatError

MAX_SUBCARRIERS = 512


def read_amplitude_npy(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads an array of amplitudes.

    Packets with a value that is no finite float32 are dropped and counted; the others keep their place in time.
    Negative values are returned as they are and counted in the metadata; the feature chain skips such packets.

    Args:
        data: the file.
        nominal_rate_hz: packets a second; the file has no clock.

    Raises:
        FormatError: not an array of real numbers with two axes, one of them of 2 to 512 subcarriers.
        MemoryLimitError: too many packets or values.
    """
    array = read_npy(data)
    if array.dtype.kind in "US":
        raise FormatError(
            f"the .npy file holds text of shape {array.shape}, these are labels; expected the recording beside it"
            " (its name ends in -x.npy)"
        )
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise FormatError(f"the .npy file is {array.dtype} {array.shape}; expected amplitudes [subcarriers, packets]")
    if not 2 <= min(array.shape) <= MAX_SUBCARRIERS:
        raise FormatError(
            f"the .npy file has shape {array.shape}; expected one axis of 2 to {MAX_SUBCARRIERS} subcarriers"
        )
    rows = array.T if array.shape[0] <= array.shape[1] else array
    check_size(rows.shape[0], 1, rows.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite or NaN
        amplitude = rows.astype(np.float32)
    good = np.isfinite(amplitude).all(axis=1)
    if not good.any():
        raise FormatError("the .npy file holds only NaN or infinite packets; expected finite amplitudes")
    times_s = nominal_s(len(amplitude), nominal_rate_hz)[good]
    return Capture(
        format="amplitude-npy",
        timestamps=times_s - times_s[0],
        clock="nominal",
        iq=None,
        amplitude=np.ascontiguousarray(amplitude[good])[:, np.newaxis],
        rssi=None,
        subcarriers=by_count(amplitude.shape[1]),
        dropped_lines=int((~good).sum()),
        chain=None,
        metadata={
            "clock_source": NOMINAL,
            "nominal_rate_hz": float(nominal_rate_hz),
            "packets_with_negative_amplitude": int((amplitude[good] < 0).any(axis=1).sum()),
        },
    )
