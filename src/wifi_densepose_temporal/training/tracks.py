"""Recordings as training takes them: packets with a number for each class and person, and the features' scale.

Training draws windows of packets, so packets are whole in memory: a recording beyond what `csi.limits` allows is
refused here, though evaluation would stream it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.csi.bands import Subcarriers, usable_subcarriers
from wifi_densepose_temporal.csi.majority import main_chain
from wifi_densepose_temporal.datasets import FeatureCache, Recording, labelled_frames, packets_of
from wifi_densepose_temporal.errors import FormatError, ShapeError
from wifi_densepose_temporal.training.augment import Packets
from wifi_densepose_temporal.training.batches import Track
from wifi_densepose_temporal.training.losses import NO_LABEL

#: A feature that never changes is not divided by nothing.
LEAST_SPREAD = 1e-4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Names:
    """What the numbers of classes and identities stand for.

    Attributes:
        labels: of the training side, which has to show an activity before it can be decided for.
        people: of both sides; validation compares people of its own.
    """

    labels: tuple[str, ...]
    people: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Learning:
    """What there is to learn from.

    Attributes:
        names: of labels and people.
        untrained: labels that the validation side alone has; its packets count as without a label there.
        train, validation: tracks.
        scale: mean and 1 / standard deviation `[F]` of the features over all frames of the training side: constants
            of the model, by which a test recording is scaled too.
    """

    names: Names
    untrained: tuple[str, ...]
    train: list[Track]
    validation: list[Track]
    scale: tuple[Floats, Floats]


def load(
    train: Sequence[Recording], validation: Sequence[Recording], chain: FeatureConfig, cache: FeatureCache | None
) -> Learning:
    """All that training takes of a split.

    A recording's file is read for its packets, and once more for its frames where the cache does not have them. Of one
    whose packets hold one receive chain each, those of the most frequent one count, as in `extract`.

    Raises:
        FileError, FormatError, ConfigError: a recording cannot be read, or makes no frames.
        MemoryLimitError: it is longer than `csi.limits` allows.
        ShapeError: the recordings of a side do not have one number of antennas and subcarriers.
    """
    learned, watched = ([_read(recording, chain, cache) for recording in side] for side in (train, validation))
    labels, others = ({label for one in side for label in one.labels} for side in (learned, watched))
    people = {recording.person for recording in (*train, *validation)}
    names = Names(tuple(sorted(labels)), tuple(sorted(people)))
    tracks, checked = ([_track(one, names) for one in side] for side in (learned, watched))
    _require_one_shape(tracks)
    _require_one_shape(checked)
    scale = _scale((one.moments for one in learned), chain.input_dim)
    return Learning(names, tuple(sorted(others - labels)), tracks, checked, scale)


# ----------------------------------------------------------------------------------------------- one recording

Moments = tuple[int, NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class _Read:
    """A recording before its labels and its person have numbers: packets are labelled with places in `labels`."""

    recording: Recording
    packets: Packets
    labels: tuple[str, ...]
    subcarriers: Subcarriers
    moments: Moments


def _read(recording: Recording, chain: FeatureConfig, cache: FeatureCache | None) -> _Read:
    capture, labelled = packets_of(recording), labelled_frames(recording, chain, cache)
    labels, classes = np.empty(0, np.str_), np.full(len(capture), NO_LABEL)
    if labelled.packet_labels is not None:
        labels, classes = np.unique(labelled.packet_labels, return_inverse=True)
    if len(classes) != len(capture):
        raise FormatError(f"{recording.name}: {len(classes)} labels for {len(capture)} packets")
    values = capture.amplitude if capture.iq is None else capture.iq
    mine = main_chain(capture.chain) if capture.chain is not None else np.ones(len(capture), bool)
    index = usable_subcarriers(capture)
    return _Read(
        recording,
        Packets(capture.timestamps[mine], values[mine], classes[mine]),
        tuple(labels.tolist()),
        values.shape[2] if index is None else index,
        _moments(labelled.frames.values),
    )


def _track(one: _Read, names: Names) -> Track:
    numbers = {label: number for number, label in enumerate(names.labels)}
    # The last one is for packets of class -1.
    table = np.array([*(numbers.get(label, NO_LABEL) for label in one.labels), NO_LABEL])
    packets = Packets(one.packets.times_s, one.packets.values, table[one.packets.labels])
    return Track(one.recording.name, packets, one.subcarriers, names.people.index(one.recording.person))


def _moments(frames: Floats) -> Moments:
    """Count, sum and sum of squares `[F]` of frames `[T, F]`."""
    values = frames.astype(np.float64)
    return len(values), values.sum(0), (values**2).sum(0)


def _scale(moments: Iterable[Moments], features: int) -> tuple[Floats, Floats]:
    count, total, squares = 0, np.zeros(features), np.zeros(features)
    for length, sums, of_squares in moments:
        count, total, squares = count + length, total + sums, squares + of_squares
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, LEAST_SPREAD**2))
    return mean.astype(np.float32), (1 / spread).astype(np.float32)


def _require_one_shape(tracks: Sequence[Track]) -> None:
    shapes = {track.packets.values.shape[1:] for track in tracks}
    if len(shapes) > 1:
        raise ShapeError(f"recordings of {sorted(shapes)} antennas and subcarriers; one model takes one kind")
