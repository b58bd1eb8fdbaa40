"""Files from strangers: cut, damaged, lying about their size, or no files at all.

A reader gives a Capture or one line of TemporalError: never a traceback of another kind, a crash, a hang or memory
that the file's size does not explain.
"""

import io
import json
import os
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.detect import detect
from wifi_densepose_temporal.csi.read import MAX_FILE_BYTES, READERS, read_capture
from wifi_densepose_temporal.errors import ConfigError, FileError, FormatError, TemporalError

SAMPLES = Path(__file__).parents[1] / "data" / "captures"
NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.suffix != ".md")
assert NAMES, f"no samples in {SAMPLES}"
CSV_NAME = "amplitude.csv"  # of a format whose recordings may not be copied
CUTS = 50
MUTATIONS = 300


def sample(name: str) -> bytes:
    if name != CSV_NAME:
        return (SAMPLES / name).read_bytes()
    rows = np.random.default_rng(2).uniform(1, 900, (60, 52)).round(2)
    return "".join(",".join(map(str, row)) + "\n" for row in rows).encode()


def read(data: bytes, kind: str | None = None) -> Capture:
    return READERS[kind or detect(data)](data, 100.0)


def outcome(data: bytes, kind: str | None = None) -> Capture | TemporalError:
    """Return the capture, or the error that took its place; any other error passes through."""
    try:
        return read(data, kind)
    except TemporalError as error:
        return error


@pytest.mark.parametrize("name", [*NAMES, CSV_NAME])
def test_a_cut_file_gives_the_frames_before_the_cut(name):
    data = sample(name)
    whole = read(data)
    rng = random.Random(name)
    frames = []
    first = data.index(b"\n") + 1 if name == CSV_NAME else 1  # a single line of CSV may be a whole file
    for cut in sorted(rng.randrange(first, len(data)) for _ in range(CUTS)):
        capture = outcome(data[:cut])
        if isinstance(capture, FormatError):
            assert "\n" not in str(capture)
            frames.append(0)
            continue
        np.testing.assert_array_equal(capture.amplitude, whole.amplitude[: len(capture)])
        if capture.clock == whole.clock:
            np.testing.assert_array_equal(capture.timestamps, whole.timestamps[: len(capture)])
        assert capture.dropped_lines <= whole.dropped_lines + 1
        frames.append(len(capture))
    assert frames == sorted(frames)
    if name.endswith((".npy", ".npz")):
        assert not any(frames)  # an array without its end is no array
    else:
        assert frames[-1] > 0


@pytest.mark.parametrize(("name", "header", "record"), [("feitcsi_ht20.csi", 0, 720), ("nexmon_4358.pcap", 24, 1100)])
def test_a_cut_costs_exactly_the_record_that_it_hits(name, header, record):
    data = sample(name)
    for count in (1, 2, 3):
        whole = read(data[: header + count * record])
        assert (len(whole), whole.dropped_lines) == (count, 0)
        cut = read(data[: header + count * record + 1])
        assert (len(cut), cut.dropped_lines) == (count, 1)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip bytes anywhere, flip bits of a header, cut a piece out, or put noise in."""
    out, kind = bytearray(data), rng.randrange(4)
    if kind == 0:
        for _ in range(rng.randrange(1, 30)):
            out[rng.randrange(len(out))] = rng.randrange(256)
    elif kind == 1:
        for _ in range(rng.randrange(1, 6)):
            out[rng.randrange(min(len(out), 400))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        at = rng.randrange(len(out))
        del out[at : at + rng.randrange(1, 200)]
    else:
        at = rng.randrange(len(out))
        out[at:at] = rng.randbytes(rng.randrange(1, 40))
    return bytes(out)


def check_survives(data: bytes, kind: str) -> None:
    for forced in (None, kind):
        capture = outcome(data, forced)
        if isinstance(capture, TemporalError):
            assert "\n" not in str(capture)
            assert len(str(capture)) < 500
            continue
        assert np.isfinite(capture.timestamps).all()
        assert np.isfinite(capture.amplitude).all()
        json.dumps(dict(capture.metadata))


@pytest.mark.parametrize("name", [*NAMES, CSV_NAME])
def test_a_damaged_file_gives_a_capture_or_an_error(name):
    data, rng = sample(name), random.Random(f"damage {name}")
    kind = read(data).format
    for _ in range(MUTATIONS):
        check_survives(mutate(data, rng), kind)


def test_a_damaged_array_inside_a_sound_archive_gives_a_capture_or_an_error():
    """A zip's checksums hide the array reader from the test above."""
    rng = random.Random(3)
    values = np.random.default_rng(3).integers(-128, 127, (5, 128)).astype(np.int8)
    layouts = (
        {"csi_data": values, "duration_ms": np.array(50.0), "label": np.array("walking")},
        {"iq": values, "t": np.arange(5) * 0.01},
    )
    for _ in range(MUTATIONS):
        arrays = rng.choice(layouts)
        damaged, buffer = rng.choice(list(arrays)), io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.save(content, array)
                data = content.getvalue()
                archive.writestr(f"{name}.npy", mutate(data, rng) if name == damaged else data)
        check_survives(buffer.getvalue(), "esp32-npz")


@pytest.mark.parametrize("kind", READERS)
def test_noise_is_no_capture_of_any_kind(kind):
    rng = random.Random(kind)
    for size in (1, 2, 3, 4, 24, 25, 272, 1000, 5000):
        with pytest.raises(FormatError):
            READERS[kind](rng.randbytes(size), 100.0)


# --- sizes that lie ----------------------------------------------------------------------------------------------


def npy_of(shape: str, descr: str = "<f8", payload: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n" + payload


def refused_without_memory(data: bytes, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < len(data) + 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(56, 1000000000000)", "(999999999999999, 999999999999999)"])
def test_an_array_that_declares_more_than_there_is(shape):
    refused_without_memory(npy_of(shape), "bytes follow")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy_of("(8,)", "|O"), "pickled objects"),
        (npy_of("(8,)", "<q9999"), "no header"),
        (npy_of("(-8,)"), "no header"),
        (npy_of("(2\f4)"), "no header"),  # once a ValueError
        (npy_of("(8,)", "|a8"), "no header"),  # once a DeprecationWarning
        (npy_of("(8, __import__('os'))"), "no header"),
        (npy_of("(" * 3000 + ")" * 3000), "no header"),
        (npy_of("(1, 1, 1, 1, 8)"), "no header"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", "no header"),
        (b"\x93NUMPY\7\0", "no header"),
    ],
)
def test_an_array_header_that_numpy_would_not_write(data, message):
    refused_without_memory(data, message)


def test_an_archive_entry_that_declares_a_terabyte():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("iq.npy", npy_of("(8,)"))
        archive.filelist[0].file_size = 2**40
    refused_without_memory(buffer.getvalue(), r"declares 1099511627776 bytes")


def test_an_archive_entry_that_inflates_to_more_than_it_declares():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("iq.npy", npy_of("(4, 16000000)", "|i1", bytes(64_000_000)))
        archive.filelist[0].file_size = 1000
    refused_without_memory(buffer.getvalue(), r"bytes follow its header|damaged")


def test_an_archive_of_a_thousand_entries():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(1000):
            archive.writestr(f"{i}.npy", b"")
    with pytest.raises(FormatError, match="1000 entries"):
        read(buffer.getvalue())


def test_a_record_that_states_four_gigabytes():
    for head in (b"\xff\xff\xff\xff\x15\x03\x15\x20\x01\x00\x03", b"\xff\xff\xff\xff" + bytes(268)):
        for kind in ("picoscenes", "feitcsi", "atheros", "intel5300"):
            with pytest.raises(FormatError):
                read(head + bytes(1000), kind)


# --- files -------------------------------------------------------------------------------------------------------


def test_a_missing_file(tmp_path):
    with pytest.raises(FileError, match=r"cannot read .*nowhere.*No such file"):
        read_capture(tmp_path / "nowhere")


def test_a_directory(tmp_path):
    with pytest.raises(FileError, match="is a directory"):
        read_capture(tmp_path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="not a regular file"):
        read_capture(tmp_path / "pipe")


def test_a_path_with_a_nul():
    with pytest.raises(FileError, match="cannot read"):
        read_capture("a\0b")


def test_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="empty"):
        read_capture(tmp_path / "empty")


def test_a_file_above_the_cap(tmp_path):
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, MAX_FILE_BYTES + 1)
    with pytest.raises(FileError, match="split it"):
        read_capture(path)


def test_an_unknown_file_shows_how_it_begins(tmp_path):
    path = tmp_path / "capture.pcap"
    path.write_bytes(b"\x7fELF\2\1\1\0" + bytes(100))
    with pytest.raises(FormatError, match=r"7f 45 4c 46 .*known are .*--format"):
        read_capture(path)


def test_a_format_that_is_none():
    with pytest.raises(FormatError, match="'pcapng'; expected one of esp32-csv"):
        read_capture(SAMPLES / "nexmon_4358.pcap", "pcapng")


def test_the_wrong_reader_says_so():
    with pytest.raises(FormatError, match="is a pcap"):
        read_capture(SAMPLES / "feitcsi_ht20.csi", "nexmon-pcap")


def test_a_bad_rate_is_refused_before_the_file_is_opened():
    with pytest.raises(ConfigError):
        read_capture("nowhere", nominal_rate_hz=0)


@pytest.mark.parametrize("kind", [None, "nexmon-pcap"])
@pytest.mark.parametrize(
    ("head", "message"), [(b"\n\r\r\n" + bytes(100), "editcap -F pcap"), (b"\x1f\x8b\x08" + bytes(100), "gunzip")]
)
def test_a_wrapped_capture_says_how_to_get_it_out(head, message, kind, tmp_path):
    (tmp_path / "capture").write_bytes(head)
    with pytest.raises(FormatError, match=message):
        read_capture(tmp_path / "capture", kind)
