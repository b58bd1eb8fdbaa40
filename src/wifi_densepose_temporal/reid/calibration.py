"""The threshold from which on a person is known, found with persons who are not.

A person counts once, by their largest similarity: windows of one person are alike, and many of them say little more
than one. What a threshold promises does not carry over to another group of people: docs/results.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import ConfigError, ShapeError
from wifi_densepose_temporal.reid import changes, tables
from wifi_densepose_temporal.reid.results import Calibration
from wifi_densepose_temporal.reid.tables import Meta
from wifi_densepose_temporal.reid.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Strangers:
    """Embeddings of persons who are not enrolled, checked."""

    probes: Floats
    """`[n, E]`, none of them zeros."""
    persons: list[str]
    """Whose each one is, n names."""
    recordings: frozenset[str]
    """SHA-256 of the recordings, where stated."""


def as_strangers(probes: Floats, persons: Sequence[str], recordings: object) -> Strangers:
    """The strangers that `Gallery.calibrate` was given, without rows of zeros.

    Raises:
        ShapeError: another number of persons or recordings.
        ConfigError: a recording that is no SHA-256, or is given as that of two persons.
    """
    if isinstance(persons, str) or len(persons) != len(probes):
        raise ShapeError(f"{len(persons)} persons for {len(probes)} strangers; give each one's")
    said = tables.as_recordings(recordings, len(probes))
    whose: dict[str, str] = {}
    for person, recording in zip(persons, said, strict=True):
        if recording is not None and whose.setdefault(recording, str(person)) != str(person):
            raise ConfigError(f"recording {recording[:12]} is given as that of two strangers; give each recording once")
    usable = np.asarray(probes.any(axis=1))
    names = [str(person) for person, use in zip(persons, usable, strict=True) if use]
    return Strangers(probes[usable], names, frozenset(whose))


def calibrate(
    connection: sa.Connection, meta: Meta, vectors: Vectors, strangers: Strangers | None, false_accept_rate: float
) -> Calibration:
    """Finds the threshold with the strangers, or with each enrolled person as one, and stores it.

    Raises:
        ConfigError: nobody is enrolled, strangers that are, or too few of them.
    """
    enrolled = len(vectors.keys)
    least = 1 if strangers else 2
    if enrolled < least:
        raise ConfigError(f"persons enrolled: {enrolled}; a calibration of this kind needs at least {least}")
    if strangers is None:
        largest, probes = vectors.strangers_within(), int(vectors.anchor.sum())
    else:
        _require_not_enrolled(connection, vectors, strangers)
        similarities = vectors.scores(strangers.probes, enrolled_only=True).max(axis=1)
        persons, number = np.unique(strangers.persons, return_inverse=True)
        largest, probes = np.full(len(persons), -1, np.float32), len(similarities)
        np.maximum.at(largest, number, similarities)
    threshold = threshold_at(largest, false_accept_rate)
    method = "within" if strangers is None else "strangers"
    made = Calibration(threshold, false_accept_rate, probes, len(largest), enrolled, method, tables.now())  # type: ignore[arg-type]
    changes.calibrate(connection, meta, made)
    return made


def _require_not_enrolled(connection: sa.Connection, vectors: Vectors, strangers: Strangers) -> None:
    known = sa.select(tables.embeddings.c.recording).distinct()
    if set(strangers.persons) & set(vectors.names):
        raise ConfigError("a stranger has the name of somebody who is enrolled; leave them out")
    if strangers.recordings and strangers.recordings & set(connection.scalars(known)):
        raise ConfigError("a stranger's recording is one that somebody was enrolled from; leave it out")


def threshold_at(similarities: Floats, false_accept_rate: float) -> float:
    """The smallest threshold that at most `false_accept_rate` of strangers reach.

    The k-th largest of n similarities, k = floor(rate (n + 1)), is not to be reached: a further stranger, drawn like
    these n, then reaches the threshold with a probability of at most k / (n + 1), over the draw of all (the quantile of
    split conformal prediction: Vovk, Gammerman and Shafer, 2005). A stranger is a person, with all their windows.

    Args:
        similarities: `[n]`, of each stranger: the largest of any window to any enrolled vector.
        false_accept_rate: between 0 and 1.

    Raises:
        ConfigError: no such rate, too few strangers for it, or a stranger no person could be nearer than.
    """
    if not isinstance(false_accept_rate, float) or not 0 < false_accept_rate < 1:
        raise ConfigError(f"false_accept_rate is {false_accept_rate!r}; expected a number between 0 and 1")
    count = len(similarities)
    at = math.floor(false_accept_rate * (count + 1) + 1e-9)  # 0.01 * 100 is 1, however it is rounded
    if at < 1:
        needed = math.ceil(1 / false_accept_rate - 1e-9) - 1
        reachable = f"ask for {math.ceil(1e4 / (count + 1)) / 1e4:g}, the smallest rate these can show" if count else ""
        raise ConfigError(
            f"a false-accept rate of {false_accept_rate:g} needs at least {needed} persons, each of whom counts once; "
            f"given: {count}. Give more{', or ' if reachable else ''}{reachable}"
        )
    largest = np.sort(similarities)[count - at]
    threshold = float(np.nextafter(largest, np.float32(np.inf), dtype=np.float32))
    if threshold > 1:
        raise ConfigError("the strangers are as near as can be, so that nobody could be known: are they enrolled?")
    return threshold
