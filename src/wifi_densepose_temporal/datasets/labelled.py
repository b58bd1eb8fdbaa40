"""The frames of a recording, each with the label of what was done at its time.

A frame takes the label of the last packet before its end: nothing that comes later decides what it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import FeatureConfig, Frames
from wifi_densepose_temporal.csi.npy import read_npy
from wifi_densepose_temporal.datasets.cache import FeatureCache
from wifi_densepose_temporal.datasets.frames import RecordingFrames, recording_frames
from wifi_densepose_temporal.datasets.recording import MAX_TEXT, Recording
from wifi_densepose_temporal.errors import FormatError
from wifi_densepose_temporal.files import read_whole

MAX_LABEL_FILE_BYTES = 512 * 1024 * 1024
MAX_CLASSES = 1000
_US = 1e6  # microseconds in a second


@dataclass(frozen=True, eq=False)
class LabelledFrames:
    """One recording, ready for training or evaluation.

    Attributes:
        recording: which one.
        frames: T frames; their times are on the clock of the packets.
        packet_times_s: float64 [N], arrival of each packet, seconds since the first.
        packet_labels: str [N], the label of each packet; None where the recording has none.
        frame_labels: str [T], that of the last packet before the end of the frame (the end itself is not before it),
            late packets aside; all empty where the recording has none.
    """

    recording: Recording
    frames: Frames
    packet_times_s: NDArray[np.float64]
    packet_labels: NDArray[np.str_] | None
    frame_labels: NDArray[np.str_]


def labelled_frames(recording: Recording, config: FeatureConfig, cache: FeatureCache | None = None) -> LabelledFrames:
    """The frames of a recording and their labels; from the cache, if there is one.

    Raises:
        FileError, MemoryLimitError, ConfigError: as `read_capture` and `extract`.
        FormatError: the file is no capture; or its labels are not one for each packet, are no short printable texts,
            or cannot be told to their packets because some packets were dropped.
    """
    made = recording_frames(recording, config) if cache is None else cache.recording_frames(recording, config)
    packet_labels = _packet_labels(recording, made)
    if packet_labels is None:
        frame_labels = np.full(len(made.frames.values), "")
    else:
        frame_labels = packet_labels[last_packets(made.packet_times_s, made.frames.times_s)]
    return LabelledFrames(recording, made.frames, made.packet_times_s, packet_labels, frame_labels)


def last_packets(packet_times_s: NDArray[np.float64], frame_times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each frame, which packet is the last before its end; packets older than one before them are passed over.

    Args:
        packet_times_s: float64 [N], in the order of arrival.
        frame_times_s: float64 [T], ends of frames that were made of these packets.

    Returns:
        int64 [T].
    """
    packet_us, frame_us = (np.rint(times * _US).astype(np.int64) for times in (packet_times_s, frame_times_s))
    on_time = np.flatnonzero(packet_us == np.maximum.accumulate(packet_us))
    before = np.searchsorted(packet_us[on_time], frame_us, side="left") - 1
    found: NDArray[np.int64] = on_time[before]
    return found


def read_labels(path: Path) -> NDArray[np.str_]:
    """The labels in a .npy file of texts, [N] or [N, 1].

    Raises:
        FileError: it cannot be read.
        FormatError: no array of short printable texts, or too many different ones.
    """
    try:
        array = read_npy(read_whole(path, MAX_LABEL_FILE_BYTES), "the file of labels")
        return _checked_labels(array)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def _checked_labels(array: NDArray[np.generic]) -> NDArray[np.str_]:
    if array.dtype.kind != "U" or array.shape[1:] not in ((), (1,)) or not 4 <= array.dtype.itemsize <= 4 * MAX_TEXT:
        raise FormatError(
            f"the file of labels is {array.dtype} {array.shape}; expected one text of at most {MAX_TEXT} characters a "
            "packet, [packets] or [packets, 1]"
        )
    points = np.frombuffer(array.tobytes(), array.dtype.byteorder + "u4")
    if ((points >= 0xD800) & (points < 0xE000) | (points > 0x10FFFF)).any():  # no characters: NumPy itself would raise
        raise FormatError("the file of labels holds what is no text; it is damaged")
    labels = array.reshape(-1).astype(np.str_)
    different = np.unique(labels)
    if len(different) > MAX_CLASSES:
        raise FormatError(f"the file of labels has {len(different)} different ones; expected at most {MAX_CLASSES}")
    for label in different.tolist():
        if not label or not label.isprintable() or label != label.strip():
            raise FormatError(f"the file of labels has {label!r}; expected printable text without spaces around it")
    return labels


def _packet_labels(recording: Recording, made: RecordingFrames) -> NDArray[np.str_] | None:
    """One label for each packet that was kept, [N]; None where the recording has none."""
    if recording.labels_path is None:
        return np.full(len(made.packet_times_s), recording.label) if recording.label else None
    labels = read_labels(recording.labels_path)
    if len(labels) != made.packets_in_file:
        raise FormatError(
            f"{recording.labels_path} has {len(labels)} labels, and {recording.path} has {made.packets_in_file} "
            "packets; expected one label for each packet"
        )
    if made.positions is None:
        raise FormatError(
            f"{recording.path}: {made.packets_in_file - len(made.packet_times_s)} packets are damaged and nothing "
            "tells which of the labels are theirs; expected a whole recording"
        )
    return labels[made.positions]
