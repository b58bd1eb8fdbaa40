"""What the changes of a gallery do inside their transaction, and what is read of one person.

Each takes the connection and the meta row that is locked; beginning, committing and trying again is database.py's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import (
    ConfigError,
    DuplicatePersonError,
    GalleryDamagedError,
    UnknownPersonError,
)
from wifi_densepose_temporal.reid import tables
from wifi_densepose_temporal.reid.results import Calibration, Person
from wifi_densepose_temporal.reid.tables import Meta
from wifi_densepose_temporal.reid.transfer import Exported

#: Vectors that updates may have added to a person; a further one takes the place of the oldest.
MAX_UPDATED = 16


class EmbeddingModel(Protocol):
    """What a gallery needs to know of the model whose embeddings it holds; a `TemporalModel` is one."""

    @property
    def sha256(self) -> str:
        """Digest of the blob."""

    @property
    def embedding_dim(self) -> int:
        """E."""

    @property
    def trained(self) -> bool | None:
        """Whether the blob says that it was trained."""


def enrol(
    connection: sa.Connection,
    meta: Meta,
    name: str,
    rows: Floats,
    source: str,
    recordings: Sequence[str | None],
    add: bool,
) -> int:
    """Stores enrolled vectors, each of its recording; how many embeddings the person then has."""
    key = key_of(connection, name)
    if key is not None and not add:
        raise DuplicatePersonError(f"{name!r} is enrolled already; add to them (if_exists='add') or forget them")
    there = 0 if key is None else count(connection, key)
    if there + len(rows) > tables.MAX_PERSON_VECTORS:
        raise ConfigError(f"{there} and {len(rows)} embeddings; a person has at most {tables.MAX_PERSON_VECTORS}")
    key = key or new_person(connection, name)
    connection.execute(sa.insert(tables.embeddings), tables.new_rows(meta, key, rows, "enrolled", source, recordings))
    changed(connection, meta, "enrol", key, embeddings=len(rows), source=source)
    return there + len(rows)


def update(connection: sa.Connection, meta: Meta, key: str, row: Floats, source: str, recording: str | None) -> None:
    """Stores an updated vector `[1, E]`."""
    connection.execute(sa.insert(tables.embeddings), tables.new_rows(meta, key, row, "updated", source, [recording]))
    trim_updated(connection, meta, key)
    changed(connection, meta, "update", key, source=source)


def calibrate(connection: sa.Connection, meta: Meta, made: Calibration) -> None:
    """Stores a threshold with its statement."""
    connection.execute(sa.update(tables.meta).values(calibration=json.dumps(asdict(made))))
    changed(connection, meta, "calibrate", None, method=made.method, probes=made.probes)


def forget(connection: sa.Connection, meta: Meta, name: str) -> int:
    """Deletes a person and notes that their bytes are to be scrubbed; how many embeddings they had."""
    key = require_key(connection, name)
    mine = sa.delete(tables.embeddings).where(tables.embeddings.c.person_key == key)
    deleted = connection.execute(mine).rowcount
    connection.execute(sa.delete(tables.persons).where(tables.persons.c.key == key))
    to_be_scrubbed(connection, meta)
    connection.execute(sa.delete(tables.audit).where(tables.audit.c.person_key == key))
    changed(connection, meta, "forget", key, embeddings=deleted)
    return deleted


def merge(connection: sa.Connection, meta: Meta, name: str, into: str) -> int:
    """Moves a person's embeddings to another one; how many that one then has."""
    key, target = require_key(connection, name), require_key(connection, into)
    rows = rows_of(connection, key)
    tables.checked_vectors(meta, rows)
    if len(rows) + count(connection, target) > tables.MAX_PERSON_VECTORS:
        raise ConfigError(f"a person has at most {tables.MAX_PERSON_VECTORS} embeddings; forget one of the two")
    moved = sa.update(tables.embeddings).where(tables.embeddings.c.id == sa.bindparam("which"))
    values = [
        {
            "which": row.id,
            "person_key": target,
            "checksum": tables.checksum(meta.checksum_key, {**row._mapping, "person_key": target}),
            "revision": meta.revision + 1,
        }
        for row in rows
    ]
    connection.execute(moved, values)
    trim_updated(connection, meta, target)
    connection.execute(sa.delete(tables.persons).where(tables.persons.c.key == key))
    to_be_scrubbed(connection, meta)
    connection.execute(sa.delete(tables.audit).where(tables.audit.c.person_key == key))
    changed(connection, meta, "merge", key, into=target, embeddings=len(rows))
    return count(connection, target)


def take_in(connection: sa.Connection, meta: Meta, content: Exported) -> int:
    """Stores all persons of an export; how many embeddings they have."""
    there = set(connection.scalars(sa.select(tables.persons.c.name)))
    both = there & set(content.persons)
    if both:
        raise DuplicatePersonError(f"persons who are enrolled already: {len(both)}, such as {min(both)!r}; forget them")
    at = 0
    for name, said in content.persons.items():
        key = new_person(connection, name)
        rows = [
            tables.new_rows(meta, key, vector[None], kind, source, [recording], when)[0]
            for vector, (kind, source, recording, when) in zip(content.vectors[at : at + len(said)], said, strict=True)
        ]
        connection.execute(sa.insert(tables.embeddings), rows)
        at += len(rows)
    if not there and content.calibration is not None:
        connection.execute(sa.update(tables.meta).values(calibration=json.dumps(asdict(content.calibration))))
    changed(connection, meta, "import", None, persons=len(content.persons), embeddings=at)
    return at


# ------------------------------------------------------------------------------------------------------------- reading


def exported(connection: sa.Connection, meta: Meta) -> Exported:
    """All persons."""
    rows = connection.execute(tables.EMBEDDINGS.order_by(tables.persons.c.name, tables.embeddings.c.id)).all()
    persons: dict[str, Any] = {}
    vectors = tables.checked_vectors(meta, rows)
    for row in rows:
        persons.setdefault(row.name, []).append((row.kind, row.source, row.recording, row.at))
    return Exported(meta.model_sha256, meta.embedding_dim, meta.trained, meta.calibration, persons, vectors)


def show(connection: sa.Connection, meta: Meta, name: str) -> Person:
    """One person, with prototype and spread."""
    key = require_key(connection, name)
    person = tables.checked_person(
        connection.execute(sa.select(tables.persons).where(tables.persons.c.key == key)).one()
    )
    rows = rows_of(connection, key)
    if not rows:
        raise GalleryDamagedError(f"{name!r} has no embeddings; forget them, or restore the gallery")
    prototype, spread = prototype_of(tables.checked_vectors(meta, rows))
    return Person(
        person=name,
        key=key,
        since=person.since,
        enrolled=sum(row.kind == "enrolled" for row in rows),
        updated=sum(row.kind == "updated" for row in rows),
        sources=tuple(sorted({row.source for row in rows})),
        recordings=tuple(sorted({row.recording for row in rows if row.recording})),
        prototype=prototype,
        spread=spread,
    )


def prototype_of(vectors: Floats) -> tuple[Floats, float]:
    """The normalised mean of unit vectors `[n, E]` and their mean cosine distance to it; zeros and 1 if they cancel."""
    mean = vectors.astype(np.float64).mean(axis=0)
    length = np.linalg.norm(mean)
    if length < 1e-6:
        return np.zeros(vectors.shape[1], np.float32), 1.0
    prototype = mean / length
    return prototype.astype(np.float32), float(1 - (vectors @ prototype).mean())


# --------------------------------------------------------------------------------------------------------------- parts


def first_meta(connection: sa.Connection, model: EmbeddingModel) -> None:
    """The row of a new gallery."""
    if not tables.is_sha256(model.sha256) or not 1 <= model.embedding_dim <= tables.MAX_DIM:
        raise ConfigError(f"model has sha256 {model.sha256!r} and {model.embedding_dim} numbers an embedding")
    first = {
        "one": 1,
        "schema_version": tables.SCHEMA_VERSION,
        "model_sha256": model.sha256,
        "embedding_dim": model.embedding_dim,
        "trained": None if model.trained is None else int(model.trained),
        "checksum_key": secrets.token_bytes(32),
        "revision": 1,
        "tokens": secrets.token_hex(8),
        "unscrubbed": 0,
    }
    connection.execute(sa.insert(tables.meta), first)


def key_of(connection: sa.Connection, name: str) -> str | None:
    """The key of the person of that name; None where there is none."""
    key = connection.scalar(sa.select(tables.persons.c.key).where(tables.persons.c.name == name))
    return None if key is None else str(key)


def require_key(connection: sa.Connection, name: str) -> str:
    """As `key_of`, and UnknownPersonError where there is none."""
    key = key_of(connection, name)
    if key is None:
        raise UnknownPersonError(f"the gallery holds nobody named {name!r}; `list` has the names")
    return key


def new_person(connection: sa.Connection, name: str) -> str:
    """Makes a person; their random key."""
    key = secrets.token_hex(16)
    connection.execute(sa.insert(tables.persons), {"key": key, "name": name, "since": tables.now()})
    return key


def count(connection: sa.Connection, key: str) -> int:
    """How many embeddings a person has."""
    rows = tables.embeddings
    return connection.scalar(sa.select(sa.func.count()).select_from(rows).where(rows.c.person_key == key)) or 0


def trim_updated(connection: sa.Connection, meta: Meta, key: str) -> None:
    """Deletes the oldest updated vectors of a person beyond `MAX_UPDATED`; their bytes go at the next scrub."""
    rows = tables.embeddings
    mine = sa.select(rows.c.id).where(rows.c.person_key == key, rows.c.kind == "updated").order_by(rows.c.id.desc())
    old = connection.scalars(mine.offset(MAX_UPDATED)).all()
    if old:
        connection.execute(sa.delete(rows).where(rows.c.id.in_(old)))
        to_be_scrubbed(connection, meta)


def to_be_scrubbed(connection: sa.Connection, meta: Meta) -> None:
    """Notes that this change leaves bytes in the files."""
    connection.execute(sa.update(tables.meta).values(unscrubbed=meta.revision + 1))


def changed(connection: sa.Connection, meta: Meta, action: str, key: str | None, **detail: object) -> None:
    """Ends every change: the next revision, and an entry of the audit log, which names nobody."""
    connection.execute(sa.update(tables.meta).values(revision=meta.revision + 1, tokens=meta.next_tokens()))
    entry = {"at": tables.now(), "action": action, "person_key": key, "detail": json.dumps(detail)}
    connection.execute(sa.insert(tables.audit), entry)


def rows_of(connection: sa.Connection, key: str) -> Any:
    """A person's embeddings, as `EMBEDDINGS` gives them."""
    return connection.execute(tables.EMBEDDINGS.where(tables.embeddings.c.person_key == key)).all()
