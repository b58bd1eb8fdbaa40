"""What a pool knows of each track beside its stream: a name, counters, times, what smoothing and gaps need.

One row a slot, in one structured array, so that a push updates thousands at once and a snapshot takes a row as its
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import ConfigError

TrackId = int | str

#: Characters of a track's name.
MAX_ID_LENGTH = 200


@dataclass(frozen=True)
class Counters:
    """What became of a track so far."""

    frames: int
    """Frames accepted."""
    refused: int
    """Frames refused, each for a reason of its own."""
    filled: int
    """Frames that the gap policy put in between."""
    resets: int
    """Times that the stream started anew after a silence."""
    last_time_s: float | None
    """Time of the newest accepted frame; None before one that had a time."""


def as_track_id(track_id: object) -> TrackId:
    """A name that a track can have.

    Raises:
        ConfigError: neither a 64-bit int nor a text of 1 to 200 characters.
    """
    key = as_key(track_id)
    if isinstance(key, str) and 0 < len(key) <= MAX_ID_LENGTH and key.isprintable():
        return key
    if isinstance(key, int) and -(1 << 63) <= key < 1 << 63:
        return key
    raise ConfigError(f"track id {track_id!r:.100}; expected a 64-bit int or 1 to {MAX_ID_LENGTH} printable characters")


def as_key(track_id: object) -> TrackId | None:
    """The int or text that a track is looked up by, NumPy's among them; None for what names no track: 1.0, True."""
    if isinstance(track_id, str):
        return str(track_id)
    if isinstance(track_id, int | np.integer) and not isinstance(track_id, bool):
        return int(track_id)
    return None


def row_dtype(features: int, classes: int) -> np.dtype[np.void]:
    """Of a row: `features` and `classes` are 0 where no last frame and no belief is kept."""
    return np.dtype(
        [
            ("frames", "<i8"),
            ("refused", "<i8"),
            ("filled", "<i8"),
            ("resets", "<i8"),
            ("last_time_s", "<f8"),
            ("seen_time_s", "<f8"),
            ("seen_clock_s", "<f8"),
            ("last_frame", "<f4", (features,)),
            ("belief", "<f8", (classes,)),
        ]
    )


def empty_rows(count: int, dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """Rows of tracks that have seen nothing."""
    rows = np.zeros(count, dtype)
    rows["last_time_s"] = rows["seen_time_s"] = np.nan
    if rows["belief"].shape[1]:
        rows["belief"] = 1.0 / rows["belief"].shape[1]
    return rows


def counters_of(row: np.void) -> Counters:
    """The part of a row that users see."""
    last = float(row["last_time_s"])
    frames, refused, filled, resets = (int(row[name]) for name in ("frames", "refused", "filled", "resets"))
    return Counters(frames, refused, filled, resets, None if np.isnan(last) else last)


def is_sound(row: np.void) -> bool:
    """Whether a row from a file is one that a pool can have written."""
    belief, last_frame = row["belief"], row["last_frame"]
    counts = all(int(row[name]) >= 0 for name in ("frames", "refused", "filled", "resets"))
    times = all(not np.isinf(row[name]) for name in ("last_time_s", "seen_time_s")) and np.isfinite(row["seen_clock_s"])
    sums = not len(belief) or (bool((belief >= 0).all()) and abs(float(belief.sum()) - 1) < 1e-6)
    return bool(counts and times and sums and np.isfinite(last_frame).all())
