"""Statistics of windows: what the baselines know of a recording, in plain NumPy. No classifier, no split, no labels.

A packet is divided by its root mean square over the used subcarriers, which takes the receiver's gain out; used are the
data subcarriers, by the feature chain's own rule. Level is the amplitude of a subcarrier, motion its absolute change
over a number of packets. Of both the mean and the spread (standard deviation) over the packets of a window, for each
subcarrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.bands import assign_bands, usable_subcarriers
from wifi_densepose_temporal.csi.windows import windows
from wifi_densepose_temporal.datasets import Recording, packets_of

Values = NDArray[np.float64]

#: Packets between which motion is taken: the fast and the slow of a body, at 100 packets a second 10 to 200 ms.
STEPS = (1, 2, 5, 10, 20)
#: A subcarrier as weak as this, beside the packet's root mean square, has no logarithm worth having: -40 dB.
LEAST_AMPLITUDE = 0.01


@dataclass(frozen=True, eq=False)
class Packets:
    """The packets of one recording of which every used subcarrier is a measurement."""

    amplitude: Values
    """[N, K], relative to each packet's root mean square."""
    channel: NDArray[np.complex128] | None
    """[N, K], the same with its phase; None where the file holds amplitudes only."""
    positions: NDArray[np.intp]
    """[N], which of the capture's packets each is."""


def packets(recording: Recording, *, every_column: bool = False) -> Packets:
    """Reads a recording of one antenna and takes the gain out.

    Args:
        recording: which one.
        every_column: keep guard, carrier, pilot and undefined columns too, as they stand in the buffer.

    Raises:
        FileError, FormatError, MemoryLimitError: as `read_capture`.
        ValueError: more than one antenna.
    """
    capture = packets_of(recording)
    antennas, columns = capture.amplitude.shape[1:]
    if antennas != 1:
        raise ValueError(f"{recording.name} has {antennas} antennas; the baselines know recordings of one")
    index = usable_subcarriers(capture)
    used = np.full(columns, True) if every_column else assign_bands(columns if index is None else index, 1) >= 0
    amplitude = capture.amplitude[:, 0, used].astype(np.float64)
    # Negative "amplitudes" (csi-har has some) and silent packets are no measurements; the feature chain skips them too.
    good = np.flatnonzero((amplitude >= 0).all(axis=1) & amplitude.any(axis=1))
    gain = np.sqrt((amplitude[good] ** 2).mean(axis=1, keepdims=True))
    channel = None if capture.iq is None else capture.iq[good, 0][:, used].astype(np.complex128) / gain
    return Packets(amplitude[good] / gain, channel, good)


def levels(cut: Values) -> Values:
    """Mean and spread of each subcarrier: windows [n, L, K] to [n, 2K]."""
    return np.concatenate([cut.mean(axis=1), cut.std(axis=1)], axis=1)


def motions(cut: Values, steps: Sequence[int] = STEPS) -> Values:
    """Mean and spread of each subcarrier's change over each of `steps` packets: [n, L, K] to [n, 2K * steps]."""
    changes = (np.abs(cut[:, step:] - cut[:, :-step]) for step in steps)
    return np.concatenate([part for change in changes for part in (change.mean(axis=1), change.std(axis=1))], axis=1)


def levels_and_motions(cut: Values) -> Values:
    """Both, `[n, 2K + 2K * steps]`."""
    return np.concatenate([levels(cut), motions(cut)], axis=1)


def in_parts(amplitude: Values, parts: int) -> Values:
    """A whole recording, [N, K], as `parts` equal parts one after the other, whatever its length: one row, [1, ...]."""
    return np.concatenate([levels_and_motions(part[np.newaxis]) for part in np.array_split(amplitude, parts)], axis=1)


def amplitude_statistics(one: Packets, length: int) -> Values:
    """Mean, spread and mean absolute step of the amplitude in consecutive windows: [n, 3K]."""
    cut = windows(one.amplitude, length, length)
    return np.concatenate([levels(cut), np.abs(np.diff(cut, axis=1)).mean(axis=1)], axis=1)


def channel_statistics(one: Packets, length: int) -> Values:
    """Those of `amplitude_statistics`, and beside them log amplitude and the products of neighbours, [n, 6K - 2].

    A product c[k+1] * conj(c[k]), of subcarriers that follow each other among the used ones, keeps how the phase turns
    from one to the next, and loses the phase that each packet starts with. Of both the mean over the window.

    Raises:
        ValueError: the recording has no phase.
    """
    if one.channel is None:
        raise ValueError("the recording holds amplitudes only: there are no products of neighbours")
    product = one.channel[:, 1:] * one.channel[:, :-1].conj()
    beside = (np.log(np.maximum(one.amplitude, LEAST_AMPLITUDE)), product.real, product.imag)
    means = [windows(part, length, length).mean(axis=1) for part in beside]
    return np.concatenate([amplitude_statistics(one, length), *means], axis=1)
