"""Frames that were made once, kept on disk: a folder of .npy files. Long ones are mapped back, not loaded.

An entry is told by the bytes of the recording, the nominal rate, the chain's parameters and the code that read the
file and ran the chain, compiled and in Python, so that nothing has to be thrown away by hand. It is written file by
file, each whole or not at all, the list of their digests last; an entry that is not what its list says is made again.
Deleting the folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.csi import FeatureConfig, Frames
from wifi_densepose_temporal.datasets.frames import RecordingFrames, recording_frames
from wifi_densepose_temporal.datasets.recording import Recording
from wifi_densepose_temporal.errors import FileError
from wifi_densepose_temporal.files import read_whole, write_whole

logger = logging.getLogger(__name__)

ENTRY_VERSION = 1  # of the files of an entry
MAX_LIST_BYTES = 4096
ARRAYS = ("values", "times_s", "held", "packet_times_s", "positions")
# Each mapped file keeps a descriptor open, of which a process has about a thousand: short arrays are loaded.
MAPPED_FROM_BYTES = 4 * 1024 * 1024
APPLICATION = "wifi-densepose-temporal"
_HERE = Path(__file__).parent
#: What the frames come from, beside csiread.
CODE = (
    Path(_core.__file__),
    *sorted((_HERE.parent / "csi").glob("*.py")),
    _HERE / "blocks.py",
    _HERE / "frames.py",
)


class FeatureCache:
    """A folder of frames; any number of processes may use it at once.

    Args:
        folder: by default `default_folder()`. It is made when the first entry is written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self.folder = default_folder() if folder is None else Path(folder)

    def recording_frames(self, recording: Recording, config: FeatureConfig) -> RecordingFrames:
        """As `frames.recording_frames`; writing into an array that was mapped does not change the cache.

        Raises:
            FileError, FormatError, MemoryLimitError, ConfigError: as there; FileError also if the entry cannot be
                written.
        """
        key = entry_key(recording, config)
        kept = self._read(key)
        if kept is None:
            kept = recording_frames(recording, config)
            self._write(key, kept)
        return kept

    def _read(self, key: str) -> RecordingFrames | None:
        """The entry, or None where there is none or it is damaged."""
        try:
            listed = json.loads(read_whole(self.folder / f"{key}.json", MAX_LIST_BYTES))
            digests = listed["arrays"]
            arrays = {name: self._array(key, name, digests[name]) for name in ARRAYS if name in digests}
            frames = Frames(
                arrays["values"], arrays["times_s"], arrays["held"], int(listed["skipped"]), int(listed["late"])
            )
            in_file = int(listed["packets_in_file"])
            return RecordingFrames(frames, arrays["packet_times_s"], arrays.get("positions"), in_file)
        except FileError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
            logger.warning("the cache entry %s in %s is damaged (%s): it is made again", key[:16], self.folder, error)
            return None

    def _array(self, key: str, name: str, sha256: str) -> NDArray[Any]:
        path = self.folder / f"{key}.{name}.npy"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ValueError(f"{path.name} has another digest than its list says")
        long = path.stat().st_size >= MAPPED_FROM_BYTES
        array: NDArray[Any] = np.load(path, mmap_mode="c" if long else None, allow_pickle=False)
        return array

    def _write(self, key: str, made: RecordingFrames) -> None:
        frames = made.frames
        arrays: dict[str, NDArray[np.generic]] = {
            "values": frames.values,
            "times_s": frames.times_s,
            "held": frames.held,
            "packet_times_s": made.packet_times_s,
        }
        if made.positions is not None:
            arrays["positions"] = made.positions
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"cannot make the cache folder {self.folder}: {error.strerror or error}") from None
        listed = {
            "arrays": {name: self._write_array(key, name, array) for name, array in arrays.items()},
            "skipped": frames.skipped_packets,
            "late": frames.late_packets,
            "packets_in_file": made.packets_in_file,
        }
        write_whole(self.folder / f"{key}.json", json.dumps(listed).encode())

    def _write_array(self, key: str, name: str, array: NDArray[np.generic]) -> str:
        """Writes one array and gives the digest of its file."""
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        write_whole(self.folder / f"{key}.{name}.npy", content.getvalue())
        return hashlib.sha256(content.getbuffer()).hexdigest()


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/wifi-densepose-temporal``, or that in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / APPLICATION


def entry_key(recording: Recording, config: FeatureConfig) -> str:
    """What an entry depends on, as 64 hexadecimal digits.

    Raises:
        FileError: the recording cannot be read.
    """
    parts = [ENTRY_VERSION, recording.sha256, float(recording.rate_hz), config.to_words(), *made_by()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def made_by() -> tuple[str, ...]:
    """Versions and digests of what turns a file into frames: the readers, csiread, and the compiled core."""
    versions = (version(APPLICATION), version("csiread"))
    return (*versions, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in CODE))
