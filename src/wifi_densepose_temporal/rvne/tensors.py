"""A blob's tensors as bytes and as float32 numbers: which there are, how long each is, and int8's scales.

Sizes come from the header and the records' words; docs/rvne-format.md has the tables. Records' names and their words'
order are the core's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import BlobModelError

Floats = NDArray[np.float32]

#: An int8 tensor's numbers are symmetric: -128 is read, and never written.
LARGEST_INT8 = 127


def weight_counts(sizes: Mapping[str, int], pooled_dim: int) -> list[int]:
    """Numbers of each tensor of the weights: per layer Wq, Wk, Wv, Wo; then Wc. `sizes` is the header's."""
    query, key = (sizes["input_dim"] * sizes["head_dim"] * sizes[heads] for heads in ("n_q_heads", "n_kv_heads"))
    return [query, key, key, query] * sizes["n_layers"] + [pooled_dim * sizes["n_classes"]]


def record_counts(name: str, words: Mapping[str, int], sizes: Mapping[str, int]) -> list[int]:
    """Numbers of each tensor of a record that are in the blob's dtype; of another record, none."""
    width = sizes["input_dim"]
    if name == "input_projection":
        return [words["features"] * width, width]
    if name == "feed_forward":
        return [width * words["hidden"]] * 2 * sizes["n_layers"]
    if name == "embedding_projection":
        through = [words[size] for size in ("input", "hidden", "output") if words[size]]
        return [count for rows, columns in pairwise(through) for count in (rows * columns, columns)]
    return [sizes["n_classes"]] if name == "classifier_bias" else []


def read_weights(payload: bytes, dtype: str, counts: Sequence[int]) -> list[Floats]:
    """The tensors of a blob's weights.

    Raises:
        BlobModelError: the payload is not as long as they are.
    """
    if dtype != "int8":  # one after the other, without padding
        return _split(_read(payload, dtype, [sum(counts)]), counts)
    return _read(payload, dtype, counts)


def read_record(name: str, payload: bytes, dtype: str, sizes: Mapping[str, int]) -> tuple[bytes, list[Floats]]:
    """A record's words as they lie, and the tensors in the blob's dtype that follow them.

    Raises:
        BlobModelError: the payload is not as long as they are.
    """
    fields = _core.RECORD_WORDS.get(name, [])
    head, rest = payload[: 4 * len(fields)], payload[4 * len(fields) :]
    if len(head) < 4 * len(fields):
        raise BlobModelError(f"the {name} record is shorter than its words")
    counts = record_counts(name, dict(zip(fields, np.frombuffer(head, "<u4").tolist(), strict=True)), sizes)
    if not counts:
        return payload, []
    packed = name == "feed_forward" and dtype != "int8"  # its tensors are one
    return head, _split(_read(rest, dtype, [sum(counts)]), counts) if packed else _read(rest, dtype, counts)


def write_float32(tensors: Sequence[Floats]) -> bytes:
    """Tensors as a float32 blob has them, in its weights and in its records."""
    return b"".join(np.ascontiguousarray(tensor, "<f4").tobytes() for tensor in tensors)


def write_int8(tensors: Sequence[Floats]) -> bytes:
    """Tensors as an int8 blob has them: scale, numbers, zeros up to a multiple of 4.

    Raises:
        BlobModelError: a number that is not finite, or too large for a model of int8.
    """
    return b"".join(_scaled(tensor) for tensor in tensors)


def _scaled(tensor: Floats) -> bytes:
    largest = np.abs(tensor).max(initial=np.float32(0))
    # A subnormal scale would be zero on a chip that flushes those.
    scale = max(largest / np.float32(LARGEST_INT8), np.finfo(np.float32).tiny) if largest else np.float32(0)
    if not scale * np.float32(LARGEST_INT8 + 1) <= _core.MAX_WEIGHT:
        limit = _core.MAX_WEIGHT * LARGEST_INT8 / (LARGEST_INT8 + 1)
        raise BlobModelError(f"a tensor's largest weight is {largest:g}; expected at most {limit:g} to make int8 of it")
    numbers = np.rint(tensor.astype(np.float64) / (float(scale) or 1.0)).astype(np.int8)
    return np.array(scale, "<f4").tobytes() + _padded(numbers.tobytes())


def _read(payload: bytes, dtype: str, counts: Sequence[int]) -> list[Floats]:
    item, head = np.dtype(dtype).itemsize, 4 if dtype == "int8" else 0
    lengths = [head + count * item for count in counts]
    ends = list(accumulate(-(-length // 4) * 4 for length in lengths))
    optional = -lengths[-1] % 4 if dtype == "float16" else 0  # the last one's padding may be the record's
    if len(payload) not in (ends[-1], ends[-1] - optional):
        raise BlobModelError(f"{len(payload)} bytes of {dtype} tensors; the header and the records ask for {ends[-1]}")
    tensors = []
    for start, length in zip([0, *ends], lengths, strict=False):
        scale = np.frombuffer(payload, "<f4", 1, start)[0] if head else np.float32(1)
        numbers = np.frombuffer(payload[start + head : start + length], np.dtype(dtype).newbyteorder("<"))
        tensors.append(numbers.astype(np.float32) * scale)
    return tensors


def _split(tensors: list[Floats], counts: Sequence[int]) -> list[Floats]:
    return np.split(tensors[0], list(accumulate(counts))[:-1])


def _padded(payload: bytes) -> bytes:
    return payload + bytes(-len(payload) % 4)
