"""Models by name: those that ship in the package, and a path for every other one."""

from __future__ import annotations

import os
from pathlib import Path

from wifi_densepose_temporal.errors import FileError
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES

SHIPPED = Path(__file__).parent / "data" / "models"
SUFFIX = ".rvne"

#: What `wdt run` and `wdt demo` decide with.
DEFAULT_MODEL = "activity"


def shipped_models() -> dict[str, Path]:
    """The blobs in the package by name, such as `activity` for data/models/activity.rvne; empty where none ships."""
    return {path.stem: path for path in sorted(SHIPPED.glob(f"*{SUFFIX}"))}


def find_model(name: str | os.PathLike[str]) -> Path:
    """The file of a model.

    Args:
        name: of a shipped model, or a path. A file that has a shipped model's name is meant by `./name`.

    Raises:
        FileError: neither; the message lists what ships.
    """
    shipped = shipped_models()
    if os.fspath(name) in shipped:
        return shipped[os.fspath(name)]
    path = Path(name)
    try:
        there = path.is_file()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        there = False
    if there:
        return path
    listed = f"the package ships {', '.join(shipped)}" if shipped else "this release ships no model"
    raise FileError(
        f"there is no model {os.fspath(name)!r}: {listed}; give one of these names or the path of a .rvne file"
    )


def read_blob(name: str | os.PathLike[str]) -> bytes:
    """The bytes of the model of that name or at that path, unchecked.

    Raises:
        FileError: as `find_model`, or the file cannot be read.
    """
    return read_whole(find_model(name), MAX_BLOB_BYTES)


def load_model(name: str | os.PathLike[str]) -> TemporalModel:
    """The model of that name or at that path.

    Raises:
        FileError, BlobError: as `find_model` and `TemporalModel.load`.
    """
    return TemporalModel.load(find_model(name))
