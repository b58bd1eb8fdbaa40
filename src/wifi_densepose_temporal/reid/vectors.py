"""A gallery's vectors in memory: brought up to the database by its revision, searched exactly or by candidates.

A person is as near as the nearest of their vectors, the rule of evaluation/identity.py. Nothing here is written to a
disk.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import GalleryDamagedError, MemoryLimitError, MissingExtraError
from wifi_densepose_temporal.reid.tables import (
    EMBEDDINGS,
    MAX_MATRIX_BYTES,
    MAX_VECTORS,
    Meta,
    checked_vectors,
    embeddings,
)

logger = logging.getLogger(__name__)

#: Up to here every vector is compared; beyond, those that an approximate index proposes.
EXACT_VECTORS = 50_000

#: Of the approximate index (Malkov and Yashunin, 2018): neighbours a node, candidates looked at on building and on
#: searching, and candidates that are compared exactly. benchmarks/gallery.py measures what they give: so many are for
#: vectors without any clusters; at 100,000 of 128 numbers, comparing all is still as fast.
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH, CANDIDATES = 32, 128, 1024, 128

#: Numbers of the nearest two persons, and their similarities, `[2]` each; see `Vectors.two_nearest`.
Nearest = tuple[NDArray[np.intp], Floats]

_BLOCK = 1 << 24  # similarities held at once
_ROWS = 8192  # rows fetched at once


class Vectors:
    """The vectors of one gallery, ordered by person; one thread at a time.

    Attributes:
        revision, token: of the database that this is the state of; -1 before the first `follow`.
        keys: P random keys of the persons.
        names: P names.
        rows: `[n, E]`.
        anchor: `[n]`, whether the vector is an enrolled one.
        starts: `[P]`, each person's first row.
    """

    def __init__(self, dim: int) -> None:
        """Nobody yet."""
        self.revision, self.token = -1, ""
        self.keys: list[str] = []
        self.names: list[str] = []
        self.rows: Floats = np.empty((0, dim), np.float32)
        self.anchor: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.starts: NDArray[np.intp] = np.empty(0, np.intp)
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._owner: NDArray[np.intp] = np.empty(0, np.intp)
        self._by_id: NDArray[np.intp] = np.empty(0, np.intp)
        self._candidates: Candidates | None = None
        self._followed = -1  # revision that the approximate index is the state of

    def follow(self, connection: sa.Connection, meta: Meta) -> None:
        """Takes in what has changed in the database since the last call.

        Raises:
            GalleryDamagedError: a row that is not as it was written; this is then as it was.
            MemoryLimitError: more vectors than may be held.
        """
        if (meta.revision, meta.token_of(meta.revision)) == (self.revision, self.token):
            return
        # Another token: a backup was put in its place, and went on from there. Too old for one: as if it were.
        since = self.revision if meta.token_of(self.revision) == self.token else -1
        count = connection.scalar(sa.select(sa.func.count()).select_from(embeddings)) or 0
        if count > MAX_VECTORS or count * meta.embedding_dim * 4 > MAX_MATRIX_BYTES:
            raise MemoryLimitError(f"the gallery holds {count} vectors, which is more than is searched in memory")
        ids, vectors, said = _changed(connection, meta, since)
        kept = ~np.isin(self._ids, ids) if since >= 0 else np.zeros(len(self._ids), np.bool_)
        if kept.sum() + len(ids) != count:
            kept &= np.isin(self._ids, connection.scalars(sa.select(embeddings.c.id)).all())
            if kept.sum() + len(ids) != count:
                raise GalleryDamagedError("rows of the gallery have changed without its revision; restore the gallery")
        if since < 0:
            self.drop_candidates()  # the same id may be of another vector
        self._replace(kept, ids, vectors, said)
        self.revision, self.token = meta.revision, meta.token_of(meta.revision) or ""
        if len(self.starts) and not np.logical_or.reduceat(self.anchor, self.starts).all():
            self.revision = -1
            raise GalleryDamagedError("the gallery holds a person without an enrolled embedding; restore the gallery")

    def _replace(
        self, kept: NDArray[np.bool_], ids: NDArray[np.int64], vectors: Floats, said: list[tuple[str, str, bool]]
    ) -> None:
        """Keeps some rows, adds others (of each: its person's key and name, and whether it is an anchor); by person."""
        numbers = {key: number for number, key in enumerate(self.keys)}
        names = dict(zip(self.keys, self.names, strict=True))
        for key, name, _ in said:
            numbers.setdefault(key, len(numbers))
            names[key] = name
        known = list(numbers)
        owner = np.concatenate([self._owner[kept], np.array([numbers[key] for key, _, _ in said], np.intp)])
        order = np.argsort(owner, kind="stable")
        present, starts, inverse = np.unique(owner[order], return_index=True, return_inverse=True)
        self.keys = [known[number] for number in present]
        self.names = [names[key] for key in self.keys]
        self.rows = np.concatenate([self.rows[kept], vectors])[order]
        self.anchor = np.concatenate([self.anchor[kept], np.array([anchor for _, _, anchor in said], np.bool_)])[order]
        self.starts = starts
        self._ids = np.concatenate([self._ids[kept], ids])[order]
        self._owner = inverse

    # ------------------------------------------------------------------------------------------------------- searching

    def scores(self, probes: Floats, *, enrolled_only: bool = False) -> Floats:
        """Similarity of each probe `[m, E]` to each person, `[m, P]`, by every vector or every enrolled one."""
        out = np.empty((len(probes), len(self.keys)), np.float32)
        step = max(1, _BLOCK // max(1, len(self.rows)))
        for at in range(0, len(probes), step):
            part = slice(at, at + step)
            similarities = probes[part] @ self.rows.T
            if enrolled_only:
                similarities[:, ~self.anchor] = -1
            out[part] = np.maximum.reduceat(similarities, self.starts, axis=1)
        return np.clip(out, -1, 1, out)

    def enrolled_similarity(self, probes: Floats, number: int) -> Floats:
        """Largest similarity of each probe `[m, E]` to a person's enrolled vectors, `[m]`."""
        largest: Floats = (probes @ self.rows[self.anchors(number)].T).max(axis=1)
        return np.clip(largest, -1, 1)

    def anchors(self, number: int) -> NDArray[np.intp]:
        """Rows of a person's enrolled vectors."""
        end = self.starts[number + 1] if number + 1 < len(self.starts) else len(self.rows)
        mine = np.arange(self.starts[number], end)
        return mine[self.anchor[mine]]

    def strangers_within(self) -> Floats:
        """Largest similarity of any enrolled vector of each person to an enrolled one of another person, `[P]`."""
        at = np.flatnonzero(self.anchor)
        out = np.empty(len(at), np.float32)
        step = max(1, _BLOCK // max(1, len(self.rows)))
        for start in range(0, len(at), step):
            part = at[start : start + step]
            scores = self.scores(self.rows[part], enrolled_only=True)
            scores[np.arange(len(part)), self._owner[part]] = -np.inf
            out[start : start + step] = scores.max(axis=1)
        starts = np.flatnonzero(np.diff(self._owner[at], prepend=-1))
        return np.maximum.reduceat(out, starts)

    def two_nearest(self, probes: Floats) -> tuple[NDArray[np.intp], Floats]:
        """The nearest two persons of each probe and their similarities, `[m, 2]` each.

        Where there is one person only, the second is -1, with similarity -inf. Among equals the earlier comes first.
        """
        candidates = self._ready_candidates()
        if candidates is None:
            step = max(1, _BLOCK // max(1, len(self.keys)))
            parts = [two_largest(self.scores(probes[at : at + step])) for at in range(0, len(probes), step)]
            return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
        found = [self._two_of(probe, ids) for probe, ids in zip(probes, candidates.search(probes), strict=True)]
        return np.array([f[0] for f in found], np.intp), np.array([f[1] for f in found], np.float32)

    def _two_of(self, probe: Floats, ids: NDArray[np.int64]) -> Nearest:
        """The nearest two persons by comparing the vectors of these ids, or all where they are of one person."""
        at = self._by_id[np.searchsorted(self._ids, ids, sorter=self._by_id)]
        owner = self._owner[at]
        if len(self.keys) > 1 and (owner == owner[0]).all():
            number, similarity = two_largest(self.scores(probe[None]))
            return number[0], similarity[0]
        persons, inverse = np.unique(owner, return_inverse=True)
        best = np.full(len(persons), -1, np.float32)
        np.maximum.at(best, inverse, self.rows[at] @ probe)
        number, similarity = two_largest(np.clip(best, -1, 1)[None])
        return np.where(number[0] < 0, -1, persons[number[0]]), similarity[0]

    def wait_for_candidates(self) -> bool:
        """Begins the approximate index and returns when it is built; False where every vector is compared."""
        if self._ready_candidates() is None and self._candidates is not None:
            self._candidates.wait()
        return self._candidates is not None

    def _ready_candidates(self) -> Candidates | None:
        """The approximate index, as of now; None while all vectors are compared or it is still being built."""
        if len(self.rows) <= EXACT_VECTORS:
            self.drop_candidates()
            return None
        if self._candidates is None:
            self._candidates, self._followed = Candidates(self.rows.shape[1]), -1
            self._candidates.build(self._ids, self.rows)
        if self._candidates.building:
            return None
        if self._followed != self.revision:
            self._by_id = np.argsort(self._ids)
            self._candidates.follow(self._ids, self.rows)
            self._followed = self.revision
        return self._candidates

    def tidy_candidates(self) -> None:
        """Lets the approximate index follow, or lets go of it while it is built: no vector that is gone stays in it."""
        if self._candidates is not None and self._candidates.building:
            self.drop_candidates()
        if self._candidates is not None:
            self._ready_candidates()

    def drop_candidates(self) -> None:
        """Lets go of the approximate index, or ends its building."""
        if self._candidates is not None:
            self._candidates.stop()
            self._candidates = None


def two_largest(scores: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Columns and values of the two largest of each row of `[m, P]`, P at least 1; see `Vectors.two_nearest`."""
    rows = np.arange(len(scores))
    numbers, values = np.full((len(scores), 2), -1, np.intp), np.full((len(scores), 2), -np.inf, np.float32)
    left = scores.copy()
    for rank in range(min(2, scores.shape[1])):
        numbers[:, rank] = left.argmax(axis=1)
        values[:, rank] = left[rows, numbers[:, rank]]
        left[rows, numbers[:, rank]] = -np.inf
    return numbers, values


def _changed(
    connection: sa.Connection, meta: Meta, since: int
) -> tuple[NDArray[np.int64], Floats, list[tuple[str, str, bool]]]:
    """Rows after a revision: ids, vectors, and (key, name, whether enrolled) of each."""
    query = EMBEDDINGS.where(embeddings.c.revision > since).order_by(embeddings.c.id)
    ids: list[int] = []
    vectors: list[Floats] = [np.empty((0, meta.embedding_dim), np.float32)]
    said: list[tuple[str, str, bool]] = []
    for rows in connection.execute(query).partitions(_ROWS):
        vectors.append(checked_vectors(meta, rows))
        ids += [row.id for row in rows]
        said += [(row.person_key, row.name, row.kind == "enrolled") for row in rows]
    return np.array(ids, np.int64), np.concatenate(vectors), said


class Candidates:
    """An approximate index (usearch) over vectors with ids, in memory only. It proposes; it does not decide."""

    def __init__(self, dim: int) -> None:
        """An empty one.

        Raises:
            MissingExtraError: usearch is not installed.
        """
        try:
            from usearch.index import Index
        except ImportError as error:
            raise MissingExtraError(
                f"a gallery of more than {EXACT_VECTORS} vectors needs usearch ({error}): "
                "pip install 'wifi-densepose-temporal[reid]'"
            ) from None
        self._index: Any = Index(
            ndim=dim,
            metric="ip",
            dtype="i8",  # enough to propose, and the fastest
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._filler = np.iinfo(np.int64).max  # ids that no vector has

    @property
    def building(self) -> bool:
        """Whether the first filling is still going on."""
        return self._thread is not None and self._thread.is_alive()

    def build(self, ids: NDArray[np.int64], rows: Floats) -> None:
        """Fills an empty index in a thread of its own; both arrays stay as they are."""
        logger.info("%d vectors: an approximate index is built; until then all of them are compared", len(ids))
        self._thread = threading.Thread(target=self.follow, args=(ids, rows), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the building, if it is going on."""
        self._stopped = True
        self.wait()

    def wait(self) -> None:
        """Returns when nothing is being built."""
        if self._thread is not None:
            self._thread.join()

    def follow(self, ids: NDArray[np.int64], rows: Floats) -> None:
        """Takes in vectors that are new among these ids, and lets go of those that are not among them any more."""
        gone = np.setdiff1d(self._ids, ids)
        if len(gone):
            self._index.remove(gone.astype(np.uint64), threads=1)
            self._overwrite(len(gone))
        new = np.flatnonzero(~np.isin(ids, self._ids))
        for at in range(0, len(new), 1000):
            if self._stopped:
                return
            part = new[at : at + 1000]
            # One thread: vectors added at once while few are there may never be found again.
            self._index.add(ids[part].astype(np.uint64), rows[part], threads=1)
        self._ids = ids

    def _overwrite(self, count: int) -> None:
        """The places of removed vectors are given to the next that are added: here to noise, which is removed again."""
        noise = np.random.default_rng().standard_normal((count, self._index.ndim)).astype(np.float32)
        fillers = np.arange(self._filler - count, self._filler, dtype=np.int64).astype(np.uint64)
        self._index.add(fillers, noise / np.linalg.norm(noise, axis=1, keepdims=True), threads=1)
        self._index.remove(fillers, threads=1)

    def search(self, probes: Floats) -> list[NDArray[np.int64]]:
        """Ids of vectors that are near each probe of `[m, E]`."""
        found = self._index.search(probes, CANDIDATES, threads=1)
        if len(probes) == 1:
            return [np.asarray(found.keys, np.uint64).reshape(-1).astype(np.int64)]
        return [np.asarray(row.keys, np.uint64).astype(np.int64) for row in found]
