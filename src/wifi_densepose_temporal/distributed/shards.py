"""A pool of tracks that is spread over processes, on this machine or on a cluster: `StreamPool`, a shard a process.

The driver, whoever holds the `ShardedPool`, routes each track by its id (routing.py) and keeps, for each shard, the
operations that it has acknowledged since its last snapshot on disk. A shard that dies, or does not answer in time, is
killed and started again: from the snapshot, and then by that log, which gives its state bit for bit.

    acknowledged    the call returned and says the frame was accepted: it counts once, whatever dies but the driver
    in flight       the shard was lost before it answered: the frame counts nowhere, its row says `ShardLostError`,
                    and the track stands at its last acknowledged frame; push it again or leave it out
    on disk         what `save`, or `stop`, has returned after: it outlives the driver too

A driver that dies loses what came after each shard's last snapshot. One driver at a time has a folder of snapshots, and
one thread at a time has a driver. Workers on other machines need the folder at the same path.
"""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import Floats, as_float32
from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.distributed.engine import connected_ray
from wifi_densepose_temporal.distributed.manifest import (
    number_of,
    remove_others,
    remove_snapshots,
    shards_in,
    write_shards,
)
from wifi_densepose_temporal.distributed.routing import shard_of
from wifi_densepose_temporal.distributed.shard import MAX_STARTS, WHOLE_SHARD_S, Shard, answers, save_all
from wifi_densepose_temporal.distributed.worker import Operation, Worker
from wifi_densepose_temporal.errors import ConfigError, FileError, ShapeError, ShardLostError, TemporalError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.streams import Counters, Decisions, StreamPool, TrackId
from wifi_densepose_temporal.streams.push import as_ids, as_times
from wifi_densepose_temporal.streams.tracks import as_track_id

DEFAULT_SNAPSHOT_EVERY = 100
DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _Share:
    """The part of a tick that is one shard's."""

    shard: str
    rows: NDArray[np.intp]
    track_ids: list[TrackId]


class ShardedPool:
    """Tracks over several workers; results, order and bits are those of one `StreamPool`.

    Attributes:
        folder: of the snapshots.
    """

    def __init__(
        self,
        model: TemporalModel,
        folder: str | os.PathLike[str],
        *,
        workers: int = 2,
        snapshot_every: int = DEFAULT_SNAPSHOT_EVERY,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        **options: Any,
    ) -> None:
        """Starts the workers; where the folder holds the snapshots of an earlier pool, it goes on from there.

        Args:
            model: of all tracks.
            folder: for the snapshots, one file a shard.
            workers: shards; each is a process.
            snapshot_every: operations (pushes, tracks opened or closed) of a shard after which its next snapshot is
                made. The driver keeps at most twice as many in memory, with their frames.
            timeout_s: seconds after which a shard that has not answered is taken for dead; not of its snapshots.
            options: of each `StreamPool`; `memory_limit` is each shard's.

        Raises:
            MissingExtraError: Ray is not installed.
            ConfigError: an option that cannot be, or the folder holds another number of shards.
            FileError: the folder cannot be made, read or written.
            TemporalError: as `StreamPool.load`, for a snapshot that is damaged, or another model's.
        """
        self._every = as_int("snapshot_every", snapshot_every, least=1)
        self._timeout_s = _seconds(timeout_s)
        workers = as_int("workers", workers, least=1)
        self.folder = _made(Path(folder))
        names = shards_in(self.folder)
        if names and len(names) != workers:
            raise ConfigError(
                f"{self.folder} holds snapshots of {len(names)} shards, and workers is {workers}: start with "
                f"{len(names)}, and then add_worker() or remove_worker(); or give another folder"
            )
        self._model, self._like = model, StreamPool(model, **options)  # which refuses what no pool can be
        if self._like.when_full != "refuse" or self._like.idle_s is not None:
            raise ConfigError(
                f"when_full is {self._like.when_full!r} and idle_s {self._like.idle_s}; a ShardedPool takes 'refuse' "
                "and None: who is idle goes by the clock of a process, which a restart does not repeat; close() tracks"
            )
        self._ray = connected_ray(workers)
        self._actor = self._ray.remote(Worker).options(max_restarts=0, scheduling_strategy="SPREAD")
        self._arguments = (self._ray.put(model), options, _core.instruction_set())
        self._shards: dict[str, Shard] = {}
        self._routed: tuple[tuple[list[TrackId], tuple[str, ...]], list[_Share]] = (([], ()), [])
        self._left: dict[str, list[TrackId]] = {}  # by a move, on shards that they do not belong to
        try:
            if names:
                remove_others(self.folder, names)
            for name in names or [f"shard-{n}" for n in range(workers)]:
                self._shards[name] = self._new_shard(name)
            self._find_copies()
            self._settle()
            self.save()
            if not names:
                write_shards(self.folder, self._shards)
        except BaseException:
            self._kill_all()
            raise

    def _new_shard(self, name: str) -> Shard:
        model, options, instruction_set = self._arguments
        worker = partial(self._actor.remote, model, name, self.folder, options, instruction_set)
        return Shard(self._ray, name, worker, self._every)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"ShardedPool({len(self._shards)} shards, folder={str(self.folder)!r}, model={self._model!r})"

    @property
    def shards(self) -> tuple[str, ...]:
        """Names."""
        return tuple(self._shards)

    def tracks(self) -> dict[str, tuple[TrackId, ...]]:
        """Names of the open tracks, by shard.

        Raises:
            ShardLostError: a shard died before it answered.
        """
        self._settle()
        return {shard.name: _or_raise(held) for shard, held in self._ask(self._shards.values(), "tracks").items()}

    def processes(self) -> dict[str, int]:
        """The number of each shard's process, on its machine; raises as `tracks`."""
        return {shard.name: _or_raise(number) for shard, number in self._ask(self._shards.values(), "process").items()}

    def counters(self, track_id: TrackId) -> Counters:
        """What became of a track so far; raises as `tracks` and `StreamPool.counters`."""
        home = self._home(track_id)
        counters: Counters = _or_raise(self._ask([home], "counters", track_id)[home])
        return counters

    def open(self, track_id: TrackId, time_s: float | None = None) -> None:
        """Opens a track, on the shard that its id belongs to; as `StreamPool.open`.

        Raises:
            ShardLostError: that shard died before it answered; the track is not open.
            TemporalError: as `StreamPool.open`.
        """
        _or_raise(self._apply(self._home(track_id), "open", track_id, time_s))

    def close(self, track_id: TrackId) -> None:
        """Closes a track; raises as `open` and `StreamPool.close`."""
        _or_raise(self._apply(self._home(track_id), "close", track_id))

    def push(
        self,
        track_ids: Sequence[TrackId] | NDArray[np.generic],
        frames: ArrayLike | Sequence[ArrayLike],
        times_s: ArrayLike | None = None,
    ) -> Decisions:
        """One tick: a frame of each of N tracks, shards side by side; arguments and result as `StreamPool.push`.

        Of a shard that was lost, every row is refused with a `ShardLostError`: it was in flight, and is not counted.
        The next call waits until the shard is back.

        Raises:
            ShapeError, DtypeError, ConfigError: as `StreamPool.push`.
            ShardLostError: a shard that was lost earlier cannot be started again.
            FileError: a shard's log is full, and no snapshot of it can be written.
        """
        ids = as_ids(track_ids)
        shares = self._route(ids)
        frames, times = self._as_frames(frames, len(ids)), None if times_s is None else as_times(times_s, len(ids))
        for share in shares:
            self._shards[share.shard].ready()
        operations = {}
        for share in shares:
            # Copies: the log outlives the caller's buffers.
            theirs = [copy.deepcopy(frames[n]) for n in share.rows] if isinstance(frames, list) else frames[share.rows]
            theirs_s = None if times is None else times[share.rows]
            shard = self._shards[share.shard]
            operations[shard] = shard.operation("push", share.track_ids, theirs, theirs_s)
        made = self._apply_all(operations)
        return _merged(self._like, ids, [(share.rows, made[self._shards[share.shard]]) for share in shares])

    def _route(self, ids: list[TrackId]) -> list[_Share]:
        """Each shard's rows; a tick has the tracks of the one before as a rule, and then its routes too."""
        self._refuse_stopped()
        self._settle()
        shards = self.shards
        if (ids, shards) != self._routed[0]:
            rows: dict[str, list[int]] = {}
            for row, track in enumerate(ids):
                # A name that no track can have goes to any shard, which refuses it.
                home = shard_of(track, shards) if isinstance(track, int | str | np.integer) else shards[0]
                rows.setdefault(home, []).append(row)
            shares = [_Share(name, np.array(at, np.intp), [ids[row] for row in at]) for name, at in rows.items()]
            self._routed = ((ids, shards), shares)
        return self._routed[1]

    def _as_frames(self, frames: ArrayLike | Sequence[ArrayLike], count: int) -> Floats | list[ArrayLike]:
        if isinstance(frames, list | tuple):
            if len(frames) != count:
                raise ShapeError(f"{len(frames)} frames for {count} tracks; give one for each")
            return list(frames)  # each is checked alone, by its shard
        rows = as_float32("frames", frames)
        if rows.shape != (count, self._model.input_dim):
            raise ShapeError(f"frames has shape {rows.shape}; expected {(count, self._model.input_dim)}, a row a track")
        return rows

    def save(self) -> None:
        """Writes a snapshot of every shard; when it returns, all that was acknowledged is on disk.

        Raises:
            FileError: a snapshot cannot be written; that shard's former one is as it was.
            ShardLostError: a shard dies each time it is tried; its former snapshot is as it was.
        """
        self._save(self._shards.values())

    def stop(self) -> None:
        """Saves, and ends the workers. Raises as `save`, after they have ended."""
        try:
            if self._shards:
                self.save()
        finally:
            self._kill_all()

    # ------------------------------------------------------------------------------------------- more and fewer workers

    def add_worker(self) -> str:
        """Starts one more shard and moves its share of the tracks to it, about one in n, each with its state.

        Returns:
            Its name.

        Raises:
            TemporalError: a shard was lost, or a snapshot cannot be written. If the name is in `shards`, the tracks
                have moved, and the next call closes what is left of them where they were; if not, all are where they
                were.
        """
        self._refuse_stopped()
        tracks = self.tracks()
        name = f"shard-{1 + max(number_of(name) for name in self._shards)}"
        remove_snapshots(self.folder, name)  # of one that had this name, and could not be removed then
        new, shards = self._new_shard(name), (*self._shards, name)
        try:
            leaving = {old: [track for track in tracks[old] if shard_of(track, shards) == name] for old in tracks}
            for old, share in leaving.items():
                self._copy(self._shards[old], new, share)
            self._save([new])
            write_shards(self.folder, shards)
            self._left, self._shards[name] = {old: share for old, share in leaving.items() if share}, new
        except BaseException:
            self._take_back()
            self._discard(new)
            raise
        self._settle()
        return name

    def remove_worker(self, name: str) -> None:
        """Moves a shard's tracks to the others, each with its state, and ends it.

        Raises:
            ConfigError: no shard of that name, or it is the only one.
            TemporalError: a shard was lost, or a snapshot cannot be written; all tracks are where they were, and the
                next call closes the copies that were made.
        """
        if name not in self._shards or len(self._shards) == 1:
            raise ConfigError(f"cannot remove {name!r} of {', '.join(self._shards)}; one has to stay")
        leaving, tracks = self._shards[name], self.tracks()[name]
        rest = [shard for shard in self._shards.values() if shard is not leaving]
        names = tuple(shard.name for shard in rest)
        share = {shard: [track for track in tracks if shard_of(track, names) == shard.name] for shard in rest}
        self._left = {shard.name: theirs for shard, theirs in share.items() if theirs}
        try:
            for shard in rest:
                self._copy(leaving, shard, share[shard])
            self._save(rest)
            write_shards(self.folder, names)
        except BaseException:
            self._take_back()
            raise
        self._left = {}
        del self._shards[name]
        self._discard(leaving)

    def _take_back(self) -> None:
        """The list of shards as it was, should it have been replaced by a call that was interrupted."""
        with contextlib.suppress(FileError):  # then it could not be replaced before either
            write_shards(self.folder, self._shards)

    def _copy(self, old: Shard, new: Shard, tracks: Sequence[TrackId]) -> None:
        if tracks:
            states = _or_raise(self._ask([old], "export_tracks", tracks, within_s=WHOLE_SHARD_S)[old])
            _or_raise(self._apply(new, "import_tracks", states, within_s=WHOLE_SHARD_S))

    def _settle(self) -> None:
        """Closes what a move has left behind; a call that fails over it leaves it to the next one."""
        if not self._left:
            return
        for name, tracks in self._left.items():
            for _ in range(MAX_STARTS):
                answer = self._apply(self._shards[name], "close_all", tracks, within_s=WHOLE_SHARD_S)
                if not isinstance(answer, ShardLostError):
                    break
            _or_raise(answer)
        self._save([self._shards[name] for name in self._left])  # or a restart of everything would find them again
        self._left = {}

    def _find_copies(self) -> None:
        """Finds what a move was interrupted over by the end of its driver."""
        tracks = self.tracks()
        for name, held in tracks.items():
            away = [track for track in held if shard_of(track, self.shards) != name]
            missing = [track for track in away if track not in tracks[shard_of(track, self.shards)]]
            if missing:
                raise FileError(
                    f"{self.folder} holds {len(missing)} tracks on {name} that belong elsewhere, such as "
                    f"{missing[0]!r}: its snapshots are of different pools; give the folder of one"
                )
            if away:
                self._left[name] = away

    def _discard(self, shard: Shard) -> None:
        """Ends a shard that is none of this pool any more, and its snapshots."""
        shard.kill()
        remove_others(self.folder, self._shards)

    # ------------------------------------------------------------------------------------------------ talking to shards

    def _home(self, track: TrackId) -> Shard:
        self._refuse_stopped()
        self._settle()
        return self._shards[shard_of(as_track_id(track), self.shards)]

    def _refuse_stopped(self) -> None:
        if not self._shards:
            raise ConfigError("this pool was stopped; make another one, with the same folder, to go on")

    def _apply(self, shard: Shard, method: str, *arguments: Any, within_s: float | None = None) -> Any:
        shard.ready()
        return self._apply_all({shard: shard.operation(method, *arguments)}, within_s)[shard]

    def _apply_all(self, operations: dict[Shard, Operation], within_s: float | None = None) -> dict[Shard, Any]:
        """Each shard's result or error, and what was answered in its log; what was not answered is nowhere."""
        asked = {shard: partial(shard.ask, "apply", operation) for shard, operation in operations.items()}
        try:
            made = answers(self._ray, asked, within_s or self._timeout_s)
            for shard, answer in made.items():
                if not isinstance(answer, ShardLostError):
                    shard.acknowledge(operations[shard])
        except BaseException:  # such as Ctrl-C: what was not acknowledged by now has to count nowhere
            for shard, operation in operations.items():
                if not shard.counts(operation):
                    shard.interrupted()
            raise
        return made

    def _ask(
        self, shards: Iterable[Shard], method: str, *arguments: Any, within_s: float | None = None
    ) -> dict[Shard, Any]:
        """Each shard's answer to something that changes nothing."""
        shards = list(shards)
        for shard in shards:
            shard.ready()
        asks = {shard: partial(shard.ask, method, *arguments) for shard in shards}
        return answers(self._ray, asks, within_s or self._timeout_s)

    def _save(self, shards: Iterable[Shard]) -> None:
        """Again, if a shard is lost over it: its log brings it back."""
        shards = list(shards)
        for left in reversed(range(MAX_STARTS)):
            for shard in shards:
                shard.ready()
            try:
                return save_all(self._ray, shards)
            except ShardLostError:
                if not left:
                    raise

    def _kill_all(self) -> None:
        for shard in self._shards.values():
            shard.kill()
        self._shards = {}


# -------------------------------------------------------------------------------------------- arguments and results


def _or_raise(answer: Any) -> Any:
    if isinstance(answer, TemporalError):
        raise answer
    return answer


def _seconds(timeout_s: float) -> float:
    if not (isinstance(timeout_s, int | float) and math.isfinite(timeout_s) and timeout_s > 0):
        raise ConfigError(f"timeout_s is {timeout_s!r}; expected a number of seconds above 0")
    return float(timeout_s)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror}; check the one above it") from None


def _merged(
    like: StreamPool, track_ids: Sequence[TrackId], parts: list[tuple[NDArray[np.intp], Decisions | TemporalError]]
) -> Decisions:
    """The shards' rows in the order of `track_ids`; those of a shard that was lost are refused with its error."""
    n, model, made = len(track_ids), like.model, [part for _, part in parts if isinstance(part, Decisions)]
    arrays: dict[str, NDArray[Any]] = {
        "accepted": np.zeros(n, np.bool_),
        "logits": np.full((n, model.header.n_classes), np.nan, np.float32),
        "embedding": np.full((n, model.embedding_dim), np.nan, np.float32),
        "frames": np.zeros(n, np.int64),
        "filled": np.zeros(n, np.int64),
        "reset": np.zeros(n, np.bool_),
    }
    if like.smoothing is not None:
        arrays["belief"] = np.full((n, model.header.n_classes), np.nan)
    refused: dict[int, TemporalError] = {}
    for at, part in parts:
        if isinstance(part, TemporalError):
            refused.update(dict.fromkeys(at.tolist(), part))
            continue
        for name, array in arrays.items():
            array[at] = getattr(part, name)
        refused.update({int(at[row]): error for row, error in part.refused.items()})
    return Decisions(
        track_ids=tuple(track_ids),
        refused=dict(sorted(refused.items())),
        closed=tuple(track for part in made for track in part.closed),
        class_labels=model.labels,
        source=like.source,
        model_sha256=model.sha256,
        trained=model.trained,
        accepted=arrays["accepted"],
        logits=arrays["logits"],
        embedding=arrays["embedding"],
        frames=arrays["frames"],
        filled=arrays["filled"],
        reset=arrays["reset"],
        belief=arrays.get("belief"),
    )
