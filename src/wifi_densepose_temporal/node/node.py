"""A node on this machine: the firmware's C code behind its own calls, with its own error codes.

What a chip would answer can so be seen, and tested, without one. Memory is of this machine, whose pointers are larger
than a chip's: a chip needs somewhat less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import as_float32
from wifi_densepose_temporal.cache import as_cache_dtype
from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.errors import ConfigError, NodeError, ShapeError
from wifi_densepose_temporal.model import TemporalModel, aligned_blob

Mode = Literal["window", "session"]

#: Frames of a window, the firmware's default and the range that its menuconfig takes.
DEFAULT_WINDOW_LEN = 256
MIN_WINDOW_LEN, MAX_WINDOW_LEN = 32, 1024

#: Columns of the largest buffer that a node reads.
MAX_COLUMNS = 512


@dataclass(frozen=True)
class NodeSizes:
    """Bytes of a node's one allocation, by what they are for. The blob stays where it is, in flash."""

    context: int
    """Counters, and the model as read from the blob."""
    window: int
    """The newest frames; 0 in a session."""
    streams: int
    """Caches, pooling and scratch: of one stream, or of a session's two."""
    logits: int
    """A session's newest logits; 0 with a window."""
    total: int
    """Their sum: what the heap is asked for."""


class Node:
    """The head of a node: frames in, logits of the newest frames out.

    Attributes:
        model: the blob as this package reads it, for labels and where it comes from.
        window_len: frames of a window, or that a session's stream takes before it starts over.
        mode: `"window"`: `classify` speaks of exactly the newest `window_len` frames, and runs them all;
            `"session"`: `push` runs a frame, and `classify` speaks of the last n frames, with
            window_len / 2 < n <= window_len; before there are so many, of all.
        sizes: the bytes that it has allocated.
    """

    def __init__(
        self,
        blob: bytes,
        window_len: int = DEFAULT_WINDOW_LEN,
        mode: Mode = "window",
        cache_dtype: DTypeLike = "float32",
    ) -> None:
        """Makes a node of a blob's bytes.

        Args:
            blob: a model.
            window_len: frames, 1 and more; menuconfig takes 32 to 1024.
            mode: as the attribute.
            cache_dtype: float32 or float16, of what the streams keep.

        Raises:
            BlobError: as `TemporalModel.from_bytes`.
            ConfigError: window_len below 1 or beyond 2^30, or another mode or dtype.
            NodeError: the C code refuses, with the name of its error: no memory, for one.
        """
        self.model = TemporalModel.from_bytes(blob)
        self.window_len = as_int("window_len", window_len, least=1)
        if mode not in get_args(Mode):
            raise ConfigError(f"mode is {mode!r}; expected one of {', '.join(get_args(Mode))}")
        self.mode: Mode = mode
        half = as_cache_dtype(cache_dtype) == "float16"
        options = _core.NodeOptions(
            aligned_blob(blob),
            self.model.input_dim,
            self.window_len,
            self.model.header.n_classes,
            mode == "session",
            half,
        )
        error, parts = options.sizes()
        _require(error, "its sizes")
        self.sizes = NodeSizes(**parts)
        self._core = _core.Node(options)
        _require(self._core.error, f"its one allocation of {self.sizes.total} bytes")

    def push(self, frame: ArrayLike) -> None:
        """Takes one frame, `[input_dim]`.

        Raises:
            ShapeError, DtypeError: no such frame.
            NodeError: `ESP_ERR_INVALID_ARG`: NaN, infinite or too large; `ESP_FAIL`: it overflows in the model (in a
                session; a window finds out in `classify`). Nothing has changed.
            CacheInUseError: another thread is in a call on this node.
        """
        row = as_float32("frame", frame)
        if row.shape != (self.model.input_dim,):
            raise ShapeError(f"frame has shape {row.shape}; this model takes [{self.model.input_dim}]")
        _require(self._core.push(row), "this frame")

    def classify(self) -> NDArray[np.float32]:
        """Logits `[C]` of the frames that its mode speaks of.

        Raises:
            NodeError: `ESP_ERR_INVALID_STATE` before the first frame; `ESP_FAIL`: a frame of the window overflows.
            CacheInUseError: another thread is in a call on this node.
        """
        logits = np.empty(self.model.header.n_classes, np.float32)
        _require(self._core.classify(logits), "to classify")
        return logits

    def features_bytes(self, columns: int) -> int:
        """Bytes of the feature chain for one antenna's packets of so many columns.

        0 where a node cannot make this model's frames of them: more columns than a buffer has, or a blob that does not
        state its chain and is not of the default one's length.
        """
        return self._core.features_bytes(2 * columns) if 1 <= columns <= MAX_COLUMNS else 0

    def reset(self) -> None:
        """Forgets every frame."""
        self._core.reset()


def self_test() -> None:
    """The firmware's own test of its arithmetic, on this machine.

    Raises:
        NodeError: something is computed wrong.
    """
    _require(_core.node_self_test(), "its self-test")


def _require(error: int, what: str) -> None:
    if error:
        name = _core.ESP_ERRORS.get(error, hex(error))
        raise NodeError(f"the node refuses {what}: {name}", name)
