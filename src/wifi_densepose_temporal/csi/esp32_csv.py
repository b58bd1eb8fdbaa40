"""ESP32 text captures: the ESP32 CSI Tool's CSV and the lines that Espressif's csi_recv examples print.

    CSI_DATA,<role>,<mac>,<rssi>,...,<len>,[38 96 2 0 27 -6 ... ]          ESP32 CSI Tool, 26 columns
    CSI_DATA,<id>,<mac>,<rssi>,...,<len>,<first_word>,"[67,48,4,0,...]"    csi_recv, 25 or 15 columns

Columns are found by the header line where there is one, else by their number. Values are signed bytes in
pairs of (imaginary, real), as in the ESP-IDF documentation. Of a buffer with several training fields, the
first (the legacy one, 64 subcarriers) is returned: every packet has it. The first four bytes of a buffer may
be invalid (`first_word_invalid` of the driver): they are returned as they are, and where they are stated or
seen to be garbage the metadata's `invalid_subcarriers` names the two indices.

Why not csiread: its ESP32 reader (1.4.1) stops with an error at a cut line and wants as many values as the
`len` column states, but the tool prints 128 values where `len` is 384.
"""

import io
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, MAX_TIME_S, measured_or_nominal, unwrap_s
from wifi_densepose_temporal.csi.subcarriers import ascending, order_of_64
from wifi_densepose_temporal.errors import FormatError

MARK = b"CSI_DATA"
MAX_LINE_BYTES = 16 * 1024  # 612 values are the most that the chip gives: about 3 KB
MAX_VALUES = 1024
MAX_MAC_CHARACTERS = 32
FIRST_FIELD_VALUES = 128  # 64 subcarriers of the legacy training field

_TOOL = (
    "type,role,mac,rssi,rate,sig_mode,mcs,bandwidth,smoothing,not_sounding,aggregation,stbc,fec_coding,sgi,"
    "noise_floor,ampdu_cnt,channel,secondary_channel,local_timestamp,ant,sig_len,rx_state,real_time_set,"
    "real_timestamp,len,CSI_DATA"
)
_RECV = (
    "type,id,mac,rssi,rate,sig_mode,mcs,bandwidth,smoothing,not_sounding,aggregation,stbc,fec_coding,sgi,"
    "noise_floor,ampdu_cnt,channel,secondary_channel,local_timestamp,ant,sig_len,rx_state,len,first_word,data"
)
_RECV_C6 = (
    "type,id,mac,rssi,rate,noise_floor,fft_gain,agc_gain,channel,local_timestamp,sig_len,rx_state,len,first_word,data"
)
_COLUMNS = {len(line.split(",")): line.split(",") for line in (_TOOL, _RECV, _RECV_C6)}
_REQUIRED = {"mac", "rssi", "len"}


class _Line(NamedTuple):
    values: NDArray[np.int8]
    stated: int
    mac: str
    rssi_dbm: int
    local_us: int | None
    real_s: float | None
    fields: dict[str, str]


def _parse(text: str, columns: list[str] | None) -> _Line | None:
    """Parse one CSI_DATA line; None where it is cut or not a number where there should be one."""
    before, bracket, after = text.partition("[")
    values_text, closing, _ = after.partition("]")
    parts = before.rstrip(', "').split(",")
    names = columns or _COLUMNS.get(len(parts) + 1)
    if not bracket or not closing or names is None or len(parts) != len(names) - 1:
        return None
    fields = dict(zip(names, parts, strict=False))
    try:
        numbers = [int(value) for value in values_text.replace(",", " ").split()]
        stated, rssi_dbm = int(fields["len"]), int(fields["rssi"])
        local_us = int(fields["local_timestamp"]) if "local_timestamp" in fields else None
        real_s = float(fields["real_timestamp"]) if "real_timestamp" in fields else None
        values = np.array(numbers, dtype=np.int8) if len(numbers) <= MAX_VALUES else None
    except (ValueError, KeyError, OverflowError):
        return None
    in_range = (local_us is None or 0 <= local_us < 2**32) and (real_s is None or abs(real_s) <= MAX_TIME_S)
    if values is None or len(values) < 2 or not in_range or not -128 <= rssi_dbm <= 127:
        return None
    return _Line(values, stated, fields["mac"][:MAX_MAC_CHARACTERS], rssi_dbm, local_us, real_s, fields)


def _header(text: str) -> list[str] | None:
    """Return the columns of a header line, None where `text` is not one that this reader can use."""
    columns = text.strip().split(",")
    usable = columns[0] == "type" and set(columns) >= _REQUIRED and len(columns) <= 64
    return columns if usable else None


def _walk(data: bytes) -> tuple[list[_Line], int]:
    """Return the parsed lines, and how many others there were besides headers and empty ones."""
    lines, dropped, columns = [], 0, None
    for raw in io.BytesIO(data):
        text = raw.decode("ascii", "replace").strip() if len(raw) <= MAX_LINE_BYTES else "too long"
        if header := _header(text):
            columns = header
        elif text.startswith("CSI_DATA") and (line := _parse(text, columns)):
            lines.append(line)
        elif text:
            dropped += 1
    return lines, dropped


def read_esp32_csv(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Read the CSI_DATA lines of an ESP32 text capture.

    A line is kept when it has as many values as most lines have; others, cut lines and lines of other kinds
    are dropped and counted. Lines of several senders are all kept.

    Time is `local_timestamp`, the chip's microsecond counter at reception. `real_timestamp`, the wall clock
    when the line was printed, is used only where there is no other or it stands still: it comes later,
    jitters with the serial port, and runs backwards at times. The metadata says which was taken.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file has no clock that runs.

    Raises:
        FormatError: no whole CSI_DATA line.
    """
    lines, dropped = _walk(data)
    if not lines:
        raise FormatError(f"a text of {dropped} lines without one whole CSI_DATA line of an ESP32; nothing to read")
    count = Counter(len(line.values) for line in lines).most_common(1)[0][0]
    kept = [line for line in lines if len(line.values) == count]
    used = FIRST_FIELD_VALUES if count >= FIRST_FIELD_VALUES else count - count % 2
    values = np.stack([line.values[:used] for line in kept])
    iq = pairs_to_iq(values)
    iq, index, invalid = order_columns(iq, _states_invalid(kept))
    timestamps, clock, source = measured_or_nominal(*_times_s(kept), nominal_rate_hz)
    macs = Counter(line.mac for line in kept)
    return Capture.from_iq(
        "esp32-csv",
        timestamps,
        clock,
        iq[:, np.newaxis],
        rssi=np.array([line.rssi_dbm for line in kept], dtype=np.float32),
        subcarriers=index,
        dropped_lines=dropped + len(lines) - len(kept),
        metadata={
            "chip": "ESP32",
            "mac": macs.most_common(1)[0][0],
            "senders": len(macs),
            "channel": _number(kept, "channel"),
            "noise_floor_dbm": _number(kept, "noise_floor"),
            "values_per_line": count,
            "stated_values_per_line": Counter(line.stated for line in kept).most_common(1)[0][0],
            "invalid_subcarriers": invalid,
            "clock_source": source,
        },
    )


def pairs_to_iq(values: NDArray[np.int8]) -> NDArray[np.complex64]:
    """Return complex64 [T, S] from int8 [T, 2*S] of (imaginary, real) pairs."""
    iq = np.empty((values.shape[0], values.shape[1] // 2), dtype=np.complex64)
    iq.imag, iq.real = values[:, 0::2], values[:, 1::2]
    return iq


# How often the first word must repeat to be called garbage: a measured subcarrier changes from packet to
# packet.
_GARBAGE_SHARE = 0.9


def order_columns(
    iq: NDArray[np.complex64], first_word_invalid: bool
) -> tuple[NDArray[np.complex64], NDArray[np.int16] | None, list[int]]:
    """Bring the columns of an ESP32 buffer into ascending order.

    Args:
        iq: complex64 [T, S] as in the buffer.
        first_word_invalid: whether the file says that the first two columns are garbage.

    Returns:
        iq reordered; the OFDM indices, int16 [S], or None where the order cannot be told (then iq is as it
        was); the indices of columns that are garbage.
    """
    index = order_of_64(np.abs(iq)) if iq.shape[1] == 64 else None
    if index is None:
        return iq, None, []
    second = iq[:, 1]
    repeated = Counter(second.tolist()).most_common(1)[0][1] if len(second) > 1 and np.any(second) else 0
    garbage = first_word_invalid or repeated >= _GARBAGE_SHARE * len(second)
    columns = ascending(index)
    return iq[:, columns], index[columns], sorted(int(k) for k in index[:2]) if garbage else []


def _states_invalid(lines: list[_Line]) -> bool:
    return any(line.fields.get("first_word", "0").strip() == "1" for line in lines)


def _times_s(lines: list[_Line]) -> tuple[NDArray[np.float64], str]:
    """Return seconds since the first line, and the column that they come from."""
    local = [line.local_us for line in lines if line.local_us is not None]
    if len(local) == len(lines):
        seconds = unwrap_s(np.array(local, dtype=np.uint64), 32, 1e-6)
        if len(lines) == 1 or np.any(np.diff(seconds)):
            return seconds, "local_timestamp"
    real = [line.real_s for line in lines if line.real_s is not None]
    if len(real) == len(lines):
        return np.array(real) - real[0], "real_timestamp"
    return np.zeros(len(lines)), "none"


def _number(lines: list[_Line], column: str) -> int | None:
    """Return the most frequent integer of a column."""
    texts = Counter(line.fields.get(column, "") for line in lines)
    try:
        return int(texts.most_common(1)[0][0])
    except ValueError:
        return None
