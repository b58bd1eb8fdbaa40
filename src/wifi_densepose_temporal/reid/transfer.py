"""A gallery as one file, to keep or to move.

Little endian:

    8 bytes    "WDTGALRY"
    4 bytes    version, 1
    4 bytes    length of the JSON
    JSON       model, persons, and for each embedding whose it is, its kind, source, recording and time
    vectors    float32 [n, E], in the order of the JSON
    32 bytes   SHA-256 of everything before

The audit log is not in it, nor the random keys: in another gallery a person gets another key.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO, get_args

import numpy as np

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import GalleryDamagedError, TemporalError
from wifi_densepose_temporal.files import read_whole, write_in_parts
from wifi_densepose_temporal.model import Source
from wifi_densepose_temporal.reid.results import Calibration, Kind
from wifi_densepose_temporal.reid.tables import (
    MAX_DIM,
    MAX_PERSON_VECTORS,
    as_vectors,
    is_name,
    is_sha256,
    is_time,
    read_calibration,
)

MAGIC, VERSION = b"WDTGALRY", 1
MAX_EXPORT_BYTES = 4 << 30
MAX_JSON_BYTES = 1 << 28
_START = struct.Struct("<8sII")


@dataclass(frozen=True, eq=False)
class Exported:
    """What an export holds."""

    model_sha256: str
    embedding_dim: int
    trained: bool | None
    calibration: Calibration | None
    persons: dict[str, list[tuple[Kind, Source, str | None, str]]]
    """By name: kind, source, recording and time of each embedding."""
    vectors: Floats
    """`[n, E]`, in the order of `persons`."""


def write_export(path: str | os.PathLike[str], content: Exported) -> None:
    """Writes the file, for its owner only, whole or not at all.

    Raises:
        FileError: it cannot be written.
    """
    said = {
        "model_sha256": content.model_sha256,
        "embedding_dim": content.embedding_dim,
        "trained": content.trained,
        "calibration": None if content.calibration is None else vars(content.calibration),
        "persons": content.persons,
    }
    text = json.dumps(said, ensure_ascii=False).encode()
    parts = (_START.pack(MAGIC, VERSION, len(text)), text, content.vectors.astype("<f4").tobytes())

    def write(file: BinaryIO) -> None:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
            file.write(part)
        file.write(digest.digest())

    write_in_parts(path, write)


def read_export(path: str | os.PathLike[str]) -> Exported:
    """The content of an export, every value checked.

    Raises:
        FileError: the file cannot be read.
        GalleryDamagedError: it is no export, or not as it was written.
    """
    content = read_whole(path, MAX_EXPORT_BYTES)
    if len(content) < _START.size + 32 or content[:8] != MAGIC:
        raise GalleryDamagedError(f"{path!s} is no export of a gallery; give a file that `export` wrote")
    body, digest = content[:-32], content[-32:]
    _, version, length = _START.unpack_from(body)
    if version != VERSION:
        raise GalleryDamagedError(f"{path!s} has version {version}; this release reads {VERSION}")
    if hashlib.sha256(body).digest() != digest:
        raise GalleryDamagedError(f"{path!s} does not match its checksum: it was cut off or changed; export again")
    try:
        if length > min(MAX_JSON_BYTES, len(body) - _START.size):
            raise ValueError("its JSON is longer than the file")
        said = json.loads(body[_START.size : _START.size + length])
        return _checked(said, body[_START.size + length :])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, TemporalError) as error:
        raise GalleryDamagedError(f"{path!s} is no export of a gallery: {error}") from None


def _checked(said: dict[str, Any], raw: bytes) -> Exported:
    dim, trained = said["embedding_dim"], said["trained"]
    if type(dim) is not int or not 1 <= dim <= MAX_DIM or not is_sha256(said["model_sha256"]):
        raise ValueError("a model that cannot be")
    if trained is not None and type(trained) is not bool:
        raise ValueError("trained is neither true, false nor null")
    persons = {name: _checked_rows(name, rows) for name, rows in said["persons"].items()}
    count = sum(map(len, persons.values()))
    if len(raw) != 4 * dim * count:
        raise ValueError(f"{len(raw)} bytes of vectors for {count} embeddings of {dim} numbers")
    vectors = np.frombuffer(raw, "<f4").astype(np.float32).reshape(count, dim)
    at = 0
    for number, rows in enumerate(persons.values()):
        as_vectors(f"person {number}", vectors[at : at + len(rows)], dim)
        at += len(rows)
    calibration = None if said["calibration"] is None else read_calibration(said["calibration"])
    return Exported(said["model_sha256"], dim, trained, calibration, persons, vectors)


def _checked_rows(name: object, rows: list[list[Any]]) -> list[tuple[Kind, Source, str | None, str]]:
    if not is_name(name):
        raise ValueError("a person's name that cannot be")
    if type(rows) is not list or not 1 <= len(rows) <= MAX_PERSON_VECTORS:
        raise ValueError(f"a person without embeddings, or with more than {MAX_PERSON_VECTORS}")
    out: list[tuple[Kind, Source, str | None, str]] = []
    for kind, source, recording, at in rows:
        known = kind in get_args(Kind) and source in get_args(Source)
        if not known or not (recording is None or is_sha256(recording)) or not is_time(at):
            raise ValueError("an embedding with values that cannot be")
        out.append((kind, source, recording, at))
    if not any(row[0] == "enrolled" for row in out):
        raise ValueError("a person without an enrolled embedding")
    return out
