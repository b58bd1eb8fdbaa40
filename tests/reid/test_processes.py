"""Several processes on one gallery at once, and processes that are killed."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import psycopg

from tests.reid.conftest import MODEL, People, unit
from tests.reid.test_forgotten import files_of, found_in, slices
from wifi_densepose_temporal.reid import Gallery

SPAWN = multiprocessing.get_context("spawn")  # a process opens a gallery of its own
EACH = 8


def vectors_of(name: str) -> np.ndarray:
    rng = np.random.default_rng([ord(letter) for letter in name])
    return unit(rng.standard_normal(32) + 0.1 * rng.standard_normal((3, 32)))


def work(where: str, worker: int, out: Queue) -> None:
    """Enrols persons, finds them and those of the others, forgets every second one."""
    failures = []
    with Gallery.open(where, MODEL, create=True) as gallery:
        for number in range(EACH):
            name = f"w{worker}-{number}"
            gallery.enrol(name, vectors_of(name))
            if gallery.identify(vectors_of(name)[0])[0].nearest != name:
                failures.append(f"{name} was enrolled and not found")
            if number % 2:
                forgotten = f"w{worker}-{number - 1}"
                gallery.forget(forgotten)
                if gallery.identify(vectors_of(forgotten)[0])[0].nearest == forgotten:
                    failures.append(f"{forgotten} was forgotten and found")
    out.put(failures)


def test_four_processes_lose_nobody_and_keep_nobody(where: str) -> None:
    out = SPAWN.Queue()
    workers = [SPAWN.Process(target=work, args=(where, number, out)) for number in range(4)]
    for one in workers:
        one.start()
    failures = [out.get(timeout=120) for _ in workers]
    for one in workers:
        one.join()
    assert failures == [[]] * 4
    with Gallery.open(where, MODEL) as gallery:
        kept = {f"w{worker}-{number}" for worker in range(4) for number in range(1, EACH, 2)}
        assert set(gallery.persons()) == kept
        assert gallery.verify() == 3 * len(kept)
        assert len(gallery.audit(1000)) == 4 * EACH  # of a forgotten person the last entry alone
        assert gallery.scrub()
        if "://" not in where:
            gone = np.concatenate([vectors_of(f"w{w}-{n}") for w in range(4) for n in range(0, EACH, 2)])
            assert found_in(b"".join(files_of(where).values()), slices(gone)) == 0


def test_each_sees_what_another_has_changed(gallery: Gallery, where: str, people: People) -> None:
    rows = people(3, 2)
    with Gallery.open(where, MODEL) as other:
        gallery.enrol("a", rows[0])
        assert other.identify(rows[0, 0])[0].nearest == "a"
        other.enrol("b", rows[1])
        other.merge("a", into="b")
        assert gallery.identify(rows[0, 0])[0].nearest == "b"
        gallery.forget("b")
        assert other.identify(rows[0, 0])[0].decision == "unavailable"
        gallery.enrol("c", rows[2])
        gallery.calibrate(people(100, 1)[:, 0], [str(n) for n in range(100)])
        assert other.identify(rows[2, 0])[0].person == "c"


def test_an_older_gallery_put_in_its_place_is_seen(gallery: Gallery, where: str, people: People) -> None:
    """As when a backup is restored: the revision goes back."""
    rows = people(2, 2)
    gallery.enrol("a", rows[0])
    gallery.enrol("b", rows[1])
    assert gallery.identify(rows[1, 0])[0].nearest == "b"
    back = (
        "DELETE FROM gallery_embeddings WHERE revision = 3; DELETE FROM gallery_persons WHERE name = 'b'; "
        "UPDATE gallery_meta SET revision = 2"
    )
    if "://" in where:
        with psycopg.connect(where) as connection:
            connection.execute(back)
    else:
        connection = sqlite3.connect(where)
        connection.executescript(back)
        connection.close()
    assert gallery.identify(rows[1, 0])[0].nearest == "a"


def test_a_writer_killed_anywhere_leaves_every_acknowledged_change(where: str) -> None:
    command = [sys.executable, "-m", "tests.reid.kill", "--kills", "12", "--where", where]
    root = Path(__file__).parents[2]  # a process of its own: this one has threads, which a fork does not take along
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "acknowledged changes was there" in done.stderr


def test_a_backup_put_in_its_place_that_went_on_is_seen(gallery: Gallery, where: str, people: People) -> None:
    """The revision is the same again, or beyond; only the tokens tell."""
    rows = people(3, 2)
    gallery.enrol("a", rows[0])
    with Gallery.open(where, MODEL) as other:
        gallery.enrol("b", rows[1])
        assert other.identify(rows[1, 0])[0].nearest == "b"
        back = (
            "DELETE FROM gallery_embeddings WHERE revision = 3; DELETE FROM gallery_persons WHERE name = 'b'; "
            "UPDATE gallery_meta SET revision = 2, tokens = substr(tokens, 17)"
        )
        if "://" in where:
            with psycopg.connect(where) as connection:
                connection.execute(back)
        else:
            with sqlite3.connect(where) as connection:
                connection.executescript(back)
            connection.close()
        with Gallery.open(where, MODEL) as third:
            third.enrol("c", rows[2])
        assert other.identify(rows[1, 0])[0].nearest != "b"
        assert other.identify(rows[2, 0])[0].nearest == "c"
