"""What `wdt enroll`, `identify` and `gallery` share: where the gallery is, and a recording's embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import typer
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.read import MAX_FILE_BYTES
from wifi_densepose_temporal.errors import FormatError
from wifi_densepose_temporal.evaluation.identity import embed_windows
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

    embedding: NDArray[np.float32]
    """`[n, E]`, n at least 1."""
    source: Source
    sha256: str
    """Of the file's bytes."""


def embed_recording(model: TemporalModel, path: Path, packets: int, rate_hz: float) -> Embedded:
    """A recording's windows of so many packets, each embedded as if nothing had come before it.

    Raises:
        FileError, FormatError: it cannot be read, or no window holds a measurement.
        ConfigError: it does not fit the model's feature chain.
    """
    capture = read_capture(path, nominal_rate_hz=rate_hz)
    windows = embed_windows(model, capture, packets)
    if not len(windows.embedding):
        raise FormatError(
            f"{path}: unavailable: no whole window of {packets} packets among its {len(capture)} holds a measurement; "
            "give a longer recording or a smaller --window"
        )
    digest = hashlib.sha256(read_whole(path, MAX_FILE_BYTES)).hexdigest()
    return Embedded(windows.embedding, cast(Source, capture.source), digest)
