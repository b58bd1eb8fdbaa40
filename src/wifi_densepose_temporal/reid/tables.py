"""The gallery's tables, and the checks that each of their rows passes before it is believed.

    meta        one row: the model, the threshold, counters
    persons     the caller's name and the random key that stands for it everywhere else
    embeddings  vectors, each with a checksum keyed for this gallery over the vector and whose it is
    audit       what was done, by key

The checksum finds damage, and rows moved between persons or galleries. Its key lies in the same database: whoever can
write there can forge it.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

import numpy as np
import sqlalchemy as sa

from wifi_densepose_temporal.arrays import Floats, as_float32, require_finite
from wifi_densepose_temporal.errors import ConfigError, GalleryDamagedError, ShapeError
from wifi_densepose_temporal.model import Source
from wifi_densepose_temporal.reid.results import Calibration, Kind

SCHEMA_VERSION = 1
MAX_NAME = 200  # characters of a person's name
MAX_DIM = 4096
MAX_PERSON_VECTORS = 10_000
MAX_VECTORS = 10_000_000
MAX_MATRIX_BYTES = 16 << 30

#: How far a unit vector's length may be from 1: float32 rounding, with room.
UNIT_TOLERANCE = 1e-4

metadata = sa.MetaData()
meta = sa.Table(
    "gallery_meta",
    metadata,
    sa.Column("one", sa.Integer, sa.CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("model_sha256", sa.Text, nullable=False),
    sa.Column("embedding_dim", sa.Integer, nullable=False),
    sa.Column("trained", sa.Integer),  # 1, 0, or NULL where the model says nothing
    sa.Column("checksum_key", sa.LargeBinary, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),  # grows with every change
    sa.Column("tokens", sa.Text, nullable=False),  # a random one for each of the newest revisions, the newest first
    sa.Column("unscrubbed", sa.BigInteger, nullable=False),  # revision of the last deletion not yet scrubbed, or 0
    sa.Column("calibration", sa.Text),  # JSON
)
persons = sa.Table(
    "gallery_persons",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("since", sa.Text, nullable=False),
)
_serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
embeddings = sa.Table(
    "gallery_embeddings",
    metadata,
    sa.Column("id", _serial, primary_key=True, autoincrement=True),
    sa.Column("person_key", sa.Text, sa.ForeignKey(persons.c.key), nullable=False, index=True),
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),  # of the row's last change
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("recording", sa.Text),  # SHA-256 of the recording
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),  # float32, little endian
    sa.Column("checksum", sa.LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # an id is never given twice
)
audit = sa.Table(
    "gallery_audit",
    metadata,
    sa.Column("sequence", _serial, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("person_key", sa.Text),  # no foreign key: it stays when the person is forgotten
    sa.Column("detail", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)

#: An embedding with its person's name, NULL where there is no such person.
EMBEDDINGS = sa.select(*embeddings.c, persons.c.name).select_from(
    embeddings.outerjoin(persons, embeddings.c.person_key == persons.c.key)
)
_SHA256, _KEY = re.compile("[0-9a-f]{64}"), re.compile("[0-9a-f]{32}")
_TIME = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")

#: Revisions that have a token, and a token's hex digits. Who has seen an older one reads the whole gallery again.
TOKENS, _TOKEN_DIGITS = 64, 16
_TOKENS = re.compile(f"([0-9a-f]{{{_TOKEN_DIGITS}}}){{1,{TOKENS}}}")

#: What the audit log may say was done; "update refused" is of older galleries.
ACTIONS = ("enrol", "update", "calibrate", "forget", "merge", "import", "export", "update refused")
_MAX_DETAIL = 1000


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# ------------------------------------------------------------------------------------------------ the caller's values


def as_name(person: object) -> str:
    """A person's name as it may be stored.

    Raises:
        ConfigError: no text, empty, too long, or with characters that cannot be shown.
    """
    if not is_name(person):
        shown = f"{person[:40]!r} ({len(person)} characters)" if isinstance(person, str) else type(person).__name__
        raise ConfigError(
            f"person is {shown}; expected 1 to {MAX_NAME} printable characters without space at either end"
        )
    return str(person)


def is_name(value: object) -> bool:
    """Whether this can be a person's name."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable() and value == value.strip()


def as_source(source: object) -> Source:
    """Raises ConfigError for a source that is none of the words."""
    if not isinstance(source, str) or source not in get_args(Source):
        raise ConfigError(f"source is {source!r}; expected one of {', '.join(get_args(Source))}")
    return source  # type: ignore[return-value]


def as_recording(recording: object) -> str | None:
    """Raises ConfigError for a recording that is no SHA-256."""
    if recording is not None and not is_sha256(recording):
        raise ConfigError(f"recording is {recording!r}; expected the SHA-256 of its file in 64 lower-case hex digits")
    return recording  # type: ignore[return-value]


def as_recordings(recording: object, count: int) -> list[str | None]:
    """One recording for all of so many vectors, or one for each, as a list.

    Raises:
        ConfigError: one that is no SHA-256.
        ShapeError: another number of them.
    """
    if not isinstance(recording, list | tuple):
        return [as_recording(recording)] * count
    if len(recording) != count:
        raise ShapeError(f"{len(recording)} recordings for {count} embeddings; give one for all, or one for each")
    return [as_recording(one) for one in recording]


def is_time(value: object) -> bool:
    """Whether this is a time as `now` gives it."""
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def is_sha256(value: object) -> bool:
    """Whether this is a SHA-256 in lower-case hex digits."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def as_embeddings(name: str, value: object, dim: int) -> Floats:
    """Embeddings `[n, dim]` of unit length, rows of zeros ("no direction") included; one `[dim]` becomes `[1, dim]`.

    Raises:
        ShapeError, DtypeError, NonFiniteError: no such array.
        ConfigError: a row of another length.
    """
    rows = as_float32(name, value)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise ShapeError(f"{name} has shape {rows.shape}; expected [n, {dim}], the gallery's embedding size")
    require_finite(name, rows)
    length = np.linalg.norm(rows.astype(np.float64), axis=1)
    wrong = (np.abs(length - 1) > UNIT_TOLERANCE) & (length != 0)
    if wrong.any():
        at = int(wrong.argmax())
        raise ConfigError(f"{name}[{at}] has length {length[at]:.6g}; expected unit vectors, as a model gives them")
    return rows


def as_vectors(name: str, value: object, dim: int) -> Floats:
    """Embeddings to be stored, `[n, dim]` with n from 1 to `MAX_PERSON_VECTORS`, none of them zeros.

    Raises:
        ShapeError, DtypeError, NonFiniteError, ConfigError: as `as_embeddings`.
    """
    rows = as_embeddings(name, value, dim)
    if not 1 <= len(rows) <= MAX_PERSON_VECTORS:
        raise ShapeError(f"{name} has {len(rows)} rows; expected 1 to {MAX_PERSON_VECTORS}")
    zeros = ~rows.any(axis=1)
    if zeros.any():
        raise ConfigError(f"{name}[{int(zeros.argmax())}] is all zeros: it has no direction; leave it out")
    return rows


# ----------------------------------------------------------------------------------------------- the database's values


@dataclass(frozen=True)
class Meta:
    """The row of `meta`, checked."""

    model_sha256: str
    embedding_dim: int
    trained: bool | None
    checksum_key: bytes
    revision: int
    tokens: str
    unscrubbed: int
    calibration: Calibration | None

    def token_of(self, revision: int) -> str | None:
        """The random token of a revision; None where it is too old, or was never reached.

        A gallery restored from a backup comes to the same revisions again, with other tokens.
        """
        at = (self.revision - revision) * _TOKEN_DIGITS
        return self.tokens[at : at + _TOKEN_DIGITS] or None if at >= 0 else None

    def next_tokens(self) -> str:
        """The tokens as the next revision has them."""
        return (secrets.token_hex(_TOKEN_DIGITS // 2) + self.tokens)[: TOKENS * _TOKEN_DIGITS]


def read_meta(connection: sa.Connection, *, lock: bool = False) -> Meta:
    """The gallery's meta row; with `lock` no other writer gets past this until the transaction ends.

    Raises:
        GalleryDamagedError: there is none, or one that cannot be.
    """
    query = sa.select(meta).limit(2)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    if len(rows) != 1:
        raise GalleryDamagedError(f"the gallery has {len(rows)} meta rows, expected one: it is damaged or none of ours")
    row = rows[0]
    if row.schema_version != SCHEMA_VERSION:
        raise GalleryDamagedError(
            f"the gallery has schema version {row.schema_version!r}; this release reads {SCHEMA_VERSION}: "
            "use the release that made it, and export there"
        )
    sound = (
        is_sha256(row.model_sha256)
        and isinstance(row.embedding_dim, int)
        and 1 <= row.embedding_dim <= MAX_DIM
        and row.trained in (None, 0, 1)
        and isinstance(row.checksum_key, bytes)
        and len(row.checksum_key) == 32
        and all(isinstance(n, int) and n >= 0 for n in (row.revision, row.unscrubbed))
        and isinstance(row.tokens, str)
        and _TOKENS.fullmatch(row.tokens)
    )
    if not sound:
        raise GalleryDamagedError("the gallery's meta row holds values that cannot be; restore the gallery")
    return Meta(
        row.model_sha256,
        row.embedding_dim,
        None if row.trained is None else bool(row.trained),
        row.checksum_key,
        row.revision,
        row.tokens,
        row.unscrubbed,
        None if row.calibration is None else read_calibration(row.calibration),
    )


def read_calibration(text: object) -> Calibration:
    """A calibration from its JSON.

    Raises:
        GalleryDamagedError: it is none.
    """
    try:
        fields: Any = json.loads(text) if isinstance(text, str | bytes) else text
        found = Calibration(**fields)
        counts = (found.probes, found.persons, found.gallery_persons)
        if (
            any(type(n) is not int or n < 1 for n in counts)
            or type(found.threshold) is not float
            or not -1 <= found.threshold <= 1
            or type(found.false_accept_rate) is not float
            or not 0 < found.false_accept_rate < 1
            or found.method not in ("strangers", "within")
            or not is_time(found.when)
        ):
            raise ValueError
    except (ValueError, TypeError, RecursionError):
        raise GalleryDamagedError("the calibration is none that can be; calibrate anew in a sound gallery") from None
    return found


def checksum(key: bytes, row: dict[str, Any]) -> bytes:
    """BLAKE2b of an embedding's row, under the gallery's key."""
    said = json.dumps([row[name] for name in ("person_key", "kind", "source", "recording", "at")])
    return hashlib.blake2b(said.encode() + b"\0" + row["vector"], key=key, digest_size=16).digest()


def sealed(key: bytes, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its checksum."""
    return {**row, "checksum": checksum(key, row)}


def new_rows(
    meta: Meta,
    person_key: str,
    vectors: Floats,
    kind: Kind,
    source: str,
    recordings: Sequence[str | None],
    at: str | None = None,
) -> list[dict[str, Any]]:
    """Rows of `embeddings` for the vectors, each of its own recording, of the next revision."""
    said = {
        "person_key": person_key,
        "revision": meta.revision + 1,
        "kind": kind,
        "source": source,
        "at": at or now(),
    }
    return [
        sealed(meta.checksum_key, {**said, "recording": recording, "vector": vector.astype("<f4").tobytes()})
        for vector, recording in zip(vectors, recordings, strict=True)
    ]


def checked_vectors(meta: Meta, rows: Sequence[Any]) -> Floats:
    """The vectors of rows of `EMBEDDINGS`, `[n, E]`.

    Raises:
        GalleryDamagedError: a row that is not as it was written; the message names it by its number.
    """
    for row in rows:
        fault = _fault(meta, row)
        if fault:
            raise GalleryDamagedError(f"embedding {row.id} of the gallery {fault}; restore the gallery from an export")
    raw = b"".join(row.vector for row in rows)
    vectors = np.frombuffer(raw, "<f4").astype(np.float32).reshape(len(rows), meta.embedding_dim)
    # Sealed and still no unit vector: whoever wrote this was not this package.
    length = np.linalg.norm(vectors, axis=1)
    wrong = ~(np.abs(length - 1) <= 2 * UNIT_TOLERANCE)  # NaN is wrong too
    if wrong.any():
        raise GalleryDamagedError(f"embedding {rows[int(wrong.argmax())].id} of the gallery is no unit vector")
    return vectors


def _fault(meta: Meta, row: Any) -> str:
    if row.name is None:
        return "belongs to no person"
    if not is_name(row.name):
        return "belongs to a person whose name cannot be"
    if not isinstance(row.vector, bytes) or len(row.vector) != 4 * meta.embedding_dim:
        return f"has not {meta.embedding_dim} numbers"
    said = (row.person_key, row.kind, row.source, row.at)
    if not all(isinstance(text, str) for text in said) or not _KEY.fullmatch(row.person_key):
        return "holds values that cannot be"
    if row.checksum != checksum(meta.checksum_key, row._mapping):
        return "does not match its checksum"
    if row.kind not in get_args(Kind) or row.source not in get_args(Source) or not is_time(row.at):
        return "holds values that cannot be"
    if row.recording is not None and not is_sha256(row.recording):
        return "holds values that cannot be"
    return ""


def checked_person(row: Any) -> Any:
    """A row of `persons` that may be shown.

    Raises:
        GalleryDamagedError: it may not; the message shows none of it.
    """
    if not (isinstance(row.key, str) and _KEY.fullmatch(row.key) and is_name(row.name) and is_time(row.since)):
        raise GalleryDamagedError("the gallery holds a person with values that cannot be; restore it from an export")
    return row


def checked_entry(row: Any) -> Any:
    """A row of `audit` that may be shown.

    Raises:
        GalleryDamagedError: it may not; the message shows none of it.
    """
    key, detail = row.person_key, row.detail
    try:
        sound = (
            row.action in ACTIONS
            and is_time(row.at)
            and (key is None or (isinstance(key, str) and _KEY.fullmatch(key) is not None))
            and isinstance(detail, str)
            and len(detail) <= _MAX_DETAIL
            and detail.isascii()
            and detail.isprintable()
            and isinstance(json.loads(detail), dict)
        )
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise GalleryDamagedError(f"entry {int(row.sequence)} of the audit log holds values that cannot be")
    return row
