"""The head against the float64 reference, a step against the window, and what both refuse."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests import reference
from tests.strategies import assert_step_equals_forward, configs, uniform
from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig
from wifi_densepose_temporal.errors import ConfigError, DtypeError, MemoryLimitError, NonFiniteError, ShapeError

MHA = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=4, head_dim=32, window=16, block_size=32)
AETHER = TemporalHeadConfig.default_aether()


def stream(head: AetherTemporalHead, q: NDArray, k: NDArray, v: NDArray, dtype: str = "float32") -> NDArray:
    cache = head.make_cache(max(1, len(q)), dtype)
    return np.array([head.step(q[t], k[t], v[t], cache) for t in range(len(q))]).reshape(q.shape)


@settings(max_examples=200)
@given(configs(), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_forward_equals_the_reference(config: TemporalHeadConfig, T: int, seed: int) -> None:
    q, k, v = uniform(config, T, seed)
    np.testing.assert_allclose(
        AetherTemporalHead(config).forward(q, k, v), reference.forward(config, q, k, v), atol=1e-6, rtol=0
    )


@settings(max_examples=100)
@given(configs(causal=True), st.integers(0, 200), st.integers(0, 2**32 - 1))
def test_step_equals_forward_at_every_position(config: TemporalHeadConfig, T: int, seed: int) -> None:
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, T, seed)
    assert_step_equals_forward(stream(head, q, k, v), head.forward(q, k, v))


@pytest.mark.parametrize(("q_heads", "kv_heads"), [(4, 4), (6, 2), (4, 1)], ids=["mha", "gqa", "mqa"])
def test_float16_cache_within_its_precision(q_heads: int, kv_heads: int) -> None:
    config = TemporalHeadConfig("sparse_gqa", q_heads, kv_heads, 32, window=16, block_size=8)
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 300, seed=1)
    expected = reference.forward(config, q, k, v)
    np.testing.assert_allclose(stream(head, q, k, v, "float16"), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("backend", ["sparse_gqa", "dense"])
def test_long_sequence_keeps_its_precision(backend: Any) -> None:
    config = TemporalHeadConfig(backend, q_heads=1, kv_heads=1, head_dim=64, window=128, block_size=64)
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 8192, seed=2)
    out, streamed = head.forward(q, k, v), stream(head, q, k, v)
    rows = np.arange(0, 8192, 341)
    means = reference.block_means(k.astype(float), 64), reference.block_means(v.astype(float), 64)
    for i in rows:
        tokens = sorted(reference.token_candidates(config, int(i), 8192))
        blocks = sorted(reference.landmark_candidates(config, int(i), 8192))
        keys = np.concatenate([k[tokens, 0].astype(float), means[0][blocks, 0]])
        values = np.concatenate([v[tokens, 0].astype(float), means[1][blocks, 0]])
        expected = reference.attend(q[i, 0].astype(float), keys, values)
        np.testing.assert_allclose(out[i, 0], expected, atol=1e-6, rtol=0)
    assert_step_equals_forward(streamed, out)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_scores_of_ten_thousand_stay_finite(dtype: str) -> None:
    config = TemporalHeadConfig("sparse_gqa", q_heads=2, kv_heads=1, head_dim=16, window=8, block_size=4)
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 100, seed=3, scale=50)
    q[:], k[1::2], k[::2] = 50, 50, -50  # scores of 50 * 50 * 16 / 4 = 10^4, and as much below zero
    out = head.forward(q, k, v)
    np.testing.assert_allclose(out, reference.forward(config, q, k, v), atol=1e-4, rtol=0)
    assert np.isfinite(stream(head, q, k, v, dtype)).all()


def test_the_largest_numbers_taken_give_finite_numbers() -> None:
    config = TemporalHeadConfig("sparse_gqa", q_heads=2, kv_heads=1, head_dim=64, window=8, block_size=4)
    head, (q, k, v) = AetherTemporalHead(config), uniform(config, 60, seed=11, scale=1e12)
    assert np.isfinite(head.forward(q, k, v)).all()
    assert np.isfinite(stream(head, q, k, v)).all()


def test_wide_window_without_landmarks_is_dense() -> None:
    sparse = TemporalHeadConfig("sparse_gqa", 4, 2, 16, window=90, block_size=8, landmarks=False)
    dense = TemporalHeadConfig("dense", 4, 2, 16, window=0, block_size=8)
    q, k, v = uniform(sparse, 90, seed=4)
    np.testing.assert_allclose(
        AetherTemporalHead(sparse).forward(q, k, v), AetherTemporalHead(dense).forward(q, k, v), atol=1e-6
    )


def test_batch_is_independent_sequences() -> None:
    head = AetherTemporalHead(AETHER)
    sequences = [uniform(AETHER, 70, seed) for seed in range(3)]
    q, k, v = (np.stack(arrays) for arrays in zip(*sequences, strict=True))
    expected = np.stack([head.forward(*sequence) for sequence in sequences])
    np.testing.assert_array_equal(head.forward(q, k, v), expected)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 5)])
def test_nothing_in_gives_nothing_out(shape: tuple[int, ...]) -> None:
    out = AetherTemporalHead(AETHER).forward(*(np.zeros((*shape, h, 32), np.float32) for h in (4, 1, 1)))
    assert out.shape == (*shape, 4, 32)


def test_thousand_positions_at_the_default() -> None:
    head, (q, k, v) = AetherTemporalHead(AETHER), uniform(AETHER, 1000, seed=5)
    out = head.forward(q, k, v)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[-1], reference.forward(AETHER, q, k, v)[-1], atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------------------------------ edge count


@settings(max_examples=100)
@given(configs(), st.integers(0, 300))
def test_edge_count_equals_the_reference(config: TemporalHeadConfig, T: int) -> None:
    assert AetherTemporalHead(config).edge_count(T) == reference.edge_count(config, T)


def test_edge_count_of_the_specification() -> None:
    head = AetherTemporalHead(TemporalHeadConfig("sparse_gqa", 4, 4, 32, window=128, block_size=64))
    lengths = [512 << e for e in range(8)]
    counts = [59_778, 129_858, 272_130, 560_834, 1_146_498, 2_334_274, 4_742_658, 9_625_026]
    assert [head.edge_count(T) for T in lengths] == counts


def test_configuration_is_pickled_and_copied_by_value() -> None:
    assert pickle.loads(pickle.dumps(MHA)) == copy.deepcopy(MHA) == MHA
    head = pickle.loads(pickle.dumps(AetherTemporalHead(MHA)))
    assert head.edge_count(100) == AetherTemporalHead(MHA).edge_count(100)


@pytest.mark.parametrize("config", [None, {"q_heads": 4}])
def test_a_head_is_made_of_a_configuration(config: Any) -> None:
    with pytest.raises(ConfigError, match="expected a TemporalHeadConfig"):
        AetherTemporalHead(config)


@pytest.mark.parametrize("T", [-1, 1.5, True, "8", 2**31, 10**30])
def test_edge_count_refuses_what_is_no_length(T: Any) -> None:
    with pytest.raises(ShapeError, match="expected a length"):
        AetherTemporalHead(MHA).edge_count(T)


# -------------------------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"q_heads": 4, "kv_heads": 3}, "q_heads must be a multiple of kv_heads"),
        ({"q_heads": 1, "kv_heads": 2}, "q_heads must be a multiple of kv_heads"),
        ({"kv_heads": 0}, "must be at least 1"),
        ({"head_dim": 0}, "must be at least 1"),
        ({"window": -1}, "window must be at least 0"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"block_size": 2**31}, "expected at most"),
        ({"window": 2.5}, "expected a whole number"),
        ({"window": True}, "expected a whole number"),
        ({"causal": "no"}, "expected True or False"),
        ({"landmarks": np.array([1, 2])}, "expected True or False"),
        ({"global_tokens": np.array(3)}, "expected positions"),
        ({"global_tokens": range(10**12)}, "at most 64"),
        ({"backend": np.array([1, 2])}, "expected one of"),
        ({"global_tokens": (-1,)}, "global_tokens must be positions"),
        ({"global_tokens": 3}, "expected positions"),
        ({"global_tokens": range(65)}, "more than 64"),
        ({"backend": "sparse"}, "expected one of sparse_gqa, dense"),
    ],
)
@pytest.mark.parametrize("backend", ["sparse_gqa", "dense"])
def test_impossible_heads_are_refused(backend: str, change: dict[str, Any], sentence: str) -> None:
    fields = {"backend": backend, "q_heads": 4, "kv_heads": 1, "head_dim": 8, "window": 4, "block_size": 4}
    with pytest.raises(ConfigError, match=sentence):
        TemporalHeadConfig(**(fields | change))


def test_configuration_is_a_frozen_value() -> None:
    twin = TemporalHeadConfig("sparse_gqa", 4, 1, 32, 32, 16, global_tokens=[0, 0])  # type: ignore[arg-type]
    assert twin == AETHER
    assert hash(twin) == hash(AETHER)
    with pytest.raises(AttributeError):
        twin.window = 3  # type: ignore[misc]


# ------------------------------------------------------------------------------------------- arrays and their errors


class OnlyDlpack:
    """A tensor of another library: it can be exchanged, and nothing else."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class Broken:
    """A tensor whose library fails in its own way."""

    def __dlpack__(self, **options: Any) -> Any:
        raise AttributeError("no tensor today")

    def __dlpack_device__(self) -> Any:
        return (1, 0)


def test_other_libraries_tensors_and_exact_dtypes_are_taken() -> None:
    head, (q, k, v) = AetherTemporalHead(AETHER), uniform(AETHER, 40, seed=6)
    expected = head.forward(q, k, v)
    np.testing.assert_array_equal(head.forward(OnlyDlpack(q), OnlyDlpack(k), OnlyDlpack(v)), expected)
    np.testing.assert_array_equal(head.forward(np.asfortranarray(q), k, v), expected)
    np.testing.assert_array_equal(head.forward(q.astype(">f4"), k, v), expected)
    halves = [x.astype(np.float16) for x in (q, k, v)]
    np.testing.assert_array_equal(head.forward(*halves), head.forward(*(x.astype(np.float32) for x in halves)))


@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.int32, np.int64, object])
def test_dtypes_that_would_lose_something_are_refused(dtype: Any) -> None:
    q, k, v = uniform(AETHER, 5, seed=7)
    with pytest.raises(DtypeError, match=r"k has dtype .*astype\(numpy.float32\)"):
        AetherTemporalHead(AETHER).forward(q, k.astype(dtype), v)


def test_masks_and_non_arrays_are_refused() -> None:
    q, k, v = uniform(AETHER, 5, seed=8)
    head = AetherTemporalHead(AETHER)
    with pytest.raises(DtypeError, match="masked"):
        head.forward(np.ma.masked_less(q, 0), k, v)
    with pytest.raises(DtypeError, match="q has dtype"):
        head.forward("frames", k, v)
    with pytest.raises(DtypeError, match="cannot view"):
        head.forward([[1.0], [1.0, 2.0]], k, v)
    with pytest.raises(DtypeError, match="no tensor today"):
        head.forward(Broken(), k, v)
    with pytest.raises(MemoryLimitError, match="does not fit into memory"):
        head.forward(np.broadcast_to(np.float32(0), (2**40, 4, 32)), k, v)


def test_unaligned_arrays_are_taken() -> None:
    head, (q, k, v) = AetherTemporalHead(AETHER), uniform(AETHER, 20, seed=10)
    shifted = np.ndarray(q.shape, np.float32, bytearray(q.nbytes + 1), offset=1)
    shifted[:] = q
    np.testing.assert_array_equal(head.forward(shifted, k, v), head.forward(q, k, v))


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (((5, 3, 32), (5, 1, 32), (5, 1, 32)), "q"),
        (((5, 4, 32), (5, 2, 32), (5, 1, 32)), "k"),
        (((5, 4, 32), (5, 1, 32), (4, 1, 32)), "v"),
        (((5, 4, 32), (5, 1, 31), (5, 1, 32)), "k"),
        (((4, 32), (1, 32), (1, 32)), "q"),
        (((2, 5, 4, 32), (5, 1, 32), (5, 1, 32)), "k"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(shapes: tuple[tuple[int, ...], ...], name: str) -> None:
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(ShapeError, match=f"^{name} has shape"):
        AetherTemporalHead(AETHER).forward(*arrays)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e13, -3e38])
def test_the_first_non_finite_number_is_named(bad: float) -> None:
    q, k, v = uniform(AETHER, 600, seed=9)
    v[417, 0, 5] = v[500, 0, 1] = bad
    with pytest.raises(NonFiniteError, match=r"v\[417, 0, 5\]"):
        AetherTemporalHead(AETHER).forward(q, k, v)
