"""Builds the C core's own tests with sanitizers and warnings as errors, and runs them.

Needs only a C compiler: CMake and Ninja come with the `test` extra.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import cmake
import ninja
import pytest

ROOT = Path(__file__).parents[2]
CMAKE = Path(cmake.CMAKE_BIN_DIR)


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("core")
    options = {
        "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        "CMAKE_MAKE_PROGRAM": Path(ninja.BIN_DIR) / "ninja",
        "WDT_CORE_TESTS": "ON",
        "WDT_PYTHON": "OFF",
        "WDT_SANITIZE": "address,undefined",
        "WDT_WERROR": "ON",
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    run(CMAKE / "cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, *defines)
    run(CMAKE / "cmake", "--build", folder)
    return folder


@pytest.mark.parametrize("name", ["attention", "chain", "kernels", "model", "rvne"])
def test_core_under_address_and_undefined_behaviour_sanitizers(build: Path, name: str) -> None:
    report = run(CMAKE / "ctest", "--test-dir", build, "--output-on-failure", "-R", f"^{name}$", "--no-tests=error")
    assert "100% tests passed" in report
