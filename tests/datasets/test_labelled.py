"""Labelled frames: a file in blocks is the file as a whole, and each frame has the label of its time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.datasets.conftest import CAPTURES, LABELS, PACKETS, packet_labels, recording, walk
from wifi_densepose_temporal import FeatureConfig, extract, read_capture
from wifi_densepose_temporal.datasets import Recording, blocks, labelled_frames, open_dataset
from wifi_densepose_temporal.datasets.frames import recording_frames
from wifi_densepose_temporal.datasets.labelled import last_packets
from wifi_densepose_temporal.errors import FileError, FormatError, MemoryLimitError

CONFIG = FeatureConfig()
AMPLITUDES = (
    "[56, T]",
    "[T, 56] float32",
    "Fortran order",
    "int16",
    "with damage",
    "lines",
    "damaged lines",
    "one line",
)


def amplitude_file(kind: str, folder: Path) -> Path:
    """A file of amplitudes of one kind, some of them with packets that are dropped or skipped."""
    values = np.concatenate([walk(0), walk(40)], axis=1)
    if "line" not in kind:
        made = {
            "[56, T]": values,
            "[T, 56] float32": values.T.astype(np.float32),
            "Fortran order": np.asfortranarray(values),
            "int16": values.astype(np.int16),
            "with damage": values.copy(),
        }[kind]
        if kind == "with damage":
            made[3, [0, 1, 17, 90, 119]] = [np.nan, np.inf, 1e300, np.nan, np.nan]
            made[4, [2, 50]] = -1
        np.save(folder / "x.npy", made)
        return folder / "x.npy"
    rows = [",".join(f"{value:.5g}" for value in packet[:52]) for packet in values.T]
    if kind == "damaged lines":
        rows[0] = "nan," + rows[0]
        rows[10:10] = ["", "garbage", "1,2,3", "7" * 100_000, " " * 100_000, ",".join(["1"] * 600)]
        rows[60] = "-1" + rows[60]
        rows.append(rows[-1][:100])
    text = "\ufeff" + rows[0] if kind == "one line" else "\r\n".join(rows)
    (folder / "x.csv").write_text(text)
    return folder / "x.csv"


@pytest.mark.parametrize("block", [1, 7, 8192])
@pytest.mark.parametrize("kind", AMPLITUDES)
def test_a_file_in_blocks_gives_the_frames_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block: int
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_PACKETS", block)
    path = amplitude_file(kind, tmp_path)
    capture = read_capture(path, nominal_rate_hz=97)
    made = recording_frames(recording(path, rate_hz=97), CONFIG)
    for got, expected in zip(made.frames, extract(capture, CONFIG), strict=True):
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(made.packet_times_s, capture.timestamps)
    assert made.packets_in_file == len(capture) + capture.dropped_lines


@pytest.mark.parametrize(
    "path", sorted(path for path in CAPTURES.iterdir() if path.suffix != ".md"), ids=lambda p: p.name
)
def test_every_format_gives_the_frames_of_extract(path: Path) -> None:
    capture = read_capture(path)
    made = labelled_frames(recording(path, label="sit"), CONFIG)
    for got, expected in zip(made.frames, extract(capture, CONFIG), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert made.packet_labels is not None
    assert made.packet_labels.tolist() == ["sit"] * len(capture)
    assert made.frame_labels.tolist() == ["sit"] * len(made.frames.values)


def labelled(folder: Path, values: np.ndarray, labels: np.ndarray, rate_hz: float = 100.0) -> Recording:
    np.save(folder / "r-x.npy", values)
    np.save(folder / "r-y.npy", labels)
    return recording(folder / "r-x.npy", label="", labels_path=folder / "r-y.npy", rate_hz=rate_hz)


def test_a_frame_has_the_label_of_the_last_packet_before_its_end(tmp_path: Path) -> None:
    made = labelled_frames(labelled(tmp_path, walk(0), packet_labels()), CONFIG)
    # 100 packets a second and 50 frames: frame n ends at (n + 1) / 50 s, where packet 2 n + 2 arrives.
    last = np.minimum(2 * np.arange(len(made.frames.values)) + 1, PACKETS - 1)
    np.testing.assert_array_equal(made.frame_labels, packet_labels()[last, 0])
    assert set(made.frame_labels) == set(LABELS)


def test_the_labels_of_damaged_packets_go_with_them(tmp_path: Path) -> None:
    values, labels = walk(0).copy(), np.array([f"packet {number}" for number in range(PACKETS)])
    dropped = [0, 1, 30, 31, 59]
    values[5, dropped] = np.nan
    made = labelled_frames(labelled(tmp_path, values, labels), CONFIG)
    np.testing.assert_array_equal(made.packet_labels, np.delete(labels, dropped))
    assert len(made.packet_times_s) == PACKETS - len(dropped)
    assert set(made.frame_labels) <= set(np.delete(labels, dropped))


def test_without_labels_nothing_is_made_up(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", walk(0))
    made = labelled_frames(recording(tmp_path / "x.npy", label=""), CONFIG)
    assert made.packet_labels is None
    assert set(made.frame_labels) == {""}
    assert len(made.frame_labels) == len(made.frames.values)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (packet_labels(59), "has 59 labels, and .* has 60 packets"),
        (packet_labels(61), "has 61 labels, and .* has 60 packets"),
        (np.arange(60), "expected one text"),
        (packet_labels().reshape(2, 30), "expected one text"),
        (np.array([b"walk"] * 60), "expected one text"),
        (np.array(["w" * 101] * 60), "at most 100 characters"),
        (np.array(["walk"] * 59 + ["\x1b[2J"]), re.escape(r"has '\x1b[2J'; expected printable")),
        (np.array(["walk"] * 59 + ["walk "]), "without spaces around"),
        (np.array(["walk"] * 59 + [""]), "has ''; expected"),
        (np.array(["walk"] * 60, object), "pickled objects"),
    ],
)
def test_labels_that_are_no_labels_are_refused(tmp_path: Path, labels: np.ndarray, said: str) -> None:
    with pytest.raises(FormatError, match=said):
        labelled_frames(labelled(tmp_path, walk(0), labels), CONFIG)


def test_bytes_that_are_no_characters_are_refused(tmp_path: Path) -> None:
    for point in (0xD800, 0x110000, 0xFFFFFFFF):
        damaged = np.array(["walk"] * PACKETS)
        damaged.view(np.uint32)[5] = point
        with pytest.raises(FormatError, match="no text"):
            labelled_frames(labelled(tmp_path, walk(0), damaged), CONFIG)


def test_labels_in_the_other_byte_order_are_read(tmp_path: Path) -> None:
    swapped = packet_labels().astype(packet_labels().dtype.newbyteorder(">"))
    made = labelled_frames(labelled(tmp_path, walk(0), swapped), CONFIG)
    np.testing.assert_array_equal(made.packet_labels, packet_labels()[:, 0])


def test_labels_of_a_capture_with_unplaced_damage_are_refused(tmp_path: Path) -> None:
    text = (CAPTURES / "esp32_csi_tool_short.csv").read_text().splitlines(keepends=True)
    capture = tmp_path / "c.csv"
    capture.write_text("".join([*text[:9], text[9][:200] + "\n", *text[10:]]))
    read = read_capture(capture)
    assert read.dropped_lines
    np.save(tmp_path / "y.npy", packet_labels(len(read) + read.dropped_lines))
    with pytest.raises(FormatError, match="nothing tells which"):
        labelled_frames(recording(capture, label="", labels_path=tmp_path / "y.npy"), CONFIG)


def test_files_that_are_no_amplitudes_and_files_that_are_gone_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "nan.npy", np.full((56, 10), np.nan))
    np.save(tmp_path / "labels.npy", packet_labels())
    np.save(tmp_path / "wide.npy", np.zeros((600, 600)))
    np.save(tmp_path / "cut.npy", walk(0))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    np.save(tmp_path / "long.npy", walk(0))
    with (tmp_path / "long.npy").open("ab") as file:
        file.write(b"more")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "unknown.bin").write_bytes(b"\x99" * 300)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(FormatError, match=path.name):
            recording_frames(recording(path), CONFIG)
    with pytest.raises(FileError, match=r"gone\.npy"):
        recording_frames(recording(tmp_path / "gone.npy"), CONFIG)
    monkeypatch.setattr(blocks, "MAX_LONG_PACKETS", PACKETS - 1)
    np.save(tmp_path / "good.npy", walk(0))
    with pytest.raises(MemoryLimitError, match="split it"):
        recording_frames(recording(tmp_path / "good.npy"), CONFIG)


@given(arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 10**6)), st.data())
def test_last_packets_is_the_plain_search(packets_us: np.ndarray, data: st.DataObject) -> None:
    ends = np.array(sorted(data.draw(st.lists(st.integers(int(packets_us[0]) + 1, 2 * 10**6), min_size=1))))
    expected = []
    for end in ends:
        newest = last = None
        for index, at in enumerate(packets_us.tolist()):
            if newest is None or at >= newest:
                newest = at
                last = index if at < end else last
        expected.append(last)
    assert last_packets(packets_us / 1e6, ends / 1e6).tolist() == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.data())
def test_a_damaged_npy_gives_what_the_reader_gives_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    np.save(tmp_path / "x.npy", walk(0)[:4])
    content = bytearray((tmp_path / "x.npy").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 200))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.npy"
    path.write_bytes(bytes(content))
    config = FeatureConfig(bands=2)
    try:
        expected = extract(read_capture(path), config)
    except FormatError:
        with pytest.raises(FormatError):
            recording_frames(recording(path), config)
        return
    np.testing.assert_array_equal(recording_frames(recording(path), config).frames.values, expected.values)


@pytest.mark.parametrize("name", ["csi-har", "esp32-stability", "wiper81", "espectre"])
def test_published_recordings_give_the_frames_of_extract(shared: Path, name: str) -> None:
    for found in open_dataset(shared / "data" / name).recordings[::23]:
        made = labelled_frames(found, CONFIG)
        expected = extract(read_capture(found.path, nominal_rate_hz=found.rate_hz), CONFIG)
        for got, wanted in zip(made.frames, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
        assert made.packet_labels is not None
        assert len(made.packet_labels) == len(made.packet_times_s)
        assert "" not in made.frame_labels
