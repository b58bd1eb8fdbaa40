"""The driver's side of one shard: its process, the log of what it has acknowledged, its snapshots, its next life.

A shard has one operation in flight at most. Operations are numbered, and a number is used again only after the process
that may have seen it was killed. A snapshot is asked for between operations, with the number of the last one that was
acknowledged; a process works in the order in which it is asked, and writes none that would hold another number.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wifi_densepose_temporal.distributed.worker import Operation
from wifi_densepose_temporal.errors import FileError, ShardLostError, TemporalError

logger = logging.getLogger(__name__)

#: For what reads or writes a whole shard: its start, with imports, snapshot and log, and a snapshot.
WHOLE_SHARD_S = 300.0

#: A shard that dies so often while it is started is given up by the call.
MAX_STARTS = 3


class Shard:
    """One shard, as the driver sees it."""

    def __init__(self, ray: Any, name: str, worker: Callable[[], Any], snapshot_every: int) -> None:
        """Starts it.

        Args:
            ray: the module, connected.
            name: of the shard, and of its snapshots.
            worker: starts a process, a Ray actor of `Worker`.
            snapshot_every: operations between snapshots.
        """
        self.name = name
        self._ray, self._worker, self._every = ray, worker, snapshot_every
        self._log: deque[Operation] = deque()
        self._acknowledged: int | None = None  # the last operation's number; a snapshot may hold some from before
        self._saving: Any = None
        self._actor = worker()
        self._runs = False
        self._starting: Any = self.ask("start", ())

    def ready(self) -> None:
        """Waits until it runs and has room in its log.

        Raises:
            ShardLostError: it died `MAX_STARTS` times while it was being started; the next call tries again.
            FileError: its snapshots are gone, or its log is full and no snapshot can be written.
            TemporalError: as `StreamPool.load`.
        """
        if not self._runs:
            self._await_start()
        if self._saving is not None:  # which is not to be taken for a shard that hangs
            self._ray.wait([self._saving], timeout=WHOLE_SHARD_S)
        if len(self._log) >= 2 * self._every:
            save_all(self._ray, [self])

    def _await_start(self) -> None:
        answer: Any = None
        for _ in range(MAX_STARTS):
            if self._starting is None:  # it could not the last time: a disk that was not there, as it may be now
                self._starting = self.ask("start", tuple(self._log))
            answer = answers(self._ray, {self: lambda: self._starting}, WHOLE_SHARD_S)[self]
            if not isinstance(answer, ShardLostError):
                break
        else:
            raise answer
        self._starting = None
        if isinstance(answer, TemporalError):
            raise answer
        if self._acknowledged is not None and answer != self._acknowledged:
            raise FileError(
                f"{self.name} starts again at operation {answer} and has acknowledged {self._acknowledged}: its "
                "snapshots were deleted or exchanged while it ran; put them back, or start anew in another folder"
            )
        self._acknowledged, self._runs = answer, True

    def ask(self, method: str, *arguments: Any) -> Any:
        """A reference to what the process will answer; nothing is changed there."""
        return getattr(self._actor, method).remote(*arguments)

    def operation(self, method: str, *arguments: Any) -> Operation:
        """The next operation."""
        assert self._acknowledged is not None, "ready() comes first"
        return Operation(self._acknowledged + 1, method, arguments)

    def acknowledge(self, operation: Operation) -> None:
        """Keeps an operation that was answered; asks for a snapshot when it is time, which the next one waits for."""
        self._log.append(operation)
        self._acknowledged = operation.number  # from here on it counts
        if self._saving is not None and self._ray.wait([self._saving], timeout=0)[0]:
            self._collect_snapshot()
        if self._saving is None and len(self._log) >= self._every:
            self._saving = self.ask_snapshot()

    def counts(self, operation: Operation) -> bool:
        """Whether an operation was acknowledged."""
        return self._acknowledged is not None and operation.number <= self._acknowledged

    def ask_snapshot(self) -> Any:
        """A reference to the number in a snapshot; the process refuses, and is lost, if it holds more than counts."""
        return self.ask("snapshot", self._acknowledged)

    def _collect_snapshot(self) -> None:
        asked, self._saving = self._saving, None
        try:
            self.saved(self._ray.get(asked))
        except self._ray.exceptions.RayError:
            pass  # it died; the next operation finds out
        except TemporalError as error:
            logger.warning("%s: %s; its log has %d operations", self.name, error, len(self._log))

    def saved(self, answer: int | TemporalError) -> None:
        """Forgets the operations that are on disk."""
        if isinstance(answer, TemporalError):
            raise answer
        while self._log and self._log[0].number <= answer:
            self._log.popleft()

    def answer(self, asked: Any) -> Any:
        """What the process has answered; if it died or failed instead, a `ShardLostError`, and it is started again."""
        try:
            return self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            return self.lost(str(error).strip().splitlines()[0 if not hasattr(error, "cause") else -1])

    def interrupted(self) -> None:
        """Starts it anew after a call that did not end, such as by Ctrl-C: what it has applied is not known."""
        if self._runs:
            self.lost("the call was interrupted")

    def lost(self, why: str) -> ShardLostError:
        """Kills the process, so that it can count nothing any more, and starts the next one, without waiting for it."""
        self.kill()
        while self._log and not self.counts(self._log[-1]):  # an interruption came between its log and its number
            self._log.pop()
        self._actor, self._saving, self._runs = self._worker(), None, False
        self._starting = self.ask("start", tuple(self._log))
        logger.warning("%s was lost (%s) and is started again; %d operations to apply", self.name, why, len(self._log))
        return ShardLostError(
            self.name,
            f"{self.name} was lost ({why}); what was in flight is not counted: its tracks go on from their last "
            "acknowledged frames; push what was in flight again, or leave it out",
        )

    def kill(self) -> None:
        """Ends the process."""
        self._ray.kill(self._actor)


def answers(ray: Any, asks: Mapping[Shard, Callable[[], Any]], timeout_s: float) -> dict[Shard, Any]:
    """Asks shards, and waits for all of them together; gives a `ShardLostError` for one that dies or is late.

    Args:
        ray: the module.
        asks: what asks a shard, and gives the reference to its answer.
        timeout_s: seconds that they have.
    """
    if not asks:
        return {}
    try:
        asked = {shard: ask() for shard, ask in asks.items()}
        late = set(ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout_s)[1])
        return {
            shard: shard.lost(f"no answer in {timeout_s:g} s") if reference in late else shard.answer(reference)
            for shard, reference in asked.items()
        }
    except BaseException:  # such as Ctrl-C: which of them have applied what was asked is not known
        for shard in asks:
            shard.interrupted()
        raise


def save_all(ray: Any, shards: Iterable[Shard]) -> None:
    """Writes a snapshot of each, side by side.

    Raises:
        ShardLostError, FileError: of the first that has none; the others have theirs.
    """
    shards = list(shards)
    failed = []
    asks = {shard: shard.ask_snapshot for shard in shards}
    for shard, answer in answers(ray, asks, WHOLE_SHARD_S).items():
        try:
            shard.saved(answer)
        except TemporalError as error:
            failed.append(error)
    if failed:
        raise failed[0]
