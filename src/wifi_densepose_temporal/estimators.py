"""scikit-learn's interface over the training loop: arrays and labels in, a `TemporalModel` out.

X is an array (n_cases, n_channels, n_timepoints), or a list of (n_channels, n_timepoints) arrays where the cases have
unequal lengths. Axes are taken in this order and never guessed. A case's channels at one time point are one frame of
the model, as they are: no feature chain comes before it, and its own standardisation is learned in `fit`.

Fitting needs PyTorch (extra `train`). Everything after it runs in the C core and does not import PyTorch, also in
another process that unpickles the estimator. Not here: captures (`csi`), data sets and splits (`datasets`).

Letters: T time points of a case, F channels, C classes, E embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal.cases import AXES, Cases, Floats, as_cases, as_classes
from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.errors import ConfigError, MissingExtraError, ShapeError
from wifi_densepose_temporal.files import write_whole
from wifi_densepose_temporal.model import Prediction, TemporalModel
from wifi_densepose_temporal.rvne import records

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin  # type: ignore[import-untyped]
    from sklearn.utils import check_random_state  # type: ignore[import-untyped]
    from sklearn.utils.validation import check_is_fitted  # type: ignore[import-untyped]
except ImportError as error:
    raise MissingExtraError(
        f"the estimators need scikit-learn ({error}): pip install '.[evaluate]' from a clone, "
        "or '.[train]', which can fit them as well"
    ) from None

#: Parameters that are `ModelSettings`' and `ScheduleSettings`' under the same names.
MODEL = ("layers", "width", "q_heads", "kv_heads", "head_dim", "window", "block_size", "hidden", "pooling", "dropout")
SCHEDULE = ("steps", "learning_rate", "weight_decay")

#: What can be done to frames whose channels mean anything. The others move or mask neighbouring subcarriers, turn the
#: phase of I/Q, or change times, which frames do not have.
FRAME_AUGMENTATIONS = ("temporal_jitter", "drop_and_interpolate", "amplitude_scaling", "gaussian_noise")

#: Of the embedding projection's sizes: a blob holds them in 16 bits.
MAX_EMBEDDING = 2**16 - 1


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
        window: int = 16,
        block_size: int = 16,
        hidden: int = 64,
        pooling: str = "mean_spread",
        dropout: float = 0.1,
        steps: int = 300,
        learning_rate: float = 5e-3,
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
        """X has three axes."""
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

    def _trained(
        self,
        cases: Sequence[Floats],
        numbers: NDArray[np.int64],
        task: str,
        classes: Sequence[str],
        batch: Mapping[str, Any],
        losses: Mapping[str, float],
        **sizes: Any,
    ) -> bytes:
        """A blob that has learned from frames `[T, F]` with a number for the class or identity of each case."""
        _require_training()
        from wifi_densepose_temporal.training.arrays import train_cases

        if self.pooling == "last_n":
            raise ConfigError("pooling is 'last_n', for streams without an end; expected mean_spread, mean or last")
        model = {name: getattr(self, name) for name in MODEL} | sizes
        schedule = {name: getattr(self, name) for name in SCHEDULE}
        loop = {"batch": batch, "losses": losses, "schedule": schedule}
        return train_cases(cases, numbers, model, loop, classes=classes, task=task, seed=self._seed())

    def _windows(self, cases: Sequence[Floats], least: int) -> int:
        return min(as_int("batch_size", self.batch_size, least), len(cases))

    def _seed(self) -> int:
        """The number given; or one drawn from a generator, or from nowhere, which the provenance then says."""
        given = self.random_state
        if given is None or isinstance(given, np.random.RandomState):
            return int(check_random_state(given).randint(2**31 - 1))
        if isinstance(given, bool) or not isinstance(given, Integral) or not 0 <= given < 2**32:
            raise ConfigError(
                f"random_state is {given!r}; expected a whole number from 0 to {2**32 - 1}, a "
                "numpy.random.RandomState, or None"
            )
        return int(given)


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
        random_state: of weights, draws and dropout. With a whole number, from 0 to 2^32 - 1, the same data give the
            same blob, on one machine and with one number of threads.

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
        batch = {"windows": self._windows(cases, least=1)}
        blob = self._trained(cases, numbers, "classification", names, batch, {})
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
    """A unit vector for each case, near those of cases like it.

    With identities as y, cases of one identity come to lie near each other (supervised contrastive loss); with y=None,
    a case and its augmented copies do, far from all other cases (NT-Xent and VICReg).

    In a `Pipeline` that is fitted with labels, the embedder gets them, too.

    Args:
        embedding: sizes of the projection from pooled vector to embedding: () for none, (E,) or (H, E).
        augmentations: what each drawn case goes through, two or more of them at a time; some of `temporal_jitter` and
            `drop_and_interpolate` (for any channels that vary slowly), `amplitude_scaling` (one gain for all channels:
            leave it out where zero is an arbitrary number, or absolute size tells cases apart) and `gaussian_noise`
            (relative to a frame's power: for amplitudes, which are never negative).
        batch_size: cases a step, at least 2, or all of them where there are fewer.
        layers, width, q_heads, kv_heads, head_dim, window, block_size, hidden, pooling, dropout: as
            `TemporalClassifier`'s.
        steps, learning_rate, weight_decay, random_state: as `TemporalClassifier`'s.

    Attributes:
        n_features_in_: number of channels.
        model_: a `TemporalModel`. Its two classes are untrained, and named so.
        blob_: the bytes that it was made from, with provenance.
    """

    def __init__(
        self,
        *,
        embedding: tuple[int, ...] = (32,),
        augmentations: tuple[str, ...] = ("temporal_jitter", "drop_and_interpolate", "amplitude_scaling"),
        layers: int = 2,
        width: int | None = 32,
        q_heads: int = 4,
        kv_heads: int = 1,
        head_dim: int = 16,
        window: int = 16,
        block_size: int = 16,
        hidden: int = 64,
        pooling: str = "mean_spread",
        dropout: float = 0.1,
        steps: int = 300,
        learning_rate: float = 5e-3,
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
        augmentations, embedding = _suitable(self.augmentations, cases), _projection(self.embedding)
        if y is not None:
            task, loss, numbers = "identity", "supervised_contrastive", _identities(y, len(cases))
        elif augmentations:
            task, loss, numbers = "contrastive", "contrastive", np.arange(len(cases))
        else:
            raise ConfigError("augmentations is empty, and without y two views of a case would be equal; name some")
        # A case comes once in a step at most: two copies of it would be pushed apart, or be all too easily near.
        batch = {"windows": self._windows(cases, least=2), "augmentations": augmentations}
        losses = {"cross_entropy": 0.0, loss: 1.0}
        blob = self._trained(cases, numbers, task, records.UNTRAINED_CLASSES, batch, losses, embedding=embedding)
        self.model_ = TemporalModel.from_bytes(blob)
        self.blob_, self.n_features_in_ = blob, cases[0].shape[1]
        return self

    def __sklearn_tags__(self) -> Any:
        """Embeddings are float32, whatever X is."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def transform(self, X: Cases) -> Floats:  # noqa: N803
        """`[n_cases, E]`: the embedding at each case's last frame.

        Raises:
            NotFittedError: `fit` has not been called.
            ShapeError, DtypeError, NonFiniteError: X is no such cases, or has another number of channels.
        """
        return np.stack([prediction.embedding[-1] for prediction in self._last(X)])


# ---------------------------------------------------------------------------------------- what training is given


def _identities(y: ArrayLike, cases: int) -> NDArray[np.int64]:
    _, numbers = as_classes(y, cases)
    if np.bincount(numbers).max() < 2:
        raise ConfigError("y gives every case an identity of its own, so none can be brought together; give y=None")
    return numbers


def _projection(sizes: object) -> tuple[int, ...]:
    """The sizes of an embedder's projection, if a blob can hold them."""
    if not isinstance(sizes, list | tuple) or len(sizes) > 2:
        raise ConfigError(f"embedding is {sizes!r}; expected (), (E,) or (H, E), such as (32,)")
    checked = tuple(as_int("a size in embedding", size, least=1) for size in sizes)
    if max(checked, default=1) > MAX_EMBEDDING:
        raise ConfigError(f"embedding is {sizes!r}; expected sizes of at most {MAX_EMBEDDING}")
    return checked


def _suitable(names: object, cases: Sequence[Floats]) -> tuple[str, ...]:
    """The augmentations, if they are some that frames can go through."""
    if not isinstance(names, str | list | tuple):
        raise ConfigError(f"augmentations is {names!r}; expected some of {', '.join(FRAME_AUGMENTATIONS)}, or ()")
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in FRAME_AUGMENTATIONS:
            raise ConfigError(f"augmentations holds {name!r}; frames take {', '.join(FRAME_AUGMENTATIONS)}")
    if "gaussian_noise" in names and min(case.min() for case in cases) < 0:
        raise ConfigError("gaussian_noise is for amplitudes, and X holds negative numbers; leave it out")
    return names


def _require_training() -> None:
    missing = [name for name in ("torch", "pytorch_metric_learning", "pydantic") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"fitting needs {', '.join(missing)}; install them with "
            "pip install -c constraints.txt '.[train]' from a clone"
        )
