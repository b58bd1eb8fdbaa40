"""The ESP-IDF component on a host: its ABI against Python's `predict`, its self-test, and its switch off.

Everything is built under AddressSanitizer and UndefinedBehaviorSanitizer with warnings as errors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import reference
from tests.firmware.building import (
    ACTIVITY,
    COMPONENT,
    CORE,
    DATA,
    ERRORS,
    REFERENCE,
    TESTS,
    Build,
    compile_c,
    require,
    run,
    saved,
)
from tests.test_rvne import record, sealed
from wifi_densepose_temporal import (
    TemporalHeadConfig,
    TemporalModel,
    WeightBlob,
    WeightBlobHeader,
    _core,
    load_model,
)
from wifi_densepose_temporal.rvne import quantise


@pytest.fixture(scope="module")
def head(build: Build) -> Path:
    return build("run_frames", ["ruv_temporal"])


@pytest.fixture
def scalar_kernels() -> Iterator[None]:
    before = _core.instruction_set()
    _core.use_instruction_set("scalar")
    yield
    _core.use_instruction_set(before)


# ------------------------------------------------------------------------------------------------------------ contract


def overflowing_blob() -> bytes:
    """Two layers of uniform attention; the second sees x + 100 * the mean of the candidates."""
    zero, one = np.zeros((2, 2)), np.eye(2)
    header = WeightBlobHeader(input_dim=2, n_q_heads=1, n_kv_heads=1, head_dim=2, n_layers=2, n_classes=2)
    weights = [zero, zero, 100 * one, one] * 2 + [one]
    return WeightBlob(header, np.concatenate(weights).astype(np.float32).ravel()).serialize()


BLOBS = ("reference", "overflow", "records")  # a command line for qemu-arm is short


def contract_blobs(folder: Path) -> None:
    for name, content in zip(BLOBS, (REFERENCE, overflowing_blob(), ACTIVITY.read_bytes()), strict=True):
        saved(folder / name, content)


def test_every_row_of_the_contract(build: Build, tmp_path: Path) -> None:
    program = build("test_abi", ["ruv_temporal"], "-Wl,--wrap=malloc", "-Wl,--wrap=free")
    contract_blobs(tmp_path)
    run(program, *BLOBS, cwd=tmp_path)


ARM = ["arm-none-eabi-gcc", "--specs=rdimon.specs", "-mcpu=cortex-a9", "-marm", "-mfloat-abi=hard", "-mfpu=vfpv3"]


def test_every_row_of_the_contract_with_32_bit_sizes(tmp_path: Path) -> None:
    """Where a long window is more than can be addressed. A processor that no node has, but with files to read."""
    require(ARM[0], "qemu-arm")
    sources = [TESTS / "test_abi.c", COMPONENT / "src" / "ruv_temporal.c", *CORE]
    options = ["-O2", "-Wl,--wrap=malloc", "-Wl,--wrap=free"]
    program = compile_c(sources, tmp_path / "abi", *options, compiler=ARM)
    contract_blobs(tmp_path)
    run("qemu-arm", program, *BLOBS, cwd=tmp_path)


def resealed(content: bytes, at: int, field: bytes) -> bytes:
    return sealed(content[:at] + field + content[at + len(field) : -4])


def with_record(*records: bytes) -> bytes:
    section = b"".join(records)
    body = bytearray(REFERENCE[:-4])
    body[6] = 2
    return sealed(bytes(body) + struct.pack("<I", len(section)) + section)


INT8 = quantise(REFERENCE)
DAMAGE = {
    "too short": (REFERENCE[:27], "ESP_ERR_INVALID_ARG"),
    "magic": (b"RVNE" + REFERENCE[4:], "ESP_ERR_INVALID_ARG"),
    "version": (resealed(REFERENCE, 4, b"\2\0"), "ESP_ERR_INVALID_VERSION"),
    "flags": (resealed(REFERENCE, 6, b"\x08"), "ESP_ERR_INVALID_ARG"),
    "two dtypes": (resealed(REFERENCE, 6, b"\5"), "ESP_ERR_INVALID_ARG"),
    "another dtype's weights": (resealed(REFERENCE, 6, b"\4"), "ESP_ERR_INVALID_SIZE"),
    "an int8 scale below zero": (resealed(INT8, 24, struct.pack("<f", -1)), "ESP_ERR_INVALID_SIZE"),
    "int8": (INT8, "ESP_OK"),
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
    """All of them: a name without its number here is a new one."""
    assert ERRORS == {
        "ESP_OK": 0,
        "ESP_FAIL": -1,
        "ESP_ERR_NO_MEM": 0x101,
        "ESP_ERR_INVALID_ARG": 0x102,
        "ESP_ERR_INVALID_STATE": 0x103,
        "ESP_ERR_INVALID_SIZE": 0x104,
        "ESP_ERR_NOT_FOUND": 0x105,
        "ESP_ERR_NOT_SUPPORTED": 0x106,
        "ESP_ERR_TIMEOUT": 0x107,
        "ESP_ERR_INVALID_RESPONSE": 0x108,
        "ESP_ERR_INVALID_CRC": 0x109,
        "ESP_ERR_INVALID_VERSION": 0x10A,
    }


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


@pytest.mark.parametrize("options", [("window", "float32"), ("session", "float16")])
def test_no_number_is_used_before_it_is_written(tmp_path: Path, options: tuple[str, str]) -> None:
    """The allocation is not cleared: valgrind follows each of its bytes through frames beyond two windows."""
    require("valgrind")
    sources = [
        TESTS / "run_frames.c",
        COMPONENT / "src" / "ruv_temporal.c",
        *CORE,
    ]
    program = compile_c(sources, tmp_path / "frames", "-O1", "-g")
    frames = drawn_frames(TemporalModel.from_bytes(REFERENCE), 20)
    blob = saved(tmp_path / "reference.rvne", REFERENCE)
    checked = ("valgrind", "-q", "--error-exitcode=9", program)
    run(*checked, *options, 8, "", blob, input=frames.tobytes())


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
