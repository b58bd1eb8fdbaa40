"""ESP32 recordings as .npz: raw int8 buffers, with arrival times or with the duration of the recording.

Two layouts are known:

    iq       int8 [T, 2*S]   t           float64 [T], seconds       (the Wi-PER81 data set, re-packed)
    csi_data int8 [T, 2*S]   duration_ms float64, one number        (espectre)

Pairs are (imaginary, real), as the chip gives them. The second layout has no times: they are spread evenly
over the duration, and the clock is "nominal".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Capture, Clock
from wifi_densepose_temporal.csi.clock import (
    DEFAULT_RATE_HZ,
    MAX_RATE_HZ,
    MAX_TIME_S,
    MIN_RATE_HZ,
    NOMINAL,
    measured_or_nominal,
    nominal_s,
)
from wifi_densepose_temporal.csi.esp32_csv import order_columns, pairs_to_iq
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.npy import read_npz
from wifi_densepose_temporal.errors import FormatError

MAX_SUBCARRIERS = 512
NOTES = ("chip", "label", "collected_at")  # short texts, kept in the metadata
MAX_NOTE_CHARACTERS = 200


def read_esp32_npz(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads an .npz of raw ESP32 buffers.

    Packets whose time is not a finite number are dropped and counted.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file has neither times nor a duration.

    Raises:
        FormatError: neither layout, or arrays of another dtype or shape than these.
        MemoryLimitError: too many packets or values.
    """
    arrays, names = read_npz(data, ("iq", "csi_data", "t", "duration_ms", *NOTES))
    key = next((name for name in ("iq", "csi_data") if name in arrays), None)
    if key is None:
        listed = ", ".join(map(repr, names[:10]))[:MAX_NOTE_CHARACTERS] or "nothing"
        raise FormatError(f"the .npz file holds {listed}; expected 'iq' and 't', or 'csi_data'")
    values = _buffers(arrays[key], key)
    seconds = _times_s(arrays, len(values))
    good = np.ones(len(values), bool) if seconds is None else np.abs(seconds) <= MAX_TIME_S
    if not good.any():
        raise FormatError("the .npz file has no finite time in 't'; expected seconds")
    if seconds is None:
        timestamps, clock, source = _spread(arrays, len(values), nominal_rate_hz)
    else:
        timestamps, clock, source = measured_or_nominal(seconds[good] - seconds[good][0], "t", nominal_rate_hz)
    iq, index, invalid = order_columns(pairs_to_iq(values[good]), first_word_invalid=False)
    return Capture.from_iq(
        "esp32-npz",
        timestamps,
        clock,
        iq[:, np.newaxis],
        subcarriers=index,
        dropped_lines=int((~good).sum()),
        metadata={
            "chip": "ESP32",
            **_notes(arrays),
            "invalid_subcarriers": invalid,
            "clock_source": source,
        },
    )


def _notes(arrays: dict[str, NDArray[np.generic]]) -> dict[str, str]:
    """The short texts among the arrays, without what is no text."""
    notes = {}
    for name in NOTES:
        array = arrays.get(name)
        if array is not None and array.ndim == 0 and array.dtype.kind == "U":
            points = array.reshape(1).view(np.uint32)[:MAX_NOTE_CHARACTERS]
            # Four bytes of a damaged file need not be a character: NumPy's own conversion would raise.
            notes[name] = "".join(chr(point) for point in points.tolist() if 0 < point < 0xD800)
    return notes


def _buffers(array: NDArray[np.generic], key: str) -> NDArray[np.int8]:
    """The checked buffers, int8 [T, 2*S]."""
    if array.dtype != np.int8 or array.ndim != 2 or array.shape[0] == 0:
        raise FormatError(f"{key!r} is {array.dtype} {array.shape}; expected int8 [packets, 2 * subcarriers]")
    if array.shape[1] % 2 or not 2 <= array.shape[1] <= 2 * MAX_SUBCARRIERS:
        raise FormatError(f"{key!r} has {array.shape[1]} values a packet; expected an even number up to 1024")
    check_size(array.shape[0], 1, array.shape[1] // 2)
    return array.astype(np.int8, copy=False)


def _times_s(arrays: dict[str, NDArray[np.generic]], count: int) -> NDArray[np.float64] | None:
    """The arrival times in seconds, float64 [T], which may be NaN or infinite; None where there are none."""
    if "t" not in arrays:
        return None
    times = arrays["t"]
    if times.dtype.kind not in "fiu" or times.shape != (count,):
        raise FormatError(f"'t' is {times.dtype} {times.shape}; expected numbers of shape ({count},)")
    with np.errstate(over="ignore", invalid="ignore"):
        return times.astype(np.float64)


def _spread(
    arrays: dict[str, NDArray[np.generic]], count: int, nominal_rate_hz: float
) -> tuple[NDArray[np.float64], Clock, str]:
    """Spreads the packets over the stated duration, or at the nominal rate: times, float64 [T], clock and source."""
    duration = arrays.get("duration_ms")
    if duration is not None and duration.dtype.kind in "fiu" and duration.ndim == 0:
        rate_hz = 1000 * count / max(float(duration), 1e-9)
        if MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            return nominal_s(count, rate_hz), "nominal", "duration_ms"
    return nominal_s(count, nominal_rate_hz), "nominal", NOMINAL
