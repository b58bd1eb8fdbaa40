"""What a pool answers to a push: a row a track, with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import TemporalError
from wifi_densepose_temporal.model import Source
from wifi_densepose_temporal.streams.tracks import TrackId


@dataclass(frozen=True, eq=False)
class Decisions:
    """Row i is what the model makes of track `track_ids[i]` as of its frame in this push.

    A row that was refused has no decision: NaN in arrays of numbers, None among labels.
    """

    track_ids: tuple[TrackId, ...]
    """`[N]`, as given."""
    accepted: NDArray[np.bool_]
    """`[N]`."""
    refused: dict[int, TemporalError]
    """Why, by row. The track is as it was."""
    logits: NDArray[np.float32]
    """`[N, C]`."""
    embedding: NDArray[np.float32]
    """`[N, E]`, unit vectors; zeros where the pooled vector has no direction."""
    frames: NDArray[np.int64]
    """`[N]`, frames of the track accepted so far; 0 of one that is not open."""
    filled: NDArray[np.int64]
    """`[N]`, frames that the gap policy put in before this one."""
    reset: NDArray[np.bool_]
    """`[N]`, where the stream started anew with this frame, after a silence."""
    belief: NDArray[np.float64] | None
    """`[N, C]`, smoothed probabilities; None for a pool without smoothing. Not calibrated."""
    closed: tuple[TrackId, ...]
    """Tracks that were closed at the end of this push, because they had been idle."""
    class_labels: tuple[str, ...]
    """C names."""
    source: Source
    """Where the frames came from, as the caller said; `"unstated"` where the caller did not."""
    model_sha256: str
    """Digest of the blob that made this."""
    trained: bool | None
    """Whether that blob says that it was trained; None where it says nothing."""

    def __len__(self) -> int:
        return len(self.track_ids)

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax of the logits, `[N, C]`, frame by frame. Not calibrated."""
        shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """`[N]`: name of the class with the largest logit, frame by frame."""
        return self._names(self.logits)

    @cached_property
    def smoothed_labels(self) -> NDArray[np.object_] | None:
        """`[N]`: name of the class with the largest smoothed probability; None for a pool without smoothing."""
        return None if self.belief is None else self._names(self.belief)

    def _names(self, scores: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.object_]:
        names = np.array([*self.class_labels, None], object)
        winners = np.where(self.accepted, scores.argmax(axis=1) if len(scores) else 0, len(self.class_labels))
        return np.asarray(names[winners], object)
