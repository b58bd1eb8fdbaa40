"""Manifest files: what is written is read back, strangers' ones are refused, selections say what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import stability, wiper81
from wifi_densepose_temporal.datasets import Manifest, open_dataset, parse_selector, read_manifest, write_manifest
from wifi_densepose_temporal.datasets.manifest import COLUMNS, MAX_MANIFEST_BYTES, selector_text
from wifi_densepose_temporal.errors import ConfigError, FileError, FormatError, TemporalError

HEADER = ",".join(COLUMNS) + "\n"
ROW = "a.csv,walk,,1,D1,1,1,100\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds a.csv, b.csv and labels.npy, and beside it is a secret."""
    root = tmp_path / "data"
    root.mkdir()
    for name in ("a.csv", "b.csv", "labels.npy"):
        (root / name).write_text("1,2\n")
    (tmp_path / "secret.csv").write_text("1,2\n")
    return root


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "manifest.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_what_is_written_is_read_back(layout: tuple[str, Path]) -> None:
    _, folder = layout
    manifest = open_dataset(folder)
    write_manifest(folder / "manifest.csv", manifest)
    assert open_dataset(folder) == manifest  # by its manifest.csv now
    assert read_manifest(folder / "manifest.csv") == manifest


def test_a_manifest_above_its_folder_has_longer_names_and_the_same_files(tmp_path: Path) -> None:
    manifest = open_dataset(wiper81(tmp_path / "sets" / "wiper81"))
    write_manifest(tmp_path / "all.csv", manifest)
    again = read_manifest(tmp_path / "all.csv")
    assert [recording.path for recording in again.recordings] == [recording.path for recording in manifest.recordings]
    assert again.recordings[0].name == "sets/wiper81/empty1_A.npz"


def test_a_manifest_elsewhere_or_in_place_of_a_recording_is_not_written(tmp_path: Path) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="not below it"):
        write_manifest(tmp_path / "other" / "manifest.csv", manifest)
    assert not list((tmp_path / "other").iterdir())
    for taken in ("e01_rx_tx-x.npy", "e01_rx_tx-y.npy"):
        before = (tmp_path / "data" / "D1" / taken).read_bytes()
        with pytest.raises(ConfigError, match="another name"):
            write_manifest(tmp_path / "data" / "D1" / taken, manifest)
        assert (tmp_path / "data" / "D1" / taken).read_bytes() == before


def test_a_table_made_by_hand_is_read(folder: Path) -> None:
    text = HEADER + 'b.csv,,labels.npy,"Müller, Ö.",D1,"the ""blue"" room",2,12.5\n\n' + "./a.csv,walk,,,D2,,1,100\r\n"
    first, second = read_manifest(written(folder, b"\xef\xbb\xbf" + text.encode())).recordings
    assert (first.name, first.person, first.room, first.rate_hz) == ("b.csv", "Müller, Ö.", 'the "blue" room', 12.5)
    assert first.labels_path == folder / "labels.npy"
    assert (second.name, second.person, second.label) == ("a.csv", "", "walk")


HOSTILE = {
    "empty": ("", "first line is ''"),
    "no rows": (HEADER, "of 0 recordings"),
    "another header": ("path,label\na.csv,walk\n", "expected 'path,label,labels_path"),
    "a value too few": (HEADER + "a.csv,walk,,1,D1,1,1\n", "line 2: 7 values; expected 8"),
    "a value too many": (HEADER + ROW.replace("\n", ",\n"), "line 2: 9 values"),
    "out of the folder": (HEADER + ROW.replace("a.csv", "../secret.csv"), "line 2: the path '../secret.csv' is not"),
    "out and in again": (HEADER + ROW.replace("a.csv", "../data/a.csv"), "is not relative"),
    "far out": (HEADER + ROW.replace("a.csv", "../../../../etc/passwd"), "is not relative"),
    "absolute": (HEADER + ROW.replace("a.csv", "/etc/passwd"), "is not relative"),
    "backslashes": (HEADER + ROW.replace("a.csv", "..\\secret.csv"), "is not relative"),
    "labels out of the folder": (HEADER + "a.csv,,../secret.csv,1,D1,1,1,100\n", "is not relative"),
    "a folder": (HEADER + ROW.replace("a.csv", "."), "no file at '.'"),
    "nothing there": (HEADER + ROW.replace("a.csv", "c.csv"), "no file at 'c.csv'"),
    "no path": (HEADER + ROW.replace("a.csv", ""), "is empty"),
    "a part too long": (HEADER + ROW.replace("a.csv", "x" * 300), "cannot be followed"),
    "a path too long": (HEADER + ROW.replace("a.csv", "x/" * 300), "too long"),
    "a control character": (HEADER + ROW.replace("a.csv", "a\x1b[2J.csv"), "not printable"),
    "twice": (HEADER + ROW + ROW, "'a.csv' is the file of 'a.csv' again"),
    "twice under two names": (HEADER + ROW + ROW.replace("a.csv", "linked.csv"), "is the file of 'a.csv' again"),
    "a label and labels": (HEADER + "a.csv,walk,labels.npy,1,D1,1,1,100\n", "expected one of the two"),
    "a rate that is no number": (HEADER + ROW.replace("100", "fast"), "line 2: rate_hz is 'fast'"),
    "a rate of NaN": (HEADER + ROW.replace("100", "nan"), "has rate_hz nan"),
    "a rate of 0": (HEADER + ROW.replace("100", "0"), "has rate_hz 0"),
    "a space that makes another person": (HEADER + ROW.replace(",1,D1", ",1 ,D1"), "without spaces around it"),
    "a line in a value": (HEADER + ROW.replace("D1", '"D1\nD2"'), "a recording's session is 'D1\\nD2'"),
    "a long value": (HEADER + ROW.replace("D1", "D" * 101), "has 101 characters"),
    "a huge value": (HEADER + ROW.replace("D1", "D" * 200_000), "line 2: field larger"),
    "a quote that does not end": (HEADER + 'a.csv,"walk', "line 2"),
    "another spelling of one letter": (HEADER + ROW.replace("D1", "Mu\u0308ller"), "NFC"),
    "NUL": (HEADER + ROW.replace("D1", "D\0"), "NUL"),
}


@pytest.mark.parametrize(("content", "said"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_or_damaged_manifest_is_refused_with_its_line(folder: Path, content: str, said: str) -> None:
    (folder / "linked.csv").symlink_to(folder / "a.csv")
    with pytest.raises(FormatError, match=re.escape(said)) as refused:
        read_manifest(written(folder, content))
    assert str(folder / "manifest.csv") in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_links_out_of_the_folder_and_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "out.csv").symlink_to(folder.parent / "secret.csv")
    (folder / "up").symlink_to(folder.parent)
    (folder / "circle.csv").symlink_to(folder / "circle.csv")
    for name in ("out.csv", "up/secret.csv", "circle.csv"):
        with pytest.raises(FormatError, match=name):
            read_manifest(written(folder, HEADER + ROW.replace("a.csv", name)))


def test_bytes_that_are_no_text_and_a_file_that_is_no_table_are_refused(folder: Path) -> None:
    with pytest.raises(FormatError, match="UTF-8"):
        read_manifest(written(folder, HEADER.encode() + b"\xff\xfe"))
    with (folder / "disk.csv").open("wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(FileError, match="at most"):
        read_manifest(folder / "disk.csv")


HURTFUL = [b"../", b'"', b"\0", b",", b"\n", b"/", b"\xff", b"\r"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_manifest_gives_an_error_or_files_of_the_folder(folder: Path, data: st.DataObject) -> None:
    content = bytearray((HEADER + ROW + ROW.replace("a.csv", "b.csv")).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(HURTFUL))
    try:
        manifest = read_manifest(written(folder, bytes(content)))
    except TemporalError:
        return
    assert all(recording.path.parent == folder for recording in manifest.recordings)


def test_one_file_twice_is_no_data_set(tmp_path: Path) -> None:
    first, *_ = open_dataset(wiper81(tmp_path / "data")).recordings
    with pytest.raises(FormatError, match="each file once"):
        Manifest(tmp_path, (first, first))


def test_a_selector_takes_what_all_of_its_parts_allow_and_keeps_the_order(tmp_path: Path) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    assert manifest.select("all") == manifest.select({}) == manifest.recordings
    second = manifest.select({"session": ["D2"]})
    assert second == manifest.select("session=D2") == tuple(r for r in manifest.recordings if r.session == "D2")
    assert [r.name for r in manifest.select("session=D2|D1,recording=*/e01_rx_tx*")] == [
        "D1/e01_rx_tx-x.npy",
        "D2/e01_rx_tx-x.npy",
    ]


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("session=D3", "no recording has session 'D3'; there is 'D1', 'D2'"),
        ("session=D1|D3", "no recording has session 'D3'"),
        ("weekday=Monday", "'weekday' is no property of a recording; expected one of recording, session, person"),
        ("session=D2,recording=D1/*", "each part has some, but none has all"),
        ("session", "is not of the form"),
        ("session=", "is not of the form"),
        ("session=D1,session=D2", "is not of the form"),
        ("", "is not of the form"),
        ({"session": "D1"}, "expected a list of texts"),
        ({"session": []}, "expected a list of texts"),
        ({"person": [1]}, "expected a list of texts"),
        (["session"], "expected a mapping"),
    ],
)
def test_a_selector_that_selects_nothing_says_what_there_is(tmp_path: Path, selector: object, said: str) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    with pytest.raises(ConfigError, match=re.escape(said)):
        manifest.select(selector)  # type: ignore[arg-type]


values = st.text(st.characters(categories=["L", "N"], include_characters="*?-_ /"), min_size=1).filter(
    lambda text: text == text.strip()
)


@given(st.dictionaries(st.sampled_from(["session", "person", "label"]), st.lists(values, min_size=1)))
def test_the_text_form_of_a_selector_is_read_back(selector: dict[str, list[str]]) -> None:
    assert parse_selector(selector_text(selector)) == {name: tuple(some) for name, some in selector.items()}
