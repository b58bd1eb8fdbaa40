"""Routing: a track's shard follows from names alone, and a worker that comes or goes moves only its share."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wifi_densepose_temporal.distributed.routing import shard_of
from wifi_densepose_temporal.errors import ConfigError

names = st.lists(st.text(max_size=20), unique=True, min_size=1, max_size=8)
ids = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=20), max_size=50)


@given(shards=names, tracks=ids, new=st.text(max_size=20))
def test_a_new_shard_takes_tracks_and_no_track_moves_between_the_others(
    shards: list[str], tracks: list[int | str], new: str
) -> None:
    before = {track: shard_of(track, tuple(shards)) for track in tracks}
    after = {track: shard_of(track, (*shards, new)) for track in tracks}
    assert all(after[track] in (before[track], new) for track in tracks)


@given(shards=names, tracks=ids, data=st.data())
def test_a_shard_that_leaves_moves_its_own_tracks_alone(
    shards: list[str], tracks: list[int | str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(shards))
    left = [name for name in shards if name != gone]
    for track in tracks if left else ():
        home = shard_of(track, tuple(shards))
        assert (shard_of(track, tuple(left)) == home) == (home != gone)


@given(shards=names, track=st.text(max_size=20), data=st.data())
def test_the_order_of_the_shards_does_not_matter(shards: list[str], track: str, data: st.DataObject) -> None:
    assert shard_of(track, tuple(shards)) == shard_of(track, tuple(data.draw(st.permutations(shards))))


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_share_that_moves_is_one_in_n(workers: int) -> None:
    shards = [f"shard-{number}" for number in range(workers + 1)]
    tracks = [f"track {number}" for number in range(20_000)]
    moved = sum(shard_of(track, tuple(shards)) != shard_of(track, tuple(shards[:-1])) for track in tracks)
    expected = len(tracks) / len(shards)
    # Binomial: five standard deviations; the ids are fixed, so this holds or it does not.
    assert abs(moved - expected) < 5 * (expected * (1 - 1 / len(shards))) ** 0.5


def test_another_process_routes_alike() -> None:
    """Python's own hash would not: it is salted."""
    code = (
        "from wifi_densepose_temporal.distributed.routing import shard_of\n"
        "print([shard_of(n, ('a', 'b', 'c')) for n in range(40)])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout.strip() == str([shard_of(n, ("a", "b", "c")) for n in range(40)])


def test_routing_among_no_shards_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        shard_of("x", ())
