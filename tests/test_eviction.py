"""Caches that fill: each policy is its definition at every position, and what is refused leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.reference_eviction import Compacted, Sequence
from tests.strategies import configs, uniform
from wifi_densepose_temporal import AetherTemporalHead, KvCache, TemporalHeadConfig
from wifi_densepose_temporal.errors import (
    BatchRefusedError,
    CacheFullError,
    ConfigError,
    DtypeError,
    NonFiniteError,
    ShapeError,
    TemporalError,
)

STEPS = 2000
#: Received weights that differ by less are equal: they are sums of thousands of float32 softmax weights.
TIE = 2e-6
GQA = TemporalHeadConfig("sparse_gqa", 4, 2, 8, window=6, block_size=4, global_tokens=(0, 13, 700, 5000))
SHAPES = [
    pytest.param(replace(GQA, kv_heads=4, global_tokens=(0,)), 7, 4096, id="MHA"),
    pytest.param(GQA, 20, 5, id="GQA, landmarks leave"),
    pytest.param(replace(GQA, kv_heads=1, window=12, block_size=3), 33, 1, id="MQA, one landmark"),
    pytest.param(replace(GQA, window=40, global_tokens=(2, 3, 500)), 10, 7, id="window beyond capacity"),
    pytest.param(replace(GQA, backend="dense"), 9, 4096, id="dense"),
    pytest.param(replace(GQA, global_tokens=(), landmarks=False), 7, 4096, id="no globals, no landmarks"),
    pytest.param(replace(GQA, window=0, log_stride=False), 5, 2, id="no window"),
]


def assert_is_defined(
    config: TemporalHeadConfig, policy: Any, capacity: int, blocks: int, dtype: str, steps: int, seed: int = 0
) -> None:
    """Steps a cache and the definition side by side: outputs within tolerance, the same positions held."""
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, steps, seed)
    cache = head.make_cache(capacity, dtype, policy, blocks)
    expected = Sequence(config, capacity, blocks)
    stored = np.dtype(dtype).type
    for t in range(steps):
        before = expected.may_leave() if policy == "heavy-hitter" and len(expected.held) == capacity else set()
        out = head.step(q[t], k[t], v[t], cache)
        expected.append(k[t], v[t], stored)
        if policy == "sliding":
            expected.slide()
        elif before:
            (left,) = expected.held - set(cache.positions().tolist())
            least = min(before, key=lambda p: (expected.received[p], p))
            assert left in before
            assert expected.received[left] <= expected.received[least] + TIE * (left != least)
            expected.held.remove(left)
        assert cache.positions().tolist() == sorted(expected.held)
        np.testing.assert_allclose(out, expected.attend(q[t]), atol=1e-6, rtol=0, err_msg=f"position {t}")
    keys, values = cache.read()
    np.testing.assert_array_equal(keys, [expected.k[p] for p in sorted(expected.held)])
    np.testing.assert_array_equal(values, [expected.v[p] for p in sorted(expected.held)])
    assert (len(cache), cache.position, cache.is_full) == (len(expected.held), steps, False)


@pytest.mark.parametrize("policy", ["sliding", "heavy-hitter"])
@pytest.mark.parametrize(("config", "capacity", "blocks"), SHAPES)
def test_every_position_is_the_definitions(config: TemporalHeadConfig, capacity: int, blocks: int, policy: Any) -> None:
    assert_is_defined(config, policy, capacity, blocks, "float32", STEPS)


@pytest.mark.parametrize("policy", ["sliding", "heavy-hitter"])
@pytest.mark.parametrize("backend", ["sparse_gqa", "dense"])
def test_float16_is_the_definition_over_rounded_tokens(backend: Any, policy: Any) -> None:
    assert_is_defined(replace(GQA, backend=backend), policy, 20, 5, "float16", 400)


def test_a_float16_cache_is_within_its_tolerance() -> None:
    """Of the tokens as they were given: what a sliding cache keeps does not depend on their rounding."""
    head, (q, k, v) = AetherTemporalHead(GQA), uniform(GQA, STEPS, seed=1)
    caches = [head.make_cache(20, dtype, "sliding", 5) for dtype in ("float16", "float32")]
    half, full = ([head.step(q[t], k[t], v[t], cache) for t in range(STEPS)] for cache in caches)
    np.testing.assert_allclose(half, full, atol=2e-3, rtol=0)


@pytest.mark.parametrize("policy", ["sliding", "heavy-hitter"])
@settings(max_examples=60, deadline=None)
@given(
    config=configs(causal=True, max_length=40),
    capacity=st.integers(1, 30),
    blocks=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_head_is_as_defined(policy: Any, config: TemporalHeadConfig, capacity: int, blocks: int, seed: int) -> None:
    reached = sum(g < 80 for g in config.global_tokens)
    assert_is_defined(config, policy, max(capacity, reached + 1), blocks, "float32", 80, seed)


def test_later_hitters_take_the_place_of_earlier_ones() -> None:
    """Every eighth token draws attention, and ever more of it: those that stayed for less have to go."""
    config = replace(GQA, kv_heads=1, window=3, global_tokens=(0,), block_size=5)
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 300, seed=2)
    q[:, :, 0], k[:, :, 0] = np.linspace(0.3, 4, 300)[:, None], np.where(np.arange(300) % 8, 0, 3)[:, None]
    cache, expected = head.make_cache(16, "float32", "heavy-hitter", 3), Sequence(config, 16, 3)
    ages = []
    for t in range(300):
        if len(expected.held) == 16:
            left = min(expected.may_leave(), key=lambda p: (expected.received[p], p))
            expected.held.remove(left)
            ages.append(t - left)
        expected.append(k[t], v[t])
        np.testing.assert_allclose(head.step(q[t], k[t], v[t], cache), expected.attend(q[t]), atol=1e-6, rtol=0)
        assert cache.positions().tolist() == sorted(expected.held)
    assert sum(age > config.window + 1 for age in ages) > 10


def test_of_equal_weights_the_oldest_goes() -> None:
    """Queries of zero that see two tokens each: all but the first receive 1/2 twice, exactly."""
    config = TemporalHeadConfig("sparse_gqa", 1, 1, 4, 1, 1, global_tokens=(), log_stride=False, landmarks=False)
    head, (_, k, v) = AetherTemporalHead(config), uniform(config, 8, seed=3)
    cache, held = head.make_cache(4, policy="heavy-hitter"), []
    for t in range(8):
        head.step(np.zeros((1, 4), np.float32), k[t], v[t], cache)
        held.append(cache.positions().tolist())
    assert held[3:] == [[0, 1, 2, 3], [0, 2, 3, 4], [0, 3, 4, 5], [0, 4, 5, 6], [0, 5, 6, 7]]


def test_where_every_token_is_global_a_heavy_hitter_cache_refuses() -> None:
    head = AetherTemporalHead(replace(GQA, global_tokens=(0, 1, 2, 3)))
    cache, (q, k, v) = head.make_cache(4, policy="heavy-hitter"), uniform(GQA, 5, seed=4)
    for t in range(4):
        assert not cache.is_full
        head.step(q[t], k[t], v[t], cache)
    image = cache.tobytes()
    assert cache.is_full
    with pytest.raises(CacheFullError, match="are global"):
        head.step(q[4], k[4], v[4], cache)
    assert cache.tobytes() == image
    assert cache.positions().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("backend", ["sparse_gqa", "dense"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_before_anything_leaves_a_sliding_cache_has_a_refusing_ones_bits(backend: Any, dtype: str) -> None:
    config = replace(GQA, backend=backend, global_tokens=(0, 13))
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 150, seed=5)
    refuses, slides = head.make_cache(150, dtype), head.make_cache(150, dtype, "sliding")
    for t in range(150):
        np.testing.assert_array_equal(head.step(q[t], k[t], v[t], slides), head.step(q[t], k[t], v[t], refuses))
    np.testing.assert_array_equal(slides.positions(), refuses.positions())


# ------------------------------------------------------------------------------------------- one cache, one owner

POLICIES = ["refuse", "sliding", "heavy-hitter", "h2o-compact"]
EVICTING = POLICIES[1:]


def step_on(cache: KvCache, steps: int, seed: int = 0) -> list[NDArray[np.float32]]:
    head, (q, k, v) = AetherTemporalHead(GQA), uniform(GQA, steps, seed)
    outs = []
    for t in range(steps):
        scored = cache.policy == "h2o-compact" and cache.is_full
        scores = np.random.default_rng([seed, t]).random(len(cache), np.float32) if scored else None
        outs.append(head.step(q[t], k[t], v[t], cache, scores=scores))
    return outs


@pytest.mark.parametrize("policy", EVICTING)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_copies_and_cleared_caches_go_on_alike(policy: Any, dtype: str) -> None:
    head = AetherTemporalHead(GQA)
    cache = head.make_cache(20, dtype, policy, 3)
    before = step_on(cache, 90)
    nbytes, twin = cache.nbytes, cache.copy()
    assert (twin.policy, twin.landmark_blocks, len(twin), twin.position) == (policy, 3, len(cache), cache.position)
    assert cache.tobytes() == twin.tobytes()
    np.testing.assert_array_equal(step_on(cache, 70, seed=1), step_on(twin, 70, seed=1))
    assert cache.tobytes() == twin.tobytes()
    step_on(twin, 1, seed=2)
    step_on(cache, 1, seed=3)
    assert cache.tobytes() != twin.tobytes()
    cache.clear()
    assert (len(cache), cache.position, cache.nbytes) == (0, 0, nbytes)
    np.testing.assert_array_equal(step_on(cache, 90), before)
    fresh = head.make_cache(20, dtype, policy, 3)
    step_on(fresh, 90)
    assert cache.tobytes() == fresh.tobytes()


@pytest.mark.parametrize("policy", EVICTING)
def test_a_refused_step_leaves_every_byte(policy: Any) -> None:
    head, (q, k, v) = AetherTemporalHead(GQA), uniform(GQA, 1, seed=6)
    cache = head.make_cache(20, "float16", policy, 3)
    step_on(cache, 57)
    image, scores = cache.tobytes(), np.zeros(len(cache)) if policy == "h2o-compact" else None
    huge, nan = np.full_like(k, 7e4), np.full_like(k, np.nan)
    for bad in ((q, huge, v), (q, k, huge), (q, nan, v), (q, k, v[:, :1])):
        with pytest.raises(TemporalError):
            head.step(*bad, cache, scores=scores)
        assert cache.tobytes() == image


@pytest.mark.parametrize("policy", ["sliding", "heavy-hitter"])
@pytest.mark.parametrize(
    "change", [{"window": 7}, {"global_tokens": (0, 13, 700)}, {"block_size": 5}, {"landmarks": False}]
)
def test_another_heads_cache_is_refused(policy: Any, change: dict[str, Any]) -> None:
    cache = AetherTemporalHead(replace(GQA, **change)).make_cache(20, policy=policy)
    with pytest.raises(ConfigError, match="made for a head"):
        step_on(cache, 1)


@pytest.mark.parametrize(
    "words", [{"policy": "fifo"}, {"policy": None}, {"landmark_blocks": 0}, {"landmark_blocks": 1.5}]
)
def test_impossible_caches_are_refused(words: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(words))):
        AetherTemporalHead(GQA).make_cache(20, **words)


def test_a_batch_may_mix_policies_and_a_full_compact_cache_refuses_alone() -> None:
    head = AetherTemporalHead(GQA)
    caches = [head.make_cache(9, "float32", policy, 2) for policy in POLICIES]
    twins = [head.make_cache(9, "float32", policy, 2) for policy in ("sliding", "heavy-hitter")]
    for t in range(12):
        q, k, v = uniform(GQA, 4, seed=t)
        expected = [head.step(q[i], k[i], v[i], twin) for i, twin in zip((1, 2), twins, strict=True)]
        if t < 9:
            out = head.step_batch(q, k, v, caches)
        else:
            with pytest.raises(BatchRefusedError) as caught:
                head.step_batch(q, k, v, caches)
            out = caught.value.out
            assert set(caught.value.refused) == {0, 3}
            assert "scores" in str(caught.value.refused[3])
        np.testing.assert_array_equal(out[1:3], expected)


# ------------------------------------------------------------------------------------------------------ h2o-compact


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float16", 2e-3)])
@pytest.mark.parametrize(
    ("config", "capacity"),
    [
        (replace(GQA, global_tokens=(0, 3, 11)), 20),
        (replace(GQA, kv_heads=4, window=30), 12),
        (replace(GQA, kv_heads=1, block_size=1), 13),
        (replace(GQA, backend="dense", global_tokens=(2,)), 9),
        (replace(GQA, landmarks=False, window=0), 1),
    ],
)
def test_compacting_is_the_definition(config: TemporalHeadConfig, capacity: int, dtype: str, tolerance: float) -> None:
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 400, seed=7)
    cache, expected = head.make_cache(capacity, dtype, "h2o-compact"), Compacted(config, capacity)
    rng = np.random.default_rng(8)
    for t in range(400):
        scores = rng.integers(0, 9, len(cache)).astype(np.float32)  # with ties
        out = head.step(q[t], k[t], v[t], cache, scores=scores if cache.is_full or t % 2 else None)
        np.testing.assert_allclose(out, expected.step(q[t], k[t], v[t], scores), atol=tolerance, rtol=0)
        assert (len(cache), cache.position) == (len(expected.k), len(expected.k))
    np.testing.assert_array_equal(cache.positions(), np.arange(capacity))
    np.testing.assert_array_equal(cache.read()[0], np.array(expected.k).astype(dtype))


def test_what_scores_have_to_be() -> None:
    head, (q, k, v) = AetherTemporalHead(GQA), uniform(GQA, 1, seed=9)
    cache = head.make_cache(8, policy="h2o-compact")
    step_on(cache, 8)
    image = cache.tobytes()
    bad: list[tuple[Any, type[TemporalError], str]] = [
        (None, CacheFullError, "scores"),
        (np.zeros(7, np.float32), ShapeError, r"scores has shape \(7,\)"),
        (np.zeros((8, 1), np.float32), ShapeError, "one for each token"),
        (np.full(8, np.nan, np.float32), NonFiniteError, r"scores\[0\] is nan"),
        (np.zeros(8), DtypeError, "float32 cannot hold"),
    ]
    for scores, kind, sentence in bad:
        with pytest.raises(kind, match=sentence):
            head.step(q, k, v, cache, scores=scores)
        assert cache.tobytes() == image
    assert head.step(q, k, v, cache, scores=np.ones(8, np.float16)).shape == (1, 4, 8)
    for policy in POLICIES[:3]:
        other = head.make_cache(8, "float32", policy)
        for scores in ([], np.zeros(0, np.float32), np.zeros(3)):
            with pytest.raises(ConfigError, match="scores were given"):
                head.step(q, k, v, other, scores=scores)
        assert len(other) == 0
