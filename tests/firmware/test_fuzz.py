"""The fuzz targets: with libFuzzer for WDT_FUZZ_SECONDS each, by default three; and their corpus with random mutations
under each sanitizer that this machine's compilers have. The long run is `just fuzz`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.tools import give_up_without

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "firmware" / "fuzz"
SECONDS = int(os.environ.get("WDT_FUZZ_SECONDS", "3"))
RUNS = {"address": 5000, "memory": 5000, "valgrind": 30}


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    return loaded("fuzz")


def loaded(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def programs(
    request: pytest.FixtureRequest, fuzz: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Of one engine, built once."""
    engine = request.param
    missing = [name for name in fuzz.needed(engine) if shutil.which(name) is None]
    folder = tmp_path_factory.mktemp(engine)
    if not missing and not links(fuzz, engine, folder):
        missing = [f"sanitizer of {fuzz.compiler(engine)} for it (Debian: libclang-rt-dev)"]
    give_up_without(missing, f"the {engine} engine does not run on this {platform.machine()}")
    built: dict[str, Path] = fuzz.build(engine, folder)
    return built


def links(fuzz: ModuleType, engine: str, folder: Path) -> bool:
    """Whether the compiler has what the engine links against, which Debian keeps in a package of its own."""
    start = "LLVMFuzzerTestOneInput(const char *data, long size)" if engine == "libfuzzer" else "main(void)"
    source = folder / "empty.c"
    source.write_text(f"int {start};\nint {start} {{ return 0; }}\n")
    command = [fuzz.compiler(engine), *fuzz.sanitizers(engine, True), source, "-o", folder / "empty"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def passes(fuzz: ModuleType, engine: str, target: str, program: Path) -> str:
    libfuzzer = engine == "libfuzzer"
    limit = (None, SECONDS) if libfuzzer else (RUNS[engine], None)
    command = fuzz.arguments(engine, target, program, program.parent, *limit)
    environment = {**os.environ, **fuzz.ENVIRONMENT}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-8000:]
    return done.stderr if libfuzzer else done.stdout


TARGETS = ("blob", "packet", "features", "buffers", "frames", "snapshot")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("programs", ["libfuzzer"], indirect=True)
def test_no_finding_of_libfuzzer(fuzz: ModuleType, programs: dict[str, Path], target: str) -> None:
    report = passes(fuzz, "libfuzzer", target, programs[target])
    assert "stat::number_of_executed_units" in report


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("programs", list(RUNS), indirect=True)
def test_no_finding_in_the_corpus_and_mutations_of_it(
    request: pytest.FixtureRequest, fuzz: ModuleType, programs: dict[str, Path], target: str
) -> None:
    engine = request.node.callspec.params["programs"]
    assert "no finding" in passes(fuzz, engine, target, programs[target])


def test_targets_are_all_of_them(fuzz: ModuleType) -> None:
    assert fuzz.TARGETS == TARGETS
    assert sorted(path.stem for path in FOLDER.glob("fuzz_*.c")) == sorted(f"fuzz_{target}" for target in TARGETS)


def test_corpus_is_what_its_script_writes() -> None:
    made = loaded("make_corpus").corpus()
    assert {path.relative_to(FOLDER / "corpus") for path in (FOLDER / "corpus").glob("*/*")} == set(made)
    for name, content in made.items():
        assert (FOLDER / "corpus" / name).read_bytes() == content, f"{name}: run {FOLDER / 'make_corpus.py'}"


# ------------------------------------------------------------------------------------ that the targets see a mistake

# Each a mistake that the C code could have: the file, what it has, what it would have.
MISTAKES = {
    "packet": ("wire.c", "if (length != expected) {", "if (0) {"),
    "blob": ("rvne.c", "if (length > room || ", "if ("),
    "features": ("chain.c", "if (!(x >= 0.0f)) {", "if (0) {"),
    "buffers": ("temporal_features.c", "% features->columns);", ");"),
    "snapshot": ("evict_heavy_hitter.c", "return n == held(cache) &&", "return"),
    "frames": ("ruv_temporal.c", "wdt_first_unusable(frame, (size_t)ctx->model.features) >= 0", "0"),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("programs", ["address"], indirect=True)
def test_a_target_finds_a_mistake(fuzz: ModuleType, programs: dict[str, Path], target: str, tmp_path: Path) -> None:
    name, right, wrong = MISTAKES[target]
    (source,) = (path for path in fuzz.SOURCES if path.name == name)
    assert right in source.read_text(), f"{name} was changed: give {Path(__file__).name} another line of it"
    (tmp_path / name).write_text(source.read_text().replace(right, wrong))
    fuzz.compile_source("address", tmp_path / name, tmp_path / "mistaken.o")
    whole = programs[target].parent
    objects = [whole / f"{path.stem}.o" for path in fuzz.SOURCES if path != source]
    fuzz.link("address", target, [*objects, tmp_path / "mistaken.o"], tmp_path / "program")
    command = fuzz.arguments("address", target, tmp_path / "program", tmp_path, 20_000, None)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **fuzz.ENVIRONMENT}, check=False)
    assert done.returncode < 0  # SIGABRT
    assert "the input, " in done.stderr, done.stderr
