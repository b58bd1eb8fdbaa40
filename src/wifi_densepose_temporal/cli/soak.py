"""`wdt soak`: a pool of tracks under load. The work is in streams/soak.py."""

from __future__ import annotations

import logging
from functools import partial
from importlib import resources
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from wifi_densepose_temporal.cli.demo import RECORDING
from wifi_densepose_temporal.cli.interrupts import interruptible
from wifi_densepose_temporal.cli.output import JsonOption, print_facts, print_json, print_line
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import DEFAULT_MODEL, load_model
from wifi_densepose_temporal.streams import StreamPool
from wifi_densepose_temporal.streams.soak import Soak, percentile_ms, soak
from wifi_densepose_temporal.timeline import feature_config, some_frames

logger = logging.getLogger(__name__)


def soak_command(
    tracks: Annotated[int, typer.Option(min=1, metavar="N", help="Tracks at once.")] = 1000,
    minutes: Annotated[float, typer.Option(metavar="M", help="How long.")] = 10.0,
    rate: Annotated[float, typer.Option("--rate", metavar="HZ", help="Frames a second and track.")] = 100.0,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A .rvne file, or the name of a shipped model.")
    ] = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Run a pool of many tracks under load and show ticks, memory, refusals and drops.

    The frames are those of the recording in the package, over and over: what is measured is the pool, not the model.
    p50, p99 and max are of the push of a tick; late p99 is from when a tick was due to when it was done. A tick that is
    due when the next one is too is dropped with its frames. Memory growth is from the warm-up (a fifth of the run at
    least, and until caches are full) to the end. Ctrl-C ends it with the figures so far.
    """
    loaded = load_model(model)
    recording = resources.files("wifi_densepose_temporal") / "data" / RECORDING
    with resources.as_file(recording) as path:
        frames = some_frames(read_capture(path), feature_config(loaded)[0]).values
    pool = StreamPool(loaded, source="replay")
    with _progress() as progress, interruptible() as stopped:
        logger.info("%d tracks at once, for %g minutes", tracks, minutes)
        task = progress.add_task(f"{tracks} tracks", total=60 * minutes)
        shown = partial(progress.update, task)
        result = soak(pool, frames, tracks, rate, minutes, lambda seconds: shown(completed=seconds), stopped)
    document = as_document(result, loaded, pool)
    if as_json:
        print_json(document)
        return
    print_facts(document)
    print_line("A replay of one recording on every track: these figures are the pool's, its decisions mean nothing.")


def as_document(result: Soak, model: TemporalModel, pool: StreamPool) -> dict[str, object]:
    """The JSON document of a soak."""
    ticks = len(result.tick_s)
    return {
        "source": pool.source,
        "model_sha256": model.sha256,
        "trained": model.trained,
        "tracks": result.tracks,
        "rate_hz": result.rate_hz,
        "seconds": round(result.seconds, 3),
        "ticks": ticks,
        "p50_ms": percentile_ms(result.tick_s, 50),
        "p99_ms": percentile_ms(result.tick_s, 99),
        "max_ms": percentile_ms(result.tick_s, 100),
        "late_p99_ms": percentile_ms(result.late_s, 99),
        "us_per_track": 1e6 * float(result.tick_s.mean()) / result.tracks if ticks else None,
        "memory_bytes": result.end_bytes,
        "memory_growth_percent": result.memory_growth_percent,
        "warm_up_s": result.warm_up_s,
        "refused": result.refused,
        "dropped": result.dropped,
    }


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
