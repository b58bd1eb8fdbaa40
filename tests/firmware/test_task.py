"""The node's task on POSIX threads: queue, packets, logs; under address, undefined-behaviour and thread sanitizers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.firmware.building import (
    ACTIVITY,
    COMPONENT,
    CORE,
    ERRORS,
    FIRMWARE,
    PERIOD_MS,
    REFERENCE,
    TASK_CONFIG,
    TESTS,
    Build,
    compile_c,
    run,
    saved,
)
from tests.reference_packet import ReferencePacket
from wifi_densepose_temporal import TemporalModel


@pytest.fixture(scope="module")
def task(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("config")
    (config / "sdkconfig.h").write_text(TASK_CONFIG)
    posix = FIRMWARE / "host" / "temporal_port_posix.c"
    return build("run_task", ["ruv_temporal", "self_test"], posix, "-pthread", config=config)


class Outcome(NamedTuple):
    packets: list[ReferencePacket]
    facts: dict[str, int]
    log: list[str]


def played(program: Path, scenario: str, folder: Path) -> Outcome:
    blob = saved(folder / "reference.rvne", REFERENCE)
    done = run(program, scenario, blob, ACTIVITY, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    packets = [ReferencePacket.decode(bytes.fromhex(words[0])) for words in lines if len(words) == 1]
    return Outcome(packets, {w[0]: int(w[1]) for w in lines if len(w) == 2}, done.stderr.splitlines())


def task_frame(t: int) -> list[float]:
    """run_task.c's frame_of, written out once more."""
    return [(t * t * 31 + f * 17 + t) % 128 / 64 - 1 for f in range(16)]


def assert_decides(packet: ReferencePacket, frames: list[int]) -> None:
    model = TemporalModel.from_bytes(REFERENCE)
    logits = model.predict(np.array([task_frame(t) for t in frames], np.float32)).logits[-1]
    second, top = np.sort(logits)[-2:]
    assert (packet.n_classes, packet.node_id) == (4, 9)
    assert packet.argmax == logits.argmax()
    assert packet.top_logit == pytest.approx(top, abs=1e-5)
    assert packet.margin == pytest.approx(top - second, abs=2e-5)


def test_the_tasks_contract_and_what_it_logs_of_a_blob_that_clashes(task: Path, tmp_path: Path) -> None:
    log = played(task, "contract", tmp_path).log
    assert f"temporal: not started (error {ERRORS['ESP_ERR_INVALID_ARG']:#x})" in log
    assert "temporal: the blob has 30 features and 10 classes; menuconfig says 16 and 4" in log


def test_a_packet_a_period_at_most_and_none_without_frames(task: Path, tmp_path: Path) -> None:
    packets, facts, _ = played(task, "packets", tmp_path)
    assert [packet.seq for packet in packets] == list(range(6))
    for n, packet in enumerate(packets):
        assert packet.ts_us >= facts["start"] + (n + 1) * PERIOD_MS * 1000
        assert_decides(packet, list(range(n + 1)))


def test_a_full_queue_drops_and_counts_and_what_it_took_is_decided_on(task: Path, tmp_path: Path) -> None:
    packets, _, log = played(task, "full", tmp_path)
    assert "temporal: 11 frames dropped: the queue was full (newest error 0x107)" in log
    for packet, count in zip(packets, (1, 33, 34), strict=True):
        assert_decides(packet, list(range(count)))


def test_failures_are_logged_once_a_second_and_do_not_stop_it(task: Path, tmp_path: Path) -> None:
    packets, facts, log = played(task, "failures", tmp_path)
    assert [packet.seq for packet in packets] == list(range(12))
    for n, packet in enumerate(packets):
        assert_decides(packet, list(range(n + 1)))
    for what in ("frames refused", "packets not made or not sent"):
        counts = [int(count) for line in log for count in re.findall(rf"temporal: (\d+) {what}", line)]
        assert 1 <= len(counts) <= 1 + facts["took"] // 1_000_000
        assert sum(counts) <= 12


def test_decisions_longer_than_the_period_are_logged_and_come_a_period_apart(task: Path, tmp_path: Path) -> None:
    """What the task does with its time is in test_task_time.py, by a clock that no machine disturbs."""
    packets, _, log = played(task, "overrun", tmp_path)
    assert np.diff([packet.ts_us for packet in packets]).min() >= (2 * PERIOD_MS + 50 + PERIOD_MS) * 1000
    assert any(re.fullmatch(r"temporal: 1 decisions took longer than the period of 100 ms .*", line) for line in log)


def test_the_sequence_number_wraps_and_a_start_begins_it_anew(task: Path, tmp_path: Path) -> None:
    packets = played(task, "wrap", tmp_path).packets
    assert [packet.seq for packet in packets] == [2**32 - 2, 2**32 - 1, 0, 1, 0]


def test_frames_from_two_threads_while_others_start_and_stop(task: Path, tmp_path: Path) -> None:
    played(task, "threads", tmp_path)


@pytest.mark.parametrize("scenario", ["contract", "full", "threads"])
def test_the_task_under_thread_sanitizer(scenario: str, tmp_path: Path) -> None:
    (tmp_path / "sdkconfig.h").write_text(TASK_CONFIG)
    component = [COMPONENT / "src" / f"{name}.c" for name in ("ruv_temporal", "self_test")]
    sources = [TESTS / "run_task.c", *component, FIRMWARE / "host" / "temporal_port_posix.c", *CORE]
    options = ["-O1", "-g", "-fsanitize=thread", "-pthread"]
    played(compile_c(sources, tmp_path / "task", *options, config=tmp_path), scenario, tmp_path)
