"""The node's C code on emulated chips: builds the images of firmware/emulation, runs them, reads what they say.

Needs a clone of the repository, a cross-compiler and QEMU (`Target.packages` are Debian's names). What is emulated is
the instruction set: results and instruction counts are a chip's, time and power are not.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.csi.bands import usable_subcarriers
from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.errors import EmulationError
from wifi_densepose_temporal.model import TemporalModel

#: As a component's build has them (firmware/components/ruv_temporal/CMakeLists.txt).
NODE_OPTIONS = ("-std=c11", "-O2", "-DWDT_SCALAR", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
HARNESS_OPTIONS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-ffunction-sections")

#: What `code_bytes` counts: the C ABI, the features and the packet's writer, with all that they call.
ENTRY_POINTS = (
    *(f"ruv_temporal_{name}" for name in ("init", "push", "classify", "destroy", "kernel_self_test")),
    *(f"ruv_temporal_{name}" for name in ("init_with", "options_default", "size", "model", "reset")),
    *(f"temporal_features_{name}" for name in ("layout_of", "bytes", "init", "push", "next", "flush")),
    "wdt_wire_decide",
    "wdt_wire_write_classification",
)

#: Seconds after which a run is given up.
TIME_LIMIT_S = 300.0

# firmware/emulation/input.h
_MAGIC, _NUMBERS, _PARTS, _ALIGNMENT = 0x31455457, 32, 12, 16
_SELF_TEST, _GOLDEN, _RECORDING, BENCH = range(4)
_AMPLITUDE, _BUFFER, _FRAMES = range(3)


class Memory(NamedTuple):
    """Addresses of a machine: where the image lies, its data, the data's end, and the input."""

    code: int
    ram: int
    ram_end: int
    input: int


@dataclass(frozen=True)
class Target:
    """A processor to compile for, and the machine that QEMU has of it."""

    name: str
    chips: tuple[tuple[str, int], ...]
    """Chips of this class, and their clocks in MHz."""
    compiler: str
    """What its compiler's name begins with."""
    options: tuple[str, ...]
    """Of the processor, for compiling and linking."""
    libc: tuple[str, ...]
    host: str
    """Its start-up code in firmware/emulation."""
    emulator: tuple[str, ...]
    """The command that QEMU is started by."""
    memory: Memory
    packages: tuple[str, ...]
    """Debian's."""
    unit: int = 1
    """What its counter counts in, instructions (firmware/emulation/host.h)."""
    semihosting: bool = True
    """Whether output is Arm's semihosting, and not the Xtensa simulator's calls."""
    rom: tuple[str, ...] = ()
    """Files that stand for what the chip has in its mask ROM."""

    def missing(self) -> list[str]:
        """Programs that this machine does not have."""
        return [name for name in (f"{self.compiler}gcc", self.emulator[0]) if shutil.which(name) is None]


_PICOLIBC = ("--specs=picolibc.specs",)
_RISCV = ("gcc-riscv64-unknown-elf", "picolibc-riscv64-unknown-elf", "qemu-system-misc")
_RISCV_MEMORY = Memory(0x80000000, 0x80100000, 0x80800000, 0x81000000)


def _riscv(*off: str) -> tuple[str, ...]:
    """QEMU without what the chip does not have, so that such an instruction traps."""
    without = ("d", "h", "s", "u", "zba", "zbb", "zbc", "zbs", *off)
    cpu = ",".join(["rv32", *(f"{extension}=off" for extension in without)])
    return ("qemu-system-riscv32", "-M", "virt", "-cpu", cpu, "-bios", "none")


TARGETS = {
    target.name: target
    for target in (
        Target(
            "rv32imafc",
            (("ESP32-P4", 400),),
            "riscv64-unknown-elf-",
            ("-march=rv32imafc", "-mabi=ilp32f"),
            _PICOLIBC,
            "host_riscv.S",
            _riscv(),
            _RISCV_MEMORY,
            _RISCV,
        ),
        Target(
            "rv32imc",
            (("ESP32-C3, C6", 160),),
            "riscv64-unknown-elf-",
            ("-march=rv32imc", "-mabi=ilp32"),
            _PICOLIBC,
            "host_riscv.S",
            _riscv("a", "f"),
            _RISCV_MEMORY,
            _RISCV,
        ),
        Target(
            "cortex-m4f",
            (("Cortex-M4F", 168),),
            "arm-none-eabi-",
            ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
            (),
            "host_arm.c",
            ("qemu-system-arm", "-M", "mps2-an386"),
            Memory(0, 0x20000000, 0x20400000, 0x21000000),
            ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm"),
            unit=40,
        ),
        Target(
            "xtensa-lx106",
            (("ESP8266", 80),),
            "xtensa-lx106-elf-",
            ("-mtext-section-literals",),
            ("--specs=/usr/lib/xtensa-lx106-elf/picolibc.specs",),  # not where this compiler looks by itself
            "host_xtensa.S",
            ("qemu-system-xtensa", "-M", "sim", "-cpu", "lx106"),
            Memory(0x50000000, 0x60000000, 0x60800000, 0x61000000),
            ("gcc-xtensa-lx106", "picolibc-xtensa-lx106-elf", "qemu-system-misc"),
            unit=25,
            semihosting=False,
            rom=("host_xtensa_rom.c",),
        ),
    )
}

#: Targets whose instruction counts are a chip's.
COUNTED = ("rv32imafc", "rv32imc", "cortex-m4f")


@dataclass(frozen=True)
class Image:
    """A built image."""

    target: Target
    path: Path
    code_bytes: int
    """Code, constants and initialised data of the node alone (`ENTRY_POINTS`), without the image's own."""


# ------------------------------------------------------------------------------------------------------------ building


def repository() -> Path:
    """The clone that the working directory, or else this package, is in.

    Raises:
        EmulationError: neither is in one.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).resolve().parents):
        if (folder / "firmware" / "emulation" / "image.ld").is_file():
            return folder
    raise EmulationError(
        f"no firmware/emulation in {Path.cwd()} or above it, and this is an installed package without the C sources; "
        "run the command inside a clone of the repository"
    )


def build(target: Target, folder: Path) -> Image:
    """Compiles the core, the component and the image's own files, and links them in `folder`.

    Raises:
        EmulationError: no clone, no compiler or emulator, or something does not compile.
    """
    root, missing = repository(), target.missing()
    if missing:
        packages = " ".join(target.packages)
        raise EmulationError(f"{target.name}: no {' and no '.join(missing)}; on Debian: apt-get install {packages}")
    core, component, harness = root / "core", root / "firmware/components/ruv_temporal", root / "firmware/emulation"
    includes = [f"-I{path / 'include'}" for path in (core, component, root / "firmware/host")]
    gcc = (f"{target.compiler}gcc", *target.options, *target.libc)
    node_sources = [*sorted((core / "src").glob("*.c")), *(component / "src" / f"{name}.c" for name in _COMPONENT)]
    own_sources = [path for path in sorted(harness.glob("*.c")) if not path.name.startswith("host_")]
    node = _compiled(folder / "node", [*gcc, *NODE_OPTIONS, *includes], node_sources)
    own = _compiled(folder / "own", [*gcc, *HARNESS_OPTIONS, *includes], [*own_sources, harness / target.host])
    node += _compiled(folder / "rom", [*gcc, *HARNESS_OPTIONS, *includes], [harness / name for name in target.rom])
    link = [*gcc, "-nostartfiles", "-Wl,--gc-sections", "-T", harness / "image.ld"]
    link += [f"-Wl,--defsym={name.upper()}={address:#x}" for name, address in target.memory._asdict().items()]
    _run([*link, *node, *own, *_LIBRARIES, "-o", folder / "image.elf"], folder)
    elsewhere = ("malloc", "free", "image_trapped")  # what is not the node's code
    alone = [*(f"-Wl,--defsym={name}={target.memory.code}" for name in elsewhere), f"-Wl,-e{ENTRY_POINTS[0]}"]
    alone += [f"-Wl,-u{name}" for name in ENTRY_POINTS]
    _run([*link, *alone, *node, *_LIBRARIES, "-o", folder / "node.elf"], folder)
    return Image(target, folder / "image.elf", _code_bytes(target, folder / "node.elf"))


_LIBRARIES = ("-lm", "-lc", "-lgcc")
_COMPONENT = ("ruv_temporal", "self_test", "temporal_features")  # the component's files that know no task and no driver


def _compiled(folder: Path, command: Sequence[object], sources: Sequence[Path]) -> list[Path]:
    if not sources:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    _run([*command, "-c", *sources], folder)
    return [folder / f"{source.stem}.o" for source in sources]


def _run(command: Sequence[object], folder: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulationError(f"{command[0]} failed in {folder}: {(done.stderr or done.stdout).strip()[:2000]}")
    return done.stdout


def _code_bytes(target: Target, program: Path) -> int:
    lines = _run([f"{target.compiler}size", "-A", program], program.parent).splitlines()
    sizes = {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) == 3 and words[0][0] == "."}
    return sum(sizes.get(name, 0) for name in (".text", ".rodata", ".ARM.exidx", ".data"))


# ------------------------------------------------------------------------------------------------------------- running


def run(
    image: Image,
    task: int,
    numbers: Iterable[int] = (),
    parts: Iterable[bytes] = (),
    kernels: str = "",
    time_limit_s: float = TIME_LIMIT_S,
) -> dict[str, list[list[str]]]:
    """Runs a task of an image; its lines, by their first word.

    Args:
        image: as `build` made it.
        task: what to do, one of firmware/emulation/input.h's.
        numbers: its arguments, as the task's file there lists them.
        parts: and its arrays.
        kernels: whose to use, by name; those that the build takes by itself without.
        time_limit_s: after so many seconds the run is given up.

    Raises:
        EmulationError: it trapped, failed, was given up, or said something else than lines up to "done".
    """
    file = image.path.with_suffix(".input")
    file.write_bytes(_input(task, list(numbers), list(parts), kernels))
    target = image.target
    command = [*target.emulator, "-kernel", str(image.path), "-display", "none"]
    command += ["-monitor", "none", "-serial", "none"]
    command += ["-device", f"loader,file={file},addr={target.memory.input:#x},force-raw=on"]
    if task == BENCH:
        command += ["-icount", "shift=0"]  # the clock counts instructions, and emulation is slower for it
    if target.semihosting:
        command += ["-chardev", "stdio,id=out,signal=off", "-semihosting-config", "enable=on,target=native,chardev=out"]
    else:
        command += ["-semihosting"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=time_limit_s
        )
    except subprocess.TimeoutExpired:
        raise EmulationError(f"{target.name}: no end within {time_limit_s:.0f} s; given up") from None
    said = [line.split() for line in done.stdout.splitlines()]
    if done.returncode or not said or said[-1] != ["done"]:
        last = " ".join(said[-1])[:300] if said else "nothing"
        raise EmulationError(
            f"{target.name}: exit code {done.returncode}, and the last that it said is: {last} {done.stderr[:300]}"
        )
    lines: dict[str, list[list[str]]] = {}
    for word, *rest in said[:-1]:
        lines.setdefault(word, []).append(rest)
    return lines


def _input(task: int, numbers: list[int], parts: list[bytes], kernels: str) -> bytes:
    parts = [*parts, *[b""] * (_PARTS - 1 - len(parts)), kernels.encode() + b"\0" if kernels else b""]
    head = struct.Struct(f"<2I{_NUMBERS}i{2 * _PARTS}I")
    offset, places, body = -(-head.size // _ALIGNMENT) * _ALIGNMENT, [], b""
    for part in parts:
        places += [offset + len(body), len(part)]
        body += part + bytes(-len(part) % _ALIGNMENT)
    numbers = [*numbers, *[0] * (_NUMBERS - len(numbers))]
    return head.pack(_MAGIC, task, *numbers, *places).ljust(offset, b"\0") + body


def _floats(words: Iterable[str]) -> Floats:
    """Numbers from their bits."""
    return np.array([int(word, 16) for word in words], np.uint32).view(np.float32)


def _rows(lines: dict[str, list[list[str]]], word: str, skip: int = 0) -> Floats:
    return np.array([_floats(line[skip:]) for line in lines.get(word, [])], np.float32)


# --------------------------------------------------------------------------------------------------------------- tasks


def self_test(image: Image, kernels: str = "") -> int:
    """What `ruv_temporal_kernel_self_test` answers there: 0 is ESP_OK."""
    ((code,),) = run(image, _SELF_TEST, kernels=kernels)["self_test"]
    return int(code)


def kernel_sets(image: Image) -> list[str]:
    """Names of the kernels in the image, the ones that it takes by itself first."""
    (names,) = run(image, _SELF_TEST)["kernels"]
    return names


class Attended(NamedTuple):
    """A head's outputs over a sequence, `[T, Hq, D]` each; no steps of a head that is not causal."""

    forward: Floats
    steps: Floats
    half_steps: Floats
    """With a float16 cache."""


def attend(image: Image, config: TemporalHeadConfig, q: Floats, k: Floats, v: Floats, kernels: str = "") -> Attended:
    """One head over q `[T, Hq, D]` and k, v `[T, Hkv, D]`: the whole window, then step by step."""
    flags = (config.backend == "dense", config.causal, config.log_stride, config.landmarks)
    sizes = (len(q), config.q_heads, config.kv_heads, config.head_dim, config.window, config.block_size)
    numbers = (*sizes, *map(int, flags), len(config.global_tokens), *config.global_tokens)
    lines = run(image, _GOLDEN, numbers, [np.ascontiguousarray(x, "<f4").tobytes() for x in (q, k, v)], kernels)
    return Attended(*(_rows(lines, word).reshape(-1, *q.shape[1:]) for word in ("forward", "step", "half")))


class Played(NamedTuple):
    """What a node made of a recording."""

    frames: Floats
    """`[T, F]`."""
    logits: Floats
    """`[N, C]`, of each classification."""
    logits_us: NDArray[np.int64]
    """`[N]`, arrival of the newest packet."""
    packets: tuple[bytes, ...]
    """N classification packets."""


@dataclass(frozen=True)
class NodeSettings:
    """How a node is set up."""

    window_len: int = 256
    session: bool = False
    half: bool = False
    """float16 caches."""
    every: int = 32
    """Frames from one classification to the next."""
    node_id: int = 1


def play(image: Image, blob: bytes, capture: Capture | Floats, settings: NodeSettings, kernels: str = "") -> Played:
    """Packets of a capture, or frames `[T, F]`, through the feature chain, the C ABI and the packet's writer.

    Args:
        image: as `build` made it.
        blob: a model; of a capture it states its chain.
        capture: of one antenna. Integer I/Q goes in as int8 pairs, anything else as amplitudes.
        settings: of the node.
        kernels: as `run`.

    Raises:
        EmulationError: the node refuses something; and as `run`.
    """
    model = TemporalModel.from_bytes(blob)
    kind, values, times, index, packets = _packets(capture)
    numbers = [kind, len(times), values, model.input_dim, settings.window_len, len(model.labels)]
    numbers += (
        int(settings.session),
        int(settings.half),
        settings.every,
        settings.node_id,
        *_layout(capture),
    )
    parts = (blob, index.astype("<i2").tobytes(), times.astype("<i8").tobytes(), packets)
    lines = run(image, _RECORDING, numbers, parts, kernels)
    logits = lines.get("logits", [])
    return Played(
        _rows(lines, "frame"),
        _rows(lines, "logits", 1),
        np.array([int(line[0]) for line in logits], np.int64),
        tuple(bytes.fromhex(text) for (text,) in lines.get("packet", [])),
    )


def _packets(capture: Capture | Floats) -> tuple[int, int, NDArray[np.int64], NDArray[np.int16], bytes]:
    """Kind, numbers of a packet, times in microseconds, OFDM index of each column, and the bytes."""
    if not isinstance(capture, Capture):
        times = 20_000 * np.arange(1, len(capture) + 1)
        return _FRAMES, capture.shape[1], times, np.empty(0, np.int16), np.ascontiguousarray(capture, "<f4").tobytes()
    index, times = usable_subcarriers(capture), np.rint(capture.timestamps * 1e6).astype(np.int64)
    if capture.amplitude.shape[1] != 1 or index is None:
        raise EmulationError(f"{capture.amplitude.shape[1]} antennas; an image takes one, of known subcarriers")
    if capture.iq is None:
        return _AMPLITUDE, len(index), times, index, capture.amplitude.astype("<f4").tobytes()
    return _BUFFER, 2 * len(index), times, index, driver_buffers(capture).tobytes()


def _layout(capture: Capture | Floats) -> tuple[int, int]:
    """Whether a buffer begins with subcarrier -32, and not with 0; and whether its first word is invalid."""
    invalid = capture.metadata.get("invalid_subcarriers") if isinstance(capture, Capture) else None
    return int(invalid == [-32, -31]), int(bool(invalid))


def driver_buffers(capture: Capture) -> NDArray[np.int8]:
    """I/Q `[T, 128]` as an ESP32's driver gave it, the imaginary part first.

    Subcarriers 0 to 31, then -32 to -1; ascending where the capture says that it was so.

    Raises:
        EmulationError: the capture has no I/Q of these 64 subcarriers, or numbers that int8 does not hold.
    """
    if capture.iq is None or capture.subcarriers is None or capture.subcarriers.tolist() != [*range(-32, 32)]:
        raise EmulationError(f"a capture ({capture.format}) that is no I/Q of subcarriers -32 to 31")
    ascending, _ = _layout(capture)
    iq = capture.iq[:, 0] if ascending else np.roll(capture.iq[:, 0], -32, axis=1)
    pairs = np.stack([iq.imag, iq.real], axis=-1).reshape(len(iq), -1)
    buffers = pairs.astype(np.int8)
    if not np.array_equal(buffers, pairs):
        raise EmulationError(f"I/Q ({capture.format}) that int8 does not hold; a node's driver gives int8")
    return buffers


def versions(target: Target) -> str:
    """The compiler and the emulator, as they call themselves."""
    said = [_run([name, "--version"], Path.cwd()) for name in (f"{target.compiler}gcc", target.emulator[0])]
    return ", ".join(re.sub(r"\s*Copyright.*", "", text.splitlines()[0]) for text in said)
