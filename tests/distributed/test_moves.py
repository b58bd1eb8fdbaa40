"""Tracks from one pool to another, as bytes: all of them, with their states, or none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import make_blob
from wifi_densepose_temporal import TemporalModel
from wifi_densepose_temporal.errors import MemoryLimitError, SnapshotError, TrackError
from wifi_densepose_temporal.streams import StreamPool

MODEL = TemporalModel.from_bytes(make_blob())
TRACKS = ("a", "b", 3)


def pool_of(*tracks: str | int, **options: Any) -> StreamPool:
    pool = StreamPool(MODEL, capacity=64, **options)
    for track in tracks:
        pool.open(track)
    return pool


def frames(tick: int) -> np.ndarray:
    return np.random.default_rng(tick).uniform(-1, 1, (len(TRACKS), MODEL.input_dim)).astype(np.float32)


def test_a_track_that_has_moved_goes_on_with_the_same_bits() -> None:
    old, new = pool_of(*TRACKS), pool_of("already here")
    for tick in range(5):
        old.push(TRACKS, frames(tick), np.full(3, tick / 50))
    new.import_tracks(old.export_tracks(TRACKS[1:]))
    assert new.tracks() == ("already here", "b", 3)
    expected = old.push(TRACKS, frames(5), np.full(3, 0.1))
    made = new.push(TRACKS[1:], frames(5)[1:], np.full(2, 0.1))
    for name in ("accepted", "logits", "embedding", "frames", "belief"):
        assert getattr(made, name).tobytes() == getattr(expected, name)[1:].tobytes()
    assert new.counters("b") == old.counters("b")


@pytest.mark.parametrize(
    ("there", "options", "error"),
    [
        (("b",), {}, TrackError),
        ((), {"cache_dtype": "float16"}, SnapshotError),
        ((), {"memory_limit": 2 * pool_of().bytes_per_track}, SnapshotError),
    ],
)
def test_what_cannot_be_taken_changes_nothing(
    there: tuple[str, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    pool = pool_of(*there, **options)
    with pytest.raises(error):
        pool.import_tracks(pool_of(*TRACKS).export_tracks(TRACKS))
    assert pool.tracks() == there


def test_no_track_is_closed_for_those_that_come() -> None:
    options = {"memory_limit": 4 * pool_of().bytes_per_track, "when_full": "close-idlest"}
    pool = pool_of("x", "y", **options)
    with pytest.raises(MemoryLimitError):
        pool.import_tracks(pool_of(*TRACKS, **options).export_tracks(TRACKS))
    assert pool.tracks() == ("x", "y")


def test_bytes_that_are_damaged_or_of_tracks_that_are_not_there() -> None:
    content = pool_of(*TRACKS).export_tracks(TRACKS)
    pool = pool_of()
    for damaged in (content[:-1], content[:-60] + bytes([content[-60] ^ 1]) + content[-59:], b""):
        with pytest.raises(SnapshotError):
            pool.import_tracks(damaged)
    with pytest.raises(TrackError):
        pool.export_tracks(["a"])
    assert pool.tracks() == ()
