"""The records of a blob: what a model needs beyond the header, written here and read by the C core.

Tags, word orders and enumerations come from the core, which defines them once; docs/rvne-format.md explains them.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.errors import BlobModelError, BlobRecordError

_NAMES = {tag: name for name, (tag, _) in _core.RECORDS.items()}
Affine = tuple[ArrayLike, ArrayLike]
Float64 = NDArray[np.float64]

#: Between the words of a feature chain of version 2 and its parts.
CHAIN_COUNTS = ("frame_bins", "hold", "n_parts")

#: A longer label is refused: it is shown in tables, and a node sends it over the air.
MAX_LABEL_LETTERS = 64

#: A blob has at least two classes. Those of an encoder are never trained, and say so wherever they are shown.
UNTRAINED_CLASSES = ("untrained_0", "untrained_1")


@dataclass(frozen=True)
class Record:
    """One record: a 16-bit tag, whether a loader must know it, and its payload's bytes."""

    tag: int
    payload: bytes
    critical: bool

    @property
    def name(self) -> str:
        """The record's name in docs/rvne-format.md, or `"unknown"`."""
        return _NAMES.get(self.tag, "unknown")

    def serialize(self) -> bytes:
        """Tag, flags, length and payload, padded with zeros to a multiple of 4 bytes.

        Raises:
            BlobRecordError: the tag or the payload's length does not fit its field.
        """
        if not isinstance(self.tag, int) or not isinstance(self.payload, bytes):
            raise BlobRecordError(f"tag {self.tag!r} with a {type(self.payload).__name__}; expected an int and bytes")
        if not 0 <= self.tag < 1 << 16 or len(self.payload) >= 1 << 32:
            raise BlobRecordError(f"tag {self.tag} with {len(self.payload)} bytes; expected 16 and 32 bits")
        flags = _core.RECORD_CRITICAL if self.critical else 0
        head = self.tag.to_bytes(2, "little") + flags.to_bytes(2, "little")
        return head + len(self.payload).to_bytes(4, "little") + _padded(self.payload)


def pattern(config: TemporalHeadConfig, norm: str = "none") -> Record:
    """The sparse pattern and normalisation (`"none"` or `"rms"`) that the weights were trained with."""
    words = {
        "dense": config.backend == "dense",
        "window": config.window,
        "block_size": config.block_size,
        "causal": config.causal,
        "log_stride": config.log_stride,
        "landmarks": config.landmarks,
        "norm": _number(_core.NORMS, norm, "norm"),
        "n_global_tokens": len(config.global_tokens),
    }
    tokens = np.asarray(config.global_tokens, "<u4")
    return _record("pattern", _words("pattern", words) + tokens.tobytes())


def pooling(kind: str, frames: int = 0) -> Record:
    """Pooling: `"mean"`, `"last"`, `"last_n"` (the mean of the last `frames`) or `"mean_spread"`."""
    words = {"kind": _number(_core.POOLINGS, kind, "pooling"), "frames": frames}
    return _record("pooling", _words("pooling", words))


def feature_scale(mean: ArrayLike, scale: ArrayLike) -> Record:
    """Per feature, float32 `[F]` each: a frame x enters the model as `(x - mean) * scale`."""
    return _record("feature_scale", _tensor(mean, "float32") + _tensor(scale, "float32"))


def input_projection(weight: ArrayLike, bias: ArrayLike, dtype: str) -> Record:
    """Projection `[F, input_dim]` with bias `[input_dim]` from features to the model's width."""
    words = {"features": _affine_sizes((weight, bias))[0]}
    payload = _words("input_projection", words) + _tensor(weight, dtype) + _tensor(bias, dtype)
    return _record("input_projection", payload)


def feed_forward(blocks: Sequence[Affine], activation: str, dtype: str) -> Record:
    """One `(W1 [input_dim, hidden], W2 [hidden, input_dim])` per layer; activation `"relu"` or `"silu"`."""
    if not blocks:
        raise BlobRecordError("feed-forward blocks of no layer; give one (W1, W2) per layer")
    width, hidden = _rows_columns(blocks[0][0])
    for inward, outward in blocks:
        if (_rows_columns(inward), _rows_columns(outward)) != ((width, hidden), (hidden, width)):
            raise BlobRecordError(
                f"a feed-forward block of {np.shape(inward)} and {np.shape(outward)}; "
                f"expected ({width}, {hidden}) and ({hidden}, {width})"
            )
    words = {
        "hidden": hidden,
        "activation": _number(_core.ACTIVATIONS, activation, "activation"),
    }
    flat = np.concatenate([np.ravel(np.asarray(weight)) for block in blocks for weight in block])
    return _record("feed_forward", _words("feed_forward", words) + _tensor(flat, dtype))


def embedding_projection(layers: Sequence[Affine], dtype: str) -> Record:
    """One or two `(weight [in, out], bias [out])`, with ReLU between two, from pooled vector to embedding."""
    if len(layers) not in (1, 2):
        raise BlobRecordError(f"an embedding projection of {len(layers)} layers; expected 1 or 2")
    sizes = [_affine_sizes(layer) for layer in layers]
    if sizes[0][1] != sizes[-1][0] and len(layers) == 2:
        raise BlobRecordError(
            f"an embedding projection of {sizes[0]} and {sizes[1]}; expected the inner sizes to agree"
        )
    words = {"input": sizes[0][0], "hidden": sizes[0][1] if len(layers) == 2 else 0, "output": sizes[-1][1]}
    tensors = b"".join(_tensor(tensor, dtype) for layer in layers for tensor in layer)
    return _record("embedding_projection", _words("embedding_projection", words) + tensors)


def feature_chain(words: Mapping[str, Any]) -> Record:
    """Parameters of the feature chain that made the frames, as `FeatureConfig.to_words()` gives them."""
    rest = dict(words)
    parts = rest.pop("parts", None)
    if parts is None:
        return _record("feature_chain", _words("feature_chain", rest))
    counts = {name: rest.pop(name, None) for name in CHAIN_COUNTS[:-1]} | {CHAIN_COUNTS[-1]: len(parts)}
    payload = _words("feature_chain", rest) + _words("feature_chain", counts, CHAIN_COUNTS)
    payload += b"".join(_words("feature_chain", part, _core.CHAIN_PART_FIELDS) for part in parts)
    return _record("feature_chain", payload)


def class_labels(labels: Sequence[str]) -> Record:
    """Names of the classes, in the order of the logits."""
    for label in labels:
        if not isinstance(label, str) or not _is_label(label):
            raise BlobRecordError(f"class label {label!r}; expected printable text of 1 to {MAX_LABEL_LETTERS} letters")
    return _record("class_labels", b"".join(label.encode() + b"\0" for label in labels))


def provenance(facts: Mapping[str, Any]) -> Record:
    """Where the weights come from, as JSON: `trained` (bool), training data digest, metrics, tool version."""
    try:
        payload = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
        read_provenance(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise BlobRecordError(f"the provenance cannot be written as JSON: {error}") from None
    return _record("provenance", payload)


def classifier_bias(bias: ArrayLike, dtype: str) -> Record:
    """What is added to the logits, `[C]`."""
    return _record("classifier_bias", _tensor(np.ravel(np.asarray(bias)), dtype))


def class_statistics(windows: ArrayLike, mean: ArrayLike, covariance: ArrayLike) -> Record:
    """How the classifier saw its training windows, so that a few more of another room can refit it.

    Args:
        windows: `[C]` how many windows each class had.
        mean: `[C, P]` mean pooled vector of each class.
        covariance: `[P, P]` of pooled vectors around their class's mean; its upper triangle is stored.
    """
    classes, pooled_dim = _rows_columns(mean)
    if np.shape(windows) != (classes,) or np.shape(covariance) != (pooled_dim, pooled_dim):
        raise BlobRecordError(
            f"class statistics of shapes {np.shape(windows)}, {np.shape(mean)}, {np.shape(covariance)}; "
            "expected [C], [C, P], [P, P]"
        )
    triangle = np.asarray(covariance)[np.triu_indices(pooled_dim)]
    tensors = b"".join(_tensor(np.ravel(np.asarray(tensor)), "float32") for tensor in (windows, mean, triangle))
    return _record(
        "class_statistics", _words("class_statistics", {"classes": classes, "pooled_dim": pooled_dim}) + tensors
    )


def read_class_labels(payload: bytes) -> tuple[str, ...]:
    """The labels of a `class_labels` payload.

    Raises:
        BlobModelError: not UTF-8, not printable, or not ended by a zero byte each.
    """
    try:
        *labels, rest = payload.decode().split("\0")
    except UnicodeDecodeError:
        raise BlobModelError("the class labels are not UTF-8") from None
    if rest or not all(map(_is_label, labels)):
        raise BlobModelError("the class labels are not short printable texts that each end with a zero byte")
    return tuple(labels)


def read_class_statistics(payload: bytes) -> tuple[Float64, Float64, Float64]:
    """Windows `[C]`, mean `[C, P]` and covariance `[P, P]` of a `class_statistics` payload.

    Raises:
        BlobModelError: another length than its words say, a number that is not finite, or a negative count.
    """
    words = np.frombuffer(payload[:8], "<u4").tolist() if len(payload) >= 8 else [0, 0]
    classes, pooled_dim = words
    sizes = (classes, classes * pooled_dim, pooled_dim * (pooled_dim + 1) // 2)
    if not classes or not pooled_dim or len(payload) != 8 + 4 * sum(sizes):
        raise BlobModelError("the class statistics are not as long as their words say")
    numbers = np.frombuffer(payload[8:], "<f4").astype(np.float64)
    windows, mean, triangle = np.split(numbers, np.cumsum(sizes[:2]))
    if not np.isfinite(numbers).all() or (windows < 0).any():
        raise BlobModelError("the class statistics hold a number that is not finite, or a negative count")
    upper = np.zeros((pooled_dim, pooled_dim))
    upper[np.triu_indices(pooled_dim)] = triangle
    return windows, mean.reshape(classes, pooled_dim), upper + np.triu(upper, 1).T


def read_provenance(payload: bytes) -> dict[str, Any]:
    """The facts of a `provenance` payload.

    Raises:
        BlobModelError: not a JSON object, or its `trained` is not true or false.
    """
    try:
        facts = json.loads(payload.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise BlobModelError(f"the provenance record is not JSON: {error}") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("trained", False), bool):
        raise BlobModelError("the provenance record is not a JSON object whose `trained` is true or false")
    return facts


def _is_label(text: str) -> bool:
    return 0 < len(text) <= MAX_LABEL_LETTERS and text.isprintable()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    facts = dict(pairs)
    if len(facts) != len(pairs):
        raise ValueError("a key stands twice, and which one holds is anyone's guess")
    return facts


def _rows_columns(weight: ArrayLike) -> tuple[int, int]:
    shape = np.shape(weight)
    if len(shape) != 2:
        raise BlobRecordError(f"a weight of shape {shape}; expected [in, out]")
    return shape[0], shape[1]


def _affine_sizes(layer: Affine) -> tuple[int, int]:
    sizes = _rows_columns(layer[0])
    if np.shape(layer[1]) != (sizes[1],):
        raise BlobRecordError(f"a weight of shape {sizes} with a bias of {np.shape(layer[1])}; expected ({sizes[1]},)")
    return sizes


def _record(name: str, payload: bytes) -> Record:
    tag, critical = _core.RECORDS[name]
    return Record(tag, payload, critical)


def _words(name: str, values: Mapping[str, Any], fields: Sequence[str] | None = None) -> bytes:
    fields = _core.RECORD_WORDS[name] if fields is None else fields
    if set(fields) != set(values):
        raise BlobRecordError(f"the {name} record has {sorted(values)}; expected {sorted(fields)}")
    try:
        return b"".join(operator.index(values[field]).to_bytes(4, "little") for field in fields)
    except (OverflowError, TypeError):
        raise BlobRecordError(f"the {name} record has {dict(values)}; expected 32-bit unsigned words") from None


def _tensor(values: ArrayLike, dtype: str) -> bytes:
    array: NDArray[np.generic] = np.asarray(values)
    if dtype not in ("float32", "float16") or array.dtype.kind not in "fiu":
        raise BlobRecordError(
            f"a {array.dtype} tensor to be stored as {dtype}; expected real numbers, float32 or float16"
        )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<"))
    if not np.isfinite(stored).all():
        raise BlobRecordError(f"a tensor has values that {dtype} cannot hold as finite numbers")
    return _padded(stored.tobytes())


def _padded(payload: bytes) -> bytes:
    return payload + bytes(-len(payload) % 4)


def _number(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        raise BlobRecordError(f"{what} is {name!r}; expected one of {', '.join(names)}")
    return names.index(name)
