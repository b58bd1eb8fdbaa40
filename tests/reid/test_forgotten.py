"""A forgotten person's numbers are nowhere in the database's files, nor in what is written afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import psycopg
import pytest

from tests.reid.conftest import MODEL, People
from tests.reid.postgres import Server
from wifi_densepose_temporal.reid import Gallery

WANTED = ("the forgotten one", "another forgotten one")


def slices(vectors: np.ndarray) -> set[bytes]:
    """Every 16 bytes of each vector, at every offset."""
    raw = [row.astype("<f4").tobytes() for row in vectors.reshape(-1, vectors.shape[-1])]
    return {row[at : at + 16] for row in raw for at in range(len(row) - 15)}


def found_in(content: bytes, wanted: set[bytes]) -> int:
    return sum(one in content for one in wanted)


def files_of(where: str) -> dict[str, bytes]:
    path = Path(where)
    return {one.name: one.read_bytes() for one in path.parent.iterdir() if one.name.startswith(path.name)}


def test_no_slice_of_a_vector_stays_in_the_files(tmp_path: Path, people: People) -> None:
    where = str(tmp_path / "persons.gallery")
    rows = people(60, 6)
    with Gallery.open(where, MODEL, create=True) as gallery:
        for number in np.random.default_rng(1).permutation(60):  # pages are split and joined on the way
            gallery.enrol(f"p{number:02}", rows[number, :3])
        gallery.calibrate(people(100, 1)[:, 0], [str(n) for n in range(100)])
        for number, name in ((20, WANTED[0]), (21, WANTED[1])):
            gallery.enrol(name, rows[number, 3:5])
            gallery.merge(f"p{number}", into=name)
            gallery.update(name, rows[number, 5])
        for number in range(0, 20):
            gallery.forget(f"p{number:02}")
        wanted = slices(rows[20:22])
        assert found_in(b"".join(files_of(where).values()), wanted) > 1000
        with sqlite3.connect(where) as other:  # another process that has the file open
            other.execute("SELECT count(*) FROM gallery_persons").fetchone()
            other.commit()
            assert all(gallery.forget(name).scrubbed for name in WANTED)
            gallery.export(tmp_path / "persons.gallery.export")
            files = files_of(where)
            assert set(files) == {"persons.gallery" + end for end in ("", "-wal", "-shm", ".export")}
            for content in files.values():
                assert found_in(content, wanted) == 0
                assert not any(name.encode() in content for name in WANTED)
            assert found_in(files["persons.gallery.export"], slices(rows[30, :3])) > 300  # the scan sees what is there
        other.close()
        assert gallery.verify() == 38 * 3


def test_files_are_their_owners_alone(tmp_path: Path, people: People) -> None:
    where = tmp_path / "persons.gallery"
    with Gallery.open(where, MODEL, create=True) as gallery:
        gallery.enrol("a", people(1, 1)[0])
        modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
    assert modes == {"persons.gallery": 0o600, "persons.gallery-wal": 0o600, "persons.gallery-shm": 0o600}


def test_what_a_reader_holds_open_is_scrubbed_later(
    tmp_path: Path, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.reid.database.SCRUB_S", 0.1)
    where = tmp_path / "persons.gallery"
    rows = people(2, 3)
    with Gallery.open(where, MODEL, create=True) as gallery:
        gallery.enrol("a", rows[0])
        gallery.enrol("b", rows[1])
        reader = sqlite3.connect(where, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM gallery_persons").fetchone()
        assert not gallery.forget("a").scrubbed  # forgotten all the same:
        assert gallery.persons() == ["b"]
        assert gallery.identify(rows[0, 0])[0].nearest == "b"
        assert not gallery.scrub()
        reader.execute("COMMIT")
        assert gallery.scrub()
        assert found_in(b"".join(files_of(str(where)).values()), slices(rows[0])) == 0
        reader.close()


def test_a_scrub_that_was_cut_short_is_made_up_for_at_the_next_opening(
    tmp_path: Path, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "persons.gallery"
    rows = people(1, 3)
    with Gallery.open(where, MODEL, create=True) as gallery:
        gallery.enrol("a", rows[0])
        with monkeypatch.context() as patch:
            patch.setattr("wifi_densepose_temporal.reid.database._scrub_sqlite", lambda connection: False)
            assert not gallery.forget("a").scrubbed
        assert found_in(b"".join(files_of(str(where)).values()), slices(rows[0])) > 0
        with Gallery.open(where):
            pass
        assert found_in(b"".join(files_of(str(where)).values()), slices(rows[0])) == 0


def test_no_slice_of_a_vector_stays_in_postgresqls_tables(server: Server, people: People) -> None:
    url = server.empty()
    rows = people(20, 3)
    wanted = slices(rows[7])

    def tables() -> bytes:
        server.execute("CHECKPOINT")
        with psycopg.connect(url) as connection:
            number = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()[0]
        return b"".join(one.read_bytes() for one in (server.data / "base" / str(number)).iterdir())

    with Gallery.open(url, MODEL, create=True) as gallery:
        for number, vectors in enumerate(rows):
            gallery.enrol(WANTED[0] if number == 7 else f"p{number}", vectors)
        before = tables()
        assert found_in(before, wanted) > 300
        assert WANTED[0].encode() in before
        assert gallery.forget(WANTED[0]).scrubbed
        after = tables()
        assert found_in(after, wanted) == 0
        assert WANTED[0].encode() not in after
        assert found_in(after, slices(rows[8])) > 300


def test_a_session_that_still_sees_the_person_is_reported(
    server: Server, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.reid.database.SCRUB_S", 0.1)
    url = server.empty()
    with Gallery.open(url, MODEL, create=True) as gallery:
        gallery.enrol("a", people(1, 3)[0])
        with psycopg.connect(url) as other:
            other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            other.execute("SELECT count(*) FROM gallery_persons").fetchone()
            assert not gallery.forget("a").scrubbed
        assert gallery.scrub()


def test_the_approximate_index_lets_go_of_the_numbers(people: People) -> None:
    from wifi_densepose_temporal.reid.vectors import Candidates

    rows = people(200, 1)[:, 0]
    ids = np.arange(200)
    index = Candidates(32)
    index.follow(ids, rows)
    held = bytes(index._index.get(7, np.int8))
    assert held in bytes(index._index.save(None))
    index.follow(np.delete(ids, 7), np.delete(rows, 7, axis=0))
    assert held not in bytes(index._index.save(None))
    assert 7 not in index.search(rows[7:8])[0]


def test_postgresqls_statistics_keep_nobody(server: Server, people: People) -> None:
    url = server.empty()
    rows = people(20, 3)
    with Gallery.open(url, MODEL, create=True) as gallery:
        for number, vectors in enumerate(rows):
            gallery.enrol(f"p{number}", vectors, recording=f"{number:064x}")
        server.execute("ANALYZE")
        with psycopg.connect(url) as connection:
            kept = connection.execute(
                "SELECT tablename, attname FROM pg_stats WHERE tablename IN "
                "('gallery_persons', 'gallery_embeddings', 'gallery_audit')"
            ).fetchall()
    assert kept == []


@pytest.fixture
def app(server: Server) -> str:
    """A role that is no superuser."""
    server.execute("DROP OWNED BY app; DROP ROLE app") if server.has_role("app") else None
    server.execute("CREATE ROLE app LOGIN")
    return "app"


def test_a_role_that_does_not_own_the_tables_does_not_claim_to_have_scrubbed(
    server: Server, app: str, people: People, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.reid.database.SCRUB_S", 0.1)
    url = server.empty()
    with Gallery.open(url, MODEL, create=True) as gallery:
        gallery.enrol("a", people(1, 3)[0])
    server.execute(
        f"GRANT USAGE ON SCHEMA public TO {app}; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app}; "
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app}"
    )
    with Gallery.open(url.replace("postgres@", f"{app}@"), MODEL) as gallery:
        assert not gallery.forget("a").scrubbed
    assert "the role that owns them" in caplog.text


def test_another_roles_session_that_still_sees_the_person_is_reported(
    server: Server, app: str, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.reid.database.SCRUB_S", 0.1)
    url = server.empty()
    server.execute(f"GRANT ALL ON SCHEMA public TO {app}")
    with Gallery.open(url.replace("postgres@", f"{app}@"), MODEL, create=True) as gallery:
        gallery.enrol("a", people(1, 3)[0])
        with psycopg.connect(url) as other:
            other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            other.execute("SELECT 1 FROM pg_class").fetchone()
            assert not gallery.forget("a").scrubbed
        assert gallery.scrub()


def test_the_approximate_index_of_a_gallery_lets_go_when_somebody_is_forgotten(
    gallery: Gallery, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wifi_densepose_temporal.reid.vectors.EXACT_VECTORS", 50)
    rows = people(60, 1)
    for number, vectors in enumerate(rows):
        gallery.enrol(f"p{number}", vectors)
    gallery.wait_for_index()
    gallery.identify(rows[0, 0])
    index = gallery._vectors._candidates._index
    held = bytes(index.get(8, np.int8))
    assert held in bytes(index.save(None))
    gallery.forget("p7")
    assert held not in bytes(index.save(None))


def test_a_merged_name_is_gone_from_the_files(tmp_path: Path, people: People) -> None:
    where = str(tmp_path / "persons.gallery")
    with Gallery.open(where, MODEL, create=True) as gallery:
        gallery.enrol("the merged one", people(1, 3)[0])
        gallery.enrol("b", people(1, 3)[0])
        gallery.merge("the merged one", into="b")
        assert not any(b"the merged one" in content for content in files_of(where).values())


def test_updates_that_made_room_are_to_be_scrubbed(gallery: Gallery, people: People) -> None:
    rows = people(1, 30, 0.05)[0]
    gallery.enrol("a", rows[:2])
    gallery.calibrate(people(100, 1)[:, 0], [str(n) for n in range(100)])
    assert all(gallery.update("a", row).accepted for row in rows[2:20])
    assert gallery._database.read(gallery._meta).unscrubbed > 0
    assert gallery.scrub()
    assert gallery._database.read(gallery._meta).unscrubbed == 0
