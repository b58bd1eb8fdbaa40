"""Pictures: that there is one, whole or not at all, and what happens without matplotlib."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.cli.conftest import ESP32, EVERY_CAPTURE, Wdt, make_blob, wdt_process
from wifi_densepose_temporal import FeatureConfig


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.mark.parametrize("capture", EVERY_CAPTURE, ids=lambda path: path.stem)
def test_every_format_can_be_drawn(wdt: Wdt, tmp_path: Path, capture: Path) -> None:
    ended = wdt("plot", capture, tmp_path / "out.png", "--json")
    assert ended.code == 0, ended.err
    assert set(ended.document) == {"source", "model_sha256", "trained", "path", "format", "frames"}
    assert ended.document["source"] == "replay"
    assert png_size(tmp_path / "out.png") == (1200, 720)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_run_draws_and_says_where(wdt: Wdt, tmp_path: Path) -> None:
    ended = wdt("run", ESP32, "--plot", tmp_path / "out.png")
    assert ended.code == 0
    assert str(tmp_path / "out.png") in ended.out
    assert png_size(tmp_path / "out.png") == (1200, 1008)


@pytest.mark.parametrize("trained", [False, None, True])
def test_the_picture_says_in_words_whether_the_model_was_trained(
    wdt: Wdt, tmp_path: Path, trained: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    titles = []
    draw = Figure.suptitle
    monkeypatch.setattr(Figure, "suptitle", lambda self, t, **options: titles.append(t) or draw(self, t, **options))
    (tmp_path / "m.rvne").write_bytes(make_blob(provenance={} if trained is None else {"trained": trained}))
    assert wdt("run", ESP32, "--model", tmp_path / "m.rvne", "--plot", tmp_path / "out.png").code == 0
    said = {False: "UNTRAINED", None: "does not say if it is trained", True: "states that it was trained"}[trained]
    assert said in titles[0]
    assert ESP32.name in titles[0]
    assert "replay" in titles[0]


def test_labels_that_look_like_formulas_or_private_names_are_drawn_as_they_are(wdt: Wdt, tmp_path: Path) -> None:
    labels = (r"$\frac{$", "_hidden", "a$b$c", "歩く", "x" * 64, *(f"class {n}" for n in range(20)))
    (tmp_path / "m.rvne").write_bytes(make_blob(labels, chain=FeatureConfig()))
    ended = wdt("run", ESP32, "--model", tmp_path / "m.rvne", "--plot", tmp_path / "out.png")
    assert ended.code == 0, ended.err
    assert png_size(tmp_path / "out.png") == (1200, 1008)


@pytest.mark.parametrize("name", ["out.pdf", "out.svg", "OUT.PNG"])
def test_the_suffix_says_which_kind_of_picture(wdt: Wdt, tmp_path: Path, name: str) -> None:
    assert wdt("plot", ESP32, tmp_path / name).code == 0
    starts = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}
    assert (tmp_path / name).read_bytes().startswith(starts[name[-3:].lower()])


@pytest.mark.parametrize("name", ["out", "out.gif", "out.png.exe"])
def test_another_suffix_is_refused(wdt: Wdt, tmp_path: Path, name: str) -> None:
    assert ".png" in wdt("plot", ESP32, tmp_path / name).error_line()
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(wdt: Wdt, tmp_path: Path) -> None:
    assert "missing" in wdt("plot", ESP32, tmp_path / "missing" / "out.png").error_line()
    (tmp_path / "folder.png").mkdir()
    wdt("plot", ESP32, tmp_path / "folder.png").error_line()
    shown = wdt("run", ESP32, "--plot", tmp_path / "folder.png")
    assert shown.code == 1
    assert shown.err.count("\n") == 1
    assert "confidence" in shown.out  # the decisions are not lost with the picture
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]
    assert list((tmp_path / "folder.png").iterdir()) == []


WITHOUT = "import sys; sys.modules['matplotlib'] = None"


@pytest.mark.parametrize(
    "command", [["plot", ESP32, "out.png"], ["run", ESP32, "--plot", "out.png"], ["demo", "--out", "x.png"]]
)
def test_without_matplotlib_the_extra_is_named(tmp_path: Path, command: list[object]) -> None:
    ended = wdt_process(*command, before=WITHOUT, cwd=tmp_path)
    assert ended.returncode == 1
    assert ("confidence" in ended.stdout) == (command[0] == "run")
    assert "pip install 'wifi-densepose-temporal[plot]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_demo_without_matplotlib_does_the_rest_and_says_so(tmp_path: Path) -> None:
    ended = wdt_process("demo", before=WITHOUT, cwd=tmp_path)
    assert ended.returncode == 0
    assert "true label" in ended.stdout
    assert "No picture" in ended.stdout
    assert "pip install 'wifi-densepose-temporal[plot]'" in ended.stdout
    assert list(tmp_path.iterdir()) == []


def test_run_without_matplotlib_needs_no_matplotlib(tmp_path: Path) -> None:
    assert wdt_process("run", ESP32, before=WITHOUT, cwd=tmp_path).returncode == 0
