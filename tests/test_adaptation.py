"""Adapting a model: what the closed form does with new windows, when it refuses, and what it leaves in the blob."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from tests.cli.conftest import Wdt, wdt
from tests.evaluation.recordings import CHAIN, HEADER, LABELS, SUBCARRIERS, make_blob
from wifi_densepose_temporal import TemporalModel, WeightBlobView, adaptation
from wifi_densepose_temporal.adaptation import Classifier, ClassStatistics, Validation, Windows
from wifi_densepose_temporal.datasets import Recording, read_manifest
from wifi_densepose_temporal.errors import AdaptationError, BlobModelError, BlobRecordError, ConfigError, FormatError
from wifi_densepose_temporal.evaluation import seen_in_training
from wifi_densepose_temporal.rvne import records

__all__ = ["wdt"]  # the fixture

CLASSES, SIZE = 4, 6
MEANS = 3 * np.random.default_rng(4).normal(size=(CLASSES, SIZE))
NOTHING = Classifier(np.zeros((SIZE, CLASSES)), np.eye(CLASSES)[0])


def windows_of(of_class: int, seed: int, *, moved: Any = 0.0, classes: Any = range(CLASSES)) -> Windows:
    """`of_class` windows of each class, each a recording of its own, around means that are `moved`."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.asarray(classes), of_class)
    pooled = MEANS[label] + moved + rng.normal(size=(len(label), SIZE)) * np.linspace(0.2, 1, SIZE)
    return Windows(pooled, label, np.arange(len(label)))


SOURCE = adaptation.measure(windows_of(50, 0), CLASSES)


# --------------------------------------------------------------------------------------------------- the closed form


def test_without_any_move_it_is_linear_discriminant_analysis() -> None:
    """With so many new windows that training weighs nothing, and hardly shrunk: scikit-learn's decisions."""
    new, other = windows_of(3000, 1), windows_of(500, 2)
    refitted = adaptation.refit(SOURCE, new)
    expected = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(CLASSES, 1 / CLASSES))
    agreed = expected.fit(new.pooled, new.label).predict(other.pooled)
    decided = (other.pooled @ refitted.weight + refitted.bias).argmax(1)
    assert (decided == agreed).mean() > 0.995


def test_a_class_without_a_new_window_moves_along_with_the_others() -> None:
    moved = np.full(SIZE, 20.0)
    few, rest = windows_of(2, 1, moved=moved, classes=(0, 1, 2)), windows_of(100, 2, moved=moved, classes=(3,))
    assert adaptation.refit(SOURCE, few).right(rest).all()


@pytest.mark.parametrize("new_windows", [2, 0])
def test_a_class_that_training_had_no_window_of_spoils_no_other(new_windows: int) -> None:
    moved = np.full(SIZE, 30.0)
    source = adaptation.measure(windows_of(50, 0, moved=moved, classes=(0, 1, 2)), CLASSES)
    given = (0, 1, 2, 3) if new_windows else (0, 1)
    few = windows_of(2, 1, moved=moved, classes=given)
    refitted = adaptation.refit(source, few)
    for of_class in (0, 1, 2):
        assert refitted.right(windows_of(100, 2, moved=moved, classes=(of_class,))).mean() > 0.95
    assert (refitted.right(windows_of(100, 2, moved=moved, classes=(3,))).mean() > 0.95) == bool(new_windows)


def test_features_in_other_units_change_no_decision() -> None:
    units = 10.0 ** np.arange(-3, 3)
    few, rest = windows_of(2, 1, moved=1.0), windows_of(100, 2, moved=1.0)
    scaled = ClassStatistics(SOURCE.windows, SOURCE.mean * units, SOURCE.covariance * np.outer(units, units))

    def decided(statistics: ClassStatistics, factor: NDArray[np.float64] | float) -> NDArray[np.int64]:
        refitted = adaptation.refit(statistics, Windows(few.pooled * factor, few.label, few.recording))
        return np.asarray((rest.pooled * factor @ refitted.weight + refitted.bias).argmax(1))

    assert (decided(SOURCE, 1.0) == decided(scaled, units)).mean() > 0.99  # 1e-6 is added to each spread


def test_more_new_recordings_decide_better() -> None:
    move = 2 * np.random.default_rng(9).normal(size=(CLASSES, SIZE))  # each class in a direction of its own
    rest = windows_of(200, 3)
    rest = Windows(rest.pooled + move[rest.label], rest.label, rest.recording)
    right = []
    for count in (1, 4, 16):
        few = windows_of(count, 2)
        right.append(
            adaptation.refit(SOURCE, Windows(few.pooled + move[few.label], few.label, few.recording)).right(rest).sum()
        )
    assert right == sorted(right)
    assert right[-1] > 0.95 * len(rest)


def test_statistics_that_are_no_covariance_are_refused() -> None:
    broken = ClassStatistics(SOURCE.windows, SOURCE.mean, SOURCE.covariance - 2 * np.diag(np.diag(SOURCE.covariance)))
    with pytest.raises(BlobModelError, match="no covariance"), np.errstate(invalid="ignore"):
        adaptation.refit(broken, windows_of(1, 1))


# -------------------------------------------------------------------------------------------------------- refusals


def test_a_refit_that_helps_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    good = windows_of(5, 1, moved=3.0)
    assert adaptation.validate(SOURCE, NOTHING, good).helps
    shuffled = Windows(good.pooled, rng.permutation(good.label), good.recording)
    assert not adaptation.validate(SOURCE, NOTHING, shuffled).helps
    perfect = adaptation.refit(SOURCE, good)
    saturated = adaptation.validate(SOURCE, perfect, good)
    assert saturated.before == len(good)
    assert not saturated.helps


def test_less_than_before_is_borne_only_where_the_check_knew_next_to_nothing() -> None:
    few = Validation(14, 14, before=11, after=10, error=1.5, seen=14, most_frequent=2, scarce=True)
    assert few.helps
    assert not dataclasses.replace(few, scarce=False).helps
    assert not dataclasses.replace(few, after=9).helps
    assert not dataclasses.replace(few, after=11, scarce=False).helps
    assert dataclasses.replace(few, after=12, scarce=False).helps
    for of_class, scarce in ((1, True), (2, True), (3, False)):
        assert adaptation.validate(SOURCE, NOTHING, windows_of(of_class, 1)).scarce == scarce


def test_the_recording_decided_is_not_among_those_it_is_decided_by() -> None:
    """A recording that lies apart from all others of its class is decided wrong by them."""
    base = windows_of(2, 1)
    apart = (MEANS[0] + MEANS[1]) / 2 + 0.1 * (MEANS[1] - MEANS[0])  # nearer to class 1, and called class 0
    odd = Windows(np.vstack([base.pooled, apart]), np.append(base.label, 0), np.append(base.recording, 99))
    check = adaptation.validate(SOURCE, NOTHING, odd)
    assert check.seen == len(odd)
    assert check.after == len(odd) - 1


@given(st.lists(st.integers(2, 5), min_size=2, max_size=4), st.integers(0, 999))
def test_every_class_is_in_every_fold_and_no_recording_in_two(counts: list[int], seed: int) -> None:
    label = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    windows = Windows(np.zeros((2 * len(label), 1)), np.repeat(label, 2), np.repeat(np.arange(len(label)), 2))
    fold = adaptation.folds(windows)
    assert len(set(fold)) == min(counts)
    for number in set(fold.tolist()):
        assert set(windows.label[fold == number]) == set(label)
    assert (fold[::2] == fold[1::2]).all()


def test_recordings_of_one_each_or_of_several_classes_are_folds_by_themselves() -> None:
    alone = Windows(np.zeros((3, 1)), np.array([0, 1, 2]), np.array([5, 6, 7]))
    mixed = Windows(np.zeros((4, 1)), np.array([0, 1, 0, 1]), np.array([5, 5, 6, 6]))
    assert adaptation.folds(alone).tolist() == [0, 1, 2]
    assert adaptation.folds(mixed).tolist() == [0, 0, 1, 1]


# ----------------------------------------------------------------------------------------------------- on recordings


def make_place(folder: Path, room: int, of_class: int, labels: tuple[str, ...] = LABELS) -> tuple[Recording, ...]:
    """Recordings of one second, each of one class: what a class does to the channel, seen through the room's own."""
    profile = np.random.default_rng(3).uniform(0.5, 2, (len(labels), SUBCARRIERS))
    walls = np.random.default_rng([room, 5]).uniform(0.7, 1.4, SUBCARRIERS)
    rng, rows = np.random.default_rng([room, 6]), [HEADER]
    folder.mkdir()
    for number in range(of_class * len(labels)):
        which = number % len(labels)
        packets = profile[which] * walls + rng.normal(0, 0.02, (100, SUBCARRIERS))
        np.save(folder / f"r{number}.npy", np.abs(packets).astype(np.float32).T)
        rows.append(f"r{number}.npy,{labels[which]},,1,s{room},{room},{number:03d},100")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(folder / "manifest.csv").recordings


@pytest.fixture
def carrying(tmp_path: Path) -> bytes:
    """A blob of random weights with the statistics of a first room."""
    facts = {"trained": True, "task": "activity", "data": {"recordings": ["home"], "sha256": ["00"]}}
    return adaptation.with_statistics(make_blob(provenance=facts), make_place(tmp_path / "home", 1, 6))


def test_an_adapted_blob_decides_as_its_refit_does_and_says_where_it_comes_from(
    carrying: bytes, tmp_path: Path
) -> None:
    given, other = make_place(tmp_path / "given", 2, 3), make_place(tmp_path / "new", 3, 8)
    made = adaptation.adapt(carrying, given)
    model, before = TemporalModel.from_bytes(made.blob), TemporalModel.from_bytes(carrying)
    assert made.validation.helps
    assert made.windows == dict.fromkeys(LABELS, 3)

    seen = adaptation.windows_in(carrying, other)
    refitted = adaptation.refit(
        adaptation.statistics_of(before, WeightBlobView.parse(carrying)), adaptation.windows_in(carrying, given)
    )
    scores = adaptation.classifier_of(model, WeightBlobView.parse(made.blob))
    logits = seen.pooled @ scores.weight + scores.bias
    np.testing.assert_allclose(logits, seen.pooled @ refitted.weight + refitted.bias, rtol=1e-4, atol=1e-2)
    with_bias = WeightBlobView.parse(made.blob).record("classifier_bias")
    assert with_bias is not None
    assert with_bias.critical

    facts = model.provenance
    assert facts["adapted"]["from"] == before.sha256
    assert "Then adapted with 9 recordings: 1 person (1), 1 session (s2)" in facts["split"]
    assert facts["adapted"]["recordings"] == [one.name for one in given]
    assert facts["data"]["recordings"] == ["home", *(one.name for one in given)]
    assert seen_in_training(model, [*given, *other]) == tuple(one.name for one in given)


def test_an_adapted_blob_runs_in_the_core_with_its_bias(carrying: bytes, tmp_path: Path) -> None:
    made = adaptation.adapt(carrying, make_place(tmp_path / "given", 2, 3))
    model, view = TemporalModel.from_bytes(made.blob), WeightBlobView.parse(made.blob)
    frames = np.random.default_rng(0).uniform(0, 1, (30, CHAIN.input_dim)).astype(np.float32)
    classifier = adaptation.classifier_of(model, view)
    plain = TemporalModel.from_bytes(carrying)
    pooled = plain.predict(frames).embedding  # no projection: the pooled vectors, of length 1
    logits = model.predict(frames).logits - classifier.bias
    cosine = np.sum(logits * (pooled @ classifier.weight), 1) / (
        np.linalg.norm(logits, axis=1) * np.linalg.norm(pooled @ classifier.weight, axis=1)
    )
    np.testing.assert_allclose(cosine, 1, atol=1e-4)


def test_what_cannot_be_adapted_says_why(carrying: bytes, tmp_path: Path) -> None:
    given = make_place(tmp_path / "given", 2, 3)
    with pytest.raises(AdaptationError, match="carries no class statistics"):
        adaptation.adapt(make_blob(), given)
    with pytest.raises(AdaptationError, match="at least two"):
        adaptation.adapt(carrying, given[:1])
    shutil.copy(given[0].path, tmp_path / "given" / "again.npy")
    again = dataclasses.replace(given[0], path=tmp_path / "given" / "again.npy", name="again.npy")
    with pytest.raises(AdaptationError, match=r"again\.npy is a copy of r0\.npy"):
        adaptation.adapt(carrying, [*given, again])
    of_these = make_blob(provenance={"trained": True, "data": {"sha256": [given[1].sha256]}})
    with pytest.raises(AdaptationError, match=r"was trained on 1 of these recordings \(r1\.npy\)"):
        adaptation.adapt(adaptation.with_statistics(of_these, given), given)
    adapted = adaptation.adapt(carrying, given).blob
    with pytest.raises(AdaptationError, match="adapted already"):
        adaptation.adapt(adapted, given)
    with pytest.raises(ConfigError, match=r"labelled dance; the model knows walk, sit, fall"):
        adaptation.adapt(carrying, make_place(tmp_path / "party", 2, 3, ("walk", "dance")))
    (tmp_path / "given" / "manifest.csv").write_text(f"{HEADER}\nr0.npy,,,1,a,b,0,100\nr1.npy,,,1,a,b,1,100\n")
    with pytest.raises(FormatError, match="has no label"):
        adaptation.adapt(carrying, read_manifest(tmp_path / "given" / "manifest.csv").recordings)


def test_the_command_writes_only_what_helps(carrying: bytes, tmp_path: Path, wdt: Wdt) -> None:
    blob, out = tmp_path / "model.rvne", tmp_path / "adapted.rvne"
    blob.write_bytes(carrying)
    make_place(tmp_path / "given", 2, 3)
    done = wdt("adapt", blob, tmp_path / "given", "-o", out, "--json")
    assert done.code == 0
    assert done.document["model_sha256"] == TemporalModel.load(out).sha256
    assert done.document["validation"]["windows"] == 9
    out.unlink()
    for taken in (blob, tmp_path / "given" / "r0.npy"):
        before = taken.read_bytes()
        assert "which is read" in wdt("adapt", blob, tmp_path / "given", "-o", taken).error_line()
        assert taken.read_bytes() == before

    manifest = (tmp_path / "given" / "manifest.csv").read_text().splitlines()
    rng = np.random.default_rng(1)
    labels = rng.permutation([row.split(",")[1] for row in manifest[1:]])
    rows = [
        ",".join([row.split(",")[0], label, *row.split(",")[2:]])
        for row, label in zip(manifest[1:], labels, strict=True)
    ]
    (tmp_path / "given" / "manifest.csv").write_text("\n".join([manifest[0], *rows]) + "\n")
    refused = wdt("adapt", blob, tmp_path / "given", "-o", out)
    assert "it would not help: of 9 windows" in refused.error_line()
    assert not out.exists()


# ------------------------------------------------------------------------------------------------------------ record


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_statistics_survive_the_record(classes: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size, size)).astype(np.float32)
    statistics = (rng.integers(0, 99, classes), rng.normal(size=(classes, size)), factor.T @ factor)
    read = records.read_class_statistics(records.class_statistics(*statistics).payload)
    for given_array, read_array in zip(statistics, read, strict=True):
        np.testing.assert_allclose(read_array, given_array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(8),
        np.array([2**31, 2**31], "<u4").tobytes(),
        np.array([1, 1], "<u4").tobytes() + bytes(8),
        np.array([1, 1], "<u4").tobytes() + bytes(16),
        np.array([1, 1], "<u4").tobytes() + np.array([1, np.nan, 1], "<f4").tobytes(),
        np.array([1, 1], "<u4").tobytes() + np.array([-1, 0, 1], "<f4").tobytes(),
    ],
    ids=["empty", "no class", "4e18 numbers", "too short", "too long", "nan", "negative count"],
)
def test_statistics_that_cannot_be_are_refused(payload: bytes) -> None:
    with pytest.raises(BlobModelError, match="class statistics"):
        records.read_class_statistics(payload)


def test_statistics_of_another_model_are_refused(carrying: bytes, tmp_path: Path) -> None:
    view = WeightBlobView.parse(carrying)
    kept = [record for record in view.records if record.name != "class_statistics"]
    other = type(view)(view.header, view.weights, (*kept, records.class_statistics(*SOURCE)), view.crc)
    with pytest.raises(BlobModelError, match="expected"):
        adaptation.statistics_of(TemporalModel.from_bytes(carrying), other)
    with pytest.raises(BlobRecordError, match="class statistics of shapes"):
        records.class_statistics(SOURCE.windows, SOURCE.mean, SOURCE.mean)
