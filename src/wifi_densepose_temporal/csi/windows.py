"""Overlapping windows of a frame sequence, without copying it.

Not here: labels, gaps. A window may span the end of a segment; `Frames.times_s` shows where those are.
"""

from __future__ import annotations

import operator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import ConfigError, ShapeError

Item = TypeVar("Item", bound=np.generic)


def windows(frames: NDArray[Item], length: int, hop: int = 1) -> NDArray[Item]:
    """Window n is frames n*hop .. n*hop+length-1. Only whole windows: N = max(0, (T - length) // hop + 1).

    Args:
        frames: [T, F] of any dtype.
        length: frames in a window, at least 1.
        hop: frames between the starts of two windows, at least 1.

    Returns:
        [N, length, F], a read-only view of `frames`.

    Raises:
        ShapeError: `frames` is not [T, F].
        ConfigError: length or hop is not a whole number of at least 1.

    >>> frames = np.arange(10).reshape(5, 2)
    >>> windows(frames, length=3, hop=2)[:, :, 0].tolist()
    [[0, 2, 4], [4, 6, 8]]
    """
    length, hop = _at_least_one("length", length), _at_least_one("hop", hop)
    if frames.ndim != 2:
        raise ShapeError(f"frames have shape {frames.shape}; expected [T, F]")
    count = max(0, (frames.shape[0] - length) // hop + 1)
    if count == 0:
        empty = np.empty((0, length, frames.shape[1]), frames.dtype)
        empty.flags.writeable = False
        return empty
    view = np.lib.stride_tricks.sliding_window_view(frames, length, axis=0)  # [T - length + 1, F, length]
    return view[::hop].transpose(0, 2, 1)


def _at_least_one(name: str, value: Any) -> int:
    try:
        whole = operator.index(value)
    except TypeError:
        whole = 0
    if whole < 1:
        raise ConfigError(f"{name}={value!r}; expected a whole number of at least 1")
    return whole
