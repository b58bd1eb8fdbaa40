"""From recordings to what one training step sees: windows of packets, augmented, through the feature chain, padded.

Every draw depends on the seed and the step alone, so a run that was killed goes on with the windows that it would have
had. Windows are cut from training recordings only; which those are, `datasets.split` says.

Letters: B windows, T frames of the longest, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.csi.bands import Subcarriers
from wifi_densepose_temporal.csi.features import FeatureStream
from wifi_densepose_temporal.errors import FormatError
from wifi_densepose_temporal.training.augment import Packets, augment
from wifi_densepose_temporal.training.losses import NO_LABEL
from wifi_densepose_temporal.training.settings import BatchSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Track:
    """A training recording: its packets with the class of each, and who was recorded, both as numbers."""

    name: str
    packets: Packets
    subcarriers: Subcarriers
    identity: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows as frames, padded with zeros behind their last.

    Attributes:
        frames: float32 `[B, T, F]`.
        lengths: int64 `[B]`, frames that are there.
        labels: int64 `[B, T]`, class of each frame; -1 where it has none, and in the padding.
        identities: int64 `[B]`.
        recordings: int64 `[B]`, windows of one recording have one number.
    """

    frames: Tensor
    lengths: Tensor
    labels: Tensor
    identities: Tensor
    recordings: Tensor

    def last(self, rows: Tensor) -> Tensor:
        """`[B, X]`: of rows `[B, T, X]`, each window's last."""
        return rows[torch.arange(len(rows)), self.lengths - 1]


def frames_of(
    packets: Packets, subcarriers: Subcarriers, chain: FeatureConfig | None
) -> tuple[Floats, NDArray[np.int64]]:
    """The frames `[T, F]` of a window, and the label `[T]` of the last packet that went into each.

    The chain is the one that runs on recordings and on the node. None: the packets `[T, 1, F]` are frames already.
    """
    if chain is None:
        return np.asarray(packets.values[:, 0], np.float32), packets.labels
    stream = FeatureStream(chain, packets.values.shape[1], subcarriers)
    taken, last = stream.push(packets.times_s, packets.values), stream.flush()
    times_s = np.concatenate([taken.times_s, last.times_s])
    newest = np.searchsorted(packets.times_s, times_s) - 1
    return np.concatenate([taken.values, last.values]), packets.labels[newest]


class Sampler:
    """Draws the windows of each step; the same ones for the same seed and step, whatever was drawn before.

    Args:
        tracks: what to draw from.
        settings: how many windows, how long, which augmentations.
        chain: makes the frames; None where packets are frames.
        seed: of all draws.
    """

    def __init__(
        self, tracks: Sequence[Track], settings: BatchSettings, chain: FeatureConfig | None, seed: int
    ) -> None:
        self.tracks, self.settings, self.chain, self.seed = tracks, settings, chain, seed
        self._copies: dict[tuple[int, int, int], Window] = {}

    def draw(self, step: int, share: tuple[int, int] = (0, 1), view: int = 0) -> Batch:
        """The windows of one step.

        Args:
            step: its number.
            share: (rank, processes): every process draws the same windows and makes frames of its own part.
            view: another number augments the same windows in another way.

        Raises:
            FormatError: a window without a single measurement.
        """
        generator = np.random.default_rng((self.seed, step))
        chosen = _choose(self.tracks, self.settings, generator)
        numbers = generator.integers(0, 2**63, len(chosen))
        rank, processes = share
        mine = list(zip(chosen, numbers.tolist(), strict=True))[rank::processes]
        return batch([self._window(track, number, view) for track, number in mine])

    def _window(self, track: int, number: int, view: int) -> Window:
        copies = self.settings.copies
        if not copies:
            return self._make(track, number, view)
        key = (track, number % copies, view)
        if key not in self._copies:
            self._copies[key] = self._make(*key)
        return self._copies[key]

    def _make(self, number: int, drawn: int, view: int) -> Window:
        track, settings = self.tracks[number], self.settings
        cut, changed = (np.random.default_rng((self.seed, number, drawn, part)) for part in (0, 1 + view))
        packets = track.packets
        if 0 < settings.packets < len(packets):
            start = int(cut.integers(len(packets) - settings.packets + 1))
            packets = packets.at(start, start + settings.packets)
        packets = augment(packets, settings.augmentations, changed, settings.least, settings.most)
        if settings.label_packets > 1:
            packets = replace(packets, labels=majority_labels(packets.labels, settings.label_packets))
        frames, labels = frames_of(packets, track.subcarriers, self.chain)
        if not len(frames):
            raise FormatError(f"{track.name}: no packet of a window is a measurement; leave the recording out")
        return Window(frames, labels, track.identity, number)


def majority_labels(labels: NDArray[np.int64], packets: int) -> NDArray[np.int64]:
    """`[N]`: for each packet the most frequent label of the last `packets`, as a window that ends there is labelled."""
    known = np.arange(labels.max(initial=0) + 1)
    counts = np.cumsum(labels[:, None] == known, axis=0)
    counts[packets:] -= counts[:-packets].copy()
    return np.where(counts.any(axis=1), counts.argmax(axis=1), NO_LABEL)


@dataclass(frozen=True, eq=False)
class Window:
    """One window: frames `[T, F]`, labels `[T]`, and whose it is, of which recording."""

    frames: Floats
    labels: NDArray[np.int64]
    identity: int
    recording: int


def batch(windows: Sequence[Window]) -> Batch:
    """Windows put together."""
    longest = max(len(window.frames) for window in windows)
    frames = np.zeros((len(windows), longest, windows[0].frames.shape[1]), np.float32)
    labels = np.full((len(windows), longest), NO_LABEL)
    for row, window in enumerate(windows):
        length = len(window.frames)
        frames[row, :length], labels[row, :length] = window.frames, window.labels
    return Batch(
        torch.from_numpy(frames),
        torch.tensor([len(window.frames) for window in windows]),
        torch.from_numpy(labels),
        torch.tensor([window.identity for window in windows]),
        torch.tensor([window.recording for window in windows]),
    )


def _choose(tracks: Sequence[Track], settings: BatchSettings, generator: np.random.Generator) -> list[int]:
    """Numbers of the tracks that a step's windows come from."""
    if settings.identities is None:
        rounds = -(-settings.windows // len(tracks))
        order = np.concatenate([generator.permutation(len(tracks)) for _ in range(rounds)])
        return [int(number) for number in order[: settings.windows]]
    people = sorted({track.identity for track in tracks})
    some = generator.choice(people, min(settings.identities, len(people)), replace=False)
    of = {person: [n for n, track in enumerate(tracks) if track.identity == person] for person in some}
    each = max(1, settings.windows // len(some))
    for person, mine in of.items():
        if len(mine) > each:
            of[person] = [mine[i] for i in generator.permutation(len(mine))[:each]]
    return [of[person][number % len(of[person])] for person in some for number in range(each)]
