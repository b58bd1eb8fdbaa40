"""The container: header, weights, records and checksum, from bytes and to bytes. It does not run anything.

The C core parses and checks; this file adds names, errors in sentences, and files that are written whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core, errors
from wifi_densepose_temporal.files import read_whole, write_whole
from wifi_densepose_temporal.rvne import tensors
from wifi_densepose_temporal.rvne.records import Record

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

BlobDtype = Literal["float32", "float16", "int8"]
Weights = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8]

#: A file larger than this is refused unread: a model of a billion bytes is no model for a node.
MAX_BLOB_BYTES = 1 << 30

_MEAN_SPREAD = _core.POOLINGS.index("mean_spread").to_bytes(4, "little")  # the pooling record's first word

# Sentences for what the core refuses; {length} is the buffer's, in bytes.
_REFUSALS: dict[int, tuple[type[errors.BlobError], str]] = {
    _core.Status.TOO_SHORT: (errors.BlobTooShortError, "{length} bytes; a blob has at least 28: is the file complete?"),
    _core.Status.MAGIC: (errors.BlobMagicError, "does not start with the bytes 45 4E 56 52: this is no .rvne blob"),
    _core.Status.VERSION: (errors.BlobVersionError, "a format version other than 1: update this package"),
    _core.Status.FLAGS: (errors.BlobFlagsError, "flag bits or a reserved byte that this version does not know"),
    _core.Status.LENGTH: (errors.BlobLengthError, "{length} bytes, which is not the length that its header states"),
    _core.Status.CRC: (errors.BlobCrcError, "the CRC-32 does not match: damaged or changed since it was written"),
    _core.Status.DIMS: (errors.BlobDimsError, "a zero among input_dim, n_q_heads, n_kv_heads and head_dim"),
    _core.Status.HEAD_RATIO: (errors.BlobHeadRatioError, "n_q_heads is not a multiple of n_kv_heads"),
    _core.Status.DEGENERATE: (errors.BlobDegenerateError, "no layer, or fewer than two classes"),
    _core.Status.RECORD: (errors.BlobRecordError, "malformed records, or a critical one that is unknown here"),
}


@dataclass(frozen=True)
class WeightBlobHeader:
    """The sizes of a model, and the dtype of its weights. Each size fits 16 bits."""

    input_dim: int
    n_q_heads: int
    n_kv_heads: int
    head_dim: int
    n_layers: int
    n_classes: int
    dtype: BlobDtype = "float32"

    def model_floats(self, pooled_dim: int | None = None) -> int:
        """Number of weights that a model of these sizes has.

        Args:
            pooled_dim: rows of the classifier, where they are not `input_dim` (twice that with `mean_spread`).
        """
        attention = 2 * self.input_dim * self.head_dim * (self.n_q_heads + self.n_kv_heads)
        return self.n_layers * attention + (pooled_dim or self.input_dim) * self.n_classes


@dataclass(frozen=True, eq=False)
class WeightBlob:
    """Weights with their header, to be written.

    Args:
        header: sizes and dtype.
        weights: flat float32 or float16, in the order of docs/rvne-format.md; its dtype is the header's. Of int8, the
            section's bytes: each tensor's scale, numbers and padding (`rvne.quantise` makes them).
            Any number of them: only loading it as a model asks for the exact one.
        records: what a model needs beyond the header; none gives a blob that is byte for byte version 1.
    """

    header: WeightBlobHeader
    weights: Weights
    records: Sequence[Record] = ()

    def serialize(self) -> bytes:
        """The blob's bytes.

        Raises:
            BlobError: one of its children, for whatever `WeightBlobView.parse` would refuse.
            DtypeError: the weights' dtype is not the header's.
            ConfigError: the header is no WeightBlobHeader, or its dtype none of the three.
        """
        if not isinstance(self.header, WeightBlobHeader):
            raise errors.ConfigError(f"header is {type(self.header).__name__}; expected a WeightBlobHeader")
        records = tuple(self.records)
        if self.header.dtype not in get_args(BlobDtype):
            raise errors.ConfigError(f"header.dtype is {self.header.dtype!r}; expected float32, float16 or int8")
        weights = np.asarray(self.weights)
        if weights.dtype.name != self.header.dtype:
            raise errors.DtypeError(
                f"the weights are {weights.dtype} and the header says {self.header.dtype}; convert one of them"
            )
        payload = np.ascontiguousarray(weights, weights.dtype.newbyteorder("<")).tobytes()
        body = self._header_bytes(len(payload), bool(records)) + payload
        if records:
            if not all(isinstance(record, Record) for record in records):
                raise errors.BlobRecordError("records holds something that is no Record; make them with rvne.records")
            section = b"".join(record.serialize() for record in records)
            body += len(section).to_bytes(4, "little") + section
        blob = body + _core.crc32(np.frombuffer(body, np.uint8)).to_bytes(4, "little")
        WeightBlobView.parse(blob)
        return blob

    def _header_bytes(self, weights_len: int, has_records: bool) -> bytes:
        header = self.header
        try:
            return _core.write_header(
                header.input_dim,
                header.n_q_heads,
                header.n_kv_heads,
                header.head_dim,
                header.n_layers,
                header.n_classes,
                weights_len,
                _core.BLOB_DTYPES.index(header.dtype),
                has_records,
            )
        except TypeError:  # a size beyond its field
            raise errors.BlobDimsError(f"{header} with {weights_len} bytes; expected sizes below 65536") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the blob beside `path` and renames it, so that `path` is the old file or the whole new one.

        Raises:
            BlobError, DtypeError: as `serialize`.
            FileError: the file cannot be written.
        """
        write_whole(path, self.serialize())

    @staticmethod
    def load(path: str | os.PathLike[str]) -> WeightBlob:
        """The blob in a file.

        Raises:
            BlobError: one of its children, as `WeightBlobView.parse`.
            FileError: the file cannot be read.
        """
        view = WeightBlobView.parse(read_whole(path, MAX_BLOB_BYTES))
        return WeightBlob(view.header, view.weights, view.records)


@dataclass(frozen=True, eq=False)
class WeightBlobView:
    """A parsed blob. Its weights share the buffer that it was parsed from, read-only; records are copies."""

    header: WeightBlobHeader
    weights: Weights
    records: tuple[Record, ...]
    crc: int

    @classmethod
    def parse(cls, buffer: Buffer) -> WeightBlobView:
        """Checks every byte of a blob and gives access to it.

        Args:
            buffer: anything with the buffer protocol: bytes, bytearray, mmap, a uint8 array.

        Raises:
            BlobError: the child for the first thing wrong, in this order: too short, magic, version, flags, length,
                CRC, dims, head ratio, degenerate shape, records.
        """
        data = as_bytes(buffer)
        status, parsed = _core.parse_blob(data)
        if parsed is None:
            kind, sentence = _REFUSALS[status]
            raise kind(sentence.format(length=data.size))
        sizes = dict(parsed["header"])
        dtype = cast(BlobDtype, _core.BLOB_DTYPES[sizes.pop("dtype")])
        start, length = parsed["weights_offset"], parsed["weights_len"]
        payload = data[start : start + length]
        records = tuple(
            Record(tag, data[at : at + size].tobytes(), bool(flags & _core.RECORD_CRITICAL))
            for tag, flags, at, size in parsed["records"]
        )
        weights = cast(Weights, np.frombuffer(payload.data, np.dtype(dtype).newbyteorder("<")))
        return cls(WeightBlobHeader(**sizes, dtype=dtype), weights, records, parsed["crc"])

    def record(self, name: str) -> Record | None:
        """The record of this name, or None."""
        return next((record for record in self.records if record.name == name), None)

    def classifier(self, pooled_dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Weight `[P, C]` of the classifier, and its bias `[C]` if it has one; only of a blob that loads as a model."""
        classes, bias = self.header.n_classes, self.record("classifier_bias")
        weight = self.tensors()[-1].astype(np.float64).reshape(pooled_dim, classes)
        return weight, None if bias is None else self.record_tensors(bias)[1][0].astype(np.float64)

    def tensors(self) -> list[NDArray[np.float32]]:
        """Each tensor of the weights in float32, flat: per layer Wq, Wk, Wv, Wo; then Wc.

        Raises:
            BlobModelError: the weights are not as many as the header's sizes and the pooling ask for.
        """
        sizes, pooling = asdict(self.header), self.record("pooling")
        spread = pooling is not None and pooling.payload[:4] == _MEAN_SPREAD
        counts = tensors.weight_counts(sizes, self.header.input_dim * (2 if spread else 1))
        return tensors.read_weights(self.weights.tobytes(), self.header.dtype, counts)

    def record_tensors(self, record: Record) -> tuple[bytes, list[NDArray[np.float32]]]:
        """What a record holds before its tensors in the blob's dtype, and those in float32, flat; there may be none.

        Raises:
            BlobModelError: the record is not as long as its words say.
        """
        return tensors.read_record(record.name, record.payload, self.header.dtype, asdict(self.header))


def as_bytes(buffer: Buffer) -> NDArray[np.uint8]:
    """The buffer's bytes as a read-only array that shares its memory.

    Raises:
        DtypeError: no buffer, or one that is not contiguous.
    """
    try:
        view = memoryview(buffer)
        flat = np.frombuffer(view.cast("B") if view.nbytes else b"", np.uint8)
    except (TypeError, BufferError, ValueError) as error:
        raise errors.DtypeError(f"{type(buffer).__name__} does not give its bytes: {error}; pass bytes") from None
    flat.flags.writeable = False
    return flat
