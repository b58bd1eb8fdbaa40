"""PicoScenes captures (.csi), Qualcomm Atheros QCA9300 only.

The samples are decoded by csiread. Its compiled parser trusts every length in the file, so a frame is taken
apart here and a new one, of only the two segments that are needed and were checked, is handed over. csiread
reads PicoScenes frames from a file only, so that file is a temporary one.

Other devices (Intel 5300 and AX210, USRP) are refused: there was no recording to test them against.

    frame    u32 length of the rest, u32 0x20150315, u16 version 1, u8 segments
    segment  u32 length of the rest, u8 length of the name, name, u16 version, content
    RxSBasic u16 device, u64 time in microseconds (the chip counts 32 bits), ... RSSI
    CSI      u16 device, i8 packet format, u16 bandwidth in MHz, u64 carrier in Hz, u64 sampling rate,
             u32 spacing, u16 tones, u8 streams, antennas, extra streams, [v3: u16 number of CSI], u8 antennas
             used, [v2: i16 offset of the subcarriers], u32 bytes, samples of 10-bit pairs
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import csiread
import numpy as np

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, measured_or_nominal, unwrap_narrow_s
from wifi_densepose_temporal.csi.limits import check_size
from wifi_densepose_temporal.csi.majority import majority
from wifi_densepose_temporal.csi.records import Format, walk
from wifi_densepose_temporal.csi.subcarriers import HT20, HT40
from wifi_densepose_temporal.errors import FileError, FormatError

MAGIC = 0x20150315
FRAME_HEADER = struct.Struct("<IIHB")
BASIC_BYTES = {1: 26, 2: 28, 3: 32}  # content of RxSBasic by version
CSI_HEADER = {1: "<HbHQQIHBBBBI", 2: "<HbHQQIHBBBBhI", 3: "<HbHQQIHBBBHBhI"}
QCA9300 = 0x9300
HT = 1
TONES = {20: (56, HT20), 40: (114, HT40)}  # bandwidth in MHz: tones and their indices
MAX_ANTENNAS = 3
MAX_FRAME_BYTES = 1 << 20  # a frame holds one packet, its matrix and some headers
BITS_PER_VALUE = 20
TAIL_BYTES = 64  # zeros where csiread looks for the packet's own headers


class _Frame(NamedTuple):
    kind: tuple[int, int]  # bandwidth in MHz, subcarrier offset
    n_rx: int
    n_tx: int
    carrier_hz: int
    segments: bytes  # RxSBasic and CSI


class _Foreign(NamedTuple):
    device: int  # of a frame with CSI that this reader does not decode


def starts_with_record(data: bytes) -> bool:
    """Tells whether `data` begins with a frame header of this format."""
    return len(data) >= FRAME_HEADER.size and FRAME_HEADER.unpack_from(data)[1] == MAGIC


def _segments(frame: bytes, count: int) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Yields name, version, content and all bytes of each segment, up to the first that does not fit."""
    position = FRAME_HEADER.size
    for _ in range(count):
        if position + 5 > len(frame):
            return
        length, name_bytes = struct.unpack_from("<IB", frame, position)
        end, content = position + 4 + length, position + 5 + name_bytes + 2
        if end > len(frame) or content > end:
            return
        name = frame[position + 5 : content - 2].rstrip(b"\0").decode("ascii", "replace")
        yield (
            name,
            int.from_bytes(frame[content - 2 : content], "little"),
            frame[content:end],
            frame[position:end],
        )
        position = end


def _parse(frame: bytes) -> _Frame | _Foreign | None:
    """A checked frame; None where it is damaged or holds no CSI."""
    _, _, version, count = FRAME_HEADER.unpack_from(frame)
    if version != 1:
        return None
    found = {name: (version, content, raw) for name, version, content, raw in _segments(frame, count)}
    if "RxSBasic" not in found or "CSI" not in found:
        return None
    basic_version, basic, basic_raw = found["RxSBasic"]
    csi_version, csi, csi_raw = found["CSI"]
    header = struct.Struct(CSI_HEADER.get(csi_version, "0s"))
    if len(basic) != BASIC_BYTES.get(basic_version) or csi_version not in CSI_HEADER or len(csi) < header.size:
        return None
    device, packet_format, width_mhz, carrier_hz, _, _, tones, _, n_rx, *_, size = header.unpack_from(csi)
    if device != QCA9300:
        return _Foreign(device)
    offset = 0 if csi_version == 1 else struct.unpack_from("<h", csi, header.size - 6)[0]
    if packet_format != HT or tones != TONES.get(width_mhz, (0,))[0] or not 1 <= n_rx <= MAX_ANTENNAS:
        return None
    stream_bytes = tones * n_rx * BITS_PER_VALUE // 8
    n_tx = size // stream_bytes
    if not 1 <= n_tx <= MAX_ANTENNAS or size != n_tx * stream_bytes or header.size + size > len(csi):
        return None
    return _Frame((width_mhz, offset), n_rx, n_tx, carrier_hz, basic_raw + csi_raw)


def _size(data: bytes, position: int) -> int:
    """Bytes of the frame at a position; 0 where there is no frame header or the file ends before the frame does."""
    if position + FRAME_HEADER.size > len(data):
        return 0
    length, magic, _, _ = FRAME_HEADER.unpack_from(data, position)
    whole = magic == MAGIC and FRAME_HEADER.size <= 4 + length <= min(MAX_FRAME_BYTES, len(data) - position)
    return 4 + length if whole else 0


_FORM = Format(
    _size,
    lambda data, position: _size(data, position) > 0,
    re.compile(b"(?=" + re.escape(MAGIC.to_bytes(4, "little")) + b")"),
    4,
)


def _decode(frames: list[_Frame], tones: int) -> csiread.Picoscenes:
    """What csiread reads of frames that hold two checked segments each, and nothing else."""
    n_tx = max(frame.n_tx for frame in frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checked.csi"
        with path.open("wb") as file:
            for frame in frames:
                body = frame.segments + bytes(TAIL_BYTES)
                file.write(FRAME_HEADER.pack(FRAME_HEADER.size - 4 + len(body), MAGIC, 1, 2) + body)
        decoder = csiread.Picoscenes(str(path), {"CSI": [tones, MAX_ANTENNAS, n_tx]}, if_report=False)
        decoder.read()
    return decoder


def read_picoscenes(data: bytes, nominal_rate_hz: float = DEFAULT_RATE_HZ) -> Capture:
    """Reads the QCA9300 frames of a PicoScenes file.

    Frames of the rarer bandwidth are dropped and counted; of the antennas and streams, those that every kept
    frame has are returned. The antenna axis is receive antenna * streams kept + stream.

    Args:
        data: the file.
        nominal_rate_hz: used only where the file's clock stands still.

    Raises:
        FormatError: no whole frame, or only frames of devices that are not read.
        MemoryLimitError: too many packets or values.
        FileError: no temporary file can be written.
    """
    records, dropped, unread = walk(data, 0, _FORM)
    parsed = [_parse(record) for record in records]
    frames = [frame for frame in parsed if isinstance(frame, _Frame)]
    devices = Counter(frame.device for frame in parsed if isinstance(frame, _Foreign))
    if not frames and devices:
        device = devices.most_common(1)[0][0]
        raise FormatError(
            f"a PicoScenes capture of device {device:#06x}; expected the QCA9300 (0x9300), the only one that is read"
        )
    if not frames:
        raise FormatError("a PicoScenes capture without a whole frame; expected at least one that holds CSI")
    kind, kept = majority(frames, lambda frame: frame.kind)
    n_rx, n_tx = min(frame.n_rx for frame in kept), min(frame.n_tx for frame in kept)
    tones, index = TONES[kind[0]]
    check_size(len(kept), MAX_ANTENNAS * max(frame.n_tx for frame in kept), tones)
    try:
        raw = _decode(kept, tones).raw
    except OSError as error:
        raise FileError(f"cannot write a temporary file for the PicoScenes parser: {error}") from error
    matrix = raw["CSI"]["CSI"][:, :, :n_rx, :n_tx]
    iq = matrix.reshape(len(kept), tones, n_rx * n_tx).transpose(0, 2, 1).astype(np.complex64)
    seconds = unwrap_narrow_s(raw["RxSBasic"]["Timestamp"].astype(np.uint64), 1e-6)
    timestamps, clock, source = measured_or_nominal(seconds, "RxSBasic", nominal_rate_hz)
    return Capture.from_iq(
        "picoscenes",
        timestamps,
        clock,
        np.ascontiguousarray(iq),
        rssi=raw["RxSBasic"]["RSSI"].astype(np.float32),
        subcarriers=(index + np.int16(kind[1])).astype(np.int16),
        dropped_lines=dropped + len(parsed) - len(kept),
        metadata={
            "chip": "QCA9300",
            "bandwidth_mhz": kind[0],
            "frequency_mhz": kept[0].carrier_hz // 10**6,
            "rx_antennas": n_rx,
            "tx_streams": n_tx,
            "tx_streams_left_out": max(frame.n_tx for frame in kept) - n_tx,
            "noise_floor_dbm": float(np.median(raw["RxSBasic"]["NoiseFloor"])),
            "unread_bytes": unread,
            "clock_source": source,
        },
    )
