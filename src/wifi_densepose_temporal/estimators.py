"""scikit-learn's interface over the training loop: arrays and labels in, a `TemporalModel` out.

X is an array (n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays where the cases have
unequal lengths. Axes are taken in this order and never guessed. A case's channels at one time point are one frame of
the model, as they are: no feature chain comes before it, and its own standardisation is learned in `fit`.

Fitting needs PyTorch (extra `train`). Everything after it runs in the C core and does not import PyTorch, also in
another process that unpickles the estimator. Not here: captures (`csi`), data sets and splits (`datasets`).

Letters: T time points of a case, F channels, C classes, E embedding size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal.arrays import require_finite
from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.errors import (
    ConfigError,
    DtypeError,
    MissingExtraError,
    NonFiniteError,
    ShapeError,
)
from wifi_densepose_temporal.files import write_whole
from wifi_densepose_temporal.model import Prediction, TemporalModel
from wifi_densepose_temporal.rvne import WeightBlob, records

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]
    from sklearn.utils import check_random_state  # type: ignore[import-untyped]
    from sklearn.utils.validation import check_is_fitted  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingExtraError(
        f"the estimators need scikit-learn ({error}): pip install 'wifi-densepose-temporal[evaluate]', "
        "or [train], which can fit them as well"
    ) from None

if TYPE_CHECKING:
    from wifi_densepose_temporal.training.batches import Track
    from wifi_densepose_temporal.training.settings import FitSettings, ModelSettings

Floats = NDArray[np.float32]
Cases = ArrayLike | Sequence[ArrayLike]

AXES = "(n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays"

#: Parameters that are `ModelSettings`' and `ScheduleSettings`' under the same names.
MODEL = ("layers", "width", "q_heads", "kv_heads", "head_dim", "window", "block_size", "hidden", "pooling", "dropout")
SCHEDULE = ("steps", "learning_rate", "weight_decay")

#: What can be done to frames whose channels mean anything. The others move or mask neighbouring subcarriers, turn the
#: phase of I/Q, or change times, which frames do not have.
FRAME_AUGMENTATIONS = ("temporal_jitter", "drop_and_interpolate", "amplitude_scaling", "gaussian_noise")

#: A blob has at least two classes. An embedder's are never trained, and these names say so wherever they are shown.
NO_CLASSES = ("untrained_0", "untrained_1")

#: Cases of one identity in a step of the embedder, at least: one alone has nobody to be near to.
CASES_OF_ONE = 4


class _TemporalEstimator(BaseEstimator):  # type: ignore[misc]
    """What classifier and embedder share: the model's sizes, the schedule, the blob, pickling."""

    blob_: bytes
    model_: TemporalModel
    n_features_in_: int

    def __init__(
        self,
        *,
        layers: int = 2,
        width: int | None = 32,
        q_heads: int = 4,
        kv_heads: int = 1,
        head_dim: int = 16,
        window: int = 32,
        block_size: int = 16,
        hidden: int = 64,
        pooling: str = "mean_spread",
        dropout: float = 0.1,
        steps: int = 300,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        batch_size: int = 32,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.layers = layers
        self.width = width
        self.q_heads = q_heads
        self.kv_heads = kv_heads
        self.head_dim = head_dim
        self.window = window
        self.block_size = block_size
        self.hidden = hidden
        self.pooling = pooling
        self.dropout = dropout
        self.steps = steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.random_state = random_state

    def save(self, path: str | Path) -> None:
        """Writes the model as an .rvne file, which `TemporalModel.load` reads; whole or not at all.

        Raises:
            NotFittedError: `fit` has not been called.
            FileError: it cannot be written.
        """
        check_is_fitted(self)
        write_whole(path, self.blob_)

    def __sklearn_tags__(self) -> Any:
        """Cases are two-dimensional each, so X has three axes."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """All but the model, which belongs to the core and is made anew from the blob's bytes."""
        state = dict(super().__getstate__())
        state.pop("model_", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "blob_" in state:
            self.model_ = TemporalModel.from_bytes(state["blob_"])

    def _last(self, X: Cases) -> list[Prediction]:  # noqa: N803
        """The model's answer to each case, as of all its frames; `[T, ...]` each."""
        check_is_fitted(self)
        cases = as_cases(X)
        if cases[0].shape[1] != self.n_features_in_:
            raise ShapeError(
                f"X has {cases[0].shape[1]} channels, and {type(self).__name__} was fitted on {self.n_features_in_}; "
                f"expected {AXES}"
            )
        return [self.model_.predict(case) for case in cases]

    def _seed(self) -> int:
        """The number given; or one drawn from a generator, or from nowhere, which the provenance then says."""
        if isinstance(self.random_state, np.random.RandomState) or self.random_state is None:
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        return as_int("random_state", self.random_state, least=0)


class TemporalClassifier(ClassifierMixin, _TemporalEstimator):  # type: ignore[misc]
    """Which class a case is of: cross-entropy over all its frames while training, decided at its last frame.

    Args:
        layers: of attention, each with a feed-forward block.
        width: of the model; None: the number of channels, without an input projection.
        q_heads: query heads; a multiple of `kv_heads`.
        kv_heads: key/value heads.
        head_dim: size of one head.
        window: time points before the present one that attention sees, besides log-stride, landmarks and the first.
        block_size: time points that one landmark stands for.
        hidden: of the feed-forward blocks; 0 for none.
        pooling: over the frames so far: `"mean_spread"`, `"mean"` or `"last"`.
        dropout: while training.
        steps: of the optimiser.
        learning_rate: at its highest.
        weight_decay: of AdamW.
        batch_size: cases a step, or all of them where there are fewer.
        random_state: of weights, draws and dropout. With a whole number, the same data give the same blob, on one
            machine and with one number of threads.

    Attributes:
        classes_: `[C]`, sorted.
        n_features_in_: number of channels.
        model_: a `TemporalModel`; streams frame by frame as well.
        blob_: the bytes that it was made from, with labels and provenance.
    """

    classes_: NDArray[Any]

    def fit(self, X: Cases, y: ArrayLike) -> Self:  # noqa: N803
        """Trains on all cases. A call that raises leaves the estimator as it was.

        Args:
            X: array (n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays. Real numbers;
                they are rounded to float32.
            y: a text or a whole number for each case.

        Raises:
            ShapeError, DtypeError, NonFiniteError: X or y is something else, or X is a single case.
            ConfigError: a parameter that no model can have, or y holds one class.
            BlobRecordError: a class whose name is not printable, or too long for a blob.
            TrainingError: training diverged.
            MissingExtraError: PyTorch is not installed.
        """
        cases = as_cases(X, least=2)
        classes, numbers = as_classes(y, len(cases))
        names = [str(name) for name in classes.tolist()]
        records.class_labels(names)  # refused now rather than after training
        windows = min(as_int("batch_size", self.batch_size, least=1), len(cases))
        blob = train(self, cases, numbers, self._seed(), "classification", names, {"windows": windows}, {})
        self.model_ = TemporalModel.from_bytes(blob)
        self.blob_, self.classes_, self.n_features_in_ = blob, classes, cases[0].shape[1]
        return self

    def predict_proba(self, X: Cases) -> Floats:  # noqa: N803
        """`[n_cases, C]`: softmax at each case's last frame, in the order of `classes_`. Not calibrated.

        Raises:
            NotFittedError: `fit` has not been called.
            ShapeError, DtypeError, NonFiniteError: X is no such cases, or has another number of channels.
        """
        return np.stack([prediction.probabilities[-1] for prediction in self._last(X)])

    def predict(self, X: Cases) -> NDArray[Any]:  # noqa: N803
        """`[n_cases]`: the class of each case, as `model_` decides at its last frame.

        Raises:
            NotFittedError, ShapeError, DtypeError, NonFiniteError: as `predict_proba`.
        """
        decided = [int(prediction.logits[-1].argmax()) for prediction in self._last(X)]
        return np.asarray(self.classes_[decided])


class TemporalEmbedder(TransformerMixin, _TemporalEstimator):  # type: ignore[misc]
    """A unit vector for each case. With identities as y, cases of one identity come to lie near each other (supervised
    contrastive); with y=None, a case and its augmented copies do, far from all other cases (NT-Xent and VICReg).

    In a `Pipeline` that is fitted with labels, the embedder gets them, too.

    Args:
        embedding: sizes of the projection from pooled vector to embedding: () for none, (E,) or (H, E).
        augmentations: what each drawn case goes through, two or more of them at a time; some of `temporal_jitter`,
            `drop_and_interpolate`, `amplitude_scaling` (one gain for all channels: only where their zero means
            nothing received) and `gaussian_noise` (relative to the frame's power: for channels that are amplitudes,
            which are never negative). The defaults ask nothing of the channels but that they vary slowly.
        batch_size: cases a step, at least 4. With identities, four or more of each that is drawn.
        layers, width, q_heads, kv_heads, head_dim, window, block_size, hidden, pooling, dropout: as
            `TemporalClassifier`'s.
        steps, learning_rate, weight_decay, random_state: as `TemporalClassifier`'s.

    Attributes:
        n_features_in_: number of channels.
        model_: a `TemporalModel`. Its two classes are untrained, and named so.
        blob_: the bytes that it was made from, with provenance.
    """  # noqa: D205

    def __init__(
        self,
        *,
        embedding: tuple[int, ...] = (32,),
        augmentations: tuple[str, ...] = ("temporal_jitter", "drop_and_interpolate"),
        layers: int = 2,
        width: int | None = 32,
        q_heads: int = 4,
        kv_heads: int = 1,
        head_dim: int = 16,
        window: int = 32,
        block_size: int = 16,
        hidden: int = 64,
        pooling: str = "mean_spread",
        dropout: float = 0.1,
        steps: int = 300,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.01,
        batch_size: int = 32,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        super().__init__(
            layers=layers,
            width=width,
            q_heads=q_heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            window=window,
            block_size=block_size,
            hidden=hidden,
            pooling=pooling,
            dropout=dropout,
            steps=steps,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            random_state=random_state,
        )
        self.embedding = embedding
        self.augmentations = augmentations

    def fit(self, X: Cases, y: ArrayLike | None = None) -> Self:  # noqa: N803
        """Trains on all cases. A call that raises leaves the estimator as it was.

        Args:
            X: as `TemporalClassifier.fit`.
            y: whose each case is, a text or a whole number; None: every case is its own.

        Raises:
            ShapeError, DtypeError, NonFiniteError: X or y is something else, or X is a single case.
            ConfigError: a parameter that no model can have, an augmentation that does not suit X, or y in which
                there is one identity, or none with two cases.
            TrainingError: training diverged.
            MissingExtraError: PyTorch is not installed.
        """
        cases = as_cases(X, least=2)
        size = as_int("batch_size", self.batch_size, least=CASES_OF_ONE)
        batch = {"augmentations": _suitable(self.augmentations, cases)}
        if y is None:
            if not batch["augmentations"]:
                raise ConfigError("augmentations is empty: without y, two views of a case would be equal; name some")
            task, losses, numbers = "contrastive", {"contrastive": 1}, np.arange(len(cases))
            batch |= {"windows": min(size, len(cases))}  # a case twice in a step would be pushed away from itself
        else:
            task, losses, numbers = "identity", {"supervised_contrastive": 1}, _identities(y, len(cases))
            batch |= {"windows": size, "identities": max(2, size // CASES_OF_ONE)}
        losses |= {"cross_entropy": 0}
        blob = train(self, cases, numbers, self._seed(), task, NO_CLASSES, batch, losses, {"embedding": self.embedding})
        self.model_ = TemporalModel.from_bytes(blob)
        self.blob_, self.n_features_in_ = blob, cases[0].shape[1]
        return self

    def transform(self, X: Cases) -> Floats:  # noqa: N803
        """`[n_cases, E]`: the embedding at each case's last frame.

        Raises:
            NotFittedError: `fit` has not been called.
            ShapeError, DtypeError, NonFiniteError: X is no such cases, or has another number of channels.
        """
        return np.stack([prediction.embedding[-1] for prediction in self._last(X)])


# ----------------------------------------------------------------------------------------------- what comes in


def as_cases(X: Cases, least: int = 1) -> list[Floats]:  # noqa: N803
    """The cases as frames, float32 `[T, F]` each.

    Args:
        X: array (n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays.
        least: fewer cases are refused.

    Raises:
        ShapeError: other axes, an empty one, too few cases, or cases of different channels.
        DtypeError: something else than real numbers.
        NonFiniteError: NaN or infinity, also after rounding to float32.
    """
    if isinstance(X, list | tuple):
        arrays = [_numbers(f"X[{i}]", case, 2) for i, case in enumerate(X)]
    else:
        arrays = list(_numbers("X", X, 3))
    if len(arrays) < least:
        raise ShapeError(f"X has n_cases = {len(arrays)}; expected at least {least}")
    for i, case in enumerate(arrays):
        if len(case) != len(arrays[0]):
            raise ShapeError(
                f"X[{i}] has shape {case.shape} and X[0] {arrays[0].shape}; expected the same number of channels, "
                "which are the first axis of a case"
            )
    return [np.ascontiguousarray(case.T) for case in arrays]


def as_classes(y: ArrayLike, cases: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different labels, sorted, and the number `[n_cases]` of each case's label among them.

    Raises:
        ShapeError: not one label a case.
        DtypeError: something else than texts or whole numbers.
        NonFiniteError: NaN or infinity.
        ConfigError: all labels are the same.
    """
    if y is None:
        raise DtypeError("requires y to be passed, but the target y is None; give a label for each case")
    labels = np.asarray(y)
    if labels.shape != (cases,):
        raise ShapeError(f"y has shape {labels.shape} for {cases} cases; expected one label a case, ({cases},)")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise NonFiniteError("y contains NaN or infinity; expected a label for each case: leave the others out")
        if (labels != np.round(labels)).any():
            raise DtypeError("Unknown label type: y holds fractions; expected classes, as texts or whole numbers")
    elif labels.dtype.kind not in "biuU" and not all(isinstance(label, str) for label in labels):
        raise DtypeError(f"Unknown label type: y is an array of {labels.dtype}; expected texts or whole numbers")
    known, numbers = np.unique(labels, return_inverse=True)
    if len(known) < 2:
        raise ConfigError(f"y holds one class, {known.tolist()[0]!r}; expected at least two")
    return known, numbers.astype(np.int64)


def _identities(y: ArrayLike, cases: int) -> NDArray[np.int64]:
    _, numbers = as_classes(y, cases)
    if np.bincount(numbers).max() < 2:
        raise ConfigError("y gives every case an identity of its own, so none can be brought together; give y=None")
    return numbers


def _numbers(name: str, value: object, axes: int) -> Floats:
    """A float32 array of so many axes, none of them empty."""
    if isinstance(value, np.ma.MaskedArray):
        raise DtypeError(f"{name} is a masked array, whose mask would be lost; fill the masked values first")
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal lengths
        raise ShapeError(f"{name} is no array: {error}; expected {AXES}") from None
    if array.dtype.kind not in "biuf":
        raise DtypeError(
            f"{name} is an array of {array.dtype}; expected real numbers: cases of unequal lengths as a list, "
            "amplitudes in place of complex I/Q"
        )
    if array.ndim != axes:
        raise ShapeError(
            f"{name} has shape {array.shape}; expected {AXES}. One case is X[numpy.newaxis], "
            "one channel X[:, numpy.newaxis, :]"
        )
    if not array.size:
        raise ShapeError(f"{name} has shape {array.shape}; expected at least one channel and one time point a case")
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(array, np.float32)
    require_finite(name, rounded)
    return rounded


def _suitable(names: Sequence[str], cases: Sequence[Floats]) -> tuple[str, ...]:
    """The augmentations, if they are some that frames can go through."""
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in FRAME_AUGMENTATIONS:
            raise ConfigError(f"augmentations holds {name!r}; frames take {', '.join(FRAME_AUGMENTATIONS)}")
    if "gaussian_noise" in names and min(case.min() for case in cases) < 0:
        raise ConfigError("gaussian_noise is for amplitudes, and X holds negative numbers; leave it out")
    return names


# ------------------------------------------------------------------------------------------------- the training


def train(
    estimator: _TemporalEstimator,
    cases: Sequence[Floats],
    numbers: NDArray[np.int64],
    seed: int,
    task: str,
    classes: Sequence[str],
    batch: Mapping[str, Any],
    losses: Mapping[str, Any],
    sizes: Mapping[str, Any] | None = None,
) -> bytes:
    """A blob trained on frames `[T, F]` with a class or identity each. PyTorch's global generator stays as it was."""
    try:
        import torch

        from wifi_densepose_temporal.training.blob import to_blob
        from wifi_densepose_temporal.training.fit import fit
        from wifi_densepose_temporal.training.network import TemporalNetwork
    except ImportError as error:
        raise MissingExtraError(
            f"fitting needs PyTorch ({error}): pip install -c constraints.txt 'wifi-densepose-temporal[train]'"
        ) from None
    model, settings = _settings(estimator, batch, losses, sizes or {})
    scaler = StandardScaler().fit(np.concatenate(cases))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TemporalNetwork(model.sizes(cases[0].shape[1], len(classes)), model.head())
        network.mean.copy_(torch.from_numpy(scaler.mean_))
        network.scale.copy_(torch.from_numpy(1 / scaler.scale_))
        fit(network, _tracks(cases, numbers), settings, None, seed)
    facts = {
        "trained": settings.schedule.steps > 0,
        "task": task,
        "data": {"name": "arrays", "cases": len(cases), "sha256": _digest(cases, numbers)},
        "split": f"all {len(cases)} cases given to fit; what was held out from it is not known here.",
        "seeds": [seed],
        "config": {"model": model.model_dump(mode="json"), **settings.model_dump(mode="json")},
        "tool": f"wifi-densepose-temporal {metadata.version('wifi-densepose-temporal')}",
    }
    return without_chain(to_blob(network, labels=classes, chain=FeatureConfig(), provenance=facts)).serialize()
