"""A pool against a stream for each track: the same bits, whatever is pushed, opened, closed or refused beside it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.streams.conftest import model_of
from wifi_densepose_temporal import Stream, StreamPool
from wifi_densepose_temporal.errors import (
    CacheFullError,
    CacheInUseError,
    ConfigError,
    DtypeError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
    TemporalError,
    TimeOrderError,
    TrackError,
)
from wifi_densepose_temporal.streams.push import Push

POLICIES: list[Any] = ["sliding", "refuse", "heavy-hitter"]


def normal(model: Any, *lead: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((*lead, model.input_dim)).astype(np.float32)


def pool_and_streams(name: str, policy: Any, tracks: int, capacity: int, dtype: Any) -> tuple[StreamPool, list[Stream]]:
    model = model_of(name)
    pool = StreamPool(model, capacity=capacity, policy=policy, landmark_blocks=2, cache_dtype=dtype)
    for i in range(tracks):
        pool.open(i)
    return pool, [model.stream(capacity, dtype, policy=policy, landmark_blocks=2) for _ in range(tracks)]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", ["activity", "reid", "reference"])
def test_a_pool_is_a_stream_for_each_track(name: str, policy: Any) -> None:
    """Of all ages, in any order, with one bad frame in a hundred."""
    dtype = "float16" if policy == "sliding" else "float32"
    pool, streams = pool_and_streams(name, policy, 130, 40, dtype)
    rng = np.random.default_rng(1)
    for _ in range(50 if policy != "refuse" else 20):
        ids = rng.permutation(130)[: rng.integers(1, 130)]
        frames = normal(pool.model, len(ids), seed=int(rng.integers(1 << 30)))
        bad = rng.random(len(ids)) < 0.01
        frames[bad, 0] = rng.choice([np.nan, np.inf, 2e12])
        decisions = pool.push(ids, frames)
        assert list(decisions.refused) == np.flatnonzero(bad).tolist()
        assert {type(error) for error in decisions.refused.values()} <= {NonFiniteError}
        np.testing.assert_array_equal(decisions.accepted, ~bad)
        assert np.isnan(decisions.logits[bad]).all()
        for row in np.flatnonzero(~bad):
            one = streams[ids[row]].push(frames[row])
            np.testing.assert_array_equal(decisions.logits[row], one.logits)
            np.testing.assert_array_equal(decisions.embedding[row], one.embedding)
            assert decisions.labels[row] == one.labels
            assert decisions.frames[row] == len(streams[ids[row]])


def test_threads_change_no_bit() -> None:
    model, frames = model_of("activity"), normal(model_of("activity"), 5, 700)
    pools = [StreamPool(model, threads=threads) for threads in (1, 3)]
    for pool in pools:
        for i in range(700):
            pool.open(i)
    for batch in frames:
        one, three = (pool.push(range(700), batch) for pool in pools)
        np.testing.assert_array_equal(one.logits, three.logits)


def test_activations_that_overflow_refuse_their_track_alone() -> None:
    model = model_of("reference")  # without a norm, so that frames below the limit overflow behind it
    pool = StreamPool(model, capacity=8)
    streams = [model.stream(8, policy="sliding", landmark_blocks=256) for _ in range(20)]
    for i in range(20):
        pool.open(i)
    for t in range(12):
        frames = normal(model, 20, seed=t)
        frames[3] *= 9e11 if t % 2 else 1
        decisions = pool.push(range(20), frames)
        assert list(decisions.refused) == ([3] if t % 2 else [])
        for i in set(range(20)) - set(decisions.refused):
            np.testing.assert_array_equal(decisions.logits[i], streams[i].push(frames[i]).logits)


def test_values_that_float16_has_no_room_for() -> None:
    model = model_of("reference")
    pool = StreamPool(model, cache_dtype="float16")
    pool.open("a"), pool.open("b")
    frames = normal(model, 2)
    frames[0, 0] = 1e6
    decisions = pool.push(["a", "b"], frames)
    assert "65504" in str(decisions.refused[0])
    assert decisions.accepted.tolist() == [False, True]


# ----------------------------------------------------------------------------------------------------------- refusals


def test_every_refusal_is_a_rows_own() -> None:
    model = model_of("activity")
    pool = StreamPool(model, capacity=2, policy="refuse", gap=None)  # a silence would make room
    for name in ("full", "late", "good", "size", "dtype", "twice"):
        pool.open(name)
    frame = normal(model)
    for t in range(2):
        pool.push(["full"], frame[None], [float(t)])
    pool.push(["late"], frame[None], [5.0])
    names: list[Any] = ["full", "late", "good", "size", "dtype", "twice", "twice", "nobody", ["odd"], None]
    frames: list[Any] = [frame, frame, frame, frame[1:], frame.astype(np.float64), *[frame] * 5]
    decisions = pool.push(names, frames, [9, 5, 9, 9, 9, 9, 10, 9, 9, 9])
    kinds = [CacheFullError, TimeOrderError, None, ShapeError, DtypeError, None, *[TrackError] * 4]
    assert {i: type(error) for i, error in decisions.refused.items()} == {i: k for i, k in enumerate(kinds) if k}
    np.testing.assert_array_equal(decisions.logits[2], model.stream().push(frame).logits)
    assert decisions.labels[1] is None
    assert pool.counters("late").refused == 1
    assert pool.counters("late").last_time_s == 5.0
    later = pool.push(["late", "good", "full"], np.stack([frame] * 3), [5.5, np.nan, np.inf])
    assert {i: type(error) for i, error in later.refused.items()} == {1: NonFiniteError, 2: NonFiniteError}


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("ab", np.zeros((2, 30), np.float32)), ConfigError),
        ((5, np.zeros((2, 30), np.float32)), ConfigError),
        (([1, 2], np.zeros((3, 30), np.float32)), ShapeError),
        (([1, 2], np.zeros((2, 29), np.float32)), ShapeError),
        (([1, 2], [np.zeros(30, np.float32)]), ShapeError),
        (([1, 2], np.zeros((2, 30))), DtypeError),
        (([1, 2], np.zeros((2, 30), np.float32), [1.0]), ShapeError),
        (([1, 2], np.zeros((2, 30), np.float32), ["a", "b"]), ConfigError),
    ],
)
def test_a_call_that_cannot_be_is_refused_as_a_whole(arguments: Any, kind: Any) -> None:
    pool = StreamPool(model_of("activity"))
    pool.open(1), pool.open(2)
    with pytest.raises(kind):
        pool.push(*arguments)
    assert pool.counters(1).frames == pool.counters(1).refused == 0


@pytest.mark.parametrize("name", ["", "a" * 201, "a\n", True, 1.5, None, 1 << 63, b"a"])
def test_names_that_no_track_has(name: Any) -> None:
    with pytest.raises(ConfigError, match="track id"):
        StreamPool(model_of("activity")).open(name)


def test_open_and_close_mind_what_is_there() -> None:
    pool = StreamPool(model_of("activity"))
    pool.open("a")
    with pytest.raises(TrackError, match="is open"):
        pool.open("a")
    pool.close("a")
    for call in (pool.close, pool.counters):
        with pytest.raises(TrackError, match="is not open"):
            call("a")
    assert len(pool) == 0
    assert "a" not in pool
    assert len(pool.push([], np.zeros((0, 30), np.float32))) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"policy": "h2o-compact"},
        {"capacity": 0},
        {"cache_dtype": "int8"},
        {"source": "tv"},
        {"when_full": "wait"},
        {"idle_s": 0},
        {"idle_s": np.nan},
        {"memory_limit": 10},
        {"threads": 0},
        {"gap": 1.0},
        {"smoothing": True},
    ],
)
def test_arguments_that_no_pool_has(change: Any) -> None:
    with pytest.raises(ConfigError):
        StreamPool(model_of("activity"), **change)


def test_nothing_of_a_closed_track_stays() -> None:
    pool = StreamPool(model_of("activity"), capacity=8)
    pool.open("a")
    empty = pool._core.save(pool._slots["a"])
    slot = pool._slots["a"]
    pool.push(["a"], normal(pool.model, 1), [1.0])
    assert pool._core.save(slot) != empty
    assert any(pool._rows[slot].tobytes())
    pool.close("a")
    assert pool._core.save(slot) == empty
    assert not any(pool._rows[slot].tobytes())


# ------------------------------------------------------------------------------------------------- idleness and memory


def test_idle_tracks_are_closed_and_one_wrong_clock_closes_nobody() -> None:
    pool = StreamPool(model_of("activity"), idle_s=10)
    for name in "abcd":
        pool.open(name, time_s=0.0)
    frames = normal(pool.model, 3)
    assert pool.push(["a", "b", "c"], frames, [9.0, 9.0, 1e6]).closed == ()
    assert pool.push(["a", "b"], frames[:2], [11.0, 11.0]).closed == ("d",)
    assert pool.tracks() == ("a", "b", "c")
    assert pool.push(["a"], frames[:1], [30.0]).closed == ("b",)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_wrong_clock_closes_nobody_in_a_small_push(rows: int) -> None:
    pool = StreamPool(model_of("activity"), idle_s=60)
    frames, ids = normal(pool.model, 4), list(range(4))
    for i in ids:
        pool.open(i)
    pool.push(ids, frames, [1000.0] * 4)
    assert pool.push(ids[:rows], frames[:rows], [1e6, 1000.1][:rows]).closed == ()
    assert pool.tracks() == tuple(ids)


def test_a_clock_that_has_run_ahead_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pool = StreamPool(model_of("activity"), idle_s=10)
    frames = normal(pool.model, 3)
    for name in "abc":
        pool.open(name)
    pool.push(["a", "b", "c"], frames, [0.0, 0.0, 1e6])
    for second in range(1, 11):
        now[0] += 1
        decisions = pool.push(["a", "b", "c"], frames, [second] * 3)
        assert (list(decisions.refused), decisions.closed) == ([2], ())
    now[0] += 1
    assert pool.push(["a", "b"], frames[:2], [11.0, 11.0]).closed == ("c",)


def test_a_frame_without_a_time_counts_against_idleness() -> None:
    pool = StreamPool(model_of("activity"), idle_s=10)
    frames = normal(pool.model, 3)
    for name in "abc":
        pool.open(name, time_s=0.0)
    pool.push(["a"], frames[:1])
    assert pool.push(["b", "c"], frames[:2], [20.0, 20.0]).closed == ()


def test_idleness_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    pool = StreamPool(model_of("activity"), idle_s=10)
    pool.open("a"), pool.open("b")
    now[0] = 111.0
    assert pool.push(["a"], normal(pool.model, 1)).closed == ("b",)


def test_a_limit_refuses_or_closes_the_idlest() -> None:
    model = model_of("activity")
    limit = StreamPool(model).bytes_per_track * 3 + 5
    pool = StreamPool(model, memory_limit=limit)
    for name in "abc":
        assert pool.open(name) is None
    with pytest.raises(MemoryLimitError, match="close some"):
        pool.open("d")
    assert pool.tracks() == ("a", "b", "c")
    assert pool.nbytes <= limit
    pool = StreamPool(model, memory_limit=limit, when_full="close-idlest")
    for name in "abc":
        pool.open(name)
    pool.push(["a"], normal(model, 1))
    assert pool.open("d") == "b"
    assert pool.tracks() == ("a", "c", "d")


def test_two_threads_are_not_in_one_pool() -> None:
    pool = StreamPool(model_of("activity"))
    for i in range(2000):
        pool.open(i)
    frames, taken, start = normal(pool.model, 2000), [0, 0], threading.Barrier(2)

    def run(me: int) -> None:
        start.wait()
        for _ in range(20):
            try:
                pool.push(range(2000), frames)
                taken[me] += 1
            except CacheInUseError:
                pass

    workers = [threading.Thread(target=run, args=(me,)) for me in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {pool.counters(i).frames for i in range(2000)} == {sum(taken)}


# ------------------------------------------------------------------------------------------------------ interruptions


class Interrupted:
    """A pool's core whose push is interrupted, before or after it has run."""

    def __init__(self, core: Any, after: bool) -> None:
        self.core, self.after = core, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def push(self, *arguments: Any) -> None:
        if self.after:
            self.core.push(*arguments)
        raise KeyboardInterrupt


def with_a_frame() -> StreamPool:
    pool = StreamPool(model_of("activity"))
    pool.open(0), pool.open(1)
    pool.push([0, 1], normal(pool.model, 2), [0.0, 0.0])
    return pool


def test_ctrl_c_while_frames_run_comes_when_all_is_noted() -> None:
    pool, twin, frames = with_a_frame(), with_a_frame(), normal(model_of("activity"), 3, 2)
    core, pool._core = pool._core, Interrupted(pool._core, after=True)
    with pytest.raises(KeyboardInterrupt):
        pool.push([0, 1], frames[0], [0.04, 9.0])
    pool._core = core
    twin.push([0, 1], frames[0], [0.04, 9.0])
    assert [pool.counters(i) for i in (0, 1)] == [twin.counters(i) for i in (0, 1)]
    one, other = (each.push([0, 1], frames[1], [0.08, 9.04]) for each in (pool, twin))
    np.testing.assert_array_equal(one.logits, other.logits)
    np.testing.assert_array_equal(one.belief, other.belief)


@pytest.mark.parametrize("step", ["_note", "_smoothed", "_bridge"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_pool_whose_push_ended_halfway_says_so(
    step: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    pool, frames = with_a_frame(), normal(model_of("activity"), 2)

    def fail(*arguments: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Push, step, fail)
        with pytest.raises(error):
            pool.push([0, 1], frames, [0.04, 9.0])
    calls: list[Any] = [
        lambda: pool.push([0, 1], frames), lambda: pool.open("a"), lambda: pool.close(0), lambda: pool.counters(0),
        lambda: pool.save(tmp_path / "pool"), lambda: pool.export_tracks([0]),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(TemporalError, match="load the last snapshot"):
            call()
    assert list(tmp_path.iterdir()) == []


def test_without_memory_for_a_silence_its_rows_are_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, frames = with_a_frame(), normal(model_of("activity"), 2)
    before = pool.export_tracks([1])[-2000:-100]

    def fail(*arguments: Any) -> None:
        pool._core.reset(pool._slots[1])
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Push, "_bridge", fail)
        decisions = pool.push([0, 1], frames, [0.04, 9.0])
    assert {row: type(error) for row, error in decisions.refused.items()} == {1: MemoryLimitError}
    assert pool.export_tracks([1])[-2000:-100] == before
    assert (pool.counters(0).frames, pool.counters(1).frames, pool.counters(1).refused) == (2, 1, 1)


def test_without_memory_for_a_push_no_track_changes() -> None:
    pool, frames = with_a_frame(), normal(model_of("activity"), 2)
    core = pool._core

    class NoMemory(Interrupted):
        def push(self, *arguments: Any) -> None:
            raise MemoryError

    pool._core = NoMemory(core, after=False)
    with pytest.raises(MemoryLimitError):
        pool.push([0, 1], frames, [0.04, 0.04])
    pool._core = core
    assert pool.push([0, 1], frames, [0.04, 0.04]).frames.tolist() == [2, 2]


# ---------------------------------------------------------------------------------------------- arguments of all kinds


def test_numpys_integers_are_names_and_floats_are_none() -> None:
    pool = StreamPool(model_of("activity"))
    assert pool.open(np.int64(3)) is None
    assert pool.tracks() == (3,)
    assert type(pool.tracks()[0]) is int
    assert np.int32(3) in pool
    pool.open(1)
    decisions = pool.push([np.int64(3), 1.0, True], normal(pool.model, 3))
    assert decisions.accepted.tolist() == [True, False, False]
    assert list(map(type, decisions.refused.values())) == [TrackError, TrackError]
    assert True not in pool


@pytest.mark.parametrize("times", [["1.5"], [True], [1j]])
def test_times_are_numbers(times: Any) -> None:
    pool = StreamPool(model_of("activity"))
    pool.open(0)
    with pytest.raises(ConfigError, match="times_s"):
        pool.push([0], normal(pool.model, 1), times)
    with pytest.raises(ConfigError, match="time_s"):
        pool.open("a", "x")  # type: ignore[arg-type]
    assert pool.tracks() == (0,)


def test_the_longest_time_there_is() -> None:
    pool = StreamPool(model_of("activity"), idle_s=1)
    pool.open(0), pool.open(1)
    pool.push([0, 1], normal(pool.model, 2), [-1.7e308, -1.7e308])
    assert pool.push([0, 1], normal(pool.model, 2), [1.7e308, 1.7e308]).accepted.all()


# ------------------------------------------------------------------------------------------------------- any sequence


class Pools(RuleBasedStateMachine):
    """Tracks that come and go, against a dictionary of streams."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.streams = StreamPool(model_of("activity"), capacity=12, landmark_blocks=2), {}
        self.rng = np.random.default_rng(0)

    @rule(name=st.integers(0, 7) | st.sampled_from(["a", "b"]))
    def open_or_close(self, name: Any) -> None:
        if name in self.streams:
            self.pool.close(name)
            del self.streams[name]
        else:
            self.pool.open(name)
            self.streams[name] = self.pool.model.stream(12, policy="sliding", landmark_blocks=2)

    @rule(names=st.lists(st.integers(0, 7) | st.sampled_from(["a", "b", "x"]), max_size=12), frames=st.integers(1, 20))
    def push(self, names: Any, frames: int) -> None:
        for _ in range(frames):
            batch = self.rng.standard_normal((len(names), self.pool.model.input_dim)).astype(np.float32)
            decisions, seen = self.pool.push(names, batch), set()
            for i, name in enumerate(names):
                if name in self.streams and name not in seen:
                    np.testing.assert_array_equal(decisions.logits[i], self.streams[name].push(batch[i]).logits)
                else:
                    assert isinstance(decisions.refused[i], TrackError)
                seen.add(name)

    @invariant()
    def the_same_tracks(self) -> None:
        assert set(self.pool.tracks()) == set(self.streams)
        assert all(self.pool.counters(name).frames == len(stream) for name, stream in self.streams.items())


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
