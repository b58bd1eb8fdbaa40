"""Atheros captures (the Atheros CSI Tool's log).

Decoded by csiread after each record's lengths were checked here, because its compiled loops trust them. Files
logged on a big-endian router have big-endian headers: the first record tells.

    u16  length of what follows
    u64  timestamp, microseconds                                  offset 0
    u16  CSI bytes, u16 channel in MHz                            8, 10
    u8   PHY error, noise floor, rate, bandwidth (0: 20, 1: 40)   12
    u8   tones, receive antennas, transmit streams                16
    u8   RSSI combined, and of chains 0, 1, 2                     19
    u16  payload bytes                                            23
    ...  10-bit pairs, tone by tone; then the payload             25
"""

import struct
from collections import Counter
from typing import Literal

import csiread
import numpy as np

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal, unwrap_s
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
    """Tell whether `data` begins with a whole, consistent record of this format."""
    return _endian(data) is not None


def _endian(data: bytes) -> Endian | None:
    for endian in ("little", "big"):
        length = int.from_bytes(data[:2], endian)
        if len(data) >= 2 + length and (_is_whole(data[2 : 2 + length], endian)):
            return endian
    return None


def _is_whole(record: bytes, endian: Endian) -> bool:
    """Tell whether the lengths that a record states fit each other and the record."""
    if len(record) < HEADER_BYTES:
        return False
    csi_bytes = int.from_bytes(record[8:10], endian)
    payload_bytes = int.from_bytes(record[23:25], endian)
    tones, n_rx, n_tx = record[16], record[17], record[18]
    if csi_bytes + payload_bytes + HEADER_BYTES != len(record):
        return False
    if csi_bytes == 0:
        return payload_bytes > 0
    return (
        tones in TONES
        and 1 <= n_rx <= MAX_ANTENNAS
        and 1 <= n_tx <= MAX_ANTENNAS
        and csi_bytes == (tones * n_rx * n_tx * BITS_PER_VALUE + 7) // 8
    )


def _walk(data: bytes, endian: Endian) -> tuple[list[bytes], int]:
    """Return the whole records that hold CSI, and how many were damaged or cut."""
    records, dropped, position = [], 0, 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 2], endian)
        record = data[position + 2 : position + 2 + length]
        if length == 0 or len(record) < length:
            dropped += 1
            break
        if not _is_whole(record, endian):
            dropped += 1
        elif record[8:10] != b"\0\0":
            records.append(record)
        position += 2 + length
    return records, dropped


def read_atheros(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Read the packets of an Atheros CSI Tool log.

    Packets of the rarer number of tones are dropped and counted; of the antennas and streams, those that
    every kept packet has are returned. The antenna axis is receive antenna * streams kept + stream.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no whole record with CSI.
    """
    endian = _endian(data) or "little"
    records, dropped = _walk(data, endian)
    if not records:
        raise FormatError("an Atheros capture without one whole record that holds CSI; nothing to read")
    tones = Counter(record[16] for record in records).most_common(1)[0][0]
    kept = [record for record in records if record[16] == tones]
    n_rx, n_tx = min(record[17] for record in kept), min(record[18] for record in kept)

    iq = np.empty((len(kept), n_rx * n_tx, tones), dtype=np.complex64)
    ticks = np.empty(len(kept), dtype=np.uint64)
    decoder = csiread.Atheros(None, nrxnum=MAX_ANTENNAS, ntxnum=MAX_ANTENNAS, tones=114, if_report=False)
    for i, record in enumerate(kept):
        # It reads 16 bits at a time, one byte past an odd length.
        decoder.pmsg(record + b"\0\0", endian)
        iq[i] = decoder.csi[0, :tones, :n_rx, :n_tx].reshape(tones, -1).T
        ticks[i] = decoder.timestamp[0]
    rssi = np.array([record[19] for record in kept], dtype=np.float32)
    seconds = unwrap_s(ticks, 64, 1e-6)
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
            "clock_source": source,
        },
    )
