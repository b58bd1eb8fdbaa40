"""A gallery of persons: enrol, identify, update, forget. Every change is one transaction, on the disk when it returns.

    gallery = Gallery.open("persons.gallery", load_model("reid"), create=True)
    gallery.enrol("p-17", embeddings, source="replay")
    gallery.calibrate(strangers, persons, false_accept_rate=0.01)
    gallery.identify(probes, source="live")[0].person

Several processes may work on one gallery: each sees the changes of the others at its next call. Storage is in
database.py, search in vectors.py. What is personal data here, and what forgetting cannot reach: docs/privacy.md.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Literal

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import (
    ConfigError,
    GalleryDamagedError,
    GalleryModelError,
    ShapeError,
    TemporalError,
)
from wifi_densepose_temporal.model import Source
from wifi_densepose_temporal.reid import calibration, changes, tables
from wifi_densepose_temporal.reid.answers import identified, judged, unavailable
from wifi_densepose_temporal.reid.calibration import Strangers
from wifi_densepose_temporal.reid.changes import EmbeddingModel
from wifi_densepose_temporal.reid.database import Database
from wifi_densepose_temporal.reid.results import (
    AuditEntry,
    Calibration,
    Forgotten,
    Identification,
    Person,
    Update,
)
from wifi_densepose_temporal.reid.tables import Meta
from wifi_densepose_temporal.reid.transfer import read_export, write_export
from wifi_densepose_temporal.reid.vectors import Vectors, two_largest

logger = logging.getLogger(__name__)


class Gallery:
    """Persons and their embeddings by one model; made by `open`. Threads may share one, processes may not.

    Any call may raise `GalleryUnavailableError` (locked, server gone, disk full) or `GalleryDamagedError`; nothing has
    changed then.

    Attributes:
        name: path, or URL without password.
        model_sha256: digest of the model whose embeddings this holds.
        embedding_dim: E.
        trained: whether that model says that it was trained.
    """

    def __init__(self, database: Database, meta: Meta, stated: bool) -> None:
        """As `open`."""
        self.name = database.name
        self.model_sha256, self.embedding_dim, self.trained = meta.model_sha256, meta.embedding_dim, meta.trained
        self._database = database
        self._stated = stated
        self._vectors = Vectors(meta.embedding_dim)
        self._lock = threading.RLock()
        self._warned = False

    @classmethod
    def open(
        cls, where: str | os.PathLike[str], model: EmbeddingModel | None = None, *, create: bool = False
    ) -> Gallery:
        """Opens a gallery and, with a model, checks every vector in it.

        Args:
            where: path of a SQLite file, on a local disk; or `postgresql://user@host/database`.
            model: the model whose embeddings are enrolled and looked for. Without it, persons can be listed, forgotten,
                merged, exported and imported, and forgetting works in a gallery with damaged rows too.
            create: whether one is made where there is none.

        Raises:
            GalleryUnavailableError: there is none, or it cannot be reached.
            GalleryDamagedError: it is damaged, or no gallery.
            GalleryModelError: it holds embeddings of another model; or it is to be created, without a model.
            ConfigError: a URL of another database.
            MissingExtraError: a package is not installed.
        """
        if create and model is None:
            raise GalleryModelError("a gallery is made for one model's embeddings; give the model")
        database = Database(where, create=create)
        try:
            if create and model is not None:
                database.create_tables(lambda connection: changes.first_meta(connection, model))
            database.require_tables()
            gallery = cls(database, database.read(tables.read_meta), model is not None)
            if model is not None and model.sha256 != gallery.model_sha256:
                raise GalleryModelError(
                    f"{database.name} holds embeddings of model {gallery.model_sha256[:12]}, the given one is "
                    f"{model.sha256[:12]}: they cannot be compared; open it with its model, or make another gallery"
                )
            if model is not None:
                gallery._now()
            if database.read(tables.read_meta).unscrubbed:
                gallery._tidy()
            return gallery
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Lets go of the database; the gallery cannot be used any more."""
        with self._lock:
            self._vectors.drop_candidates()
            self._database.close()

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Gallery({self.name!r}, model={self.model_sha256[:12]}, embedding_dim={self.embedding_dim})"

    # ------------------------------------------------------------------------------------------------------- enrolling

    def enrol(
        self,
        person: str,
        embeddings: ArrayLike,
        *,
        source: Source = "unstated",
        recording: str | Sequence[str | None] | None = None,
        if_exists: Literal["refuse", "add"] = "refuse",
    ) -> int:
        """Takes in a person, or more of their embeddings. These are the anchors, which no update changes.

        Args:
            person: the caller's name for them, 1 to 200 printable characters.
            embeddings: `[n, E]` unit vectors, n from 1 to 10,000.
            source: where they came from.
            recording: SHA-256 of the recording they are of; a list of n, where they are of several.
            if_exists: whether a person who is there is refused, or added to.

        Returns:
            How many embeddings the person now has.

        Raises:
            DuplicatePersonError: the person is there.
            GalleryModelError: the gallery was opened without its model.
            ShapeError, DtypeError, NonFiniteError, ConfigError: values that cannot be stored.
        """
        self._require_model()
        name, source = tables.as_name(person), tables.as_source(source)
        if if_exists not in ("refuse", "add"):
            raise ConfigError(f"if_exists is {if_exists!r}; expected refuse or add")
        rows = tables.as_vectors("embeddings", embeddings, self.embedding_dim)
        recordings = tables.as_recordings(recording, len(rows))

        def work(connection: sa.Connection) -> int:
            meta = self._meta(connection, lock=True)
            return changes.enrol(connection, meta, name, rows, source, recordings, if_exists == "add")

        return self._database.write(work)

    def update(
        self, person: str, embedding: ArrayLike, *, source: Source = "unstated", recording: str | None = None
    ) -> Update:
        """Takes in one more embedding of a person while running, if it is theirs beyond doubt.

        It has to reach the threshold against the person's enrolled vectors, which updates never change, and be nearer
        to them by `UPDATE_MARGIN` than to any vector of anybody else. So a person's vectors cannot walk away from what
        was enrolled. At most `MAX_UPDATED` are kept. Updates help to tell
        persons apart; who is near enough to be known is decided by the enrolled vectors alone. Refusals are not logged.

        Args:
            person: whose it is taken for.
            embedding: `[E]`, a unit vector.
            source: where it came from.
            recording: SHA-256 of the recording it is of.

        Raises:
            UnknownPersonError: there is no such person.
            GalleryModelError, ShapeError, DtypeError, NonFiniteError, ConfigError: as `enrol`.
        """
        self._require_model()
        name, source, recording = tables.as_name(person), tables.as_source(source), tables.as_recording(recording)
        row = tables.as_vectors("embedding", embedding, self.embedding_dim)
        if len(row) != 1:
            raise ShapeError(f"embedding has {len(row)} rows; update takes one embedding, [{self.embedding_dim}]")

        def work(connection: sa.Connection) -> Update:
            meta = self._meta(connection, lock=True)
            key = changes.require_key(connection, name)
            self._vectors.follow(connection, meta)
            result = judged(meta, self._vectors, key, row)
            if result.accepted:
                changes.update(connection, meta, key, row, source, recording)
            return result

        with self._lock:
            return self._database.write(work)

    # ----------------------------------------------------------------------------------------------------- identifying

    def identify(self, embeddings: ArrayLike, *, source: Source = "unstated") -> list[Identification]:
        """Whose each embedding is, or that it is nobody's here. A person is as near as the nearest of their vectors.

        Args:
            embeddings: `[n, E]` unit vectors, or one `[E]`; a row of zeros is `"unavailable"`.
            source: where they came from; carried on.

        Raises:
            GalleryModelError: the gallery was opened without its model.
            ShapeError, DtypeError, NonFiniteError, ConfigError: no such array.
        """
        probes, source = self._probes(embeddings), tables.as_source(source)
        with self._lock:
            meta = self._now()
            usable = probes.any(axis=1) & bool(self._vectors.keys)
            answers = [unavailable(meta, source)] * len(probes)
            if usable.any():
                pairs = zip(*self._vectors.two_nearest(probes[usable]), strict=True)
                for at, pair in zip(np.flatnonzero(usable), pairs, strict=True):
                    answers[at] = identified(meta, source, self._vectors, pair, probes[at : at + 1])
            return answers

    def identify_pooled(self, embeddings: ArrayLike, *, source: Source = "unstated") -> Identification:
        """Whose all these embeddings of one probe are: each person's similarity is the mean over the probe's rows.

        Rows of zeros do not count. The threshold is that of single embeddings, as it was calibrated.

        Args:
            embeddings: `[n, E]` unit vectors of one person, n at least 1.
            source: where they came from; carried on.

        Raises:
            GalleryModelError, ShapeError, DtypeError, NonFiniteError, ConfigError: as `identify`.
        """
        probes, source = self._probes(embeddings), tables.as_source(source)
        if not len(probes):
            raise ShapeError("a probe has no rows; expected at least one embedding")
        probes = probes[probes.any(axis=1)]
        with self._lock:
            meta = self._now()
            if not len(probes) or not self._vectors.keys:
                return unavailable(meta, source)
            mean = self._vectors.scores(probes).mean(axis=0, keepdims=True)
            numbers, similarities = two_largest(mean)
            return identified(meta, source, self._vectors, (numbers[0], similarities[0]), probes)

    def wait_for_index(self) -> float | None:
        """Returns when the approximate index is built, which `identify` otherwise begins beside it.

        Returns:
            Seconds waited; None where the gallery is so small that every vector is compared.
        """
        with self._lock:
            self._now()
            start = time.perf_counter()
            indexed = self._vectors.wait_for_candidates()
            return time.perf_counter() - start if indexed else None

    # ----------------------------------------------------------------------------------------------------- calibrating

    @property
    def calibration(self) -> Calibration | None:
        """The threshold in use and what it was found with; None before the first calibration."""
        return self._database.read(self._meta).calibration

    def calibrate(
        self,
        strangers: ArrayLike,
        persons: Sequence[str],
        *,
        false_accept_rate: float = 0.01,
        recordings: str | Sequence[str | None] | None = None,
    ) -> Calibration:
        """Sets the threshold with persons who are not enrolled.

        At most `false_accept_rate` of strangers like these, with as many windows each, have any window that is taken
        for somebody; pooled probes are no more often. Each stranger counts once, however many windows there are. It
        does not hold for other people at another place (docs/results.md measured 33 % where 10 % was wanted), nor when
        persons were added: calibrate again then.

        Args:
            strangers: `[n, E]` embeddings of persons who are not in the gallery, recorded as probes are. Rows of zeros
                do not count.
            persons: whose each one is, n names, of at least `ceil(1 / false_accept_rate) - 1` persons: 99 for 0.01.
                Only their number is stored.
            false_accept_rate: share of such persons that may be taken for somebody.
            recordings: SHA-256 of each one's recording, to make sure that none is of an enrolled person; not stored.

        Raises:
            ConfigError: too few persons (the message has the rate that they can show); an enrolled person's name or
                recording; a recording of two persons; nobody enrolled; or strangers so near that nobody could be known.
            GalleryModelError, ShapeError, DtypeError, NonFiniteError: as `identify`.
        """
        given = calibration.as_strangers(self._probes(strangers), persons, recordings)
        return self._calibrate(given, false_accept_rate)

    def calibrate_within(self, *, false_accept_rate: float = 0.01) -> Calibration:
        """Sets the threshold with the enrolled persons alone: each one's enrolled vectors against all the others'.

        Each person counts once, as in `calibrate`, and is compared with one person fewer than a stranger is. Vectors of
        one recording session are nearer than those of days apart, of strangers as well.

        Args:
            false_accept_rate: as `calibrate`.

        Raises:
            ConfigError: too few persons for the rate; the message has the rate that they can show.
        """
        return self._calibrate(None, false_accept_rate)

    def _calibrate(self, strangers: Strangers | None, false_accept_rate: float) -> Calibration:
        def work(connection: sa.Connection) -> Calibration:
            meta = self._meta(connection, lock=True)
            self._vectors.follow(connection, meta)
            return calibration.calibrate(connection, meta, self._vectors, strangers, false_accept_rate)

        with self._lock:
            return self._database.write(work)

    # ------------------------------------------------------------------------------------------- persons as a whole

    def forget(self, person: str) -> Forgotten:
        """Deletes a person: their rows, and the rows' bytes in the database's files. Its limits: docs/privacy.md.

        Returns:
            What was deleted. The rows are gone in any case; `scrubbed` is False where their bytes are still in the
            files, because another process reads an older state: call `scrub` again.

        Raises:
            UnknownPersonError: there is no such person.
        """
        name = tables.as_name(person)

        def work(connection: sa.Connection) -> int:
            return changes.forget(connection, self._meta(connection, lock=True), name)

        with self._lock:
            count = self._database.write(work)
            return Forgotten(count, self._tidy())

    def _tidy(self) -> bool:
        """Scrubs, and lets go of the vectors in memory; False where that cannot be now. The deletion stands already."""
        with self._lock:
            try:
                if self._vectors.revision >= 0:
                    self._now()
                    self._vectors.tidy_candidates()
            except TemporalError as error:
                logger.warning("%s: %s", self.name, error)
                self._vectors.drop_candidates()
                self._vectors = Vectors(self.embedding_dim)
            try:
                return self.scrub()
            except TemporalError as error:
                logger.warning("%s: deleted bytes are still in its files: %s; scrub again", self.name, error)
                return False

    def scrub(self) -> bool:
        """Rewrites the database's files without the bytes of what was deleted; may be repeated.

        Returns:
            Whether it could; otherwise others hold the old bytes, or the role does not own the tables.
        """

        def work(connection: sa.Connection) -> None:
            self._meta(connection, lock=True)
            done = sa.update(tables.meta).where(tables.meta.c.unscrubbed == pending)  # not of one forgotten since
            connection.execute(done.values(unscrubbed=0))

        with self._lock:
            pending = self._database.read(self._meta).unscrubbed
            scrubbed = self._database.scrub()
            if scrubbed:
                self._database.write(work)
            else:
                logger.warning("%s: deleted bytes are still in its files; scrub again", self.name)
            return scrubbed

    def merge(self, person: str, *, into: str) -> int:
        """Gives a person's embeddings to another one, when both turn out to be the same; the first name is deleted.

        Returns:
            How many embeddings `into` now has.

        Raises:
            UnknownPersonError: one of them is not there.
            ConfigError: both are one, or have more than 10,000 embeddings together.
        """
        name, other = tables.as_name(person), tables.as_name(into)
        if name == other:
            raise ConfigError("a person cannot be merged into themselves; give two names")

        def work(connection: sa.Connection) -> int:
            return changes.merge(connection, self._meta(connection, lock=True), name, other)

        with self._lock:
            total = self._database.write(work)
            self._tidy()
        return total

    def persons(self) -> list[str]:
        """The names of all persons, in order."""
        rows = self._database.read(lambda connection: connection.execute(sa.select(tables.persons)).all())
        return sorted(tables.checked_person(row).name for row in rows)

    def show(self, person: str) -> Person:
        """One person, with prototype and spread.

        Raises:
            UnknownPersonError: there is no such person.
        """
        name = tables.as_name(person)

        return self._database.read(lambda connection: changes.show(connection, self._meta(connection), name))

    def audit(self, last: int = 100) -> list[AuditEntry]:
        """The newest entries of the audit log, the oldest first."""
        log = tables.audit
        query = sa.select(log).order_by(log.c.sequence.desc()).limit(last)
        rows = self._database.read(lambda connection: connection.execute(query).all())
        entries = [tables.checked_entry(row) for row in reversed(rows)]
        return [AuditEntry(row.sequence, row.at, row.action, row.person_key, row.detail) for row in entries]

    def verify(self) -> int:
        """Looks at every page, row and checksum.

        Returns:
            How many embeddings there are, all of them sound.

        Raises:
            GalleryDamagedError: what is not.
        """
        self._database.integrity()

        def work(connection: sa.Connection) -> int:
            fresh = Vectors(self.embedding_dim)
            fresh.follow(connection, self._meta(connection))
            count = connection.scalar(sa.select(sa.func.count()).select_from(tables.persons))
            if count != len(fresh.keys):
                raise GalleryDamagedError(f"persons: {count}, with embeddings: {len(fresh.keys)}; restore the gallery")
            return len(fresh.rows)

        return self._database.read(work)

    # ------------------------------------------------------------------------------------------------------- as a file

    def export(self, path: str | os.PathLike[str]) -> int:
        """Writes all persons to one file, for its owner only; see transfer.py. The file is personal data too.

        Returns:
            How many embeddings are in it.

        Raises:
            FileError: it cannot be written.
            ConfigError: the gallery itself is there.
        """
        self._database.require_not_mine(path)

        def work(connection: sa.Connection) -> int:
            meta = self._meta(connection, lock=True)
            content = changes.exported(connection, meta)
            changes.changed(connection, meta, "export", None, embeddings=len(content.vectors))
            write_export(path, content)  # before the log's entry is committed: none without a file
            return len(content.vectors)

        return self._database.write(work)

    def import_(self, path: str | os.PathLike[str]) -> int:
        """Takes in all persons of an export, or none. The calibration comes along into an empty gallery.

        Returns:
            How many embeddings were taken in.

        Raises:
            FileError: the file cannot be read.
            GalleryDamagedError: it is no export, or damaged.
            GalleryModelError: it is of another model.
            DuplicatePersonError: a person is in the gallery already.
        """
        content = read_export(path)
        if (content.model_sha256, content.embedding_dim) != (self.model_sha256, self.embedding_dim):
            raise GalleryModelError(
                f"{path!s} holds embeddings of model {content.model_sha256[:12]}, the gallery of "
                f"{self.model_sha256[:12]}"
            )

        def work(connection: sa.Connection) -> int:
            return changes.take_in(connection, self._meta(connection, lock=True), content)

        return self._database.write(work)

    # --------------------------------------------------------------------------------------------------------- private

    def _meta(self, connection: sa.Connection, *, lock: bool = False) -> Meta:
        meta = tables.read_meta(connection, lock=lock)
        if (meta.model_sha256, meta.embedding_dim) != (self.model_sha256, self.embedding_dim):
            raise GalleryModelError(f"{self.name} was replaced by a gallery of another model; open it again")
        return meta

    def _now(self) -> Meta:
        """The meta row, with the vectors in memory brought up to it."""

        def work(connection: sa.Connection) -> Meta:
            meta = self._meta(connection)
            self._vectors.follow(connection, meta)
            return meta

        with self._lock:
            meta = self._database.read(work)
            enrolled = len(self._vectors.keys)
            if meta.calibration and enrolled > meta.calibration.gallery_persons and not self._warned:
                self._warned = True
                logger.warning(
                    "%s: %d persons, calibrated with %d: more strangers pass than was asked for; calibrate again",
                    self.name,
                    enrolled,
                    meta.calibration.gallery_persons,
                )
            return meta

    def _probes(self, embeddings: object) -> Floats:
        self._require_model()
        return tables.as_embeddings("embeddings", embeddings, self.embedding_dim)

    def _require_model(self) -> None:
        if not self._stated:
            raise GalleryModelError(
                f"{self.name} was opened without a model, so nothing says whose embeddings these are; "
                "open it with the model that made them"
            )
