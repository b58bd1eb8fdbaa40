"""Long streams through the node's task, in fast motion: nothing grows, nothing drifts from the host, counters wrap.

WDT_DAY_HOURS says how long, 0.3 by default, which is enough for every counter to wrap; `just day` runs the 24 hours.
"""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.firmware.building import COMPONENT, CORE, TESTS, compile_c
from tests.node.test_node import spoken_of
from tests.reference_packet import ReferencePacket
from wifi_densepose_temporal import FeatureConfig, TemporalModel, extract, init_random_blob, read_capture
from wifi_densepose_temporal.models import SHIPPED

logger = logging.getLogger(__name__)
FRAME_US, WINDOW_LEN, HOUR = 10_000, 256, 3600
FIRST_SEQ = 2**32 - 1000  # wraps after a quarter of an hour
FIRST_US = 2**32 - 600_000_000  # passes 2^32 after ten minutes, as a 32-bit clock would wrap
COMPARED = 20_000  # decisions, at most, that the host makes too


@pytest.mark.parametrize("mode", ["window", "session"])
def test_a_long_stream_stays_with_the_host(mode: str, tmp_path: Path) -> None:
    hours = float(os.environ.get("WDT_DAY_HOURS", "0.3"))
    count = round(hours * HOUR * 1_000_000 / FRAME_US)
    frames = extract(read_capture(SHIPPED.parent / "demo_esp32.csv"), FeatureConfig(bands=8)).values
    (tmp_path / "frames").write_bytes(frames.tobytes())
    (tmp_path / "blob").write_bytes(init_random_blob())
    sources = [TESTS / "day.c", *(COMPONENT / "src" / name for name in ("ruv_temporal.c", "self_test.c")), *CORE]
    session = ["-DCONFIG_TEMPORAL_MODE_SESSION=1"] if mode == "session" else []
    program = compile_c(sources, tmp_path / "day", "-O2", "-pthread", "-Wl,--wrap=malloc", *session)
    with (tmp_path / "decisions").open("wb") as out:
        arguments = [program, "blob", "frames", str(count), str(FIRST_SEQ), str(FIRST_US)]
        done = subprocess.run(arguments, cwd=tmp_path, stdout=out, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    begun, ended = done.stderr.split()  # and no line of the task's log
    assert begun == ended, "something allocates while the stream runs"

    decisions = np.fromfile(tmp_path / "decisions", np.dtype([("count", "<u8"), ("packet", "V40")]))
    expected = round(hours * HOUR)
    assert len(decisions) in (expected, expected - 1)  # one a second; the first and the last may be outside
    model = TemporalModel.from_bytes(init_random_blob())
    compared = set(range(0, len(decisions), 1 + len(decisions) // COMPARED))
    worst = 0.0
    for number, (taken, packet) in enumerate(decisions):
        decided = ReferencePacket.decode(packet.tobytes())
        assert (decided.n_classes, decided.node_id) == (4, 5)
        assert decided.seq == (FIRST_SEQ + number) % 2**32
        assert decided.ts_us == FIRST_US + int(taken) * FRAME_US
        if number in compared:
            n = spoken_of(int(taken), WINDOW_LEN, mode)
            heard = frames[np.arange(int(taken) - n, int(taken)) % len(frames)]
            logits = model.predict(heard).logits[-1]
            second, best = np.sort(logits)[-2:]
            worst = max(worst, abs(decided.top_logit - best), abs(decided.margin - (best - second)))
            assert decided.argmax == logits.argmax() or best - second < 1e-6
    assert worst < 1e-4
    logger.info(
        "%s: %d frames, %d decisions, %d compared, largest difference %.1e",
        *(mode, count, len(decisions), len(compared), worst),
    )
