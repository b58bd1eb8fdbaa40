"""What a pool does when a track's frames stop coming for a while."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.model import TemporalModel

#: Frames that may be put into one gap.
MAX_FILLS = 1000

#: Periods from one frame to the next beyond which frames are missing between them.
MISSING_FROM = 1.5


@dataclasses.dataclass(frozen=True)
class GapPolicy:
    """When the time between two frames of a track is a gap, and what becomes of it. It needs `times_s`.

    Attributes:
        fill: `"hold"` repeats the last frame for each one that is missing, `"interpolate"` goes in a line from it to
            the new one; None lets frames go on as they come. A frame is missing where the next one comes more than
            1.5 periods later.
        period_s: from one frame to the next, seconds; None takes it from the model's feature chain (the default chain's
            where the blob states none).
        reset_after_s: a silence longer than this starts the track's stream anew, and nothing is filled; None takes the
            feature chain's `max_gap_s`; infinity never does.

    Raises:
        ConfigError: another word, or a time that is not above 0.
    """

    fill: Literal["hold", "interpolate"] | None = None
    period_s: float | None = None
    reset_after_s: float | None = None

    def __post_init__(self) -> None:
        if self.fill not in ("hold", "interpolate", None):
            raise ConfigError(f"fill is {self.fill!r}; expected 'hold', 'interpolate' or None")
        for name in ("period_s", "reset_after_s"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise ConfigError(f"{name} is {value!r}; expected seconds above 0, or None for the model's")
        if self.period_s == math.inf:
            raise ConfigError("period_s is infinite; expected the seconds from one frame to the next")

    def resolved(self, model: TemporalModel) -> GapPolicy:
        """The same with the model's numbers in the place of None.

        Raises:
            ConfigError: more than 1000 frames would be put into one gap.
        """
        period, silence = chain_times_s(model)
        policy = dataclasses.replace(
            self, period_s=self.period_s or period, reset_after_s=self.reset_after_s or silence
        )
        if policy.fill and policy.longest_s / policy.step_s > MAX_FILLS:
            raise ConfigError(
                f"{policy} would fill a gap with more than {MAX_FILLS} frames; lower reset_after_s or raise period_s"
            )
        return policy

    @property
    def step_s(self) -> float:
        """The period of a resolved policy."""
        return self.period_s or math.inf

    @property
    def longest_s(self) -> float:
        """The longest silence of a resolved policy after which a stream goes on."""
        return self.reset_after_s or math.inf

    def is_gap(self, apart_s: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where something has to be done about a frame that comes so long after the last one; NaN is none."""
        least = min(self.longest_s, MISSING_FROM * self.step_s) if self.fill else self.longest_s
        return apart_s > least

    def missing(self, apart_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Frames to put into each of these gaps; 0 for those that start anew."""
        filled = np.where(apart_s <= self.longest_s, apart_s, 0.0) if self.fill else np.zeros_like(apart_s)
        return np.maximum(np.rint(filled / self.step_s).astype(np.int64) - 1, 0)

    def filler(self, before: Floats, after: Floats, share: Floats) -> Floats:
        """Frames `[N, F]` that stand in a gap, at `share` `[N]` of the way from one to the next."""
        if self.fill == "hold":
            return before
        return before + (after - before) * share[:, None]


def chain_times_s(model: TemporalModel) -> tuple[float, float]:
    """Seconds from frame to frame, and the silence that ends a segment, of a model's feature chain or the default."""
    chain = model._core.chain
    return chain["period_us"] * chain.get("frame_bins", 1) / 1e6, chain["max_gap_us"] / 1e6
