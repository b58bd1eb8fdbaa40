"""ESP32 text captures: the ESP32 CSI Tool's CSV and the lines that Espressif's csi_recv examples print.

    CSI_DATA,<role>,<mac>,<rssi>,...,<len>,[38 96 2 0 27 -6 ... ]          ESP32 CSI Tool, 26 columns
    CSI_DATA,<id>,<mac>,<rssi>,...,<len>,<first_word>,"[67,48,4,0,...]"    csi_recv, 25 or 15 columns

Columns are found by the header line where there is one, else by their number. Values are signed bytes in
pairs of (imaginary, real), as in the ESP-IDF documentation. Of a buffer with several training fields, as the
classic chips give it (128, 256, 376, 384 or 612 values), the first (the legacy one, 64 subcarriers) is returned:
every packet has it. A buffer of any other size is returned whole, without OFDM indices. The first four bytes of
a buffer may be invalid (`first_word_invalid` of the driver): they are returned as they are, and where they are
stated or seen to be garbage the metadata's `invalid_subcarriers` names the two indices.

Why not csiread: its ESP32 reader (1.4.1) stops with an error at a cut line and wants as many values as the
`len` column states, but the tool prints 128 values where `len` is 384.
"""

from __future__ import annotations

import codecs
import io
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, MAX_TIME_S, measured_or_nominal, unwrap_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.majority import main_sender, majority
from wifi_densepose_temporal.csi.subcarriers import ascending, order_of_64
from wifi_densepose_temporal.errors import FormatError

MARK = b"CSI_DATA"
MAX_LINE_BYTES = 16 * 1024  # 612 values are the most that the chip gives: about 3 KB
MAX_VALUES = 1024
MAX_MAC_CHARACTERS = 32
MAX_NUMBER_CHARACTERS = 8
FIRST_FIELD_VALUES = 128  # 64 subcarriers of the legacy training field
CLASSIC_COUNTS = {128, 256, 376, 384, 612}  # ESP32, S2, S3, C3: layouts that begin with that field

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
    values: bytes  # int8
    stated: int
    mac: str
    rssi_dbm: int
    local_us: int | None
    real_s: float | None
    channel: str
    noise_floor: str
    first_word_invalid: bool


def _parse(text: str, columns: list[str] | None) -> _Line | None:
    """A parsed CSI_DATA line; None where it is cut or not a number where there should be one."""
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
        values = np.array(numbers, dtype=np.int8).tobytes() if len(numbers) <= MAX_VALUES else b""
    except (ValueError, KeyError, OverflowError):
        return None
    in_range = (local_us is None or 0 <= local_us < 2**32) and (real_s is None or abs(real_s) <= MAX_TIME_S)
    if len(values) < 2 or not in_range or not -128 <= rssi_dbm <= 127:
        return None
    return _Line(
        values=values,
        stated=stated,
        mac=fields["mac"][:MAX_MAC_CHARACTERS],
        rssi_dbm=rssi_dbm,
        local_us=local_us,
        real_s=real_s,
        channel=fields.get("channel", "")[:MAX_NUMBER_CHARACTERS],
        noise_floor=fields.get("noise_floor", "")[:MAX_NUMBER_CHARACTERS],
        first_word_invalid=fields.get("first_word", "0").strip() == "1",
    )


def _header(text: str) -> list[str] | None:
    """The columns of a header line, None where `text` is not one that this reader can use."""
    columns = text.strip().split(",")
    usable = columns[0] == "type" and set(columns) >= _REQUIRED and len(columns) <= 64
    return columns if usable else None


def _walk(data: bytes) -> tuple[list[_Line], int]:
    """The parsed lines, and how many others there were besides headers and empty ones."""
    lines, dropped, columns = [], 0, None
    for raw in io.BytesIO(data.removeprefix(codecs.BOM_UTF8)):
        text = raw.decode("ascii", "replace").strip() if len(raw) <= MAX_LINE_BYTES else "too long"
        if header := _header(text):
            columns = header
        elif text.startswith("CSI_DATA") and (line := _parse(text, columns)):
            lines.append(line)
            check_size(len(lines))
        elif text:
            dropped += 1
    return lines, dropped


def read_esp32_csv(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads the CSI_DATA lines of an ESP32 text capture.

    A line is kept when it has as many values as most lines have; others, cut lines and lines of other kinds
    are dropped and counted. Only the most frequent sender's lines are kept, because a mixture of links looks like
    motion; the metadata says how many there were of others (`other_senders_packets`).

    Time is `local_timestamp`, the chip's microsecond counter at reception. `real_timestamp`, the wall clock
    when the line was printed, is used only where there is no other or it stands still: it comes later,
    jitters with the serial port, and runs backwards at times. The metadata says which was taken.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file has no clock that runs.

    Raises:
        FormatError: no whole CSI_DATA line.
        MemoryLimitError: too many packets or values.
    """
    lines, dropped = _walk(data)
    if not lines:
        raise FormatError(f"a text of {dropped} lines; expected at least one whole CSI_DATA line of an ESP32")
    mine, sender = main_sender(lines, lambda line: line.mac)
    count, kept = majority(mine, lambda line: len(line.values))
    used = FIRST_FIELD_VALUES if count in CLASSIC_COUNTS else count - count % 2
    check_size(len(kept), 1, used // 2)
    values = np.frombuffer(b"".join(line.values[:used] for line in kept), dtype=np.int8).reshape(len(kept), used)
    iq, index, invalid = pairs_to_iq(values), None, list[int]()
    if count in CLASSIC_COUNTS:
        iq, index, invalid = order_columns(iq, any(line.first_word_invalid for line in kept))
    timestamps, clock, source = measured_or_nominal(*_times_s(kept), nominal_rate_hz)
    return Capture.from_iq(
        "esp32-csv",
        timestamps,
        clock,
        iq[:, np.newaxis],
        rssi=np.array([line.rssi_dbm for line in kept], dtype=np.float32),
        subcarriers=index,
        dropped_lines=dropped + len(mine) - len(kept),
        metadata={
            "chip": "ESP32",
            **sender,
            "channel": _most_frequent_number([line.channel for line in kept]),
            "noise_floor_dbm": _most_frequent_number([line.noise_floor for line in kept]),
            "values_per_line": count,
            "stated_values_per_line": Counter(line.stated for line in kept).most_common(1)[0][0],
            "invalid_subcarriers": invalid,
            "clock_source": source,
        },
    )


def pairs_to_iq(values: NDArray[np.int8]) -> NDArray[np.complex64]:
    """Complex64 [T, S] from int8 [T, 2*S] of (imaginary, real) pairs."""
    iq = np.empty((values.shape[0], values.shape[1] // 2), dtype=np.complex64)
    iq.imag, iq.real = values[:, 0::2], values[:, 1::2]
    return iq


# How often the first word must repeat to be called garbage: a measured subcarrier changes from packet to
# packet.
_GARBAGE_SHARE = 0.9


def order_columns(
    iq: NDArray[np.complex64], first_word_invalid: bool
) -> tuple[NDArray[np.complex64], NDArray[np.int16] | None, list[int]]:
    """Brings the columns of an ESP32 buffer into ascending order.

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


def _times_s(lines: list[_Line]) -> tuple[NDArray[np.float64], str]:
    """Seconds since the first line, and the column that they come from."""
    local = [line.local_us for line in lines if line.local_us is not None]
    if len(local) == len(lines):
        seconds = unwrap_s(np.array(local, dtype=np.uint64), 32, 1e-6)
        if len(lines) == 1 or np.any(np.diff(seconds)):
            return seconds, "local_timestamp"
    real = [line.real_s for line in lines if line.real_s is not None]
    if len(real) == len(lines):
        return np.array(real) - real[0], "real_timestamp"
    return np.zeros(len(lines)), "none"


def _most_frequent_number(texts: list[str]) -> int | None:
    try:
        return int(Counter(texts).most_common(1)[0][0])
    except ValueError:
        return None
