"""What the package accepts as an array, in one place.

The extension takes plain float32 arrays as they are and gives None for all others, which come here.
Anything NumPy can view comes in, DLPack included (a CPU tensor is not copied). It is converted only where every
value of its dtype fits float32 exactly (float16, 8- and 16-bit integers); float64 and the like are refused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import ConfigError, DtypeError, MemoryLimitError, NonFiniteError, ShapeError

Floats = NDArray[np.float32]


def as_float32(name: str, value: object) -> Floats:
    """`value` as an aligned, C-contiguous float32 array, without a copy where it is one already.

    Raises:
        DtypeError: it is no array, or its dtype would lose something on the way to float32.
        MemoryLimitError: the copy that it needs does not fit into memory.
    """
    array = _as_array(name, value)
    if array.dtype != np.float32 and not np.can_cast(array.dtype, np.float32, casting="safe"):
        raise DtypeError(
            f"{name} has dtype {array.dtype}, which float32 cannot hold exactly; "
            f"convert it where you know that is fine: {name}.astype(numpy.float32)"
        )
    try:
        return np.require(array, np.float32, ["C", "A"])
    except MemoryError:
        raise MemoryLimitError(f"{name} has shape {array.shape}, which does not fit into memory as float32") from None


def _as_array(name: str, value: object) -> NDArray[np.generic]:
    """A view; `__array__` comes before DLPack, because NumPy's path refuses what DLPack's may mistake."""
    if isinstance(value, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array, whose mask would be lost; fill or drop the masked values first")
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except Exception as error:  # whatever another library's exchange protocol raises
        raise DtypeError(f"{name} is {type(value).__name__}, which NumPy cannot view as an array: {error}") from None


def require_finite(name: str, array: Floats) -> None:
    """Refuses NaN, infinity, and numbers beyond the core's `MAX_VALUE`, which could overflow to infinity.

    Raises:
        NonFiniteError: with the index of the first one.
    """
    at = _core.first_unusable(array.reshape(-1))
    if at >= 0:
        index = tuple(int(i) for i in np.unravel_index(at, array.shape))
        raise NonFiniteError(
            f"{name}{list(index)} is {array[index]}; expected finite numbers within +-{_core.MAX_VALUE:g}: "
            "drop or repair the frame it came from"
        )


def require_out(out: object, shape: tuple[int, ...], *read: Floats) -> None:
    """Refuses an `out` argument that a result of this shape cannot be written to as it is; None is fine.

    Raises:
        DtypeError: no plain NumPy array of native float32 in C order, aligned and writable.
        ShapeError: another shape.
        ConfigError: it shares memory with one of the arrays that are read.
    """
    if out is None:
        return
    if type(out) is not np.ndarray or out.dtype != np.float32:
        given = out.dtype if isinstance(out, np.ndarray) else "no array"
        raise DtypeError(f"out is {type(out).__name__} ({given}); expected a numpy.ndarray of float32")
    if out.shape != shape:
        raise ShapeError(f"out has shape {out.shape}; expected {shape}, the shape of q")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise DtypeError("out must be C-contiguous, aligned and writable: give an array of numpy.empty_like(q)")
    if any(np.may_share_memory(out, array) for array in read):
        raise ConfigError("out shares memory with q, k or v, which are read while it is written")


def changed_meanwhile() -> ConfigError:
    """The error for arguments that were converted and checked, and that the extension refuses all the same."""
    return ConfigError("an argument was changed while the call looked at it; let no other thread write to it")
