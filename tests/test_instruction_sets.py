"""Every instruction set that this processor has passes the tests that run kernels; the environment chooses, by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.instruction_set import VARIABLE

ROOT = Path(__file__).parents[1]
KERNEL_TESTS = [  # and not this file, which would start itself
    "tests/test_goldens.py",
    "tests/test_head.py",
    "tests/test_cache.py",
    "tests/test_eviction.py::test_any_head_is_as_defined",
    "tests/test_stream_eviction.py",
    "tests/test_out.py",
    "tests/test_threads.py",
    "tests/test_step_batch.py",
    "tests/test_int8.py",
    "tests/test_gradient.py",
    "tests/test_model.py",
    "tests/test_model_refusals.py",
    "tests/streams/test_pool.py::test_a_pool_is_a_stream_for_each_track",
    "tests/cli/test_recordings.py",
]


def python(*args: str, instruction_set: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {VARIABLE: instruction_set}
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_the_fastest_is_used_unless_another_is_named() -> None:
    usable = _core.instruction_sets()
    assert usable[-1] == "scalar"
    assert len(set(usable)) == len(usable)
    assert _core.instruction_set() == os.environ.get(VARIABLE, usable[0])


@pytest.mark.parametrize("name", _core.instruction_sets())
def test_the_environment_names_one(name: str) -> None:
    program = "from wifi_densepose_temporal import _core; print(_core.instruction_set(), _core.multiply_add(1000) > 0)"
    assert python("-c", program, instruction_set=name).stdout.split() == [name, "True"]


@pytest.mark.parametrize("name", ["avx1024", "", "SCALAR"])
def test_an_unknown_name_is_an_error_at_import(name: str) -> None:
    done = python("-c", "import wifi_densepose_temporal", instruction_set=name)
    assert done.returncode == 1
    usable = ", ".join(_core.instruction_sets())
    message = f"ConfigError: {VARIABLE} is {name!r}; this build has on this processor: {usable}"
    assert done.stderr.splitlines()[-1].endswith(message)


def test_an_unknown_name_changes_nothing() -> None:
    before = _core.instruction_set()
    assert not _core.use_instruction_set("avx1024")
    assert _core.instruction_set() == before


def test_the_other_sets_pass_the_tests_that_run_kernels() -> None:
    for name in _core.instruction_sets():
        if name == _core.instruction_set():
            continue
        done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *KERNEL_TESTS, instruction_set=name)
        tail = "\n".join(done.stdout.splitlines()[-40:])
        assert done.returncode == 0, f"{name}:\n{tail}\n{done.stderr[-2000:]}"
        assert " passed" in tail, f"{name}:\n{tail}"
