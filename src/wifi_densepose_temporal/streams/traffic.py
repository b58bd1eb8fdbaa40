"""Recordings as the traffic of many live tracks: whose frame comes when. No model runs here, and nothing waits.

A recording's frames are made once. Where there are more tracks than recordings, recordings are used again, each time
from another frame on and round to their start, so that no two tracks are at the same place at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.csi import Capture, Frames
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.model import Source, TemporalModel
from wifi_densepose_temporal.timeline import clock_notes, feature_config, some_frames, training_note


@dataclass(frozen=True, eq=False)
class Tick:
    """The frames that came since the tick before, at most one a track."""

    time_s: float
    """Of the last of them, seconds since the traffic's start."""
    track_ids: list[str]
    """N."""
    frames: NDArray[np.float32]
    """`[N, F]`."""
    times_s: NDArray[np.float64]
    """`[N]`, seconds since the traffic's start."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """Tracks that are there at the same time; made by `traffic_of`. E events, in the order of time."""

    track_ids: tuple[str, ...]
    source: Source
    period_s: float
    """From one tick to the next: a frame's period."""
    notes: tuple[str, ...]
    """What a reader must know before believing a decision on them."""
    frames: NDArray[np.float32]
    """`[R, F]`, of all recordings."""
    track: NDArray[np.intp]
    """`[E]`, which track a frame comes of."""
    row: NDArray[np.intp]
    """`[E]`, which frame it is."""
    times_s: NDArray[np.float64]
    """`[E]`, ascending: seconds since the traffic's start."""

    @property
    def duration_s(self) -> float:
        """Until the last frame, seconds."""
        return float(self.times_s[-1])

    def ticks(self, after_s: NDArray[np.float64] | None = None) -> Iterator[Tick]:
        """The frames, a period at a time; a second frame of a track in a period is in a tick of its own.

        Args:
            after_s: `[tracks]`; of each track, only frames later than this, seconds since the traffic's start.
        """
        left = np.arange(len(self.times_s))
        if after_s is not None:
            left = left[self.times_s > after_s[self.track]]
        period_of = np.ceil(self.times_s[left] / self.period_s).astype(np.int64)
        for events in np.split(left, np.flatnonzero(np.diff(period_of)) + 1):
            while len(events):
                alone = np.zeros(len(events), np.bool_)
                alone[np.unique(self.track[events], return_index=True)[1]] = True
                yield self._tick(events[alone])
                events = events[~alone]

    def _tick(self, events: NDArray[np.intp]) -> Tick:
        times = self.times_s[events]
        names = [self.track_ids[number] for number in self.track[events]]
        return Tick(float(times[-1]), names, self.frames[self.row[events]], times)


def traffic_of(captures: Mapping[str, Capture], model: TemporalModel, tracks: int | None = None) -> Traffic:
    """The recordings' frames, as the model asks for them, as tracks of their own.

    Args:
        captures: by the name that the track is to have; a second track of a recording is `NAME#2`, and so on.
        model: whose feature chain makes the frames.
        tracks: how many; by default one a recording.

    Raises:
        ConfigError: no recording, fewer tracks than recordings, recordings of several sources; and as
            `timeline.feature_config`.
        FormatError: a recording without a measurement.
    """
    count = len(captures) if tracks is None else as_int("tracks", tracks, least=1)
    if not captures or count < len(captures):
        raise ConfigError(
            f"{count} tracks of {len(captures)} recordings; give at least one recording, and a track for each"
        )
    sources = sorted({capture.source for capture in captures.values()})
    if len(sources) > 1:
        raise ConfigError(f"recordings of sources {' and '.join(sources)}; give those of one source at a time")
    config = feature_config(model)[0]
    made = [some_frames(capture, config) for capture in captures.values()]
    notes = dict.fromkeys([training_note(model), *(text for one in captures.values() for text in clock_notes(one))])
    track, row, times = _events(made, count, config.frame_period_s)
    return Traffic(
        track_ids=_names(list(captures), count),
        source=cast(Source, sources[0]),
        period_s=config.frame_period_s,
        notes=tuple(notes),
        frames=np.concatenate([frames.values for frames in made]),
        track=track,
        row=row,
        times_s=times,
    )


def _names(recordings: list[str], count: int) -> tuple[str, ...]:
    turns = [divmod(number, len(recordings)) for number in range(count)]
    return tuple(recordings[which] if turn == 0 else f"{recordings[which]}#{turn + 1}" for turn, which in turns)


def _events(
    recordings: list[Frames], count: int, period_s: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Track, row and time of every frame, in the order of time, then of tracks."""
    begins = np.cumsum([0, *(len(frames.values) for frames in recordings)])
    turns = -(-count // len(recordings))
    tracks, rows, times = [], [], []
    for number in range(count):
        turn, which = divmod(number, len(recordings))
        order, at = _round(recordings[which].times_s, turn * len(recordings[which].times_s) // turns, period_s)
        tracks.append(np.full(len(order), number))
        rows.append(begins[which] + order)
        times.append(at)
    track, row, time = (np.concatenate(parts) for parts in (tracks, rows, times))
    sorting = np.lexsort((track, time))
    return track[sorting], row[sorting], time[sorting]


def _round(times_s: NDArray[np.float64], start: int, period_s: float) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The frames from `start` on and round to it, and when they come; the first follows the last by a period."""
    order = np.roll(np.arange(len(times_s)), -start)
    steps = np.diff(times_s, prepend=times_s[0] - period_s)
    return order, steps[order].cumsum()
