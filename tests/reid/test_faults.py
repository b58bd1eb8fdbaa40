"""Damage, a database that goes away, a disk that is full: one clear error each, and the state as before."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.reid.conftest import MODEL, People
from tests.reid.postgres import Server
from wifi_densepose_temporal.errors import (
    ConfigError,
    FileError,
    GalleryDamagedError,
    GalleryError,
    GalleryUnavailableError,
    UnknownPersonError,
)
from wifi_densepose_temporal.reid import Gallery
from wifi_densepose_temporal.reid.transfer import read_export


@pytest.fixture
def filled(gallery: Gallery, people: People) -> Gallery:
    for number, vectors in enumerate(people(30, 4)):
        gallery.enrol(f"p{number}", vectors)
    return gallery


def tamper(where: str, statement: str) -> None:
    """Writes into the database behind the gallery's back."""
    engine = sa.create_engine(
        where.replace("postgresql:", "postgresql+psycopg:") if "://" in where else f"sqlite:///{where}"
    )
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gallery_embeddings SET vector = (SELECT vector FROM gallery_embeddings WHERE id = 9) WHERE id = 5",
        "UPDATE gallery_embeddings SET person_key = (SELECT key FROM gallery_persons WHERE name = 'p9') WHERE id = 5",
        "UPDATE gallery_embeddings SET kind = 'updated' WHERE id = 5",
        "UPDATE gallery_embeddings SET vector = checksum WHERE id = 5",
        "UPDATE gallery_persons SET name = '' WHERE name = 'p3'",
        "UPDATE gallery_meta SET embedding_dim = 1000000000",
        "UPDATE gallery_meta SET schema_version = 2",
        """UPDATE gallery_meta SET calibration = '{"threshold": NaN}'""",
        "DELETE FROM gallery_meta",
    ],
)
def test_rows_that_were_changed_are_refused(filled: Gallery, where: str, statement: str) -> None:
    assert filled.verify() == 120
    tamper(where, statement)
    with pytest.raises(GalleryError):
        filled.verify()
    with pytest.raises(GalleryDamagedError):
        Gallery.open(where, MODEL)


def test_rows_without_a_person_are_refused(filled: Gallery, where: str) -> None:
    if "://" in where:
        tamper(where, "ALTER TABLE gallery_embeddings DROP CONSTRAINT gallery_embeddings_person_key_fkey")
    tamper(where, "DELETE FROM gallery_persons WHERE name = 'p3'")
    with pytest.raises(GalleryDamagedError):
        filled.verify()
    with pytest.raises(GalleryDamagedError, match="belongs to no person"):
        Gallery.open(where, MODEL)


@pytest.fixture
def file(tmp_path: Path, people: People) -> Path:
    """A gallery's file, closed: 30 persons of 4 vectors."""
    path = tmp_path / "persons.gallery"
    with Gallery.open(path, MODEL, create=True) as gallery:
        for number, vectors in enumerate(people(30, 4)):
            gallery.enrol(f"p{number}", vectors)
    return path


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_off_is_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(GalleryDamagedError):
        Gallery.open(file, MODEL)


def test_a_file_with_a_bit_flipped_in_a_vector_is_refused(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        vector = connection.execute("SELECT vector FROM gallery_embeddings WHERE id = 50").fetchone()[0]
    connection.close()
    content = bytearray(file.read_bytes())
    content[content.index(vector) + 17] ^= 1
    with Gallery.open(file, MODEL) as opened:
        file.write_bytes(content)
        with pytest.raises(GalleryDamagedError, match="embedding 50 of the gallery does not match its checksum"):
            opened.verify()
    with pytest.raises(GalleryDamagedError, match="embedding 50"):
        Gallery.open(file, MODEL)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=64))
@example(at=0.046875, junk=b"\x80")  # SQLite's own message is then no text
def test_a_file_overwritten_anywhere_is_whole_or_refused(file: Path, at: float, junk: bytes) -> None:
    sound = file.with_name("sound")
    if not sound.exists():
        sound.write_bytes(file.read_bytes())
    content = bytearray(sound.read_bytes())
    start = int(at * len(content))
    content[start : start + len(junk)] = junk[: len(content) - start]
    for end in ("-wal", "-shm"):
        Path(f"{file}{end}").unlink(missing_ok=True)
    file.write_bytes(content)
    try:
        with Gallery.open(file, MODEL) as opened:
            opened.verify()
            assert set(opened.persons()) <= {f"p{n}" for n in range(30)}
    except GalleryError:
        pass  # refused, by an error of ours


def test_files_that_are_no_gallery_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"this is a text" * 1000)
    with pytest.raises(GalleryDamagedError):
        Gallery.open(path, MODEL, create=True)
    assert path.read_bytes() == b"this is a text" * 1000
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    for create in (False, True):
        with pytest.raises(GalleryDamagedError, match="other tables"):
            Gallery.open(path, MODEL, create=create)
    assert len(path.read_bytes()) == len(before)  # nothing of ours is in it
    with pytest.raises(GalleryUnavailableError, match="no regular file"):
        Gallery.open(tmp_path, MODEL, create=True)
    with pytest.raises(GalleryUnavailableError):
        Gallery.open(tmp_path / "no" / "folder", MODEL, create=True)


def test_a_strangers_trigger_is_not_run(file: Path) -> None:
    tamper(str(file), "CREATE TRIGGER spy AFTER INSERT ON gallery_persons BEGIN DELETE FROM gallery_audit; END")
    with pytest.raises(GalleryDamagedError):
        Gallery.open(file, MODEL)


# --------------------------------------------------------------------------------------------------------- unavailable


def test_a_server_that_stops_is_reported_and_found_again(server: Server, people: People) -> None:
    url = server.empty()
    rows = people(3, 2)
    with Gallery.open(url, MODEL, create=True) as gallery:
        gallery.enrol("a", rows[0])
        server.stop()
        try:
            for call in (lambda: gallery.enrol("b", rows[1]), lambda: gallery.identify(rows[0, 0])):
                with pytest.raises(GalleryUnavailableError):
                    call()
            with pytest.raises(GalleryUnavailableError):
                Gallery.open(url, MODEL)
        finally:
            server.start()
        assert gallery.persons() == ["a"]
        assert gallery.enrol("b", rows[1]) == 2
        assert gallery.identify(rows[1, 0])[0].nearest == "b"


def test_a_connection_cut_within_a_transaction_leaves_nothing(server: Server, people: People) -> None:
    url = server.empty()
    rows = people(2, 2)
    with Gallery.open(url, MODEL, create=True) as gallery:
        gallery.enrol("a", rows[0])

        def work(connection: sa.Connection) -> None:
            connection.exec_driver_sql("DELETE FROM gallery_embeddings")
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            connection.exec_driver_sql("DELETE FROM gallery_persons")

        with pytest.raises(GalleryUnavailableError, match="is gone"):
            gallery._database.write(work)
        assert gallery.verify() == 2


def test_a_database_read_only_from_now_on_stays_as_it_was(filled: Gallery, where: str, people: People) -> None:
    query = "PRAGMA query_only = ON" if "://" not in where else "SET default_transaction_read_only = on"

    def forbid(connection: object, record: object, proxy: object) -> None:
        cursor = connection.cursor()
        cursor.execute(query)
        cursor.close()
        connection.commit()

    before = filled.persons()
    sa.event.listen(filled._database._engine, "checkout", forbid)
    for call in (
        lambda: filled.enrol("new", people(1, 1)[0]),
        lambda: filled.forget("p1"),
        lambda: filled.merge("p1", into="p2"),
    ):
        with pytest.raises(GalleryUnavailableError):
            call()
    sa.event.remove(filled._database._engine, "checkout", forbid)
    assert filled.persons() == before
    assert filled.verify() == 120


def test_a_lock_that_is_not_given_back_is_reported(
    filled: Gallery, where: str, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.reid.database.LOCK_MS", 100)
    engine = sa.create_engine(
        where.replace("postgresql:", "postgresql+psycopg:") if "://" in where else f"sqlite:///{where}"
    )
    with Gallery.open(where, MODEL) as impatient, engine.connect() as other:
        other.exec_driver_sql("UPDATE gallery_meta SET revision = revision")
        with pytest.raises(GalleryUnavailableError, match="locked"):
            impatient.enrol("new", people(1, 1)[0])
        assert len(impatient.persons()) == 30  # reading goes on
        other.rollback()
        impatient.enrol("new", people(1, 1)[0])
    engine.dispose()


FULL_DISK = """
import resource, sys
import numpy as np
from tests.reid.conftest import MODEL, unit
from wifi_densepose_temporal.errors import GalleryUnavailableError
from wifi_densepose_temporal.reid import Gallery
rows = unit(np.random.default_rng(0).standard_normal((400, 32)))
with Gallery.open(sys.argv[1], MODEL) as gallery:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    for number in range(200):
        try:
            gallery.enrol(f"q{number}", rows)
        except GalleryUnavailableError as error:
            print(error)
            break
        print(f"q{number}", flush=True)
    assert gallery.identify(rows[0])[0].nearest
"""


def test_a_full_disk_is_reported_and_loses_nothing(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(file), "1000000"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    *acknowledged, refusal = done.stdout.splitlines()
    assert acknowledged
    assert "cannot be read or written" in refusal
    with Gallery.open(file, MODEL) as gallery:
        assert set(gallery.persons()) == {f"p{n}" for n in range(30)} | set(acknowledged)
        assert gallery.verify() == 120 + 400 * len(acknowledged)


def test_a_file_deleted_under_an_open_gallery_is_reported_on_opening(file: Path) -> None:
    file.unlink()
    with pytest.raises(GalleryUnavailableError, match="enrol somebody first"):
        Gallery.open(file, MODEL)


# -------------------------------------------------------------------------------------------------------------- exports


@pytest.fixture
def export(file: Path) -> Path:
    path = file.with_name("export")
    with Gallery.open(file, MODEL) as gallery:
        gallery.export(path)
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1 << 20), junk=st.binary(max_size=16), cut=st.booleans())
def test_an_export_changed_anywhere_is_refused(export: Path, at: int, junk: bytes, cut: bool) -> None:
    whole = export.with_name("whole")
    if not whole.exists():
        whole.write_bytes(export.read_bytes())
    content = whole.read_bytes()
    at %= len(content)
    changed = content[:at] + junk + (b"" if cut else content[at + len(junk) :])
    if changed == content:
        return
    export.write_bytes(changed)
    with pytest.raises(GalleryDamagedError):
        read_export(export)


def _persons(value: object) -> Callable[[dict], None]:
    return lambda said: said.update(persons=value)


@pytest.mark.parametrize(
    "change",
    [
        _persons({}),
        _persons([]),
        _persons({"a": []}),
        _persons({"a": [["enrolled", "live", None]]}),
        _persons({"a\n": [["enrolled", "live", None, "2026"]]}),
        _persons({"a": [["enrolled", "live", None, "2026"]] * 10_001}),
        _persons({"a": [["updated", "live", None, "2026-01-01T00:00:00Z"]] * 120}),
        _persons({"a": [["enrolled", "live", None, "a\0b"]] * 120}),
        _persons({"a": [["enrolled", "live", None, "\ud800"]] * 120}),
        lambda said: said.update(embedding_dim=1 << 40),
        lambda said: said.update(embedding_dim=31),
        lambda said: said.update(model_sha256="x"),
        lambda said: said.update(calibration={"threshold": 1}),
        lambda said: said.pop("trained"),
    ],
)
def test_a_hostile_export_with_a_right_checksum_is_refused(export: Path, change: Callable[[dict], None]) -> None:
    content = export.read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    said = json.loads(content[16 : 16 + length])
    change(said)
    text = json.dumps(said).encode()
    body = content[:12] + struct.pack("<I", len(text)) + text + content[16 + length : -32]
    export.write_bytes(body + hashlib.sha256(body).digest())
    with pytest.raises(GalleryDamagedError):
        read_export(export)


def test_an_export_that_cannot_be_written_or_read(file: Path) -> None:
    with Gallery.open(file, MODEL) as gallery:
        with pytest.raises(FileError):
            gallery.export(file.parent / "no" / "folder")
        with pytest.raises(FileError):
            gallery.import_(file.parent / "nothing")
        with pytest.raises(UnknownPersonError):
            gallery.show("nobody")


def test_no_error_shows_a_password(server: Server) -> None:
    with pytest.raises(GalleryUnavailableError) as refused:
        Gallery.open(f"postgresql://postgres:very-secret@/nowhere?host={os.fspath(server.data)}", MODEL)
    assert "very-secret" not in str(refused.value)


def test_somebody_is_forgotten_beside_a_damaged_row(filled: Gallery, where: str) -> None:
    tamper(where, "UPDATE gallery_embeddings SET source = 'live' WHERE id = 5")
    assert filled.forget("p9").embeddings == 4
    with Gallery.open(where) as again:
        assert again.forget("p8").embeddings == 4
        assert "p8" not in again.persons()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gallery_persons SET since = 'now' WHERE name = 'p3'",
        "INSERT INTO gallery_persons VALUES ('abababababababababababababababab', 'ghost', '2026-01-01T00:00:00Z')",
        "UPDATE gallery_audit SET action = 'red'",
        "UPDATE gallery_audit SET detail = '[1]'",
    ],
)
def test_rows_that_cannot_be_are_not_shown(filled: Gallery, where: str, statement: str) -> None:
    tamper(where, statement)
    with pytest.raises(GalleryDamagedError):
        ([filled.show(name) for name in filled.persons()], filled.audit())


def test_a_password_in_the_query_is_refused_unseen() -> None:
    with pytest.raises(ConfigError) as refused:
        Gallery.open("postgresql://postgres@/nowhere?password=very-secret", MODEL)
    assert "very-secret" not in str(refused.value)


def test_a_file_that_was_analysed_is_a_gallery(file: Path) -> None:
    tamper(str(file), "ANALYZE")
    with Gallery.open(file, MODEL) as opened:
        assert opened.verify() == 120
