"""capture-info, bench-speedup, info, and what all commands share: help, version, interrupts, pipes."""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wifi_densepose_temporal
from tests.cli.conftest import ESP32, EVERY_CAPTURE, Wdt, make_blob
from wifi_densepose_temporal import read_capture

MODULE = [sys.executable, "-m", "wifi_densepose_temporal"]


@pytest.mark.parametrize("capture", EVERY_CAPTURE, ids=lambda path: path.stem)
def test_capture_info_says_what_the_reader_found(wdt: Wdt, capture: Path) -> None:
    ended = wdt("capture-info", capture, "--json")
    assert ended.code == 0, ended.err
    document, read = ended.document, read_capture(capture)
    assert document["source"] == "replay"
    assert document["format"] == read.format
    assert document["frames"] == len(read)
    assert document["rate_hz"] == read.rate_hz
    assert document["clock"] == read.clock
    assert (document["antennas"], document["subcarriers"]) == read.amplitude.shape[1:]
    assert document["gaps"] == len(read.gaps)
    assert document["longest_gap_s"] == max((length for _, length in read.gaps), default=None)
    assert document["dropped_lines"] == read.dropped_lines
    assert set(document["metadata"]) == set(read.metadata)
    if read.rssi is not None:
        assert document["rssi_dbm"] == [float(np.nanmin(read.rssi)), float(np.nanmax(read.rssi))]
    shown = wdt("capture-info", capture).out
    assert read.format in shown
    assert ("no usable clock" in shown) == (read.clock == "nominal")


def test_capture_info_shows_a_hostile_name_as_text(wdt: Wdt, tmp_path: Path) -> None:
    name = "[red]evil[b]\x1b[2J.csv"
    (tmp_path / name).write_bytes(ESP32.read_bytes())
    ended = wdt("capture-info", tmp_path / name)
    assert ended.code == 0
    assert r"[red]evil[b]\x1b[2J.csv" in ended.out
    assert "\x1b" not in ended.out
    assert wdt("capture-info", tmp_path / name, "--json").document["file"] == name


def test_bench_speedup_counts_edges_and_states_its_machine(wdt: Wdt) -> None:
    ended = wdt("bench-speedup", "--min-t", 64, "--max-t", 128, "--repeat", 2, "--json")
    assert ended.code == 0
    document = ended.document
    assert document["source"] == "synthetic"
    assert document["machine"]
    sizes = {"q_heads": 4, "kv_heads": 4, "head_dim": 32, "window": 16, "block_size": 32}
    assert document["config"].items() >= sizes.items()
    assert [row["T"] for row in document["rows"]] == [64, 128]
    for row in document["rows"]:
        assert row["dense_edges"] == row["T"] * (row["T"] + 1) // 2
        assert row["sparse_edges"] < row["dense_edges"]
        assert row["edge_ratio"] == row["dense_edges"] / row["sparse_edges"]
        assert row["speedup"] == row["dense_ms"] / row["sparse_ms"]
        assert row["sparse_repeats"] == row["dense_repeats"] == 2
    shown = wdt("bench-speedup", "--min-t", 64, "--max-t", 128, "--repeat", 1).out
    assert wifi_densepose_temporal.__version__ in shown
    assert platform.python_version() in shown
    assert str(document["rows"][1]["dense_edges"]) in shown


def test_bench_speedup_measures_the_head_that_it_is_told(wdt: Wdt) -> None:
    args = ["bench-speedup", "--min-t", 64, "--max-t", 64, "--repeat", 5, "--dense-budget", 0, "--json"]
    document = wdt(*args, "--heads-config", "aether", "--window", 7).document
    assert (document["config"]["kv_heads"], document["config"]["window"]) == (1, 7)
    assert (document["rows"][0]["sparse_repeats"], document["rows"][0]["dense_repeats"]) == (5, 3)


def test_bench_speedup_refuses_what_cannot_be_measured(wdt: Wdt) -> None:
    assert "no power of two" in wdt("bench-speedup", "--min-t", 100, "--max-t", 120).error_line()
    wdt("bench-speedup", "--q-heads", 3, "--kv-heads", 2).error_line()
    assert wdt("bench-speedup", "--repeat", 0).code == 2
    assert wdt("bench-speedup", "--heads-config", "hydra").code == 2


def test_info_states_versions_and_extras(wdt: Wdt) -> None:
    document = wdt("info", "--json").document
    assert document["wifi-densepose-temporal"] == wifi_densepose_temporal.__version__
    assert document["numpy"] == np.__version__
    assert document["python"] == platform.python_version()
    extras = document["extras"]
    assert set(extras) == {"plot", "evaluate", "train"}
    assert extras["plot"] == {"matplotlib": version("matplotlib")}
    assert extras["evaluate"]["scikit-learn"] == version("scikit-learn")
    assert {"torch", "pydantic", "pytorch-metric-learning", "scikit-learn"} <= set(extras["train"])
    assert document["instruction_set_used"] in document["instruction_sets_built"]
    assert document["instruction_sets_built"][-1] == "scalar"
    assert np.__version__ in wdt("info").out


def test_info_names_what_an_extra_lacks(wdt: Wdt, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pydantic" else found(name))
    assert wdt("info", "--json").document["extras"]["train"]["pydantic"] is None
    assert "not installed: pydantic" in wdt("info").out


def test_version_and_help(wdt: Wdt) -> None:
    ended = wdt("--version")
    assert (ended.code, ended.out) == (0, f"wdt {wifi_densepose_temporal.__version__}\n")
    shown = wdt("--help").out
    for command in ("demo", "run", "capture-info", "inspect", "init-random-blob", "bench-speedup", "plot", "info"):
        assert command in shown
        assert wdt(command, "--help").code == 0


def test_verbose_tells_more_on_stderr_and_nothing_more_on_stdout(wdt: Wdt) -> None:
    nexmon = next(path for path in EVERY_CAPTURE if "nexmon_43455c0" in path.name)
    silent, told = wdt("run", nexmon, "--json"), wdt("--verbose", "run", nexmon, "--json")
    assert silent.out == told.out
    assert set(silent.err.splitlines()) <= set(told.err.splitlines())


def test_the_module_runs_as_a_program() -> None:
    ended = subprocess.run([*MODULE, "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout == f"wdt {wifi_densepose_temporal.__version__}\n"


def test_ctrl_c_ends_a_running_bench_in_one_line() -> None:
    command = [*MODULE, "--verbose", "bench-speedup", "--repeat", "1000000", "--max-t", "64"]
    # A process started in the background inherits an ignored SIGINT, and would hand it on.
    restore = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=restore
    ) as process:
        try:
            assert process.stderr is not None
            assert "T=64" in process.stderr.readline()  # it says that it has begun
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert out == ""
    assert err == "wdt: interrupted\n"


@pytest.mark.parametrize("args", [["--every", "1", "--json"], ["--every", "1"]])
def test_a_reader_that_has_seen_enough_is_no_error(args: list[str]) -> None:
    capture = next(path for path in EVERY_CAPTURE if "stability" in path.name)
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [*MODULE, "run", capture, *args], stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    finally:
        os.close(write)
    assert ended.returncode == 1
    assert "BrokenPipe" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("command", ["run", "run --json", "capture-info --json"])
def test_an_output_that_takes_nothing_is_no_traceback(command: str, redirection: str) -> None:
    line = f"{' '.join(map(shlex.quote, MODULE))} {command} {shlex.quote(str(ESP32))} {redirection}"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == (0 if redirection == ">&-" else 1)
    assert ("No space left" in ended.stderr) == (redirection == ">/dev/full")


@pytest.mark.parametrize("command", [["info"], ["capture-info", ESP32], ["inspect", "M"]])
def test_every_document_states_its_origin(wdt: Wdt, tmp_path: Path, command: list[Any]) -> None:
    (tmp_path / "m.rvne").write_bytes(make_blob())
    document = wdt(*[tmp_path / "m.rvne" if word == "M" else word for word in command], "--json").document
    assert {"source", "model_sha256", "trained"} <= set(document)


def test_the_nominal_rate_is_the_callers_to_say(wdt: Wdt) -> None:
    capture = next(path for path in EVERY_CAPTURE if "stability" in path.name)
    assert wdt("capture-info", capture, "--rate", 50, "--json").document["rate_hz"] == pytest.approx(50)
    document = wdt("run", capture, "--rate", 25, "--json").document
    assert document["capture"]["rate_hz"] == pytest.approx(25)
    assert "assumed 25 packets a second" in document["note"]
    assert wdt("run", capture, "--rate", 0, "--json").code == 2


def test_a_model_that_is_none_is_named(wdt: Wdt) -> None:
    assert ESP32.name in wdt("run", ESP32, "--model", ESP32).error_line()


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_a_narrow_terminal_loses_nothing(wdt: Wdt, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    cells = [line.split("│") for line in wdt("capture-info", ESP32).out.splitlines() if "│" in line]
    values = "".join(cell[2].strip() for cell in cells if len(cell) == 4)
    assert "esp32-csv" in values


def test_text_that_the_terminal_cannot_write_is_escaped(tmp_path: Path) -> None:
    name = tmp_path / "gehört-歩く.csv"
    name.write_bytes(ESP32.read_bytes())
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(
        [*MODULE, "run", name], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert r"geh\xf6rt-\u6b69\u304f.csv" in ended.stdout
