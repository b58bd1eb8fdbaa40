"""A pool in a file: it goes on with the same bits, and no other file is taken for one."""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import signal
import stat
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streams import kill
from tests.streams.conftest import model_of
from tests.streams.test_pool import POLICIES, normal
from wifi_densepose_temporal import ForwardFilter, GapPolicy, StreamPool, _core
from wifi_densepose_temporal.errors import FileError, MemoryLimitError, SnapshotError
from wifi_densepose_temporal.streams import snapshot
from wifi_densepose_temporal.streams.snapshot import MAGIC


def pushed(name: str = "activity", frames: int = 30, **arguments: Any) -> StreamPool:
    """Three tracks of different ages and kinds of names."""
    pool = StreamPool(model_of(name), **({"capacity": 12, "landmark_blocks": 2} | arguments))
    for track in ("é", -7, "c"):
        pool.open(track)
    for t in range(frames):
        tracks = ["é", -7, "c"][: 1 + t % 3]
        pool.push(tracks, normal(pool.model, len(tracks), seed=t), np.full(len(tracks), 0.04 * t))
    return pool


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["activity", "reid", "reference"])
def test_a_loaded_pool_goes_on_with_the_same_bits(name: str, policy: Any, tmp_path: Path) -> None:
    pool = pushed(
        name, 29, policy=policy, capacity=40 if policy == "refuse" else 12, cache_dtype="float16", idle_s=50.0,
        gap=GapPolicy("interpolate", 0.04, 1.0), smoothing=ForwardFilter(0.7), source="replay",
    )  # fmt: skip
    path = tmp_path / "pool"
    pool.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["pool"]
    loaded = StreamPool.load(path, pool.model)
    for what in ("policy", "capacity", "gap", "smoothing", "idle_s", "source", "cache_dtype", "bytes_per_track"):
        assert getattr(loaded, what) == getattr(pool, what)
    assert loaded.tracks() == pool.tracks()
    for t in (29.0, 30, 33):  # the last one behind a gap
        one, other = (
            each.push(["é", -7], normal(pool.model, 2, seed=int(t)), [0.04 * t] * 2) for each in (pool, loaded)
        )
        for array in ("logits", "embedding", "belief", "frames", "filled"):
            np.testing.assert_array_equal(getattr(one, array), getattr(other, array))
    assert [loaded.counters(track) for track in pool.tracks()] == [pool.counters(track) for track in pool.tracks()]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("snapshot") / "pool"
    pushed(policy="heavy-hitter", capacity=3, landmark_blocks=1).save(path)
    return path.read_bytes()


def refused(content: bytes, path: Path, name: str = "activity") -> str:
    path.write_bytes(content)
    with pytest.raises(SnapshotError) as raised:
        StreamPool.load(path, model_of(name))
    return str(raised.value)


def test_damage_at_any_byte_is_seen(content: bytes, tmp_path: Path) -> None:
    """Every byte of the header and of the end, and some of the tracks between."""
    places = {*range(0, 700, 3), *range(700, len(content), 211), *range(len(content) - 41, len(content))}
    for at in sorted(places):
        refused(content[:at] + bytes([content[at] ^ 0x21]) + content[at + 1 :], tmp_path / "pool")


def test_truncation_and_more_bytes_are_seen(content: bytes, tmp_path: Path) -> None:
    for length in (*range(0, len(content), 997), len(content) - 1):
        refused(content[:length], tmp_path / "pool")
    refused(content + b"\0", tmp_path / "pool")


def signed(content: bytes) -> bytes:
    """With a digest that fits, as somebody who means harm would write it."""
    return content[:-32] + hashlib.sha256(content[:-32]).digest()


@settings(max_examples=150)
@given(at=st.integers(0, 1 << 30), value=st.integers(0, 255), words=st.sampled_from([1, 4, 8]))
def test_forged_states_are_refused_or_harmless(
    content: bytes, tmp_path_factory: Any, at: int, value: int, words: int
) -> None:
    """Whatever stands in a heavy hitter's tables: refused, or a pool that runs."""
    at %= len(content) - 32 - words
    forged = content[:at] + bytes([value]) * words + content[at + words :]
    path = tmp_path_factory.getbasetemp() / "forged"
    path.write_bytes(signed(forged))
    try:
        pool = StreamPool.load(path, model_of("activity"))
    except (SnapshotError, MemoryLimitError):
        return
    for t in range(40):
        decisions = pool.push(pool.tracks(), normal(pool.model, len(pool), seed=t))
        assert all(np.isfinite(decisions.logits[i]).all() for i in np.flatnonzero(decisions.accepted))


class Forge:
    """A pool of one track at the binding, and its heavy hitter's rows as the first layer's state has them."""

    def __init__(self, policy: str = "heavy-hitter", capacity: int = 40, frames: int = 90, scale: float = 1.0) -> None:
        self.model, self.capacity = model_of("reference"), capacity
        self.pool = _core.Pool(self.model._core, capacity, False, policy, 4)
        self.pool.grow(1)
        self.frames = scale * normal(self.model, frames + 60, seed=capacity)
        self.accepted = sum(self.push(t)[0] == 0 for t in range(frames))
        self.state = self.pool.save(0)
        head = self.model._core.head
        self.at = self.state.find(struct.pack("<ii", head.window, len(head.global_tokens)))
        rows = capacity + 1
        self.received = self.at + 296  # behind the pattern and eight words
        self.position = self.received + 16 * rows
        self.derived = [range(self.at + 264, self.received), range(self.received + 8 * rows, self.position)]
        self.derived += [range(self.position + 8 * rows, self.position + 8 * rows + 12 * rows)]

    def push(self, t: int) -> tuple[int, bytes]:
        frame, status = self.frames[t % len(self.frames)][None].astype(np.float32), np.zeros(1, np.uint8)
        logits = np.zeros((1, self.model.header.n_classes), np.float32)
        embedding = np.zeros((1, self.model.embedding_dim), np.float32)
        self.pool.push(np.zeros(1, np.int64), frame, logits, embedding, status, 1)
        assert np.isfinite(logits).all()
        assert np.isfinite(embedding).all()
        return int(status[0]), logits.tobytes() + embedding.tobytes()

    def positions(self) -> Any:
        return np.frombuffer(self.state, "<i8", self.capacity + 1, self.position).copy()

    def loads(self, *changes: tuple[int, bytes]) -> bool:
        state = bytearray(self.state)
        for place, change in changes:
            state[place : place + len(change)] = change
        return bool(self.pool.load(0, bytes(state)))


def test_of_a_heavy_hitters_state_only_positions_and_weights_are_taken() -> None:
    """Whatever stands in its tables, and whoever they say leaves next, no bit of what follows is another one."""
    forge = Forge()
    assert 0 in forge.positions()
    expected = [forge.push(t) for t in range(90, 140)]
    rng = np.random.default_rng(0)
    for fill in (b"\0", b"\xff", b"\x01", None):
        changes = [(r.start, fill * len(r) if fill else rng.bytes(len(r))) for r in forge.derived]
        assert forge.loads(*changes)
        assert [forge.push(t) for t in range(90, 140)] == expected


def test_rows_that_no_run_leaves_are_refused() -> None:
    forge = Forge()
    positions, window = forge.positions(), forge.model._core.head.window
    assert forge.loads()
    old = next(row for row, p in enumerate(positions) if 0 < p < 90 - window)
    inside = next(row for row, p in enumerate(positions) if p == 90 - window // 2)
    first = next(row for row, p in enumerate(positions) if p == 0)
    free = next(p for p in range(1, 90 - window) if p not in positions)

    def put(row: int, position: int) -> tuple[int, bytes]:
        return forge.position + 8 * row, struct.pack("<q", position)

    assert forge.loads(put(old, free))
    assert not forge.loads(put(first, free)), "the global token is not held"
    assert not forge.loads(put(inside, free)), "a gap in the window"
    assert not forge.loads(put(old, int(positions[inside]))), "a position twice"
    for position in (-1, 90, 1 << 62, -(1 << 63)):
        assert not forge.loads(put(old, position)), "fewer tokens than there is room for"
    for weight in (np.nan, np.inf, -1.0):
        assert not forge.loads((forge.received + 8 * old, struct.pack("<d", weight)))


def test_positions_that_would_make_every_search_long_are_refused() -> None:
    """They all have the hash of position 0."""
    forge = Forge(capacity=256, frames=300)
    every = np.arange(1 << 19, dtype=np.uint64)
    alike = every[(every * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) % np.uint64(1024) == 0][:256].astype("<i8")
    others = np.arange(0, 256 * 1000, 1000)
    length = (0, struct.pack("<q", 1 << 30))
    for positions, expected in ((alike, False), (others, True)):
        rows = np.append(positions, -1).astype("<i8").tobytes()
        layers = [at for at in range(len(forge.state)) if forge.state.startswith(forge.state[forge.at :][:264], at)]
        assert len(positions) == 256
        assert len(layers) == forge.model.header.n_layers
        changes = [(forge.position + at - forge.at, rows) for at in layers]
        assert forge.loads(length, *changes) == expected


@pytest.mark.parametrize("policy", ["refuse", "sliding", "heavy-hitter"])
def test_numbers_beyond_what_a_run_can_reach_are_refused(policy: str) -> None:
    """Sums of up to 3.4e38 would make infinity, and NaN of it."""
    forge = Forge(policy, capacity=40, frames=30)
    pooling = len(forge.state) - 4 * 2 * forge.model.header.input_dim
    for number in (3.3e38, -3.3e38, 1e15, np.nan, np.inf):
        assert not forge.loads((pooling, struct.pack("<f", number)))
    key = forge.state.rfind(b"\0" * 64, 0, pooling)  # a row that is not used yet
    assert forge.loads((key, struct.pack("<f", 1e12)))
    assert not forge.loads((key, struct.pack("<f", 4e12)))


@pytest.mark.parametrize("policy", ["refuse", "sliding", "heavy-hitter"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e10, 2e11])
def test_every_state_that_a_run_reaches_loads(policy: str, scale: float) -> None:
    forge = Forge(policy, capacity=40, frames=200, scale=scale)
    assert forge.accepted > 30
    expected = [forge.push(t) for t in range(60)]
    assert forge.loads()
    assert [forge.push(t) for t in range(60)] == expected


@pytest.mark.parametrize("policy", ["refuse", "sliding", "heavy-hitter"])
def test_nothing_of_a_former_track_is_saved(policy: str) -> None:
    forge, fresh = Forge(policy, capacity=40, frames=90), Forge(policy, capacity=40, frames=0)
    forge.pool.reset(0)
    assert forge.pool.save(0) == fresh.state
    for t in range(20):
        forge.frames[t] = fresh.frames[t]
        assert forge.push(t) == fresh.push(t)
    assert forge.pool.save(0) == fresh.pool.save(0)


def test_another_models_snapshot_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "is of model" in refused(content, tmp_path / "pool", "reid")


def test_what_a_header_may_not_say(content: bytes, tmp_path: Path) -> None:
    start = len(MAGIC)
    (length,) = struct.unpack_from("<I", content, start + 4)
    header, rest = content[start + 8 : start + 8 + length], content[start + 8 + length :]

    def forged(text: bytes, version: int = 1) -> bytes:
        return signed(MAGIC + struct.pack("<II", version, len(text)) + text + rest)

    assert "version 2" in refused(forged(header, 2), tmp_path / "pool")
    assert "at most" in refused(MAGIC + struct.pack("<II", 1, 1 << 31), tmp_path / "pool")
    for text in (b"[]", b"{}", b"[" * 60000, header.replace(b"heavy-hitter", b"light-hitter"), b"\xff" + header[1:]):
        refused(forged(text), tmp_path / "pool")
    huge = header.replace(b'"capacity": 3', b'"capacity": 1000000000')
    (tmp_path / "pool").write_bytes(forged(huge))
    with pytest.raises((SnapshotError, MemoryLimitError)):
        StreamPool.load(tmp_path / "pool", model_of("activity"))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "none", "a\0b", tmp_path / "pipe"):
        with pytest.raises(FileError):
            StreamPool.load(path, model_of("activity"))
    with pytest.raises(FileError):
        pushed().save(tmp_path / "none" / "pool")


def test_a_disk_that_is_full_leaves_the_old_snapshot(tmp_path: Path) -> None:
    pool, path = pushed(capacity=300), tmp_path / "pool"
    pool.save(path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
        with pytest.raises(FileError, match="cannot write"):
            pool.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["pool"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    orphan, alive = tmp_path / ".pool.00.part", tmp_path / ".pool.01.part"
    orphan.touch()
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as the process that writes it has, in this container or another
        pushed().save(tmp_path / "pool")
        assert not orphan.exists()
        assert alive.exists()


def until(condition: Any) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing has happened for half a minute")


def test_snapshots_while_frames_come(tmp_path: Path) -> None:
    """Each track is whole: it goes on as a stream with as many frames as the snapshot says."""
    model, path = model_of("activity"), tmp_path / "pool"
    pool = StreamPool(model, capacity=20)
    for i in range(300):
        pool.open(i)
    frames = normal(model, 600, 300)
    with pool.snapshots(path, every_s=0.001) as saver:
        for t in range(600):
            pool.push(range(300), frames[t])
            if saver.saved > 2:
                break
        until(lambda: saver.saved > 2)
    assert saver.last_error is None
    loaded, stream = StreamPool.load(path, model), None
    for i in (0, 150, 299):
        stream = model.stream(20, policy="sliding", landmark_blocks=256)
        for t in range(loaded.counters(i).frames):
            stream.push(frames[t, i])
        next_frame = frames[0, i]
        np.testing.assert_array_equal(loaded.push([i], next_frame[None]).logits[0], stream.push(next_frame).logits)


def test_a_snapshot_that_fails_is_told_and_the_thread_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "later"
    with pushed().snapshots(folder / "pool", every_s=0.001) as saver:
        until(lambda: saver.last_error is not None)
        folder.mkdir()
        until(lambda: saver.saved)
    assert "cannot write" in caplog.text
    assert not saver._thread.is_alive()


def test_a_save_finishes_against_a_pusher_without_pauses(tmp_path: Path) -> None:
    pool = StreamPool(model_of("activity"))
    for i in range(400):
        pool.open(i)
    frames = normal(pool.model, 400)
    with pool.snapshots(tmp_path / "pool", every_s=0.001) as saver:
        pushes = 0
        while not saver.saved and pushes < 600:
            pool.push(range(400), frames)
            pushes += 1
    assert saver.saved
    assert pushes < 600  # some 100 slices, and a push between two of them


def test_any_failure_is_told_and_the_thread_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "write_in_parts", lambda path, write: [][0])
    with pushed().snapshots(tmp_path / "pool", every_s=0.001) as saver:
        until(lambda: isinstance(saver.last_error, IndexError))
        monkeypatch.undo()
        until(lambda: saver.saved)


def test_who_is_the_idlest_stays_so_in_a_snapshot(tmp_path: Path) -> None:
    limit = 300 * StreamPool(model_of("activity"), capacity=8).bytes_per_track
    pool = StreamPool(model_of("activity"), capacity=8, memory_limit=limit, when_full="close-idlest")
    for i in range(300):
        pool.open(i)
    for half in (range(1, 300), range(1)):  # two instants that are nearer than a save is long
        pool.push(half, normal(pool.model, len(half)))
    pool.save(tmp_path / "pool")
    loaded = StreamPool.load(tmp_path / "pool", pool.model)
    assert pool.open("x") == loaded.open("x") == 1


def test_threads_are_no_part_of_a_snapshot(tmp_path: Path) -> None:
    pool = pushed(threads=3)
    pool.save(tmp_path / "pool")
    assert StreamPool.load(tmp_path / "pool", pool.model).threads == 1
    loaded = StreamPool.load(tmp_path / "pool", pool.model, threads=2)
    assert loaded.threads == 2
    for track in pool.tracks():
        loaded.close(track)
    loaded.import_tracks(pool.export_tracks(pool.tracks()))
    assert loaded.tracks() == pool.tracks()


def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    assert kill.check(tmp_path, kills=4) >= 4
