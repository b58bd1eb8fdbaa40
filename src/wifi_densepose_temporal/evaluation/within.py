"""Windows of a recording that are looked for among other windows of the same one, as the paper of wiper81 does.

Both sides are then seconds apart in one recording, which `evaluate_identity` refuses: to be read beside figures that
were made in the same way, and not as recognition on another occasion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.datasets import Recording, packets_of
from wifi_densepose_temporal.errors import ConfigError, FormatError
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS, Scores, embed_windows, one_chain, score
from wifi_densepose_temporal.evaluation.scikit import metrics
from wifi_densepose_temporal.model import TemporalModel


def evaluate_within(
    model: TemporalModel,
    recordings: Sequence[Recording],
    probe: Sequence[int],
    gallery: Sequence[int],
    packets: int = DEFAULT_PACKETS,
) -> Scores:
    """Looks for windows of recordings among other windows of the same ones.

    Args:
        model: gives the embeddings.
        recordings: one a person.
        probe: numbers, from 0, of the windows of each recording that are looked for.
        gallery: of those among which they are.
        packets: length of a window.

    Raises:
        FormatError: a recording lacks one of the windows, or an embedding of one of its windows.
        ConfigError: as `check_within`; or a recording does not fit the model's feature chain.
        FileError: a recording cannot be read.
        MissingExtraError: scikit-learn is not installed.
    """
    metrics()
    per_recording, least = [], check_within(probe, gallery)
    for recording in recordings:
        windows = embed_windows(model, packets_of(recording), packets)
        if windows.unavailable or len(windows.embedding) < least:
            raise FormatError(
                f"{recording.name}: {len(windows.embedding)} windows of {packets} packets have an embedding, "
                f"{windows.unavailable} have none; expected {least} and more, and none without"
            )
        per_recording.append(windows.embedding)
    persons = np.array([one.person for one in recordings], np.str_)
    known, asked = (np.concatenate([rows[list(side)] for rows in per_recording]) for side in (gallery, probe))
    similarity = asked.astype(np.float64) @ known.astype(np.float64).T
    return score(similarity, np.repeat(persons, len(gallery)), np.repeat(persons, len(probe)))


def check_within(probe: Sequence[int], gallery: Sequence[int]) -> int:
    """Refuses what are no two sides of a recording; gives how many windows a recording has to have.

    Raises:
        ConfigError: a side is empty, a number is below 0 or no whole one, or a window is on both sides.
    """
    for name, side in (("probe", probe), ("gallery", gallery)):
        if not len(side):
            raise ConfigError(f"the {name} has no windows; expected the number of one or more, from 0")
        for number in side:
            as_int(f"a window of the {name}", number, least=0)
    if common := sorted({*probe} & {*gallery}):
        raise ConfigError(
            f"windows {', '.join(map(str, common))} are in probe and gallery; a window would be found by itself: "
            "expected different ones"
        )
    return max(*probe, *gallery) + 1


def require_windows_within(
    recordings: Sequence[Recording], probe: Sequence[int], gallery: Sequence[int], packets: int = DEFAULT_PACKETS
) -> None:
    """Refuses before any work what `evaluate_within` would refuse for its length.

    Raises:
        FormatError: a recording is too short for one of the windows.
        ConfigError: as `check_within`.
        FileError: a recording cannot be read.
    """
    least = check_within(probe, gallery)
    for recording in recordings:
        count = len(one_chain(packets_of(recording))) // packets
        if count < least:
            raise FormatError(
                f"{recording.name}: {count} windows of {packets} packets; expected {least}, for window {least - 1}: "
                "leave the recording out, or choose earlier windows"
            )
