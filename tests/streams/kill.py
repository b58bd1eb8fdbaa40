"""Kills a process that pushes and saves again and again, and looks at what is on the disk: `--kills N`, `--folder F`.

After each kill -9 the snapshot is the last one that the process has acknowledged, or a newer one, and goes on with
the bits of a pool that was never killed.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from wifi_densepose_temporal import StreamPool, load_model

TRACKS = 40
logger = logging.getLogger(__name__)


def frames_at(t: int, features: int) -> np.ndarray:
    """The same in every process."""
    return np.random.default_rng(t).standard_normal((TRACKS, features)).astype(np.float32)


def push(pool: StreamPool, t: int) -> np.ndarray:
    """Frame t of every track."""
    return pool.push(range(TRACKS), frames_at(t, pool.model.input_dim), np.full(TRACKS, 0.04 * t)).logits


def frames_of(pool: StreamPool) -> int:
    """Frames that every track has seen."""
    (count,) = {pool.counters(i).frames for i in range(TRACKS)}
    return count


def run(path: Path) -> None:
    """What is killed: goes on from the file, and says how many frames each save holds, after it."""
    model = load_model("activity")
    if path.exists():
        pool = StreamPool.load(path, model)
        t = frames_of(pool)
    else:
        pool, t = StreamPool(model, capacity=40), 0
        for i in range(TRACKS):
            pool.open(i)
    while True:
        push(pool, t)
        t += 1
        pool.save(path)
        sys.stdout.write(f"{t}\n")
        sys.stdout.flush()


def kill_once(path: Path, seed: int) -> tuple[int, int]:
    """Frames that were acknowledged by a process before it was killed, and frames in the file afterwards."""
    command = [sys.executable, __file__, "--run", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        lines = [worker.stdout.readline()]  # it is at work
        time.sleep(random.Random(seed).uniform(0, 0.05))
        worker.kill()
        lines += worker.stdout.read().splitlines(keepends=True)
    acknowledged = [int(line) for line in lines if line.endswith("\n")]
    return acknowledged[-1], frames_of(StreamPool.load(path, load_model("activity")))


def check(folder: Path, kills: int, seed: int = 0) -> int:
    """Kills so often; the frames of each track at the end.

    Raises:
        AssertionError: a file lacks what was acknowledged, or goes on with other bits.
    """
    path, model = folder / "pool.snapshot", load_model("activity")
    twin = StreamPool(model, capacity=40)
    for i in range(TRACKS):
        twin.open(i)
    for number in range(kills):
        acknowledged, held = kill_once(path, seed + number)
        if held < acknowledged:
            raise AssertionError(f"kill {number}: {acknowledged} frames were acknowledged, {held} are in the file")
        for t in range(frames_of(twin), held):
            push(twin, t)
        twin.save(folder / "twin")
        copy, loaded = StreamPool.load(folder / "twin", model), StreamPool.load(path, model)
        for t in range(held, held + 3):
            if not np.array_equal(push(copy, t), push(loaded, t)):
                raise AssertionError(f"kill {number}: other bits at frame {t}")
        logger.info("kill %d: %d frames acknowledged, %d in the file", number, acknowledged, held)
    return frames_of(twin)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        run(given.run)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        frames = check(given.folder or Path(temporary), given.kills)
    logger.info("%d kills, %d frames of %d tracks: nothing that was acknowledged is lost", given.kills, frames, TRACKS)


if __name__ == "__main__":
    main()
