"""The node's task on a simulated chip (simulate_task.c): what it does with its time, and with too little of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.firmware.building import PERIOD_MS, REFERENCE, TASK_CONFIG, Build, run, saved

WINDOW = """#undef CONFIG_TEMPORAL_WINDOW_LEN
#define CONFIG_TEMPORAL_WINDOW_LEN 32
"""
QUEUE = 32


@pytest.fixture(scope="module")
def chip(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("config")
    (config / "sdkconfig.h").write_text(TASK_CONFIG + WINDOW)
    return build("simulate_task", ["ruv_temporal", "self_test"], config=config)


class Outcome(NamedTuple):
    packets: list[int]
    log: list[tuple[int, str]]
    dropped: int
    busy: int


def simulated(
    chip: Path, folder: Path, *, frame_every: int, frame_takes: int = 0, decision_takes: int = 0, seconds: int = 10
) -> Outcome:
    """All in milliseconds."""
    blob = saved(folder / "reference.rvne", REFERENCE)
    lines = run(chip, blob, frame_every, frame_takes, decision_takes, seconds, text=True).stdout.splitlines()
    words = [line.split(maxsplit=2) for line in lines]
    facts = {w[0]: int(w[1]) for w in words if w[0] in ("dropped", "busy")}
    packets = [int(w[1]) for w in words if w[0] == "packet"]
    return Outcome(packets, [(int(w[1]), w[2]) for w in words if w[0] == "log"], facts["dropped"], facts["busy"])


def test_packets_keep_the_beat(chip: Path, tmp_path: Path) -> None:
    """One a period and not one more, each no later than the first frame after it was due."""
    packets, log, dropped, _ = simulated(chip, tmp_path, frame_every=7)
    due = np.arange(1, len(packets) + 1) * PERIOD_MS
    assert len(packets) in (99, 100)
    assert np.all((np.array(packets) >= due) & (np.array(packets) < due + 7 + 1))
    assert (log, dropped) == ([], 0)


def test_after_a_silence_packets_come_a_period_apart(chip: Path, tmp_path: Path) -> None:
    """Frames every 250 ms, of a period of 100: a packet for each, at once, and none to make up for the silence."""
    packets = simulated(chip, tmp_path, frame_every=250).packets
    assert packets == [250 * n for n in range(1, len(packets) + 1)]
    assert len(packets) in (39, 40)


def test_a_decision_just_within_the_period_loses_nothing(chip: Path, tmp_path: Path) -> None:
    packets, log, dropped, busy = simulated(chip, tmp_path, frame_every=10, decision_takes=90)
    assert len(packets) in (99, 100)
    assert (log, dropped) == ([], 0)
    assert busy <= PERIOD_MS


def test_a_decision_longer_than_the_period_lets_others_run_and_is_logged(chip: Path, tmp_path: Path) -> None:
    """250 ms of every 350: the next is due a period after the end of one, and the task waits in between."""
    packets, log, dropped, busy = simulated(chip, tmp_path, frame_every=10, decision_takes=250)
    assert np.diff(packets).min() >= 250 + PERIOD_MS
    assert len(packets) in (28, 29)
    assert busy < 250 + 10
    assert dropped == 0  # 25 frames come meanwhile
    counts = [
        re.fullmatch(r"(\d+) decisions took longer than the period of 100 ms \(newest: 250 ms\)", line)
        for _, line in log
    ]
    assert np.diff([at for at, _ in log]).min() >= 1000
    assert len(packets) - 4 <= sum(int(match[1]) for match in counts if match) <= len(packets)


def test_a_decision_longer_than_the_queue_drops_frames_and_says_so(chip: Path, tmp_path: Path) -> None:
    packets, log, dropped, busy = simulated(chip, tmp_path, frame_every=10, decision_takes=700)
    assert len(packets) >= 10
    assert (700 // 10 - QUEUE - 1) * (len(packets) - 1) <= dropped <= (700 // 10 - QUEUE + 1) * len(packets)
    assert busy < 700 + 10
    assert any("frames dropped: the queue was full" in line for _, line in log)


def test_frames_that_take_longer_than_they_come_leave_others_time_too(chip: Path, tmp_path: Path) -> None:
    """As in session mode on a slow chip: the queue is never empty, and packets go out all the same."""
    packets, log, dropped, busy = simulated(chip, tmp_path, frame_every=10, frame_takes=25, seconds=20)
    assert busy <= QUEUE * 25 + 25
    assert len(packets) >= 20
    assert dropped > 0
    assert any("frames dropped" in line for _, line in log)
