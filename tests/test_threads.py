"""Threads inside one call: the same bits with any number of them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import configs, uniform
from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig
from wifi_densepose_temporal.errors import ConfigError

ROOT = Path(__file__).parents[1]
AETHER = TemporalHeadConfig.default_aether()


@settings(max_examples=60)
@given(configs(), st.integers(0, 700), st.sampled_from([(), (1,), (4,)]), st.integers(0, 2**32 - 1))
def test_a_window_is_the_same_on_any_number_of_threads(
    config: TemporalHeadConfig, T: int, batch: tuple[int, ...], seed: int
) -> None:
    """Parts that are fewer than the threads are shared, others are not; short windows start none."""
    head, count = AetherTemporalHead(config), int(np.prod(batch, dtype=int))
    q, k, v = (x.reshape(*batch, T, *x.shape[1:]) for x in uniform(config, T * count, seed))
    one = head.forward(q, k, v)
    for threads in (2, 3, 5):
        np.testing.assert_array_equal(head.forward(q, k, v, threads=threads), one)
    out, log_sum = head.forward_for_backward(q, k, v, threads=3)
    np.testing.assert_array_equal(out, one)
    np.testing.assert_array_equal(log_sum, head.forward_for_backward(q, k, v)[1])


def test_calls_side_by_side_do_not_meet() -> None:
    head, windows = AetherTemporalHead(AETHER), [uniform(AETHER, 400, seed) for seed in range(8)]
    expected = [head.forward(*window) for window in windows]
    with ThreadPoolExecutor(4) as pool:
        for got, one in zip(pool.map(lambda w: head.forward(*w, threads=3), windows * 5), expected * 5, strict=True):
            np.testing.assert_array_equal(got, one)


@pytest.mark.parametrize("threads", [0, -1, 1.0, True, "2", None, -(10**30)])
def test_threads_are_a_whole_number(threads: Any) -> None:
    head, arrays = AetherTemporalHead(AETHER), uniform(AETHER, 5, seed=0)
    caches = [head.make_cache(1) for _ in range(5)]
    for call in (head.forward, head.forward_for_backward, lambda *a, **k: head.step_batch(*a, caches, **k)):
        with pytest.raises(ConfigError, match="threads is"):
            call(*arrays, threads=threads)
    assert [len(cache) for cache in caches] == [0] * 5


@pytest.mark.parametrize("threads", [np.int64(2), 256, 10_000])
def test_more_threads_than_can_help_are_fine(threads: Any) -> None:
    head, (q, k, v) = AetherTemporalHead(AETHER), uniform(AETHER, 300, seed=1)
    np.testing.assert_array_equal(head.forward(q, k, v, threads=threads), head.forward(q, k, v))


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux does")
@pytest.mark.parametrize("batch", [1, 40])
def test_where_the_system_gives_no_more_threads_those_there_do_the_work(batch: int) -> None:
    """256 stacks do not fit into the address space that is left; a few do."""
    program = f"""
import resource
import numpy as np
from tests.strategies import uniform
from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig
config = TemporalHeadConfig.default_aether()
windows = [x.reshape({batch}, -1, *x.shape[1:]) for x in uniform(config, 20_000, seed=0)]
head = AetherTemporalHead(config)
one = head.forward(*windows)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, resource.RLIM_INFINITY))
np.testing.assert_array_equal(head.forward(*windows, threads=256), one)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
