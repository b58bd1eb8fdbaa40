"""One cache is one sequence's and one owner's; what it refuses, it refuses without a trace."""

from __future__ import annotations

import contextlib
import copy
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.strategies import uniform
from wifi_densepose_temporal import AetherTemporalHead, KvCache, TemporalHeadConfig
from wifi_densepose_temporal.errors import (
    CacheFullError,
    CacheInUseError,
    ConfigError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
    TemporalError,
)

CONFIG = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=2, head_dim=16, window=6, block_size=4)
HEAD = AetherTemporalHead(CONFIG)


def fill(cache: KvCache, steps: int, seed: int = 0) -> list[Any]:
    q, k, v = uniform(CONFIG, steps, seed)
    return [HEAD.step(q[t], k[t], v[t], cache) for t in range(steps)]


@pytest.mark.parametrize("dtype", ["float32", "float16", np.float32, np.dtype("float16")])
def test_a_cache_says_what_it_holds(dtype: Any) -> None:
    cache = HEAD.make_cache(10, dtype)
    assert (len(cache), cache.capacity, cache.position, cache.is_full) == (0, 10, 0, False)
    fill(cache, 10)
    assert (len(cache), cache.position, cache.is_full) == (10, 10, True)
    item = np.dtype(dtype).itemsize
    assert cache.nbytes == len(cache.tobytes()) >= 10 * 2 * 16 * 2 * item
    assert "kv_heads=2, head_dim=16" in repr(cache)
    _, k, v = uniform(CONFIG, 10, seed=0)
    keys, values = cache.read()
    np.testing.assert_array_equal(keys, k.astype(dtype).astype(np.float32))
    np.testing.assert_array_equal(values, v.astype(dtype).astype(np.float32))


def test_half_the_bytes_in_float16() -> None:
    dense = AetherTemporalHead(TemporalHeadConfig("dense", 4, 4, 32, 0, 1))
    assert dense.make_cache(1000, "float16").nbytes * 2 == dense.make_cache(1000).nbytes


def test_copies_go_their_own_ways() -> None:
    cache = HEAD.make_cache(30)
    fill(cache, 11)
    twin, image = cache.copy(), cache.tobytes()
    for other in (copy.copy(cache), copy.deepcopy(cache)):
        fill(other, 1, seed=5)
    assert (len(cache), cache.tobytes()) == (11, image)
    first, second = fill(cache, 9, seed=1), fill(twin, 9, seed=1)
    np.testing.assert_array_equal(first, second)
    assert cache.tobytes() == twin.tobytes() != image
    fill(twin, 1, seed=2)
    fill(cache, 1, seed=3)
    assert cache.tobytes() != twin.tobytes()
    assert (len(cache), len(twin)) == (21, 21)


def test_bytes_are_those_of_what_is_held() -> None:
    large, small = HEAD.make_cache(2**20), HEAD.make_cache(5)
    fill(large, 5)
    fill(small, 5)
    assert large.tobytes() == small.tobytes() == large.copy().tobytes()
    assert len(small.tobytes()) == small.nbytes < large.nbytes


def test_a_cleared_cache_is_a_new_one() -> None:
    cache = HEAD.make_cache(30)
    fill(cache, 23, seed=1)
    cache.clear()
    assert len(cache) == 0
    np.testing.assert_array_equal(fill(cache, 30, seed=2), fill(HEAD.make_cache(30), 30, seed=2))


def bad_steps() -> list[Any]:
    q, k, v = (x[0] for x in uniform(CONFIG, 1, seed=4))
    nan = k.copy()
    nan[1, 3] = np.nan
    huge = np.full_like(v, 70_000)
    two = np.zeros((2, 4, 16), np.float32)
    return [
        pytest.param((q, nan, v), NonFiniteError, r"k\[1, 3\] is nan", id="nan"),
        pytest.param((q, k, huge), NonFiniteError, "65504", id="beyond float16"),
        pytest.param((q[:3], k, v), ShapeError, "q has shape", id="too few query heads"),
        pytest.param((q, k, v[:, :8]), ShapeError, "v has shape", id="wrong head_dim"),
        pytest.param((two, k, v), ShapeError, "one token", id="several tokens"),
        pytest.param((q.ravel(), k, v), ShapeError, "one token", id="flat"),
    ]


@pytest.mark.parametrize(("step", "kind", "sentence"), bad_steps())
def test_a_refused_step_leaves_every_byte(step: Any, kind: type[TemporalError], sentence: str) -> None:
    cache = HEAD.make_cache(20, "float16")
    fill(cache, 7)
    image = cache.tobytes()
    with pytest.raises(kind, match=sentence):
        HEAD.step(*step, cache)
    assert (cache.tobytes(), len(cache)) == (image, 7)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_full_cache_refuses_and_stays(dtype: Any) -> None:
    cache = HEAD.make_cache(8, dtype)
    fill(cache, 8)
    image = cache.tobytes()
    with pytest.raises(CacheFullError, match="8 of 8 tokens"):
        fill(cache, 1)
    assert (cache.tobytes(), len(cache)) == (image, 8)


def test_rank_in_is_rank_out() -> None:
    q, k, v = uniform(CONFIG, 1, seed=5)
    flat = HEAD.step(q[0], k[0], v[0], HEAD.make_cache(1))
    kept = HEAD.step(q, k, v, HEAD.make_cache(1))
    assert (flat.shape, kept.shape) == ((4, 16), (1, 4, 16))
    np.testing.assert_array_equal(kept[0], flat)


@pytest.mark.parametrize(
    "change", [{"block_size": 8}, {"kv_heads": 4}, {"head_dim": 8}, {"landmarks": False}, {"backend": "dense"}]
)
def test_another_heads_cache_is_refused(change: dict[str, Any]) -> None:
    cache = AetherTemporalHead(replace(CONFIG, **change)).make_cache(3)  # one block, whatever its size
    with pytest.raises(ConfigError, match="made for a head"):
        fill(cache, 1)
    assert len(cache) == 0


def test_only_a_causal_head_steps() -> None:
    head, cache = AetherTemporalHead(replace(CONFIG, causal=False)), HEAD.make_cache(8)
    with pytest.raises(ConfigError, match="made for a head"):
        head.step(*(x[0] for x in uniform(CONFIG, 1, seed=0)), cache)


def test_what_is_no_cache_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected the KvCache"):
        HEAD.step(*(x[0] for x in uniform(CONFIG, 1, seed=0)), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capacity", "dtype", "kind"),
    [
        (0, "float32", ConfigError),
        (-3, "float32", ConfigError),
        (2.5, "float32", ConfigError),
        (8, "float64", ConfigError),
        (8, "int8", ConfigError),
        (8, "bfloat16", ConfigError),
        (2**31, "float32", ConfigError),
        (2**30, "float32", MemoryLimitError),
    ],
)
def test_impossible_caches_are_refused(capacity: Any, dtype: str, kind: type[TemporalError]) -> None:
    wide = TemporalHeadConfig("sparse_gqa", q_heads=512, kv_heads=512, head_dim=1024, window=6, block_size=4)
    with pytest.raises(kind):
        AetherTemporalHead(wide).make_cache(capacity, dtype)


def test_a_non_causal_head_has_no_cache() -> None:
    config = TemporalHeadConfig("sparse_gqa", 4, 2, 16, window=6, block_size=4, causal=False)
    with pytest.raises(ConfigError, match="causal"):
        AetherTemporalHead(config).make_cache(8)


def test_a_second_thread_is_refused_and_nothing_is_lost() -> None:
    """Several threads step one cache: every call either took effect or raised CacheInUseError."""
    dense = TemporalHeadConfig("dense", q_heads=8, kv_heads=1, head_dim=64, window=0, block_size=1)
    head, steps, threads = AetherTemporalHead(dense), 400, 4
    q, k, v = uniform(dense, 1, seed=6)
    cache = head.make_cache(steps * threads)
    taken, refused = [0] * threads, [0] * threads
    start = threading.Barrier(threads)

    def run(me: int) -> None:
        start.wait()
        for _ in range(steps):
            try:
                head.step(q, k, v, cache)
                taken[me] += 1
            except CacheInUseError:
                refused[me] += 1

    workers = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(cache) == sum(taken)
    assert sum(taken) + sum(refused) == steps * threads
    keys, _ = cache.read()
    np.testing.assert_array_equal(keys, np.broadcast_to(k, keys.shape))


def test_reading_beside_a_stepping_thread_is_refused_or_whole() -> None:
    cache = HEAD.make_cache(3000)
    q, k, v = (x[0] for x in uniform(CONFIG, 1, seed=7))
    done = threading.Event()

    def step() -> None:
        while not cache.is_full:
            with contextlib.suppress(CacheInUseError):
                HEAD.step(q, k, v, cache)
        done.set()

    worker = threading.Thread(target=step)
    worker.start()
    while not done.is_set():
        with contextlib.suppress(CacheInUseError):
            keys, values = cache.read()
            assert keys.shape == values.shape
            np.testing.assert_array_equal(keys, np.broadcast_to(k, keys.shape))
    worker.join()
    assert len(cache.read()[0]) == 3000


def test_a_float16_step_is_a_window_over_rounded_keys_and_values() -> None:
    config = TemporalHeadConfig("sparse_gqa", 4, 2, 16, window=6, block_size=4, landmarks=False)
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 60, seed=8)
    cache = head.make_cache(60, "float16")
    streamed = [head.step(q[t], k[t], v[t], cache) for t in range(60)]
    np.testing.assert_allclose(streamed, head.forward(q, k.astype(np.float16), v.astype(np.float16)), atol=1e-6)


def test_float16_rounding_is_numpys() -> None:
    """Every half, every midpoint between two halves and a float on either side of it, stored and read back."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    midpoints = (halves[:-1] + halves[1:]) / 2
    around = [np.nextafter(midpoints, np.float32(side)) for side in (0, np.inf)]
    values = np.concatenate([halves, midpoints, *around]).astype(np.float32)
    values = np.concatenate([values, -values])
    config = TemporalHeadConfig("dense", q_heads=1, kv_heads=1, head_dim=len(values), window=0, block_size=1)
    cache = AetherTemporalHead(config).make_cache(1, "float16")
    row = values[np.newaxis]
    AetherTemporalHead(config).step(np.zeros_like(row), row, row, cache)
    stored = cache.read()[0].ravel()
    np.testing.assert_array_equal(stored, values.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(np.signbit(stored), np.signbit(values))
