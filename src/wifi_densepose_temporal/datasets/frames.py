"""The packets of a recording, and the frames that the feature chain makes of them. No labels."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import Capture, FeatureConfig, FeatureStream, Frames, extract, read_capture
from wifi_densepose_temporal.csi.features import join_frames
from wifi_densepose_temporal.csi.subcarriers import by_count
from wifi_densepose_temporal.datasets.blocks import Blocks, open_blocks
from wifi_densepose_temporal.datasets.recording import Recording
from wifi_densepose_temporal.errors import FormatError

logger = logging.getLogger(__name__)


class RecordingFrames(NamedTuple):
    """What the feature chain makes of a recording, and which packets it was made from."""

    frames: Frames
    packet_times_s: NDArray[np.float64]
    """[N], seconds since the first packet."""
    positions: NDArray[np.int64] | None
    """[N], which packet of the file each is; None where packets were dropped and nothing tells which."""
    packets_in_file: int
    """With those that were dropped."""


def packets_of(recording: Recording) -> Capture:
    """The packets of a recording, whole in memory.

    Raises:
        FileError, FormatError, MemoryLimitError: as `read_capture`.
    """
    return read_capture(recording.path, nominal_rate_hz=recording.rate_hz)


def recording_frames(recording: Recording, config: FeatureConfig) -> RecordingFrames:
    """The frames of `extract`; a file of plain amplitudes is never whole in memory.

    Raises:
        FileError, FormatError, MemoryLimitError, ConfigError: as `read_capture` and `extract`.
    """
    blocks = open_blocks(recording.path, recording.rate_hz)
    if blocks is not None:
        return _from_blocks(recording, blocks, config)
    capture = packets_of(recording)
    positions = None if capture.dropped_lines else np.arange(len(capture))
    return RecordingFrames(
        extract(capture, config), capture.timestamps, positions, len(capture) + capture.dropped_lines
    )


def _from_blocks(recording: Recording, blocks: Blocks, config: FeatureConfig) -> RecordingFrames:
    """As `extract` of a whole capture, a block at a time."""
    index = by_count(blocks.subcarriers)
    stream = FeatureStream(config, 1, blocks.subcarriers if index is None else index)
    times, positions, frames = [], [], []
    for block in blocks:
        times.append(block.times_s)
        positions.append(block.positions)
        frames.append(stream.push(block.times_s, block.amplitude[:, np.newaxis]))
    if not times:
        raise FormatError(f"{recording.path}: it holds only NaN or infinite packets; expected finite amplitudes")
    frames.append(stream.flush())
    kept = np.concatenate(positions)
    if len(kept) < blocks.packets_in_file:
        logger.warning("%s: %d damaged packets dropped", recording.path, blocks.packets_in_file - len(kept))
    return RecordingFrames(join_frames(frames), np.concatenate(times), kept, blocks.packets_in_file)
