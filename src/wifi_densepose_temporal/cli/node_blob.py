"""`wdt node blob`: a model's file, to be flashed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument
from wifi_densepose_temporal.cli.output import print_line
from wifi_densepose_temporal.files import require_new, write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model, read_blob
from wifi_densepose_temporal.timeline import training_note


def node_blob(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL.rvne", help="Where the blob goes.")],
) -> None:
    """Write a model's blob, checked, to a file: of a shipped model, or a copy of a path's.

    Says what menuconfig has to be set to.
    """
    path = find_model(model)
    require_new(out, [path])
    content = read_blob(model)
    loaded = TemporalModel.from_bytes(content)
    write_whole(out, content)
    print_line(
        f"{out}: {len(content)} bytes, TEMPORAL_INPUT_DIM {loaded.input_dim}, "
        f"TEMPORAL_N_CLASSES {loaded.header.n_classes}"
    )
    print_line(training_note(loaded), style="" if loaded.trained else "yellow")
