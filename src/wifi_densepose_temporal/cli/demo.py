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
from wifi_densepose_temporal.datasets.labelled import read_labels
from wifi_densepose_temporal.errors import FileError, MissingExtraError, TemporalError
from wifi_densepose_temporal.models import DEFAULT_MODEL, load_model
from wifi_densepose_temporal.plot import plot_replay
from wifi_densepose_temporal.timeline import Replay, replay

RECORDING, LABELS = "esp32_stability_D2_e01_rx_tx-x.npy", "esp32_stability_D2_e01_rx_tx-y.npy"
ATTRIBUTION = (
    "One person between two chairs, ESP32-S2 at 100 Hz: Matey-Sanz, Torres-Sospedra and Moreira, IPIN 2023, "
    "doi 10.5281/zenodo.7991716, ODC-By 1.0."
)
DEFAULT_PICTURE = Path("wdt-demo.png")


def demo(
    out: Annotated[
        Path | None, typer.Option(metavar="PICTURE.png", help=f"Where the picture goes; by default {DEFAULT_PICTURE}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replay a real recording and draw it.

    The recording comes with the package, and so does the model: it was trained on other recordings of the same room and
    person, made ten minutes before. True labels stand beside the decided ones.
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
    shipped = [resources.files("wifi_densepose_temporal") / "data" / name for name in (RECORDING, LABELS)]
    if not all(file.is_file() for file in shipped):
        raise FileError(f"the package's recording {RECORDING} is missing; install the package again")
    with resources.as_file(shipped[0]) as recording, resources.as_file(shipped[1]) as labels:
        return replay(read_capture(recording), load_model(DEFAULT_MODEL), read_labels(labels))


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
