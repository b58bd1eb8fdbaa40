"""What a window of packets could have been as well: the seven augmentations of the AETHER recipe, and three of drift.

They act on packets, where the physics is, and not on features: a window is augmented, and then goes through the same
chain as on the node. Each is a function of packets and a random generator that returns new packets and keeps what it
was given; which one keeps what, its docstring says and a test checks. Not here: which are used when (settings.py).

Letters: N packets, A antennas, K subcarriers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32] | NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Packets:
    """A window of one link's packets, oldest first.

    Attributes:
        times_s: float64 `[N]`, seconds, ascending.
        values: `[N, A, K]`: complex64 I/Q, or float32 linear amplitude.
        labels: int64 `[N]`, class of each packet, -1 where there is none.
    """

    times_s: NDArray[np.float64]
    values: Values
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.times_s)

    def at(self, start: int, stop: int) -> Packets:
        """Packets start to stop - 1."""
        return Packets(self.times_s[start:stop], self.values[start:stop], self.labels[start:stop])


Augmentation = Callable[[Packets, np.random.Generator], Packets]


# ------------------------------------------------------------------------------------- the seven of docs/training.md


def temporal_jitter(packets: Packets, rng: np.random.Generator, most: int = 3) -> Packets:
    """The window begins up to `most` packets earlier or later: nobody starts to move on a frame's boundary.

    Keeps the number of packets, their times, and every packet's subcarriers; the first or last is repeated where the
    window has no more.
    """
    shift = int(rng.integers(-most, most + 1))
    index = np.clip(np.arange(len(packets)) + shift, 0, len(packets) - 1)
    return replace(packets, values=packets.values[index], labels=packets.labels[index])


def subcarrier_masking(packets: Packets, rng: np.random.Generator, least: float = 0.05, most: float = 0.2) -> Packets:
    """A share of the subcarriers, `least` to `most`, falls silent for the window, as in a deep fade or a notch.

    Keeps the others as they are, and all times and labels. At least one subcarrier is left.
    """
    count = packets.values.shape[2]
    silent = min(round(rng.uniform(least, most) * count), count - 1)
    values = packets.values.copy()
    values[:, :, rng.choice(count, silent, replace=False)] = 0
    return replace(packets, values=values)


def gaussian_noise(packets: Packets, rng: np.random.Generator, least: float = 0.01, most: float = 0.05) -> Packets:
    """Receiver noise, sigma `least` to `most` of the packet's root mean square: the same room at a lower signal.

    Keeps the mean of I/Q; an amplitude stays an amplitude (its magnitude is taken). Keeps times and labels.
    """
    values = packets.values
    power = np.sqrt((np.abs(values) ** 2).mean(axis=(1, 2), keepdims=True))
    sigma = (rng.uniform(least, most) * power).astype(np.float32)
    noise = rng.standard_normal(values.shape, np.float32)
    if np.iscomplexobj(values):
        quadrature = rng.standard_normal(values.shape, np.float32)
        return replace(packets, values=(values + sigma * (noise + 1j * quadrature) / np.sqrt(2)).astype(np.complex64))
    return replace(packets, values=np.abs(values + sigma * noise))


def phase_rotation(packets: Packets, rng: np.random.Generator) -> Packets:
    """Each packet's phase turns by an angle of its own, as between two radios that share no clock.

    Keeps every amplitude and every phase difference within a packet, which is what features may use. Amplitudes have
    no phase and stay as they are.
    """
    if not np.iscomplexobj(packets.values):
        return packets
    turn = np.exp(1j * rng.uniform(-np.pi, np.pi, (len(packets), 1, 1))).astype(np.complex64)
    return replace(packets, values=packets.values.astype(np.complex64) * turn)


def amplitude_scaling(packets: Packets, rng: np.random.Generator, least: float = 0.8, most: float = 1.2) -> Packets:
    """Another gain, `least` to `most`, for the whole window: the receiver's automatic gain control.

    Keeps all ratios of amplitudes, and phase.
    """
    return _multiplied(packets, np.float32(rng.uniform(least, most)))


def swap_subcarriers(packets: Packets, rng: np.random.Generator, probability: float = 0.1) -> Packets:
    """Neighbouring subcarriers change places, each pair with `probability`: the channel varies slowly over frequency.

    Keeps each packet's set of values. A subcarrier moves by at most one place.
    """
    order = np.arange(packets.values.shape[2])
    k = 0
    while k < len(order) - 1:
        if rng.random() < probability:
            order[[k, k + 1]] = order[[k + 1, k]]
            k += 1
        k += 1
    return replace(packets, values=packets.values[:, :, order])


def drop_and_interpolate(packets: Packets, rng: np.random.Generator, most: float = 0.15) -> Packets:
    """Up to `most` of the packets are lost and filled in linearly from their neighbours, as after interference.

    Keeps the first and the last packet, times, labels, and every packet that is not lost.
    """
    lost = rng.random(len(packets)) < rng.uniform(0, most)
    lost[[0, -1]] = False
    if not lost.any():
        return packets
    kept, gone = np.flatnonzero(~lost), np.flatnonzero(lost)
    right = np.searchsorted(kept, gone)
    before, after = kept[right - 1], kept[right]
    span_s = packets.times_s[after] - packets.times_s[before]
    elapsed_s = packets.times_s[gone] - packets.times_s[before]
    share = np.divide(elapsed_s, span_s, out=np.zeros_like(span_s), where=span_s > 0).astype(np.float32)
    values = packets.values.copy()
    weight = share[:, np.newaxis, np.newaxis]
    values[gone] = (1 - weight) * values[before] + weight * values[after]
    return replace(packets, values=values)


# ------------------------------------------------------------------------------------------------- against drift


def gain_ripple(packets: Packets, rng: np.random.Generator, most: float = 0.5) -> Packets:
    """A smooth gain over the subcarriers, the same for the whole window: another day's standing waves and filters.

    exp of a sum of three cosines of random period and phase, each of up to `most` / 3. Keeps the ratio of two packets
    at every subcarrier, and phase.
    """
    count = packets.values.shape[2]
    place = np.arange(count) / count
    ripple = sum(
        rng.uniform(-most, most) / 3 * np.cos(2 * np.pi * (rng.uniform(0.2, 3) * place + rng.random()))
        for _ in range(3)
    )
    return _multiplied(packets, np.exp(ripple).astype(np.float32))


def time_warp(packets: Packets, rng: np.random.Generator, most: float = 0.2) -> Packets:
    """The whole window plays up to `most` faster or slower: another person's pace.

    Keeps the order of packets, the packets themselves and their labels; their times change by one factor.
    """
    factor = np.exp(rng.uniform(-1, 1) * np.log1p(most))
    first = packets.times_s[0]
    return replace(packets, times_s=first + (packets.times_s - first) * factor)


def mirror_subcarriers(packets: Packets, rng: np.random.Generator) -> Packets:
    """In half of the cases the spectrum is read from the other end: which paths meet where on it is chance.

    Keeps each packet's set of values and the neighbourhood of subcarriers.
    """
    return packets if rng.random() < 0.5 else replace(packets, values=packets.values[:, :, ::-1])


def _multiplied(packets: Packets, gain: NDArray[np.float32] | np.float32) -> Packets:
    values = np.asarray(packets.values * gain, packets.values.dtype)
    return replace(packets, values=cast(Values, values))


#: By the names that a configuration uses.
AUGMENTATIONS: Mapping[str, Augmentation] = {
    function.__name__: function
    for function in (
        temporal_jitter,
        subcarrier_masking,
        gaussian_noise,
        phase_rotation,
        amplitude_scaling,
        swap_subcarriers,
        drop_and_interpolate,
        gain_ripple,
        time_warp,
        mirror_subcarriers,
    )
}


def augment(packets: Packets, names: Sequence[str], rng: np.random.Generator, least: int, most: int) -> Packets:
    """`least` to `most` of the named augmentations, drawn without repetition, in the order of `names`."""
    count = int(rng.integers(min(least, len(names)), min(most, len(names)) + 1))
    for chosen in sorted(rng.choice(len(names), count, replace=False)):
        packets = AUGMENTATIONS[names[chosen]](packets, rng)
    return packets
