"""Kills a writer of a gallery at random instants, and looks whether every acknowledged change is there, none by half.

    python -m tests.reid.kill --kills 1000 [--where postgresql://...]

The writer says on a pipe what it is about to do, and again when the call has returned. Whoever reopens the gallery has
to find the state after all calls that returned; the one under way when the kill came may be there whole or not at all.
The writer is a fork of this process, so that a kill costs milliseconds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.reid.conftest import MODEL, unit
from wifi_densepose_temporal.reid import Gallery

State = dict[str, int]  # by person: number of embeddings
Change = tuple[str, str, str | int]
PERSONS = 12
CENTRES = unit(np.random.default_rng(0).standard_normal((PERSONS, 32)))


def after(state: State, change: Change) -> State:
    """What a change makes of a state."""
    action, name, value = change
    state = dict(state)
    if action == "enrol":
        state[name] = state.get(name, 0) + int(value)
    elif action == "forget":
        del state[name]
    elif action == "merge":
        state[str(value)] += state.pop(name)
    return state


def choose(state: State, draw: random.Random) -> Change:
    """A change that can be made in this state."""
    there, name = sorted(state), f"p{draw.randrange(PERSONS)}"
    action = draw.choice(("enrol", "enrol", "enrol", "forget", "merge"))
    if action == "forget" and name in there:
        return "forget", name, 0
    other = draw.choice(there) if there else name
    if action == "merge" and name in there and other != name and state[name] + state[other] < 500:
        return "merge", name, other
    return "enrol", name, draw.randint(1, 4)


def make(gallery: Gallery, change: Change, draw: random.Random) -> None:
    """Makes the change in the gallery."""
    action, name, value = change
    if action == "forget":
        gallery.forget(name)
    elif action == "merge":
        gallery.merge(name, into=str(value))
    else:
        noise = np.random.default_rng(draw.randrange(1 << 30)).standard_normal((int(value), 32))
        gallery.enrol(name, unit(CENTRES[int(name[1:])] + 0.1 * noise), if_exists="add")


def write_until_killed(where: str, state: State, seed: int, pipe: int) -> None:
    """The writer: announces each change, makes it, acknowledges it."""
    draw = random.Random(seed)
    with Gallery.open(where, MODEL) as gallery:
        while True:
            change = choose(state, draw)
            os.write(pipe, (json.dumps(change) + "\n").encode())
            make(gallery, change, draw)
            state = after(state, change)
            os.write(pipe, b"done\n")


def kill_one(where: str, state: State, draw: random.Random) -> tuple[list[State], int]:
    """Forks a writer and kills it; the states that may be found, and how many changes were acknowledged."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            write_until_killed(where, state, draw.randrange(1 << 30), writing)
        finally:
            os._exit(1)  # an error in the writer is not a kill
    os.close(writing)
    time.sleep(draw.uniform(0.01, 0.15))  # it takes some 10 ms to open the gallery
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError("the writer ended by itself")
    with open(reading, encoding="utf-8") as pipe:  # noqa: PTH123  (a pipe)
        lines = pipe.read().splitlines()
    acknowledged, under_way = 0, None
    for line in lines:
        if line != "done":
            under_way = tuple(json.loads(line))
        elif under_way is not None:
            state, under_way, acknowledged = after(state, under_way), None, acknowledged + 1
    return [state] if under_way is None else [state, after(state, under_way)], acknowledged


def found_state(where: str) -> State:
    """What a reopened gallery holds; it has to be sound."""
    with Gallery.open(where, MODEL) as gallery:
        gallery.verify()
        return {name: gallery.show(name).enrolled for name in gallery.persons()}


def kill_writers(where: str, kills: int, seed: int = 0) -> int:
    """Kills that many writers, one after the other; how many changes were acknowledged before.

    Raises:
        AssertionError: a reopened gallery is in none of the states that it may be in.
    """
    draw = random.Random(seed)
    Gallery.open(where, MODEL, create=True).close()
    state, total = found_state(where), 0
    for number in range(kills):
        allowed, acknowledged = kill_one(where, state, draw)
        state = found_state(where)
        assert state in allowed, f"kill {number}: found {state}, expected one of {allowed}"
        total += acknowledged
        if number % 100 == 99:
            logging.info("%d kills, %d changes acknowledged", number + 1, total)
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--where", help="path or URL of an empty place; by default a file in a new folder")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        count = kill_writers(given.where or str(Path(folder) / "persons.gallery"), given.kills, given.seed)
    logging.info("%d kills: every one of %d acknowledged changes was there, none by half", given.kills, count)
