"""From recordings to what one training step sees: windows of packets, augmented, through the feature chain, padded.

Every draw depends on the seed and the step alone, so a run that was killed goes on with the windows that it would have
had. Windows are cut from training recordings only; which those are, `datasets.split` says.

Letters: B windows, T frames of the longest, F features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.csi.bands import Subcarriers
from wifi_densepose_temporal.csi.features import FeatureStream, join_frames
from wifi_densepose_temporal.datasets.labelled import last_packets
from wifi_densepose_temporal.errors import ConfigError, FormatError
from wifi_densepose_temporal.training.augment import Packets, augment
from wifi_densepose_temporal.training.losses import NO_LABEL
from wifi_densepose_temporal.training.sections import BatchSettings

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Track:
    """A training recording: its packets with the class of each, and who was recorded, both as numbers."""

    name: str
    packets: Packets
    subcarriers: Subcarriers
    identity: int

    @cached_property
    def digest(self) -> str:
        """sha256 of all that training takes of the recording."""
        packets = self.packets
        digest = hashlib.sha256(repr((packets.values.shape, packets.values.dtype.str, self.identity)).encode())
        for array in (packets.times_s, packets.values, packets.labels, np.asarray(self.subcarriers)):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


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
    """The frames `[T, F]` of a window, and the label `[T]` of the last packet before each one's end, as in evaluation.

    The chain is the one that runs on recordings and on the node. None: the packets `[T, 1, F]` are frames already.
    """
    if chain is None:
        return np.asarray(packets.values[:, 0], np.float32), packets.labels
    stream = FeatureStream(chain, packets.values.shape[1], subcarriers)
    frames = join_frames([stream.push(packets.times_s, packets.values), stream.flush()])
    return frames.values, packets.labels[last_packets(packets.times_s, frames.times_s)]


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
            share: (rank, processes): every process draws the same windows and makes frames of its own part;
                with `settings.identities` that is whole people.
            view: another number augments the same windows in another way.

        Raises:
            FormatError: a window without a single measurement.
        """
        generator = np.random.default_rng((self.seed, step))
        chosen = _choose(self.tracks, self.settings, generator)
        numbers = generator.integers(0, 2**63, len(chosen))
        mine = _share([self.tracks[track].identity for track in chosen], share, self.settings.identities is not None)
        return batch([self._window(chosen[place], int(numbers[place]), view) for place in mine])

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
    """`[N]`: for each packet the most frequent label of the last `packets`, as a window that ends there is labelled.

    Of several it is the one that occurs last, as in `evaluation.decisions.majority_label`.
    """
    known, place = np.arange(labels.max(initial=0) + 1), np.arange(1, len(labels) + 1)[:, None]
    is_it = labels[:, None] == known
    counts = np.cumsum(is_it, axis=0)
    counts[packets:] -= counts[:-packets].copy()
    latest = np.maximum.accumulate(np.where(is_it, place, 0), axis=0)
    most = np.where(counts == counts.max(axis=1, keepdims=True), latest, 0).argmax(axis=1)
    return np.where(counts.any(axis=1), most, NO_LABEL)


@dataclass(frozen=True, eq=False)
class Window:
    """One window: frames `[T, F]`, labels `[T]`, and whose it is, of which recording."""

    frames: Floats
    labels: NDArray[np.int64]
    identity: int
    recording: int


def windows_of(
    tracks: Sequence[Track], chain: FeatureConfig | None, packets: int, hop: int | None = None
) -> list[Window]:
    """The windows of every track from its start on, in order, each as if nothing had come before it.

    Left out are windows without a frame, and what remains at a track's end.

    Args:
        tracks: what to cut.
        chain: makes the frames; None where packets are frames.
        packets: length of a window; 0: whole tracks.
        hop: packets between the starts of two windows; None: one after the other.
    """
    found = []
    for number, track in enumerate(tracks):
        length = packets or len(track.packets)
        for start in range(0, len(track.packets) - length + 1, hop or length):
            frames, labels = frames_of(track.packets.at(start, start + length), track.subcarriers, chain)
            if len(frames):
                found.append(Window(frames, labels, track.identity, number))
    return found


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


def check_shares(tracks: Sequence[Track], settings: BatchSettings, processes: int, people: int = 1) -> None:
    """Whether every process gets its part of each step: a window; of a batch by identities, so many whole people.

    Raises:
        ConfigError: there are too many processes for that.
    """
    count, each, what = settings.windows, 1, "windows"
    if settings.identities is not None:
        count, each, what = min(settings.identities, len({track.identity for track in tracks})), people, "identities"
    if processes > 1 and count < each * processes:
        raise ConfigError(
            f"{count} {what} a step for {processes} processes; expected at least {each} for each: start fewer "
            f"processes, or raise batch.{what}"
        )


def _share(identities: Sequence[int], share: tuple[int, int], whole_people: bool) -> list[int]:
    """Which of a step's windows are a process's: a block of them in the order of people, who are kept together.

    Losses that compare windows need several of a person, from several recordings. Windows that were not drawn by
    identities may all be one person's: there blocks are of equal size, and a person may be in two.
    """
    rank, processes = share
    order = {identity: place for place, identity in enumerate(dict.fromkeys(identities))}
    if whole_people:
        mine = set(np.array_split(list(order), processes)[rank].tolist())
        return [place for place, identity in enumerate(identities) if identity in mine]
    if processes == 1:
        return list(range(len(identities)))
    by_person = sorted(range(len(identities)), key=lambda place: order[identities[place]])
    return [int(place) for place in np.array_split(by_person, processes)[rank]]


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
