"""The node's C code on emulated chips: self-test, goldens, recordings against the host, packets, and what it costs.

Every image is bare metal, of the same C files and options as the component. Needs cross-compilers and QEMU, and is
skipped without them, except where WDT_REQUIRE_QEMU is set (.ci/run sets it).
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.firmware.building import DATA, ROOT, require
from tests.reference_packet import ReferencePacket
from wifi_densepose_temporal import FeatureConfig, TemporalHeadConfig, TemporalModel, features, read_capture
from wifi_densepose_temporal.csi import Capture
from wifi_densepose_temporal.errors import EmulationError
from wifi_densepose_temporal.models import find_model
from wifi_densepose_temporal.node import emulation
from wifi_densepose_temporal.node.bench import CASES, Row, float16_reference
from wifi_densepose_temporal.node.emulation import COUNTED, TARGETS, Image, NodeSettings, Played, attend, play
from wifi_densepose_temporal.rvne import init_random_blob, quantise

GOLDENS = sorted((ROOT / "tests" / "data" / "goldens").iterdir())
TOLERANCE = 1e-6  # the contract's, of goldens; their float16 is tests/test_goldens.py's
LOGITS_TOLERANCE = 1e-5  # the contract's, of a node's float32 against the host
FRAMES_TOLERANCE = 1e-6  # the same C code and numbers below 8, whose float32 are 4.8e-7 apart; libm's logf may differ

# Cut so that a run takes seconds: 250 packets are 2.5 s of an ESP32, and a window 64 frames.
PACKETS = 250
SETTINGS = NodeSettings(window_len=64, every=20, node_id=9)


@pytest.fixture(scope="module", params=TARGETS)
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return built(request.param, tmp_path_factory)


@pytest.fixture(scope="module", params=COUNTED)
def costs(request: pytest.FixtureRequest) -> dict[tuple[str, str], Row]:
    require_tools(request.param)
    done = wdt("node", "bench", "--target", request.param, "--json")
    assert done.returncode == 0, done.stderr
    rows = [Row(**row) for row in json.loads(done.stdout)["rows"]]
    assert {row.target for row in rows} == {request.param}
    return {(row.case, row.dtype): row for row in rows}


def wdt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "wifi_densepose_temporal", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


_images: dict[str, Image] = {}


def require_tools(name: str) -> None:
    require(f"{TARGETS[name].compiler}gcc", TARGETS[name].emulator[0])


def built(name: str, tmp_path_factory: pytest.TempPathFactory) -> Image:
    require_tools(name)
    if name not in _images:
        _images[name] = emulation.build(TARGETS[name], tmp_path_factory.mktemp(name))
    return _images[name]


# ------------------------------------------------------------------------------------------------------------- kernels


def test_the_self_test_passes_with_all_kernels(image: Image) -> None:
    sets = emulation.kernel_sets(image)
    assert "scalar" in sets
    assert {name: emulation.self_test(image, name) for name in sets} == dict.fromkeys(sets, 0)


@pytest.mark.parametrize("folder", GOLDENS, ids=lambda folder: folder.name)
def test_goldens(image: Image, folder: Path) -> None:
    facts = json.loads((folder / "config.json").read_text())
    arrays = {}
    for path in folder.glob("*.f32"):
        name, shape = path.stem.rsplit("_", 1)
        arrays[name] = np.fromfile(path, "<f4").reshape([int(n) for n in shape.split("x")])
    names = ("q_heads", "kv_heads", "head_dim", "window", "block_size", "causal", "log_stride", "landmarks")
    config: dict[str, Any] = {name: facts[name] for name in names}
    head = TemporalHeadConfig("sparse_gqa", **config, global_tokens=tuple(facts["global_tokens"]))
    for kernels in emulation.kernel_sets(image):
        got = attend(image, head, arrays["q"], arrays["k"], arrays["v"], kernels)
        np.testing.assert_allclose(got.forward, arrays["out"], atol=TOLERANCE, rtol=0, err_msg=kernels)
        if facts["causal"]:
            np.testing.assert_allclose(got.steps, arrays["streamed"], atol=TOLERANCE, rtol=0, err_msg=kernels)
            np.testing.assert_allclose(got.half_steps, arrays["streamed"], atol=2e-3, rtol=0, err_msg=kernels)


# ---------------------------------------------------------------------------------------------------------- recordings


def spans(settings: NodeSettings, frames: int) -> list[slice]:
    """Which frames each classification speaks of: ruv_temporal.h's two modes, written down once more."""
    found, streams = [], [0, 0]
    for t in range(1, frames + 1):
        second = streams[1] > 0 or streams[0] >= max(1, settings.window_len // 2)
        streams = [n % settings.window_len + 1 for n in streams[: 1 + second]] + [0] * (not second)
        length = max(streams) if settings.session else min(t, settings.window_len)
        if t % settings.every == 0:
            found.append(slice(t - length, t))
    return found


def expected_logits(model: TemporalModel, frames: NDArray[np.float32], settings: NodeSettings) -> NDArray[np.float32]:
    return np.array([model.predict(frames[span]).logits[-1] for span in spans(settings, len(frames))])


def check_packets(played: Played, settings: NodeSettings) -> None:
    assert len(played.packets) == len(played.logits) > 0
    for seq, (packet, logits, time) in enumerate(zip(played.packets, played.logits, played.logits_us, strict=True)):
        second, first = np.sort(logits)[-2:]
        decided = (logits.argmax(), first, first - second)
        assert ReferencePacket.decode(packet) == (len(logits), settings.node_id, time, seq, *decided)


def first_packets(path: Path, count: int = PACKETS) -> Capture:
    capture = read_capture(path)
    per_packet = ("timestamps", "iq", "amplitude", "rssi", "chain")
    arrays = {name: getattr(capture, name) for name in per_packet}
    return dataclasses.replace(capture, **{name: x[:count] for name, x in arrays.items() if x is not None})


REFERENCES = {"float32": init_random_blob, "float16": float16_reference, "int8": lambda: quantise(init_random_blob())}


@pytest.mark.parametrize("dtype", REFERENCES)
@pytest.mark.parametrize("session", [False, True])
def test_the_reference_blob_says_what_it_says_on_the_host(image: Image, session: bool, dtype: str) -> None:
    blob = REFERENCES[dtype]()
    settings = dataclasses.replace(SETTINGS, session=session)
    frames = np.random.default_rng(7).uniform(-1, 1, (150, 16)).astype(np.float32)
    played = play(image, blob, frames, settings)
    expected = expected_logits(TemporalModel.from_bytes(blob), frames, settings)
    np.testing.assert_allclose(played.logits, expected, atol=LOGITS_TOLERANCE, rtol=0)
    check_packets(played, settings)
    np.testing.assert_array_equal(played.frames, frames)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize(
    ("recording", "name"),
    [
        ("demo_esp32.csv", "activity"),
        ("esp32_stability_D2_e01_rx_tx-x.npy", "activity"),
        ("wiper81_p01_A.npz", "reid"),
    ],
)
def test_recordings_give_the_hosts_frames_and_logits(image: Image, recording: str, name: str, session: bool) -> None:
    check_recording(image, DATA / recording, name, dataclasses.replace(SETTINGS, session=session))


def check_recording(image: Image, path: Path, name: str, settings: NodeSettings) -> None:
    blob, capture = find_model(name).read_bytes(), first_packets(path)
    model = TemporalModel.from_bytes(blob)
    assert model.feature_chain is not None
    played = play(image, blob, capture, settings)
    frames = features(capture, FeatureConfig.from_words(model.feature_chain))
    np.testing.assert_allclose(played.frames, frames, atol=FRAMES_TOLERANCE, rtol=0)
    expected = expected_logits(model, frames, settings)
    np.testing.assert_allclose(played.logits, expected, atol=LOGITS_TOLERANCE, rtol=0)
    np.testing.assert_array_equal(played.logits.argmax(axis=1), expected.argmax(axis=1))
    check_packets(played, settings)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("image", COUNTED, indirect=True)
def test_decisions_on_ten_shared_recordings_are_the_hosts(image: Image, shared: Path) -> None:
    data = shared / "data"
    stability = sorted((data / "esp32-stability").glob("D?/*-x.npy"))[::8][:3]
    people = [data / "wiper81" / f"{name}.npz" for name in ("p05_A", "p07_B", "p09_A", "empty1_A")]
    rooms = sorted((data / "espectre").glob("movement_*.npz"))[:2]
    cases = [(path, "activity") for path in (*stability, *rooms, data / "captures" / "esp32_csi_tool_100hz.csv")]
    cases += [(path, "reid") for path in people]
    assert len(cases) == 10
    for path, name in cases:
        check_recording(image, path, name, dataclasses.replace(SETTINGS, every=25))


# --------------------------------------------------------------------------------------------------------------- costs


def test_stack_heap_and_code_stay_within_what_a_node_has(costs: dict[tuple[str, str], Row]) -> None:
    """The image itself fails where the one allocation is not what ruv_temporal_size says, or where another follows."""
    assert {case for case, _ in costs} == set(CASES)
    for row in costs.values():
        assert row.stack_bytes <= 4 << 10, row
        assert row.code_bytes < 48 << 10, row
    for dtype in ("float32", "float16"):
        assert costs["window_classify", dtype].heap_bytes < 64 << 10


def test_instructions_stay_within_their_budget(costs: dict[tuple[str, str], Row]) -> None:
    """Counts, not times: they are the same on every machine."""
    counts = {case: row.instructions for (case, dtype), row in costs.items() if dtype == "float32"}
    most = {
        "rv32imafc": {"attention_window": 8_000_000, "push": 90_000},
        "rv32imc": {"push": 1_000_000},
        "cortex-m4f": {},
    }[costs["push", "float32"].target]
    assert {case: counts[case] for case in most if counts[case] > most[case]} == {}


# ------------------------------------------------------------------------------------------------------------ refusals


def test_an_instruction_that_a_chip_does_not_have_traps(tmp_path_factory: pytest.TempPathFactory) -> None:
    """So no float instruction can have gone into the soft-float image unseen."""
    hard = built("rv32imafc", tmp_path_factory)
    without = dataclasses.replace(hard.target, emulator=TARGETS["rv32imc"].emulator)
    with pytest.raises(EmulationError, match="trapped 2 "):  # mcause of an illegal instruction
        emulation.self_test(dataclasses.replace(hard, target=without))


def test_a_run_without_an_end_is_given_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    image = built("rv32imafc", tmp_path_factory)
    with pytest.raises(EmulationError, match="no end within 0 s"):
        emulation.run(image, emulation.BENCH, time_limit_s=0.01)


def test_a_refusal_of_the_node_is_an_error_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    image = built("rv32imafc", tmp_path_factory)
    frames = np.full((20, 16), np.nan, np.float32)
    with pytest.raises(EmulationError, match="failed 258 ruv_temporal_push"):  # ESP_ERR_INVALID_ARG
        play(image, init_random_blob(), frames, SETTINGS)


def test_bench_refuses_a_target_that_it_does_not_count() -> None:
    done = wdt("node", "bench", "--target", "xtensa-lx106")
    assert done.returncode == 2
    assert "rv32imafc, rv32imc, cortex-m4f" in done.stderr


def test_a_missing_compiler_is_named_with_debians_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        EmulationError, match=r"no arm-none-eabi-gcc and no qemu-system-arm; .* libnewlib-arm-none-eabi"
    ):
        emulation.build(TARGETS["cortex-m4f"], tmp_path)


def test_what_ci_installs_is_what_the_targets_name() -> None:
    installed = (ROOT / "firmware" / "emulation" / "packages.txt").read_text().split()
    assert {package for target in TARGETS.values() for package in target.packages} == set(installed)


def test_outside_a_clone_the_error_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(emulation, "__file__", str(tmp_path / "site-packages" / "emulation.py"))
    with pytest.raises(EmulationError, match="inside a clone"):
        emulation.build(TARGETS["rv32imc"], tmp_path)
