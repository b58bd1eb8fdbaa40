"""`wdt run`: a recording through a model, as a timeline of decisions. The logic is in timeline.py and plot.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.output import (
    CaptureArgument,
    FormatOption,
    JsonOption,
    RateOption,
    note,
    print_json,
    print_line,
    print_table,
)
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.models import DEFAULT_MODEL, load_model
from wifi_densepose_temporal.plot import plot_replay
from wifi_densepose_temporal.timeline import Replay, Row, replay

COLUMNS = ("time s", "frame", "label", "true label", "confidence", "embedding change", "held")


def run(
    capture: CaptureArgument,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="A .rvne file, or the name of a shipped model.")
    ] = DEFAULT_MODEL,
    capture_format: FormatOption = None,
    rate: RateOption = DEFAULT_RATE_HZ,
    every: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Show every Nth frame and the last; by default about 20 rows."),
    ] = None,
    as_json: JsonOption = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="OUT.png", help="Draw amplitude, motion, probabilities and decisions.")
    ] = None,
) -> None:
    """Show what a model decides over a recording.

    A timeline of labels, how sure the model is of each, and how much its embedding changes. A model knows the rooms and
    people that it was trained on: the output says which, and whether it was trained at all.
    """
    replayed = replay(read_capture(capture, capture_format, nominal_rate_hz=rate), load_model(model))
    rows = replayed.rows(every)
    if not as_json:  # before the picture, so that one that cannot be written costs no decision
        print_timeline(replayed, rows, capture.name)
    if plot is not None:
        plot_replay(replayed, capture.name, plot)
    if as_json:
        for text in replayed.notes:
            note(text)
        print_json(as_document(replayed, rows, capture.name) | {"picture": None if plot is None else str(plot)})
    elif plot is not None:
        print_line(f"picture: {plot}")


def as_document(replayed: Replay, rows: list[Row], name: str) -> dict[str, object]:
    """The JSON document of a replay."""
    capture, prediction = replayed.capture, replayed.prediction
    return {
        "source": prediction.source,
        "model_sha256": prediction.model_sha256,
        "trained": prediction.trained,
        "note": " ".join(replayed.notes),
        "warnings": replayed.model.warnings,
        "capture": {
            "file": name,
            "format": capture.format,
            "frames": len(capture),
            "rate_hz": capture.rate_hz,
            "antennas": capture.amplitude.shape[1],
            "subcarriers": capture.amplitude.shape[2],
            "dropped_lines": capture.dropped_lines,
            "clock": capture.clock,
        },
        "features": dataclasses.asdict(replayed.config) | {"frames": len(replayed.frames.values)},
        "labels": replayed.model.labels,
        "timeline": [dataclasses.asdict(row) for row in rows],
    }


def print_timeline(replayed: Replay, rows: list[Row], name: str) -> None:
    """The timeline for people, with what a reader must know before believing it."""
    capture, sha256 = replayed.capture, replayed.prediction.model_sha256
    rate = "unknown rate" if capture.rate_hz is None else f"{capture.rate_hz:.1f} Hz, {capture.clock} clock"
    print_line(f"{name}: {capture.format}, {len(capture)} packets, {rate}", style="bold")
    print_line(f"source {replayed.prediction.source}, model {sha256[:12]}, {len(replayed.frames.values)} frames")
    hidden = {"true label"} if replayed.true_labels is None else set()
    cells = [[value for name, value in _cells(row).items() if name not in hidden] for row in rows]
    print_table(cells, [name for name in COLUMNS if name not in hidden], words=("label", "true label", "held"))
    for text in replayed.notes:
        print_line(text, style="" if replayed.prediction.trained else "yellow")


def _cells(row: Row) -> dict[str, object]:
    change = None if row.embedding_change is None else f"{row.embedding_change:.1e}"
    values = (f"{row.time_s:.2f}", row.frame, row.label, row.true_label, f"{row.confidence:.3f}", change, row.held)
    return dict(zip(COLUMNS, values, strict=True))
