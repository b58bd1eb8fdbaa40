"""`wdt enroll`, `identify` and `gallery`: the four recordings of two persons that ship with the package."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the gallery needs the extra reid, which is not installed")

from tests.cli.conftest import Wdt
from wifi_densepose_temporal import load_model

SHIPPED = Path(__file__).parents[2] / "src" / "wifi_densepose_temporal" / "data"
A1, B1, A2, B2 = (SHIPPED / f"wiper81_{name}.npz" for name in ("p01_A", "p01_B", "p02_A", "p02_B"))


@pytest.fixture(autouse=True)
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "persons.gallery"
    monkeypatch.setenv("WDT_GALLERY", str(path))
    return path


def test_a_person_is_recognised_and_a_stranger_is_not(wdt: Wdt, gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enrolled = wdt("enroll", A1, "--person", "one", "--json").document
    assert (enrolled["embeddings"], enrolled["source"], enrolled["trained"]) == (10, "replay", True)
    assert stat.S_IMODE(gallery.stat().st_mode) == 0o600
    before = wdt("identify", B1, "--json")
    assert (before.document["decision"], before.document["person"]) == ("uncalibrated", None)
    assert before.document["nearest"] == "one"
    assert "wdt gallery calibrate" in before.err
    calibrated = wdt("gallery", "calibrate", A2, "--false-accept-rate", "0.5", "--json").document
    assert (calibrated["method"], calibrated["persons"], calibrated["probes"]) == ("strangers", 1, 10)
    known = wdt("identify", B1, "--json").document
    assert (known["decision"], known["person"]) == ("known", "one")
    assert known["model_sha256"] == load_model("reid").sha256
    assert len(known["windows"]) == 10
    stranger = wdt("identify", B2, "--json").document
    assert (stranger["decision"], stranger["person"], stranger["nearest"]) == ("unknown", None, "one")
    monkeypatch.setenv("COLUMNS", "80")
    lines = wdt("identify", B2).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "(nearest is one at" in lines[0]
    assert sum("known " in line and " one " in line for line in lines) == 11  # the recording, and its windows


def test_a_gallery_is_listed_merged_moved_and_forgotten(wdt: Wdt, gallery: Path, tmp_path: Path) -> None:
    wdt("enroll", A1, "--person", "one")
    wdt("enroll", A2, B2, "--person", "two")
    listed = wdt("gallery", "list", "--json").document
    assert [(one["person"], one["enrolled"]) for one in listed["persons"]] == [("one", 10), ("two", 20)]
    assert listed["calibration"] is None
    shown = wdt("gallery", "show", "two", "--json").document
    assert (len(shown["recordings"]), shown["sources"]) == (2, ["replay"])
    assert "prototype" not in shown
    file = tmp_path / "moved"
    assert wdt("gallery", "export", file, "--json").document["embeddings"] == 30
    assert wdt("gallery", "merge", "two", "--into", "one", "--json").document["embeddings"] == 30
    assert wdt("gallery", "forget", "one", "--json").document == {
        "source": None,
        "model_sha256": None,
        "trained": None,
        "person": "one",
        "embeddings": 30,
        "scrubbed": True,
    }
    assert wdt("gallery", "list", "--json").document["persons"] == []
    assert wdt("gallery", "import", file, "--json").document["embeddings"] == 30
    assert wdt("gallery", "verify", "--json").document["sound"] is True
    actions = [entry["action"] for entry in wdt("gallery", "audit", "--json").document["entries"]]
    assert "forget" in actions
    assert "one" not in wdt("gallery", "audit").out


def test_each_mistake_is_one_line(wdt: Wdt, gallery: Path, tmp_path: Path) -> None:
    assert "persons.gallery" in wdt("identify", B1).error_line()
    wdt("enroll", A1, "--person", "one")
    assert "--add" in wdt("enroll", A1, "--person", "one").error_line()
    assert "nobody" in wdt("gallery", "show", "nobody").error_line()
    assert "nobody" in wdt("gallery", "forget", "nobody").error_line()
    assert "window" in wdt("enroll", B1, "--person", "two", "--window", "5000").error_line()
    assert "needs at least 2" in wdt("gallery", "calibrate").error_line()
    assert "99 persons" in wdt("gallery", "calibrate", A2).error_line()
    assert "enrolled" in wdt("gallery", "calibrate", A1, "--false-accept-rate", "0.5").error_line()
    gallery.write_bytes(gallery.read_bytes()[:5000])
    assert wdt("gallery", "verify").code == 1
    (tmp_path / "text").write_text("no gallery")
    assert wdt("gallery", "list", "--gallery", tmp_path / "text").code == 1


def test_recordings_are_enrolled_all_or_none(wdt: Wdt, tmp_path: Path) -> None:
    wdt("enroll", A1, "--person", "one")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK")
    assert wdt("enroll", A2, broken, "--person", "two").code == 1
    assert [one["person"] for one in wdt("gallery", "list", "--json").document["persons"]] == ["one"]
    assert wdt("enroll", B1, "--person", "one", "--add", "--json").document["embeddings_of_person"] == 20


def test_a_gallery_is_made_when_there_is_somebody_to_enrol(wdt: Wdt, gallery: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK")
    assert wdt("enroll", broken, "--person", "one").code == 1
    assert not gallery.exists()


def test_a_recording_counts_once(wdt: Wdt, tmp_path: Path) -> None:
    copy = tmp_path / "copy.npz"
    copy.write_bytes(A1.read_bytes())
    assert "same recording" in wdt("enroll", A1, copy, "--person", "one").error_line()
    wdt("enroll", A1, "--person", "one")
    assert "enrolled of 'one' already" in wdt("enroll", copy, "--person", "one", "--add").error_line()
    (shown,) = wdt("gallery", "list", "--json").document["persons"]
    assert shown["enrolled"] == 10
    copy.write_bytes(A2.read_bytes())
    assert "same recording" in wdt("gallery", "calibrate", A2, copy).error_line()


def test_recordings_of_one_stranger_are_of_one_person(wdt: Wdt) -> None:
    wdt("enroll", A1, "--person", "one")
    asked = ("gallery", "calibrate", A2, B2, "--false-accept-rate", "0.5", "--json")
    assert wdt(*asked).document["persons"] == 2
    assert wdt(*asked, "--persons", "two,two").document["persons"] == 1
    assert "2 recordings" in wdt(*asked, "--persons", "two").error_line()


def test_bytes_that_another_process_holds_are_scrubbed_later(wdt: Wdt, gallery: Path) -> None:
    wdt("enroll", A1, "--person", "one")
    reader = sqlite3.connect(gallery, isolation_level=None)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM gallery_persons").fetchone()
        done = wdt("gallery", "forget", "one", "--json")
        assert (done.code, done.document["scrubbed"]) == (0, False)
        assert "wdt gallery scrub" in done.err
    finally:
        reader.close()
    assert wdt("gallery", "scrub", "--json").document["scrubbed"] is True
