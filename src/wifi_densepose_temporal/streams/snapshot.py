r"""A pool in a file: written a few tracks at a time, and read back as if it were a stranger's.

    8 bytes "WDTPOOL\n", u32 version, u32 length of what follows, JSON: the model's digest, the pool's arguments, sizes
    for each track  "T", u8 1 for a text and 0 for an int, u16 length, the name; its row of tracks.py; its state
    "E", u64 tracks, SHA-256 of everything before

What the pool's arguments say does not count its threads: they are the machine's.

Each track is whole, as of a frame of its own that its counters tell. Numbers are little-endian. The digest finds
damage, not forgery: what is read is checked as well, and bounded by the file's size before memory is taken for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import logging
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.errors import ConfigError, FileError, SnapshotError, TemporalError, TrackError
from wifi_densepose_temporal.files import write_in_parts
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.streams.gaps import GapPolicy
from wifi_densepose_temporal.streams.smoothing import ForwardFilter
from wifi_densepose_temporal.streams.tracks import MAX_ID_LENGTH, TrackId, as_track_id, is_sound

if TYPE_CHECKING:
    from wifi_densepose_temporal.streams.pool import StreamPool

logger = logging.getLogger(__name__)

MAGIC, VERSION = b"WDTPOOL\n", 1
_MAX_HEADER = 1 << 16
_DIGEST_BYTES = 32

#: Bytes that are copied out of a pool in one turn; one track at least.
_SLICE_BYTES = 1 << 20


# ------------------------------------------------------------------------------------------------------------- writing


def save(pool: StreamPool, path: str | os.PathLike[str]) -> None:
    """As `StreamPool.save`.

    Raises:
        FileError: the file cannot be written.
    """
    write_in_parts(path, lambda file: _write(pool, file))


def export_tracks(pool: StreamPool, track_ids: Iterable[TrackId]) -> bytes:
    """As `StreamPool.export_tracks`.

    Raises:
        TrackError: as there.
    """
    names = tuple(track_ids)
    for name in names:
        pool._slot_of(name)
    content = io.BytesIO()
    _write(pool, content, names)
    return content.getvalue()


def _write(pool: StreamPool, file: BinaryIO, names: tuple[TrackId, ...] | None = None) -> None:
    """Of these tracks, or of all."""
    digest, count = hashlib.sha256(), 0
    if names is None:
        with pool._turn():
            names = pool.tracks()
    slices = _slices(pool, names, time.monotonic())
    for part, tracks in itertools.chain([(_header(pool), 0)], slices):
        digest.update(part)
        file.write(part)
        count += tracks
    end = b"E" + struct.pack("<Q", count)
    digest.update(end)
    file.write(end + digest.digest())


def _header(pool: StreamPool) -> bytes:
    gap, smoothing = pool.gap, pool.smoothing
    arguments = {
        "capacity": pool.capacity,
        "policy": pool.policy,
        "landmark_blocks": pool.landmark_blocks,
        "cache_dtype": pool.cache_dtype,
        "source": pool.source,
        "memory_limit": pool.memory_limit,
        "when_full": pool.when_full,
        "idle_s": pool.idle_s,
        "gap": gap and asdict(gap),
        "smoothing": smoothing and asdict(smoothing),
    }
    told = {"model_sha256": pool.model.sha256, "arguments": arguments, "byteorder": sys.byteorder}
    text = json.dumps(told | {"row_bytes": pool._row.itemsize, "state_bytes": pool._core.state_bytes}).encode()
    return MAGIC + struct.pack("<II", VERSION, len(text)) + text


def _slices(pool: StreamPool, names: tuple[TrackId, ...], now_s: float) -> Iterator[tuple[bytes, int]]:
    """The bytes of a few tracks, and how many they are; those that were closed meanwhile are left out."""
    at_once = max(1, _SLICE_BYTES // pool.bytes_per_track)
    for begin in range(0, len(names), at_once):
        with pool._turn():
            parts = [_track(pool, name, now_s) for name in names[begin : begin + at_once] if name in pool]
        yield b"".join(itertools.chain.from_iterable(parts)), len(parts)


def _track(pool: StreamPool, name: TrackId, now_s: float) -> tuple[bytes, bytes, bytes]:
    slot = pool._slot_of(name)
    row = pool._rows[slot : slot + 1].copy()
    # How long ago, as a negative number: another process has another clock. A frame may have come since the save began.
    row["seen_clock_s"] = np.minimum(row["seen_clock_s"] - now_s, 0.0)
    text = str(name).encode()
    return b"T" + struct.pack("<BH", isinstance(name, str), len(text)) + text, row.tobytes(), pool._core.save(slot)


# ------------------------------------------------------------------------------------------------------------- reading


class _Reader:
    """Bytes of a file of known size, and the digest of what has been read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left, self.digest = file, size, hashlib.sha256()

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise SnapshotError(f"the file ends too early: {count} bytes were expected and {self.left} are left")
        content = self.file.read(count)
        if len(content) != count:
            raise SnapshotError("the file ends too early: it has become shorter while it was read")
        self.left -= count
        self.digest.update(content)
        return content

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))


def load(path: str | os.PathLike[str], model: TemporalModel, threads: int = 1) -> StreamPool:
    """As `StreamPool.load`.

    Raises:
        ConfigError, FileError, SnapshotError, MemoryLimitError: as there.
    """
    threads = as_int("threads", threads, least=1)
    if not isinstance(model, TemporalModel):
        raise ConfigError(f"model is {type(model).__name__}; expected a TemporalModel")
    try:
        # A pipe that nobody writes into is opened, and refused, at once.
        with open(os.fspath(path), "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path!s} is not a regular file; give the path of a snapshot")
            pool = _read(_Reader(file, status.st_size), model)
            pool.threads = threads
            return pool
    except SnapshotError as error:
        raise SnapshotError(f"{path!s}: {error}") from None
    except TemporalError:
        raise
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot read {path!s}: {reason}; check the path and its permissions") from None


def import_tracks(pool: StreamPool, content: bytes) -> None:
    """As `StreamPool.import_tracks`.

    Raises:
        SnapshotError, TrackError, MemoryLimitError: as there.
    """
    other = _read(_Reader(io.BytesIO(content), len(content)), pool.model)
    if _header(other) != _header(pool):
        raise SnapshotError("the tracks are of a pool with other arguments; make both with the same ones")
    for name in other.tracks():
        if name in pool:
            raise TrackError(f"track {name!r} is open here; close it first, if it is not the one that comes")
    before, when_full = pool.tracks(), pool.when_full
    pool.when_full = "refuse"
    try:
        for name in other.tracks():
            pool.open(name)
        _take_over(pool, other)
    except BaseException:
        for name in pool.tracks()[len(before) :]:
            pool.close(name)
        raise
    finally:
        pool.when_full = when_full


def _take_over(pool: StreamPool, other: StreamPool) -> None:
    for name in other.tracks():
        here, there = pool._slots[name], other._slots[name]
        state = other._core.save(there)
        with pool._turn():
            pool._rows[here] = other._rows[there]
            pool._core.load(here, state)


def _read(reader: _Reader, model: TemporalModel) -> StreamPool:
    pool = _read_header(reader, model)
    count, now_s = 0, time.monotonic()
    while (kind := reader.take(1)) == b"T":
        _read_track(reader, pool, now_s)
        count += 1
    if kind != b"E" or reader.numbers("<Q") != (count,):
        raise SnapshotError("the file is damaged: it does not go on with a track, and does not end as it should")
    digest = reader.digest.digest()
    if reader.take(_DIGEST_BYTES) != digest or reader.left:
        raise SnapshotError("the file is damaged: its SHA-256 is not that of its content")
    return pool


def _read_header(reader: _Reader, model: TemporalModel) -> StreamPool:
    """An empty pool with the arguments of the one that was saved."""
    from wifi_densepose_temporal.streams.pool import StreamPool

    if reader.take(len(MAGIC)) != MAGIC:
        raise SnapshotError("the file is no snapshot of a pool: it begins with other bytes")
    version, length = reader.numbers("<II")
    if version != VERSION:
        raise SnapshotError(f"the snapshot has version {version}; this release reads version {VERSION}")
    if length > _MAX_HEADER:
        raise SnapshotError(f"the snapshot's header has {length} bytes; at most {_MAX_HEADER} can be")
    try:
        told = json.loads(reader.take(length).decode())
        saved_of, arguments = told["model_sha256"], dict(told["arguments"])
        if saved_of != model.sha256:
            raise SnapshotError(f"the snapshot is of model {saved_of!s:.12}, not of {model.sha256[:12]}")
        gap, smoothing = arguments.pop("gap"), arguments.pop("smoothing")
        pool = StreamPool(
            model,
            gap=gap and GapPolicy(**gap),
            smoothing=smoothing and ForwardFilter(**smoothing),
            **arguments,
        )
        sizes = (told["row_bytes"], told["state_bytes"], told["byteorder"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"the snapshot's header cannot be: {error!s:.200}") from None
    if sizes != (pool._row.itemsize, pool._core.state_bytes, sys.byteorder):
        raise SnapshotError(f"the snapshot was written by another release or kind of processor: its sizes are {sizes}")
    return pool


def _read_track(reader: _Reader, pool: StreamPool, now_s: float) -> None:
    is_text, length = reader.numbers("<BH")
    if length > 4 * MAX_ID_LENGTH or is_text > 1:
        raise SnapshotError("the file is damaged: a track's name cannot be")
    try:
        text = reader.take(length).decode()
        name = as_track_id(text if is_text else int(text))
    except ValueError:
        raise SnapshotError("the file is damaged: a track's name cannot be") from None
    row = np.frombuffer(reader.take(pool._row.itemsize), pool._row)[0]
    state = reader.take(pool._core.state_bytes)  # before memory is asked for
    if name in pool or not is_sound(row) or row["seen_clock_s"] > 0:
        raise SnapshotError(f"the file is damaged: what it says of track {name!r} cannot be")
    pool.open(name)
    slot = pool._slots[name]
    pool._rows[slot] = row
    pool._rows["seen_clock_s"][slot] += now_s
    if not pool._core.load(slot, state):
        raise SnapshotError(f"the file is damaged: the stream of track {name!r} cannot be")


# -------------------------------------------------------------------------------------------------------- periodically


class Snapshots:
    """Saves a pool every few seconds, from a thread, while its `with` block runs; made by `StreamPool.snapshots`.

    A save that fails is logged, and the file of the one before stays. At the end nothing more is saved: call
    `pool.save` for the last state.

    Attributes:
        path: where to.
        every_s: seconds from the end of a save to the begin of the next one.
        saved: saves that are on the disk.
        last_error: why the newest save failed, whatever it was; None if it did not.
    """

    def __init__(self, pool: StreamPool, path: str | os.PathLike[str], every_s: float) -> None:
        self.path, self.every_s = path, every_s
        self.saved = 0
        self.last_error: Exception | None = None
        self._pool, self._stopping = pool, threading.Event()
        self._thread = threading.Thread(target=self._run, name="pool snapshots", daemon=True)

    def __enter__(self) -> Snapshots:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Returns when no save is going on any more, and none will begin."""
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # never started
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self.every_s):
            try:
                save(self._pool, self.path)
            except Exception as error:  # the next one may be whole
                self.last_error = error
                logger.error("no snapshot of the pool: %s", str(error) or repr(error))
            else:
                self.saved, self.last_error = self.saved + 1, None
