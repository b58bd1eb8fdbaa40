"""A pool: thousands of tracks through one model, a frame of each in one call.

Streams lie in large pieces of memory and go through the model in groups (core/src/streams.c); what else a track has
is a row of one array (tracks.py). Its decisions are those of a `Stream` each, bit for bit.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.cache import CachePolicy, as_cache_dtype
from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.errors import CacheInUseError, ConfigError, MemoryLimitError, TemporalError, TrackError
from wifi_densepose_temporal.model import Source, TemporalModel
from wifi_densepose_temporal.streams.decisions import Decisions
from wifi_densepose_temporal.streams.gaps import GapPolicy, chain_times_s
from wifi_densepose_temporal.streams.push import Push
from wifi_densepose_temporal.streams.smoothing import ForwardFilter
from wifi_densepose_temporal.streams.tracks import (
    Counters,
    TrackId,
    as_key,
    as_track_id,
    counters_of,
    empty_rows,
    row_dtype,
)

if TYPE_CHECKING:
    from wifi_densepose_temporal.streams.snapshot import Snapshots

logger = logging.getLogger(__name__)

DEFAULT_POOL_CAPACITY = 256
DEFAULT_POOL_LANDMARK_BLOCKS = 256

#: Slots that come at a time, as long as they are not more than so many bytes.
_SLOTS_AT_A_TIME, _BYTES_AT_A_TIME = 256, 32 << 20

_DEFAULT_GAP, _DEFAULT_SMOOTHING = GapPolicy(), ForwardFilter()

_WhenFull = Literal["refuse", "close-idlest"]


class StreamPool:
    """Streams of one model, by the names of their tracks.

    One thread at a time is in a pool; as many as it was told work inside a push. Ctrl-C while frames run comes when the
    push is done. Where an exception ends a change halfway nonetheless, every later call raises a TemporalError.

    Attributes:
        model: the model.
        policy, landmark_blocks, capacity, cache_dtype, source: as `TemporalModel.stream`.
        gap, smoothing, idle_s, memory_limit, when_full, threads: as given to the constructor.
    """

    def __init__(
        self,
        model: TemporalModel,
        *,
        capacity: int = DEFAULT_POOL_CAPACITY,
        policy: CachePolicy = "sliding",
        landmark_blocks: int = DEFAULT_POOL_LANDMARK_BLOCKS,
        cache_dtype: DTypeLike = "float32",
        source: Source = "unstated",
        memory_limit: int | None = None,
        when_full: _WhenFull = "refuse",
        idle_s: float | None = None,
        gap: GapPolicy | None = _DEFAULT_GAP,
        smoothing: ForwardFilter | None = _DEFAULT_SMOOTHING,
        threads: int = 1,
    ) -> None:
        """An empty pool.

        Args:
            model: what every track runs through.
            capacity: frames that each layer's cache of a track holds.
            policy: what a full cache does, `"sliding"`, `"refuse"` or `"heavy-hitter"`.
            landmark_blocks: complete blocks whose means an evicting cache keeps.
            cache_dtype: of the caches, float32 or float16.
            source: where the frames will come from; carried on in each result.
            memory_limit: bytes that tracks may take together; None for as many as the machine gives.
            when_full: what `open` does at the limit: `"refuse"`, or `"close-idlest"`, which closes the track whose last
                accepted frame is the longest ago.
            idle_s: seconds without an accepted frame after which a track is closed, at the end of a push, on the clock
                of the frames' times or on the pool's own; None for never.
            gap: what to do about silences, where pushes have times; None for nothing. By default `GapPolicy()`.
            smoothing: of decisions over time; None for none. By default `ForwardFilter()`.
            threads: at most so many work at a push.

        Raises:
            ConfigError: an argument that no pool can have.
            MemoryLimitError: one track's caches are larger than what can be addressed.
        """
        _check_choices(model, policy, source, when_full, gap, smoothing)
        self.model, self.source, self.policy = model, source, policy
        self.capacity = as_int("capacity", capacity, least=1)
        self.landmark_blocks = as_int("landmark_blocks", landmark_blocks, least=1)
        self.cache_dtype = as_cache_dtype(cache_dtype)
        self.when_full: _WhenFull = when_full
        self.threads = as_int("threads", threads, least=1)
        self.memory_limit = None if memory_limit is None else int(_positive("memory_limit", memory_limit))
        self.idle_s = None if idle_s is None else _positive("idle_s", idle_s)
        self.gap = None if gap is None else gap.resolved(model)
        self.smoothing = smoothing
        self.period_s = self.gap.step_s if self.gap else chain_times_s(model)[0]
        half, blocks = self.cache_dtype == "float16", self.landmark_blocks
        try:
            self._core = _core.Pool(model._core, self.capacity, half, policy, blocks)
        except MemoryError:
            raise MemoryLimitError(f"a track of {capacity} frames does not fit into memory; lower capacity") from None
        keeps_frames = self.gap is not None and self.gap.fill is not None
        self._row = row_dtype(model.input_dim if keeps_frames else 0, model.header.n_classes if smoothing else 0)
        self._rows = empty_rows(0, self._row)
        self._slots: dict[TrackId, int] = {}
        self._names: list[TrackId | None] = []  # by slot
        self._free: list[int] = []
        self._user: object | None = None  # the call that goes on
        self._broken = False  # a change has begun, and has not come to its end
        self._guard, self._next, self._lock = threading.Lock(), threading.Lock(), threading.RLock()
        if self.memory_limit is not None and self.memory_limit < self.bytes_per_track:
            raise ConfigError(f"memory_limit is {memory_limit}; one track takes {self.bytes_per_track} bytes")

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, track_id: object) -> bool:
        key = as_key(track_id)
        return key is not None and key in self._slots

    def __repr__(self) -> str:
        return f"StreamPool({len(self)} tracks, policy={self.policy!r}, nbytes={self.nbytes}, model={self.model!r})"

    def tracks(self) -> tuple[TrackId, ...]:
        """Names of the open tracks, in the order in which they were opened."""
        return tuple(self._slots)

    @property
    def bytes_per_track(self) -> int:
        """Bytes of memory that a track takes: its caches, its pooling, its row of counters and beliefs."""
        return self._core.stride + self._row.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of memory reserved, for tracks that are open and for those to come."""
        return self._core.slots * self.bytes_per_track

    def counters(self, track_id: TrackId) -> Counters:
        """What became of a track so far.

        Raises:
            TrackError: it is not open.
        """
        return counters_of(self._rows[self._slot_of(track_id)])

    # ------------------------------------------------------------------------------------------------ open and close

    def open(self, track_id: TrackId, time_s: float | None = None) -> TrackId | None:
        """Opens a track that has seen nothing.

        Args:
            track_id: a 64-bit int, or 1 to 200 printable characters.
            time_s: now, on the clock of the frames' times: when its idleness begins. None: with the next push.

        Returns:
            The track that was closed in its favour, or None.

        Raises:
            ConfigError: no such name or time can be.
            TrackError: it is open.
            MemoryLimitError: `memory_limit` is reached, or the machine's memory.
        """
        name = as_track_id(track_id)
        if time_s is not None and not _is_finite(time_s):
            raise ConfigError(f"time_s is {time_s!r}; expected a finite number of seconds")
        with self._inside():
            if name in self._slots:
                raise TrackError(f"track {name!r} is open; close it first, if this is another person")
            row = empty_rows(1, self._row)
            row["seen_clock_s"] = time.monotonic()
            if time_s is not None:
                row["seen_time_s"] = time_s
            closed = self._make_room()
            self._broken = True
            slot = self._free.pop()
            self._rows[slot] = row[0]
            self._slots[name], self._names[slot] = slot, name
            self._broken = False
            return closed

    def close(self, track_id: TrackId) -> None:
        """Closes a track, and writes zeros over all that was kept of it.

        Raises:
            TrackError: it is not open.
        """
        with self._inside():
            self._close(self._slot_of(track_id))

    def _slot_of(self, track_id: TrackId) -> int:
        self._require_whole()
        key = as_key(track_id)
        if key is None or key not in self._slots:
            raise TrackError(f"track {track_id!r:.100} is not open; open() it first")
        return self._slots[key]

    def _close(self, slot: int) -> TrackId:
        name = self._names[slot]
        assert name is not None
        self._broken = True
        self._core.clear(slot)
        self._rows[slot] = np.zeros((), self._row)
        del self._slots[name]
        self._names[slot] = None
        self._free.append(slot)
        self._broken = False
        return name

    def _make_room(self) -> TrackId | None:
        """Sees to it that a slot is free; the track that was closed for it, if any."""
        if self._free:
            return None
        more = min(_SLOTS_AT_A_TIME, max(1, _BYTES_AT_A_TIME // self._core.stride))
        if self.memory_limit is not None:
            more = min(more, self.memory_limit // self.bytes_per_track - self._core.slots)
        if more > 0:
            self._grow(more)
            return None
        if self.when_full == "refuse":
            raise MemoryLimitError(
                f"{len(self)} tracks take {self.nbytes} of {self.memory_limit} bytes; close some, or make the pool "
                "with when_full='close-idlest'"
            )
        slots = np.fromiter(self._slots.values(), np.int64)
        return self._close(int(slots[self._rows["seen_clock_s"][slots].argmin()]))

    def _grow(self, more: int) -> None:
        before = self._core.slots
        try:
            rows = np.concatenate([self._rows, empty_rows(more, self._row)])
            names = self._names + [None] * more
            free = self._free + list(range(before + more - 1, before - 1, -1))
            self._core.grow(more)
        except MemoryError:
            raise MemoryLimitError(
                f"{more} more tracks of {self.bytes_per_track} bytes do not fit into memory"
            ) from None
        self._rows, self._names, self._free = rows, names, free

    # ---------------------------------------------------------------------------------------------------------- push

    def push(
        self,
        track_ids: Sequence[TrackId] | NDArray[np.generic],
        frames: ArrayLike | Sequence[ArrayLike],
        times_s: ArrayLike | None = None,
    ) -> Decisions:
        """Takes a frame of each of N tracks. One that cannot be taken is refused alone, and its track stays as it was.

        Refused are: a track that is not open, or that stands there a second time (TrackError); a frame of another
        size or dtype (ShapeError, DtypeError), or with NaN, infinity or numbers that overflow (NonFiniteError); a
        time that is not finite (NonFiniteError), or not after that of the track's last frame (TimeOrderError); a
        frame too many with policy refuse (CacheFullError).

        Args:
            track_ids: `[N]`.
            frames: `[N, F]`, float32 or exactly convertible to it; or a list of N frames `[F]`, each checked alone.
            times_s: `[N]`, seconds on a clock that all pushes share, those after a restart too; or None, and then no
                silence is seen: frames are taken to be a period apart, and idleness goes by the time of the calls.

        Raises:
            ShapeError, DtypeError: arrays of which no row can be told.
            ConfigError: track_ids is no sequence, or times_s are no numbers.
            CacheInUseError: another thread is in a call on this pool.
            MemoryLimitError: the answers do not fit into memory. No track has changed.
        """
        with self._inside():
            push = Push(self, track_ids, frames, times_s)
            push.run()
            decisions = push.decisions(self._close_idle(push))
        if push.interrupted:
            raise KeyboardInterrupt
        return decisions

    def _close_idle(self, push: Push) -> tuple[TrackId, ...]:
        """Closes tracks that had no frame for idle_s, on the frames' clock or, whatever times say, on the pool's own.

        On the frames' clock it is now what the median of all open tracks says, so that a wrong clock moves nothing,
        however few rows a push has. The other one closes a track whose clock has run ahead, and is refused ever since.
        """
        if self.idle_s is None or not self._slots:
            return ()
        slots = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        idle = time.monotonic() - self._rows["seen_clock_s"][slots] > self.idle_s
        seen = self._rows["seen_time_s"][slots]
        told = seen[~np.isnan(seen)]
        if push.times is not None and len(told):
            middle = (len(told) - 1) // 2
            now = np.partition(told, middle)[middle]
            self._rows["seen_time_s"][slots] = seen = np.where(np.isnan(seen), now, seen)
            with np.errstate(over="ignore"):
                idle |= now - seen > self.idle_s
        idle &= ~np.isin(slots, push.slots[push.accepted])
        closed = tuple(self._close(int(slot)) for slot in slots[idle])
        if closed:
            logger.info("closed %d idle tracks, such as %r", len(closed), closed[0])
        return closed

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """One call at a time; a snapshot's slice is waited for. No interruption leaves the pool taken."""
        me = object()
        try:
            with self._guard:
                if self._user is not None:
                    raise CacheInUseError(
                        "another thread is in a call on this pool: give each a pool, or take a lock around calls"
                    )
                self._user = me
            with self._turn():
                yield
        finally:
            if self._user is me:
                self._user = None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The pool alone, for a call or a slice of a snapshot: who waits comes before who has just been there."""
        try:
            with self._next:
                self._lock.acquire()
            self._require_whole()
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # interrupted before it was taken
                self._lock.release()

    def _require_whole(self) -> None:
        if self._broken:
            raise TemporalError(
                "a call on this pool was ended halfway by an exception, and its tracks are no longer what their "
                "counters say: load the last snapshot, or make a new pool"
            )

    # ----------------------------------------------------------------------------------------------------- snapshots

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes every open track to a file, which replaces the one at `path` when it is whole and on the disk.

        Raises:
            FileError: it cannot be written; what was at `path` is as it was.
        """
        from wifi_densepose_temporal.streams.snapshot import save

        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: TemporalModel, *, threads: int = 1) -> StreamPool:
        """The pool in a file: every track goes on with the bits that it would have gone on with.

        Args:
            path: of the file.
            model: the one that it was saved with.
            threads: as of the constructor; a snapshot does not hold it.

        Raises:
            ConfigError: model is no TemporalModel, or threads is below 1.
            FileError: the file cannot be read.
            SnapshotError: it is no snapshot, it is damaged, or it is another model's.
            MemoryLimitError: this machine has not that much memory.
        """
        from wifi_densepose_temporal.streams.snapshot import load

        return load(path, model, threads)

    def export_tracks(self, track_ids: Sequence[TrackId]) -> bytes:
        """The bytes of a snapshot of these tracks alone, for another pool's `import_tracks`; they stay open here.

        Raises:
            TrackError: one of them is not open.
        """
        from wifi_densepose_temporal.streams.snapshot import export_tracks

        return export_tracks(self, track_ids)

    def import_tracks(self, content: bytes) -> None:
        """Opens the tracks of `export_tracks`, each with the state that it had: all of them or, if one cannot be, none.

        Raises:
            SnapshotError: the bytes are no snapshot, damaged, of another model, or of a pool with other arguments.
            TrackError: one of them is open here.
            MemoryLimitError: they do not fit into this pool; `when_full` closes no track for them.
        """
        from wifi_densepose_temporal.streams.snapshot import import_tracks

        import_tracks(self, content)

    def snapshots(self, path: str | os.PathLike[str], every_s: float = 60.0) -> Snapshots:
        """Saves again and again while a `with` block runs, from a thread that holds pushes up by a slice at a time.

        A slice is 1 MiB of tracks, or one track, if that is larger. Between two slices a push has its turn, and after
        a push a slice.

        Raises:
            ConfigError: every_s is not above 0.
        """
        from wifi_densepose_temporal.streams.snapshot import Snapshots

        return Snapshots(self, path, float(_positive("every_s", every_s)))


def _check_choices(
    model: object, policy: object, source: object, when_full: object, gap: object, smoothing: object
) -> None:
    if not isinstance(model, TemporalModel):
        raise ConfigError(f"model is {type(model).__name__}; expected a TemporalModel")
    choices = {
        "policy": (policy, ("sliding", "refuse", "heavy-hitter")),
        "source": (source, get_args(Source)),
        "when_full": (when_full, get_args(_WhenFull)),
    }
    for name, (given, known) in choices.items():
        if not isinstance(given, str) or given not in known:
            raise ConfigError(f"{name} is {given!r}; expected one of {', '.join(known)}")
    if gap is not None and not isinstance(gap, GapPolicy):
        raise ConfigError(f"gap is {type(gap).__name__}; expected a GapPolicy or None")
    if smoothing is not None and not isinstance(smoothing, ForwardFilter):
        raise ConfigError(f"smoothing is {type(smoothing).__name__}; expected a ForwardFilter or None")


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name} is {value!r}; expected a finite number above 0")
    return value
