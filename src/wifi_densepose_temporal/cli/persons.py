"""What `wdt enroll`, `identify` and `gallery` share: where the gallery is, and a recording's embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from numpy.typing import NDArray

from wifi_densepose_temporal.cli.evaluate import watched
from wifi_densepose_temporal.csi.read import MAX_FILE_BYTES
from wifi_densepose_temporal.embeddings import embed_capture
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.model import Source, TemporalModel

DEFAULT_GALLERY = "persons.gallery"
DEFAULT_REID_MODEL = "reid"

GalleryOption = Annotated[
    str,
    typer.Option(
        "--gallery", metavar="GALLERY", envvar="WDT_GALLERY", help="A SQLite file, or postgresql://user@host/database."
    ),
]
ReidModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="A .rvne file, or the name of a shipped model.")
]
WindowOption = Annotated[int, typer.Option("--window", min=1, metavar="N", help="Packets of a window.")]


@dataclass(frozen=True, eq=False)
class Embedded:
    """The windows of one recording."""

    path: Path
    embedding: NDArray[np.float32]
    """`[n, E]`, n at least 1."""
    source: Source
    sha256: str
    """Of the file's bytes."""


def embed_recording(model: TemporalModel, path: Path, packets: int, rate_hz: float) -> Embedded:
    """A recording's windows of so many packets, each embedded as if nothing had come before it.

    Raises:
        FileError, FormatError, MemoryLimitError, ConfigError: as `embed_capture`.
    """
    made = embed_capture(model, path, packets, rate_hz)
    digest = hashlib.sha256(read_whole(path, MAX_FILE_BYTES)).hexdigest()
    return Embedded(path, made.windows.embedding, cast(Source, made.source), digest)


def embed_different(model: TemporalModel, paths: Sequence[Path], packets: int, rate_hz: float) -> list[Embedded]:
    """All of some recordings, with a progress bar.

    Raises:
        ConfigError: two of them are the same recording.
        FileError, FormatError, MemoryLimitError, ConfigError: as `embed_recording`.
    """
    made: dict[str, Embedded] = {}
    with watched(len(paths), "embedding") as advance:
        for path in paths:
            one = embed_recording(model, path, packets, rate_hz)
            if one.sha256 in made:
                raise ConfigError(f"{path} and {made[one.sha256].path} are the same recording; give it once")
            made[one.sha256] = one
            advance()
    return list(made.values())


def counted(count: int, what: str) -> str:
    """Such as `1 person` and `2 persons`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
