"""docs/in-c.md, and sizes in docs/features.md: the C program decides as Python does, in memory as stated."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal import FeatureConfig, features, load_model, read_capture
from wifi_densepose_temporal.csi import Capture

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "in-c.md").read_text()
DATA = ROOT / "src" / "wifi_densepose_temporal" / "data"
FRAMES = 1024

SIZES = r"""
#include <stdio.h>
#include "wdt_model.h"
static _Alignas(8) uint8_t bytes[1 << 18];
static void chain(const char *name, const wdt_chain_params *params)
{
    printf("%s chain %zu %zu %zu\n", name, wdt_chain_bytes(params, 1, 64), wdt_chain_bytes(params, 1, 128),
           wdt_chain_bytes(params, 3, 64));
}
int main(int count, char **argument)
{
    const wdt_chain_params defaults = wdt_chain_params_default();
    chain("default", &defaults);
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(argument[i], "rb");
        wdt_rvne blob;
        wdt_model model;
        const char *why;
        if (file == NULL || wdt_rvne_parse(bytes, fread(bytes, 1, sizeof bytes, file), &blob) != WDT_OK ||
            wdt_model_init(&model, &blob, &why) != WDT_OK) {
            return 1;
        }
        const char *name = model.features == 141 ? "reid" : "activity";
        chain(name, &model.chain);
        const wdt_cache_config full = {.capacity = 1024}, half = {.capacity = 1024, .form = WDT_CACHE_HALF};
        printf("%s stream %zu %zu\n", name, wdt_stream_bytes(&model, &full), wdt_stream_bytes(&model, &half));
    }
    return 0;
}
"""


def compiled(source: str, folder: Path) -> Path:
    """The program, compiled as the page says, with warnings as errors."""
    file, program = folder / "decide.c", folder / "decide"
    file.write_text(source)
    (command,) = re.findall(r"^cc (.*) decide\.c core/src/\*\.c -lm -o decide$", PAGE, re.MULTILINE)
    core = sorted((ROOT / "core" / "src").glob("*.c"))
    options = [*command.split(), "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(
        [os.environ.get("CC", "cc"), *options, file, *core, "-lm", "-o", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return program


@pytest.fixture(scope="module")
def decide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (source,) = re.findall(r"```c\n(.*?)```", PAGE, re.DOTALL)
    assert len(source.splitlines()) < 60
    return compiled(source, tmp_path_factory.mktemp("decide"))


def repeated(capture: Capture, times: int) -> Capture:
    """The capture so many times, one after the other, half a second apart."""
    step = capture.timestamps[-1] + 0.5
    assert capture.iq is not None
    return dataclasses.replace(
        capture,
        timestamps=np.concatenate([capture.timestamps + i * step for i in range(times)]),
        iq=np.tile(capture.iq, (times, 1, 1)),
        amplitude=np.tile(capture.amplitude, (times, 1, 1)),
        rssi=None,
    )


@pytest.mark.filterwarnings("default")
def test_the_program_decides_as_python_does_also_when_the_stream_starts_over(decide: Path) -> None:
    capture = repeated(read_capture(DATA / "demo_esp32.csv"), 6)
    packets = np.zeros(len(capture), np.dtype([("t_us", "<i8"), ("iq", "i1", (64, 2))]))
    packets["t_us"] = np.rint(capture.timestamps * 1e6)
    buffer = np.roll(capture.iq[:, 0], -32, axis=1)  # from -32..31 to the driver's 0..31, -32..-1
    packets["iq"] = np.stack([buffer.imag, buffer.real], axis=-1)
    blob = DATA / "models" / "activity.rvne"
    done = subprocess.run([decide, blob], input=packets.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    said = np.array([line.split() for line in done.stdout.decode().splitlines()], np.float64)

    model = load_model("activity")
    frames = features(capture, FeatureConfig.from_words(model.feature_chain))
    stream = model.stream(FRAMES)
    decisions = []
    for i, frame in enumerate(frames):
        if i % FRAMES == 0:
            stream.reset()
        decisions.append(stream.push(frame))
    assert len(said) == len(decisions) > FRAMES
    expected = [model.labels.index(decision.labels) for decision in decisions]
    assert (said[:, 1] == expected).mean() > 0.99  # where two classes are equal within rounding, either is right
    np.testing.assert_allclose(said[:, 2], [decision.embedding[0] for decision in decisions], atol=1e-4)


def test_a_damaged_blob_and_a_model_of_phases_are_refused(decide: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.rvne"
    damaged.write_bytes((DATA / "models" / "activity.rvne").read_bytes()[:-1])
    for blob, sentence in ((damaged, b"no blob, or a damaged one"), (DATA / "models" / "reid.rvne", b"push_iq")):
        done = subprocess.run([decide, blob], input=b"", capture_output=True, check=False)
        assert done.returncode == 1
        assert sentence in done.stderr


def test_the_stated_sizes_are_the_cores(tmp_path: Path) -> None:
    blobs = [DATA / "models" / f"{name}.rvne" for name in ("activity", "reid")]
    done = subprocess.run([compiled(SIZES, tmp_path), *blobs], capture_output=True, text=True, check=True)
    pages = {"chain": (ROOT / "docs" / "features.md").read_text(), "stream": PAGE}
    for line in done.stdout.splitlines():
        name, what, *sizes = line.split()
        (row,) = re.findall(rf"^\| `?{name}`? \| ([\d| ]+) \|$", pages[what], re.MULTILINE)
        stated = [int(number) for number in row.split(" | ")]
        # What pages call "to within 100 bytes": the size of the core's structs is the compiler's.
        np.testing.assert_allclose(stated, [int(size) for size in sizes], atol=100, rtol=0, err_msg=line)
