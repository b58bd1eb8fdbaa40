"""All benchmarks one after the other, each in a process of its own, then the report: every figure in the pages.

Takes nine minutes on a core of 2022, and one more the first time, when PyTorch compiles. With `--quick` it shows that
all run, and leaves benchmarks/results and the pages alone.

Without benchmarks/open_set.py: its figures are no speeds and need data sets, and benchmarks/results.py lays them out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = (
    "prefill",
    "backward",
    "threads",
    "decode",
    "against_torch",
    "eviction",
    "pool",
    "gallery",
    "sharding",
)

#: The README's command.
SPEEDUP = ("wifi_densepose_temporal", "bench-speedup", "--max-t", "16384", "--dense-budget", "2", "--json")


def run(folder: Path, quick: bool) -> list[str]:
    """Runs everything; names of what failed."""
    failed = []
    for name in SCRIPTS:
        print(f"\n== {name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(folder / f"{name}.json")]
        if subprocess.run([*command, "--quick"] if quick else command, check=False).returncode:
            failed.append(name)
    if not quick:
        print("\n== wdt bench-speedup", flush=True)
        done = subprocess.run([sys.executable, "-m", *SPEEDUP], check=False, stdout=subprocess.PIPE)
        if done.returncode:
            failed.append("bench-speedup")
        else:
            (folder / "speedup.json").write_bytes(done.stdout)
    return failed


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/all.py")
    parser.add_argument("--quick", action="store_true", help="few samples, into a temporary folder; no report")
    given = parser.parse_args()
    if os.getloadavg()[0] > 0.5:
        print(f"The load average is {os.getloadavg()[0]:.1f}: something else runs here, and figures will show it.")
    if given.quick:
        with tempfile.TemporaryDirectory() as folder:
            failed = run(Path(folder), quick=True)
    else:
        failed = run(HERE / "results", quick=False)
        if not failed:
            subprocess.run([sys.executable, HERE / "report.py"], check=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}" + ("" if given.quick else "; the pages are as they were"))


if __name__ == "__main__":
    main()
