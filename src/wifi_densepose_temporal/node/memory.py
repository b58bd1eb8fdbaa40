"""Would a model fit a chip: what it needs, buffer by buffer, against the memory that there is.

The numbers are those of the firmware's own size function on this machine, whose pointers have 8 bytes: a chip with
pointers of 4 needs a little less, never more.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import DTypeLike

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.node.node import DEFAULT_WINDOW_LEN, MAX_WINDOW_LEN, MIN_WINDOW_LEN, Mode, Node

#: The most that the firmware's menuconfig takes.
MAX_INPUT_DIM, MAX_CLASSES = 256, 16

#: Columns of a packet of the ESP32's 20 MHz long training field, one antenna.
DEFAULT_COLUMNS = 64

#: Frames that wait for the head, as many as the task's queue holds.
QUEUE_FRAMES = _core.NODE_QUEUE_FRAMES
TASK_STACK_BYTES = _core.NODE_STACK_BYTES


@dataclass(frozen=True)
class Buffer:
    """A piece of memory that a node needs."""

    name: str
    bytes: int
    where: str
    """`"heap"`, `"static"` (the caller's, as in the example) or `"flash"`."""


@dataclass(frozen=True)
class Fit:
    """What a model needs on a node."""

    model: TemporalModel
    window_len: int
    mode: Mode
    buffers: tuple[Buffer, ...]
    limits: tuple[str, ...]
    """What menuconfig does not take of it, a sentence each."""

    def total(self, *where: str) -> int:
        """Bytes of the buffers that lie there."""
        return sum(buffer.bytes for buffer in self.buffers if buffer.where in where)


def fit(
    blob: bytes,
    window_len: int = DEFAULT_WINDOW_LEN,
    mode: Mode = "window",
    cache_dtype: DTypeLike = "float32",
    columns: int = DEFAULT_COLUMNS,
) -> Fit:
    """The buffers of a node that runs this model.

    Args:
        blob: a model.
        window_len: as `Node`.
        mode: as `Node`.
        cache_dtype: as `Node`.
        columns: of a packet, for the feature chain.

    Raises:
        BlobError, ConfigError, NodeError: as `Node`.
        ConfigError: also where a node cannot make the model's frames of such packets.
    """
    node = Node(blob, window_len, mode, cache_dtype)
    sizes, model = node.sizes, node.model
    chain = node.features_bytes(columns)
    if not chain:
        raise ConfigError(
            f"a node cannot make this model's {model.input_dim} features of packets of {columns} columns: give another "
            "number of columns, or export the model with its feature chain record"
        )
    buffers = [
        Buffer("window: the newest frames", sizes.window, "heap"),
        Buffer("streams: caches, pooling, scratch", sizes.streams, "heap"),
        Buffer("context and logits", sizes.context + sizes.logits, "heap"),
        Buffer("the task's queue of frames", QUEUE_FRAMES * model.input_dim * 4, "heap"),
        Buffer("the task's stack", TASK_STACK_BYTES, "heap"),
        Buffer(f"the feature chain, packets of {columns} columns", chain, "static"),
        Buffer("the blob, read where it lies", len(blob), "flash"),
    ]
    return Fit(model, window_len, mode, tuple(buffer for buffer in buffers if buffer.bytes), _limits(model, window_len))


def _limits(model: TemporalModel, window_len: int) -> tuple[str, ...]:
    asked = {
        "TEMPORAL_INPUT_DIM": (model.input_dim, 1, MAX_INPUT_DIM),
        "TEMPORAL_N_CLASSES": (model.header.n_classes, 2, MAX_CLASSES),
        "TEMPORAL_WINDOW_LEN": (window_len, MIN_WINDOW_LEN, MAX_WINDOW_LEN),
    }
    return tuple(
        f"menuconfig takes {least} to {most} as {name}, and this is {value}"
        for name, (value, least, most) in asked.items()
        if not least <= value <= most
    )
