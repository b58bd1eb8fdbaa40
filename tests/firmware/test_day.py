"""Long streams through the node's task, in fast motion: nothing grows, nothing drifts from the host, counters wrap.

WDT_DAY_HOURS says how long, 0.3 by default, which is enough for every counter to wrap; `just day` runs the 24 hours.
"""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.node.test_node import spoken_of
from wifi_densepose_temporal import FeatureConfig, TemporalModel, extract, init_random_blob, read_capture
from wifi_densepose_temporal.models import SHIPPED

logger = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "firmware" / "components" / "ruv_temporal"
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
    with (tmp_path / "decisions").open("wb") as out:
        arguments = [compiled(mode, tmp_path), "blob", "frames", str(count), str(FIRST_SEQ), str(FIRST_US)]
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
        content = packet.tobytes()
        magic, version, classes, node_id, ts_us, seq, argmax, top, margin, crc = struct.unpack(
            "<IHHB3xQIB3xffI", content
        )
        assert (magic, version, classes, node_id, crc) == (0xC5110007, 1, 4, 5, zlib.crc32(content[:-4]))
        assert seq == (FIRST_SEQ + number) % 2**32
        assert ts_us == FIRST_US + int(taken) * FRAME_US
        if number in compared:
            n = spoken_of(int(taken), WINDOW_LEN, mode)
            heard = frames[np.arange(int(taken) - n, int(taken)) % len(frames)]
            logits = model.predict(heard).logits[-1]
            second, best = np.sort(logits)[-2:]
            worst = max(worst, abs(top - best), abs(margin - (best - second)))
            assert argmax == logits.argmax() or best - second < 1e-6
    assert worst < 1e-4
    logger.info(
        "%s: %d frames, %d decisions, %d compared, largest difference %.1e",
        *(mode, count, len(decisions), len(compared), worst),
    )


def compiled(mode: str, folder: Path) -> Path:
    program = folder / "day"
    sources = [
        ROOT / "tests" / "firmware" / "day.c",
        *(COMPONENT / "src" / name for name in ("ruv_temporal.c", "self_test.c")),
        *sorted((ROOT / "core" / "src").glob("*.c")),
    ]
    includes = [
        ROOT / "core" / "include",
        COMPONENT / "include",
        COMPONENT / "src",
        ROOT / "firmware" / "host" / "include",
    ]
    options = ["-std=gnu11", "-O2", "-DWDT_SCALAR", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-pthread"]
    options += ["-DCONFIG_TEMPORAL_MODE_SESSION=1"] if mode == "session" else []
    options += [f"-I{path}" for path in includes] + ["-Wl,--wrap=malloc"]
    command = [os.environ.get("CC", "cc"), *options, *sources, "-lm", "-o", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program
