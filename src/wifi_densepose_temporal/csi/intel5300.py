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

import struct
from collections import Counter

import csiread
import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal, unwrap_s
from wifi_densepose_temporal.csi.subcarriers import INTEL20, INTEL40
from wifi_densepose_temporal.errors import FormatError

REPORT, PAYLOAD = 0xBB, 0xC1
HEADER_BYTES = 20
MAX_ANTENNAS = 3
MATRIX_BYTES_PER_STREAM, MATRIX_BYTES_EXTRA = 60, 12
IDENTITY_PERMUTATION = 0b100100
FLAG_40_MHZ = 0x800
RSSI_OFFSET_DB = 44  # the tool's reference level: dBm = RSSI - 44 - gain
NOISE_UNKNOWN = -127


def starts_with_record(data: bytes) -> bool:
    """Tell whether `data` begins with a whole, consistent record of this format."""
    if len(data) < 3:
        return False
    length, code = struct.unpack_from(">HB", data)
    if code == PAYLOAD:
        return 24 <= length <= len(data) - 2 and starts_with_record(data[2 + length : 2 + length + 1024])
    return code == REPORT and length <= len(data) - 2 and _is_whole(data[2 : 2 + length])


def _is_whole(record: bytes) -> bool:
    """Tell whether a report (from its code byte on) holds the matrix that its antenna numbers ask for."""
    if len(record) < 1 + HEADER_BYTES:
        return False
    n_rx, n_tx = record[9], record[10]
    (matrix_bytes,) = struct.unpack_from("<H", record, 17)
    return (
        1 <= n_rx <= MAX_ANTENNAS
        and 1 <= n_tx <= MAX_ANTENNAS
        and matrix_bytes == MATRIX_BYTES_PER_STREAM * n_rx * n_tx + MATRIX_BYTES_EXTRA
        and len(record) == 1 + HEADER_BYTES + matrix_bytes
    )


def _walk(data: bytes) -> tuple[list[bytes], int]:
    """Return the whole reports, and how many records were damaged, cut or unknown."""
    reports, dropped, position = [], 0, 0
    while position < len(data):
        length = int.from_bytes(data[position : position + 2], "big")
        record = data[position + 2 : position + 2 + length]
        if length == 0 or len(record) < length:
            dropped += 1
            break
        if record[0] == REPORT and _is_whole(record):
            reports.append(record)
        elif record[0] != PAYLOAD:
            dropped += 1
        position += 2 + length
    return reports, dropped


def _with_safe_permutation(record: bytes) -> bytes:
    """Replace an antenna permutation that is none: csiread would write outside its array."""
    n_rx, bits = record[9], record[16]
    antennas = sorted((bits >> (2 * j)) & 3 for j in range(n_rx))
    if antennas == list(range(n_rx)):
        return record
    return record[:16] + bytes([IDENTITY_PERMUTATION]) + record[17:]


def _is_40_mhz(record: bytes) -> bool:
    return bool(struct.unpack_from("<H", record, 19)[0] & FLAG_40_MHZ)


def read_intel5300(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Read the beamforming reports of an Intel 5300 capture.

    Packets may hold one, two or three transmit streams: the streams that every packet has are kept, and the
    metadata says how many were left out. Packets of the rarer bandwidth are dropped and counted. The antenna
    axis is receive antenna * streams kept + stream.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no whole report.
    """
    reports, dropped = _walk(data)
    if not reports:
        raise FormatError("an Intel 5300 capture without one whole beamforming report (0xBB); nothing to read")
    wide = Counter(map(_is_40_mhz, reports)).most_common(1)[0][0]
    kept = [record for record in reports if _is_40_mhz(record) == wide]
    n_rx, n_tx = min(record[9] for record in kept), min(record[10] for record in kept)

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
            "clock_source": source,
        },
    )


def _noise_dbm(records: list[bytes]) -> float | None:
    noise: NDArray[np.int8] = np.array([record[14] for record in records], dtype=np.uint8).view(np.int8)
    known = noise[noise != NOISE_UNKNOWN]
    return float(np.median(known)) if len(known) else None
