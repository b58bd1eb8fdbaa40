"""`wdt init-random-blob`: the reference blob as a file. It is random and untrained by construction."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal import rvne
from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line
from wifi_densepose_temporal.errors import FileError
from wifi_densepose_temporal.files import write_whole


def init_random_blob(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where to write it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the untrained reference blob.

    AETHER-shaped random weights, the same bytes everywhere. Its labels mean nothing.
    """
    if path.exists() and path.stat().st_size and not force:  # an empty file holds nothing to lose
        raise FileError(f"{path} is there already; give another path, or --force to replace it")
    blob = rvne.init_random_blob()
    write_whole(path, blob)
    sha256 = hashlib.sha256(blob).hexdigest()
    if as_json:
        print_json(
            {"source": "synthetic", "path": str(path), "bytes": len(blob), "model_sha256": sha256, "trained": False}
        )
        return
    print_line(f"{path}: {len(blob)} bytes, sha256 {sha256}")
    print_line("UNTRAINED: random weights; a model of them has labels that mean nothing.", style="yellow")
