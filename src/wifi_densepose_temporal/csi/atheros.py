"""Atheros captures (the Atheros CSI Tool's log).

Decoded by csiread after each record's lengths were checked here, because its compiled loops trust them. Files
logged on a big-endian router have big-endian headers: the first record tells.

    u16  length of what follows
    u64  timestamp, microseconds; the chip counts 32 bits         offset 0
    u16  CSI bytes, u16 channel in MHz                            8, 10
    u8   PHY error, noise floor, rate, bandwidth (0: 20, 1: 40)   12
    u8   tones, receive antennas, transmit streams                16
    u8   RSSI combined, and of chains 0, 1, 2                     19
    u16  payload bytes                                            23
    ...  10-bit pairs, tone by tone; then the payload             25
"""

from __future__ import annotations

import re
import struct
from functools import partial
from typing import Literal

import csiread
import numpy as np

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal, unwrap_narrow_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.majority import majority
from wifi_densepose_temporal.csi.records import Format, walk
from wifi_densepose_temporal.csi.subcarriers import HT20, HT40
from wifi_densepose_temporal.errors import FormatError

Endian = Literal["little", "big"]

HEADER_BYTES = 25
MAX_ANTENNAS = 3
BITS_PER_VALUE = 20
TONES = {56: HT20, 114: HT40}
RSSI_NONE = 128
# The chip reports RSSI above its noise floor, and the tool writes 0 for that floor: this is the nominal one.
NOISE_FLOOR_DBM = -95


def starts_with_record(data: bytes) -> bool:
    """Tells whether `data` begins with a whole, consistent record of this format."""
    return _endian(data) is not None


def _endian(data: bytes) -> Endian | None:
    """The byte order in which the first record is consistent."""
    endians: tuple[Endian, Endian] = ("little", "big")
    for endian in endians:
        size = _size(data, 0, endian)
        if size and (_has_csi(data, 0, endian) or data[10:12] == b"\0\0"):
            return endian
    return None


def _size(data: bytes, position: int, endian: Endian) -> int:
    """Bytes of the record at a position, its length included; 0 where its lengths do not fit each other or the file."""
    header = data[position : position + 2 + HEADER_BYTES]
    if len(header) < 2 + HEADER_BYTES:
        return 0
    length = int.from_bytes(header[:2], endian)
    csi_bytes, payload_bytes = int.from_bytes(header[10:12], endian), int.from_bytes(header[25:27], endian)
    fits = csi_bytes + payload_bytes > 0 and csi_bytes + payload_bytes + HEADER_BYTES == length
    return 2 + length if fits and position + 2 + length <= len(data) else 0


def _has_csi(data: bytes, position: int, endian: Endian) -> bool:
    """Tells whether the record that begins here holds as much CSI as its tones and antennas ask for."""
    if not _size(data, position, endian):
        return False
    tones, n_rx, n_tx = data[position + 18 : position + 21]
    csi_bytes = int.from_bytes(data[position + 10 : position + 12], endian)
    return (
        tones in TONES
        and 1 <= n_rx <= MAX_ANTENNAS
        and 1 <= n_tx <= MAX_ANTENNAS
        and csi_bytes == (tones * n_rx * n_tx * BITS_PER_VALUE + 7) // 8
    )


def _parse(data: bytes, endian: Endian) -> tuple[list[bytes], int, int]:
    """The whole records that hold CSI, without their length; how many were damaged or cut; unread bytes at the end."""
    mark = re.compile(b"(?=[" + bytes(TONES) + b"][\1-\3]{2})")
    form = Format(partial(_size, endian=endian), partial(_has_csi, endian=endian), mark, 18)
    found, dropped, unread = walk(data, 0, form)
    records = [record[2:] for record in found if _has_csi(record, 0, endian)]
    empty = sum(record[10:12] == b"\0\0" for record in found)  # a packet that the chip made no CSI of
    return records, dropped + len(found) - len(records) - empty, unread


def read_atheros(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads the packets of an Atheros CSI Tool log.

    Packets of the rarer number of tones are dropped and counted; of the antennas and streams, those that
    every kept packet has are returned. The antenna axis is receive antenna * streams kept + stream.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no whole record with CSI.
        MemoryLimitError: too many packets or values.
    """
    endian = _endian(data) or "little"
    records, dropped, unread = _parse(data, endian)
    if not records:
        raise FormatError("an Atheros capture without a whole record; expected at least one that holds CSI")
    tones, kept = majority(records, lambda record: record[16])
    n_rx, n_tx = min(record[17] for record in kept), min(record[18] for record in kept)

    check_size(len(kept), n_rx * n_tx, tones)
    iq = np.empty((len(kept), n_rx * n_tx, tones), dtype=np.complex64)
    ticks = np.empty(len(kept), dtype=np.uint64)
    decoder = csiread.Atheros(None, nrxnum=MAX_ANTENNAS, ntxnum=MAX_ANTENNAS, tones=114, if_report=False)
    for i, record in enumerate(kept):
        # It reads 16 bits at a time, one byte past an odd length.
        decoder.pmsg(record + b"\0\0", endian)
        iq[i] = decoder.csi[0, :tones, :n_rx, :n_tx].reshape(tones, -1).T
        ticks[i] = decoder.timestamp[0]
    rssi = np.array([record[19] for record in kept], dtype=np.float32)
    seconds = unwrap_narrow_s(ticks, 1e-6)
    timestamps, clock, source = measured_or_nominal(seconds, "timestamp", nominal_rate_hz)
    return Capture.from_iq(
        "atheros",
        timestamps,
        clock,
        iq,
        rssi=np.where(rssi == RSSI_NONE, np.float32(np.nan), rssi + np.float32(NOISE_FLOOR_DBM)),
        subcarriers=TONES[tones],
        dropped_lines=dropped + len(records) - len(kept),
        metadata={
            "chip": "Atheros (CSI Tool)",
            "bandwidth_mhz": 20 if tones == 56 else 40,
            "frequency_mhz": struct.unpack_from("<H" if endian == "little" else ">H", kept[0], 10)[0],
            "rx_antennas": n_rx,
            "tx_streams": n_tx,
            "tx_streams_left_out": max(record[18] for record in kept) - n_tx,
            "rssi_reference": f"above a nominal noise floor of {NOISE_FLOOR_DBM} dBm",
            "unread_bytes": unread,
            "clock_source": source,
        },
    )
