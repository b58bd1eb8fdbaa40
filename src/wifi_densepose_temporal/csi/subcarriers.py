"""Which OFDM subcarrier each column of a capture is: index tables, and the order of 64-column buffers.

An index counts subcarriers from the carrier: 0 is DC, negative is below. Tables are those of IEEE Std
802.11-2020: legacy 20 MHz (17.3), HT (19.3), VHT (21.3), and the 30-of-56 and 30-of-114 groupings
of 9.4.1.28 that the Intel 5300 reports. Readers hand columns out in ascending index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int16]


def _both_sides(*positive: tuple[int, int]) -> Index:
    """All k and -k, ascending, for k in the given inclusive ranges."""
    upper = np.concatenate([np.arange(first, last + 1) for first, last in positive])
    return np.concatenate([-upper[::-1], upper]).astype(np.int16)


LEGACY20 = _both_sides((1, 26))  # 52: data and pilots
HT20 = _both_sides((1, 28))  # 56: data and pilots
HT20_DATA = _both_sides((1, 6), (8, 20), (22, 28))  # 52: without the pilots at 7 and 21
HT40 = _both_sides((2, 58))  # 114
VHT80 = _both_sides((2, 122))  # 242
VHT160 = _both_sides((6, 126), (130, 250))  # 484

INTEL20 = np.array([*range(-28, -1, 2), -1, *range(1, 28, 2), 28], dtype=np.int16)  # 30 of HT20
INTEL40 = np.arange(-58, 59, 4, dtype=np.int16)  # 30 of HT40

_BY_COUNT = {52: HT20_DATA, 56: HT20, 114: HT40, 242: VHT80}


def by_count(count: int) -> Index | None:
    """The indices that a file of `count` amplitude columns most plausibly has, or None."""
    return _BY_COUNT.get(count)


def fft_order(count: int) -> Index:
    """The indices of a buffer in FFT order: 0, 1, ... count/2-1, -count/2, ... -1."""
    columns = np.arange(count)
    return np.where(columns < count // 2, columns, columns - count).astype(np.int16)


# Columns of a 64-column buffer that are guard band in one order and lie amid used subcarriers in the other.
_GUARDS_FFT = (30, 31, 33, 34)
_GUARDS_SHIFTED = (2, 3, 61, 62, 63)
_GUARD_RATIO = 0.25


def order_of_64(amplitude: NDArray[np.float32]) -> Index | None:
    """Tells whether 64 columns are in FFT order or run from -32 to 31, by where the guard band is silent.

    Columns 0 and 1 are not looked at: the ESP32 may leave garbage in the first four bytes of a buffer.

    Args:
        amplitude: float32 [T, 64].

    Returns:
        int16 [64], or None where neither place is clearly quieter (below a quarter of the other).
    """
    mean = amplitude.mean(axis=0, dtype=np.float64)
    in_fft, in_shifted = mean[list(_GUARDS_FFT)].mean(), mean[list(_GUARDS_SHIFTED)].mean()
    if in_fft < _GUARD_RATIO * in_shifted:
        return fft_order(64)
    if in_shifted < _GUARD_RATIO * in_fft:
        return np.arange(-32, 32, dtype=np.int16)
    return None


def ascending(index: Index) -> Sequence[int]:
    """The column order that makes `index` ascending."""
    return [int(column) for column in np.argsort(index, kind="stable")]
