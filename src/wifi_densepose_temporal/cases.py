"""What a case is to the estimators: an array of channels over time, and a label. Everything else is refused here.

Letters: T time points of a case, F channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal.arrays import require_finite
from wifi_densepose_temporal.errors import ConfigError, DtypeError, NonFiniteError, ShapeError

Floats = NDArray[np.float32]
Cases = ArrayLike | Sequence[ArrayLike]

AXES = "(n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays"


def as_cases(X: Cases, least: int = 1) -> list[Floats]:  # noqa: N803
    """The cases as frames, float32 `[T, F]` each.

    Args:
        X: array (n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays.
        least: fewer cases are refused.

    Raises:
        ShapeError: other axes, an empty one, too few cases, or cases of different channels.
        DtypeError: something else than real numbers.
        NonFiniteError: NaN, infinity or a number beyond what a model takes, also after rounding to float32.
    """
    if isinstance(X, list | tuple):
        arrays = [_numbers(f"X[{i}]", case, 2) for i, case in enumerate(X)]
    else:
        arrays = list(_numbers("X", X, 3))
    if len(arrays) < least:
        raise ShapeError(f"X holds {len(arrays)} cases; expected at least {least}")
    for i, case in enumerate(arrays):
        if len(case) != len(arrays[0]):
            raise ShapeError(
                f"X[{i}] has shape {case.shape} and X[0] {arrays[0].shape}; expected the same number of channels, "
                "which are the first axis of a case"
            )
    return [np.ascontiguousarray(case.T) for case in arrays]


def as_classes(y: ArrayLike, cases: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different labels, sorted, and the number `[n_cases]` of each case's label among them.

    Raises:
        ShapeError: not one label a case.
        NonFiniteError: NaN or infinity.
        ConfigError: y is None, something else than texts or whole numbers, or all the same.
    """
    if y is None:
        raise ConfigError("this estimator requires y to be passed, but the target y is None; give each case a label")
    labels = _without_objects(np.asarray(y))
    if labels.shape != (cases,):
        raise ShapeError(f"y has shape {labels.shape} for {cases} cases; expected one label a case, ({cases},)")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise NonFiniteError("y contains NaN or infinity; expected a label for each case: leave the others out")
        if (labels != np.round(labels)).any():
            raise ConfigError("Unknown label type: y holds fractions; expected classes, as texts or whole numbers")
    elif labels.dtype.kind not in "biuU" and not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"Unknown label type: y is an array of {labels.dtype}; expected texts or whole numbers")
    known, numbers = np.unique(labels, return_inverse=True)
    if len(known) < 2:
        raise ConfigError(f"y holds one class, {known.tolist()[0]!r}; expected at least two")
    return known, numbers.astype(np.int64)


def digest(cases: Sequence[Floats], numbers: NDArray[np.int64]) -> str:
    """SHA-256 of all cases in their order: number, shape and frames of each, little-endian."""
    digest = hashlib.sha256()
    for case, number in zip(cases, numbers.tolist(), strict=True):
        digest.update(np.asarray([number, *case.shape], "<i8").tobytes() + np.asarray(case, "<f4").tobytes())
    return digest.hexdigest()


def _without_objects(labels: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers that came as objects, such as a table's column, as an array of them; anything else as it is."""
    if labels.dtype != object or not all(isinstance(x, Integral) and not isinstance(x, bool) for x in labels.flat):
        return labels
    numbers = np.array(labels.tolist())
    return numbers if numbers.dtype.kind in "iu" else labels  # some have more than 64 bits


def _numbers(name: str, value: object, axes: int) -> Floats:
    """A float32 array of so many axes, none of them empty."""
    if isinstance(value, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array, whose mask would be lost; fill the masked values first")
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ShapeError(f"{name} is no array: {error}; expected {AXES}") from None
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"{name} is {type(value).__name__} of {array.dtype}; expected a dense array of real numbers: nothing "
            "sparse, cases of unequal lengths as a list, amplitudes in place of complex I/Q"
        )
    if array.ndim != axes:
        raise ShapeError(
            f"{name} has shape {array.shape}; expected {AXES}. One case is X[numpy.newaxis], "
            "one channel X[:, numpy.newaxis, :]"
        )
    if not array.size:
        raise ShapeError(f"{name} has shape {array.shape}; expected at least one channel and one time point a case")
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(array, np.float32)
    require_finite(name, rounded)
    return rounded
