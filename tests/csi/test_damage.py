"""Files of records that are damaged in the middle or cut at the end: what is lost, and what the reader says of it."""

import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal.csi.read import read_capture
from wifi_densepose_temporal.errors import FormatError

SAMPLES = Path(__file__).parents[1] / "data" / "captures"

# file, bytes before the first record, length of the record at a position, where its length field is and how wide
FORMATS: list[tuple[str, int, Callable[[bytes, int], int], int, int]] = [
    ("nexmon_43455c0_first20.pcap", 24, lambda d, at: 16 + struct.unpack_from("<I", d, at + 8)[0], 8, 4),
    ("intel5300_first20.dat", 0, lambda d, at: 2 + struct.unpack_from(">H", d, at)[0], 0, 2),
    ("atheros_first20.dat", 0, lambda d, at: 2 + struct.unpack_from("<H", d, at)[0], 0, 2),
    ("picoscenes_first20.csi", 0, lambda d, at: 4 + struct.unpack_from("<I", d, at)[0], 0, 4),
    ("feitcsi_ht20.csi", 0, lambda d, at: 272 + struct.unpack_from("<I", d, at)[0], 0, 4),
]
NAMES = [row[0] for row in FORMATS]


def is_payload(data: bytes, at: int) -> bool:
    """Tells whether this is what an Intel log has between two reports: the payload of a packet, and no CSI."""
    return data[at + 2] == 0xC1 and data[0] == 0


def begins(data: bytes, first: int, length: Callable[[bytes, int], int]) -> list[int]:
    places = [first]
    while places[-1] < len(data):
        places.append(places[-1] + length(data, places[-1]))
    return [at for at in places[:-1] if not is_payload(data, at)]


@pytest.mark.parametrize("value", [0x00, 0x01, 0x7F, 0xFF])
@pytest.mark.parametrize(("name", "first", "length", "field", "width"), FORMATS, ids=NAMES)
def test_a_damaged_length_costs_its_own_record_only(name, first, length, field, width, value, tmp_path):
    data = bytearray((SAMPLES / name).read_bytes())
    whole = read_capture(SAMPLES / name)
    at = begins(data, first, length)[5] + field
    data[at : at + width] = bytes([value]) * width
    (tmp_path / "capture").write_bytes(data)
    capture = read_capture(tmp_path / "capture")
    assert (len(capture), capture.dropped_lines, capture.metadata["unread_bytes"]) == (len(whole) - 1, 1, 0)
    np.testing.assert_array_equal(capture.iq, np.delete(whole.iq, 5, axis=0))


@pytest.mark.parametrize("damage", ["begin lost", "noise before"])
@pytest.mark.parametrize(("name", "first", "length", "field", "width"), FORMATS, ids=NAMES)
def test_after_a_gap_the_next_record_is_found(name, first, length, field, width, damage, tmp_path):
    data = (SAMPLES / name).read_bytes()
    whole, at = read_capture(SAMPLES / name), begins(data, first, length)[7]
    after = data[at + 100 :] if damage == "begin lost" else b"\xff" * 50 + data[at:]
    (tmp_path / "capture").write_bytes(data[:at] + after)
    capture = read_capture(tmp_path / "capture")
    expected = np.delete(whole.iq, [7], axis=0) if damage == "begin lost" else whole.iq
    np.testing.assert_array_equal(capture.iq, expected)
    assert (capture.dropped_lines, capture.metadata["unread_bytes"]) == (1, 0)


@pytest.mark.parametrize(("name", "first", "length", "field", "width"), FORMATS, ids=NAMES)
def test_what_could_not_be_read_at_the_end_is_said_in_bytes(name, first, length, field, width, tmp_path, caplog):
    data = (SAMPLES / name).read_bytes()
    cut = data[: begins(data, first, length)[9]] + bytes(1000)
    (tmp_path / "capture").write_bytes(cut)
    capture = read_capture(tmp_path / "capture")
    unread = capture.metadata["unread_bytes"]
    assert (unread, len(capture), capture.dropped_lines) == (1000, 9, 1)
    assert f"the last {unread} of {len(cut)} bytes could not be read" in caplog.text


HOSTILE = {
    "feitcsi_ht20.csi": b"\1",
    "intel5300_first20.dat": b"\xbb",
    "atheros_first20.dat": b"\x38\1\1",
    "picoscenes_first20.csi": b"\0\0\1\0\x15\x03\x15\x20",
    "nexmon_43455c0_first20.pcap": b"\xff" * 10 + b"NEXMON",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_search_for_the_next_record_ends_in_time(name, tmp_path):
    """Every few bytes look like the begin of a record: eight megabytes of them in seconds, not hours."""
    path = tmp_path / "capture"
    path.write_bytes((SAMPLES / name).read_bytes() + HOSTILE[name] * (8_000_000 // len(HOSTILE[name])))
    begin = time.perf_counter()
    capture = read_capture(path)
    assert time.perf_counter() - begin < 10
    assert len(capture) == len(read_capture(SAMPLES / name))


def test_an_intel_log_may_begin_with_payloads(tmp_path):
    payload = struct.pack(">HB", 40, 0xC1) + bytes(39)
    data = (SAMPLES / "intel5300_first20.dat").read_bytes()
    (tmp_path / "capture").write_bytes(payload * 3 + data)
    capture = read_capture(tmp_path / "capture")
    assert (capture.format, len(capture), capture.dropped_lines) == ("intel5300", 20, 0)
    (tmp_path / "capture").write_bytes(payload * 3)
    with pytest.raises(FormatError):
        read_capture(tmp_path / "capture")
