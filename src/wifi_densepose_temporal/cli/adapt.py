"""`wdt adapt`: a model's classifier refitted to a new place. The work is in adaptation/."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal import adaptation
from wifi_densepose_temporal.cli.evaluate import ModelArgument, watched
from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table
from wifi_densepose_temporal.datasets import open_dataset
from wifi_densepose_temporal.files import read_whole, require_new, write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES


def adapt(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set: its folder, or its manifest.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="ADAPTED.rvne", help="Where the adapted model goes.")],
    split: Annotated[
        str, typer.Option(metavar="SELECTOR", help="Which recordings, such as 'session=D2,person=1|2'.")
    ] = "all",
    as_json: JsonOption = False,
) -> None:
    """Adapt an activity model to a new room, person or day from a few labelled recordings.

    The classifier is refitted in closed form; the network stays. The figures are cross-validated: each recording is
    decided by a refit that has not seen it. Where they speak against the refit, nothing is written.
    """
    path, selected = find_model(model), open_dataset(data).select(split)
    labels = [recording.labels_path for recording in selected if recording.labels_path is not None]
    require_new(out, [path, data, *labels, *(recording.path for recording in selected)])
    blob = read_whole(path, MAX_BLOB_BYTES)
    with watched(len(selected), "reading") as advance:
        adapted = adaptation.adapt(blob, selected, advance=advance)
    write_whole(out, adapted.blob)
    made = TemporalModel.from_bytes(adapted.blob)
    document = {
        "path": str(out),
        "source": "replay",
        "model_sha256": made.sha256,
        "trained": made.trained,
        "split": made.provenance["split"],
        "seeds": made.provenance.get("seeds"),
        "adapted_from": made.provenance["adapted"]["from"],
        "validation": asdict(adapted.validation),
        "classes": adapted.windows,
    }
    if as_json:
        print_json(document)
        return
    print_table([[*pair] for pair in adapted.windows.items()], ("class", "windows"), words=("class",))
    print_line(f"{out}: adapted. {str(adapted.validation).capitalize()}.")
    print_line("Do not evaluate it on these recordings: it has seen them.")
