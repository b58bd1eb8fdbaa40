"""A database as a gallery needs it: transactions with bounded retries, one error for each fault, bytes that really go.

SQLite (a file) and PostgreSQL (a URL) through SQLAlchemy Core. What a gallery means is not known here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from wifi_densepose_temporal.errors import (
    ConfigError,
    GalleryDamagedError,
    GalleryUnavailableError,
    MissingExtraError,
)
from wifi_densepose_temporal.reid.tables import audit, embeddings, meta, metadata, persons

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: How long a lock is waited for, and the pauses before a transaction that met one is tried again.
LOCK_MS = 5000
PAUSES_S = (0.02, 0.1, 0.5)

#: How long `scrub` waits for others to let go of what was deleted.
SCRUB_S = 2.0

#: No value in a gallery is larger; SQLite refuses to read one that is.
MAX_VALUE_BYTES = 1 << 20

_TABLES = frozenset(metadata.tables)
_QUIET = (embeddings, persons, audit)
_OWN_LOCK = 0x57445447  # "WDTG": PostgreSQL's advisory lock while the tables are made
_BUSY_STATES = {"40001", "40P01", "55P03", "57014"}  # serialisation, deadlock, lock and statement timeouts


class _BusyError(GalleryUnavailableError):
    """Another one holds a lock; the transaction was rolled back and may be tried again."""


class Database:
    """One database; a process that forks opens its own.

    Attributes:
        name: the path, or the URL without its password.
    """

    def __init__(self, where: str | os.PathLike[str], *, create: bool) -> None:
        """Connects.

        Args:
            where: path of a SQLite file, or `postgresql://...`.
            create: whether a file that is not there is made, readable for its owner only.

        Raises:
            ConfigError: a URL of another kind.
            GalleryUnavailableError: it is not there, or cannot be reached.
            MissingExtraError: psycopg is not installed.
        """
        text = os.fspath(where)
        if "password=" in text.lower():
            raise ConfigError("a gallery's URL has password=...: give it before the @, or in libpq's password file")
        self.is_file = "://" not in text and not text.startswith(("postgresql:", "postgres:"))
        self._closed = False
        if self.is_file:
            self.name = text
            _require_file(Path(text), create)
            url = sa.URL.create("sqlite", database=str(Path(text).absolute()))
            options: dict[str, Any] = {"connect_args": {"timeout": LOCK_MS / 1000, "check_same_thread": False}}
        else:
            url = _postgresql(text)
            self.name = url.render_as_string(hide_password=True)
            options = {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}
        try:
            self._engine = sa.create_engine(url, hide_parameters=True, **options)
        except ImportError as error:
            raise MissingExtraError(
                f"a gallery in PostgreSQL needs psycopg ({error}): pip install 'wifi-densepose-temporal[postgres]'"
            ) from None
        sa.event.listen(self._engine, "connect", _set_up_sqlite if self.is_file else _set_up_postgresql)
        if self.is_file:
            sa.event.listen(self._engine, "begin", _begin_sqlite)

    def close(self) -> None:
        """Lets go of every connection; every further call is refused."""
        self._closed = True
        self._engine.dispose()

    def require_not_mine(self, path: str | os.PathLike[str]) -> None:
        """Refuses a path at which a file of this database is.

        Raises:
            ConfigError: it is the database, or one of the files beside it.
        """
        if not self.is_file:
            return
        own = Path(self.name).resolve()
        for file in (own, *(Path(f"{own}{end}") for end in ("-wal", "-shm", "-journal"))):
            target = Path(path)
            if target.resolve() == file or (target.exists() and file.exists() and target.samefile(file)):
                raise ConfigError(f"{target} is a file of the gallery itself; give the export a file of its own")

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` finds in one snapshot.

        Raises:
            GalleryUnavailableError, GalleryDamagedError: the database cannot be read.
        """
        options = {"begin": "BEGIN"} if self.is_file else {"isolation_level": "REPEATABLE READ"}
        return self._transaction(work, options)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """What `work` returns, once its changes are on the disk. Whatever it raises, nothing has changed.

        `work` may be called again after a lock was met; it begins with `read_meta(lock=True)`, so that writers come
        one after the other.

        Raises:
            GalleryUnavailableError, GalleryDamagedError: the database cannot be written.
        """
        options = {"begin": "BEGIN IMMEDIATE"} if self.is_file else {"isolation_level": "READ COMMITTED"}
        return self._transaction(work, options)

    def create_tables(self, fill: Callable[[sa.Connection], None]) -> None:
        """Makes the tables where there are none, and calls `fill` in the same transaction."""

        def make(connection: sa.Connection) -> None:
            if not self.is_file:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_OWN_LOCK)))
            there = sa.inspect(connection).get_table_names()
            if meta.name not in there and not (self.is_file and there):  # nothing into a stranger's file
                metadata.create_all(connection)
                if not self.is_file:
                    _keep_no_samples(connection)
                fill(connection)

        self.write(make)

    def require_tables(self) -> None:
        """Refuses a database with other tables than a gallery's.

        Raises:
            GalleryUnavailableError: there is no gallery in it.
            GalleryDamagedError: it is none of ours, or its pages are damaged.
        """

        def check(connection: sa.Connection) -> None:
            found = set(sa.inspect(connection).get_table_names())
            if meta.name not in found and (not self.is_file or not found):
                raise GalleryUnavailableError(
                    f"there is no gallery in {self.name}: enrol somebody first, or give another place"
                )
            if self.is_file:
                _require_own_schema(connection, self.name)
            elif not found >= _TABLES:
                raise GalleryDamagedError(f"{self.name} lacks {', '.join(sorted(_TABLES - found))}; restore it")

        self.read(check)

    def integrity(self) -> None:
        """Has SQLite look at every page and reference, on the disk; PostgreSQL checks its pages by itself.

        Raises:
            GalleryDamagedError: what it finds.
        """
        self._engine.dispose()  # and with it the pages that its connections hold in memory

        def check(connection: sa.Connection) -> None:
            if not self.is_file:
                return
            found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(3)")]
            found = [line for line in found if line != "ok"]
            found += [f"a row of {row[0]} refers to nothing" for row in connection.exec_driver_sql(_FOREIGN_KEYS)]
            if found:
                raise GalleryDamagedError(f"{self.name} is damaged: {'; '.join(found[:3])}; restore it from an export")

        self.read(check)

    def scrub(self) -> bool:
        """Rewrites the database without what was deleted; False where others still hold it open."""
        self._require_open()
        deadline = time.monotonic() + SCRUB_S
        while True:
            try:
                with self._engine.connect() as connection:
                    done = _scrub_sqlite(connection) if self.is_file else _scrub_postgresql(connection, self.name)
            except sa.exc.DBAPIError as error:
                fault = self._fault(error)
                if not isinstance(fault, _BusyError):
                    raise fault from None
                done = False
            if done or time.monotonic() > deadline:
                return done
            time.sleep(0.02)

    def _require_open(self) -> None:
        if self._closed:
            raise GalleryUnavailableError(f"{self.name} was closed; open the gallery again")

    def _transaction(self, work: Callable[[sa.Connection], T], options: dict[str, Any]) -> T:
        self._require_open()
        for pause in (*PAUSES_S, None):
            try:
                with self._engine.connect().execution_options(**options) as connection, connection.begin():
                    return work(connection)
            except sa.exc.DBAPIError as error:
                fault = self._fault(error)
                if pause is None or not isinstance(fault, _BusyError):
                    raise fault from None
            except UnicodeDecodeError:  # of the driver, which cannot even read SQLite's message about a broken schema
                raise GalleryDamagedError(f"{self.name} is damaged or no gallery; restore it from an export") from None
            except sa.exc.TimeoutError:
                raise GalleryUnavailableError(f"{self.name}: too many calls at once; close some") from None
            time.sleep(pause * (0.5 + secrets.randbelow(1000) / 1000))
        raise AssertionError("unreachable")

    def _fault(self, error: sa.exc.DBAPIError) -> GalleryUnavailableError | GalleryDamagedError:
        """What the driver's error means. Its parameters, which are personal data, are not in the message."""
        if self.is_file:
            return _sqlite_fault(self.name, error.orig)
        return _postgresql_fault(self.name, error.orig)


# -------------------------------------------------------------------------------------------------------------- SQLite

_SQLITES_OWN = {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4"}
_FOREIGN_KEYS = "PRAGMA foreign_key_check"


def _require_file(path: Path, create: bool) -> None:
    """A regular file, made for the owner only where it is to be; SQLite gives its -wal and -shm the same mode."""
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise GalleryUnavailableError(
            f"there is no gallery {path}: {reason}; check the path, or enrol somebody first"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise GalleryUnavailableError(f"{path} is no regular file; give the path of a gallery")
    if status.st_mode & 0o077:
        logger.warning("%s can be read by other users; embeddings are personal data: chmod 600", path)


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    try:
        _set_pragmas(connection)
    except BaseException:
        connection.close()  # SQLAlchemy would leave it open
        raise


def _set_pragmas(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # transactions begin where we say
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    for pragma in (
        f"busy_timeout={LOCK_MS}",
        "trusted_schema=OFF",
        "cell_size_check=ON",
        "temp_store=MEMORY",  # VACUUM leaves nothing in a temporary file
        "secure_delete=ON",
        "journal_mode=WAL",
        "synchronous=FULL",  # acknowledged is on the disk
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    begin = connection.get_execution_options().get("begin")
    if begin:
        connection.exec_driver_sql(begin)


def _require_own_schema(connection: sa.Connection, name: str) -> None:
    """No view or trigger of a stranger's, and no other table."""
    rows = connection.exec_driver_sql("SELECT type, tbl_name FROM sqlite_master LIMIT 100").all()
    tables = {table for kind, table in rows if kind == "table"} - _SQLITES_OWN
    if tables != _TABLES or any(kind not in ("table", "index") for kind, _ in rows):
        raise GalleryDamagedError(f"{name} has other tables than a gallery; give the file of a gallery")


def _scrub_sqlite(connection: sa.Connection) -> bool:
    """secure_delete zeroes a deleted row, but not a copy left where pages were once rebalanced: VACUUM rewrites all.

    Both go through the write-ahead log, whose old frames still hold the rows until it is cut to nothing.
    """
    connection.exec_driver_sql(f"PRAGMA busy_timeout={int(SCRUB_S * 1000)}")
    try:
        connection.exec_driver_sql("DROP TABLE IF EXISTS sqlite_stat4")  # ANALYZE's samples: names, some of them
        connection.exec_driver_sql("VACUUM")
        busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]
        return bool(busy == 0)
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={LOCK_MS}")


def _sqlite_fault(name: str, error: object) -> GalleryUnavailableError | GalleryDamagedError:
    code = getattr(error, "sqlite_errorname", "")
    reason = _shown(error) if code else "a text that is none"  # the driver's own message quotes it
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")):
        return _BusyError(f"{name} is locked by another process for too long; nothing was changed: try again")
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return GalleryUnavailableError(
            f"{name} cannot be read or written: {reason} ({code}); nothing was changed: "
            "check the disk and its permissions"
        )
    if code == "SQLITE_NOMEM":
        return GalleryUnavailableError(f"{name}: SQLite has no memory left; nothing was changed")
    return GalleryDamagedError(f"{name} is damaged or no gallery: {reason}; restore it from an export")


def _shown(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


def _postgresql(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise ConfigError("the gallery's URL cannot be read; expected postgresql://user@host/database") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigError(
            f"a gallery's URL begins with {url.drivername}://; expected postgresql://..., or the path of a SQLite file"
        )
    if any("password" in key.lower() for key in url.query):
        raise ConfigError("a gallery's URL has a password after the ?: give it before the @, or in a password file")
    return url.set(drivername="postgresql+psycopg")


def _set_up_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")  # acknowledged is on the disk
        cursor.execute(f"SET lock_timeout = {LOCK_MS}")
        cursor.execute("SET bytea_output = hex")
    connection.commit()


def _keep_no_samples(connection: sa.Connection) -> None:
    """Has ANALYZE leave these tables alone: pg_statistic would keep names and vectors of who is forgotten."""
    for table in _QUIET:
        for column in table.columns:
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ALTER COLUMN {column.name} SET STATISTICS 0")


def _scrub_postgresql(connection: sa.Connection, name: str) -> bool:
    """VACUUM FULL writes tables anew, without rows that no transaction can see any more.

    Transactions from before now may still see them, so they are waited for; then those that began meanwhile, since
    what they see reaches back to the oldest change that was not finished when they began.
    """
    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    deadline = time.monotonic() + SCRUB_S
    for _ in range(2):
        older = set(connection.scalars(_OPEN_TRANSACTIONS))
        while older & set(connection.scalars(_OPEN_TRANSACTIONS)):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
    before = _files_of_tables(connection)
    for table in _QUIET:
        connection.exec_driver_sql(f"VACUUM (FULL) {table.name}")
    if before & _files_of_tables(connection):  # PostgreSQL only warns, and goes on
        logger.warning("%s: its tables were not rewritten; only the role that owns them may: scrub as that role", name)
        return False
    return True


def _files_of_tables(connection: sa.Connection) -> set[int]:
    return {connection.exec_driver_sql(f"SELECT pg_relation_filenode('{table.name}')").scalar_one() for table in _QUIET}


# pg_stat_activity says nothing of other roles' transactions to a role like ours; their locks are there for all to see.
_OPEN_TRANSACTIONS = sa.text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) "
    "WHERE granted AND mode = 'ExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid() "
    "AND (locktype = 'transactionid' OR (locktype = 'virtualxid' AND datname = current_database()))"
)


def _postgresql_fault(name: str, error: object) -> GalleryUnavailableError | GalleryDamagedError:
    state = getattr(error, "sqlstate", None) or ""
    diagnostic = getattr(error, "diag", None)
    reason = getattr(diagnostic, "message_primary", None) or (str(error).splitlines() or ["no answer"])[0]
    reason = _shown(reason)
    if state in _BUSY_STATES:
        return _BusyError(f"{name} is locked by another client for too long; nothing was changed: try again")
    if state.startswith(("42P01", "42703", "XX00", "22")):
        return GalleryDamagedError(f"{name} is damaged or no gallery: {reason}; restore it")
    if state and not state.startswith(("08", "57P")):
        return GalleryUnavailableError(f"{name} cannot be read or written: {reason} ({state}); nothing was changed")
    return GalleryUnavailableError(
        f"{name} is gone: {reason}; a change that was being made is there whole or not at all: look before repeating it"
    )
