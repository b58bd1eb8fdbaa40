"""The gate: equal models pass and are said to be equal, a spoiled one fails, and what the data lacks is unavailable."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.recordings import CHAIN, write_labelled, write_persons
from wifi_densepose_temporal import TemporalModel
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.evaluation import evaluate_activity, evaluate_identity, latency
from wifi_densepose_temporal.evaluation.identity import gallery_and_probe
from wifi_densepose_temporal.training import fit, paired
from wifi_densepose_temporal.training.blob import to_blob, to_network
from wifi_densepose_temporal.training.gate import compare, gate, rank1_rights, window_rights, with_backend
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.paired import cut, embed, with_pattern
from wifi_densepose_temporal.training.recipe import Run, splits_of, train
from wifi_densepose_temporal.training.settings import Settings

PERSONS = ("ann", "ben", "cat", "dan", "eve", "fay", "gus", "hal")


@pytest.fixture(autouse=True)
def few_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "LENGTHS", (8, 16))
    monkeypatch.setattr(latency, "REPEAT", 3)


def settings_of(folder: Path, task: str, **changes: Any) -> Settings:
    split = {"held_out": "person", "folds": 2} if task == "identity" else LABELLED
    return Settings.model_validate(
        {
            "name": "tiny",
            "task": task,
            "seeds": (0, 1),
            "data": {"path": str(folder)},
            "split": split,
            "features": {"bands": CHAIN.bands, "max_gap_s": CHAIN.max_gap_s},
            "model": {"layers": 1, "width": 8, "q_heads": 2, "head_dim": 4, "window": 4, "block_size": 4},
            "batch": {"windows": 8, "packets": 50 if task == "identity" else 0},
            "losses": {"cross_entropy": 1} if task == "activity" else {"cross_entropy": 0, "supervised_contrastive": 1},
            "schedule": {"steps": 4, "every": 2, "learning_rate": 0.02},
            **changes,
        }
    )


LABELLED = {"held_out": "session", "train": "session=s0|s1", "tests": {"later": "rest"}}


@pytest.fixture
def people(tmp_path: Path) -> Settings:
    write_persons(tmp_path, PERSONS, length=200)
    return settings_of(tmp_path, "identity")


@pytest.fixture
def activities(tmp_path: Path) -> Settings:
    write_labelled(tmp_path, lengths=(230, 175, 300, 260, 240))
    return settings_of(tmp_path, "activity")


def lines(document: dict[str, Any]) -> list[str]:
    return [criterion["status"] for criterion in document["criteria"]]


def changed(runs: Sequence[Run], change: Callable[[TemporalNetwork], object]) -> list[Run]:
    """The runs with other weights."""
    made = []
    for run in runs:
        network, model = to_network(run.blob), TemporalModel.from_bytes(run.blob)
        with torch.no_grad():
            change(network)
        blob = to_blob(network, labels=model.labels, chain=CHAIN, provenance={"trained": True}).serialize()
        made.append(dataclasses.replace(run, blob=blob))
    return made


def test_a_model_against_itself_passes_the_first_three(people: Settings, tmp_path: Path) -> None:
    runs = train(people, tmp_path / "runs")
    document = compare(people, runs, runs)
    loss, rank1, order, _ = document["criteria"]
    assert lines(document)[:3] == ["pass", "pass", "pass"]
    assert (loss["difference"], rank1["difference"], order["difference"]) == (0, 0, 1)
    assert (loss["interval"], rank1["interval"]) == ((0, 0), (0, 0))
    assert order["interval"] == pytest.approx((1, 1))
    assert all(one["certain"] for one in (loss, rank1, order))
    assert "2 seeds x held-out persons, within each of 2 folds" in loss["drawn"]


def test_a_spoiled_model_fails_the_first_three(people: Settings, tmp_path: Path) -> None:
    runs = train(people, tmp_path / "runs")
    deaf = changed(runs, lambda network: network.scale.zero_())
    document = compare(people, deaf, runs)
    assert lines(document)[:3] == ["fail", "fail", "fail"]
    assert document["sparse_may_replace_dense"] is False
    assert "no; contrastive loss fails, re-ID rank-1 fails, neighbour order fails" in document["verdict"]
    assert document["criteria"][2]["difference"] == 0
    better = compare(people, runs, deaf)
    assert lines(better)[:2] == ["pass", "pass"], "the first two are one-sided"


def test_a_loss_that_is_no_better_than_chance_is_said_to_say_little(
    people: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = train(people, tmp_path / "runs")
    assert "by chance it is" in compare(people, runs, runs)["criteria"][0]["said"]
    monkeypatch.setattr(paired, "VIEWS", ("amplitude_scaling",))  # which the feature chain takes out again
    assert "by chance it is" not in compare(people, runs, runs)["criteria"][0]["said"]


def test_rank_1_is_that_of_evaluate(people: Settings, tmp_path: Path) -> None:
    runs = train(people, tmp_path / "runs")
    document = compare(people, runs, runs)
    figures = [run.tests["test"]["rank1"] for run in runs]
    assert document["criteria"][1]["sparse"] == pytest.approx(np.mean(figures))
    model, recordings = TemporalModel.from_bytes(runs[0].blob), runs[0].split.tests["test"]
    right, whole = rank1_rights(model, recordings)
    assert right.sum() / whole.sum() == evaluate_identity(model, *gallery_and_probe(recordings)).scores.rank(1)


def test_a_gate_trains_both_alike_and_goes_on_where_it_was_killed(
    people: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = gate(people, tmp_path / "gate")
    for name, backend in (("sparse", "sparse_gqa"), ("dense", "dense")):
        model = TemporalModel.load(tmp_path / "gate" / name / "fold1-seed1" / "model.rvne")
        assert model.config.backend == backend
        assert model.provenance["config"]["schedule"]["steps"] == 4
        assert model.sha256 == document["runs"][3][f"{name}_sha256"]

    def no_step(run: object) -> None:
        pytest.fail("a finished run was trained again")

    monkeypatch.setattr(fit._Run, "take_step", no_step)
    again = gate(people, tmp_path / "gate")
    assert again["criteria"][:3] == document["criteria"][:3]


def test_a_pattern_that_covers_every_frame_is_said_to_be_no_comparison(people: Settings, tmp_path: Path) -> None:
    whole = people.model_copy(update={"model": people.model.model_copy(update={"window": 512})})
    document = gate(whole, tmp_path / "gate")
    assert lines(document)[:3] == ["pass", "pass", "pass"]
    assert any("covers every frame" in words for words in document["cautions"])
    assert document["yardsticks"]["sparse_weights_run_sparse_and_dense"]["correlation"] > 0.999


def test_attention_that_adds_nothing_is_said_to_prove_nothing(people: Settings, tmp_path: Path) -> None:
    runs = train(people, tmp_path / "runs")
    off = changed(runs, lambda network: network.layers[0].out.weight.zero_())  # type: ignore[union-attr]
    said = compare(people, off, off)["cautions"]
    assert any("With its attention taken out" in words for words in said)
    loud = changed(runs, lambda network: network.layers[0].out.weight.normal_(0, 30))  # type: ignore[union-attr]
    document = compare(people, loud, loud)
    assert not any("With its attention taken out" in words for words in document["cautions"])
    assert document["yardsticks"]["sparse_weights_run_sparse_and_dense"]["correlation"] < 0.999


def test_two_seeds_of_dense_that_disagree_are_a_caution(people: Settings, tmp_path: Path) -> None:
    document = gate(people, tmp_path / "gate")
    agreed = document["yardsticks"]["two_seeds_of_dense"]["correlation"]
    assert agreed < 0.95
    assert any(f"{agreed:.3f}" in words and "says little about sparse" in words for words in document["cautions"])
    one = gate(people.model_copy(update={"seeds": (0,)}), tmp_path / "gate")
    assert one["yardsticks"]["two_seeds_of_dense"] is None
    assert "one seed: what retraining changes is not in it" in one["criteria"][0]["drawn"]


def test_activities_are_compared_by_window_accuracy_and_called_so(activities: Settings, tmp_path: Path) -> None:
    document = gate(activities, tmp_path / "gate")
    accuracy = document["criteria"][1]
    assert accuracy["name"] == "window accuracy (in place of re-ID rank-1)"
    assert "not re-ID" in accuracy["said"]
    for side in ("sparse", "dense"):
        models = [TemporalModel.load(tmp_path / "gate" / side / f"seed{seed}" / "model.rvne") for seed in (0, 1)]
        recordings = splits_of(activities)[0].tests["later"]
        figures = [evaluate_activity(model, recordings).window_accuracy for model in models]
        assert accuracy[side] == pytest.approx(np.mean(figures))  # type: ignore[arg-type]
        right, whole = window_rights(models[0], recordings)
        assert right.sum() / whole.sum() == pytest.approx(figures[0])
    assert document["deployed_frames"] == 125 == document["latency"][-1]["T"]  # the median's 250 packets in windows
    assert lines(document).count("unavailable") == 0


def test_without_a_test_the_gate_is_unavailable_not_guessed(activities: Settings, tmp_path: Path) -> None:
    alone = activities.model_copy(update={"split": activities.split.model_copy(update={"tests": {}, "train": "all"})})
    document = gate(alone, tmp_path / "gate")
    assert lines(document)[:3] == ["unavailable"] * 3
    assert document["criteria"][3]["status"] in ("pass", "fail")
    assert document["sparse_may_replace_dense"] is False
    assert "no test and no validation recordings" in document["criteria"][0]["said"]
    assert [document["criteria"][0][name] for name in ("sparse", "dense", "difference", "interval")] == [None] * 4


def test_validation_stands_in_for_a_test_and_is_said_to_be_none(activities: Settings, tmp_path: Path) -> None:
    split = {"held_out": "session", "train": "all", "validation": {"fraction": 0.6}}
    document = gate(settings_of(Path(activities.data.path), "activity", split=split), tmp_path / "gate")
    assert document["held_out"] == ["validation"]
    assert "unavailable" not in lines(document)
    assert any("it is no test" in words for words in document["cautions"])


def test_people_of_one_session_have_no_rank_1_and_two_recordings_no_order(tmp_path: Path) -> None:
    write_persons(tmp_path, PERSONS[:4], length=120)
    split = {"held_out": "person", "train": "session=A,person=ann|ben", "tests": {"new": "session=A,person=cat|dan"}}
    settings = settings_of(tmp_path, "identity", split=split, seeds=(0,))
    runs = [dataclasses.replace(run, tests={}) for run in train_unevaluated(settings, tmp_path / "runs")]
    document = compare(settings, runs, runs)
    assert lines(document)[:3] == ["pass", "unavailable", "unavailable"]
    assert "1 sessions" in document["criteria"][1]["said"]
    assert "fewer than three held-out recordings" in document["criteria"][2]["said"]


def train_unevaluated(settings: Settings, folder: Path) -> list[Run]:
    """Runs of a split whose test `recipe.train` itself cannot evaluate: trained without it."""
    split = splits_of(settings)[0]
    alone = settings.model_copy(update={"split": settings.split.model_copy(update={"tests": {}})})
    return [dataclasses.replace(run, split=split) for run in train(alone, folder)]


def test_weights_trained_with_one_pattern_are_no_equal_start(people: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no equal start"):
        gate(people.model_copy(update={"start_from": "sparse.rvne"}), tmp_path / "gate")
    assert not (tmp_path / "gate").exists()


def test_windows_end_where_a_stream_decides(activities: Settings, tmp_path: Path) -> None:
    """A window of a recording with changing labels is the core's answer there, over the recording so far."""
    runs = train(activities, tmp_path / "runs")
    recording = runs[0].split.tests["later"][0]
    held = cut(activities, [recording], None)
    assert len(held) == 300 // 50
    passage, ends = held.clean[0], held.ends[0]
    assert ends.tolist() == sorted(set(ends.tolist()))
    network = with_pattern(to_network(runs[0].blob), with_backend(activities, "dense").model.head())
    rows = embed(network, [passage], [ends])
    for row, end in zip(rows, ends, strict=True):
        alone = dataclasses.replace(passage, frames=passage.frames[: end + 1], labels=passage.labels[: end + 1])
        np.testing.assert_allclose(embed(network, [alone], [np.array([end])])[0], row, atol=1e-5)
    changed_views = [
        not np.array_equal(view[0].frames, passage.frames) and view[0].frames.shape == passage.frames.shape
        for view in (held.first, held.second)
    ]
    assert changed_views == [True, True]
