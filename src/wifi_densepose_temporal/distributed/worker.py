"""A shard's process: one StreamPool, and the numbers of the operations that it holds. Ray's only in who calls it.

Operations (`open`, `push`, ...) are numbered from 1 on, per shard, by the driver; each is applied once, in this order.
A snapshot's file name holds the number of the last operation in it, so that a restart knows what to apply again.
Errors of ours come back as values: what Ray makes of one that is raised hides its class.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.distributed.manifest import snapshots_in
from wifi_densepose_temporal.errors import ConfigError, FileError, TemporalError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.streams import Counters, StreamPool, TrackId

#: What has to be as it was; `threads` changes no bit.
_SETTINGS = (
    "capacity",
    "policy",
    "landmark_blocks",
    "cache_dtype",
    "source",
    "memory_limit",
    "when_full",
    "idle_s",
    "gap",
    "smoothing",
)


@dataclass(frozen=True)
class Operation:
    """A change of one shard's pool: `method` of StreamPool, or `close_all`, with these arguments."""

    number: int
    method: str
    arguments: tuple[Any, ...]


class Worker:
    """One shard."""

    def __init__(
        self, model: TemporalModel, name: str, folder: Path, options: dict[str, Any], instruction_set: str
    ) -> None:
        self.model, self.name, self.folder = model, name, folder
        self.options, self.instruction_set = options, instruction_set
        self.pool: StreamPool
        self.applied = 0

    def start(self, log: Sequence[Operation]) -> int | TemporalError:
        """Takes the newest snapshot, if there is one, and applies what came after it; gives the last number applied."""
        self.applied = 0  # again, if it was asked before and could not
        try:
            if not _core.use_instruction_set(self.instruction_set):
                raise ConfigError(
                    f"{self.name} runs on a machine without {self.instruction_set} kernels, which the driver uses: its "
                    "results would have other bits; set WDT_INSTRUCTION_SET to what all machines have"
                )
            self.pool = StreamPool(self.model, **self.options)
            for left in self.folder.glob(f".{self.name}.*.part"):
                left.unlink(missing_ok=True)  # by a former life, which was killed while it wrote
            self._take_snapshot()
        except TemporalError as error:
            return error
        for operation in log:
            if operation.number > self.applied:
                self.apply(operation)
        return self.applied

    def _take_snapshot(self) -> None:
        while found := snapshots_in(self.folder).get(self.name):
            number, path = max(found)
            try:
                loaded = StreamPool.load(path, self.model)
            except FileError:
                if path.exists():
                    raise
                continue  # a former life has just written a newer one, and deleted this
            self.pool, self.applied = _same_settings(loaded, self.pool, path), number
            return

    def apply(self, operation: Operation) -> Any:
        """Applies the next operation; gives its result, or its error: a pool that refuses is as it was.

        Raises:
            RuntimeError: it is not the next one, so that something was lost or would count twice.
        """
        if operation.number != self.applied + 1:
            raise RuntimeError(f"operation {operation.number} for {self.name}, which has applied {self.applied}")
        try:
            method = self.close_all if operation.method == "close_all" else getattr(self.pool, operation.method)
            return method(*operation.arguments)
        except TemporalError as error:
            return error
        finally:
            self.applied += 1

    def close_all(self, track_ids: Sequence[TrackId]) -> None:
        """Closes tracks that another shard has taken over, as far as they are open here."""
        for track in track_ids:
            if track in self.pool:
                self.pool.close(track)

    def snapshot(self, acknowledged: int) -> int | TemporalError:
        """Writes the pool, whole or not at all, and then deletes older ones; gives the last number in it.

        Raises:
            RuntimeError: an operation is in the pool that the driver has not acknowledged; nothing was written.
        """
        if self.applied != acknowledged:
            raise RuntimeError(f"{self.name} has applied {self.applied} operations, and {acknowledged} count")
        path = self.folder / f"{self.name}.{self.applied}.snapshot"
        try:
            self.pool.save(path)
            for number, older in snapshots_in(self.folder).get(self.name, ()):
                if number < self.applied:
                    older.unlink(missing_ok=True)
        except OSError as error:
            return error if isinstance(error, TemporalError) else FileError(f"{self.folder}: {error.strerror}")
        except TemporalError as error:
            return error
        return self.applied

    def tracks(self) -> tuple[TrackId, ...]:
        """Names of the open tracks."""
        return self.pool.tracks()

    def counters(self, track_id: TrackId) -> Counters | TemporalError:
        """As `StreamPool.counters`."""
        try:
            return self.pool.counters(track_id)
        except TemporalError as error:
            return error

    def export_tracks(self, track_ids: Sequence[TrackId]) -> bytes | TemporalError:
        """The tracks' states; they stay open here."""
        try:
            return self.pool.export_tracks(track_ids)
        except TemporalError as error:
            return error

    def process(self) -> int:
        """Its number, for whoever watches memory, or kills it in a test."""
        return os.getpid()


def _same_settings(loaded: StreamPool, asked: StreamPool, path: Path) -> StreamPool:
    """The pool of a snapshot, if it is what was asked for.

    Raises:
        ConfigError: it was made with another setting.
    """
    for name in _SETTINGS:
        was, wanted = getattr(loaded, name), getattr(asked, name)
        if was != wanted:
            raise ConfigError(
                f"{path} is of a pool with {name}={was!r}, and {wanted!r} is asked for; give {was!r}, or another folder"
            )
    loaded.threads = asked.threads
    return loaded
