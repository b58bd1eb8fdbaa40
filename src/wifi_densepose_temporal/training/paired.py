"""The gate's two models of each run, sparse and dense, on the same held-out windows.

A window is what the model is asked about as deployed: so many packets that it sees alone; a whole recording; or, where
a recording's label changes, its next `DEFAULT_WINDOW` packets after all that came before, as in a stream. They do not
overlap. Each comes as it was received, and in two augmented views with fixed seeds; embeddings are of the exported
weights. Not here: what is made of them (gate.py).

Letters: N held-out windows, E embedding size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.datasets import FeatureCache, Recording, Split
from wifi_densepose_temporal.evaluation.decisions import DEFAULT_WINDOW
from wifi_densepose_temporal.training.augment import augment
from wifi_densepose_temporal.training.batches import Track, Window, batch, frames_of
from wifi_densepose_temporal.training.blob import to_network
from wifi_densepose_temporal.training.network import Layer, TemporalNetwork
from wifi_densepose_temporal.training.recipe import Run
from wifi_densepose_temporal.training.settings import Settings
from wifi_densepose_temporal.training.tracks import load

Floats = NDArray[np.float64]

#: The augmentations of the two views: the recipe's seven, whatever a configuration trains with. They keep the number of
#: packets and their times, and so the number of frames.
VIEWS = (
    "temporal_jitter",
    "subcarrier_masking",
    "gaussian_noise",
    "phase_rotation",
    "amplitude_scaling",
    "swap_subcarriers",
    "drop_and_interpolate",
)
VIEW_SEED, LEAST, MOST = 0, 2, 4

MAX_WINDOWS = 1024  # of a fold; of more, evenly spaced ones of each recording are taken
FRAMES_AT_ONCE = 1 << 15


# ------------------------------------------------------------------------------------------- held-out windows


@dataclass(frozen=True, eq=False)
class Held:
    """Held-out windows: passages, and the frames at which their windows end.

    Attributes:
        clean: passages, each seen by the model from its start, as they were received.
        first, second: their two augmented views; of as many frames.
        ends: int64 `[n]` of each passage: the last frame of each of its windows.
    """

    clean: list[Window]
    first: list[Window]
    second: list[Window]
    ends: list[NDArray[np.int64]]

    def __len__(self) -> int:
        """N."""
        return sum(map(len, self.ends))

    @property
    def recording(self) -> NDArray[np.intp]:
        """[N]."""
        return self._of_windows([passage.recording for passage in self.clean])

    def group(self, task: str) -> NDArray[np.intp]:
        """[N] what the bootstrap draws, from 0: persons of an identity task, else recordings."""
        of = [passage.identity if task == "identity" else passage.recording for passage in self.clean]
        return np.unique(self._of_windows(of), return_inverse=True)[1].astype(np.intp)

    def _of_windows(self, of_passages: list[int]) -> NDArray[np.intp]:
        return np.repeat(np.array(of_passages, np.intp), [len(some) for some in self.ends])


def held_out(split: Split) -> tuple[str, tuple[Recording, ...]]:
    """What models are judged on, in a word, and the recordings: those of all tests, else those of validation."""
    recordings = {recording.name: recording for test in split.tests.values() for recording in test}
    if recordings:
        return "test " + ", ".join(split.tests), tuple(recordings.values())
    return ("validation" if split.validation else "nothing"), split.validation


def deployed_packets(settings: Settings) -> int:
    """Packets of a window as deployed: of training's windows, else of the read-out's; 0 for whole recordings."""
    return settings.batch.packets or (settings.readout.packets if settings.readout else 0)


def cut(settings: Settings, recordings: Sequence[Recording], cache: FeatureCache | None) -> Held:
    """The windows of recordings, without those before which there is no measurement; at most about `MAX_WINDOWS`."""
    size = deployed_packets(settings)
    held = Held([], [], [], [])
    tracks = load(recordings, (), settings.chain, cache).train
    for number, (recording, track) in enumerate(zip(recordings, tracks, strict=True)):
        count = len(track.packets)
        length = size or count
        every = DEFAULT_WINDOW if not size and recording.labels_path is not None else length
        starts, most = range(0, count - length + 1, max(1, length)), MAX_WINDOWS // len(recordings)
        for start in _some(starts, most) if length else ():
            _add(held, settings, track, number, start, _some(range(every - 1, length, every), most))
    return held


def _some(places: range, most: int) -> list[int]:
    """Places, or evenly spaced ones of them where there are more than `most`; at least one where there is one."""
    if len(places) <= max(1, most):
        return list(places)
    return [places[place] for place in np.linspace(0, len(places) - 1, max(1, most)).round().astype(int)]


def _add(held: Held, settings: Settings, track: Track, number: int, start: int, last: list[int]) -> None:
    """Adds the passage of `last[-1] + 1` packets from `start`, whose windows end with the packets `last`."""
    packets = track.packets.at(start, start + last[-1] + 1)
    packets = replace(packets, labels=np.arange(len(packets)))  # so that a frame's label is its last packet
    made = [frames_of(packets, track.subcarriers, settings.chain)]
    for view in (1, 2):
        rng = np.random.default_rng((VIEW_SEED, view, number, start))
        made.append(frames_of(augment(packets, VIEWS, rng, LEAST, MOST), track.subcarriers, settings.chain))
    ends = np.searchsorted(made[0][1], last, side="right") - 1
    ends = ends[ends >= 0]
    if len(ends) and len({len(frames) for frames, _ in made}) == 1:
        for views, (frames, labels) in zip((held.clean, held.first, held.second), made, strict=True):
            views.append(Window(frames, labels, track.identity, number))
        held.ends.append(ends)


# ------------------------------------------------------------------------------------ what models make of them


@dataclass(frozen=True, eq=False)
class Vectors:
    """What a model makes of held-out windows."""

    unit: Floats
    """[N, E] embeddings, of unit length."""
    first: Floats
    """[N, E] projections of the first view, not of unit length."""
    second: Floats
    """[N, E] of the second."""


class Fold:
    """One split: its runs, its held-out windows, and what the models of each run make of these.

    Attributes:
        task: of the configuration.
        pairs: of each seed the sparse and the dense run.
        what: on what they are judged, in a word.
        recordings: held out; may be empty.
        windows: of the held-out recordings; where there are none, of some training recordings.
        length: median frames of a passage, which a model sees from its start; None where no recording is as long.
        held: the windows, if they are held out.
        sparse, dense: of each seed.
        as_dense: `[N, E]` of each seed: embeddings of the sparse-trained weights run with the dense pattern.
        without: `[N, E]` of each seed: embeddings of the sparse model with its attention taken out.
    """

    def __init__(
        self,
        settings: Settings,
        pairs: Sequence[tuple[Run, Run]],
        cache: FeatureCache | None,
        advance: Callable[[], object],
    ) -> None:
        """Cuts the windows and embeds them; `advance` is called after each pair."""
        self.task, self.pairs, split = settings.task, tuple(pairs), pairs[0][0].split
        self.what, self.recordings = held_out(split)
        self.windows = cut(settings, self.recordings or split.train[:8], cache)
        lengths = [len(passage.frames) for passage in self.windows.clean]
        self.length = round(float(np.median(lengths))) if lengths else None
        self.held = self.windows if self.recordings and lengths else None
        self.sparse: list[Vectors] = []
        self.dense: list[Vectors] = []
        self.as_dense: list[Floats] = []
        self.without: list[Floats] = []
        for sparse, dense in self.pairs:
            if self.held is not None:
                self._embed(sparse.blob, dense.blob, self.held)
            advance()

    def _embed(self, sparse: bytes, dense: bytes, held: Held) -> None:
        network = to_network(sparse)
        self.sparse.append(_vectors(network, held))
        self.dense.append(_vectors(to_network(dense), held))
        pattern = dataclasses.replace(network.config, backend="dense")
        self.as_dense.append(_unit(embed(with_pattern(network, pattern), held.clean, held.ends)))
        self.without.append(_unit(embed(without_attention(network), held.clean, held.ends)))


def with_pattern(network: TemporalNetwork, config: TemporalHeadConfig) -> TemporalNetwork:
    """The network, changed in place: its weights run with another pattern."""
    network.config = config
    for layer in network.layers:
        cast(Layer, layer).config = config
    return network


def without_attention(network: TemporalNetwork) -> TemporalNetwork:
    """The network, changed in place: attention adds nothing."""
    with torch.no_grad():
        for layer in network.layers:
            cast(Layer, layer).out.weight.zero_()
    return network


def embed(network: TemporalNetwork, passages: Sequence[Window], ends: Sequence[NDArray[np.int64]]) -> Floats:
    """`[N, E]`: the projection at each window's last frame, not of unit length."""
    size = max(1, FRAMES_AT_ONCE // max(len(passage.frames) for passage in passages))
    rows = []
    with torch.no_grad():
        for start in range(0, len(passages), size):
            pooled = network.pooled(batch(passages[start : start + size]).frames)
            chosen = [own[torch.from_numpy(at)] for own, at in zip(pooled, ends[start : start + size], strict=True)]
            rows.append(network.projection(torch.cat(chosen)).double().numpy())
    return np.concatenate(rows)


def _unit(rows: Floats) -> Floats:
    return np.asarray(functional.normalize(torch.from_numpy(rows), dim=-1).numpy(), np.float64)


def _vectors(network: TemporalNetwork, held: Held) -> Vectors:
    clean, first, second = (embed(network, view, held.ends) for view in (held.clean, held.first, held.second))
    return Vectors(_unit(clean), first, second)
