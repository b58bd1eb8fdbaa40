"""What a window of packets could have been as well: the seven augmentations of the AETHER recipe, and seven more.

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


# --------------------------------------------------------------------------------- another day, person or place


def gain_ripple(packets: Packets, rng: np.random.Generator, most: float = 0.5) -> Packets:
    """A smooth gain over the subcarriers, the same for the whole window: another day's filters and standing waves.

    Its logarithm is `_smooth` of up to `most`. Keeps the ratio of two packets at every subcarrier, and phase.
    """
    ripple = _smooth(packets.values.shape[2], rng) * rng.uniform(0, most)
    return _multiplied(packets, np.exp(ripple).astype(np.float32))


def motion_scaling(packets: Packets, rng: np.random.Generator, most: float = 0.8, common: float = 0.45) -> Packets:
    """What changes in the window changes more or less, differently over the subcarriers: another body, another path.

    The amplitude's difference to its mean over the window is multiplied by exp of a common factor of up to +-`common`
    and a `_smooth` of up to `most`. Keeps that mean, but for amplitudes that would fall below zero, and phase.
    """
    amplitude = np.abs(packets.values)
    still = amplitude.mean(axis=0)
    factor = np.exp(rng.uniform(-common, common) + _smooth(amplitude.shape[2], rng) * rng.uniform(0, most))
    return _with_amplitude(packets, still + (amplitude - still) * factor)


def phase_turn(packets: Packets, rng: np.random.Generator, most: float = 1.2, smooth: float = 0.8) -> Packets:
    """In half of the cases the moving paths meet the static ones in another phase, as after a step of a centimetre.

    What an amplitude shows of a moving path is its part in phase with the static ones; the part in quadrature is
    taken from the analytic signal over the packets (Gabor 1946; packets count as evenly spaced, and the window is
    mirrored at its end). It turns by an angle of up to +-`most` radians and a `_smooth` of up to `smooth` over the
    subcarriers. Keeps each subcarrier's mean, but for amplitudes that would fall below zero, and phase.
    """
    amplitude = np.abs(packets.values)
    angle = rng.uniform(-most, most) + _smooth(amplitude.shape[2], rng) * rng.uniform(0, smooth)
    if rng.random() >= 0.5:
        return packets
    still = amplitude.mean(axis=0)
    turned = (_analytic(amplitude - still) * np.exp(1j * angle)).real
    return _with_amplitude(packets, still + turned - turned.mean(axis=0))


def new_paths(packets: Packets, rng: np.random.Generator, most: float = 1.5) -> Packets:
    """Three static paths are added to the channel: a chair was moved, a door stands open.

    Where a path meets the old ones decides which subcarriers fade and which way motion moves them. An amplitude alone
    does not say its phase; that of the minimum-phase channel of the same amplitude (by the cepstrum: Oppenheim and
    Schafer, "Discrete-Time Signal Processing", 12.4) is taken, smooth as a channel is. The paths have a root mean
    square of up to `most` times the packet's. Keeps times and labels, and the phase of I/Q.
    """
    amplitude = np.abs(packets.values)
    count = amplitude.shape[2]
    place = np.linspace(-1, 1, count)
    delays = rng.uniform(-3, 3, (3, 1)) * np.pi / 2
    gains = rng.standard_normal((3, 1)) + 1j * rng.standard_normal((3, 1))
    paths = (gains * np.exp(-1j * delays * place)).sum(axis=0)
    paths *= rng.uniform(0, most) / np.sqrt((np.abs(paths) ** 2).mean())
    power = np.sqrt((amplitude**2).mean(axis=2, keepdims=True))
    channel = amplitude * np.exp(1j * _minimum_phase(np.log(amplitude + 1e-3 * power + 1e-30)))
    return _with_amplitude(packets, np.abs(channel + paths * power))


def subcarrier_shift(packets: Packets, rng: np.random.Generator, most: float = 5.0, stretch: float = 0.1) -> Packets:
    """The spectrum moves by up to `most` subcarriers and is stretched by up to `stretch`: fades stand elsewhere.

    Interpolated linearly between neighbours; the outermost is repeated. Keeps times, labels and order.
    """
    count = packets.values.shape[2]
    middle = (count - 1) / 2
    place = (np.arange(count) - middle) * (1 + rng.uniform(-stretch, stretch)) + middle + rng.uniform(-most, most)
    place = place.clip(0, count - 1)
    left = np.minimum(place.astype(int), max(count - 2, 0))
    share = (place - left).astype(np.float32)
    right = np.minimum(left + 1, count - 1)
    values = packets.values[:, :, left] * (1 - share) + packets.values[:, :, right] * share
    return replace(packets, values=cast(Values, np.asarray(values, packets.values.dtype)))


def time_warp(packets: Packets, rng: np.random.Generator, most: float = 0.25) -> Packets:
    """The window plays slower or faster, and each activity in it by a factor of its own: another person's pace.

    Each factor is at most (1 + `most`) to the power of 1.2, one way or the other. Keeps the order of packets, the
    packets themselves and their labels; within an activity all intervals change alike.
    """
    activity = np.cumsum(np.concatenate([[0], np.diff(packets.labels) != 0]))
    logs = np.log1p(most) * (0.5 * rng.uniform(-1, 1) + 0.7 * rng.uniform(-1, 1, activity[-1] + 1))
    steps_s = np.diff(packets.times_s, prepend=packets.times_s[0]) * np.exp(logs)[activity]
    return replace(packets, times_s=packets.times_s[0] + np.cumsum(steps_s))


def late_start(packets: Packets, rng: np.random.Generator, most: float = 0.7) -> Packets:
    """In half of the cases the first activity began before the window: up to `most` of its packets are cut off.

    Keeps all packets behind the cut. How long somebody has been sitting when a recording begins is chance.
    """
    first = int(np.argmax(packets.labels != packets.labels[0])) or len(packets)
    cut = int(rng.integers(0, max(1, int(first * most))))
    return packets.at(cut, len(packets)) if rng.random() < 0.5 else packets


def _smooth(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """`[count]`: a random tilt and three waves over the subcarriers, of about unit size."""
    angle = np.linspace(-np.pi, np.pi, count)
    curve = rng.standard_normal() * angle * 1.2 / np.pi
    for wave in (1, 2, 3):
        curve = (
            curve + (rng.standard_normal() * np.cos(wave * angle) + rng.standard_normal() * np.sin(wave * angle)) / wave
        )
    return np.asarray(curve / 1.7)


def _analytic(signal: NDArray[np.floating]) -> NDArray[np.complex128]:
    """The analytic signal along the first axis of a real `[N, ...]`: its real part is the signal."""
    count = len(signal)
    spectrum = np.fft.fft(np.concatenate([signal, signal[::-1]]), axis=0)
    spectrum[1:count] *= 2
    spectrum[count + 1 :] = 0
    return np.asarray(np.fft.ifft(spectrum, axis=0)[:count], np.complex128)


def _minimum_phase(log_amplitude: NDArray[np.floating]) -> NDArray[np.float64]:
    """Phase, radians, of the minimum-phase channel of a log amplitude `[..., K]`, mirrored to a whole period."""
    count = log_amplitude.shape[-1]
    mirrored = np.concatenate([log_amplitude, log_amplitude[..., -2:0:-1]], axis=-1)
    cepstrum = np.fft.ifft(mirrored, axis=-1).real
    size = mirrored.shape[-1]
    fold = np.zeros(size)  # the causal half twice, the anticausal one not at all
    fold[0] = 1
    fold[1 : (size + 1) // 2] = 2
    if size % 2 == 0:
        fold[size // 2] = 1
    return np.asarray(np.fft.fft(cepstrum * fold, axis=-1).imag[..., :count])


def _with_amplitude(packets: Packets, amplitude: NDArray[np.floating]) -> Packets:
    """The packets with another amplitude `[N, A, K]`, at least 0, and the phase that they have."""
    amplitude = np.maximum(amplitude, 0)
    if not np.iscomplexobj(packets.values):
        return replace(packets, values=amplitude.astype(np.float32))
    before = np.abs(packets.values)
    ratio = np.divide(amplitude, before, out=np.zeros_like(amplitude), where=before > 0)
    return replace(packets, values=(packets.values * ratio).astype(np.complex64))


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
        motion_scaling,
        phase_turn,
        new_paths,
        subcarrier_shift,
        time_warp,
        late_start,
    )
}


def augment(packets: Packets, names: Sequence[str], rng: np.random.Generator, least: int, most: int) -> Packets:
    """`least` to `most` of the named augmentations, drawn without repetition, in the order of `names`."""
    count = int(rng.integers(min(least, len(names)), min(most, len(names)) + 1))
    for chosen in sorted(rng.choice(len(names), count, replace=False)):
        packets = AUGMENTATIONS[names[chosen]](packets, rng)
    return packets
