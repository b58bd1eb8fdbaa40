"""Decisions that do not flicker: what a person does now is most likely what they did a moment ago."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import ConfigError

#: The least that a class is believed in before a frame, so that none is ever ruled out.
_LEAST = 1e-12


@dataclass(frozen=True)
class ForwardFilter:
    """The forward algorithm of a hidden Markov model (Rabiner 1989), whose states are the classes.

    A class is left at the rate of 1 / `dwell_s`, for any other one alike. After t seconds the belief b in C classes has
    become 1/C + (b - 1/C) exp(-t C / ((C - 1) dwell_s)), and a frame multiplies it with the softmax of its logits. A
    frame's logits sum up earlier frames too, so that the result is surer than it should be: it is not calibrated.

    Attributes:
        dwell_s: mean time in a class, seconds.

    Raises:
        ConfigError: dwell_s is no finite number above 0.
    """

    dwell_s: float = 2.0

    def __post_init__(self) -> None:
        if not (isinstance(self.dwell_s, int | float) and 0 < self.dwell_s < math.inf):
            raise ConfigError(f"dwell_s is {self.dwell_s!r}; expected seconds above 0")

    def update(
        self, belief: NDArray[np.float64], logits: NDArray[np.float32], apart_s: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Beliefs `[N, C]` after a frame each.

        Args:
            belief: `[N, C]`, after the frame before; each row sums to 1.
            logits: `[N, C]`, of the frame.
            apart_s: `[N]`, seconds between the two.
        """
        classes = belief.shape[1]
        with np.errstate(over="ignore"):  # after so long a time, nothing is left
            stay = np.exp(apart_s * (-classes / ((classes - 1) * self.dwell_s)))[:, None]
        predicted = np.maximum(1 / classes + (belief - 1 / classes) * stay, _LEAST)
        seen = predicted * np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
        return np.asarray(seen / seen.sum(axis=1, keepdims=True), np.float64)
