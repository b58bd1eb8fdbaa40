"""From a capture and a model to a timeline: one row per shown frame, with the decision as of that frame.

Pure logic: it opens no files and prints nothing (cli/run.py does). A row carries where its data came from, the
model's digest and whether that model was trained; `Replay.notes` says in sentences what a reader must know before
believing the labels. Where there is no data there is no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import Capture, FeatureConfig, Frames, extract
from wifi_densepose_temporal.csi.features import silences
from wifi_densepose_temporal.datasets.labelled import last_packets
from wifi_densepose_temporal.errors import ConfigError, FormatError
from wifi_densepose_temporal.model import Prediction, Source, TemporalModel
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256

MAX_SPLIT_LETTERS = 600

#: About how many rows a timeline has unless the caller says which frames to show.
DEFAULT_ROWS = 20


@dataclass(frozen=True)
class Row:
    """What the model makes of the recording as of one frame, from the frames up to it alone."""

    source: Source
    """Where the capture came from."""
    model_sha256: str
    """Digest of the blob."""
    trained: bool | None
    """Whether the blob says that it was trained; None where it says nothing."""
    time_s: float
    """End of the frame's bin, seconds since the first packet."""
    frame: int
    """Number of the frame, from 0."""
    label: str
    """Class with the largest logit."""
    true_label: str | None
    """What the recording's own labels say of the last packet before the end of the frame; None without labels."""
    confidence: float
    """Its softmax probability, 0..1. Not calibrated."""
    probabilities: tuple[float, ...]
    """Of every class, in the order of the model's labels."""
    embedding_change: float | None
    """1 - cosine between this embedding and the previously shown row's, 0..2.

    None in the first row, and where one of the two has no direction.
    """
    held: bool
    """No packet arrived in this frame's bin: the levels are those of the frame before."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A capture that was run through a model; made by `replay`."""

    capture: Capture
    model: TemporalModel
    config: FeatureConfig
    frames: Frames
    prediction: Prediction
    notes: tuple[str, ...]
    true_labels: NDArray[np.str_] | None = None
    """`[T]`, of each frame; None where the recording has no labels."""

    def rows(self, every: int | None = None) -> list[Row]:
        """Rows 0, every, 2*every, ... and always the last frame's.

        Args:
            every: frames from one row to the next, at least 1; by default such that there are about 20 rows.

        Raises:
            ConfigError: `every` is below 1.
        """
        count = len(self.frames.values)
        every = max(1, count // DEFAULT_ROWS) if every is None else every
        if every < 1:
            raise ConfigError(f"every is {every}; expected at least 1 frame from row to row")
        shown = [*range(0, count - 1, every), count - 1]
        previous: list[int | None] = [None, *shown]
        return [self._row(frame, before) for frame, before in zip(shown, previous, strict=False)]

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax of the logits, `[T, C]`."""
        return self.prediction.probabilities

    def _row(self, frame: int, before: int | None) -> Row:
        prediction = self.prediction
        return Row(
            source=prediction.source,
            model_sha256=prediction.model_sha256,
            trained=prediction.trained,
            time_s=float(self.frames.times_s[frame]),
            frame=frame,
            label=str(prediction.labels[frame]),
            true_label=None if self.true_labels is None else str(self.true_labels[frame]),
            confidence=float(self.probabilities[frame].max()),
            probabilities=tuple(map(float, self.probabilities[frame])),
            embedding_change=None if before is None else _change(prediction.embedding, before, frame),
            held=bool(self.frames.held[frame]),
        )


def replay(capture: Capture, model: TemporalModel, packet_labels: NDArray[np.str_] | None = None) -> Replay:
    """Makes the frames that the model asks for and runs them, as one track.

    Args:
        capture: the recording.
        model: what decides.
        packet_labels: `[N]`, what the recording itself says of each packet, to be shown beside the decisions; the
            model does not see it.

    Raises:
        ConfigError: no feature chain gives frames of the model's length, or the capture has too few subcarriers.
        FormatError: not one packet of the capture is a measurement, so that there is nothing to decide on.
        NonFiniteError, MemoryLimitError: as `TemporalModel.predict` and `extract`.
    """
    config, stated = feature_config(model)
    frames = some_frames(capture, config)
    prediction = model.predict(frames.values, source=cast(Source, capture.source))
    notes = [training_note(model), *data_notes(capture, frames, config, stated)]
    truth = None
    if packet_labels is not None:
        truth = packet_labels[last_packets(capture.timestamps, frames.times_s)]
        right = float((truth == prediction.labels).mean())
        notes.append(
            f"{100 * right:.0f} % of this recording's {len(truth)} frames are labelled as the recording itself labels "
            "their last packet."
        )
    return Replay(capture, model, config, frames, prediction, tuple(notes), truth)


def some_frames(capture: Capture, config: FeatureConfig) -> Frames:
    """As `extract`, but never empty.

    Raises:
        ConfigError, MemoryLimitError: as `extract`.
        FormatError: not one packet of the capture is a measurement.
    """
    frames = extract(capture, config)
    if not len(frames.values):
        raise FormatError(
            f"unavailable: none of the capture's {len(capture)} packets is a measurement "
            f"({frames.skipped_packets} skipped: silent or non-finite), so there is no frame to show or decide on"
        )
    return frames


def feature_config(model: TemporalModel) -> tuple[FeatureConfig, bool]:
    """The feature chain that a model's frames come from, and whether its blob states it.

    Raises:
        ConfigError: the blob states no chain, and the model takes an odd number of features.
    """
    if model.feature_chain is not None:
        return FeatureConfig.from_words(model.feature_chain), True
    if model.input_dim % 2:
        raise ConfigError(
            f"the model takes {model.input_dim} features and its blob has no feature chain record; the default chain "
            "makes an even number, two for each band: export the model with its feature chain record"
        )
    return FeatureConfig(bands=model.input_dim // 2), False


def training_note(model: TemporalModel) -> str:
    """One sentence on whether the model's labels can mean anything."""
    name = f"model {model.sha256[:12]}"
    if model.sha256 == REFERENCE_SHA256:
        return f"UNTRAINED: {name} is the random reference blob; its labels mean nothing yet."
    if model.trained is None:
        return f"Unknown training: {name} does not state whether it was trained; do not rely on its labels."
    if model.trained:
        split = model.provenance.get("split")
        on = f" It says of its training: {split[:MAX_SPLIT_LETTERS]}" if isinstance(split, str) and split else ""
        if model.provenance.get("classifier") == "untrained":
            return f"UNTRAINED: {name} states that its encoder alone was trained; its labels mean nothing.{on}"
        return f"Trained: {name} states that it was trained; its confidences are not calibrated.{on}"
    return f"UNTRAINED: {name} was never trained; its labels mean nothing yet."


def data_notes(capture: Capture, frames: Frames, config: FeatureConfig, stated: bool) -> list[str]:
    """What a reader must know of the frames before believing a decision on them, a sentence each.

    Args:
        capture: where they come from.
        frames: made of it.
        config: the chain that made them.
        stated: whether the model's blob states that chain.
    """
    notes = []
    if not stated:
        notes.append(
            f"The blob has no feature chain record: frames come from the default chain ({config.bands} bands, "
            f"{config.rate_hz:g} Hz), which need not be the one that the weights expect."
        )
    notes += clock_notes(capture)
    count = int(silences(frames.times_s, config).sum())
    if count:
        notes.append(
            f"Unavailable during {count} silence(s) longer than {config.max_gap_s:g} s: no frames there, and "
            "the model goes on afterwards with what it saw before."
        )
    if frames.skipped_packets or frames.late_packets:
        notes.append(
            f"Left out: {frames.skipped_packets} packets that are no measurement, {frames.late_packets} that came late."
        )
    return notes


def clock_notes(capture: Capture) -> list[str]:
    """Whether the capture's times were assumed: a sentence, or none."""
    if capture.clock != "nominal":
        return []
    rate = "an assumed packet rate" if capture.rate_hz is None else f"an assumed {capture.rate_hz:g} packets a second"
    return [f"The file has no usable clock: times are made from {rate} (--rate changes it), not measured."]


def _change(embedding: NDArray[np.float32], before: int, now: int) -> float | None:
    """1 - a·b of unit vectors as |a - b|^2 / 2, which is exact near 0 and never negative."""
    a, b = embedding[before].astype(np.float64), embedding[now].astype(np.float64)
    return float(((a - b) ** 2).sum() / 2) if a.any() and b.any() else None
