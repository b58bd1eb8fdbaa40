"""`wdt node header`: a blob as a C array."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument
from wifi_densepose_temporal.cli.output import print_line
from wifi_densepose_temporal.files import require_new, write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model, read_blob
from wifi_densepose_temporal.node import c_header
from wifi_densepose_temporal.node.header import DEFAULT_NAME
from wifi_densepose_temporal.timeline import training_note


def node_header(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL.h", help="Where the header goes.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the array, a C identifier.")] = DEFAULT_NAME,
) -> None:
    """Write a model as a C array, for a firmware without a partition for it."""
    path = find_model(model)
    require_new(out, [path])
    blob = read_blob(model)
    write_whole(out, c_header(blob, name).encode())
    loaded = TemporalModel.from_bytes(blob)
    print_line(f"{out}: {name}, {len(blob)} bytes")
    print_line(training_note(loaded), style="" if loaded.trained else "yellow")
