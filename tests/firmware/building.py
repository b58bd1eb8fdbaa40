"""Compiles programs of these tests with the component, for a host and for chips; the fixture `build` is in conftest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.tools import give_up_without
from wifi_densepose_temporal import init_random_blob

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
FIRMWARE = ROOT / "firmware"
COMPONENT = FIRMWARE / "components" / "ruv_temporal"
HOST = FIRMWARE / "host" / "include"
EXAMPLE = FIRMWARE / "examples" / "csi_node"
DATA = ROOT / "src" / "wifi_densepose_temporal" / "data"
DEMO = DATA / "demo_esp32.csv"
ACTIVITY, REID = DATA / "models" / "activity.rvne", DATA / "models" / "reid.rvne"

CORE = sorted((ROOT / "core" / "src").glob("*.c"))
REFERENCE = init_random_blob()

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
INCLUDES = [COMPONENT / "include", COMPONENT / "src", ROOT / "core" / "include", ROOT / "tests" / "core", TESTS]
PERIOD_MS = 100  # of the task's tests
TASK_CONFIG = f"""#include "{HOST}/sdkconfig.h"
#undef CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS
#define CONFIG_TEMPORAL_CLASSIFY_PERIOD_MS {PERIOD_MS}
"""

# Values of esp_err.h that Python has to know.
ERRORS = {
    name: int(value.strip("()"), 0)
    for name, value in re.findall(r"#define (ESP_\w+) (\S+)", (HOST / "esp_err.h").read_text())
}


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """What a program said; it has to end with status 0."""
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, timeout=300, **options)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


def require(*programs: str) -> None:
    """Skips the test where a program is absent, but for CI, where it fails."""
    missing = [program for program in programs if shutil.which(program) is None]
    give_up_without(missing, "this is not tested")


def compile_c(
    sources: list[Path], output: Path, *options: object, config: Path = HOST, compiler: list[str] | None = None
) -> Path:
    """Compiles as a node is, with warnings as errors; sdkconfig.h is `config`'s."""
    includes = [f"-I{folder}" for folder in (config, HOST, *INCLUDES)]
    common = ["-std=gnu11", "-DWDT_SCALAR", "-ffp-contract=off", *WARNINGS, *includes]
    libraries = [] if "-c" in options else ["-lm"]
    command = compiler or [os.environ.get("CC", "cc")]
    run(*command, *common, *options, *sources, "-o", output, *libraries)
    return output


Build = Callable[..., Path]


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
