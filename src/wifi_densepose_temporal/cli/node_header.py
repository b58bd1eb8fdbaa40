"""`wdt node header`: a blob as a C array."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument
from wifi_densepose_temporal.cli.output import print_line
from wifi_densepose_temporal.files import read_whole, require_new, write_whole
from wifi_densepose_temporal.models import find_model
from wifi_densepose_temporal.node import c_header
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES


def node_header(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="MODEL.h", help="Where the header goes.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the array, a C identifier.")] = "wdt_model",
) -> None:
    """Write a model as a C array, for a firmware without a partition for it."""
    path = find_model(model)
    require_new(out, [path])
    text = c_header(read_whole(path, MAX_BLOB_BYTES), name)
    write_whole(out, text.encode())
    print_line(f"{out}: {name}, {path.stat().st_size} bytes")
