"""Builds the C core's own tests with warnings as errors, and runs them: here with sanitizers, and on an emulated Arm.

Needs only a C compiler: CMake and Ninja come with the `test` extra. The emulated Arm needs a cross-compiler and QEMU,
and is skipped without them, except where WDT_REQUIRE_QEMU is set (.ci/run sets it).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import cmake
import ninja
import pytest
from tests.tools import give_up_without

ROOT = Path(__file__).parents[2]
CMAKE = Path(cmake.CMAKE_BIN_DIR)
PROGRAMS = ["attention", "chain", "eviction", "kernels", "model", "products", "rvne", "wire"]
VECTOR_PROGRAMS = {
    "x86_64": ["vector_sse2", "vector_avx2", "vector_avx512"],
    "aarch64": ["vector_neon"],
    "arm64": ["vector_neon"],
}


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(folder: Path, **options: object) -> Path:
    common = {
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_C_FLAGS": "-O1",  # with more, sanitizers make the compiler take minutes over the unrolled kernels
        "CMAKE_MAKE_PROGRAM": Path(ninja.BIN_DIR) / "ninja",
        "WDT_CORE_TESTS": "ON",
        "WDT_PYTHON": "OFF",
        "WDT_WERROR": "ON",
    }
    defines = [f"-D{name}={value}" for name, value in {**common, **options}.items()]
    run(CMAKE / "cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, *defines)
    run(CMAKE / "cmake", "--build", folder)
    return folder


def passes(build: Path, name: str) -> None:
    report = run(CMAKE / "ctest", "--test-dir", build, "--output-on-failure", "-R", f"^{name}$", "--no-tests=error")
    assert "100% tests passed" in report
    if "(Skipped)" in report:
        pytest.skip(f"this processor does not have the instruction set of {name}")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("core"), WDT_SANITIZE="address,undefined")


@pytest.fixture(scope="module")
def build_aarch64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    missing = [program for program in ("aarch64-linux-gnu-gcc", "qemu-aarch64") if shutil.which(program) is None]
    give_up_without(missing, "NEON is not tested")
    return built(tmp_path_factory.mktemp("aarch64"), CMAKE_TOOLCHAIN_FILE=ROOT / "tests" / "core" / "aarch64.cmake")


@pytest.mark.parametrize("name", PROGRAMS + VECTOR_PROGRAMS.get(platform.machine(), []))
def test_core_under_address_and_undefined_behaviour_sanitizers(build: Path, name: str) -> None:
    passes(build, name)


@pytest.mark.parametrize("name", PROGRAMS + VECTOR_PROGRAMS["aarch64"])
def test_core_on_an_emulated_64_bit_arm(build_aarch64: Path, name: str) -> None:
    passes(build_aarch64, name)


@pytest.mark.parametrize("source", sorted((ROOT / "core" / "src").glob("*.c")), ids=lambda path: path.name)
def test_scalar_build_needs_no_vector_header(source: Path, tmp_path: Path) -> None:
    """What firmware compiles: core/src/*.c with these options, and nothing else."""
    options = ["-std=c11", "-DWDT_SCALAR", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffp-contract=off"]
    options += ["-I", str(ROOT / "core" / "include")]
    rule = tmp_path / "rule.d"
    run(os.environ.get("CC", "cc"), *options, "-MD", "-MF", rule, "-c", source, "-o", tmp_path / "object.o")
    included = [Path(name) for name in rule.read_text().replace("\\\n", " ").split()[1:]]
    assert source in included
    assert not [path for path in included if path.name.endswith(("intrin.h", "arm_neon.h"))]
    assert not [path for path in included if path.is_relative_to(ROOT / "core" / "src" / "vector")]
