"""One capture is one link: what the packets of a second sender must not do."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal.csi.features import features
from wifi_densepose_temporal.csi.read import read_capture

SAMPLES = Path(__file__).parents[1] / "data" / "captures"
MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"))
BANDS = 8


def feitcsi(i: int, sender: int) -> bytes:
    """Record of a still sender: 20 packets a second, the samples of one of two packets."""
    data = (SAMPLES / "feitcsi_ht20.csi").read_bytes()
    record = bytearray(data[720 * 9 * sender :][:720])
    record[68:74] = MACS[sender]
    record[272:] = record[272 + 40 * sender :] + record[272 : 272 + 40 * sender]  # other samples
    struct.pack_into("<I", record, 88, 50_000 * i)
    return bytes(record)


def nexmon(i: int, sender: int) -> bytes:
    data = (SAMPLES / "nexmon_43455c0_first20.pcap").read_bytes()[24:]
    length = 16 + struct.unpack_from("<I", data, 8)[0]
    record = bytearray(data[length * 9 * sender :][:length])
    struct.pack_into("<II", record, 0, 50_000 * i // 10**6, 50_000 * i % 10**6)
    record[16 + 42 + 4 : 16 + 42 + 10] = MACS[sender]
    return bytes(record)


def esp32(i: int, sender: int) -> bytes:
    values = [((5 * k + 37 * sender * (k % 3)) % 60 + 1) if k <= 56 or k >= 72 else 0 for k in range(128)]
    return (
        f"CSI_DATA,{i},{MACS[sender].hex(':')},-30,11,1,6,1,0,1,0,1,0,0,-93,0,13,2,{50_000 * i},0,67,0,128,0,"
        f'"{values}"\n'.replace(" ", "")
    ).encode()


PCAP_HEADER = (SAMPLES / "nexmon_43455c0_first20.pcap").read_bytes()[:24]


@pytest.mark.parametrize(
    ("record", "head"), [(esp32, b""), (nexmon, PCAP_HEADER), (feitcsi, b"")], ids=["esp32", "nexmon", "feitcsi"]
)
def test_two_still_senders_in_turn_are_no_motion(record: Callable[[int, int], bytes], head, tmp_path, caplog):
    path = tmp_path / "capture"
    path.write_bytes(head + b"".join(record(i, i % 2) for i in range(41)))
    capture = read_capture(path)
    assert (len(capture), capture.dropped_lines) == (21, 0)
    assert (capture.metadata["mac"], capture.metadata["senders"]) == (MACS[0].hex(":"), 2)
    assert capture.metadata["other_senders_packets"] == 20
    assert "20 packets of 1 other senders are left out" in caplog.text
    assert not features(capture)[:, BANDS:].any()
    # The senders do differ: were they taken for one, there would be motion.
    path.write_bytes(head + b"".join(record(i, i % 2) for i in range(41)).replace(*macs_as_written(record)))
    mixed = read_capture(path)
    assert (len(mixed), mixed.metadata["other_senders_packets"]) == (41, 0)
    assert features(mixed)[10:, BANDS:].max() > 0.02


def macs_as_written(record: Callable[[int, int], bytes]) -> tuple[bytes, bytes]:
    other, main = (mac.hex(":").encode() if record is esp32 else mac for mac in MACS[::-1])
    return other, main


def test_one_sender_leaves_nothing_out():
    for name in ("esp32_csi_tool_short.csv", "nexmon_4358.pcap", "feitcsi_ht20.csi"):
        assert read_capture(SAMPLES / name).metadata["other_senders_packets"] == 0


def test_the_main_senders_damaged_lines_are_still_counted(tmp_path):
    lines = [esp32(i, i % 3 == 0) for i in range(30)]
    lines[1] = lines[1].replace(b"[1,", b"[")
    path = tmp_path / "capture"
    path.write_bytes(b"".join(lines))
    capture = read_capture(path)
    assert (len(capture), capture.dropped_lines, capture.metadata["other_senders_packets"]) == (19, 1, 10)
    assert np.all(np.diff(capture.timestamps) > 0)
