"""Folders of the known layouts: what their names say, nothing that they do not, and no number of people or days."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.datasets.conftest import MAKERS, csi_har, espectre, stability, wiper81
from wifi_densepose_temporal.datasets import open_dataset, packets_of
from wifi_densepose_temporal.errors import FileError, FormatError


def test_every_layout_is_recognised_and_its_recordings_can_be_read(layout: tuple[str, Path]) -> None:
    _, folder = layout
    manifest = open_dataset(folder)
    captures = {path for path in folder.rglob("*.*") if not path.stem.endswith("-y") and path.suffix != ".json"}
    assert {recording.path for recording in manifest.recordings} == captures
    for recording in manifest.recordings:
        assert folder / recording.name == recording.path
        assert len(packets_of(recording))


def test_stability_has_a_session_a_day_and_a_label_a_packet(tmp_path: Path) -> None:
    manifest = open_dataset(stability(tmp_path / "data", days=("D1", "D2", "D10"), exercises=11))
    assert manifest.values("session") == ("D1", "D2", "D10")  # in time, though D10 sorts before D2
    first, tenth = manifest.select({"recording": ["D2/e02_rx_tx-x.npy", "D2/e10_rx_tx-x.npy"]})
    assert (first.session, first.person, first.label, first.rate_hz) == ("D2", "1", "", 100.0)
    assert first.labels_path == first.path.with_name("e02_rx_tx-y.npy")
    assert first.start < tenth.start


def test_a_recording_whose_labels_are_missing_is_one_without_labels(tmp_path: Path) -> None:
    folder = stability(tmp_path / "data", days=("D1",), exercises=1)
    (folder / "D1" / "e01_rx_tx-y.npy").unlink()
    without, having = open_dataset(folder).recordings
    assert (without.label, without.labels_path) == ("", None)
    assert having.labels_path is not None


def test_har_takes_the_activity_and_the_person_and_claims_no_visit_and_no_room(tmp_path: Path) -> None:
    manifest = open_dataset(csi_har(tmp_path / "data", people=12, samples=1))
    (found,) = manifest.select("person=11,label=walk")
    assert found.name == "walk/user_11_sample_1.csv"
    assert (found.session, found.room) == ("11", "")
    assert len(manifest.values("person")) == 12


def test_wiper_has_two_sessions_and_the_empty_room_is_told_apart(tmp_path: Path) -> None:
    manifest = open_dataset(wiper81(tmp_path / "data", people=3))
    assert [recording.name for recording in manifest.select("person=p*,session=B")] == [
        "p01_B.npz",
        "p02_B.npz",
        "p03_B.npz",
    ]
    assert {recording.label for recording in manifest.select("person=empty*")} == {"empty1"}


def test_espectre_is_ordered_in_time_and_knows_no_person(tmp_path: Path) -> None:
    manifest = open_dataset(espectre(tmp_path / "data"))
    assert [(recording.session, recording.room, recording.label) for recording in manifest.recordings] == [
        ("20260214", "esp32", "still"),
        ("20260329", "c3", "still"),
        ("20260329", "c3", "movement"),
    ]
    assert manifest.values("person") == ("",)


def test_a_folder_of_no_layout_and_one_of_two_are_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "holiday.csv").write_text("1,2\n")
    with pytest.raises(FormatError, match=re.escape("no manifest.csv and no file of a known layout")):
        open_dataset(tmp_path / "none")
    both = espectre(wiper81(tmp_path / "both"))
    with pytest.raises(FormatError, match="wiper81 and espectre"):
        open_dataset(both)
    with pytest.raises(FileError, match="absent"):
        open_dataset(tmp_path / "absent")


def test_files_and_folders_that_are_linked_in_are_read(tmp_path: Path) -> None:
    plain, linked = wiper81(tmp_path / "plain"), tmp_path / "linked"
    linked.mkdir()
    for file in plain.iterdir():
        (linked / file.name).symlink_to(file)
    assert [one.name for one in open_dataset(linked).recordings] == [one.name for one in open_dataset(plain).recordings]
    days, some = stability(tmp_path / "days"), tmp_path / "some"
    some.mkdir()
    (some / "D7").symlink_to(days / "D1", target_is_directory=True)
    assert {one.session for one in open_dataset(some).recordings} == {"D7"}


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    folder = wiper81(tmp_path / "data")
    (folder / "p01_A.npz").unlink()
    (folder / "p01_A.npz").symlink_to(tmp_path / "elsewhere.npz")
    with pytest.raises(FormatError, match="cannot be followed"):
        open_dataset(folder)


@pytest.mark.parametrize("name", MAKERS)
def test_the_published_data_is_recognised(shared: Path, name: str) -> None:
    folder = shared / "data" / name
    manifest = open_dataset(folder)
    captures = [path for path in folder.rglob("*.*") if path.suffix in (".npy", ".npz", ".csv")]
    assert len(manifest.recordings) == sum(not path.stem.endswith("-y") for path in captures)
    assert len({recording.sha256 for recording in manifest.recordings}) == len(manifest.recordings)
