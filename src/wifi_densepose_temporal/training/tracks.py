"""Recordings as training takes them: packets with a number for each class and person, and the features' scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.csi.bands import usable_subcarriers
from wifi_densepose_temporal.csi.majority import main_chain
from wifi_densepose_temporal.datasets import FeatureCache, Recording, labelled_frames, packets_of
from wifi_densepose_temporal.errors import FormatError, ShapeError
from wifi_densepose_temporal.training.augment import Packets
from wifi_densepose_temporal.training.batches import Track
from wifi_densepose_temporal.training.losses import NO_LABEL

#: A feature that never changes is not divided by nothing.
LEAST_SPREAD = 1e-4


@dataclass(frozen=True)
class Names:
    """What the numbers of classes and identities stand for."""

    labels: tuple[str, ...]
    people: tuple[str, ...]


def names_of(recordings: Sequence[Recording], chain: FeatureConfig, cache: FeatureCache | None) -> Names:
    """All labels and people of some recordings, sorted."""
    labels: set[str] = set()
    for recording in recordings:
        found = labelled_frames(recording, chain, cache).packet_labels
        labels |= set() if found is None else set(found.tolist())
    return Names(tuple(sorted(labels)), tuple(sorted({recording.person for recording in recordings})))


def load_track(recording: Recording, names: Names, chain: FeatureConfig, cache: FeatureCache | None) -> Track:
    """A recording's packets; those of the most frequent receive chain where packets hold one each, as `extract` takes.

    Raises:
        FileError, FormatError, MemoryLimitError, ConfigError: it cannot be read, or makes no frames.
    """
    capture, labelled = packets_of(recording), labelled_frames(recording, chain, cache)
    values = capture.amplitude if capture.iq is None else capture.iq
    numbers = {label: number for number, label in enumerate(names.labels)}
    classes = np.full(len(capture), NO_LABEL)
    if labelled.packet_labels is not None:
        classes = np.array([numbers.get(label, NO_LABEL) for label in labelled.packet_labels.tolist()])
    if len(classes) != len(capture):
        raise FormatError(f"{recording.name}: {len(classes)} labels for {len(capture)} packets")
    mine = main_chain(capture.chain) if capture.chain is not None else np.ones(len(capture), bool)
    index = usable_subcarriers(capture)
    packets = Packets(capture.timestamps[mine], values[mine], classes[mine])
    subcarriers = values.shape[2] if index is None else index
    return Track(recording.name, packets, subcarriers, names.people.index(recording.person))


def load_tracks(
    recordings: Sequence[Recording],
    names: Names,
    chain: FeatureConfig,
    cache: FeatureCache | None,
    advance: Callable[[], object] = lambda: None,
) -> list[Track]:
    """As `load_track`, of all.

    Raises:
        ShapeError: the recordings do not have one number of antennas and subcarriers.
    """
    tracks = []
    for recording in recordings:
        tracks.append(load_track(recording, names, chain, cache))
        advance()
    shapes = {track.packets.values.shape[1:] for track in tracks}
    if len(shapes) > 1:
        raise ShapeError(f"recordings of {sorted(shapes)} antennas and subcarriers; one model takes one kind")
    return tracks


def feature_scale(
    recordings: Sequence[Recording], chain: FeatureConfig, cache: FeatureCache | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and 1 / standard deviation `[F]` of the features over all frames of the training recordings.

    They are constants of the model, taken from training recordings alone; a test recording is scaled by them.
    """
    count, total, squares = 0, np.zeros(chain.input_dim), np.zeros(chain.input_dim)
    for recording in recordings:
        values = labelled_frames(recording, chain, cache).frames.values.astype(np.float64)
        count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, LEAST_SPREAD**2))
    return mean.astype(np.float32), (1 / spread).astype(np.float32)
