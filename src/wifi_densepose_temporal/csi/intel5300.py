"""Intel 5300 captures (.dat of the Linux 802.11n CSI Tool).

The bytes are decoded by csiread; this file only checks them first, because csiread's compiled loops trust
every length and antenna number in the file. CSI is returned as measured (unscaled: the card's automatic gain
is not undone; the features divide every packet by its own gain). Scaling to the channel matrix is csiread's
`get_scaled_csi`.

    u16 BE  length of what follows
    u8      0xBB beamforming report; 0xC1 the packet's payload (ignored)
    u32 LE  timestamp_low, microseconds, wraps          offset 0
    u8      receive antennas, transmit streams          8, 9
    u8 x3   RSSI of antennas A, B, C                    10
    i8, u8  noise in dBm, automatic gain in dB          13, 14
    u8      antenna permutation, two bits each          15
    u16 LE  length of the matrix in bytes               16
    u16 LE  rate_n_flags (0x800: 40 MHz)                18
    ...     30 groups of 3 bits + 16 bits a stream      20
"""

from __future__ import annotations

import re
import struct

import csiread
import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal, unwrap_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.majority import majority
from wifi_densepose_temporal.csi.records import Format, walk
from wifi_densepose_temporal.csi.subcarriers import INTEL20, INTEL40
from wifi_densepose_temporal.errors import FormatError

REPORT, PAYLOAD = 0xBB, 0xC1
HEADER_BYTES = 20
MIN_PAYLOAD_BYTES = 26
MAX_ANTENNAS = 3
MATRIX_BYTES_PER_STREAM, MATRIX_BYTES_EXTRA = 60, 12
IDENTITY_PERMUTATION = 0b100100
FLAG_40_MHZ = 0x800
RSSI_OFFSET_DB = 44  # the tool's reference level: dBm = RSSI - 44 - gain
NOISE_UNKNOWN = -127


def starts_with_record(data: bytes) -> bool:
    """Tells whether `data` begins with a whole, consistent record of this format, after payloads if need be."""
    position = 0
    while data[position + 2 : position + 3] == bytes([PAYLOAD]) and (size := _size(data, position)):
        position += size
    return _starts_report(data, position)


def _size(data: bytes, position: int) -> int:
    """Bytes of the report or payload at a position, its length included; 0 where there is none."""
    size = 2 + int.from_bytes(data[position : position + 2], "big")
    if size < 3 or position + size > len(data):
        return 0
    if data[position + 2] == PAYLOAD:
        return size if size >= MIN_PAYLOAD_BYTES else 0
    return size if _starts_report(data, position) else 0


def _starts_report(data: bytes, position: int) -> bool:
    """Tells whether a report begins here that holds the matrix which its antenna numbers ask for."""
    header = data[position : position + 3 + HEADER_BYTES]
    if len(header) < 3 + HEADER_BYTES or header[2] != REPORT:
        return False
    length, n_rx, n_tx = int.from_bytes(header[:2], "big"), header[11], header[12]
    matrix_bytes = int.from_bytes(header[19:21], "little")
    return (
        1 <= n_rx <= MAX_ANTENNAS
        and 1 <= n_tx <= MAX_ANTENNAS
        and matrix_bytes == MATRIX_BYTES_PER_STREAM * n_rx * n_tx + MATRIX_BYTES_EXTRA
        and length == 1 + HEADER_BYTES + matrix_bytes
        and position + 2 + length <= len(data)
    )


_FORM = Format(_size, _starts_report, re.compile(rb"(?=\xbb)"), 2)


def _with_safe_permutation(record: bytes) -> bytes:
    """The record, with an antenna permutation that is none replaced: csiread would write outside its array."""
    n_rx, bits = record[9], record[16]
    antennas = sorted((bits >> (2 * j)) & 3 for j in range(n_rx))
    if antennas == list(range(n_rx)):
        return record
    return record[:16] + bytes([IDENTITY_PERMUTATION]) + record[17:]


def _is_40_mhz(record: bytes) -> bool:
    return bool(struct.unpack_from("<H", record, 19)[0] & FLAG_40_MHZ)


def read_intel5300(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads the beamforming reports of an Intel 5300 capture.

    Packets may hold one, two or three transmit streams: the streams that every packet has are kept, and the
    metadata says how many were left out. Packets of the rarer bandwidth are dropped and counted. The antenna
    axis is receive antenna * streams kept + stream.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no whole report.
        MemoryLimitError: too many packets or values.
    """
    records, dropped, unread = walk(data, 0, _FORM)
    reports = [record[2:] for record in records if record[2] == REPORT]
    if not reports:
        raise FormatError(
            "an Intel 5300 capture without a whole record; expected at least one beamforming report (0xBB)"
        )
    wide, kept = majority(reports, _is_40_mhz)
    n_rx, n_tx = min(record[9] for record in kept), min(record[10] for record in kept)

    check_size(len(kept), n_rx * n_tx, 30)
    iq = np.empty((len(kept), n_rx * n_tx, 30), dtype=np.complex64)
    ticks = np.empty(len(kept), dtype=np.uint64)
    rssi = np.empty(len(kept), dtype=np.float32)
    decoder = csiread.Intel(None, nrxnum=MAX_ANTENNAS, ntxnum=MAX_ANTENNAS, if_report=False)
    for i, record in enumerate(kept):
        decoder.pmsg(_with_safe_permutation(record))
        iq[i] = decoder.csi[0, :, :n_rx, :n_tx].reshape(30, -1).T
        ticks[i] = decoder.timestamp_low[0]
        rssi[i] = max(record[11:14]) - RSSI_OFFSET_DB - record[15]
    seconds = unwrap_s(ticks, 32, 1e-6)
    timestamps, clock, source = measured_or_nominal(seconds, "timestamp_low", nominal_rate_hz)
    return Capture.from_iq(
        "intel5300",
        timestamps,
        clock,
        iq,
        rssi=rssi,
        subcarriers=INTEL40 if wide else INTEL20,
        dropped_lines=dropped + len(reports) - len(kept),
        metadata={
            "chip": "Intel 5300",
            "bandwidth_mhz": 40 if wide else 20,
            "rx_antennas": n_rx,
            "tx_streams": n_tx,
            "tx_streams_left_out": max(record[10] for record in kept) - n_tx,
            "noise_floor_dbm": _noise_dbm(kept),
            "scaled": False,
            "unread_bytes": unread,
            "clock_source": source,
        },
    )


def _noise_dbm(records: list[bytes]) -> float | None:
    noise: NDArray[np.int8] = np.array([record[14] for record in records], dtype=np.uint8).view(np.int8)
    known = noise[noise != NOISE_UNKNOWN]
    return float(np.median(known)) if len(known) else None
