"""Builds and runs the fuzz targets: hostile blobs, packets, feature input, CSI buffers, frames and snapshots.

    python firmware/fuzz/fuzz.py                        every target under libFuzzer, a million executions
    python firmware/fuzz/fuzz.py blob --seconds 60
    python firmware/fuzz/fuzz.py --engine memory        under MemorySanitizer

Engines: `libfuzzer` (clang: mutations that follow what code they reach, under AddressSanitizer and
UndefinedBehaviorSanitizer); `address` (any compiler, the same sanitizers, corpus and random mutations of it); `memory`
(clang's MemorySanitizer, likewise); `valgrind` (no sanitizer; valgrind runs it).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
TARGETS = ("blob", "packet", "features", "buffers", "frames", "snapshot")
COMPONENT = ROOT / "firmware" / "components" / "ruv_temporal"
PARTS = ("ruv_temporal", "temporal_features")
SOURCES = [*sorted((ROOT / "core" / "src").glob("*.c")), *(COMPONENT / "src" / f"{name}.c" for name in PARTS)]
INCLUDES = [
    ROOT / "core" / "include",
    ROOT / "core" / "src",
    COMPONENT / "include",
    ROOT / "firmware" / "host" / "include",
]
# What firmware compiles, and every warning an error.
OPTIONS = ["-std=c11", "-g", "-O1", "-DWDT_SCALAR", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
CHECKED = "address,undefined,float-cast-overflow"
SANITIZE = {"libfuzzer": f"fuzzer,{CHECKED}", "address": CHECKED, "memory": "memory", "valgrind": None}
ENGINES = tuple(SANITIZE)
SEED = 1
MOST_BYTES = {"blob": 2048, "packet": 2048, "features": 2048, "buffers": 2048, "frames": 256, "snapshot": 512}
# A sanitizer's finding ends the program by abort(), for which standalone.c shows the input.
ENVIRONMENT = dict.fromkeys(("ASAN_OPTIONS", "UBSAN_OPTIONS", "MSAN_OPTIONS"), "abort_on_error=1:halt_on_error=1")


def compiler(engine: str) -> str:
    """The compiler that the engine needs: clang, or whatever C compiler there is."""
    return "clang" if engine in ("libfuzzer", "memory") else os.environ.get("CC", "cc")


def sanitizers(engine: str, link: bool) -> list[str]:
    """The compiler's options for them; only a target is linked with libFuzzer's main."""
    chosen = SANITIZE[engine]
    if chosen is None:
        return []
    if not link:
        chosen = chosen.replace("fuzzer,", "fuzzer-no-link,")
    return [f"-fsanitize={chosen}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def compile_source(engine: str, source: Path, compiled: Path) -> None:
    """One file of the core or the component."""
    run = [compiler(engine), *OPTIONS, *(f"-I{path}" for path in INCLUDES), *sanitizers(engine, False)]
    subprocess.run([*run, "-c", source, "-o", compiled], check=True)


def link(engine: str, target: str, objects: list[Path], program: Path) -> None:
    """A target over the compiled core."""
    sources = [FOLDER / f"fuzz_{target}.c", *([] if engine == "libfuzzer" else [FOLDER / "standalone.c"])]
    run = [compiler(engine), *OPTIONS, *(f"-I{path}" for path in INCLUDES), *sanitizers(engine, True)]
    subprocess.run([*run, *sources, *objects, "-lm", "-o", program], check=True)


def build(engine: str, folder: Path, targets: tuple[str, ...] = TARGETS) -> dict[str, Path]:
    """Compiles the core once and each target against it; returns the programs, beside which the objects lie."""
    objects = [folder / f"{source.stem}.o" for source in SOURCES]
    for source, compiled in zip(SOURCES, objects, strict=True):
        compile_source(engine, source, compiled)
    programs = {target: folder / f"fuzz_{target}" for target in targets}
    for target, program in programs.items():
        link(engine, target, objects, program)
    return programs


def arguments(
    engine: str, target: str, program: Path, folder: Path, runs: int | None, seconds: int | None
) -> list[str]:
    """The command that runs a target; libFuzzer keeps what it finds in `folder`."""
    files = FOLDER / "corpus" / target
    if engine == "libfuzzer":
        found = folder / f"found_{target}"
        found.mkdir(exist_ok=True)
        limits = [
            f"-runs={runs or -1}",
            f"-max_total_time={seconds or 0}",
            f"-max_len={MOST_BYTES[target]}",
            f"-seed={SEED}",
        ]
        limits += ["-rss_limit_mb=1024", "-timeout=20", f"-artifact_prefix={folder}/", "-print_final_stats=1"]
        return [str(program), *limits, str(found), str(files)]
    valgrind = ["valgrind", "-q", "--error-exitcode=1", "--leak-check=full"] if engine == "valgrind" else []
    return [*valgrind, str(program), str(runs or 1000), str(SEED), *map(str, sorted(files.iterdir()))]


def main() -> int:
    """Runs the targets that were named, one after the other, up to the first finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=TARGETS, metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--engine", choices=ENGINES, default="libfuzzer")
    parser.add_argument(
        "--runs", type=int, help="executions of each target; by default a million, or no limit with --seconds"
    )
    parser.add_argument("--seconds", type=int, help="of each target, libfuzzer only")
    parser.add_argument("--folder", type=Path, help="for programs and findings; by default one that is new")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if missing := [name for name in needed(given.engine) if shutil.which(name) is None]:
        parser.error(f"the {given.engine} engine needs {' and '.join(missing)}")
    folder = given.folder or Path(tempfile.mkdtemp(prefix="wdt-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    runs = given.runs if given.runs or given.seconds else 1_000_000
    programs = build(given.engine, folder, tuple(given.targets))
    for target, program in programs.items():
        command = arguments(given.engine, target, program, folder, runs, given.seconds)
        code = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, check=False).returncode
        if code != 0:
            sys.stderr.write(f"{target}: a finding, see above and {folder}\n")
            return 1
        sys.stdout.write(f"{target}: no finding\n")
        sys.stdout.flush()
    return 0


def needed(engine: str) -> list[str]:
    """The programs that an engine cannot do without."""
    return [compiler(engine), *(["valgrind"] if engine == "valgrind" else [])]


if __name__ == "__main__":
    sys.exit(main())
