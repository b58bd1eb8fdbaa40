"""`read_capture`: from a path to a `Capture`, whatever tool recorded it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from wifi_densepose_temporal.csi.amplitude_csv import read_amplitude_csv
from wifi_densepose_temporal.csi.amplitude_npy import read_amplitude_npy
from wifi_densepose_temporal.csi.atheros import read_atheros
from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ, nominal_s
from wifi_densepose_temporal.csi.detect import detect, refuse_wrapped
from wifi_densepose_temporal.csi.esp32_csv import read_esp32_csv
from wifi_densepose_temporal.csi.esp32_npz import read_esp32_npz
from wifi_densepose_temporal.csi.feitcsi import read_feitcsi
from wifi_densepose_temporal.csi.intel5300 import read_intel5300
from wifi_densepose_temporal.csi.nexmon import read_nexmon
from wifi_densepose_temporal.csi.picoscenes import read_picoscenes
from wifi_densepose_temporal.errors import FormatError, MemoryLimitError
from wifi_densepose_temporal.files import read_whole

logger = logging.getLogger(__name__)

#: Every reader checks all record lengths before it decodes any, so a file is read whole. Memory is bounded by
#: `limits.MAX_PACKETS` and `MAX_VALUES` rather than by this: a reader takes several times the file's bytes (measured:
#: ESP32 and FeitCSI 4, Intel 5300 8, PicoScenes and the shortest CSV lines 12).
MAX_FILE_BYTES = 512 * 1024 * 1024

READERS = {
    "esp32-csv": read_esp32_csv,
    "nexmon-pcap": read_nexmon,
    "intel5300": read_intel5300,
    "atheros": read_atheros,
    "picoscenes": read_picoscenes,
    "feitcsi": read_feitcsi,
    "esp32-npz": read_esp32_npz,
    "amplitude-npy": read_amplitude_npy,
    "amplitude-csv": read_amplitude_csv,
}


def read_capture(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the word users expect
    *,
    nominal_rate_hz: float = DEFAULT_RATE_HZ,
) -> Capture:
    """Reads a capture file of any known format.

    Args:
        path: the file, of at most 512 MiB.
        format: one of `READERS`; by default it is told from the content.
        nominal_rate_hz: packets a second, for files without a usable clock. `Capture.clock` says whether it
            was used.

    Raises:
        FileError: the file cannot be read.
        FormatError: an unknown format, or nothing in the file that can be read.
        MemoryLimitError: more packets or values than `limits` allows, or than this machine has memory for.
        ConfigError: `nominal_rate_hz` is not a positive finite number.
    """
    nominal_s(0, nominal_rate_hz)
    if format is not None and format not in READERS:
        raise FormatError(f"no capture format {format!r}; expected one of {', '.join(READERS)}")
    try:
        data = read_whole(path, MAX_FILE_BYTES)
        if not data:
            raise FormatError("empty (0 bytes); expected at least one packet")
        refuse_wrapped(data)
        capture = READERS[format or detect(data)](data, nominal_rate_hz)
    except FormatError as error:
        raise FormatError(f"{path!s}: {error}") from error
    except MemoryLimitError as error:
        raise MemoryLimitError(f"{path!s}: {error}") from error
    except MemoryError:
        raise MemoryLimitError(
            f"{path!s}: this machine has not enough memory to decode a capture of {Path(path).stat().st_size} bytes;"
            " split the file"
        ) from None
    unread = capture.metadata.get("unread_bytes")
    if unread:
        logger.warning("%s: the last %s of %d bytes could not be read", path, unread, len(data))
    if capture.dropped_lines:
        logger.warning("%s: %d damaged, cut or foreign lines dropped", path, capture.dropped_lines)
    return capture
