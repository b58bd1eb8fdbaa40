"""`wdt run` and `wdt demo`: the timeline, and that no output hides where it comes from or whether it means anything."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import ESP32, EVERY_CAPTURE, Wdt, make_blob
from wifi_densepose_temporal import Capture, FeatureConfig, TemporalModel, extract, init_random_blob, read_capture
from wifi_densepose_temporal.csi import FeaturePart
from wifi_densepose_temporal.plot import _curve
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256
from wifi_densepose_temporal.timeline import replay


@pytest.mark.parametrize("capture", EVERY_CAPTURE, ids=lambda path: path.stem)
def test_every_format_gives_a_timeline_whose_records_state_their_origin(
    wdt: Wdt, capture: Path, reference: Path
) -> None:
    ended = wdt("run", capture, "--model", reference, "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert (document["source"], document["model_sha256"], document["trained"]) == ("replay", REFERENCE_SHA256, False)
    assert set(document["capture"]) >= {"file", "format", "frames", "rate_hz", "antennas", "subcarriers", "clock"}
    assert document["capture"]["file"] == capture.name
    assert document["timeline"]
    for row in document["timeline"]:
        assert (row["source"], row["model_sha256"], row["trained"]) == ("replay", REFERENCE_SHA256, False)
        assert row["label"] in document["labels"]
        assert row["confidence"] == max(row["probabilities"])
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert "UNTRAINED" in document["note"]
    assert "UNTRAINED" in ended.err


def test_rows_are_the_models_own_predictions(wdt: Wdt, reference: Path) -> None:
    document = wdt("run", ESP32, "--model", reference, "--every", "7", "--json").document
    frames = extract(read_capture(ESP32), FeatureConfig())
    expected = TemporalModel.from_bytes(init_random_blob()).predict(frames.values)
    shown = [row["frame"] for row in document["timeline"]]
    assert shown == [*range(0, len(frames.values) - 1, 7), len(frames.values) - 1]
    for before, row in zip([None, *shown], document["timeline"], strict=False):
        t = row["frame"]
        assert row["label"] == expected.labels[t]
        assert row["time_s"] == frames.times_s[t]
        assert row["held"] == bool(frames.held[t])
        assert row["probabilities"] == expected.probabilities[t].tolist()
        if before is None:
            assert row["embedding_change"] is None
        else:
            cosine = float(expected.embedding[before] @ expected.embedding[t])
            assert row["embedding_change"] == pytest.approx(1 - cosine, abs=1e-6)


def test_default_shows_about_twenty_rows_and_the_last_frame(wdt: Wdt) -> None:
    capture = next(path for path in EVERY_CAPTURE if "stability" in path.name)
    document = wdt("run", capture, "--json").document
    assert 20 <= len(document["timeline"]) <= 41
    assert document["timeline"][-1]["frame"] == document["features"]["frames"] - 1


def test_people_see_the_same_rows_and_that_the_model_is_untrained(wdt: Wdt, reference: Path) -> None:
    ended = wdt("run", ESP32, "--model", reference)
    assert ended.code == 0
    assert "UNTRAINED" in ended.out
    assert "replay" in ended.out
    assert REFERENCE_SHA256[:12] in ended.out
    for row in wdt("run", ESP32, "--model", reference, "--json").document["timeline"]:
        assert f"{row['time_s']:.2f}" in ended.out


@pytest.mark.parametrize(
    ("trained", "said"), [(True, "states that it was trained"), (False, "UNTRAINED"), (None, "Unknown training")]
)
def test_what_the_blob_says_of_its_training_is_passed_on(
    wdt: Wdt, tmp_path: Path, trained: bool | None, said: str
) -> None:
    blob = make_blob(provenance={} if trained is None else {"trained": trained}, chain=FeatureConfig())
    (tmp_path / "m.rvne").write_bytes(blob)
    ended = wdt("run", ESP32, "--model", tmp_path / "m.rvne", "--json")
    document = ended.document
    assert document["trained"] is trained
    assert {row["trained"] for row in document["timeline"]} == {trained}
    assert document["model_sha256"] == hashlib.sha256(blob).hexdigest()
    assert said in document["note"]
    assert said in ended.err
    assert said in wdt("run", ESP32, "--model", tmp_path / "m.rvne").out


def test_features_come_from_the_blobs_chain(wdt: Wdt, tmp_path: Path) -> None:
    (tmp_path / "m.rvne").write_bytes(make_blob(chain=FeatureConfig(bands=3, rate_hz=10), input_dim=6))
    document = wdt("run", ESP32, "--model", tmp_path / "m.rvne", "--json").document
    assert (document["features"]["bands"], document["features"]["rate_hz"]) == (3, 10)
    assert "default chain" not in document["note"]
    assert document["timeline"][0]["time_s"] == 0.1


def test_a_default_chain_is_never_silent(wdt: Wdt, tmp_path: Path) -> None:
    (tmp_path / "m.rvne").write_bytes(make_blob(input_dim=6))
    document = wdt("run", ESP32, "--model", tmp_path / "m.rvne", "--json").document
    assert document["features"]["bands"] == 3
    assert "default chain (3 bands" in document["note"]


def test_odd_frames_without_a_chain_are_refused(wdt: Wdt, tmp_path: Path) -> None:
    (tmp_path / "m.rvne").write_bytes(make_blob(input_dim=7))
    assert "7 features" in wdt("run", ESP32, "--model", tmp_path / "m.rvne").error_line()


def test_a_chain_that_makes_other_frames_than_the_model_takes_is_refused(wdt: Wdt, tmp_path: Path) -> None:
    (tmp_path / "m.rvne").write_bytes(make_blob(chain=FeatureConfig(bands=5), input_dim=16))
    wdt("run", ESP32, "--model", tmp_path / "m.rvne").error_line()


def test_a_capture_of_silence_is_unavailable_not_invented(wdt: Wdt, tmp_path: Path) -> None:
    np.save(tmp_path / "silence.npy", np.zeros((52, 100), np.float32))
    assert "unavailable" in wdt("run", tmp_path / "silence.npy").error_line()
    assert "unavailable" in wdt("plot", tmp_path / "silence.npy", tmp_path / "out.png").error_line()
    assert not (tmp_path / "out.png").exists()


def test_silences_are_said(wdt: Wdt) -> None:
    document = wdt("run", ESP32, "--json").document
    times_s = [row["time_s"] for row in wdt("run", ESP32, "--every", 1, "--json").document["timeline"]]
    silences = sum(later - earlier > 1 for earlier, later in itertools.pairwise(times_s))
    assert silences > 0
    assert f"Unavailable during {silences} silence" in document["note"]


PASSED_OVER = FeatureConfig(parts=(FeaturePart("level", 8),), rate_hz=100, max_gap_s=0.5, hold=False)


@pytest.mark.parametrize(("silence_s", "silences"), [(0.4, 0), (0.6, 1)])
def test_an_empty_bin_that_is_passed_over_is_no_silence(tmp_path: Path, silence_s: float, silences: int) -> None:
    """Packets 30 ms apart leave two of three bins of 10 ms empty, and the room was seen all the same."""
    times_s = np.cumsum([0.03] * 40 + [silence_s] + [0.03] * 40)
    amplitude = np.random.default_rng(1).uniform(1, 2, (len(times_s), 1, 20)).astype(np.float32)
    capture = Capture("test", times_s, "measured", None, amplitude, None, None, 0, None, {})
    (tmp_path / "m.rvne").write_bytes(make_blob(chain=PASSED_OVER, input_dim=8))
    replayed = replay(capture, TemporalModel.load(tmp_path / "m.rvne"))
    said = [text for text in replayed.notes if text.startswith("Unavailable")]
    assert [text[: text.index("(")] for text in said] == [f"Unavailable during {silences} silence"] * silences
    times, values = _curve(replayed.frames.times_s, replayed.probabilities.astype(float), replayed.config)
    assert np.isnan(values[:, 0]).sum() == silences + 1  # a gap in the curve for each, and one at its end
    assert len(times) == len(values)


def test_a_nominal_clock_is_said(wdt: Wdt) -> None:
    capture = next(path for path in EVERY_CAPTURE if "stability" in path.name)
    document = wdt("run", capture, "--json").document
    assert document["capture"]["clock"] == "nominal"
    assert "assumed 100 packets a second" in document["note"]


def test_labels_are_text_not_markup_and_cannot_drive_the_terminal(wdt: Wdt, tmp_path: Path) -> None:
    labels = ("[red]sit[/red]", "[/]", "[link=file:///]x")
    (tmp_path / "m.rvne").write_bytes(make_blob(labels, {"trained": False, "by": "[bold]\x1b[2J"}, FeatureConfig()))
    ended = wdt("run", ESP32, "--model", tmp_path / "m.rvne")
    assert ended.code == 0
    assert any(label in ended.out for label in labels)
    shown = wdt("inspect", tmp_path / "m.rvne").out
    assert all(label in shown for label in labels)
    assert "[bold]" in shown
    assert "\x1b" not in shown
    assert "\x1b" not in wdt("run", tmp_path / "\x1b[2J[red]\n.csv").error_line()


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"hello\n", bytes(range(256)) * 20])
@pytest.mark.parametrize("command", [["run"], ["run", "--json"], ["capture-info"], ["capture-info", "--json"]])
def test_a_file_that_is_no_capture_is_one_line(wdt: Wdt, tmp_path: Path, content: bytes, command: list[str]) -> None:
    (tmp_path / "garbage").write_bytes(content)
    wdt(*command, tmp_path / "garbage").error_line()
    wdt(*command, tmp_path / "missing").error_line()
    wdt(*command, tmp_path).error_line()


def test_a_model_that_is_missing_or_damaged_is_one_line(wdt: Wdt, tmp_path: Path) -> None:
    assert "missing.rvne" in wdt("run", ESP32, "--model", tmp_path / "missing.rvne").error_line()
    (tmp_path / "cut.rvne").write_bytes(make_blob()[:-1])
    wdt("run", ESP32, "--model", tmp_path / "cut.rvne").error_line()


@pytest.mark.parametrize(
    "args", [[], ["run"], ["run", ESP32, "--every", 0], ["run", ESP32, "--format", "jpeg"], ["walk"], ["demo", "x"]]
)
def test_wrong_usage_is_2(wdt: Wdt, args: list[object]) -> None:
    ended = wdt(*args)
    assert ended.code == 2
    assert "Traceback" not in ended.err


def test_the_right_format_may_be_named_and_a_wrong_one_is_refused(wdt: Wdt) -> None:
    assert wdt("run", ESP32, "--format", "esp32-csv").code == 0
    wdt("run", ESP32, "--format", "atheros").error_line()


def test_demo_does_the_main_job_on_a_real_recording(wdt: Wdt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = wdt("demo")
    assert ended.code == 0
    assert (tmp_path / "wdt-demo.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    for said in ("ODC-By", "esp32_stability_D2_e01_rx_tx-x.npy", "replay", "Trained", "true label", "wdt-demo.png"):
        assert said in ended.out
    ended = wdt("demo", "--json", "--out", tmp_path / "other.png")
    document = ended.document
    assert document["picture"] == str(tmp_path / "other.png")
    assert (tmp_path / "other.png").exists()
    assert "Trained" in document["note"]
    assert "session D1" in document["note"]
    assert document["attribution"]
    assert {(row["source"], row["trained"]) for row in document["timeline"]} == {("replay", True)}
    right = [row["label"] == row["true_label"] for row in document["timeline"]]
    assert sum(right) / len(right) > 0.6  # chance among ten activities is a tenth
