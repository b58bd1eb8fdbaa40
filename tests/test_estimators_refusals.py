"""What the scikit-learn estimators refuse: in a sentence, before training, and leaving what was fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from tests.estimator_cases import NEW_X, SMALL, X, Y
from wifi_densepose_temporal.errors import (
    BlobRecordError,
    ConfigError,
    DtypeError,
    NonFiniteError,
    ShapeError,
    TemporalError,
)
from wifi_densepose_temporal.estimators import TemporalClassifier, TemporalEmbedder

QUICK = {**SMALL, "steps": 2}


@pytest.fixture(scope="module")
def classifier() -> TemporalClassifier:
    return TemporalClassifier(**QUICK).fit(X, Y)


@pytest.fixture(scope="module")
def embedder() -> TemporalEmbedder:
    return TemporalEmbedder(**QUICK).fit(X, Y)


def broken(number: float) -> NDArray[np.float64]:
    """X with one number changed."""
    cases = X.copy()
    cases[3, 1, 5] = number
    return cases


REFUSED_X = {
    "two axes": (X[:, 0], ShapeError, r"shape \(96, 24\); expected \(n_cases, n_channels, n_timepoints\)"),
    "four axes": (X[None], ShapeError, r"shape \(1, 96, 2, 24\); expected"),
    "a list of rows": (list(X[:, 0]), ShapeError, r"X\[0\] has shape \(24,\)"),
    "objects": (X.astype(object), DtypeError, "cases of unequal lengths as a list"),
    "complex": (X + 1j, DtypeError, "amplitudes in place of complex"),
    "texts": (X.astype(str), DtypeError, "expected a dense array of real numbers"),
    "masked": (np.ma.masked_less(X, 0), DtypeError, "whose mask would be lost"),
    "NaN": (broken(np.nan), NonFiniteError, r"X\[3, 1, 5\] is nan"),
    "infinity": (broken(np.inf), NonFiniteError, r"X\[3, 1, 5\] is inf"),
    "beyond float32": (broken(1e300), NonFiniteError, r"X\[3, 1, 5\] is inf"),
    "beyond a model": (broken(-2e12), NonFiniteError, r"X\[3, 1, 5\] is -.*expected finite numbers within"),
    "NaN in a list": (list(broken(np.nan)), NonFiniteError, r"X\[3\]\[1, 5\] is nan"),
    "no time": (X[:, :, :0], ShapeError, "at least one channel and one time point"),
    "no channels": (X[:, :0], ShapeError, "at least one channel and one time point"),
    "a case without time": ([*X[:-1], X[-1, :, :0]], ShapeError, r"X\[95\] has shape \(2, 0\)"),
    "channels that differ": ([*X[:-1], X[-1, :1]], ShapeError, r"X\[95\] has shape \(1, 24\) and X\[0\] \(2, 24\)"),
    "cases turned round": ([*X[:-1], X[-1].T], ShapeError, "the first axis of a case"),
    "rows of unequal lengths": ([[[1.0, 2.0], [3.0]]], ShapeError, r"X\[0\] is no array"),
}


@pytest.mark.parametrize("kind", [TemporalClassifier, TemporalEmbedder])
@pytest.mark.parametrize(("given", "error", "sentence"), REFUSED_X.values(), ids=REFUSED_X)
def test_what_is_no_set_of_cases_is_refused(kind: type, given: Any, error: type, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        kind(**SMALL).fit(given, Y)


@pytest.mark.parametrize("kind", [TemporalClassifier, TemporalEmbedder])
@pytest.mark.parametrize("given", [X[:1], list(X[:1]), []])
def test_a_single_case_is_refused_in_fit(kind: type, given: Any) -> None:
    with pytest.raises(ShapeError, match="expected at least 2"):
        kind(**SMALL).fit(given, Y[: len(given)])


def test_a_single_case_is_welcome_in_predict(classifier: TemporalClassifier) -> None:
    assert classifier.predict(NEW_X[:1]).shape == (1,)
    with pytest.raises(ShapeError, match=r"One case is X\[numpy.newaxis\]"):
        classifier.predict(NEW_X[0])


def test_other_channels_than_in_fit_are_refused(classifier: TemporalClassifier, embedder: TemporalEmbedder) -> None:
    with pytest.raises(ShapeError, match="X has 1 channels, and TemporalClassifier was fitted on 2"):
        classifier.predict(NEW_X[:, :1])
    with pytest.raises(ShapeError, match="X has 24 channels, and TemporalEmbedder was fitted on 2"):
        embedder.transform(NEW_X.transpose(0, 2, 1))


def test_swapped_axes_are_taken_as_they_are_and_never_guessed() -> None:
    fitted = TemporalClassifier(**{**SMALL, "steps": 0}).fit(X.transpose(0, 2, 1), Y)
    assert fitted.n_features_in_ == 24


REFUSED_Y = {
    "too few": (Y[:-1], ShapeError, r"y has shape \(95,\) for 96 cases"),
    "a column": (Y[:, None], ShapeError, r"expected one label a case, \(96,\)"),
    "one class": (np.full(96, "fast"), ConfigError, "y holds one class, 'fast'"),
    "fractions": (np.linspace(0, 1, 96), ConfigError, "expected classes"),
    "NaN": (np.where(Y == "fast", np.nan, 1.0), NonFiniteError, "y contains NaN"),
    "objects": (np.array([None, *Y[1:]], dtype=object), ConfigError, "expected texts or whole numbers"),
    "numbers and texts": (np.array([1, *Y[1:]], dtype=object), ConfigError, "expected texts or whole numbers"),
    "numbers beyond 64 bits": (np.array([2**63, *[-1] * 95], dtype=object), ConfigError, "expected texts or whole"),
}


@pytest.mark.parametrize("kind", [TemporalClassifier, TemporalEmbedder])
@pytest.mark.parametrize(("given", "error", "sentence"), REFUSED_Y.values(), ids=REFUSED_Y)
def test_what_is_no_label_for_each_case_is_refused(kind: type, given: Any, error: type, sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        kind(**SMALL).fit(X, given)


def test_a_class_that_no_table_can_show_is_refused_before_training() -> None:
    with pytest.raises(BlobRecordError, match="expected printable text"):
        TemporalClassifier(**{**SMALL, "steps": 10**9}).fit(X, np.where(Y == "fast", "a\nb", "c"))


def test_identities_of_one_case_each_are_refused() -> None:
    with pytest.raises(ConfigError, match="an identity of its own"):
        TemporalEmbedder(**SMALL).fit(X, np.arange(96))


REFUSED_PARAMETERS = {
    "layers": ({"layers": 0}, "layers: .*greater than or equal to 1"),
    "heads": ({"q_heads": 3, "kv_heads": 2}, "q_heads"),
    "pooling": ({"pooling": "median"}, "pooling: "),
    "last_n": ({"pooling": "last_n"}, "expected mean_spread, mean or last"),
    "learning_rate": ({"learning_rate": 0.0}, "learning_rate: .*greater than 0"),
    "batch_size": ({"batch_size": 0}, "batch_size is 0"),
    "random_state": ({"random_state": "lucky"}, "random_state is 'lucky'"),
    "random_state beyond 32 bits": ({"random_state": 2**32}, "expected a whole number from 0 to 4294967295"),
    "random_state below 0": ({"random_state": -1}, "random_state is -1"),
    "narrow": ({"width": None, "dropout": 1.0}, "dropout: "),
}


@pytest.mark.parametrize(("changes", "sentence"), REFUSED_PARAMETERS.values(), ids=REFUSED_PARAMETERS)
def test_a_parameter_out_of_range_is_refused_by_its_name(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TemporalClassifier(**{**SMALL, **changes}).fit(X, Y)


def test_augmentations_that_do_not_suit_are_refused() -> None:
    def fit(X: NDArray[np.float64], *names: str) -> TemporalEmbedder:
        return TemporalEmbedder(**{**SMALL, "steps": 1}, augmentations=names).fit(X)

    with pytest.raises(ConfigError, match="gaussian_noise is for amplitudes"):
        fit(X, "gaussian_noise")
    with pytest.raises(ConfigError, match="'phase_rotation'; frames take temporal_jitter"):
        fit(X, "temporal_jitter", "phase_rotation")
    with pytest.raises(ConfigError, match="augmentations is empty"):
        fit(X)
    fit(np.abs(X), "gaussian_noise", "amplitude_scaling")


@pytest.mark.parametrize("given", [None, 5])
def test_augmentations_that_are_no_names_are_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=f"augmentations is {given}; expected some of temporal_jitter"):
        TemporalEmbedder(**QUICK, augmentations=given).fit(X)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (None, r"embedding is None; expected \(\), \(E,\) or \(H, E\)"),
        ((4, 4, 4), r"embedding is \(4, 4, 4\); expected"),
        ((-1,), "a size in embedding is -1; expected at least 1"),
        ((0,), "a size in embedding is 0; expected at least 1"),
        ((8.0,), "a size in embedding is 8.0; expected a whole number"),
        ((2**16,), "expected sizes of at most 65535"),
    ],
)
def test_an_embedding_that_no_blob_can_hold_is_refused(given: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        TemporalEmbedder(**QUICK, embedding=given).fit(X)


def test_before_fit_everything_is_refused(tmp_path: Path) -> None:
    for use in (lambda: TemporalClassifier().predict(X), lambda: TemporalEmbedder().transform(X)):
        with pytest.raises(NotFittedError):
            use()
    with pytest.raises(NotFittedError):
        TemporalClassifier().save(tmp_path / "nothing.rvne")
    assert not list(tmp_path.iterdir())


def test_a_refused_fit_leaves_what_was_fitted(classifier: TemporalClassifier) -> None:
    before = classifier.predict_proba(NEW_X)
    with pytest.raises(TemporalError):
        classifier.fit(broken(np.nan), Y)
    np.testing.assert_array_equal(classifier.predict_proba(NEW_X), before)
