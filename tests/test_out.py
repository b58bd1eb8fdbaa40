"""The calls' own cost: memory that the caller gives, arrays taken as they lie, and what is refused on the way."""

from __future__ import annotations

import tracemalloc
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.strategies import uniform
from wifi_densepose_temporal import AetherTemporalHead, KvCache, TemporalHeadConfig
from wifi_densepose_temporal.errors import ConfigError, DtypeError, NonFiniteError, ShapeError, TemporalError

CONFIG = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=2, head_dim=16, window=6, block_size=4)
HEAD = AetherTemporalHead(CONFIG)


def token(seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    return tuple(x[0] for x in uniform(CONFIG, 1, seed))


def run(steps: int, cache: KvCache, token: tuple[NDArray[np.float32], ...], out: NDArray[np.float32]) -> None:
    for arrays in repeat(token, steps):
        HEAD.step(*arrays, cache, out=out)


def test_a_step_into_given_memory_allocates_nothing() -> None:
    cache, arrays, out = HEAD.make_cache(3000), token(), np.empty((4, 16), np.float32)
    tracemalloc.start()
    try:
        run(1000, cache, arrays, out)  # the interpreter and NumPy keep a little of their own from the first calls
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run(1000, cache, arrays, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100  # of a thousand steps: what was measured, and nothing else, is still there
    assert peak - before < 1024  # NumPy's description of each array, while it is looked at


@pytest.mark.parametrize("lead", [(), (1,)])
def test_a_step_writes_where_it_is_told(lead: tuple[int, ...]) -> None:
    q, k, v = (x.reshape(*lead, *x.shape) for x in token())
    expected = HEAD.step(q, k, v, HEAD.make_cache(1))
    out = np.full_like(q, np.nan)
    assert HEAD.step(q, k, v, HEAD.make_cache(1), out=out) is out
    np.testing.assert_array_equal(out, expected)
    halves = [x.astype(np.float16) for x in (q, k, v)]  # these have to be converted first
    assert HEAD.step(*halves, HEAD.make_cache(1), out=out) is out
    np.testing.assert_array_equal(out, HEAD.step(*halves, HEAD.make_cache(1)))


@pytest.mark.parametrize("batch", [(), (3,)])
def test_forward_writes_where_it_is_told(batch: tuple[int, ...]) -> None:
    count = int(np.prod(batch, dtype=int))
    q, k, v = (x.reshape(*batch, 70, *x.shape[1:]) for x in uniform(CONFIG, 70 * count, 1))
    out = np.full_like(q, np.nan)
    assert HEAD.forward(q, k, v, out=out) is out
    np.testing.assert_array_equal(out, HEAD.forward(q, k, v))
    out[:] = np.nan
    assert HEAD.forward(q, k, np.asfortranarray(v), out=out) is out  # v has to be converted first
    np.testing.assert_array_equal(out, HEAD.forward(q, k, v))


def unaligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    size = 4 * int(np.prod(shape))
    return np.ndarray(shape, np.float32, bytearray(size + 1), offset=1)


def read_only(shape: tuple[int, ...]) -> NDArray[np.float32]:
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


BAD_OUTPUTS: list[Any] = [
    pytest.param(lambda s: np.zeros(s), DtypeError, "float64", id="float64"),
    pytest.param(lambda s: np.zeros(s, ">f4"), DtypeError, ">f4", id="other byte order"),
    pytest.param(lambda s: np.zeros(s, np.float16), DtypeError, "float16", id="float16"),
    pytest.param(lambda s: np.zeros(s, np.float32).tolist(), DtypeError, "list", id="list"),
    pytest.param(lambda s: np.ma.zeros(s, np.float32), DtypeError, "MaskedArray", id="masked"),
    pytest.param(lambda s: np.zeros((*s, 2), np.float32)[..., 0], DtypeError, "C-contiguous", id="strided"),
    pytest.param(lambda s: np.zeros(s[::-1], np.float32).T, DtypeError, "C-contiguous", id="fortran"),
    pytest.param(unaligned, DtypeError, "aligned", id="unaligned"),
    pytest.param(read_only, DtypeError, "writable", id="read-only"),
    pytest.param(lambda s: np.zeros((*s[:-1], 15), np.float32), ShapeError, "out has shape", id="too short"),
    pytest.param(lambda s: np.zeros((1, *s), np.float32), ShapeError, "out has shape", id="an axis more"),
]


@pytest.mark.parametrize(("make", "kind", "sentence"), BAD_OUTPUTS)
def test_an_output_that_cannot_be_written_as_it_is_is_refused(
    make: Any, kind: type[TemporalError], sentence: str
) -> None:
    cache, (q, k, v) = HEAD.make_cache(4), token()
    with pytest.raises(kind, match=sentence):
        HEAD.step(q, k, v, cache, out=make(q.shape))
    assert len(cache) == 0
    windows = uniform(CONFIG, 3, seed=2)
    with pytest.raises(kind, match=sentence):
        HEAD.forward(*windows, out=make(windows[0].shape))
    with pytest.raises(kind, match=sentence):
        HEAD.step_batch(*windows, [HEAD.make_cache(1) for _ in range(3)], out=make(windows[0].shape))


def test_an_output_over_an_input_is_refused() -> None:
    memory = np.zeros(4 * 16 + 2 * 16 - 1, np.float32)
    out, (q, k, v) = memory[: 4 * 16].reshape(4, 16), token()
    cache = HEAD.make_cache(4)
    for arrays in ((out, k, v), (q, memory[-2 * 16 :].reshape(2, 16), v), (q, k, memory[:32].reshape(2, 16))):
        with pytest.raises(ConfigError, match="shares memory"):
            HEAD.step(*arrays, cache, out=out)
    assert len(cache) == 0
    windows = uniform(CONFIG, 5, seed=3)
    with pytest.raises(ConfigError, match="shares memory"):
        HEAD.forward(*windows, out=windows[0])
    with pytest.raises(ConfigError, match="shares memory"):
        HEAD.step_batch(*windows, [HEAD.make_cache(1) for _ in range(5)], out=windows[0])


def test_an_output_beside_its_inputs_is_taken() -> None:
    memory, (q, k, v) = np.zeros((2, 4, 16), np.float32), token()
    memory[0] = q
    HEAD.step(memory[0], k, v, HEAD.make_cache(1), out=memory[1])
    np.testing.assert_array_equal(memory[1], HEAD.step(q, k, v, HEAD.make_cache(1)))


class OnlyInterface:
    """An array of another library that says where it lies, and nothing else."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


def shifted(x: NDArray[np.float32]) -> NDArray[np.float32]:
    moved = unaligned(x.shape)
    moved[:] = x
    return moved


@pytest.mark.parametrize(
    "give",
    [
        lambda x: x.astype(">f4"),
        shifted,
        np.asfortranarray,
        OnlyInterface,
        memoryview,
        lambda x: x.view(np.recarray),
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: read_only(x.shape) + x,
    ],
    ids=["other byte order", "unaligned", "fortran", "interface", "buffer", "subclass", "strided", "plain"],
)
def test_the_same_numbers_in_any_form_give_the_same_bits(give: Any) -> None:
    (q, k, v), cache = token(seed=4), HEAD.make_cache(2)
    expected = HEAD.step(q, k, v, HEAD.make_cache(1))
    np.testing.assert_array_equal(HEAD.step(give(q), give(k), give(v), cache), expected)
    windows = uniform(CONFIG, 9, seed=5)
    np.testing.assert_array_equal(HEAD.forward(*map(give, windows)), HEAD.forward(*windows))


@pytest.mark.parametrize("argument", [None, "frames", {}, 3, object()])
def test_what_is_no_array_is_refused_by_name(argument: Any) -> None:
    q, _, v = token()
    with pytest.raises(TemporalError, match=r"^k "):
        HEAD.step(q, argument, v, HEAD.make_cache(1))
    with pytest.raises(DtypeError, match="out is"):
        HEAD.step(*token(), HEAD.make_cache(1), out=argument or "frames")


def test_every_number_is_looked_at() -> None:
    """NaN in each place of each array, in a plain array and in one that has to be converted."""
    cache = HEAD.make_cache(1)
    for which, name in enumerate("qkv"):
        for place in range(token()[which].size):
            arrays = [x.copy() for x in token()]
            arrays[which].flat[place] = np.nan
            index = ", ".join(str(int(i)) for i in np.unravel_index(place, arrays[which].shape))
            for given in (arrays, [np.asfortranarray(x) for x in arrays]):
                with pytest.raises(NonFiniteError, match=rf"^{name}\[{index}\] is nan"):
                    HEAD.step(*given, cache)
    assert len(cache) == 0
