"""The ESP-IDF component on a host: its ABI, its task on POSIX threads, its features; and the chip's files on stubs.

Everything is built under AddressSanitizer and UndefinedBehaviorSanitizer with warnings as errors, the task under
ThreadSanitizer too. What the node computes is held against Python's `predict` and `features`.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import reference
from tests.test_rvne import record, sealed
from wifi_densepose_temporal import (
    FeatureConfig,
    TemporalHeadConfig,
    TemporalModel,
    WeightBlob,
    WeightBlobHeader,
    _core,
    features,
    init_random_blob,
    load_model,
    read_capture,
)
from wifi_densepose_temporal.csi import FeaturePart
from wifi_densepose_temporal.rvne import records

ROOT = Path(__file__).parents[2]
TESTS = Path(__file__).parent
FIRMWARE = ROOT / "firmware"
COMPONENT = FIRMWARE / "components" / "ruv_temporal"
HOST = FIRMWARE / "host" / "include"
EXAMPLE = FIRMWARE / "examples" / "csi_node"
DATA = ROOT / "src" / "wifi_densepose_temporal" / "data"
DEMO = DATA / "demo_esp32.csv"
ACTIVITY, REID = DATA / "models" / "activity.rvne", DATA / "models" / "reid.rvne"

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
INCLUDES = [COMPONENT / "include", COMPONENT / "src", ROOT / "core" / "include", ROOT / "tests" / "core", TESTS]
PERIOD_MS = 100  # of the task's tests, and a window that they fill
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
    done = subprocess.run([str(part) for part in command], capture_output=True, check=False, timeout=300, **options)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


def compile_c(sources: list[Path], output: Path, *options: object, config: Path = HOST) -> Path:
    includes = [f"-I{folder}" for folder in (config, HOST, *INCLUDES)]
    common = ["-std=gnu11", "-DWDT_SCALAR", "-ffp-contract=off", *WARNINGS, *includes]
    run(os.environ.get("CC", "cc"), *common, *options, *sources, "-o", output, *(() if "-c" in options else ("-lm",)))
    return output


Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Links a program of tests/firmware with files of the component and, compiled once, the core."""
    folder = tmp_path_factory.mktemp("component")
    core = [
        compile_c([source], folder / f"{source.stem}.o", "-c", *SANITIZERS)
        for source in sorted((ROOT / "core" / "src").glob("*.c"))
    ]

    def build(name: str, component: list[str], *options: object, **more: Any) -> Path:
        sources = [TESTS / f"{name}.c", *(COMPONENT / "src" / f"{file}.c" for file in component)]
        return compile_c([*sources, *core], folder / name, *SANITIZERS, *options, **more)

    return build


@pytest.fixture(scope="module")
def head(build: Build) -> Path:
    return build("run_frames", ["ruv_temporal"])


@pytest.fixture
def scalar_kernels() -> Iterator[None]:
    before = _core.instruction_set()
    _core.use_instruction_set("scalar")
    yield
    _core.use_instruction_set(before)


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# ------------------------------------------------------------------------------------------------------------ contract


def overflowing_blob() -> bytes:
    """Two layers of uniform attention; the second sees x + 100 * the mean of the candidates."""
    zero, one = np.zeros((2, 2)), np.eye(2)
    header = WeightBlobHeader(input_dim=2, n_q_heads=1, n_kv_heads=1, head_dim=2, n_layers=2, n_classes=2)
    weights = [zero, zero, 100 * one, one] * 2 + [one]
    return WeightBlob(header, np.concatenate(weights).astype(np.float32).ravel()).serialize()


def test_every_row_of_the_contract(build: Build, tmp_path: Path) -> None:
    program = build("test_abi", ["ruv_temporal"], "-Wl,--wrap=malloc", "-Wl,--wrap=free")
    blobs = [saved(tmp_path / "reference", init_random_blob()), saved(tmp_path / "overflow", overflowing_blob())]
    run(program, *blobs, ACTIVITY)


def resealed(content: bytes, at: int, field: bytes) -> bytes:
    return sealed(content[:at] + field + content[at + len(field) : -4])


REFERENCE = init_random_blob()


def with_record(*records: bytes) -> bytes:
    section = b"".join(records)
    body = bytearray(REFERENCE[:-4])
    body[6] = 2
    return sealed(bytes(body) + struct.pack("<I", len(section)) + section)


DAMAGE = {
    "too short": (REFERENCE[:27], "ESP_ERR_INVALID_ARG"),
    "magic": (b"RVNE" + REFERENCE[4:], "ESP_ERR_INVALID_ARG"),
    "version": (resealed(REFERENCE, 4, b"\2\0"), "ESP_ERR_INVALID_VERSION"),
    "flags": (resealed(REFERENCE, 6, b"\4"), "ESP_ERR_INVALID_ARG"),
    "reserved": (resealed(REFERENCE, 7, b"\1"), "ESP_ERR_INVALID_ARG"),
    "cut": (REFERENCE[:-1], "ESP_ERR_INVALID_ARG"),
    "a byte too many": (REFERENCE + b"\0", "ESP_ERR_INVALID_ARG"),
    "a weight": (REFERENCE[:100] + bytes([REFERENCE[100] ^ 1]) + REFERENCE[101:], "ESP_ERR_INVALID_CRC"),
    "checksum": (REFERENCE[:-1] + bytes([REFERENCE[-1] ^ 1]), "ESP_ERR_INVALID_CRC"),
    "no heads": (resealed(REFERENCE, 0x0A, b"\0\0"), "ESP_ERR_INVALID_SIZE"),
    "no width": (resealed(REFERENCE, 0x08, b"\0\0"), "ESP_ERR_INVALID_SIZE"),
    "head ratio": (resealed(REFERENCE, 0x0C, b"\3\0"), "ESP_ERR_INVALID_SIZE"),
    "no layers": (resealed(REFERENCE, 0x10, b"\0\0"), "ESP_ERR_INVALID_SIZE"),
    "one class": (resealed(REFERENCE, 0x12, b"\1\0"), "ESP_ERR_INVALID_SIZE"),
    "weights of another shape": (resealed(REFERENCE, 0x10, b"\3\0"), "ESP_ERR_INVALID_SIZE"),
    "a weight that is NaN": (resealed(REFERENCE, 24, struct.pack("<f", np.nan)), "ESP_ERR_INVALID_SIZE"),
    "an unknown critical record": (with_record(record(0x7777, 1, b"")), "ESP_ERR_INVALID_VERSION"),
    "a record that is cut": (with_record(record(9, 0, b"abcd")[:-4]), "ESP_ERR_INVALID_VERSION"),
    "a pattern of no head": (with_record(record(1, 1, bytes(32))), "ESP_ERR_INVALID_SIZE"),
    "none": (REFERENCE, "ESP_OK"),
    "an unknown record": (with_record(record(0x7777, 0, b"x")), "ESP_OK"),
}


def test_each_kind_of_damage_has_its_error(head: Path, tmp_path: Path) -> None:
    files = [saved(tmp_path / str(n), content) for n, (content, _) in enumerate(DAMAGE.values())]
    said = map(int, run(head, "codes", *files).stdout.split())
    assert dict(zip(DAMAGE, said, strict=True)) == {kind: ERRORS[error] for kind, (_, error) in DAMAGE.items()}


def test_the_error_values_are_esp_idfs() -> None:
    assert ERRORS["ESP_OK"] == 0
    assert ERRORS["ESP_FAIL"] == -1
    assert ERRORS["ESP_ERR_INVALID_SIZE"] == 0x104
    assert ERRORS["ESP_ERR_INVALID_CRC"] == 0x109
    assert ERRORS["ESP_ERR_INVALID_VERSION"] == 0x10A


# ----------------------------------------------------------------------------------------- what the logits are of


def logits_of(head: Path, model: Path, frames: NDArray[np.float32], *options: object) -> NDArray[np.float32]:
    """[T, C] as of every frame, by the node's code."""
    done = run(head, *options, model, input=np.ascontiguousarray(frames, np.float32).tobytes())
    return np.frombuffer(done.stdout, np.float32).reshape(len(frames), -1)


def first_frame(mode: str, t: int, window: int) -> int:
    """The oldest frame that a decision as of frame t speaks of."""
    if mode == "window":
        return max(0, t + 1 - window)
    half = max(1, window // 2)
    begun = [start for first in (0, half) for start in range(first, t + 1, window)]
    return min(start for start in begun if start > t - window)


def expected_logits(
    model: TemporalModel, mode: str, dtype: str, frames: NDArray[np.float32], window: int
) -> NDArray[np.float32]:
    def newest(t: int) -> NDArray[np.float32]:
        stream = model.stream(window, cache_dtype=dtype)
        for frame in frames[first_frame(mode, t, window) : t + 1]:
            said = stream.push(frame)
        return said.logits

    return np.array([newest(t) for t in range(len(frames))])


def drawn_frames(model: TemporalModel, count: int) -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(count, model.input_dim)).astype(np.float32)


def test_a_session_speaks_of_at_least_half_a_window() -> None:
    """The rule of ruv_temporal.h, of the function that the tests below are held to."""
    for window in range(1, 40):
        for t in range(5 * window):
            n = t + 1 - first_frame("session", t, window)
            assert n == t + 1 if t + 1 <= window // 2 else window // 2 < n <= window


@pytest.mark.usefixtures("scalar_kernels")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("mode", ["window", "session"])
@pytest.mark.parametrize("window", [1, 2, 3, 32, 37])
def test_every_decision_is_the_hosts_on_just_those_frames(
    head: Path, tmp_path: Path, mode: str, dtype: str, window: int
) -> None:
    """With the same kernels the numbers are the same, at every count below, at and beyond a window."""
    blob = saved(tmp_path / "reference.rvne", REFERENCE)
    model = TemporalModel.from_bytes(REFERENCE)
    frames = drawn_frames(model, 3 * window + 5)
    said = logits_of(head, blob, frames, mode, dtype, window, "scalar")
    np.testing.assert_array_equal(said, expected_logits(model, mode, dtype, frames, window))


@pytest.mark.parametrize("mode", ["window", "session"])
@pytest.mark.parametrize("name", ["activity", "reid"])
def test_the_nodes_own_kernels_agree_with_predict(head: Path, mode: str, name: str) -> None:
    """To the contract's 1e-5, in units of the largest logit where that is above 1."""
    model, window = load_model(name), 64
    frames = drawn_frames(model, 150)
    said = logits_of(head, DATA / "models" / f"{name}.rvne", frames, mode, "float32", window, "")
    for t in (0, 31, 32, 33, 63, 64, 65, 100, 127, 128, 149):
        logits = model.predict(frames[first_frame(mode, t, window) : t + 1]).logits[-1]
        np.testing.assert_allclose(said[t], logits, rtol=0, atol=1e-5 * max(1, np.abs(logits).max()))


# ------------------------------------------------------------------------------------------------------------ self-test


def number(n: int) -> float:
    """src/self_test.c's, written out once more."""
    return (n * 37 + 11) % 64 / 16 - 2


def test_the_self_tests_constants_are_the_references() -> None:
    T, D = 12, 4
    config = TemporalHeadConfig(backend="sparse_gqa", q_heads=2, kv_heads=1, head_dim=D, window=3, block_size=4)
    q = np.array([[number(7 * t * t + 5 * n) for n in range(2 * D)] for t in range(T)]).reshape(T, 2, D)
    k = np.array([[number(3 * t * t + 11 * n + t + 1) for n in range(D)] for t in range(T)]).reshape(T, 1, D)
    v = np.array([[number(5 * t * t + 7 * n * n + 13 * n + 3 * t + 2) for n in range(D)] for t in range(T)])
    expected = reference.forward(config, q, k, v.reshape(T, 1, D)).reshape(T, 2 * D)
    source = (COMPONENT / "src" / "self_test.c").read_text()
    (table,) = re.findall(r"expected\[T\]\[HQ \* D\] = \{(.*?)\n\};", source, re.DOTALL)
    stated = np.array([float(text) for text in re.findall(r"(-?\d+\.\d+)f", table)]).reshape(T, 2 * D)
    np.testing.assert_allclose(stated, expected, rtol=0, atol=0.5e-8)  # eight decimals


def test_the_self_test_passes_and_can_fail(build: Build) -> None:
    wrapped = [f"-Wl,--wrap={name}" for name in ("wdt_crc32", "wdt_step", "wdt_cache_read")]
    run(build("test_self_test", ["self_test"], *wrapped))


# ------------------------------------------------------------------------------------------------------------- features


def packets_of_csv(path: Path) -> tuple[list[int], list[list[int]]]:
    """Times in microseconds and buffers of an ESP32 CSI Tool file of one sender, read without the package."""
    times, buffers = [], []
    columns: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("type,"):
            columns = line.split(",")
        numbers = re.search(r"\[([-\d ]+)\]", line)
        if line.startswith("CSI_DATA") and numbers:
            times.append(int(line.split(",")[columns.index("local_timestamp")]))
            buffers.append([int(text) for text in numbers.group(1).split()])
    return times, buffers


def node_frames(program: Path, model: Path, times: Any, buffers: Any, first_word_invalid: bool) -> NDArray[np.float32]:
    sent = b"".join(struct.pack(f"<qI{len(csi)}b", t, len(csi), *csi) for t, csi in zip(times, buffers, strict=True))
    done = run(program, model, int(first_word_invalid), input=sent)
    return np.frombuffer(done.stdout, np.float32)


@pytest.fixture(scope="module")
def chain(build: Build) -> Path:
    return build("run_features", ["temporal_features"])


def host_frames(path: Path, model: Path) -> NDArray[np.float32]:
    chain = TemporalModel.load(model).feature_chain
    assert chain is not None
    return features(read_capture(path), FeatureConfig.from_words(chain))


@pytest.fixture(scope="module", params=["amplitudes", "phases"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of amplitudes, and one of phases that the 47 subcarriers of an ESP32 are enough for: `reid` takes 48."""
    if request.param == "amplitudes":
        return ACTIVITY
    parts = (FeaturePart("level", 8, time_s=0.1), FeaturePart("quadrature", 9, lag=1, size_s=1.0, size_floor=0.1))
    config = FeatureConfig(rate_hz=20, parts=parts)
    header = WeightBlobHeader(config.input_dim, 1, 1, 2, 1, 2)
    weights = np.ones(config.input_dim * (4 * 2 + 2), np.float32)
    blob = WeightBlob(header, weights, [records.feature_chain(config.to_words())])
    return saved(tmp_path_factory.mktemp("phases") / "phases.rvne", blob.serialize())


def assert_same_bits(made: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert len(expected) > 20
    np.testing.assert_array_equal(made.view(np.uint32), expected.ravel().view(np.uint32))


@pytest.mark.filterwarnings("default")
def test_frames_of_a_node_are_those_of_the_recording_bit_for_bit(chain: Path, model: Path) -> None:
    times, buffers = packets_of_csv(DEMO)
    assert_same_bits(node_frames(chain, model, times, buffers, first_word_invalid=True), host_frames(DEMO, model))


@pytest.mark.filterwarnings("default")
def test_longer_buffers_begin_with_the_same_field_and_one_of_another_length_is_left_out(
    chain: Path, model: Path
) -> None:
    """On a clock that starts elsewhere, too."""
    times, buffers = packets_of_csv(DEMO)
    long = [csi + [1] * 256 for csi in buffers]
    long.insert(50, buffers[50])
    times.insert(50, times[50])
    made = node_frames(chain, model, [t + (1 << 40) for t in times], long, first_word_invalid=True)
    assert_same_bits(made, host_frames(DEMO, model))


@pytest.mark.filterwarnings("default")
def test_shared_captures_give_the_same_frames(chain: Path, shared: Path, model: Path) -> None:
    for path in sorted((shared / "data" / "captures").glob("esp32_*_100hz.csv")):
        times, buffers = packets_of_csv(path)
        assert_same_bits(node_frames(chain, model, times, buffers, first_word_invalid=True), host_frames(path, model))


@pytest.mark.parametrize("name", [ACTIVITY, REID], ids=["amplitudes", "phases"])
def test_buffers_in_ascending_order_give_the_same_frames(chain: Path, shared: Path, name: Path) -> None:
    for path in sorted((shared / "data" / "wiper81").glob("*_A.npz"))[:6]:
        with np.load(path) as arrays:
            buffers, seconds = arrays["iq"], arrays["t"].astype(np.float64)
        invalid = bool(read_capture(path).metadata["invalid_subcarriers"])
        times = np.rint((seconds - seconds[0]) * 1e6).astype(int)
        made = node_frames(chain, name, times.tolist(), buffers.tolist(), invalid)
        assert_same_bits(made, host_frames(path, name))


def test_features_refuse_what_they_say(chain: Path, model: Path) -> None:
    run(chain, model)


# ------------------------------------------------------------------------------------------------------------- the task


class Packet(NamedTuple):
    """A classification packet by wire.md's table alone."""

    magic: int
    version: int
    n_classes: int
    node_id: int
    ts_us: int
    seq: int
    argmax: int
    top_logit: float
    margin: float

    @classmethod
    def decode(cls, packet: bytes) -> Packet:
        *fields, crc = struct.unpack("<IHHB3xQIB3xffI", packet)
        assert crc == zlib.crc32(packet[:-4])
        assert packet[9:12] == packet[25:28] == b"\0\0\0"
        return cls(*fields)


@pytest.fixture(scope="module")
def task(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("config")
    (config / "sdkconfig.h").write_text(TASK_CONFIG)
    posix = FIRMWARE / "host" / "temporal_port_posix.c"
    return build("run_task", ["ruv_temporal", "self_test"], posix, "-pthread", config=config)


class Outcome(NamedTuple):
    packets: list[Packet]
    facts: dict[str, int]
    log: list[str]


def played(program: Path, scenario: str, folder: Path) -> Outcome:
    blob = saved(folder / "reference.rvne", REFERENCE)
    done = run(program, scenario, blob, ACTIVITY, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    packets = [Packet.decode(bytes.fromhex(words[0])) for words in lines if len(words) == 1]
    return Outcome(packets, {w[0]: int(w[1]) for w in lines if len(w) == 2}, done.stderr.splitlines())


def task_frame(t: int) -> list[float]:
    """run_task.c's frame_of, written out once more."""
    return [(t * t * 31 + f * 17 + t) % 128 / 64 - 1 for f in range(16)]


def assert_decides(packet: Packet, frames: list[int]) -> None:
    model = TemporalModel.from_bytes(REFERENCE)
    logits = model.predict(np.array([task_frame(t) for t in frames], np.float32)).logits[-1]
    second, top = np.sort(logits)[-2:]
    assert (packet.magic, packet.version, packet.n_classes, packet.node_id) == (0xC5110007, 1, 4, 9)
    assert packet.argmax == logits.argmax()
    assert packet.top_logit == pytest.approx(top, abs=1e-5)
    assert packet.margin == pytest.approx(top - second, abs=2e-5)


def test_the_tasks_contract_and_what_it_logs_of_a_blob_that_clashes(task: Path, tmp_path: Path) -> None:
    log = played(task, "contract", tmp_path).log
    assert f"temporal: not started (error {ERRORS['ESP_ERR_INVALID_ARG']:#x})" in log
    assert "temporal: the blob has 30 features and 10 classes; menuconfig says 16 and 4" in log


def test_a_packet_a_period_while_there_are_frames_and_none_without(task: Path, tmp_path: Path) -> None:
    packets, facts, _ = played(task, "packets", tmp_path)
    assert [packet.seq for packet in packets] == list(range(6))
    for n, packet in enumerate(packets):
        assert packet.ts_us >= facts["start"] + (n + 1) * PERIOD_MS * 1000
        assert_decides(packet, list(range(n + 1)))


def test_a_full_queue_drops_and_counts_and_what_it_took_is_decided_on(task: Path, tmp_path: Path) -> None:
    packets, _, log = played(task, "full", tmp_path)
    assert "temporal: 11 frames dropped: the queue was full (newest error 0x107)" in log
    for packet, count in zip(packets, (1, 33, 34), strict=True):
        assert_decides(packet, list(range(count)))


def test_failures_are_logged_once_a_second_and_do_not_stop_it(task: Path, tmp_path: Path) -> None:
    packets, facts, log = played(task, "failures", tmp_path)
    assert [packet.seq for packet in packets] == list(range(12))
    for n, packet in enumerate(packets):
        assert_decides(packet, list(range(n + 1)))
    for what in ("frames refused", "packets not made or not sent"):
        counts = [int(count) for line in log for count in re.findall(rf"temporal: (\d+) {what}", line)]
        assert 1 <= len(counts) <= 1 + facts["took"] // 1_000_000
        assert sum(counts) <= 12


def test_the_sequence_number_wraps_and_a_start_begins_it_anew(task: Path, tmp_path: Path) -> None:
    packets = played(task, "wrap", tmp_path).packets
    assert [packet.seq for packet in packets] == [2**32 - 2, 2**32 - 1, 0, 1, 0]


def test_frames_from_two_threads_while_others_start_and_stop(task: Path, tmp_path: Path) -> None:
    played(task, "threads", tmp_path)


@pytest.mark.parametrize("scenario", ["contract", "full", "threads"])
def test_the_task_under_thread_sanitizer(scenario: str, tmp_path: Path) -> None:
    (tmp_path / "sdkconfig.h").write_text(TASK_CONFIG)
    component = [COMPONENT / "src" / f"{name}.c" for name in ("ruv_temporal", "self_test")]
    sources = [TESTS / "run_task.c", *component, FIRMWARE / "host" / "temporal_port_posix.c"]
    sources += sorted((ROOT / "core" / "src").glob("*.c"))
    options = ["-O1", "-g", "-fsanitize=thread", "-pthread"]
    played(compile_c(sources, tmp_path / "task", *options, config=tmp_path), scenario, tmp_path)


# ------------------------------------------------------------------------------------------- what ESP-IDF would compile


def test_off_everything_is_not_supported_and_nothing_of_the_core_is_needed(tmp_path: Path) -> None:
    (tmp_path / "sdkconfig.h").write_text("/* menuconfig leaves out what is off */\n")
    off = COMPONENT / "src" / "switched_off.c"
    run(compile_c([TESTS / "test_off.c", off], tmp_path / "off", *SANITIZERS, config=tmp_path))
    alone = compile_c([off], tmp_path / "off.o", "-c", "-O2", config=tmp_path)
    assert "wdt_" not in run("nm", alone, text=True).stdout


def test_off_answers_every_entry_point(tmp_path: Path) -> None:
    """What the component defines when it is on, it defines when it is off."""

    def functions(config: str, *names: str) -> set[str]:
        (tmp_path / "sdkconfig.h").write_text(config)
        found = set[str]()
        for name in names:
            source = COMPONENT / "src" / f"{name}.c"
            listed = run("nm", "--defined-only", compile_c([source], tmp_path / "o", "-c", config=tmp_path), text=True)
            found |= {line.split()[2] for line in listed.stdout.splitlines() if " T " in line}
        return found

    on = functions(TASK_CONFIG, "ruv_temporal", "self_test", "temporal_features", "temporal_task")
    assert functions("/* off */\n", "switched_off") == on
    assert functions(TASK_CONFIG, "switched_off") == set()


@pytest.mark.parametrize("wifi6", [0, 1])
def test_the_chips_files_compile_against_the_stubs(tmp_path: Path, wifi6: int) -> None:
    """Never run: what ESP-IDF's functions do is not here. The names, types and warnings are."""
    sources = [COMPONENT / "src" / "temporal_port_freertos.c", *sorted((EXAMPLE / "main").glob("*.c"))]
    options = ["-c", "-O2", f"-I{FIRMWARE / 'stubs'}", f"-DCONFIG_SOC_WIFI_HE_SUPPORT={wifi6}"]
    for source in sources:
        compile_c([source], tmp_path / "object.o", *options, config=FIRMWARE / "stubs")


def kconfig_defaults() -> dict[str, str]:
    text = (COMPONENT / "Kconfig").read_text()
    options = re.split(r"^(?:config|choice) (\w+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: match.group(1)
        for name, body in zip(options[::2], options[1::2], strict=True)
        if (match := re.search(r"^    default (\w+)", body, re.MULTILINE))
    }


def test_the_hosts_configuration_is_kconfigs_with_the_head_on() -> None:
    host = dict(re.findall(r"#define CONFIG_(\w+) (\w+)", (HOST / "sdkconfig.h").read_text()))
    defaults = kconfig_defaults()
    assert defaults.pop("CSI_TEMPORAL_HEAD_ENABLED") == "n"
    assert host.pop("CSI_TEMPORAL_HEAD_ENABLED") == "1"
    chosen = defaults.pop("TEMPORAL_MODE")
    assert {name: value for name, value in defaults.items() if value != "n"} | {chosen: "1"} == host


def test_kconfigs_ranges_are_the_contracts() -> None:
    text = (COMPONENT / "Kconfig").read_text()
    ranges = {m[0]: (int(m[1]), int(m[2])) for m in re.findall(r"config (\w+)\n(?: .*\n)*?    range (\d+) (\d+)", text)}
    assert ranges == {
        "TEMPORAL_INPUT_DIM": (1, 256),
        "TEMPORAL_WINDOW_LEN": (32, 1024),
        "TEMPORAL_N_CLASSES": (2, 16),
        "TEMPORAL_CLASSIFY_PERIOD_MS": (100, 60000),
    }


def test_the_component_compiles_its_own_files_all_of_them() -> None:
    listed = set(re.findall(r"\bsrc/(\w+\.c)\b", (COMPONENT / "CMakeLists.txt").read_text()))
    assert listed == {path.name for path in (COMPONENT / "src").glob("*.c")}


def test_the_examples_dims_and_partition_are_the_shipped_models() -> None:
    defaults = dict(re.findall(r"^CONFIG_(\w+)=(\w+)$", (EXAMPLE / "sdkconfig.defaults").read_text(), re.MULTILINE))
    model = load_model("activity")
    assert int(defaults["TEMPORAL_INPUT_DIM"]) == model.input_dim
    assert int(defaults["TEMPORAL_N_CLASSES"]) == len(model.labels)
    (size,) = re.findall(r"^model, .*, (0x\w+)$", (EXAMPLE / "partitions.csv").read_text(), re.MULTILINE)
    assert int(size, 0) >= ACTIVITY.stat().st_size
    assert f"**{model.input_dim} features and {len(model.labels)} classes**" in (COMPONENT / "README.md").read_text()
