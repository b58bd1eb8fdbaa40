"""`wdt demo`: what `wdt run` does, on the recording that is shipped in the package, with a picture."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.output import JsonOption, note, print_json, print_line
from wifi_densepose_temporal.cli.run import as_document, print_timeline
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.errors import FileError, MissingExtraError, TemporalError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.plot import plot_replay
from wifi_densepose_temporal.rvne import init_random_blob
from wifi_densepose_temporal.timeline import Replay, replay

RECORDING = "demo_esp32.csv"
ATTRIBUTION = "A sample recording of the ESP32 CSI Tool, from the CSIKit project (Gi-z/CSIKit), MIT licence."
DEFAULT_PICTURE = Path("wdt-demo.png")


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="PICTURE.png", help=f"Where the picture goes; by default {DEFAULT_PICTURE}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a real recording and draw it.

    The recording comes with the package. The model is the untrained reference blob: this shows that everything works,
    not that it recognises anything.
    """
    replayed = _replay_recording()
    picture, missing = _draw(replayed, out)
    if missing is not None:
        replayed = dataclasses.replace(replayed, notes=(*replayed.notes, f"No picture: {missing}"))
    rows = replayed.rows()
    if as_json:
        for text in replayed.notes:
            note(text)
        shown = None if picture is None else str(picture)
        print_json(as_document(replayed, rows, RECORDING) | {"attribution": ATTRIBUTION, "picture": shown})
        return
    print_line(ATTRIBUTION)
    print_timeline(replayed, rows, RECORDING)
    if picture is not None:
        print_line(f"picture: {picture}")


def _replay_recording() -> Replay:
    model = TemporalModel.from_bytes(init_random_blob())
    shipped = resources.files("wifi_densepose_temporal") / "data" / RECORDING
    if not shipped.is_file():
        raise FileError(f"the package's recording {RECORDING} is missing; install the package again")
    with resources.as_file(shipped) as path:
        return replay(read_capture(path), model)


def _draw(replayed: Replay, out: Path | None) -> tuple[Path | None, TemporalError | None]:
    """The picture's path. Only the picture that nobody asked for may be left out, and the output then says why."""
    picture = DEFAULT_PICTURE if out is None else out
    try:
        plot_replay(replayed, RECORDING, picture)
    except (MissingExtraError, FileError) as error:
        if out is not None:
            raise
        return None, error
    return picture, None
