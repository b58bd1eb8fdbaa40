"""`wdt info`: versions, the compiled core and what it uses of this processor, and which extras are there."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import wifi_densepose_temporal
from wifi_densepose_temporal import _core, plot
from wifi_densepose_temporal.cli.output import JsonOption, print_facts, print_json
from wifi_densepose_temporal.cli.train import NEEDED as TRAIN_NEEDED
from wifi_densepose_temporal.evaluation import scikit

# Of /proc/cpuinfo's many flags, those that a numerical kernel could use.
VECTOR_FLAGS = ("sse2", "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "asimd", "neon", "sve")
# The modules of each extra, as the commands that need them check.
EXTRAS = {"plot": plot.NEEDED, "evaluate": (*scikit.NEEDED, *plot.NEEDED), "train": TRAIN_NEEDED}
# What a module is installed by, where that has another name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "pytorch_metric_learning": "pytorch-metric-learning"}


def info(as_json: JsonOption = False) -> None:
    """Show versions, processor and extras."""
    extras = {extra: {_distribution(name): _version(name) for name in needed} for extra, needed in EXTRAS.items()}
    facts: dict[str, object] = {
        "wifi-densepose-temporal": wifi_densepose_temporal.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numpy": _version("numpy"),
        "csiread": _version("csiread"),
        "instruction_sets_found": instruction_sets() or "unknown",
        "instruction_sets_built": _core.instruction_sets(),
        "instruction_set_used": _core.instruction_set(),
        "extras": extras,
    }
    if as_json:
        print_json(facts)
        return
    del facts["extras"]
    shown = {f"extra [{extra}]": _said(found) for extra, found in extras.items()}
    print_facts({name.replace("_", " "): value for name, value in facts.items()} | shown)


def instruction_sets() -> list[str]:
    """Vector instruction sets of this processor, as far as the platform says; empty where it does not."""
    words = _cpu_flags().lower().replace(".", "_").split()
    return [flag for flag in VECTOR_FLAGS if flag in words]


def _cpu_flags() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass  # not Linux
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def _said(found: dict[str, str | None]) -> str:
    missing = [name for name, number in found.items() if number is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _distribution(module: str) -> str:
    return DISTRIBUTIONS.get(module, module)


def _version(module: str) -> str | None:
    """The installed version, None where the module cannot be found."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return version(_distribution(module))
    except PackageNotFoundError:
        return "unknown version"
