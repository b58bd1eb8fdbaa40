"""Amplitudes as plain CSV (the csi-har recordings): one packet a line, numbers only, no header, no clock.

Fifty-two columns are taken for the data subcarriers of a 20 MHz HT channel, -28 to 28 without DC and pilots.
Some of those recordings hold negative values (0.3 % of the packets of csi-har), which no amplitude can be: they are
returned as they are and counted in the metadata, and the feature chain skips such packets.
"""

import io
import math
from collections import Counter

import numpy as np

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, NOMINAL, nominal_s
from wifi_densepose_temporal.csi.subcarriers import by_count
from wifi_densepose_temporal.errors import FormatError

MIN_COLUMNS, MAX_COLUMNS = 2, 512
MAX_LINE_BYTES = 32 * 1024
MAX_FLOAT32 = 3.4e38


def parse_line(line: bytes) -> list[float] | None:
    """Return the amplitudes of one line, None where it is anything else than finite numbers."""
    if len(line) > MAX_LINE_BYTES or not MIN_COLUMNS <= line.count(b",") + 1 <= MAX_COLUMNS:
        return None
    try:
        values = [float(text) for text in line.split(b",")]
    except ValueError:
        return None
    return values if all(math.isfinite(value) and abs(value) < MAX_FLOAT32 for value in values) else None


def read_amplitude_csv(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Read a CSV of amplitudes, one packet a line.

    A line is kept when it has as many columns as most have; others are dropped and counted, and the kept ones
    keep their place in time. A last line without an end of line counts as cut: its last number may have lost
    digits.

    Args:
        data: the file.
        nominal_rate_hz: packets a second; the file has no clock.

    Raises:
        FormatError: no line of 2 to 512 amplitudes.
    """
    lines = [line for line in io.BytesIO(data) if line.strip()]
    rows = [parse_line(line) if line.endswith((b"\n", b"\r")) else None for line in lines]
    counts = Counter(len(row) for row in rows if row)
    if not counts:
        raise FormatError(f"a text of {len(lines)} lines, none of them {MIN_COLUMNS} to {MAX_COLUMNS} amplitudes")
    columns = counts.most_common(1)[0][0]
    good = np.array([row is not None and len(row) == columns for row in rows])
    amplitude = np.array([row for row in rows if row and len(row) == columns], dtype=np.float32)
    times_s = nominal_s(len(rows), nominal_rate_hz)[good]
    return Capture(
        "amplitude-csv",
        times_s - times_s[0],
        "nominal",
        None,
        amplitude[:, np.newaxis],
        None,
        by_count(columns),
        int((~good).sum()),
        None,
        {
            "clock_source": NOMINAL,
            "nominal_rate_hz": float(nominal_rate_hz),
            "packets_with_negative_amplitude": int((amplitude < 0).any(axis=1).sum()),
        },
    )
