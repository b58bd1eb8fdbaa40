"""What the node's calls cost on emulated chips: instructions, stack, heap and code, a row a case.

Instructions are counted. Time is not: `Row.milliseconds` assumes how many cycles an instruction takes, which nobody has
measured here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.errors import EmulationError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import SHIPPED, find_model
from wifi_densepose_temporal.node.emulation import BENCH, TARGETS, Image, driver_buffers, run, versions
from wifi_densepose_temporal.rvne import WeightBlob, WeightBlobView, init_random_blob, quantise

#: Frames of a window, and of a stream before its push is counted.
WINDOW_LEN = 256

#: Cycles an instruction, from a core that finishes one each cycle to one that waits for flash and its floating-point
#: unit as often as not. An assumption, not a measurement.
CYCLES = (1.0, 2.0)

_MODELS = {"": "reference blob", "activity_": "`activity`"}
_CALLS = {
    "window_init": "init, window",
    "window_push": "push, window",
    "window_classify": f"classify, window of {WINDOW_LEN}",
    "session_init": "init, session",
    "session_push": f"push, session, mean of {WINDOW_LEN}",
    "session_classify": "classify, session",
}
#: What a call is, of each case. Those of the C ABI come last; the others call the core below it.
CASES = {
    "attention_window": f"attention, one layer, a window of {WINDOW_LEN}",
    "attention_steps": f"attention, one layer, {WINDOW_LEN} steps",
    "push": f"reference blob: stream's push at {WINDOW_LEN}",
    "push_float16_weights": f"reference blob in float16: stream's push at {WINDOW_LEN}",
    "push_int8_weights": f"reference blob in int8: stream's push at {WINDOW_LEN}",
    "activity_features": "`activity`: a packet of 64 subcarriers to features",
    **{model + call: f"{_MODELS[model]}: {what}" for model in _MODELS for call, what in _CALLS.items()},
    **{f"activity_int8_{call}": f"`activity` in int8: {what}" for call, what in _CALLS.items() if "session" in call},
}


@dataclass(frozen=True)
class Row:
    """A case on a target."""

    target: str
    case: str
    """One of `CASES`."""
    dtype: str
    """Of the cached keys and values."""
    instructions: int
    """Of a call; a mean where a case is called more than once."""
    stack_bytes: int
    """The most that a call had on the stack."""
    heap_bytes: int
    """Memory of the case besides weights and input: of the C ABI its one allocation, else what the caller has given."""
    code_bytes: int
    """Code, constants and initialised data of everything that a node needs (`emulation.ENTRY_POINTS`)."""

    def milliseconds(self, mhz: float, cycles: float) -> float:
        """Of a call at this clock, if each instruction took so many cycles."""
        return self.instructions * cycles / (1e3 * mhz)


def measure(image: Image, kernels: str = "") -> list[Row]:
    """Every case on the image's target.

    Args:
        image: as `emulation.build` made it.
        kernels: whose to use, by name; those that the build takes by itself without.

    Raises:
        EmulationError: the image failed, or has not answered what was asked.
    """
    reference, half, activity = init_random_blob(), float16_reference(), find_model("activity").read_bytes()
    rng, head = np.random.default_rng(0), TemporalHeadConfig.default_aether()
    models = TemporalModel.from_bytes(reference), TemporalModel.from_bytes(activity)
    drawn = [
        rng.uniform(-1, 1, (rows, width)).astype("<f4").tobytes()
        for rows, width in (
            (WINDOW_LEN, head.q_heads * head.head_dim),
            (WINDOW_LEN, head.kv_heads * head.head_dim),
            (WINDOW_LEN, head.kv_heads * head.head_dim),
            (2 * WINDOW_LEN, models[0].input_dim),
        )
    ]
    times, buffers = _recording()
    numbers = [WINDOW_LEN, *buffers.shape]
    numbers += [size for model in models for size in (model.input_dim, len(model.labels))]
    packets = [times.astype("<i8").tobytes(), buffers.tobytes()]
    blobs = [reference, half, quantise(reference)]
    parts = [*drawn[:3], *blobs, drawn[3], activity, quantise(activity), *packets]
    lines = run(image, BENCH, numbers, parts, kernels)
    rows = [
        Row(image.target.name, case, dtype, int(instructions), int(stack), int(heap), image.code_bytes)
        for instructions, stack, heap, dtype, case in lines.get("bench", [])
    ]
    if {row.case for row in rows} != set(CASES):
        raise EmulationError(f"{image.target.name}: cases {sorted({row.case for row in rows})}; expected {[*CASES]}")
    return rows


def facts(rows: Iterable[Row]) -> dict[str, Any]:
    """The rows, and what they depend on, for JSON."""
    rows = list(rows)
    targets = [TARGETS[name] for name in dict.fromkeys(row.target for row in rows)]
    return {
        "window_len": WINDOW_LEN,
        "cycles_per_instruction_assumed": CYCLES,
        "targets": {
            target.name: {
                "chips": [{"name": chip, "mhz": mhz} for chip, mhz in target.chips],
                "software": versions(target),
                "options": target.options,
                "counted_in_instructions": target.unit,
            }
            for target in targets
        },
        "rows": [dataclasses.asdict(row) for row in rows],
    }


def assumption() -> str:
    """What the times of a table are made of, in a sentence."""
    least, most = CYCLES
    return (
        f"Times are instructions times {least:g} to {most:g} cycles at the chip's clock: an assumption, not a "
        "measurement. Instructions, stack and heap are the emulated processor's; no board was used."
    )


def float16_reference() -> bytes:
    """The reference blob with its weights rounded to float16."""
    view = WeightBlobView.parse(init_random_blob())
    header = dataclasses.replace(view.header, dtype="float16")
    return WeightBlob(header, view.weights.astype(np.float16)).serialize()


def _recording() -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Times in microseconds and buffers of a recording in the package, twice in a row: 37 s."""
    capture = read_capture(SHIPPED.parent / "wiper81_p01_A.npz")
    times = np.rint(capture.timestamps * 1e6).astype(np.int64)
    return np.concatenate([times, times + times[-1] + 15_000]), np.tile(driver_buffers(capture), (2, 1))
