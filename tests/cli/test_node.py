"""`wdt node run`, `check`, `quantise` and `header`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import ESP32, EVERY_CAPTURE, Wdt
from tests.reference_packet import ReferencePacket
from wifi_densepose_temporal import FeatureConfig, extract, read_capture
from wifi_densepose_temporal.models import SHIPPED, load_model
from wifi_densepose_temporal.rvne import quantise
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256

DEMO = SHIPPED.parent / "demo_esp32.csv"
CORE = Path(__file__).parents[2] / "core" / "include"


def test_the_packets_say_what_the_model_decides_on_each_window(wdt: Wdt) -> None:
    window = 60
    ended = wdt("node", "run", DEMO, "--window-len", window, "--period", "0.5", "--node-id", "7", "--json")
    assert ended.code == 0, ended.err
    document, model = ended.document, load_model("activity")
    assert (document["source"], document["trained"], document["model_sha256"]) == ("replay", True, model.sha256)
    frames = extract(read_capture(DEMO), FeatureConfig.from_words(model.feature_chain or {}))
    assert len(document["decisions"]) >= 20
    for seq, decision in enumerate(document["decisions"]):
        count = decision["frame"] + 1
        logits = model.predict(frames.values[max(0, count - window) : count]).logits[-1]
        np.testing.assert_array_equal(np.float32(decision["logits"]), logits)
        time_us = round(frames.times_s[decision["frame"]] * 1e6)
        second, best = np.sort(logits)[-2:]
        expected = (10, 7, time_us, seq, int(logits.argmax()), best, best - second)
        assert ReferencePacket.decode(bytes.fromhex(decision["packet"])) == expected
        assert decision["label"] == model.labels[int(logits.argmax())]
    times = [decision["time_s"] for decision in document["decisions"]]
    np.testing.assert_allclose(np.diff(times), 0.5, atol=0.041)


def test_the_table_shows_the_packets_and_what_the_model_is(wdt: Wdt, reference: Path) -> None:
    ended = wdt(
        "node", "run", ESP32, "--model", reference, "--window-len", "32", "--mode", "session", "--period", "0.1"
    )
    assert ended.code == 0
    assert "UNTRAINED" in ended.out
    assert "source replay" in ended.out
    assert ended.out.count("070011c501000400") > 2


def test_a_recording_that_ends_too_soon_decides_nothing(wdt: Wdt, reference: Path) -> None:
    ended = wdt("node", "run", ESP32, "--model", reference, "--period", "60")
    assert ended.code == 0
    assert "unavailable" in ended.out


def test_notes_are_those_of_a_run(wdt: Wdt, reference: Path) -> None:
    """Without a clock, and with a blob that does not state its chain."""
    capture = next(path for path in EVERY_CAPTURE if "stability" in path.name)
    ended = wdt("node", "run", capture, "--model", reference, "--window-len", "32", "--json")
    assert ended.code == 0, ended.err
    for said in ("UNTRAINED", "no feature chain record", "no usable clock"):
        assert said in ended.document["note"]
        assert said in ended.err


def test_check_says_what_fits(wdt: Wdt, reference: Path) -> None:
    fits, not_fits = (wdt("node", "check", reference, "--heap", heap, "--json") for heap in ("96K", "64K"))
    assert (fits.code, fits.document["fits"]) == (0, True)
    assert (not_fits.code, not_fits.document["fits"]) == (1, False)
    document = fits.document
    assert (document["heap_bytes"], document["model_sha256"]) == (96 * 1024, REFERENCE_SHA256)
    assert document["needed_bytes"] == sum(b["bytes"] for b in document["buffers"] if b["where"] != "flash")
    text = wdt("node", "check", reference, "--heap", "64K").out
    assert "does not fit" in text
    assert "--float16-cache" in text


@pytest.mark.parametrize("heap", ["64KB", "-1", "much", "1.5K"])
def test_check_refuses_what_is_no_size(wdt: Wdt, reference: Path, heap: str) -> None:
    ended = wdt("node", "check", reference, f"--heap={heap}")
    assert ended.code == 2
    assert "no number of bytes" in ended.err


def test_a_header_compiles_and_gives_the_blob_back(wdt: Wdt, tmp_path: Path) -> None:
    assert wdt("node", "header", "activity", "-o", tmp_path / "model.h").code == 0
    (tmp_path / "print.c").write_text(
        '#include <stdio.h>\n#include "model.h"\n#include "wdt_model.h"\n#include "model.h"\n'
        "int main(void) { return fwrite(model_blob, 1, sizeof model_blob, stdout) != MODEL_BLOB_BYTES; }\n"
    )
    compiler = os.environ.get("CC", "cc")
    options = ["-std=c11", "-Werror", "-Wall", f"-I{CORE}"]
    subprocess.run([compiler, *options, "-o", "print", "print.c"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "print"], capture_output=True, check=True)
    assert done.stdout == (SHIPPED / "activity.rvne").read_bytes()


def test_a_shipped_blob_comes_out_as_it_is_and_says_what_menuconfig_needs(wdt: Wdt, tmp_path: Path) -> None:
    ended = wdt("node", "blob", "activity", "-o", tmp_path / "model.rvne")
    assert ended.code == 0
    assert (tmp_path / "model.rvne").read_bytes() == (SHIPPED / "activity.rvne").read_bytes()
    assert "TEMPORAL_INPUT_DIM 30, TEMPORAL_N_CLASSES 10" in ended.out


def test_a_damaged_blob_is_not_written(wdt: Wdt, reference: Path, tmp_path: Path) -> None:
    reference.write_bytes(reference.read_bytes()[:-1])
    assert "bytes" in wdt("node", "blob", reference, "-o", tmp_path / "model.rvne").error_line()
    assert not (tmp_path / "model.rvne").exists()


def test_a_header_does_not_take_the_models_place(wdt: Wdt, reference: Path) -> None:
    before = reference.read_bytes()
    assert "is read" in wdt("node", "header", reference, "-o", reference).error_line()
    assert reference.read_bytes() == before


def test_quantise_writes_a_smaller_model_and_says_what_it_does_to_decisions(wdt: Wdt, tmp_path: Path) -> None:
    out, blob = tmp_path / "int8.rvne", (SHIPPED / "activity.rvne").read_bytes()
    ended = wdt("node", "quantise", "activity", "-o", out, "--check", DEMO, "--json")
    assert ended.code == 0, ended.err
    assert out.read_bytes() == quantise(blob)
    document, model, made = ended.document, load_model("activity"), load_model(str(out))
    assert (document["model_sha256"], document["quantised_from"]) == (made.sha256, model.sha256)
    assert (document["bytes_before"], document["bytes_after"]) == (len(blob), out.stat().st_size)
    frames = extract(read_capture(DEMO), FeatureConfig.from_words(model.feature_chain or {})).values
    before, after = model.predict(frames), made.predict(frames)
    assert document["check"] == [
        {
            "capture": str(DEMO),
            "source": "replay",
            "frames": len(frames),
            "alike": int((before.labels == after.labels).sum()),
            "largest_difference": float(np.abs(before.logits - after.logits).max()),
            "largest_logit": float(np.abs(before.logits).max()),
        }
    ]
    text = wdt("node", "quantise", "activity", "-o", tmp_path / "again.rvne", "--check", DEMO).out
    assert f"{len(made_bytes := out.read_bytes())} bytes, made of {len(blob)} in float16" in text.replace("\n", " ")
    assert (tmp_path / "again.rvne").read_bytes() == made_bytes


def test_quantise_refuses_int8_and_its_own_input(wdt: Wdt, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8.rvne"
    assert wdt("node", "quantise", reference, "-o", reference).code != 0
    assert wdt("node", "quantise", reference, "-o", out).code == 0
    twice = wdt("node", "quantise", out, "-o", tmp_path / "twice.rvne")
    assert twice.code != 0
    assert "int8 already" in twice.err
    assert not (tmp_path / "twice.rvne").exists()
    shown = wdt("inspect", out, "--json").document
    assert (shown["header"]["dtype"], shown["model"], shown["trained"]) == ("int8", True, False)
    assert [t["shape"] for t in shown["tensors"]] == [[16, 128], [16, 32], [16, 32], [128, 16]] * 2 + [[16, 4]]
    assert all(0.09 < t["max"] <= 0.1001 for t in shown["tensors"])
