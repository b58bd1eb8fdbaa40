"""Amplitudes as plain CSV (the csi-har recordings): one packet a line, numbers only, no header, no clock.

Fifty-two columns are taken for the data subcarriers of a 20 MHz HT channel, -28 to 28 without DC and pilots.
Some of those recordings hold negative values (0.3 % of the packets of csi-har), which no amplitude can be: they are
returned as they are and counted in the metadata, and the feature chain skips such packets.
"""

from __future__ import annotations

import codecs
import io
import math
from array import array
from typing import NamedTuple

import numpy as np

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, NOMINAL, nominal_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.subcarriers import by_count
from wifi_densepose_temporal.errors import FormatError

MIN_COLUMNS, MAX_COLUMNS = 2, 512
MAX_LINE_BYTES = 32 * 1024
MAX_FLOAT32 = 3.4e38


def parse_line(line: bytes) -> list[float] | None:
    """The amplitudes of one line, None where it is anything else than finite numbers."""
    if len(line) > MAX_LINE_BYTES or not MIN_COLUMNS <= line.count(b",") + 1 <= MAX_COLUMNS:
        return None
    try:
        values = [float(text) for text in line.split(b",")]
    except ValueError:
        return None
    return values if all(math.isfinite(value) and abs(value) < MAX_FLOAT32 for value in values) else None


class _Rows(NamedTuple):
    """The rows of one number of columns, flat."""

    positions: array[int]  # which line of the file, empty ones not counted
    values: array[float]  # float32


def _parse(data: bytes) -> tuple[dict[int, _Rows], int]:
    """The rows by their number of columns, and the number of lines that are not empty."""
    rows: dict[int, _Rows] = {}
    lines, taken, values_taken, last = 0, 0, 0, b""
    for line in io.BytesIO(data):
        if not line.strip():
            continue
        lines, last = lines + 1, line
        values = parse_line(line) if line.endswith((b"\n", b"\r")) else None
        if values:
            taken, values_taken = taken + 1, values_taken + len(values)
            check_size(taken)
            check_size(1, 1, values_taken)
            _add(rows, lines - 1, values)
    if lines == 1 and not rows and (values := parse_line(last)):
        _add(rows, 0, values)
    return rows, lines


def _add(rows: dict[int, _Rows], position: int, values: list[float]) -> None:
    same = rows.setdefault(len(values), _Rows(array("q"), array("f")))
    same.positions.append(position)
    same.values.extend(values)


def read_amplitude_csv(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads a CSV of amplitudes, one packet a line.

    A line is kept when it has as many columns as most have; others are dropped and counted, and the kept ones
    keep their place in time. A last line without an end of line counts as cut, unless it is the only one: its
    last number may have lost digits, and nothing in the file tells.

    Args:
        data: the file.
        nominal_rate_hz: packets a second; the file has no clock.

    Raises:
        FormatError: no line of 2 to 512 amplitudes.
        MemoryLimitError: too many packets or values.
    """
    rows, lines = _parse(data.removeprefix(codecs.BOM_UTF8))
    if not rows:
        raise FormatError(f"a text of {lines} lines; expected lines of {MIN_COLUMNS} to {MAX_COLUMNS} amplitudes")
    columns = max(rows, key=lambda count: len(rows[count].positions))
    positions = np.array(rows[columns].positions)
    amplitude = np.array(rows[columns].values, dtype=np.float32).reshape(len(positions), 1, columns)
    return Capture(
        format="amplitude-csv",
        timestamps=(positions - positions[0]) * nominal_s(2, nominal_rate_hz)[1],
        clock="nominal",
        iq=None,
        amplitude=amplitude,
        rssi=None,
        subcarriers=by_count(columns),
        dropped_lines=lines - len(positions),
        chain=None,
        metadata={
            "clock_source": NOMINAL,
            "nominal_rate_hz": float(nominal_rate_hz),
            "packets_with_negative_amplitude": int((amplitude < 0).any(axis=(1, 2)).sum()),
        },
    )
