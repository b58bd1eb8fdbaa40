"""Which columns of a packet are used, and in which frequency band each counts.

The tables of guard and pilot subcarriers are in core/src/bands.c. Not here: which index a column of a file
has; that is the readers' to say (csi/subcarriers.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import ConfigError

if TYPE_CHECKING:
    from wifi_densepose_temporal.csi.capture import Capture

# OFDM indices relative to the carrier, one a column; or the number of columns, where those are not known.
Subcarriers = int | Sequence[int] | NDArray[np.integer]

# An OFDM index that no subcarrier has: the column holds nothing measured.
UNUSED: int = _core.CHAIN_UNUSED


def usable_subcarriers(capture: Capture) -> NDArray[np.int16] | None:
    """The capture's OFDM indices, [subcarrier], with `UNUSED` in place of those it calls invalid.

    The reader names them in the metadata (`invalid_subcarriers`: an ESP32 may fill the first four bytes of a
    packet with something else). None where the capture does not know its indices.
    """
    if capture.subcarriers is None:
        return None
    index = np.array(capture.subcarriers, np.int16)
    invalid = capture.metadata.get("invalid_subcarriers")
    if isinstance(invalid, list | tuple):
        index[np.isin(index, list(invalid))] = UNUSED
    return index


def assign_bands(subcarriers: Subcarriers, bands: int) -> NDArray[np.int16]:
    """The band of each column, [subcarrier]: 0..bands-1, or -1 where it is left out.

    Guard, carrier and pilot subcarriers are left out by OFDM index (tables in docs/features.md). The others,
    from the lowest frequency to the highest, are cut into contiguous groups of the sizes of `np.array_split`.
    Where only the number of columns is given, all are used in their order.

    Args:
        subcarriers: their OFDM indices (`UNUSED` for a column that holds nothing), or their number; 1..4096.
        bands: number of groups, 1..1024.

    Raises:
        ConfigError: anything outside these ranges, or fewer usable columns than bands.

    >>> assign_bands([-2, -1, 0, 1, 2, 7], bands=2).tolist()
    [0, 0, -1, 1, 1, -1]
    """
    count, index = columns_of(subcarriers)
    if not 1 <= bands <= _core.CHAIN_MAX_BANDS:
        raise ConfigError(f"bands={bands}; expected 1 to {_core.CHAIN_MAX_BANDS}")
    band = _core.chain_assign_bands(index, count, bands)
    if band is None:
        raise ConfigError(
            f"bands={bands} of {count} subcarriers: fewer are left without guard, carrier and pilots; use fewer bands"
        )
    return band


def columns_of(subcarriers: Subcarriers) -> tuple[int, NDArray[np.int16] | None]:
    """The number of columns, and their OFDM indices where they are known.

    Raises:
        ConfigError: neither a number nor a list of indices, or not 1..4096 columns.
    """
    given = np.asarray(subcarriers)
    if given.dtype.kind not in "iu" or given.ndim > 1:
        raise ConfigError(f"subcarriers are {given.dtype} of shape {given.shape}; expected a number, or indices as int")
    count = given.size if given.ndim else int(given)
    if not 1 <= count <= _core.CHAIN_MAX_SUBCARRIERS:
        raise ConfigError(f"{count} subcarriers; expected 1 to {_core.CHAIN_MAX_SUBCARRIERS}")
    if given.ndim == 0:
        return count, None
    limits = np.iinfo(np.int16)
    if given.min() < limits.min or given.max() > limits.max:
        raise ConfigError(f"OFDM indices from {given.min()} to {given.max()}; expected int16")
    return count, np.ascontiguousarray(given, np.int16)
