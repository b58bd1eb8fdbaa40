"""Ctrl-C as a wish that is granted between two ticks, and not as an exception in the middle of one."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_SLEEP_S = 0.1


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """While it lasts, Ctrl-C makes the call that it gives answer True; a second Ctrl-C interrupts at once."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def sleep_until(due: float, stopped: Callable[[], bool]) -> None:
    """Sleeps until `time.monotonic()` is `due`, or until Ctrl-C: a sleep goes on behind a signal that is handled."""
    while (left := due - time.monotonic()) > 0 and not stopped():
        time.sleep(min(left, LONGEST_SLEEP_S))
