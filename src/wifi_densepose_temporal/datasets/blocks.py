"""Files of plain amplitudes, read in blocks of packets, so that a recording of a day need not fit into memory.

For the two formats that allow it, .npy arrays (mapped) and CSV (by lines). Packets and times are those of
`csi.read_capture`, bit for bit, and beside them is what a `Capture` does not tell: which packet of the file each is.
The other formats check the lengths of all their records before they decode any, so they are read whole, and
`csi/limits.py` bounds them.
"""

from __future__ import annotations

import codecs
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi.amplitude_csv import MAX_COLUMNS, MAX_LINE_BYTES, MIN_COLUMNS, parse_line
from wifi_densepose_temporal.csi.amplitude_npy import MAX_SUBCARRIERS
from wifi_densepose_temporal.csi.detect import TEXT_HEAD_BYTES, detect
from wifi_densepose_temporal.csi.npy import MAX_HEADER_BYTES, MAX_REASON, read_header
from wifi_densepose_temporal.errors import FileError, FormatError, MemoryLimitError

BLOCK_PACKETS = 1 << 13
MAX_LONG_PACKETS = 1 << 24  # 46 hours at 100 packets a second; their frames at 50 Hz take half a gigabyte
HEADER_START_BYTES = 12  # magic, version and length, before an array's header
_LONG_LINE = b"too long\n"  # stands for a line that no packet can have


class Block(NamedTuple):
    """Some packets of a file."""

    positions: NDArray[np.int64]
    """[n], which packet of the file each is, counted with those that were dropped."""
    times_s: NDArray[np.float64]
    """[n], seconds since the first packet that was kept."""
    amplitude: NDArray[np.float32]
    """[n, S], linear, any unit."""


@dataclass(frozen=True)
class Blocks:
    """An amplitude file that was looked through once; iterating reads its packets."""

    packets_in_file: int
    subcarriers: int
    _read: Callable[[], Iterator[Block]]

    def __iter__(self) -> Iterator[Block]:
        """Reads the file from its beginning.

        Raises:
            FileError: it can no longer be read.
        """
        try:
            yield from self._read()
        except OSError as error:
            raise FileError(f"the recording can no longer be read: {error}; was the file moved?") from None


def open_blocks(path: Path, rate_hz: float) -> Blocks | None:
    """The packets of an amplitude file at a nominal rate, packets a second; None if it is of another format.

    Raises:
        FileError: the file cannot be read.
        FormatError: no packets in it, or another size than its header states.
        MemoryLimitError: more than `MAX_LONG_PACKETS` packets.
    """
    try:
        kind = _kind(path)
        if kind == "amplitude-npy":
            return _open_npy(path, rate_hz)
        return _open_csv(path, rate_hz) if kind == "amplitude-csv" else None
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}; check the path and its permissions") from None


def _kind(path: Path) -> str | None:
    """The format as far as the head of the file tells: enough for the two that are read here."""
    with path.open("rb") as file:
        head = file.read(TEXT_HEAD_BYTES)
    try:
        return detect(head) if head else None
    except FormatError:  # `read_capture`, which has the whole file, says so or knows better
        return None


def _open_npy(path: Path, rate_hz: float) -> Blocks:
    rows = _mapped_rows(path)
    _check_packets(len(rows))

    def read() -> Iterator[Block]:
        first_s = None
        for begin in range(0, len(rows), BLOCK_PACKETS):
            with np.errstate(over="ignore", invalid="ignore"):  # what does not fit becomes infinite or NaN
                amplitude = rows[begin : begin + BLOCK_PACKETS].astype(np.float32)
            good = np.isfinite(amplitude).all(axis=1)
            positions = begin + np.flatnonzero(good)
            if not len(positions):
                continue
            times_s = (positions / rate_hz).astype(np.float64, copy=False)
            first_s = times_s[0] if first_s is None else first_s
            yield Block(positions, times_s - first_s, np.ascontiguousarray(amplitude[good]))

    return Blocks(len(rows), rows.shape[1], read)


def _mapped_rows(path: Path) -> NDArray[np.generic]:
    """The array of the file as [packets, subcarriers], mapped; its header is checked before NumPy parses it."""
    with path.open("rb") as file:
        offset, _, itemsize, shape = read_header(file.read(MAX_HEADER_BYTES + HEADER_START_BYTES), "the .npy file")
    there, declared = path.stat().st_size - offset, math.prod(shape) * itemsize
    if there != declared:
        raise FormatError(
            f"the .npy file declares shape {shape}, but {there} bytes follow its header; expected {declared}: it is "
            "cut or damaged"
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, TypeError, EOFError) as error:  # pickled objects; no values at all
        raise FormatError(f"the .npy file cannot be mapped: {str(error)[:MAX_REASON]!r}") from None
    if array.dtype.kind not in "fiu" or array.ndim != 2 or not 2 <= min(array.shape) <= MAX_SUBCARRIERS:
        raise FormatError(
            f"the .npy file is {array.dtype} {array.shape}; expected amplitudes [subcarriers, packets], with one axis "
            f"of 2 to {MAX_SUBCARRIERS} subcarriers"
        )
    rows: NDArray[np.generic] = array.T if array.shape[0] <= array.shape[1] else array
    return rows


def _open_csv(path: Path, rate_hz: float) -> Blocks:
    """Looks through the lines once, for the number of columns that most packets have."""
    counts: Counter[int] = Counter()
    lines = 0
    for lines, values in _packets(path):
        if values is not None:
            counts[len(values)] += 1
        _check_packets(lines)
    if not counts:
        raise FormatError(f"a text of {lines} lines; expected lines of {MIN_COLUMNS} to {MAX_COLUMNS} amplitudes")
    columns = counts.most_common(1)[0][0]

    def read() -> Iterator[Block]:
        first = None
        positions: list[int] = []
        rows: list[list[float]] = []
        for line, values in _packets(path):
            if values is not None and len(values) == columns:
                first = line - 1 if first is None else first
                positions.append(line - 1)
                rows.append(values)
            if len(rows) == BLOCK_PACKETS:
                yield _csv_block(positions, rows, first or 0, rate_hz)
                positions, rows = [], []
        if rows:
            yield _csv_block(positions, rows, first or 0, rate_hz)

    return Blocks(lines, columns, read)


def _csv_block(positions: list[int], rows: list[list[float]], first: int, rate_hz: float) -> Block:
    where = np.array(positions, np.int64)
    return Block(where, ((where - first) * (1 / rate_hz)).astype(np.float64, copy=False), np.array(rows, np.float32))


def _packets(path: Path) -> Iterator[tuple[int, list[float] | None]]:
    """The number of each line that is not empty, from 1, and its amplitudes, or None where it is no packet."""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        number = 0
        for line in _lines(file):
            if not line.strip():
                continue
            number += 1
            whole = line.endswith((b"\n", b"\r"))  # a last number without its end of line may have lost digits
            yield number, parse_line(line) if whole or number == 1 else None


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    """The lines; what is too long to be a packet is read in pieces and not kept."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) <= MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        blank = not line.strip()
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)
            blank = blank and not line.strip()
        yield b"\n" if blank else _LONG_LINE


def _check_packets(count: int) -> None:
    if count > MAX_LONG_PACKETS:
        raise MemoryLimitError(f"a recording of more than {MAX_LONG_PACKETS} packets; expected at most that: split it")
