"""What rounding a model's weights does to its decisions on a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wifi_densepose_temporal.csi import Capture
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.timeline import feature_config, some_frames


@dataclass(frozen=True)
class Agreement:
    """Two models' decisions as of every frame of a recording."""

    frames: int
    alike: int
    """Frames whose largest logit is the same class's."""
    largest_difference: float
    """Of a logit."""
    largest_logit: float
    """In magnitude, of the first model: what the difference is to be seen beside."""


def agreement(capture: Capture, model: TemporalModel, other: TemporalModel) -> Agreement:
    """Runs a recording through two models that take the same frames.

    Raises:
        ConfigError: a capture that the first model's chain cannot read.
        FormatError: not one packet of the capture is a measurement.
        NonFiniteError, MemoryLimitError: as `TemporalModel.predict`.
    """
    frames = some_frames(capture, feature_config(model)[0]).values
    first, second = model.predict(frames).logits, other.predict(frames).logits
    return Agreement(
        frames=len(frames),
        alike=int((first.argmax(axis=1) == second.argmax(axis=1)).sum()),
        largest_difference=float(np.abs(first - second).max()),
        largest_logit=float(np.abs(first).max()),
    )
