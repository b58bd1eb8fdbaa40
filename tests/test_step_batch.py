"""One call for many tracks: the same bits as a step each, and every refusal is one track's own."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.strategies import configs, uniform
from wifi_densepose_temporal import AetherTemporalHead, KvCache, TemporalHeadConfig
from wifi_densepose_temporal.errors import (
    BatchRefusedError,
    CacheFullError,
    CacheInUseError,
    ConfigError,
    DtypeError,
    NonFiniteError,
    ShapeError,
    TemporalError,
)

CONFIG = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=2, head_dim=16, window=6, block_size=4)
HEAD = AetherTemporalHead(CONFIG)


def tracks(count: int, capacity: int = 8, dtype: Any = "float32") -> list[KvCache]:
    return [HEAD.make_cache(capacity, dtype) for _ in range(count)]


@settings(max_examples=60)
@given(configs(causal=True), st.integers(0, 300), st.sampled_from([1, 2, 3]), st.integers(0, 2**32 - 1))
def test_a_batch_is_a_step_of_each_track(config: TemporalHeadConfig, count: int, threads: int, seed: int) -> None:
    """Tracks of all ages, float32 and float16."""
    head = AetherTemporalHead(config)
    caches = [head.make_cache(4, ("float32", "float16")[i % 2]) for i in range(count)]
    for i, cache in enumerate(caches):
        for x in zip(*uniform(config, i % 3, seed), strict=True):
            head.step(*x, cache)
    twins = [cache.copy() for cache in caches]
    q, k, v = uniform(config, count, seed)
    expected = [head.step(q[i], k[i], v[i], twin) for i, twin in enumerate(twins)]
    out = np.full_like(q, np.nan)
    assert head.step_batch(q, k, v, tuple(caches), out=out, threads=threads) is out
    np.testing.assert_array_equal(out, np.array(expected, np.float32).reshape(q.shape))
    assert [cache.tobytes() for cache in caches] == [twin.tobytes() for twin in twins]


def test_arrays_that_need_it_are_converted() -> None:
    q, k, v = uniform(CONFIG, 5, seed=1)
    expected = HEAD.step_batch(q, k, v, tracks(5))
    assert expected.shape == q.shape
    np.testing.assert_array_equal(HEAD.step_batch(np.asfortranarray(q), k, v, tracks(5)), expected)


def refusing(bad: int) -> tuple[list[NDArray[np.float32]], list[KvCache], type[TemporalError], str]:
    """Ten tokens and tracks, of which number 6 refuses for the reason `bad`."""
    arrays, caches = [x.copy() for x in uniform(CONFIG, 10, seed=2)], tracks(10, capacity=1)
    if bad == 0:
        HEAD.step(*(x[6] for x in arrays), caches[6])
        return arrays, caches, CacheFullError, "1 of 1 tokens"
    if bad == 1:
        other = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=1, head_dim=16, window=6, block_size=4)
        caches[6] = AetherTemporalHead(other).make_cache(1)
        return arrays, caches, ConfigError, "made for a head"
    if bad == 2:
        caches[6] = caches[3]
        return arrays, caches, CacheInUseError, "each track of a batch"
    if bad == 3:
        caches[6] = HEAD.make_cache(1, "float16")
        arrays[2][6] = 70_000
        return arrays, caches, NonFiniteError, "65504"
    arrays[1][6, 1, 3] = (np.nan, -np.inf, 2e12)[bad - 4]
    return arrays, caches, NonFiniteError, r"^k\[1, 3\] is "


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", range(7))
def test_one_track_refuses_and_the_others_step(bad: int, threads: int) -> None:
    (q, k, v), caches, kind, sentence = refusing(bad)
    before, out = caches[6].tobytes(), np.empty_like(q)
    with pytest.raises(BatchRefusedError, match=r"1 of 10 tracks.* 6: ") as raised:
        HEAD.step_batch(q, k, v, caches, out=out, threads=threads)
    assert raised.value.out is out
    assert list(raised.value.refused) == [6]
    assert type(raised.value.refused[6]) is kind
    with pytest.raises(kind, match=sentence):
        raise raised.value.refused[6]
    assert np.isnan(out[6]).all()
    for i in set(range(10)) - {6}:
        assert len(caches[i]) == 1
        np.testing.assert_array_equal(out[i], HEAD.step(q[i], k[i], v[i], HEAD.make_cache(1)))
    if caches[6] is not caches[3]:
        assert caches[6].tobytes() == before
        with pytest.raises(kind) as alone:
            HEAD.step(q[6], k[6], v[6], caches[6])
        assert str(alone.value) == str(raised.value.refused[6])


def test_many_refusals_are_counted_and_a_few_are_named() -> None:
    caches = tracks(9, capacity=1)
    arrays = uniform(CONFIG, 9, seed=3)
    HEAD.step_batch(*arrays, caches)
    with pytest.raises(BatchRefusedError, match=r"9 of 9 tracks.*0: CacheFullError.*2: .*; and 6 more$") as raised:
        HEAD.step_batch(*arrays, caches)
    assert list(raised.value.refused) == list(range(9))
    twin = pickle.loads(pickle.dumps(raised.value))
    assert str(twin) == str(raised.value)


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"q": np.zeros((4, 4, 16), np.float32)}, ShapeError, r"q has shape \(4, 4, 16\); expected \(5, 4, 16\)"),
        ({"k": np.zeros((5, 2, 15), np.float32)}, ShapeError, "k has shape"),
        ({"v": np.zeros((5, 2, 16))}, DtypeError, "v has dtype"),
        ({"q": np.zeros((4, 16), np.float32)}, ShapeError, "q has shape"),
        ({"caches": tracks(4)}, ShapeError, "q has shape"),
        ({"caches": [*tracks(4), None]}, ConfigError, r"caches\[4\] is NoneType"),
        ({"caches": [HEAD, *tracks(4)]}, ConfigError, r"caches\[0\] is AetherTemporalHead"),
        ({"caches": tracks(1)[0]}, ConfigError, "a list or tuple"),
        ({"caches": iter(tracks(5))}, ConfigError, "a list or tuple"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_as_a_whole(
    change: dict[str, Any], kind: type[TemporalError], sentence: str
) -> None:
    q, k, v = uniform(CONFIG, 5, seed=4)
    caches = tracks(5)
    with pytest.raises(kind, match=sentence):
        HEAD.step_batch(**({"q": q, "k": k, "v": v, "caches": caches} | change))
    assert [len(cache) for cache in caches] == [0] * 5


def test_a_stream_is_no_cache(reference_blob_model: Any) -> None:
    streams = [reference_blob_model.stream(4)]
    with pytest.raises(ConfigError, match=r"caches\[0\] is Stream"):
        HEAD.step_batch(*uniform(CONFIG, 1, seed=5), streams)


def test_batches_that_share_tracks_never_corrupt_them() -> None:
    """Two threads step the same tracks in batches: every token either took effect or was refused as in use."""
    count, rounds = 40, 60
    caches, (q, k, v) = tracks(count, capacity=2 * rounds), uniform(CONFIG, count, seed=6)
    taken = [[0] * count, [0] * count]
    start = threading.Barrier(2)

    def run(me: int) -> None:
        start.wait()
        for _ in range(rounds):
            refused: dict[int, TemporalError] = {}
            try:
                HEAD.step_batch(q, k, v, caches)
            except BatchRefusedError as error:
                refused = error.refused
                assert {type(why) for why in refused.values()} == {CacheInUseError}
            for i in set(range(count)) - set(refused):
                taken[me][i] += 1

    workers = [threading.Thread(target=run, args=(me,)) for me in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [len(cache) for cache in caches] == [a + b for a, b in zip(*taken, strict=True)]
    for i, cache in enumerate(caches):
        keys, _ = cache.read()
        np.testing.assert_array_equal(keys, np.broadcast_to(k[i], keys.shape))
