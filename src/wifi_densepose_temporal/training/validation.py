"""What training stops by: a score of the network on the validation recordings, larger when better.

Frames are made once, before training, and recordings that can show nothing are refused then. A score decides which
weights are kept; it is no result, for it has chosen them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.training.batches import Track, Window, windows_of
from wifi_densepose_temporal.training.fit import Score
from wifi_densepose_temporal.training.losses import NO_LABEL
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.settings import Settings


def score_of(tracks: Sequence[Track], settings: Settings) -> Score:
    """Activities: share of frames decided right; `at_end`, of last frames. People: rank-1 between their recordings.

    Args:
        tracks: the validation recordings, at least one.
        settings: whose batch.packets says how long a window is; 0: whole recordings.

    Raises:
        ConfigError: no recording is as long as a window, none has a label where one counts, or nobody is in two
            recordings.
    """
    whole = settings.task == "activity" and not settings.losses.at_end
    windows = validation_windows(tracks, 0 if whole else settings.batch.packets, settings)
    if settings.task == "activity":
        if not any((_counting(one.labels, at_end=not whole) != NO_LABEL).any() for one in windows):
            raise ConfigError("no frame of the validation recordings that counts has a label that is trained on")
        return lambda network: accuracy(network, windows, at_end=not whole)
    counted = [_has_counterpart(window, windows) for window in windows]
    if not any(counted):
        raise ConfigError(
            "nobody is in two of the validation recordings, so nobody can be found in another one; set "
            'split.validation.by to "person", or a larger fraction'
        )
    return lambda network: rank1(network, windows, np.array(counted))


def validation_windows(tracks: Sequence[Track], packets: int, settings: Settings) -> list[Window]:
    """Consecutive windows of so many packets; 0: whole recordings.

    Raises:
        ConfigError: there is none with a frame.
    """
    found = windows_of(tracks, settings.chain, packets)
    if not found:
        longest = max(len(track.packets) for track in tracks)
        raise ConfigError(
            f"batch.packets is {packets}, and the longest validation recording has {longest} packets: no whole window "
            "to validate by; set fewer packets, or leave split.validation out"
        )
    return found


def accuracy(network: TemporalNetwork, windows: Sequence[Window], *, at_end: bool) -> float:
    """Share of the labelled frames that the network decides right; `at_end`, of each window's last frame alone."""
    right = count = 0
    for window in windows:
        with torch.no_grad():
            decided = network(torch.from_numpy(window.frames)[None])[0][0].argmax(-1).numpy()
        decided, labels = _counting(decided, at_end=at_end), _counting(window.labels, at_end=at_end)
        right += int((decided == labels)[labels != NO_LABEL].sum())
        count += int((labels != NO_LABEL).sum())
    return right / count


def rank1(network: TemporalNetwork, windows: Sequence[Window], counted: NDArray[np.bool_]) -> float:
    """Share of the windows that count whose nearest window of another recording is of the same person."""
    with torch.no_grad():
        vectors = np.array([network(torch.from_numpy(one.frames)[None])[1][0, -1].numpy() for one in windows])
    of, source = (np.array([getattr(one, name) for one in windows]) for name in ("identity", "recording"))
    similarity = np.where(source[:, None] == source, -np.inf, vectors @ vectors.T)
    return float((of[similarity.argmax(1)] == of)[counted].mean())


def _counting(rows: NDArray[np.int64], *, at_end: bool) -> NDArray[np.int64]:
    return rows[-1:] if at_end else rows


def _has_counterpart(window: Window, windows: Sequence[Window]) -> bool:
    """Whether the person has a window in another recording."""
    return any(other.identity == window.identity and other.recording != window.recording for other in windows)
