"""`wdt manifest`: the counts of a data set, and a file that other commands can open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Wdt
from tests.datasets.conftest import LABELS, csi_har, espectre, stability, wiper81
from wifi_densepose_temporal.datasets import open_dataset


def test_it_counts_recordings_by_person_session_room_and_label(wdt: Wdt, tmp_path: Path) -> None:
    document = wdt("manifest", stability(tmp_path / "data"), "--json").document
    assert (document["source"], document["model_sha256"], document["trained"]) == (None, None, None)
    assert document["recordings"] == 12
    assert document["manifest"] is None
    assert document["counts"] == {
        "person": {"1": 12},
        "session": {"D1": 6, "D2": 6},
        "room": {"1": 12},
        "label": dict.fromkeys(LABELS, 12),
    }
    assert not list((tmp_path / "data").glob("*.csv"))


def test_people_see_the_same_counts_and_what_is_not_known(wdt: Wdt, tmp_path: Path) -> None:
    shown = wdt("manifest", espectre(tmp_path / "data")).out
    assert "3 recordings" in shown
    for value in ("20260329", "c3", "still", "movement", "not known"):
        assert value in shown


def test_the_manifest_that_it_writes_is_the_data_set(wdt: Wdt, tmp_path: Path) -> None:
    folder = csi_har(tmp_path / "data")
    before = open_dataset(folder)
    ended = wdt("manifest", folder, "-o", folder / "manifest.csv")
    assert ended.code == 0
    assert open_dataset(folder) == open_dataset(folder / "manifest.csv") == before
    assert wdt("manifest", folder / "manifest.csv", "--json").document["recordings"] == len(before.recordings)


def test_a_manifest_in_the_folder_does_not_hide_what_was_recorded_since(wdt: Wdt, tmp_path: Path) -> None:
    folder = csi_har(tmp_path / "data", samples=2)
    wdt("manifest", folder, "-o", folder / "manifest.csv")
    (folder / "walk" / "user_2_sample_3.csv").write_text("1,2\n3,4\n")
    ended = wdt("manifest", folder, "--json")
    assert ended.document["recordings"] == 9
    assert "manifest.csv is what the other commands read" in ended.err
    assert len(open_dataset(folder).recordings) == 8
    assert wdt("manifest", folder, "-o", folder / "manifest.csv").err == ""
    assert len(open_dataset(folder).recordings) == 9


def test_a_folder_of_no_layout_is_as_its_manifest_has_it(wdt: Wdt, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("1,2\n3,4\n")
    header = "path,label,labels_path,person,session,room,start,rate_hz"
    (tmp_path / "manifest.csv").write_text(f"{header}\nmine.csv,walk,,ann,,,1,100\n")
    assert wdt("manifest", tmp_path, "--json").document["counts"]["person"] == {"ann": 1}


def test_a_manifest_elsewhere_is_refused_in_one_line(wdt: Wdt, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    line = wdt("manifest", wiper81(tmp_path / "data"), "-o", tmp_path / "other" / "manifest.csv").error_line()
    assert "not below it" in line
    assert not list((tmp_path / "other").iterdir())


def test_a_bad_file_of_labels_is_told_and_nothing_is_written(wdt: Wdt, tmp_path: Path) -> None:
    folder = stability(tmp_path / "data")
    np.save(folder / "D1" / "e02_rx_tx-y.npy", np.array(["\x1b[31mwalk"]))
    line = wdt("manifest", folder, "-o", folder / "manifest.csv").error_line()
    assert "e02_rx_tx-y.npy" in line
    assert "\x1b" not in line
    assert not (folder / "manifest.csv").exists()


@pytest.mark.parametrize("name", ["esp32-stability", "csi-har", "wiper81", "espectre"])
def test_the_published_data_is_counted(wdt: Wdt, shared: Path, name: str) -> None:
    document = wdt("manifest", shared / "data" / name, "--json").document
    assert sum(document["counts"]["session"].values()) == document["recordings"] > 0
