"""NumPy files from strangers: .npy and .npz with every declared size checked before anything is allocated.

A header of 100 bytes may declare 10^12 elements, and a zip entry may inflate to anything: both are compared
with the bytes that are there, and all entries of an archive share one budget. Pickled objects are never loaded.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import FormatError

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK\x03\x04"
# Of the entries of an archive that are wanted, together. The recordings that were measured expand 1.4 to 2.1 times.
MAX_INFLATED_BYTES = 384 * 1024 * 1024
MAX_EXPANSION, EXPANSION_FLOOR_BYTES = 200, 1024 * 1024
MAX_HEADER_BYTES = 4096
MAX_ENTRIES = 64
MAX_DIRECTORY_BYTES = 64 * 1024  # of the archive: Python holds each entry of it in a kilobyte
MAX_REASON = 100  # characters of a library's message, which may quote the file

# Exactly what NumPy writes for plain numbers, text and objects, spaces aside; any other header is refused unread.
_HEADER = re.compile(
    r"\{ *'descr': *'([<>|=])([biufcUSO])(\d{0,4})', *'fortran_order': *(?:True|False),"
    r" *'shape': *\(((?:\d{1,15}(?:, *|(?=\)))){0,4})\),? *\} *\n?",
    re.ASCII,
)


def read_npy(data: bytes, what: str = "the .npy file") -> NDArray[np.generic]:
    """Loads one array of numbers or text, of at most four axes.

    Raises:
        FormatError: no such array, or its header states another size than there are bytes.
    """
    offset, kind, itemsize, shape = read_header(data, what)
    if kind == "O":
        raise FormatError(f"{what} holds pickled objects, which are never loaded; expected plain numbers")
    declared = math.prod(shape) * itemsize
    if declared != len(data) - offset:
        raise FormatError(
            f"{what} declares shape {shape}, but {len(data) - offset} bytes follow its header; expected {declared}:"
            " the file is cut or damaged"
        )
    try:
        array: NDArray[np.generic] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, TypeError, EOFError, OSError) as error:
        raise FormatError(f"{what} cannot be read as a NumPy array: {str(error)[:MAX_REASON]!r}") from error
    return array


def read_header(data: bytes, what: str) -> tuple[int, str, int, tuple[int, ...]]:
    """Where the values begin, the dtype's kind, bytes a value, and the shape."""
    refused = FormatError(
        f"{what} has no header that NumPy writes; expected an array of numbers or text, the file is cut or damaged"
    )
    if data[:6] != NPY_MAGIC or data[6:7] not in (b"\1", b"\2", b"\3"):
        raise refused
    length_bytes = 2 if data[6] == 1 else 4
    begin = 8 + length_bytes
    length = int.from_bytes(data[8:begin], "little")
    if length > MAX_HEADER_BYTES or len(data) < begin + length:
        raise refused
    match = _HEADER.fullmatch(data[begin : begin + length].decode("latin-1"))
    if not match:
        raise refused
    order, kind, digits, dims = match.groups()
    shape = tuple(int(size) for size in re.findall(r"\d+", dims))
    try:
        itemsize = np.dtype(f"{order}{kind}{digits}").itemsize
    except (TypeError, ValueError) as error:
        raise refused from error
    return begin + length, kind, itemsize, shape


def read_npz(data: bytes, wanted: tuple[str, ...]) -> tuple[dict[str, NDArray[np.generic]], list[str]]:
    """Loads those of the `wanted` arrays that an .npz holds, and lists the names of all of them.

    Raises:
        FormatError: no zip archive, or one whose entries are damaged, encrypted, too many or too large.
    """
    if not _has_small_directory(data):
        raise FormatError(f"the .npz file is cut, or no archive of few entries; expected at most {MAX_ENTRIES}")
    budget = min(MAX_INFLATED_BYTES, EXPANSION_FLOOR_BYTES + MAX_EXPANSION * len(data))
    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if len(entries) > MAX_ENTRIES:
                raise FormatError(f"the .npz file has {len(entries)} entries; expected at most {MAX_ENTRIES}")
            for name in wanted:
                if name in entries:
                    content = _inflate(archive, entries[name], budget)
                    budget -= len(content)
                    arrays[name] = read_npy(content, f"entry {name!r} of the .npz file")
    except FormatError:
        raise
    except _ZIP_ERRORS as error:
        raise FormatError(f"the .npz file is cut or damaged: {str(error)[:MAX_REASON]!r}") from error
    return arrays, sorted(entries)


_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,  # a compression method or zip version that Python does not have
    RuntimeError,  # an encrypted entry
    ValueError,  # an offset outside the file; an undecodable name
    OverflowError,
)


def _has_small_directory(data: bytes) -> bool:
    """Tells whether the archive's list of entries is there and small; zipfile would read all of it."""
    end = len(data) - 22 if data[-22:-18] == b"PK\5\6" else data.rfind(b"PK\5\6")
    if end < 0 or len(data) < end + 22 or data[max(0, end - 20) : end].startswith(b"PK\6\7"):
        return False  # the second: of 64 bits, which no archive of this size needs
    return int.from_bytes(data[end + 12 : end + 16], "little") <= MAX_DIRECTORY_BYTES


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo, budget: int) -> bytes:
    """The content of one entry, no more of it than it declares and the budget allows."""
    if info.file_size > budget:
        raise FormatError(
            f"entry {info.filename!r} of the .npz file declares {info.file_size} bytes; expected at most {budget}"
            " more from an archive of this size"
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(f"entry {info.filename!r} of the .npz file is compressed in a way that NumPy does not use")
    with archive.open(info) as stream:
        return stream.read(info.file_size)
