"""What benchmarks/open_set.py compares: a trained model, and linear discriminants of statistics of windows.

Both embed windows of recordings, and what a stream has heard so far; neither knows a gallery, a threshold or a figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from baseline_features import Packets, Values, packets
from baseline_identity import Windows, trained
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from wifi_densepose_temporal.csi import Capture, extract
from wifi_densepose_temporal.datasets import Recording
from wifi_densepose_temporal.evaluation.identity import (
    DEFAULT_PACKETS,
    cut,
    embed_recordings,
    gallery_and_probe,
    one_chain,
)
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.timeline import feature_config

#: At each whole second a stream is started; that of second 0 listens the longest.
SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)

Heard = dict[float, list[Values]]  # seconds listened to the embeddings of a recording's streams after them


@dataclass(frozen=True, eq=False)
class Embedded:
    """Windows of some people: A and B."""

    gallery: Values
    """[n, E], unit vectors."""
    gallery_person: NDArray[np.str_]
    probe: Values
    """[m, E]; NaN where there is no embedding."""
    probe_person: NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class System:
    """Something that makes embeddings, trained on the people of one fold."""

    embed: Callable[[Sequence[Recording]], Embedded]
    """Windows of 100 packets of both recordings of some people."""
    listen: Callable[[Capture, Recording], Heard]
    """A recording as streams."""


def head(blob: bytes) -> System:
    """A trained model."""
    model = TemporalModel.from_bytes(blob)

    def embed(recordings: Sequence[Recording]) -> Embedded:
        known, asked = (
            embed_recordings(model, side, DEFAULT_PACKETS, lambda: None) for side in gallery_and_probe(recordings)
        )
        return Embedded(
            known.embedding.astype(np.float64), known.person, asked.embedding.astype(np.float64), asked.person
        )

    return System(embed, partial(head_heard, model))


def head_heard(model: TemporalModel, capture: Capture, recording: Recording) -> Heard:
    """The embedding at the newest frame of each stream, after so many seconds."""
    heard: Heard = {seconds: [] for seconds in SECONDS}
    config, capture = feature_config(model)[0], one_chain(capture)
    times_s = capture.timestamps - capture.timestamps[0]
    nothing = np.full(model.embedding_dim, np.nan)
    for start, lasts in streams(float(times_s[-1])):
        frames = extract(cut(capture, (times_s >= start) & (times_s < start + lasts[-1])), config)
        ends_s = frames.times_s - capture.timestamps[0] - start
        made = model.predict(frames.values, "replay").embedding if len(ends_s) else []
        for seconds in lasts:
            newest = int(np.searchsorted(ends_s, seconds, side="right")) - 1
            heard[seconds].append(made[newest].astype(np.float64) if newest >= 0 else nothing)
    return heard


def streams(duration_s: float) -> list[tuple[int, list[float]]]:
    """When the streams of a recording start, and after how many seconds each is asked.

    Streams of one length do not overlap. The first is asked after all of `SECONDS`, be the recording shorter.
    """
    found = []
    for start in range(int(SECONDS[-1])):
        longest = math.gcd(start, int(SECONDS[-1]))
        lasts = [one for one in SECONDS if one <= longest and (start == 0 or start + one <= duration_s)]
        found += [(start, lasts)] * bool(lasts)
    return found


def discriminant(every: Windows, known: Callable[[Packets, int], Values], train: Sequence[Recording]) -> System:
    """Shrinkage LDA of statistics, of which a stream gives those of all its packets so far."""
    model = trained(every.of(train))

    def embed(recordings: Sequence[Recording]) -> Embedded:
        gallery, probe = every.of(recordings).sides()
        return Embedded(unit(model, gallery.values), gallery.person, unit(model, probe.values), probe.person)

    return System(embed, partial(discriminant_heard, model, known))


def unit(model: Pipeline, values: Values) -> Values:
    """Projections of length 1, `[n, E]`."""
    projected = model.transform(values)
    return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def discriminant_heard(
    model: Pipeline, known: Callable[[Packets, int], Values], capture: Capture, recording: Recording
) -> Heard:
    """The projected statistics of the packets of each stream, after so many seconds; a step takes two packets."""
    heard: Heard = {seconds: [] for seconds in SECONDS}
    one = packets(recording)
    times_s = capture.timestamps[one.positions] - capture.timestamps[0]
    nothing = np.full(len(model.classes_) - 1, np.nan)
    for start, lasts in streams(float(capture.timestamps[-1] - capture.timestamps[0])):
        for seconds in lasts:
            some = (times_s >= start) & (times_s <= start + seconds)
            channel = None if one.channel is None else one.channel[some]
            part = Packets(one.amplitude[some], channel, one.positions[some])
            count = int(some.sum())
            heard[seconds].append(unit(model, known(part, count))[0] if count > 1 else nothing)
    return heard
