"""`wdt pool replay`: recordings as live tracks of one pool. Whose frame comes when is streams/traffic.py's."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from wifi_densepose_temporal.cli.interrupts import interruptible, sleep_until
from wifi_densepose_temporal.cli.output import JsonOption, RateOption, cell, note, print_json, print_line, print_table
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import DEFAULT_MODEL, load_model
from wifi_densepose_temporal.streams import Decisions, StreamPool
from wifi_densepose_temporal.streams.traffic import Tick, Traffic, traffic_of

logger = logging.getLogger(__name__)

DEFAULT_SNAPSHOT = Path("wdt-pool.snapshot")
ROWS = 20  # of the live table
REDRAW_S = 0.1
COLUMNS = ("track", "time s", "frames", "label", "probability", "raw label", "refused", "filled", "resets")


@dataclass
class Shown:
    """The newest decision of each track."""

    newest: dict[str, tuple[Decisions, int, float]] = field(default_factory=dict)
    """By track: the tick's decisions, which of them, and the frame's time, seconds."""

    def take(self, decisions: Decisions, tick: Tick) -> None:
        """Brings the tracks of a tick up to date."""
        for number, name in enumerate(tick.track_ids):
            if decisions.accepted[number]:
                self.newest[name] = (decisions, number, float(tick.times_s[number]))

    def rows(self, pool: StreamPool, most: int | None = None) -> list[dict[str, object]]:
        """A row a track."""
        return [self._row(pool, name) for name in islice(self.newest, most)]

    def _row(self, pool: StreamPool, name: str) -> dict[str, object]:
        decisions, number, time_s = self.newest[name]
        counters = pool.counters(name)
        assert decisions.belief is not None, "the pool smooths"
        assert decisions.smoothed_labels is not None
        return {
            "track": name,
            "time_s": round(time_s, 3),
            "frames": counters.frames,
            "label": str(decisions.smoothed_labels[number]),
            "probability": round(float(decisions.belief[number].max()), 3),
            "raw_label": str(decisions.labels[number]),
            "refused": counters.refused,
            "filled": counters.filled,
            "resets": counters.resets,
        }


def pool_replay(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="CSI recordings in any known format.")],
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A .rvne file, or the name of a shipped model.")
    ] = DEFAULT_MODEL,
    speed: Annotated[
        float, typer.Option(metavar="X", help="So many times faster than they were recorded; 0: without waiting.")
    ] = 1.0,
    tracks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many tracks; by default one a recording, else recordings repeat."),
    ] = None,
    snapshot: Annotated[Path, typer.Option(metavar="PATH", help="Where Ctrl-C saves the pool.")] = DEFAULT_SNAPSHOT,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from that snapshot.")] = False,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Play many recordings as live tracks through one pool, with a live table of decisions.

    Each frame comes at its time in its recording. Ctrl-C saves the pool, and the same command with --resume goes on
    from there, bit for bit.
    """
    if speed < 0:
        raise ConfigError(f"--speed is {speed:g}; expected 0 (without waiting) or more")
    loaded = load_model(model)
    recordings = {path.name: read_capture(path, nominal_rate_hz=rate) for path in captures}
    if len(recordings) < len(captures):
        raise ConfigError("two recordings have one file name, which is to name their track; rename one")
    traffic = traffic_of(recordings, loaded, tracks)
    pool = _resumed(snapshot, loaded, traffic) if resume else StreamPool(loaded, source=traffic.source)
    if not resume:
        for name in traffic.track_ids:
            pool.open(name)
    shown, ticks, interrupted = _play(pool, traffic, speed, live=not as_json)
    if interrupted:
        pool.save(snapshot)
    document = {
        "source": traffic.source,
        "model_sha256": loaded.sha256,
        "trained": loaded.trained,
        "note": " ".join(traffic.notes),
        "ticks": ticks,
        "interrupted": interrupted,
        "snapshot": str(snapshot) if interrupted else None,
        "tracks": shown.rows(pool),
    }
    _say(document, traffic.notes, as_json)
    if interrupted:
        raise KeyboardInterrupt


def _resumed(snapshot: Path, model: TemporalModel, traffic: Traffic) -> StreamPool:
    pool = StreamPool.load(snapshot, model)
    if pool.source != traffic.source or pool.smoothing is None or any(name not in pool for name in traffic.track_ids):
        raise ConfigError(
            f"{snapshot} is of other tracks, of source {pool.source}, or of a pool without smoothing; --resume goes on "
            "with what the same command saved"
        )
    return pool


def _play(pool: StreamPool, traffic: Traffic, speed: float, live: bool) -> tuple[Shown, int, bool]:
    """Pushes tick after tick; the newest decisions, how many ticks there were, and whether Ctrl-C ended them."""
    shown, ticks = Shown(), 0
    last = [pool.counters(name).last_time_s for name in traffic.track_ids]
    after_s = np.array([-np.inf if at is None else at for at in last])
    start_s = max(0.0, float(after_s.max()))
    begin = time.monotonic()
    with interruptible() as stopped, _table(live) as show:
        logger.info("%d tracks at once, for %.1f s", len(traffic.track_ids), traffic.duration_s)
        for tick in traffic.ticks(after_s):
            if speed:
                sleep_until(begin + (tick.time_s - start_s) / speed, stopped)
            if stopped():
                return shown, ticks, True
            shown.take(pool.push(tick.track_ids, tick.frames, tick.times_s), tick)
            ticks += 1
            show(lambda: _drawn(shown.rows(pool, ROWS), traffic))
    return shown, ticks, False


@contextmanager
def _table(live: bool) -> Iterator[Callable[[Callable[[], Table]], None]]:
    """A table on the terminal, where there is one, that the call it gives draws anew some times a second."""
    console, due = Console(), 0.0

    def show(draw: Callable[[], Table]) -> None:
        nonlocal due
        if time.monotonic() >= due:
            view.update(draw(), refresh=True)
            due = time.monotonic() + REDRAW_S

    if not (live and console.is_terminal):
        yield lambda draw: None
        return
    with Live(console=console, transient=True, auto_refresh=False) as view:
        yield show


def _drawn(rows: list[dict[str, object]], traffic: Traffic) -> Table:
    more = len(traffic.track_ids) - len(rows)
    table = Table(title=f"source {traffic.source}", caption=f"and {more} tracks more" if more else None)
    for name in COLUMNS:
        table.add_column(name)
    for row in rows:
        table.add_row(*map(cell, row.values()))
    return table


def _say(document: dict[str, Any], notes: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        for text in notes:
            note(text)
        print_json(document)
        return
    print_table([row.values() for row in document["tracks"]], COLUMNS, words=("track", "label", "raw label"))
    for text in notes:
        print_line(text, style="" if document["trained"] else "yellow")
    if document["interrupted"]:
        print_line(f"saved in {document['snapshot']}: --resume goes on from there")
