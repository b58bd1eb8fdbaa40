"""Decisions of a model over one recording, packet by packet, as a live stream would have made them.

The frames of a recording go through one `Stream`, in their order; the decision at packet i is the class as of the
newest frame that no later packet is in, and is made of the packets up to i alone.
Metrics over recordings are activity.py's; reading and labelling are datasets/'s.

Until a bin of the feature chain has ended there is no frame, and no decision: `NO_DECISION`, which is always wrong.
Bins without a packet are frames of the stream too, but no decision is taken at one: whether the chain fills a silence
with them or ends the segment is known only when the next packet is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.csi import Frames
from wifi_densepose_temporal.errors import ConfigError, ShapeError
from wifi_densepose_temporal.model import Prediction, Source, TemporalModel

Labels = NDArray[np.str_]

#: In the place of a label where the model has not seen a whole frame yet.
NO_DECISION = ""

#: Recordings are replayed, whatever they hold.
SOURCE: Source = "replay"

DEFAULT_WINDOW, DEFAULT_HOP = 50, 25  # packets


@dataclass(frozen=True)
class Windowing:
    """How the decisions of a recording whose label changes are counted: windows of packets, judged at their last one.

    Attributes:
        packets: length of a window, at least 1. Its label is that of most of its packets.
        hop: packets between the starts of two windows, at least 1.
        context_s: the model sees only the frames of this many seconds before a decision, as if it had been switched on
            then; None: everything from the recording's start. Frames are made from the whole recording all the same,
            so that what the chain remembers, such as its average of motion, reaches further back.

    Raises:
        ConfigError: a value outside its range.
    """

    packets: int = DEFAULT_WINDOW
    hop: int = DEFAULT_HOP
    context_s: float | None = None

    def __post_init__(self) -> None:
        as_int("window", self.packets, least=1)
        as_int("hop", self.hop, least=1)
        if self.context_s is not None and not 0 < self.context_s < np.inf:
            raise ConfigError(
                f"context is {self.context_s} s; expected a time above 0, or none for the whole recording"
            )


@dataclass(frozen=True, eq=False)
class Decisions:
    """What a model decided over one recording, beside what was true."""

    truth: Labels
    """[W] label of each window."""
    decided: Labels
    """[W] the model's decision at the window's last packet."""
    packets: NDArray[np.int32] | None
    """[N] number of the class decided at each packet, -1 where there is no decision yet; None where decisions were made
    at the ends of windows only."""


def frames_at_packets(frames: Frames, packet_times_s: NDArray[np.float64]) -> NDArray[np.intp]:
    """The frame that is the newest one at each packet, `[N]`; -1 where there is none yet.

    That is the newest frame which holds a packet (`held` is False) and none that came after packet i: a frame holds
    packets from before its time, so that time is at most the next packet's. At the last packet every bin has ended.

    Args:
        frames: of the whole recording.
        packet_times_s: `[N]`, seconds, on the clock of `frames.times_s`, in the order of arrival. One that is smaller
            than an earlier one came late and is in no frame; where that does not explain the chain's own count of late
            packets, the earliest of all later times is used, which can only make a decision older.
    """
    packets_us, frames_us = np.rint(packet_times_s * 1e6), np.rint(frames.times_s * 1e6)
    late = packets_us < np.maximum.accumulate(packets_us)
    if np.count_nonzero(late) == frames.late_packets:
        packets_us[late] = np.inf
    earliest_from = np.minimum.accumulate(packets_us[::-1])[::-1]
    next_us = np.append(earliest_from[1:], np.inf)
    heard = np.flatnonzero(~frames.held)
    place = np.searchsorted(frames_us[heard], next_us[: len(packets_us)], side="right") - 1
    return np.append(heard, -1)[place]  # -1 takes the -1


def decide(
    model: TemporalModel,
    frames: Frames,
    packet_times_s: NDArray[np.float64],
    packet_labels: Labels,
    windowing: Windowing,
    whole: bool = False,
) -> Decisions:
    """Runs a recording through the model and compares.

    Memory grows with the recording: the stream's caches take every frame (`Stream.nbytes`, of a capacity of T frames),
    for a decision may look back to the first one; what is kept of a decision is 4 bytes a frame and a packet.

    Args:
        model: takes frames of this length.
        frames: of the recording, made by the model's feature chain.
        packet_times_s: `[N]`, N at least 1, as for `frames_at_packets`.
        packet_labels: `[N]`.
        windowing: of a recording whose label changes.
        whole: the whole recording is the only window, whatever `windowing` says of their length.

    Raises:
        ShapeError: not as many labels as packets, or frames of another length than the model's.
        NonFiniteError: a frame that the model refuses.
    """
    truth, ends = windows_of(packet_labels, windowing, whole)
    newest = frames_at_packets(frames, packet_times_s)
    if packet_labels.shape != newest.shape:
        raise ShapeError(f"{packet_labels.shape} labels for {len(newest)} packets; expected one for each")
    last = newest[ends]
    if windowing.context_s is not None:
        decided = [decide_from_context(model, frames, frame, windowing.context_s) for frame in last]
        return Decisions(truth, _as_labels(decided), None)
    of_frames = np.full(len(frames.values) + 1, -1, np.int32)  # at -1: no frame yet
    for frame, now in enumerate(run(model, frames.values)):
        of_frames[frame] = now.logits.argmax()
    names = np.array([*model.labels, NO_DECISION])
    return Decisions(truth, names[of_frames[last]], of_frames[newest])


def windows_of(packet_labels: Labels, windowing: Windowing, whole: bool) -> tuple[Labels, NDArray[np.intp]]:
    """Label and last packet of each window of a recording, `[W]` each; `whole` as for `decide`."""
    count = len(packet_labels)
    size, hop = (count, count) if whole else (windowing.packets, windowing.hop)
    truth = [majority_label(packet_labels[start : start + size]) for start in range(0, count - size + 1, hop)]
    return _as_labels(truth), np.arange(size - 1, count, hop)


def run(model: TemporalModel, values: NDArray[np.float32]) -> Iterator[Prediction]:
    """Frames `[T, F]` through one stream, one at a time: each frame's prediction, of which none is kept."""
    stream = model.stream(capacity=max(1, len(values)), source=SOURCE)
    for frame in np.asarray(values):  # a memory map becomes a plain view
        yield stream.push(frame)


def decide_from_context(model: TemporalModel, frames: Frames, frame: int, context_s: float) -> str:
    """The decision at a frame (-1: none yet) of a model that sees only the `context_s` seconds before its time."""
    if frame < 0:
        return NO_DECISION
    # Frames whose whole bin lies in the context; rounded, since times are sums of microseconds. At least the frame.
    first = int(
        np.searchsorted(np.rint(frames.times_s * 1e6), round(1e6 * (frames.times_s[frame] - context_s)), "right")
    )
    decision = NO_DECISION
    for now in run(model, frames.values[min(first, frame) : frame + 1]):
        decision = str(now.labels)
    return decision


def majority_label(labels: Labels) -> str:
    """The most frequent of `labels`, `[n]`, n at least 1; of several, the one that occurs last."""
    names, latest, counts = np.unique(labels[::-1], return_index=True, return_counts=True)
    return str(names[np.lexsort((latest, -counts))[0]])


def _as_labels(texts: list[str]) -> Labels:
    return np.asarray(texts, np.str_)
