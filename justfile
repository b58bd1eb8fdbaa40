# What CI runs, and what a developer runs: the same recipes. `just` comes with the test extra (rust-just).
# Tools are those of .venv where there is one, else of the environment that is active.

export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

# Everything that CI checks.
check: lint test

# Style, types, and the C core under warnings as errors (its build is part of `test`).
lint:
    ruff check .
    ruff format --check .
    mypy

# A file's tests run in one process, since they share what it has built; files run beside each other.
test *args:
    python -m pytest -n auto --dist loadfile {{ args }}

# The C core's own tests under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize:
    python -m pytest tests/core

# The fuzz targets of firmware/fuzz, by default each for a million executions (half an hour); needs clang.
fuzz *args:
    python firmware/fuzz/fuzz.py {{ args }}

# 24 hours of frames at 100 Hz through the node's task, window and session, in fast motion: five minutes.
day hours="24":
    WDT_DAY_HOURS={{ hours }} python -m pytest -s --log-cli-level=INFO tests/firmware/test_day.py

# The node's bare-metal images on emulated chips: their tools from Debian where they are missing, tests, and what calls cost.
firmware *args: firmware-tools
    WDT_REQUIRE_QEMU=1 python -m pytest tests/firmware/test_emulation.py
    wdt node bench {{ args }}

[private]
firmware-tools:
    #!/usr/bin/env bash
    set -euo pipefail
    for chip in riscv64-unknown-elf-gcc arm-none-eabi-gcc xtensa-lx106-elf-gcc qemu-system-{riscv32,arm,xtensa}; do
      command -v "$chip" >/dev/null && continue
      as_root=""
      [ "$(id -u)" = 0 ] || as_root="sudo"
      $as_root apt-get update
      $as_root apt-get install -y --no-install-recommends $(cat firmware/emulation/packages.txt)
      break
    done

# An editable install whose C extension is rebuilt at import when a source has changed.
develop:
    python -m pip install -c constraints.txt "scikit-build-core>=0.11" "nanobind>=2.4" "cmake>=3.24" "ninja>=1.11"
    python -m pip install -c constraints.txt --no-build-isolation -e ".[dev]"
    pre-commit install

# Applies what `lint` would ask for.
format:
    ruff check --fix .
    ruff format .

# Every figure of docs/performance.md and of the README's tables, on a machine that does nothing else: a few minutes.
bench *args:
    python benchmarks/all.py {{ args }}

# Those pages' tables and picture from benchmarks/results, without measuring.
report *args:
    python benchmarks/report.py {{ args }}

# Sparse against dense alone.
speedup *args:
    wdt bench-speedup {{ args }}
