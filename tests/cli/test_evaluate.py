"""`wdt evaluate`: the split first, then the figures; a leak is loud; nothing is left out or made up silently."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Wdt
from tests.evaluation.recordings import make_blob, make_model, write_labelled, write_persons, write_whole_labels
from wifi_densepose_temporal import models
from wifi_densepose_temporal.evaluation import Windowing, evaluate_activity, evaluate_identity

PNG = b"\x89PNG"


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "m.rvne"
    path.write_bytes(make_blob(provenance={"trained": True, "task": "activity", "seeds": [1, 2, 3]}))
    return path


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    path = tmp_path / "e.rvne"
    path.write_bytes(make_blob(provenance={"trained": True, "task": "identity"}))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_the_document_has_the_figures_of_the_selected_recordings(wdt: Wdt, blob: Path, home: Path) -> None:
    manifest = write_labelled(home)
    ended = wdt("evaluate", blob, home, "--split", "session=s0|s2", "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    expected = evaluate_activity(make_model(), manifest.select("session=s0|s2"))
    for name in ("window_accuracy", "frame_accuracy", "macro_f1"):
        assert document[name] == getattr(expected, name)
        assert document["intervals"][name] == pytest.approx(expected.intervals[name])
    assert document["confusion"]["windows"] == expected.confusion.tolist()
    assert [one["name"] for one in document["recordings"]] == ["r0-x.npy", "r2-x.npy"]
    assert (document["task"], document["trained"], document["seeds"]) == ("activity", True, [1, 2, 3])
    assert document["window"] == {"packets": 50, "hop": 25}
    assert "home: session=s0|s2" in document["split"]
    assert (document["rank1"], document["picture"]) == (None, None)
    assert all(note in ended.err for note in document["notes"])


def test_window_hop_and_context_are_those_asked_for(wdt: Wdt, blob: Path, home: Path) -> None:
    manifest = write_labelled(home)
    document = wdt("evaluate", blob, home, "--window", 30, "--hop", 10, "--context", 0.5, "--json").document
    expected = evaluate_activity(make_model(), manifest.recordings, Windowing(30, 10, 0.5))
    assert document["window_accuracy"] == expected.window_accuracy
    assert (document["frame_accuracy"], document["context_s"]) == (None, 0.5)


def test_people_read_the_split_before_the_figures_and_all_classes(wdt: Wdt, blob: Path, home: Path) -> None:
    write_labelled(home)
    out = wdt("evaluate", blob, home).out
    assert out.startswith("Evaluated on 3 recordings (home: all)")
    places = [out.index(text) for text in ("window_accuracy", "frame_accuracy", "macro_f1", "precision", "Intervals")]
    assert places == sorted(places)
    for label in ("walk", "sit", "fall"):
        assert label in out
    assert "states that it was trained" in out
    assert "WARNING" not in out


def test_a_recording_that_the_model_was_trained_on_is_a_loud_warning(wdt: Wdt, tmp_path: Path, home: Path) -> None:
    manifest = write_labelled(home)
    seen = {"trained": True, "data": {"sha256": [manifest.recordings[2].sha256[:16]]}}
    (tmp_path / "m.rvne").write_bytes(make_blob(provenance=seen))
    said = "WARNING: the model was trained on 1 of these 3 recordings (r2-x.npy)"
    ended = wdt("evaluate", tmp_path / "m.rvne", home)
    assert said in ended.out.splitlines()[0]
    assert said in ended.err
    as_json = wdt("evaluate", tmp_path / "m.rvne", home, "--json")
    assert said in as_json.document["split"]
    assert said in as_json.err
    assert "WARNING" not in wdt("evaluate", tmp_path / "m.rvne", home, "--split", "session=s0|s1").out


def test_single_labels_give_the_accuracy_of_recordings(wdt: Wdt, blob: Path, home: Path) -> None:
    write_whole_labels(home, ["walk", "sit", "sit"])
    document = wdt("evaluate", blob, home, "--json").document
    assert document["recording_accuracy"] == document["window_accuracy"] is not None


def test_an_encoder_is_evaluated_on_persons_first_session_against_second(wdt: Wdt, encoder: Path, home: Path) -> None:
    manifest = write_persons(home, ["ann", "bo", "cy"], sessions=("A", "B", "C"))
    document = wdt("evaluate", encoder, home, "--json").document
    expected = evaluate_identity(make_model(), manifest.select("session=A"), manifest.select("session=B"))
    assert document["task"] == "identity"
    assert (document["gallery"]["sessions"], document["probe"]["sessions"]) == (["A"], ["B"])
    assert document["rank1"] == expected.scores.rank(1)
    assert (document["map"], document["auc"]) == (expected.scores.map, expected.scores.auc)
    assert document["cmc"] == expected.scores.cmc.tolist()
    assert document["window_accuracy"] is None
    assert len(document["recordings"]) == 6
    out = wdt("evaluate", encoder, home).out
    assert "Gallery: 3 recordings, 3 persons, 3 windows of 100 packets, session A. Probe: 3" in out


def test_strangers_among_the_probe_make_it_an_open_set(wdt: Wdt, encoder: Path, home: Path) -> None:
    manifest = write_persons(home, ["ann", "bo", "cy", "d"])
    asked = ("--gallery", "session=A,person=ann|bo", "--probe", "session=B", "--window", 10)
    document = wdt("evaluate", encoder, home, *asked, "--json").document
    sides = manifest.select("session=A,person=ann|bo"), manifest.select("session=B")
    expected = evaluate_identity(make_model(), *sides, 10).scores
    assert (document["eer"], document["tpir_fpir10"]) == (expected.eer, expected.tpir["tpir_fpir10"])
    assert document["tpir_fpir10"] is not None
    assert document["intervals"]["tpir_fpir10"] == list(expected.intervals["tpir_fpir10"] or ())
    assert document["tpir_fpir1"] is None
    out = " ".join(wdt("evaluate", encoder, home, *asked).out.split())
    for said in ("eer", "tpir_fpir10", "tpir_fpir1 is unavailable: 1% of 20 windows of persons who are not in the gal"):
        assert said in out


def test_gallery_and_probe_make_it_an_evaluation_of_persons(wdt: Wdt, blob: Path, home: Path) -> None:
    write_persons(home, ["ann", "bo"], sessions=("A", "B", "C"))
    asked = ("--gallery", "session=C", "--probe", "session=A|B", "--window", 50)
    document = wdt("evaluate", blob, home, *asked, "--json").document
    assert (document["task"], document["window"]) == ("identity", {"packets": 50, "hop": 50})
    assert (document["gallery"]["windows"], document["probe"]["windows"]) == (4, 8)


def test_a_recording_in_gallery_and_probe_is_refused(wdt: Wdt, encoder: Path, home: Path) -> None:
    write_persons(home, ["ann", "bo"])
    error = wdt("evaluate", encoder, home, "--gallery", "session=A", "--probe", "all").error_line()
    assert "in gallery" in error
    assert "in probe" in error


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--gallery", "session=A"), "a gallery or a probe alone"),
        (("--split", "session=A"), "the recordings have 1 sessions"),
        (("--hop", "5"), "--hop means nothing in an evaluation of persons"),
        (("--context", "2"), "--context means nothing"),
        (("--confusion", "c.png"), "--confusion means nothing"),
        (("--split", "person=zoe"), "no recording has person 'zoe'"),
        (("--split", "height=2"), "'height' is no property"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    wdt: Wdt, encoder: Path, home: Path, asked: tuple[str, ...], said: str
) -> None:
    write_persons(home, ["ann", "bo"])
    assert said in wdt("evaluate", encoder, home, *asked).error_line()


def test_pictures_are_drawn_for_their_task(wdt: Wdt, blob: Path, encoder: Path, tmp_path: Path, home: Path) -> None:
    write_labelled(home)
    assert str(tmp_path / "c.png") in wdt("evaluate", blob, home, "--confusion", tmp_path / "c.png").out
    assert (tmp_path / "c.png").read_bytes().startswith(PNG)
    assert "--cmc means nothing" in wdt("evaluate", blob, home, "--cmc", tmp_path / "k.png").error_line()
    write_persons(home, ["ann", "bo"])
    document = wdt("evaluate", encoder, home, "--cmc", tmp_path / "k.png", "--json").document
    assert document["picture"] == str(tmp_path / "k.png")
    assert (tmp_path / "k.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("name", "said"), [("c.gif", ".png"), ("missing/c.png", "its folder is not there")])
def test_a_picture_that_cannot_be_is_refused_before_the_work(
    wdt: Wdt, blob: Path, encoder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    command = importlib.import_module("wifi_densepose_temporal.cli.evaluate")  # the package has the function there
    for work in ("evaluate_activity", "evaluate_identity"):
        monkeypatch.setattr(command, work, lambda *_, **__: pytest.fail("worked"))
    write_labelled(home)
    assert said in wdt("evaluate", blob, home, "--confusion", home / name).error_line()
    write_persons(home, ["ann", "bo"])
    assert said in wdt("evaluate", encoder, home, "--cmc", home / name).error_line()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install" in wdt("evaluate", encoder, home, "--cmc", home / "c.png").error_line()


def test_a_model_goes_by_its_shipped_name_and_an_unknown_one_lists_them(
    wdt: Wdt, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_labelled(home)
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "shipped")
    assert "this release ships no model" in wdt("evaluate", "activity", home).error_line()
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "activity.rvne").write_bytes(make_blob())
    document = wdt("evaluate", "activity", home, "--json").document
    assert document["model_sha256"] == make_model().sha256
    assert "the package ships activity;" in wdt("evaluate", "reid", home).error_line()


def test_a_control_character_from_a_blob_is_shown_not_obeyed(wdt: Wdt, tmp_path: Path, home: Path) -> None:
    write_labelled(home)
    (tmp_path / "m.rvne").write_bytes(make_blob(provenance={"trained": True, "split": "\x1b[2Jgone"}))
    out = wdt("evaluate", tmp_path / "m.rvne", home).out
    assert "\x1b[2J" not in out
    assert "\\x1b[2Jgone" in out
