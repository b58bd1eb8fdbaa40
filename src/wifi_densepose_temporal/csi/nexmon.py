"""Nexmon captures (pcap of UDP packets, one receive chain a packet), Broadcom 4339, 4358, 43455c0 and 4366c0.

Samples are unpacked by csiread; this file walks the pcap, checks every length, and finds chip and bandwidth,
which csiread wants to be told. Packets of other traffic in the same pcap are skipped.

    pcap    24 bytes, then per packet 16 (seconds, fraction, length captured, length sent) and the packet
    42      Ethernet, IPv4 and UDP headers; the source address begins with the letters NEXMON
    u16     0x1111                                                      offset 0 after the 42
    i8, u8  RSSI in dBm and frame control (newer versions), else 0x1111       2
    u8 x6   sender's address                                            4
    u16     sequence number; core in bits 0-2 and spatial stream in 3-5 10, 12
    u16     channel specification (Broadcom); chip version              14, 16
    u32 x N samples, N = 64, 128, 256 for 20, 40, 80 MHz                18

A chip packs a sample as two int16 (4339, 43455c0) or as two mantissas with a common exponent (4358: 9 and 5
bits, 4366c0: 12 and 6). The chip version tells; where it is a placeholder (0xdead has been seen), each
unpacking is tried and the one with the smoothest spectrum is taken, because neighbouring subcarriers are
alike and wrongly unpacked ones are not. The metadata then says that the chip was guessed.
"""

from __future__ import annotations

import logging
import re
import struct
from typing import NamedTuple

import csiread
import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.majority import main_sender, majority
from wifi_densepose_temporal.csi.records import Format, walk
from wifi_densepose_temporal.csi.subcarriers import ascending, fft_order
from wifi_densepose_temporal.errors import FormatError

logger = logging.getLogger(__name__)

# First four bytes of a pcap: byte order and fractions of a second.
PCAP_MAGIC = {
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
FILE_HEADER_BYTES, PACKET_HEADER_BYTES, NETWORK_BYTES, HEADER_BYTES = 24, 16, 42, 18
MAX_PACKET_BYTES = 1 << 16
SAMPLES = {64: 20, 128: 40, 256: 80}  # samples: bandwidth in MHz
MAX_TRAILER_BYTES = 16  # a frame check sequence or padding after the samples
PLAIN_MAGIC = b"\x11\x11\x11\x11"
CHIPS = {1: "4339", 3: "4358", 101: "43455c0", 106: "4366c0"}  # chip version field: csiread's name
GUESSES = ("43455c0", "4358", "4366c0")  # one of each packing
GUESS_PACKETS = 64


class _Packet(NamedTuple):
    sec: int
    fraction: int
    body: bytes  # from the magic to the last sample


def is_pcap(data: bytes) -> bool:
    """Tells whether `data` begins like a classic pcap file."""
    return data[:4] in PCAP_MAGIC


def _form(order: str) -> Format:
    def size(data: bytes, position: int) -> int:
        if position + PACKET_HEADER_BYTES > len(data):
            return 0
        (captured,) = struct.unpack_from(order + "I", data, position + 8)
        end = position + PACKET_HEADER_BYTES + captured
        return PACKET_HEADER_BYTES + captured if 0 < captured <= MAX_PACKET_BYTES and end <= len(data) else 0

    def starts(data: bytes, position: int) -> bool:
        magic = position + PACKET_HEADER_BYTES + NETWORK_BYTES
        return data[magic : magic + 2] == b"\x11\x11" and size(data, position) > 0

    return Format(size, starts, re.compile(b"(?=NEXMON)"), PACKET_HEADER_BYTES + 6)


def _parse(data: bytes) -> tuple[list[_Packet], int, int, int]:
    """The whole CSI packets; how many were damaged or cut; how many held other traffic; unread bytes at the end."""
    order, _ = PCAP_MAGIC[data[:4]]
    records, dropped, unread = walk(data, FILE_HEADER_BYTES, _form(order))
    packets, other = [], 0
    for record in records:
        sec, fraction, captured, _ = struct.unpack_from(order + "IIII", record)
        packet = record[PACKET_HEADER_BYTES:]
        if packet[6:12] != b"NEXMON":
            other += 1
        elif (samples := _samples(captured)) and packet[42:44] == b"\x11\x11":
            end = NETWORK_BYTES + HEADER_BYTES + 4 * samples
            packets.append(_Packet(sec, fraction, packet[NETWORK_BYTES:end]))
        else:
            dropped += 1
    return packets, dropped, other, unread


def _samples(captured: int) -> int | None:
    """The number of samples in a packet of `captured` bytes, None where it is no possible one."""
    payload = captured - NETWORK_BYTES - HEADER_BYTES
    return next((n for n in SAMPLES if 4 * n <= payload <= 4 * n + MAX_TRAILER_BYTES), None)


def _unpack(packets: list[_Packet], chip: str, samples: int) -> NDArray[np.complex64]:
    """The samples, complex64 [T, samples], in the order of the buffer."""
    decoder = csiread.Nexmon(None, chip, SAMPLES[samples], if_report=False)
    csi = np.empty((len(packets), samples), dtype=np.complex64)
    for i, packet in enumerate(packets):
        # csiread knows the older magic only; RSSI and frame control are read here.
        decoder.pmsg(PLAIN_MAGIC + packet.body[4:])
        csi[i] = decoder.csi[0]
    return csi


def _roughness(csi: NDArray[np.complex64]) -> float:
    """How unlike neighbouring columns are: 0 for a smooth spectrum, about 1 for a random or empty one.

    This is von Neumann's ratio of log amplitude, the mean squared step over twice the variance, as a median over
    the packets.
    """
    level = np.log1p(np.abs(csi)).astype(np.float64)
    spread = 2 * level.var(axis=1)
    steps = np.square(np.diff(level, axis=1)).mean(axis=1)
    return float(np.median(np.divide(steps, spread, out=np.ones_like(steps), where=spread > 0)))


def _chip(packets: list[_Packet], samples: int) -> tuple[str, bool]:
    """The chip, and whether it was guessed."""
    version, _ = majority(packets, lambda packet: int.from_bytes(packet.body[16:18], "little"))
    chip = CHIPS.get(version)
    if chip:
        return chip, False
    probe = packets[:GUESS_PACKETS]
    chip = min(GUESSES, key=lambda name: _roughness(_unpack(probe, name, samples)))
    logger.warning("Nexmon chip version %#06x is unknown: samples unpacked like those of a %s", version, chip)
    return chip, True


def read_nexmon(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads the CSI packets of a Nexmon pcap, one row a packet, one antenna a row.

    Only the most frequent sender's packets are kept, because a mixture of links looks like motion; the metadata
    says how many there were of others (`other_senders_packets`). Packets of a rarer bandwidth are dropped and
    counted. `chain` says which receive core and spatial stream a row holds. Columns run from -N/2 to N/2-1; the
    buffer is in FFT order. Null subcarriers, DC and guard bands are in the file and are kept; the 43455c0 leaves
    garbage in them.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no pcap, no CSI packet.
        MemoryLimitError: too many packets or values.
    """
    if not is_pcap(data):
        raise FormatError(f"a Nexmon capture is a pcap; expected the magic number of one, got {data[:4].hex(' ')}")
    packets, dropped, other, unread = _parse(data)
    if not packets:
        raise FormatError(f"a pcap of {other} packets of other traffic; expected at least one whole Nexmon CSI packet")
    mine, sender = main_sender(packets, lambda packet: packet.body[4:10].hex(":"))
    size, kept = majority(mine, lambda packet: len(packet.body))
    samples = (size - HEADER_BYTES) // 4
    check_size(len(kept), 1, samples)
    chip, guessed = _chip(kept, samples)
    index = fft_order(samples)
    columns = ascending(index)
    core_spatial = np.array([struct.unpack_from("<H", packet.body, 12)[0] & 0x3F for packet in kept], dtype=np.int16)
    seconds = _times_s(kept, PCAP_MAGIC[data[:4]][1])
    timestamps, clock, source = measured_or_nominal(seconds, "pcap", nominal_rate_hz)
    channel = struct.unpack_from("<H", kept[0].body, 14)[0]
    return Capture.from_iq(
        "nexmon-pcap",
        timestamps,
        clock,
        _unpack(kept, chip, samples)[:, np.newaxis, columns],
        rssi=_rssi_dbm(kept),
        subcarriers=index[columns],
        dropped_lines=dropped + len(mine) - len(kept),
        chain=(core_spatial & 7) * np.int16(4) + (core_spatial >> 3),
        metadata={
            "chip": chip,
            "chip_guessed": guessed,
            "bandwidth_mhz": SAMPLES[samples],
            "channel": channel & 0xFF,
            "chanspec": f"{channel:#06x}",
            **sender,
            "other_packets": other,
            "unread_bytes": unread,
            "clock_source": source,
        },
    )


def _times_s(packets: list[_Packet], per_second: int) -> NDArray[np.float64]:
    """Seconds since the first packet, float64 [T]; in integers first, which lose nothing."""
    first = packets[0]
    return np.array([(packet.sec - first.sec) + (packet.fraction - first.fraction) / per_second for packet in packets])


def _rssi_dbm(packets: list[_Packet]) -> NDArray[np.float32] | None:
    """RSSI in dBm, float32 [T], or None for captures of the older version, which has no RSSI."""
    if all(packet.body[2:4] == b"\x11\x11" for packet in packets):
        return None
    return np.array([packet.body[2] for packet in packets], dtype=np.uint8).view(np.int8).astype(np.float32)
