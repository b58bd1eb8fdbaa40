"""A loaded blob that runs: frames in, a class and an embedding out, at every frame as of that frame.

`predict` takes a whole recording, `stream` one frame at a time; they are the same computation in the C core.
What a model says of itself (labels, where it was trained) comes from its blob, and every `Prediction` carries it on.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import as_float32, changed_meanwhile, require_finite
from wifi_densepose_temporal.cache import DEFAULT_LANDMARK_BLOCKS, CachePolicy, as_cache_dtype, as_cache_policy
from wifi_densepose_temporal.config import TemporalHeadConfig, as_int
from wifi_densepose_temporal.errors import (
    BlobError,
    BlobModelError,
    CacheFullError,
    ConfigError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
    TemporalError,
)
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES, WeightBlobHeader, WeightBlobView, as_bytes
from wifi_densepose_temporal.rvne.records import read_class_labels, read_provenance
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256

Source = Literal["live", "replay", "synthetic", "unstated"]
logger = logging.getLogger(__name__)

#: Multiplications that the search for each class's winner may take at load.
_DOUBT_WORK = 100_000_000

#: Frames that a stream takes by default: 22 minutes at 50 Hz. Its memory is reserved, and touched as it fills.
DEFAULT_STREAM_CAPACITY = 65536


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says, with where it comes from. The leading axis T is absent for one frame of a stream."""

    logits: NDArray[np.float32]
    """`[T, C]`."""
    embedding: NDArray[np.float32]
    """`[T, E]`, unit vectors; all zeros where the pooled vector has no direction."""
    labels: NDArray[np.str_]
    """`[T]`: name of the class with the largest logit."""
    source: Source
    """Where the frames came from, as the caller said; `"unstated"` where the caller did not."""
    model_sha256: str
    """Digest of the blob that made this."""
    trained: bool | None
    """Whether that blob says that it was trained; None where it says nothing."""

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """Softmax of the logits, `[T, C]`. Not calibrated."""
        shifted = np.exp(self.logits - self.logits.max(axis=-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Probability of the class in `labels`, `[T]`. Not calibrated."""
        return np.asarray(self.probabilities.max(axis=-1), np.float32)


class TemporalModel:
    """A blob that can be run; made by `load` or `from_bytes`. It is not changed by running it.

    Attributes:
        header: the blob's sizes and dtype.
        config: the attention pattern it runs with.
        labels: C class names; `class_0`, ... where the blob has none.
        provenance: what the blob says of its origin; empty where it says nothing.
        trained: True or False as the provenance says, None where it says nothing.
        sha256: digest of the blob's bytes.
        warnings: sentences on what makes this model doubtful, such as a class that can never win.
    """

    def __init__(self, blob: bytes) -> None:
        """Reads a model from a blob's bytes; `from_bytes` is the same."""
        blob = bytes(as_bytes(blob))  # ours: nobody can change it behind the checks
        view = WeightBlobView.parse(blob)
        status, why, core = _core.load_model(aligned_blob(blob))
        if core is None:
            raise BlobModelError(f"{why or 'not a model'} (status {int(status)}; header {view.header})")
        self._core: _core.Model = core
        self._blob = blob
        self.header: WeightBlobHeader = view.header
        self.config = TemporalHeadConfig.from_core(core.head)
        self.sha256 = hashlib.sha256(blob).hexdigest()
        self.labels = _labels(view)
        self._label_array = np.asarray(self.labels)
        self._label_items = tuple(self._label_array)
        self.provenance: dict[str, Any] = _provenance(view)
        self.trained: bool | None = False if self.sha256 == REFERENCE_SHA256 else self.provenance.get("trained")
        self.warnings: tuple[str, ...] = tuple(_doubts(self, view))
        for warning in self.warnings:
            logger.warning("model %s: %s", self.sha256[:12], warning)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TemporalModel:
        """The model in a file.

        Raises:
            FileError: the file cannot be read.
            BlobError: its child for what is wrong with the blob; `BlobModelError` if it is a blob but no model.
        """
        content = read_whole(path, MAX_BLOB_BYTES)
        try:
            return cls(content)
        except BlobError as error:
            raise type(error)(f"{path!s}: {error}") from None

    @classmethod
    def from_bytes(cls, blob: bytes) -> TemporalModel:
        """The model in a blob's bytes.

        Raises:
            BlobError: as `load`.
        """
        return cls(blob)

    def __reduce__(self) -> tuple[type[TemporalModel], tuple[bytes]]:
        """Pickled, as for a worker in another process, it is its blob, which is checked again there."""
        return TemporalModel, (self._blob,)

    def __repr__(self) -> str:
        return f"TemporalModel({self.sha256[:12]}, trained={self.trained}, {self.header})"

    @property
    def input_dim(self) -> int:
        """F, length of a frame."""
        return self._core.features

    @property
    def pooled_dim(self) -> int:
        """P, length of the pooled vector that the classifier and the embedding's projection read."""
        return self._core.pooled_dim

    @property
    def embedding_dim(self) -> int:
        """E, length of an embedding."""
        return self._core.embedding_dim

    @property
    def norm(self) -> str:
        """`"none"` or `"rms"`."""
        return _core.NORMS[self._core.norm]

    @property
    def pooling(self) -> str:
        """`"mean"`, `"last"`, `"last_n"` or `"mean_spread"`."""
        return _core.POOLINGS[self._core.pooling[0]]

    @property
    def pooling_frames(self) -> int:
        """The n of `"last_n"` pooling; 0 with the others."""
        return self._core.pooling[1]

    @property
    def feature_chain(self) -> dict[str, Any] | None:
        """Parameters of the feature chain that made the training frames; None where the blob does not say."""
        return dict(self._core.chain) if self._core.has_chain else None

    def predict(self, frames: ArrayLike, source: Source = "unstated") -> Prediction:
        """Runs a recording: row t of the result is the decision as of frame t, from frames 0 to t alone.

        Args:
            frames: `[T, input_dim]`, float32 or exactly convertible to it.
            source: where the frames came from; carried on in the result.

        Raises:
            ShapeError, DtypeError: frames that are no such array.
            NonFiniteError: NaN or infinity, or values so large that the activations overflow.
            MemoryLimitError: the answers do not fit into memory.
            ConfigError: source is none of the words.
        """
        rows = as_float32("frames", frames)
        if rows.ndim != 2:
            raise ShapeError(f"frames has shape {rows.shape}; expected [T, {self.input_dim}]")
        require_finite("frames", rows)
        return Stream(self, max(1, len(rows)), source=source)._run(rows)

    def stream(
        self,
        capacity: int = DEFAULT_STREAM_CAPACITY,
        cache_dtype: DTypeLike = "float32",
        source: Source = "unstated",
        policy: CachePolicy = "refuse",
        landmark_blocks: int = DEFAULT_LANDMARK_BLOCKS,
    ) -> Stream:
        """A stream for one track.

        Args:
            capacity: frames that each layer's cache holds; with policy refuse the stream takes no more.
            cache_dtype: of its key/value caches, float32 or float16.
            source: where the frames will come from; carried on in each result.
            policy: of its caches, as in `KvCache`: refuse, sliding or heavy-hitter, whose streams take frames without
                end (heavy-hitter unless all that it holds are global tokens).
            landmark_blocks: of its caches, as in `KvCache`.

        Raises:
            ConfigError: capacity or landmark_blocks below 1, another dtype, or another policy.
            MemoryLimitError: this machine has not that much memory.
        """
        return Stream(self, capacity, cache_dtype, source, policy, landmark_blocks)


class Stream:
    """One track running through a model, frame by frame; made by `TemporalModel.stream`.

    It belongs to one person or session, and to one thread at a time. `len(stream)` frames have been pushed.
    """

    def __init__(
        self,
        model: TemporalModel,
        capacity: int = DEFAULT_STREAM_CAPACITY,
        cache_dtype: DTypeLike = "float32",
        source: Source = "unstated",
        policy: CachePolicy = "refuse",
        landmark_blocks: int = DEFAULT_LANDMARK_BLOCKS,
    ) -> None:
        """As `TemporalModel.stream`."""
        if not isinstance(model, TemporalModel):
            raise ConfigError(f"model is {type(model).__name__}; expected a TemporalModel")
        capacity = as_int("capacity", capacity, least=1)
        if not isinstance(source, str) or source not in get_args(Source):
            raise ConfigError(f"source is {source!r}; expected one of {', '.join(get_args(Source))}")
        half, blocks = as_cache_dtype(cache_dtype) == "float16", as_int("landmark_blocks", landmark_blocks, least=1)
        if as_cache_policy(policy) == "h2o-compact":
            raise ConfigError(
                "policy is 'h2o-compact', and a stream has no scores; expected refuse, sliding or heavy-hitter"
            )
        self.model = model
        self.source: Source = source
        self.policy: CachePolicy = policy
        try:
            self._core = _core.Stream(model._core, capacity, half, policy, blocks)
        except MemoryError:
            raise MemoryLimitError(f"a stream of {capacity} frames does not fit into memory; lower capacity") from None

    def __len__(self) -> int:
        return self._core.length

    def __repr__(self) -> str:
        return f"Stream(len={len(self)}, capacity={self.capacity}, source={self.source!r}, model={self.model!r})"

    def __copy__(self) -> NoReturn:
        raise ConfigError("a stream is one track's and cannot be copied; open another one with model.stream()")

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        self.__copy__()

    @property
    def capacity(self) -> int:
        """Frames that each layer's cache holds; with policy refuse, those that fit before `reset` is needed."""
        return self._core.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of memory reserved."""
        return self._core.nbytes

    def push(self, frame: ArrayLike) -> Prediction:
        """Takes one frame and says what the model makes of all frames so far.

        Equals `predict` over the frames so far at its last row. A call that raises leaves the stream as it was.

        Args:
            frame: `[input_dim]` or `[1, input_dim]`.

        Returns:
            A prediction without the T axis: logits `[C]`, embedding `[E]`, labels one text.

        Raises:
            ShapeError, DtypeError, NonFiniteError: as `predict`.
            CacheFullError: `capacity` frames have been pushed, with policy refuse; or as many global tokens as that are
                all that a heavy-hitter cache holds.
            CacheInUseError: another thread is in a call on this stream.
        """
        taken = self._core.push(frame)
        if taken is None:
            taken = self._core.push(self._as_frame(frame))
        if taken is None or isinstance(taken, _core.Status):
            raise self._refusal(taken, 0)
        logits, embedding, winner = taken
        model = self.model
        return Prediction(logits, embedding, model._label_items[winner], self.source, model.sha256, model.trained)

    def reset(self) -> None:
        """Forgets every frame, as if the track were new."""
        self._core.reset()

    def _as_frame(self, frame: ArrayLike) -> NDArray[np.float32]:
        row = as_float32("frame", frame)
        if row.ndim == 2 and row.shape[0] == 1:
            row = row[0]
        if row.ndim != 1:
            raise ShapeError(f"frame has shape {row.shape}; push takes one frame, [{self.model.input_dim}]")
        require_finite("frame", row)
        self._require_features(row)
        return row

    def _require_features(self, frames: NDArray[np.float32]) -> None:
        if frames.shape[-1] != self.model.input_dim:
            raise ShapeError(f"a frame has {frames.shape[-1]} features; this model takes {self.model.input_dim}")

    def _run(self, rows: NDArray[np.float32]) -> Prediction:
        model = self.model
        self._require_features(rows)
        try:
            logits = np.empty((len(rows), model.header.n_classes), np.float32)
            embedding = np.empty((len(rows), model.embedding_dim), np.float32)
        except MemoryError:
            raise MemoryLimitError(f"the answers to {len(rows)} frames do not fit into memory; give fewer") from None
        status, taken = self._core.run(rows, logits, embedding)
        if status != _core.Status.OK:
            raise self._refusal(status, taken)
        labels = model._label_array[logits.argmax(axis=1)]
        return Prediction(logits, embedding, labels, self.source, model.sha256, model.trained)

    def _refusal(self, status: int | None, frame: int) -> Exception:
        if status is None:
            return changed_meanwhile()
        if status == _core.Status.FULL:
            return CacheFullError(
                f"the stream holds {len(self)} of {self.capacity} frames; reset() it or make it larger"
            )
        if status == _core.Status.HALF_RANGE:
            return NonFiniteError(f"frame {frame} gives cached values beyond +-65504 (float16): use float32 caches")
        return NonFiniteError(f"frame {frame} is so large that the model's activations overflow; check its scale")


def aligned_blob(blob: bytes) -> NDArray[np.uint8]:
    """The blob at an address that the core can read floats from; copied only where bytes() gave another one."""
    data = np.frombuffer(blob, np.uint8)
    return data if data.ctypes.data % 4 == 0 else data.copy()


def _labels(view: WeightBlobView) -> tuple[str, ...]:
    record, count = view.record("class_labels"), view.header.n_classes
    labels = read_class_labels(record.payload) if record else tuple(f"class_{c}" for c in range(count))
    if len(labels) != count:
        raise BlobModelError(f"{len(labels)} class labels for {count} classes")
    return labels


def _provenance(view: WeightBlobView) -> dict[str, Any]:
    record = view.record("provenance")
    return read_provenance(record.payload) if record else {}


# ---------------------------------------------------------------------------------- what makes a model doubtful


def _doubts(model: TemporalModel, view: WeightBlobView) -> list[str]:
    weight, bias = view.classifier(model.pooled_dim)
    # A bias is one row more, as if of a feature that a pooled vector may have at will.
    losers = _classes_without_a_winner(weight if bias is None else np.vstack([weight, bias]))
    doubts = []
    if losers:
        named = ", ".join(model.labels[c] for c in losers[:3])
        more = f" and {len(losers) - 3} more" if len(losers) > 3 else ""
        doubts.append(f"no input was found that makes it answer {named}{more}")
    rng = np.random.default_rng(0)
    probes = rng.uniform(-1, 1, (2, 8, model.input_dim)).astype(np.float32)
    try:
        first, second = (model.predict(probe, source="synthetic").embedding[-1] for probe in probes)
    except TemporalError as error:
        return [*doubts, f"it does not run on small random frames: {error}"]
    if np.allclose(first, second, atol=1e-6):
        doubts.append("its embedding does not depend on the input")
    return doubts


def _classes_without_a_winner(classifier: NDArray[np.float64]) -> list[int]:
    """Columns c of the classifier `[P, C]` for which no pooled vector was found whose largest logit is c.

    A vector x with x·w_c > x·w_j for all j is a separator of the differences w_c - w_j from the origin, and the
    perceptron (Rosenblatt 1958) finds one if there is one. It gets so many rounds as a second of work allows, so a
    class that wins by a hair is missed; with thousands of classes nothing is looked for.
    """
    rounds = min(200, _DOUBT_WORK // (classifier.shape[1] * classifier.size))
    columns = classifier.T / max(float(np.abs(classifier).max(initial=0.0)), np.finfo(np.float64).tiny)
    losers = []
    for c, column in enumerate(columns if rounds else ()):
        differences = np.delete(column - columns, c, axis=0)
        x = differences.mean(axis=0)
        for _ in range(rounds):
            margins = differences @ x
            if margins.min() > 0:
                break
            x = x + differences[margins.argmin()]
        else:
            losers.append(c)
    return losers
