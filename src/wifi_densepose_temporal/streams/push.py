"""One push into a pool: which rows can be taken, what silences ask for, the model, and what is noted of each track.

Whole arrays at a time: a row that is refused is looked at alone, and costs the others nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import Floats, as_float32, require_finite
from wifi_densepose_temporal.errors import (
    CacheFullError,
    ConfigError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
    TemporalError,
    TimeOrderError,
    TrackError,
)
from wifi_densepose_temporal.streams.decisions import Decisions
from wifi_densepose_temporal.streams.tracks import TrackId, as_key

if TYPE_CHECKING:
    from wifi_densepose_temporal.streams.pool import StreamPool

#: Rows after a silence that are gone through together; the states of so many tracks are kept meanwhile.
_GAPS_AT_A_TIME = 64

_OK = int(_core.Status.OK)

_UNKNOWN = 255  # no status


class Push:
    """The rows of one call. `slots` is -1 where no track is open; `accepted` is False where a row has been refused."""

    def __init__(
        self,
        pool: StreamPool,
        track_ids: Sequence[TrackId] | NDArray[np.generic],
        frames: object,
        times_s: ArrayLike | None,
    ) -> None:
        """Checks all that can be checked without running anything.

        Raises:
            ConfigError, ShapeError, DtypeError, MemoryLimitError: as `StreamPool.push`.
        """
        self.pool, self.model = pool, pool.model
        self.interrupted = False
        self.ids = as_ids(track_ids)
        count = len(self.ids)
        self.refused: dict[int, TemporalError] = {}
        self.accepted = np.ones(count, np.bool_)
        self.slots = self._look_up()
        self.frames = self._as_frames(frames)
        self.times = None if times_s is None else as_times(times_s, count)
        self.filled, self.reset = np.zeros(count, np.int64), np.zeros(count, np.bool_)
        self._refuse_strangers()
        self.apart_s = self._times_apart()
        try:
            self.logits = np.full((count, self.model.header.n_classes), np.nan, np.float32)
            self.embedding = np.full((count, self.model.embedding_dim), np.nan, np.float32)
            classes = self.model.header.n_classes if pool.smoothing else 0
            self.belief = np.full((count, classes), np.nan)
        except MemoryError:
            raise MemoryLimitError(
                f"the answers to {count} frames do not fit into memory; push fewer at once"
            ) from None

    # --------------------------------------------------------------------------------------------------- the arguments

    def _look_up(self) -> NDArray[np.int64]:
        known, keys = self.pool._slots, self.ids
        if not {int, str}.issuperset(map(type, keys)):  # 1.0 and True would be found as 1
            keys = [as_key(name) for name in keys]  # type: ignore[misc]  # no track is None
        return np.fromiter(map(known.get, keys, itertools.repeat(-1)), np.int64, len(keys))

    def _as_frames(self, frames: object) -> Floats:
        count, features = len(self.ids), self.model.input_dim
        if isinstance(frames, list | tuple):
            return self._as_rows(frames)
        rows = as_float32("frames", frames)
        if rows.shape != (count, features):
            raise ShapeError(f"frames has shape {rows.shape}; expected {(count, features)}, a row for each track")
        return rows

    def _as_rows(self, frames: Sequence[object]) -> Floats:
        """Each frame alone: one that is none refuses its own track."""
        features = self.model.input_dim
        if len(frames) != len(self.ids):
            raise ShapeError(f"{len(frames)} frames for {len(self.ids)} tracks; give one for each")
        rows = np.zeros((len(frames), features), np.float32)
        for i, frame in enumerate(frames):
            try:
                row = as_float32("frame", frame)
                if row.shape != (features,):
                    raise ShapeError(f"frame has shape {row.shape}; this model takes [{features}]")
                rows[i] = row
            except TemporalError as error:
                self._refuse(i, error)
        return rows

    # --------------------------------------------------------------------------------------------------------- refusals

    def _refuse(self, row: int, error: TemporalError) -> None:
        self.accepted[row] = False
        self.refused.setdefault(row, error)

    def _refuse_strangers(self) -> None:
        """Tracks that are not open, and all but the first place of one that stands there more than once."""
        rows = np.arange(len(self.ids))
        for i in np.flatnonzero(self.slots < 0).tolist():
            self._refuse(i, TrackError(f"track {self.ids[i]!r:.100} is not open; open() it first"))
        first = np.empty(len(self.pool._rows) + 1, np.int64)  # and a place for -1
        first[self.slots[::-1]] = rows[::-1]
        for i in np.flatnonzero((first[self.slots] != rows) & (self.slots >= 0)).tolist():
            self._refuse(
                i, TrackError(f"track {self.ids[i]!r:.100} stands there twice; push one frame of it at a time")
            )

    def _times_apart(self) -> NDArray[np.float64]:
        """`[N]` seconds since each track's last frame, NaN where there was none; refuses times that cannot be."""
        if self.times is None:
            return np.full(len(self.ids), np.nan)
        last = self._noted("last_time_s")
        with np.errstate(invalid="ignore", over="ignore"):
            apart = self.times - last
            wrong = ~np.isfinite(self.times) | (apart <= 0)
        for i in np.flatnonzero(wrong).tolist():
            if not np.isfinite(self.times[i]):
                self._refuse(i, NonFiniteError(f"times_s[{i}] is {self.times[i]}; expected seconds"))
            else:
                self._refuse(
                    i,
                    TimeOrderError(f"times_s[{i}] is {self.times[i]}; the last frame was at {last[i]}: drop late ones"),
                )
        return apart

    def _noted(self, name: str) -> NDArray[np.float64]:
        """A number of each row's track, NaN where none is open."""
        values = self.pool._rows[name]
        return np.where(self.slots >= 0, values[self.slots] if len(values) else np.nan, np.nan)

    def _why(self, row: int, status: int) -> TemporalError:
        if status == _core.Status.FULL:
            return CacheFullError(
                f"the track holds all of {self.pool.capacity} frames; close it, or use another policy"
            )
        if status == _core.Status.HALF_RANGE:
            return NonFiniteError("the frame gives cached values beyond +-65504 (float16): use float32 caches")
        try:
            require_finite("frame", self.frames[row])
        except NonFiniteError as error:
            return error
        return NonFiniteError("the frame is so large that the model's activations overflow; check its scale")

    # -------------------------------------------------------------------------------------------------------- the run

    def run(self) -> None:
        """Pushes what has not been refused, and notes what became of each row.

        From the first frame on, the pool counts as broken until all is noted: whatever ends this halfway, no later
        call goes on with streams that have seen more than their counters say.

        Raises:
            MemoryLimitError: nothing has been pushed.
        """
        late = np.zeros(len(self.ids), np.bool_)
        if self.pool.gap is not None and self.times is not None:
            late = self.pool.gap.is_gap(self.apart_s) & self.accepted
        on_time = self.accepted & ~late
        slots = self.slots if on_time.all() else np.where(on_time, self.slots, -1)
        self.pool._broken = True
        try:
            status = self._push(slots, self.frames, self.logits, self.embedding)
        except MemoryError:  # which comes before the first frame
            self.pool._broken = False
            raise MemoryLimitError(f"{len(self.ids)} frames do not fit into memory; push fewer at once") from None
        rows = np.flatnonzero(late)
        for begin in range(0, len(rows), _GAPS_AT_A_TIME):
            self._push_late(rows[begin : begin + _GAPS_AT_A_TIME], status)
        for i in np.flatnonzero((status != _OK) & self.accepted).tolist():
            self._refuse(i, self._why(i, int(status[i])))
        self._note()
        self.pool._broken = False

    def _push(self, slots: NDArray[np.int64], frames: Floats, logits: Floats, embedding: Floats) -> NDArray[np.uint8]:
        """The status of each row; 0 of those whose slot is below 0. Ctrl-C has to wait until all is noted."""
        status = np.where(slots < 0, 0, _UNKNOWN).astype(np.uint8)
        push, threads = self.pool._core.push, self.pool.threads
        try:
            push(slots, frames, logits, embedding, status, threads)
        except KeyboardInterrupt:
            if (status == _UNKNOWN).any():
                raise
            self.interrupted = True
        return status

    def _push_late(self, rows: NDArray[np.int64], status: NDArray[np.uint8]) -> None:
        """Frames after a silence, of a few tracks; what ends it early leaves these tracks as they were."""
        slots, core = self.slots[rows].tolist(), self.pool._core
        before: list[bytes] = []
        try:
            before += map(core.save, slots)
            outcomes = self._bridge(rows)
        except BaseException as error:
            for slot, state in zip(slots, before, strict=False):
                core.load(slot, state)
            if not isinstance(error, MemoryError):
                raise
            for row in rows.tolist():
                self._refuse(row, MemoryLimitError("no memory for the track's state while its silence is dealt with"))
            return
        for slot, state, outcome in zip(slots, before, outcomes.tolist(), strict=True):
            if outcome != _OK:
                core.load(slot, state)
        status[rows] = outcomes

    def _bridge(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The status of each of these rows, of frames behind those that are missing, or in streams that start anew."""
        gap, slots = self.pool.gap, self.slots[rows]
        assert gap is not None
        anew, missing = self.apart_s[rows] > gap.longest_s, gap.missing(self.apart_s[rows])
        frames, logits, embedding = self.frames[rows], self.logits[rows], self.embedding[rows]
        for slot in slots[anew].tolist():
            self.pool._core.reset(slot)
        taken = self._fill(rows, missing)
        status = self._push(np.where(taken == _OK, slots, -1), frames, logits, embedding)
        self.logits[rows], self.embedding[rows] = logits, embedding
        self.filled[rows], self.reset[rows] = missing, anew
        return np.where(taken == _OK, status, taken)

    def _fill(self, rows: NDArray[np.int64], missing: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pushes the missing frames of these rows, one of each at a time; the first refusal of each."""
        pool, gap, taken = self.pool, self.pool.gap, np.zeros(len(rows), np.uint8)
        if not missing.any():
            return taken
        assert gap is not None
        before, after = pool._rows["last_frame"][self.slots[rows]], self.frames[rows]
        logits, embedding = self.logits[rows], self.embedding[rows]  # of these, nothing is told
        for number in range(1, int(missing.max()) + 1):
            share = (number / (missing + 1)).astype(np.float32)
            with np.errstate(invalid="ignore", over="ignore"):
                fillers = np.ascontiguousarray(gap.filler(before, after, share))
            slots = np.where((missing >= number) & (taken == _OK), self.slots[rows], -1)
            taken = np.where(taken == _OK, self._push(slots, fillers, logits, embedding), taken)
        return taken

    # -------------------------------------------------------------------------------------------------- what is noted

    def _note(self) -> None:
        """Counters, times and beliefs of all tracks at once: first all that is new, then written row by row."""
        taken, noted = self.accepted, self.pool._rows
        slots, refused = self.slots[taken], np.fromiter(self.refused, np.int64, len(self.refused))
        self.filled[refused], self.reset[refused] = 0, False
        self.logits[refused] = self.embedding[refused] = np.nan
        self.counted = np.nan_to_num(self._noted("frames")).astype(np.int64)
        self.counted[taken] += 1
        new = noted[slots]
        new["frames"] += 1
        new["seen_clock_s"] = time.monotonic()
        new["filled"] += self.filled[taken]
        new["resets"] += self.reset[taken]
        new["seen_time_s"] = np.nan  # where it has no time, idleness begins with the next push that has
        if self.times is not None:
            new["last_time_s"] = new["seen_time_s"] = self.times[taken]
        if new["last_frame"].shape[1]:
            new["last_frame"] = self.frames[taken]
        if self.pool.smoothing is not None and len(slots):
            new["belief"] = self.belief[taken] = self._smoothed(new["belief"])
        known = self.slots[refused]
        known = known[known >= 0]
        noted[slots] = new
        np.add.at(noted["refused"], known, 1)

    def _smoothed(self, belief: NDArray[np.float64]) -> NDArray[np.float64]:
        """Beliefs `[accepted, C]` after this push, of those before it."""
        smoothing, taken = self.pool.smoothing, self.accepted
        assert smoothing is not None
        apart = self.apart_s[taken]
        apart = np.where(np.isnan(apart), self.pool.period_s, apart)
        belief = np.where(self.reset[taken, None], 1 / belief.shape[1], belief)
        return smoothing.update(belief, self.logits[taken], apart)

    def decisions(self, closed: tuple[TrackId, ...]) -> Decisions:
        """The answer."""
        return Decisions(
            track_ids=tuple(self.ids),
            accepted=self.accepted,
            refused=dict(sorted(self.refused.items())),
            logits=self.logits,
            embedding=self.embedding,
            frames=self.counted,
            filled=self.filled,
            reset=self.reset,
            belief=self.belief if self.pool.smoothing is not None else None,
            closed=closed,
            class_labels=self.model.labels,
            source=self.pool.source,
            model_sha256=self.model.sha256,
            trained=self.model.trained,
        )


def as_times(times_s: ArrayLike, count: int) -> NDArray[np.float64]:
    """The times of so many tracks, `[count]`, seconds.

    Raises:
        ConfigError: no numbers.
        ShapeError: another number of them.
    """
    try:
        given = np.asarray(times_s)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"times_s cannot be read as numbers: {error}") from None
    if given.dtype.kind not in "fiu":
        raise ConfigError(f"times_s has dtype {given.dtype}; expected numbers, seconds")
    times = given.astype(np.float64)
    if times.shape != (count,):
        raise ShapeError(f"times_s has shape {times.shape}; expected ({count},), a time for each track")
    return times


def as_ids(track_ids: object) -> list[TrackId]:
    """The tracks of a push as a list, whose names are not looked at; raises ConfigError for what is no sequence."""
    if isinstance(track_ids, np.ndarray) and track_ids.ndim == 1:
        return list(track_ids.tolist())
    if isinstance(track_ids, str | bytes) or not isinstance(track_ids, Iterable):
        raise ConfigError(f"track_ids is {type(track_ids).__name__}; expected a list of tracks")
    return list(track_ids)
