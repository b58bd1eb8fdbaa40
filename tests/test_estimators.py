"""The scikit-learn estimators: they learn, and scikit-learn's own tools take them for its own."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from tests.estimator_cases import NEW_X, NEW_Y, SMALL, X, Y
from wifi_densepose_temporal import TemporalModel
from wifi_densepose_temporal.errors import FileError
from wifi_densepose_temporal.estimators import TemporalClassifier, TemporalEmbedder


@pytest.fixture(scope="module")
def classifier() -> TemporalClassifier:
    return TemporalClassifier(**SMALL).fit(X, Y)


@pytest.fixture(scope="module")
def embedder() -> TemporalEmbedder:
    return TemporalEmbedder(**SMALL, embedding=(8,)).fit(X, Y)


# --------------------------------------------------------------------------------------------------- what they learn


def test_a_classifier_tells_new_cases_apart(classifier: TemporalClassifier) -> None:
    assert classifier.score(NEW_X, NEW_Y) > 0.9
    assert classifier.classes_.tolist() == ["fast", "slow"]
    assert classifier.n_features_in_ == 2


def test_probabilities_are_in_the_order_of_the_classes(classifier: TemporalClassifier) -> None:
    probability = classifier.predict_proba(NEW_X)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    assert (classifier.classes_[probability.argmax(axis=1)] == classifier.predict(NEW_X)).all()


def test_a_decision_is_the_streaming_models_at_the_last_frame(classifier: TemporalClassifier) -> None:
    stream = classifier.model_.stream()
    for frame in NEW_X[0].T.astype(np.float32):
        decision = stream.push(frame)
    assert decision.labels == classifier.predict(NEW_X[:1])[0]
    np.testing.assert_allclose(decision.probabilities, classifier.predict_proba(NEW_X[:1])[0], atol=1e-6)


def test_cases_of_unequal_lengths_come_as_a_list() -> None:
    rng = np.random.default_rng(2)
    cut = [case[:, : rng.integers(16, 25)] for case in X]
    fitted = TemporalClassifier(**SMALL).fit(cut, Y)
    assert fitted.score([case[:, :20] for case in NEW_X], NEW_Y) > 0.9


def test_a_list_of_equal_lengths_is_the_array(classifier: TemporalClassifier) -> None:
    np.testing.assert_array_equal(classifier.predict_proba(list(NEW_X)), classifier.predict_proba(NEW_X))


def test_whole_numbers_are_classes_too() -> None:
    numbers = np.where(Y == "fast", 7, 3)
    fitted = TemporalClassifier(**{**SMALL, "steps": 2}).fit(X, numbers)
    assert fitted.classes_.tolist() == [3, 7]
    assert set(fitted.predict(NEW_X).tolist()) <= {3, 7}
    assert fitted.model_.labels == ("3", "7")
    objects = clone(fitted).fit(X, numbers.astype(object))
    assert (objects.classes_.dtype.kind, objects.blob_) == ("i", fitted.blob_)


def test_a_constant_channel_and_tiny_units_are_no_obstacle() -> None:
    def changed(cases: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([1e-6 * cases, np.full_like(cases[:, :1], 5.0)], axis=1)

    assert TemporalClassifier(**SMALL).fit(changed(X), Y).score(changed(NEW_X), NEW_Y) > 0.9


def neighbours(embedder: TemporalEmbedder) -> float:
    near = KNeighborsClassifier(3).fit(embedder.transform(X), Y)
    return float(near.score(embedder.transform(NEW_X), NEW_Y))


def test_with_identities_new_cases_lie_beside_their_own(embedder: TemporalEmbedder) -> None:
    vectors = embedder.transform(NEW_X)
    assert vectors.shape == (60, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert neighbours(embedder) > 0.9


def test_without_labels_the_embedding_still_tells_waves_apart() -> None:
    gained = TemporalEmbedder(**SMALL, embedding=(8,)).fit(X)
    assert gained.model_.provenance["task"] == "contrastive"
    assert neighbours(gained) > 0.75  # chance is 0.5


def test_fit_transform_is_fit_and_transform(embedder: TemporalEmbedder) -> None:
    np.testing.assert_array_equal(clone(embedder).fit_transform(X, Y), embedder.transform(X))


def test_an_embedders_classes_are_named_untrained(embedder: TemporalEmbedder) -> None:
    assert all(label.startswith("untrained") for label in embedder.model_.labels)


# ------------------------------------------------------------------------------------------------ what they leave


def test_one_random_state_gives_one_blob_and_another_another() -> None:
    quick = TemporalClassifier(**{**SMALL, "steps": 3})
    before = torch.get_rng_state()
    first, second = quick.fit(X, Y).blob_, clone(quick).fit(X, Y).blob_
    assert first == second
    assert clone(quick).set_params(random_state=1).fit(X, Y).blob_ != first
    assert torch.equal(torch.get_rng_state(), before)


def test_a_blob_says_where_it_comes_from(classifier: TemporalClassifier, embedder: TemporalEmbedder) -> None:
    said = classifier.model_.provenance
    assert (said["trained"], said["task"], said["seeds"]) == (True, "classification", [0])
    assert said["tool"].startswith("wifi-densepose-temporal ")
    assert said["data"]["cases"] == 96
    assert embedder.model_.provenance["task"] == "identity"
    assert classifier.model_.feature_chain is None


def test_the_data_digest_depends_on_every_case_and_label() -> None:
    quick = TemporalClassifier(**{**SMALL, "steps": 0})
    other_x, other_y = X.copy(), Y.copy()
    other_x[-1, 0, 0] += 1
    other_y[[np.argmax(Y == "fast"), np.argmax(Y == "slow")]] = ["slow", "fast"]
    given = ((X, Y), (other_x, Y), (X, other_y), (X[:-2], Y[:-2]))
    digests = [quick.fit(x, y).model_.provenance["data"]["sha256"] for x, y in given]
    assert len(set(digests)) == 4
    assert quick.fit(X.astype(np.float32), Y).model_.provenance["data"]["sha256"] == digests[0]


def test_without_steps_a_model_is_not_called_trained() -> None:
    assert TemporalClassifier(**{**SMALL, "steps": 0}).fit(X, Y).model_.trained is False


def test_an_unseeded_fit_names_the_seed_that_repeats_it() -> None:
    quick = TemporalClassifier(**{**SMALL, "steps": 2})
    drawn = clone(quick).set_params(random_state=None).fit(X, Y)
    (seed,) = drawn.model_.provenance["seeds"]
    assert quick.set_params(random_state=seed).fit(X, Y).blob_ == drawn.blob_


@pytest.mark.parametrize("seed", [np.int64(2**31 - 2), 2**32 - 1])  # the most that scikit-learn draws, and takes
def test_a_random_state_has_32_bits(seed: int) -> None:
    quick = TemporalClassifier(**{**SMALL, "steps": 2}).set_params(random_state=seed)
    assert quick.fit(X, Y).model_.provenance["seeds"] == [seed]


def test_a_random_state_that_is_a_generator_is_drawn_from() -> None:
    quick = TemporalClassifier(**{**SMALL, "steps": 2})
    twice = [clone(quick).set_params(random_state=np.random.RandomState(3)).fit(X, Y).blob_ for _ in range(2)]
    assert twice[0] == twice[1]


def test_a_saved_model_decides_as_the_estimator(classifier: TemporalClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "waves.rvne")
    model = TemporalModel.load(tmp_path / "waves.rvne")
    decided = [model.predict(case.T.astype(np.float32)).labels[-1] for case in NEW_X]
    assert decided == classifier.predict(NEW_X).tolist()
    with pytest.raises(FileError, match="cannot write"):
        classifier.save(tmp_path / "nowhere" / "waves.rvne")


def test_pickled_and_back_it_answers_the_same(classifier: TemporalClassifier, embedder: TemporalEmbedder) -> None:
    back = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(back.predict_proba(NEW_X), classifier.predict_proba(NEW_X))
    assert back.get_params() == classifier.get_params()
    assert back.model_.sha256 == classifier.model_.sha256
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(embedder)).transform(NEW_X), embedder.transform(NEW_X))


WITHOUT_TORCH = """
import pickle, sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] == "torch" else find(name, *rest)
import numpy as np
from wifi_densepose_temporal.errors import MissingExtraError
with open(sys.argv[1], "rb") as file:
    classifier, X, expected = pickle.load(file)
np.testing.assert_array_equal(classifier.predict_proba(X), expected)
try:
    classifier.fit(X, ["a", "b"] * (len(X) // 2))
except MissingExtraError as error:
    print(error)
assert "torch" not in sys.modules
"""


def test_a_fitted_classifier_needs_no_torch(classifier: TemporalClassifier, tmp_path: Path) -> None:
    stored = tmp_path / "classifier.pickle"
    stored.write_bytes(pickle.dumps((classifier, NEW_X, classifier.predict_proba(NEW_X))))
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, stored], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "fitting needs torch" in run.stdout


# ------------------------------------------------------------------------------------------ scikit-learn's own tools


def test_groups_are_kept_apart_and_held_out_groups_are_recognised() -> None:
    groups = np.arange(96) % 4
    folds = cross_validate(
        TemporalClassifier(**SMALL),
        X,
        Y,
        groups=groups,
        cv=GroupKFold(2),
        return_estimator=True,
        return_indices=True,
    )
    assert folds["test_score"].min() > 0.9
    for fitted, train, test in zip(folds["estimator"], *folds["indices"].values(), strict=True):
        assert set(groups[train]).isdisjoint(groups[test])
        again = clone(fitted).set_params(steps=0).fit(X[train], Y[train])
        assert again.model_.provenance["data"] == fitted.model_.provenance["data"]


def test_cross_validation_in_two_processes_of_cases_of_unequal_lengths() -> None:
    cut = [case[:, : 20 + i % 5] for i, case in enumerate(X)]
    scores = cross_val_score(TemporalClassifier(**SMALL), cut, Y, cv=2, n_jobs=2, error_score="raise")
    assert scores.min() > 0.9


def test_an_embedder_in_a_pipeline_gets_the_labels(embedder: TemporalEmbedder) -> None:
    pipeline = make_pipeline(clone(embedder), KNeighborsClassifier(3)).fit(X, Y)
    assert pipeline[0].blob_ == embedder.blob_
    assert pipeline.score(NEW_X, NEW_Y) > 0.9


def test_a_grid_of_parameters_is_searched() -> None:
    grid = GridSearchCV(TemporalClassifier(**SMALL), {"steps": np.array([0, 120])}, cv=2, error_score="raise")
    assert grid.fit(X, Y).best_params_ == {"steps": 120}


def test_a_clone_has_the_parameters_and_nothing_that_was_learned(classifier: TemporalClassifier) -> None:
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(NEW_X)


DATALESS_CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
)


@pytest.mark.parametrize("kind", [TemporalClassifier, TemporalEmbedder])
@pytest.mark.parametrize("check", DATALESS_CHECKS)
def test_scikit_learns_checks_without_data(check: str, kind: type) -> None:
    getattr(estimator_checks, check)(kind.__name__, kind())


def lifted(X: Any) -> Any:
    """scikit-learn's checks give (n_cases, n_features): one time point a case."""
    array = np.asarray(X)
    return array[..., np.newaxis] if array.ndim == 2 else array


class FlatClassifier(TemporalClassifier):
    def fit(self, X: Any, y: Any) -> FlatClassifier:
        return super().fit(lifted(X), y)

    def predict(self, X: Any) -> NDArray[Any]:
        return super().predict(lifted(X))

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        return super().predict_proba(lifted(X))


class FlatEmbedder(TemporalEmbedder):
    def fit(self, X: Any, y: Any = None) -> FlatEmbedder:
        return super().fit(lifted(X), y)

    def transform(self, X: Any) -> NDArray[np.float32]:
        return super().transform(lifted(X))


# Of scikit-learn's checks that give data, those that ask nothing of the words of a refusal, nor for what is refused on
# purpose: arrays of objects, sparse ones, y of two axes.
DATA_CHECKS = (
    "check_fit_score_takes_y",
    "check_estimators_overwrite_params",
    "check_dont_overwrite_parameters",
    "check_estimators_fit_returns_self",
    "check_readonly_memmap_input",
    "check_estimators_unfitted",
    "check_estimators_dtypes",
    "check_pipeline_consistency",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_fit2d_1feature",
    "check_dict_unchanged",
    "check_fit_idempotent",
    "check_fit_check_is_fitted",
    "check_n_features_in",
    "check_fit1d",
)
CLASSIFIER_CHECKS = (
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_supervised_y_no_nan",
    "check_requires_y_none",
)
TRANSFORMER_CHECKS = (
    "check_transformer_general",
    "check_transformers_unfitted",
    "check_transformer_data_not_an_array",
    "check_transformer_preserve_dtypes",
)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("kind", "check"),
    [(FlatClassifier, check) for check in (*DATA_CHECKS, *CLASSIFIER_CHECKS)]
    + [(FlatEmbedder, check) for check in (*DATA_CHECKS, *TRANSFORMER_CHECKS)],
)
def test_scikit_learns_checks_with_one_time_point_a_case(
    kind: type, check: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)  # models of two steps are doubtful
    getattr(estimator_checks, check)(kind.__name__, kind(**{**SMALL, "steps": 2}))
