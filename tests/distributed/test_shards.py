"""Tracks over several processes: one pool's bits, through deaths, restarts and moves; no frame counted twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import make_blob
from wifi_densepose_temporal import TemporalModel
from wifi_densepose_temporal.distributed import ShardedPool
from wifi_densepose_temporal.distributed import shard as shard_module
from wifi_densepose_temporal.distributed.routing import shard_of
from wifi_densepose_temporal.errors import (
    ConfigError,
    FileError,
    ShapeError,
    ShardLostError,
    SnapshotError,
    TemporalError,
    TrackError,
)
from wifi_densepose_temporal.streams import Decisions, StreamPool

pytestmark = pytest.mark.usefixtures("cluster")

TRACKS = (*(f"track {number}" for number in range(8)), 1, 2, 3, 4)
MODEL = TemporalModel.from_bytes(make_blob())


def frames_at(tick: int) -> np.ndarray:
    return np.random.default_rng([tick, 5]).uniform(-1, 1, (len(TRACKS), MODEL.input_dim)).astype(np.float32)


def times_at(tick: int) -> np.ndarray:
    return np.full(len(TRACKS), tick / 50)


def push(pool: ShardedPool | StreamPool, tick: int, rows: Any = slice(None)) -> Decisions:
    chosen = np.arange(len(TRACKS))[rows]
    return pool.push([TRACKS[row] for row in chosen], frames_at(tick)[chosen], times_at(tick)[chosen])


def open_all(pool: Any) -> Any:
    for track in TRACKS:
        pool.open(track)
    return pool


def same(one: Decisions, other: Decisions) -> bool:
    names = ("accepted", "logits", "embedding", "frames", "filled", "reset", "belief")
    return one.track_ids == other.track_ids and all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in names
    )


@pytest.fixture(scope="module")
def workers(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardedPool]:
    """Two, which take a second to start, for all tests that leave them as they were."""
    folder = tmp_path_factory.mktemp("pool") / "shards"
    with ShardedPool(MODEL, folder, workers=2, snapshot_every=5, capacity=256) as opened:
        yield opened


@pytest.fixture
def pool(workers: ShardedPool) -> Iterator[ShardedPool]:
    yield open_all(workers)
    for track in TRACKS:
        workers.close(track)


@pytest.fixture
def alone() -> StreamPool:
    return open_all(StreamPool(MODEL, capacity=256))


def kill(pool: ShardedPool, name: str) -> None:
    os.kill(pool.processes()[name], signal.SIGKILL)


def test_a_shard_that_is_killed_goes_on_from_its_last_acknowledged_frame(pool: ShardedPool, alone: StreamPool) -> None:
    """Snapshots are due after 5 operations: the deaths come some after one and some before the next."""
    lost_ticks = 0
    for tick in range(24):
        if tick in (3, 11, 12):
            kill(pool, pool.shards[tick % 2])
        made = push(pool, tick)
        lost = [row for row, error in made.refused.items() if isinstance(error, ShardLostError)]
        dead = {shard_of(TRACKS[row], pool.shards) for row in lost}
        assert len(dead) <= 1
        assert lost == [row for row, track in enumerate(TRACKS) if shard_of(track, pool.shards) in dead]
        assert set(made.refused) == set(lost)
        assert not made.accepted[lost].any()
        lost_ticks += bool(lost)
        live = np.setdiff1d(np.arange(len(TRACKS)), lost)
        expected = push(alone, tick, live)
        assert made.frames[live].tobytes() == expected.frames.tobytes()  # each acknowledged frame counted once
        assert made.logits[live].tobytes() == expected.logits.tobytes()
        assert made.embedding[live].tobytes() == expected.embedding.tobytes()
    assert lost_ticks == 3


def test_what_was_in_flight_can_be_pushed_again_and_nothing_is_missing(pool: ShardedPool, alone: StreamPool) -> None:
    for tick in range(8):
        if tick == 2:
            kill(pool, pool.shards[1])
            pool.save()  # which finds out, and saves what the log brings back
        if tick == 4:
            kill(pool, pool.shards[0])
        made = push(pool, tick)
        if made.refused:
            push(pool, tick, sorted(made.refused))
        push(alone, tick)
    assert same(push(pool, 8), push(alone, 8))


def test_a_shard_that_does_not_answer_is_killed_and_counts_nothing(tmp_path: Path, alone: StreamPool) -> None:
    with ShardedPool(MODEL, tmp_path / "shards", workers=2, timeout_s=1.5, capacity=256) as pool:
        open_all(pool)
        assert same(push(pool, 0), push(alone, 0))
        stopped = pool.processes()[pool.shards[1]]
        os.kill(stopped, signal.SIGSTOP)
        made = push(pool, 1)
        assert {error.shard for error in made.refused.values()} == {pool.shards[1]}
        assert "no answer in 1.5 s" in str(next(iter(made.refused.values())))
        os.kill(stopped, signal.SIGCONT)  # it may wake up, find the tick, and apply it: where nobody asks any more
        push(alone, 1, np.flatnonzero(made.accepted))
        assert same(push(pool, 2), push(alone, 2))


def test_a_worker_that_joins_or_leaves_moves_its_share_alone(pool: ShardedPool, alone: StreamPool) -> None:
    push(pool, 0), push(alone, 0)
    before = pool.tracks()
    new = pool.add_worker()
    after = pool.tracks()
    assert after[new]
    assert all(set(after[name]) == {t for t in before[name] if shard_of(t, pool.shards) != new} for name in before)
    assert sorted((t for held in after.values() for t in held), key=str) == sorted(TRACKS, key=str)
    assert same(push(pool, 1), push(alone, 1))
    kill(pool, new)
    lost = push(pool, 2)
    assert {TRACKS[row] for row in lost.refused} == set(after[new])
    push(alone, 2, np.flatnonzero(lost.accepted))
    pool.remove_worker(pool.shards[0])
    assert same(push(pool, 3), push(alone, 3))


def test_another_pool_goes_on_from_the_folder(tmp_path: Path, alone: StreamPool) -> None:
    folder = tmp_path / "shards"
    with ShardedPool(MODEL, folder, workers=1, capacity=256) as first:
        open_all(first)
        push(first, 0), push(alone, 0)
    with pytest.raises(ConfigError, match="holds snapshots of 1 shards, and workers is 2"):
        ShardedPool(MODEL, folder, workers=2, capacity=256)
    with pytest.raises(SnapshotError, match="is of model"):
        ShardedPool(TemporalModel.from_bytes(make_blob(labels=("a", "b"))), folder, workers=1, capacity=256)
    with pytest.raises(ConfigError, match="capacity=256, and 128 is asked for"):
        ShardedPool(MODEL, folder, workers=1, capacity=128)
    with ShardedPool(MODEL, folder, workers=1, capacity=256) as second:
        assert same(push(second, 1), push(alone, 1))
    with pytest.raises(ConfigError, match="was stopped"):
        push(second, 2)


def test_refusals_are_those_of_one_pool(pool: ShardedPool, alone: StreamPool) -> None:
    for one in (pool, alone):
        with pytest.raises(TrackError, match="is open"):
            one.open(TRACKS[0])
        with pytest.raises(TrackError, match="is not open"):
            one.close("unknown")
        with pytest.raises(ConfigError, match="track id"):
            one.open("")
    bad = frames_at(0)
    bad[7, 3] = np.nan
    names = (*TRACKS[:-2], "stranger", TRACKS[0])  # one that is not open, and one that stands there twice
    made, expected = (one.push(names, bad, times_at(0)) for one in (pool, alone))
    assert same(made, expected)
    assert {row: str(error) for row, error in made.refused.items()} == {
        row: str(error) for row, error in expected.refused.items()
    }
    assert set(made.refused) == {7, 10, 11}
    with pytest.raises(ShapeError):
        pool.push(TRACKS, bad[:5])
    assert pool.counters(TRACKS[7]) == alone.counters(TRACKS[7])
    assert same(push(pool, 1), push(alone, 1))


def test_a_log_that_is_full_and_cannot_be_saved_refuses_before_anything_is_pushed(
    pool: ShardedPool, alone: StreamPool
) -> None:
    pool.save()
    moved = pool.folder.rename(pool.folder.with_name("moved"))
    for tick in range(10):
        push(pool, tick), push(alone, tick)
    with pytest.raises(TemporalError, match="shards"):
        push(pool, 10)
    with pytest.raises(TemporalError, match="shards"):
        pool.add_worker()
    assert len(pool.shards) == 2
    moved.rename(pool.folder)
    assert same(push(pool, 10), push(alone, 10))


def test_the_callers_buffers_can_be_used_again(pool: ShardedPool, alone: StreamPool) -> None:
    buffer = np.empty_like(frames_at(0))
    for tick in range(3):
        buffer[:] = frames_at(tick)
        pool.push(TRACKS, list(buffer), times_at(tick)), push(alone, tick)
    buffer[:] = 9
    kill(pool, pool.shards[0])
    pool.save()  # finds out; the log brings the frames back
    assert same(push(pool, 3), push(alone, 3))


def test_an_interruption_before_an_answer_is_acknowledged_costs_what_was_in_flight(
    pool: ShardedPool, alone: StreamPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(pool, 0), push(alone, 0)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shard_module.Shard, "acknowledge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            push(pool, 1)
    pool.save()
    assert same(push(pool, 1), push(alone, 1))


def test_a_shard_that_could_not_start_again_is_tried_by_the_next_call(pool: ShardedPool, alone: StreamPool) -> None:
    push(pool, 0), push(alone, 0)
    pool.save()
    kill(pool, pool.shards[0])
    moved = pool.folder.rename(pool.folder.with_name("moved"))
    lost = push(pool, 1)
    with pytest.raises(FileError):
        push(pool, 2)
    moved.rename(pool.folder)
    push(alone, 1, np.flatnonzero(lost.accepted))
    assert same(push(pool, 2), push(alone, 2))


def test_a_removed_shards_file_does_not_count_and_threads_may_change(tmp_path: Path, alone: StreamPool) -> None:
    folder = tmp_path / "shards"
    with ShardedPool(MODEL, folder, workers=2, capacity=256) as first:
        open_all(first)
        first.save()
        stale = {path: path.read_bytes() for path in folder.glob("shard-1.*")}
        first.remove_worker("shard-1")
        push(first, 0), push(alone, 0)
    for path, content in stale.items():
        path.write_bytes(content)
    with ShardedPool(MODEL, folder, workers=1, capacity=256, threads=2) as second:
        assert not list(folder.glob("shard-1.*"))
        second.add_worker()
        assert same(push(second, 1), push(alone, 1))
    (folder / "shards.json").write_text("{}")
    with pytest.raises(FileError, match="damaged"):
        ShardedPool(MODEL, folder, workers=2, capacity=256)


def test_what_a_move_leaves_behind_is_closed_by_the_next_call(
    pool: ShardedPool, alone: StreamPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        if pool._left:
            raise FileError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(pool, "_settle", fails)
        with pytest.raises(FileError):
            pool.add_worker()
    new = pool.shards[-1]
    held = [track for tracks in pool.tracks().values() for track in tracks]
    assert sorted(held, key=str) == sorted(TRACKS, key=str)
    assert same(push(pool, 0), push(alone, 0))
    pool.remove_worker(new)


def test_tracks_that_are_no_list_and_a_clock_that_no_restart_repeats_are_refused(
    pool: ShardedPool, tmp_path: Path
) -> None:
    for tracks in ("abc", 5):
        with pytest.raises(ConfigError, match="expected a list of tracks"):
            pool.push(tracks, frames_at(0)[:3])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="restart does not repeat"):
        ShardedPool(MODEL, tmp_path / "shards", when_full="close-idlest")
