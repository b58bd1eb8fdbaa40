"""FeitCSI captures (Intel AX200/AX210).

csiread does not read this format, so the decoding is here: one NumPy view a record. Subcarriers that the card
does not report (the pilots, in the recordings seen) are zero in the file and stay zero.

    u32  CSI bytes                                       offset 0
    u32  FTM clock, 320 MHz                              8
    u64  host time (newer versions; else 0)              12
    u8   receive antennas, transmit streams              46, 47
    u32  subcarriers                                     52
    u32  RSSI of antennas 1 and 2, minus dBm             60, 64
    u8x6 sender's address                                68
    u32  microsecond clock, wraps (measured, see below)  88
    u32  rate: modulation in bits 8-10, width in 11-13   92
    ...  unused up to                                    272
    i16 real, i16 imaginary: receive antenna, stream, subcarrier (fastest)

All little-endian. Layout after the tool's documentation, https://feitcsi.kuskosoft.com/csi_format/. The clock at
offset 88 is not in it: that it counts microseconds was found by measurement, its steps match those of the FTM clock.

Packets of HE and EHT have no OFDM indices here (`subcarriers` is None): their subcarriers are 78.125 kHz apart, while
the feature chain counts in steps of 312.5 kHz and would take data for pilots.
"""

from __future__ import annotations

import re
import struct

import numpy as np

from wifi_densepose_temporal.csi import subcarriers
from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal, unwrap_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.majority import main_sender, majority
from wifi_densepose_temporal.csi.records import Format, walk
from wifi_densepose_temporal.errors import FormatError

HEADER_BYTES = 272
MAX_ANTENNAS = 4
MAX_SUBCARRIERS = 2048
MODULATIONS = ("CCK", "legacy", "HT", "VHT", "HE", "EHT")
WIDTHS_MHZ = (20, 40, 80, 160, 320)

_INDEX = {
    ("legacy", 20, 52): subcarriers.LEGACY20,
    ("HT", 20, 56): subcarriers.HT20,
    ("HT", 40, 114): subcarriers.HT40,
    ("VHT", 20, 56): subcarriers.HT20,
    ("VHT", 40, 114): subcarriers.HT40,
    ("VHT", 80, 242): subcarriers.VHT80,
    ("VHT", 160, 484): subcarriers.VHT160,
}


def starts_with_record(data: bytes) -> bool:
    """Tells whether `data` begins with a whole, consistent record of this format."""
    return _size(data, 0) > 0


def _geometry(record: bytes) -> tuple[int, int, int]:
    """Receive antennas, transmit streams and subcarriers as the header states them."""
    return record[46], record[47], int.from_bytes(record[52:56], "little")


def _size(data: bytes, position: int) -> int:
    """Bytes of the record at a position; 0 where its header and the file do not agree on the number of values."""
    header = data[position : position + 56]
    if len(header) < 56:
        return 0
    n_rx, n_tx, count = _geometry(header)
    size = HEADER_BYTES + int.from_bytes(header[:4], "little")
    whole = (
        1 <= n_rx <= MAX_ANTENNAS
        and 1 <= n_tx <= MAX_ANTENNAS
        and 1 <= count <= MAX_SUBCARRIERS
        and 4 * n_rx * n_tx * count == size - HEADER_BYTES
        and position + size <= len(data)
    )
    return size if whole else 0


_FORM = Format(_size, lambda data, position: _size(data, position) > 0, re.compile(rb"(?=[\1-\4]{2})"), 46)


def _rate(record: bytes) -> tuple[str | None, int | None]:
    """The modulation's name and the channel width in MHz, None where the header's code is unknown."""
    (flags,) = struct.unpack_from("<I", record, 92)
    modulation, width = (flags >> 8) & 7, (flags >> 11) & 7
    return (
        MODULATIONS[modulation] if modulation < len(MODULATIONS) else None,
        WIDTHS_MHZ[width] if width < len(WIDTHS_MHZ) else None,
    )


def read_feitcsi(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads the packets of a FeitCSI file.

    Only the most frequent sender's packets are kept, because a mixture of links looks like motion; the metadata
    says how many there were of others (`other_senders_packets`). Packets of a rarer geometry (antennas, streams,
    subcarriers, modulation or width) are dropped and counted.
    The antenna axis is receive antenna * streams + stream.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no whole record.
        MemoryLimitError: too many packets or values.
    """
    records, dropped, unread = walk(data, 0, _FORM)
    if not records:
        raise FormatError("a FeitCSI capture without a whole record; expected at least one")
    mine, sender = main_sender(records, lambda record: record[68:74].hex(":"))
    kind, kept = majority(mine, lambda record: (*_geometry(record), *_rate(record)))
    n_rx, n_tx, count, modulation, width_mhz = kind

    check_size(len(kept), n_rx * n_tx, count)
    iq = np.empty((len(kept), n_rx * n_tx, count), dtype=np.complex64)
    for i, record in enumerate(kept):
        pairs = np.frombuffer(record, dtype="<i2", offset=HEADER_BYTES).reshape(n_rx * n_tx, count, 2)
        iq[i].real, iq[i].imag = pairs[..., 0], pairs[..., 1]
    ticks = np.array([struct.unpack_from("<I", record, 88)[0] for record in kept], dtype=np.uint64)
    seconds = unwrap_s(ticks, 32, 1e-6)
    timestamps, clock, source = measured_or_nominal(seconds, "microsecond clock", nominal_rate_hz)
    index = _INDEX.get((str(modulation), int(width_mhz or 0), count))
    return Capture.from_iq(
        "feitcsi",
        timestamps,
        clock,
        iq,
        rssi=np.array([_rssi_dbm(record) for record in kept], dtype=np.float32),
        subcarriers=index,
        dropped_lines=dropped + len(mine) - len(kept),
        metadata={
            "chip": "Intel AX2xx (FeitCSI)",
            "modulation": modulation,
            "bandwidth_mhz": width_mhz,
            "rx_antennas": n_rx,
            "tx_streams": n_tx,
            **sender,
            "unread_bytes": unread,
            "clock_source": source,
        },
    )


def _rssi_dbm(record: bytes) -> float:
    """The stronger antenna's RSSI; the file holds minus dBm, and 0 where there is none."""
    levels = [level for level in struct.unpack_from("<II", record, 60) if 0 < level < 128]
    return -float(min(levels)) if levels else float("nan")
