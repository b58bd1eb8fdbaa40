"""What a run starts from, trains and says: blobs to start from, encoders without labels, validation, late errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.conftest import Wdt, wdt  # noqa: F401 - a fixture
from tests.evaluation.recordings import CHAIN, wander, write_persons, write_whole_labels
from tests.training.test_training import CONFIG, config, settings  # noqa: F401 - fixtures
from wifi_densepose_temporal import TemporalModel, WeightBlob, WeightBlobView
from wifi_densepose_temporal.datasets import open_dataset
from wifi_densepose_temporal.errors import ConfigError, FormatError, LeakageError, TrainingError
from wifi_densepose_temporal.evaluation.report import seen_in_training, split_words
from wifi_densepose_temporal.rvne import records
from wifi_densepose_temporal.timeline import training_note
from wifi_densepose_temporal.training import recipe
from wifi_densepose_temporal.training.batches import frames_of
from wifi_densepose_temporal.training.gate import compare
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.recipe import train
from wifi_densepose_temporal.training.settings import Settings, read_settings
from wifi_densepose_temporal.training.tracks import load
from wifi_densepose_temporal.training.validation import score_of

PRE = (
    CONFIG.replace('train = "session=D1"', 'train = "session=D1"\namong = "session=D1"')
    .replace('[split.tests]\nD2 = "session=D2"\nD9 = "session=D9"\n', "")
    .replace("steps = 24", "steps = 2")
    + "[losses]\ncross_entropy = 0\ncontrastive = 1\n"
)

MANIFEST = """path,label,labels_path,person,session,room,start,rate_hz
data/D1/e01_rx_tx-x.npy,sit,,1,D1,1,1,100
data/D1/e02_rx_tx-x.npy,,,1,D1,1,2,100
data/D2/e01_rx_tx-x.npy,walk,,1,D2,1,3,100
"""


def no_training(*_: object, **__: object) -> None:
    raise AssertionError("training has begun")


def pretrained(config: Path, text: str = PRE) -> Path:  # noqa: F811
    """A blob beside the configuration, as `text` makes it."""
    config.write_text(text)
    train(read_settings(config), config.parent / "pre")
    return config.parent / "pre" / "seed3" / "model.rvne"


def starting(config: Path, text: str = CONFIG) -> Settings:  # noqa: F811
    config.write_text('start_from = "pre/seed3/model.rvne"\n' + text.replace("steps = 24", "steps = 2"))
    return read_settings(config)


def with_facts(blob: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The blob with another provenance."""
    view, facts = WeightBlobView.parse(blob), TemporalModel.from_bytes(blob).provenance
    facts = json.loads(json.dumps(facts))
    change(facts)
    kept = [record for record in view.records if record.name != "provenance"]
    return WeightBlob(view.header, view.weights, [*kept, records.provenance(facts)]).serialize()


# ---------------------------------------------------------------------------------------------------- start_from


@pytest.mark.parametrize("side", ["test", "validation"])
def test_a_start_that_has_seen_what_is_held_out_is_refused(config: Path, side: str) -> None:  # noqa: F811
    pretrained(config, PRE.replace("session=D1", "session=D2" if side == "test" else "session=D1"))
    validated = "[split.validation]\nfraction = 0.5\n[split.tests]"
    changed = CONFIG if side == "test" else CONFIG.replace("[split.tests]", validated)
    with pytest.raises(LeakageError, match=rf"start_from .*{side}"):
        train(starting(config, changed), config.parent / "out")


def test_what_the_start_has_seen_is_in_the_new_list_and_its_path_is_not(config: Path) -> None:  # noqa: F811
    one = "session=D1,recording=D1/e01*"
    blob = pretrained(config, PRE.replace("session=D1", one))
    (run,) = train(starting(config, CONFIG.replace('"session=D1"', '"recording=D1/e02*"')), config.parent / "out")
    model, start = TemporalModel.from_bytes(run.blob), TemporalModel.load(blob)
    manifest = open_dataset(config.parent / "data")
    seen = seen_in_training(model, manifest.recordings)
    assert seen == ("D1/e01_rx_tx-x.npy", "D1/e02_rx_tx-x.npy")
    assert set(model.provenance["data"]["recordings"]) == set(seen)
    assert len(model.provenance["data"]["sha256"]) == len(seen)
    assert model.provenance["config"]["start_from"] == start.sha256
    assert str(config.parent) not in json.dumps(model.provenance)
    assert start.sha256[:12] in model.provenance["split"]


def test_a_start_that_does_not_list_what_it_has_seen_is_said_to(
    config: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    blob = pretrained(config)
    blob.write_bytes(with_facts(blob.read_bytes(), lambda facts: facts.pop("data")))
    with caplog.at_level(logging.WARNING):
        (run,) = train(starting(config), config.parent / "out")
    assert any("not listed" in record.message for record in caplog.records)
    model = TemporalModel.from_bytes(run.blob)
    assert "not listed" in model.provenance["split"]
    assert "does not list" in split_words(model, run.split.tests["D2"], (), "session=D2")
    # ... and what starts from that one cannot know it either.
    blob.write_bytes(run.blob)
    (again,) = train(starting(config), config.parent / "again")
    assert "incomplete" in TemporalModel.from_bytes(again.blob).provenance["data"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rate_hz = 25", "rate_hz = 20"), "feature chain"),
        (("hidden = 8", 'hidden = 8\nnorm = "none"'), "norm"),
        (("hidden = 8", 'hidden = 8\nactivation = "relu"'), "activation"),
        (("\nwindow = 8", "\nwindow = 6"), "pattern"),
        (("layers = 1", "layers = 2"), "sizes"),
    ],
)
def test_a_start_of_another_encoder_is_refused(config: Path, change: tuple[str, str], said: str) -> None:  # noqa: F811
    pretrained(config)
    with pytest.raises(ConfigError, match=rf"start_from \w+ has another .*{said}.*: it is"):
        train(starting(config, CONFIG.replace(*change)), config.parent / "out")


# --------------------------------------------------------------------------------------------- encoders without labels


def test_unlabelled_recordings_of_one_person_train_an_encoder_that_says_what_it_is(
    wdt: Wdt,  # noqa: F811
    config: Path,  # noqa: F811
) -> None:
    folder = config.parent / "bare"
    folder.mkdir()
    write_persons(folder, ["ann"])
    config.write_text(PRE.replace(' "session=D1"', ' "all"').replace('"session"', '"recording"'))
    ended = wdt("pretrain", config, "--data", folder, "-o", config.parent / "out", "--json")
    assert ended.code == 0, ended.err
    assert ended.document["classifier_trained"] is False
    model = TemporalModel.load(config.parent / "out" / "model.rvne")
    assert model.provenance["classifier"] == "untrained"
    assert all(label.startswith("untrained") for label in model.labels)
    assert "UNTRAINED" in training_note(model)
    assert "its labels mean nothing" in training_note(model)
    assert "class_statistics" not in [one.name for one in WeightBlobView.parse(model_bytes(config)).records]


def model_bytes(config: Path) -> bytes:  # noqa: F811
    return (config.parent / "out" / "model.rvne").read_bytes()


def test_an_encoders_activities_are_not_evaluated(wdt: Wdt, config: Path) -> None:  # noqa: F811
    tested = PRE.replace('among = "session=D1"', "").replace(
        "[features]", '[split.tests]\nD2 = "session=D2"\n[features]'
    )
    config.write_text(tested)
    ended = wdt("pretrain", config, "-o", config.parent / "out")
    assert ended.code == 0, ended.err
    assert "D2: unavailable" in ended.out
    document = json.loads((config.parent / "out" / "metrics.json").read_text())
    assert document["tests"] == {"D2": {}}
    ended = wdt(
        "evaluate", config.parent / "out" / "model.rvne", config.parent / "data", "--split", "session=D2", "--json"
    )
    assert ended.code == 0, ended.err
    assert "WARNING: its classifier was not trained" in ended.document["split"]


def test_the_gate_has_no_recognition_of_an_untrained_classifier(config: Path) -> None:  # noqa: F811
    config.write_text(
        PRE.replace('among = "session=D1"', "").replace("[features]", '[split.tests]\nD2 = "rest"\n[features]')
    )
    given = read_settings(config)
    runs = train(given, config.parent / "out")
    assert compare(given, runs, runs)["criteria"][1]["status"] == "unavailable"


# ---------------------------------------------------------------------------------------------- refused before training


def test_unlabelled_recordings_are_refused_by_name_before_training(
    settings: Settings,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recipe, "fit", no_training)
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(MANIFEST)
    given = settings.model_copy(update={"data": settings.data.model_copy(update={"path": str(manifest)})})
    with pytest.raises(FormatError, match=r"without a label: 1 recording \(data/D1/e02_rx_tx-x\.npy\)"):
        train(given, tmp_path / "out")


def people(folder: Path, **changes: Any) -> Settings:
    """Six people of two recordings each, of 100 packets, the first four to train on."""
    write_persons(folder, ("ann", "ben", "cat", "dan", "eve", "fay"))
    split = {"held_out": "person", "train": "person=ann|ben|cat|dan", "tests": {"others": "rest"}}
    return Settings.model_validate(
        {
            "name": "tiny",
            "task": "identity",
            "seeds": [0],
            "data": {"path": str(folder)},
            "split": split | changes.pop("split", {}),
            "features": {"bands": CHAIN.bands, "max_gap_s": CHAIN.max_gap_s},
            "model": {"layers": 1, "q_heads": 2, "head_dim": 4, "window": 4, "block_size": 4, "embedding": [3]},
            "losses": {"cross_entropy": 0, "supervised_contrastive": 1},
            "schedule": {"steps": 2, "every": 1},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"readout": {"packets": 101}}, TrainingError, "101 packets .*ann_A.npy"),
        ({"split": {"validation": {"fraction": 0.5}}, "batch": {"packets": 101}}, ConfigError, "100 packets"),
        ({"split": {"validation": {"fraction": 0.1}}}, ConfigError, "nobody is in two of the validation recordings"),
    ],
)
def test_what_cannot_be_done_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    monkeypatch.setattr(recipe, "fit", no_training)
    with pytest.raises(error, match=said):
        train(people(tmp_path, **changes), tmp_path / "out")


def test_one_activity_is_nothing_to_decide(tmp_path: Path) -> None:
    write_whole_labels(tmp_path, ["sit", "sit", "sit"])
    with pytest.raises(ConfigError, match="one activity, sit"):
        train(activities(tmp_path, at_end=False), tmp_path / "out")


@pytest.mark.parametrize("labels", ["aab", "abc"])
def test_an_activity_that_is_validated_and_not_trained_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: str
) -> None:
    monkeypatch.setattr(recipe, "fit", no_training)
    write_whole_labels(tmp_path, labels)
    given = activities(tmp_path, at_end=False, validation={"fraction": 0.3})
    with pytest.raises(FormatError, match=f"validation recordings are labelled {labels[-1]}, and no training"):
        train(given, tmp_path / "out")


IN_SESSIONS = {"held_out": "session", "train": "session=A", "tests": {"B": "session=B"}}
CONTRASTIVE = {"losses": {"cross_entropy": 0, "contrastive": 1}, "batch": {"augmentations": ["gaussian_noise"]}}


def nobody(folder: Path, name: str) -> None:
    """Takes the person of a recording out of the manifest."""
    manifest = folder / "manifest.csv"
    rows = manifest.read_text().splitlines()
    place = next(number for number, row in enumerate(rows) if row.startswith(f"{name},"))
    rows[place] = rows[place].replace(f",{name[:3]},", ",,")
    manifest.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("whose", "changes"),
    [
        ("ben_A.npy", {}),
        ("ben_A.npy", {"losses": {"cross_entropy": 0, "episodes": 1}}),
        ("ben_A.npy", {"losses": {"cross_entropy": 0}, "schedule": {"steps": 0}, "readout": {"packets": 50}}),
        ("ben_A.npy", CONTRASTIVE),  # a test of one session is looked for among those of training
        ("ben_B.npy", CONTRASTIVE),
        ("fay_A.npy", CONTRASTIVE | {"split": {"tests": {}, "validation": {"fraction": 0.1}}}),
    ],
)
def test_recordings_of_nobody_known_are_refused_by_name_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str, changes: dict[str, Any]
) -> None:
    monkeypatch.setattr(recipe, "fit", no_training)
    given = people(tmp_path, **changes | {"split": IN_SESSIONS | changes.get("split", {})})
    nobody(tmp_path, whose)
    with pytest.raises(FormatError, match=rf"without a person: 1 recording \({whose}\)"):
        train(given, tmp_path / "out")


def test_an_encoder_of_views_needs_to_know_nobody(tmp_path: Path) -> None:
    given = people(tmp_path, **CONTRASTIVE, split=IN_SESSIONS | {"tests": {}})
    nobody(tmp_path, "ben_A.npy")
    (run,) = train(given, tmp_path / "out")
    assert run.history.steps == [1, 2]


@pytest.mark.parametrize("folds", [{}, {"tests": {}, "train": "all", "folds": 2}])
def test_windows_within_that_a_test_does_not_have_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: dict[str, Any]
) -> None:
    monkeypatch.setattr(recipe, "fit", no_training)
    given = people(tmp_path, split=folds | {"within": {"probe": [0], "gallery": [1]}})
    with pytest.raises(FormatError, match=r"_A\.npy: 1 windows of 100 packets; expected 2"):
        train(given, tmp_path / "out")


def test_the_readout_names_the_people_trained_on_and_not_those_validated(tmp_path: Path) -> None:
    given = people(tmp_path, readout={"packets": 50}, split={"validation": {"fraction": 0.25, "by": "person"}})
    (run,) = train(given, tmp_path / "out")
    model = TemporalModel.from_bytes(run.blob)
    assert model.labels == ("ann", "ben", "cat")
    assert "classifier" not in model.provenance
    assert run.history.scores


# --------------------------------------------------------------------------------------------------------- validation


def tracks_of(given: Settings, count: int) -> list[Any]:
    recordings = open_dataset(given.data.path).recordings[:count]
    return load(recordings, (), given.chain, None).train


def network_that_says(given: Settings, rows: list[list[float]]) -> TemporalNetwork:
    """A network whose n-th call gives these embeddings, and class 0 except for class 1 in the last frame."""
    network = TemporalNetwork(given.model.sizes(given.chain.input_dim, 2), given.model.head())
    calls = iter(rows)

    def forward(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = torch.zeros(1, frames.shape[1], 2)
        logits[..., 0], logits[:, -1, 1] = 1, 2
        return logits, torch.tensor(next(calls)).expand(1, frames.shape[1], -1)

    network.forward = forward  # type: ignore[method-assign]
    return network


def test_only_people_with_another_recording_count_in_validation(tmp_path: Path) -> None:
    """ann has two recordings, found in each other; ben has one, which can only be taken for ann."""
    given = people(tmp_path)
    tracks = tracks_of(given, 12)
    ann, ben = ([track for track in tracks if track.name.startswith(name)] for name in ("ann", "ben"))
    score = score_of([*ann, ben[0]], given)
    assert score(network_that_says(given, [[1.0, 0.0], [0.9, 0.1], [0.8, 0.2]])) == pytest.approx(1.0)
    assert score(network_that_says(given, [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])) == pytest.approx(0.0)


@pytest.mark.parametrize("at_end", [True, False])
def test_validation_scores_what_is_trained(tmp_path: Path, at_end: bool) -> None:
    """A model that is right in the last frame only is right, if the last frame is what it is trained for."""
    rows = ["path,label,labels_path,person,session,room,start,rate_hz"]
    for number, label in enumerate("ab"):
        np.save(tmp_path / f"{label}.npy", wander(100, number).T)
        rows.append(f"{label}.npy,{label},,1,s,r,{number},100")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    given = activities(tmp_path, at_end)
    recordings = open_dataset(tmp_path).recordings
    tracks = load(recordings, recordings[1:], given.chain, None).validation
    frames = len(frames_of(tracks[0].packets, tracks[0].subcarriers, given.chain)[0])
    found = score_of(tracks, given)(network_that_says(given, [[1.0, 0.0]]))
    assert found == pytest.approx(1.0 if at_end else 1 / frames)


def test_a_checkpoint_of_another_validation_is_refused(tmp_path: Path) -> None:
    """It holds scores on recordings, and the weights that were best there."""
    given = people(tmp_path, split={"validation": {"fraction": 0.25, "by": "person"}})
    train(given, tmp_path / "out")
    np.save(tmp_path / "dan_A.npy", wander(100, 5).T)
    with pytest.raises(ConfigError, match="is a checkpoint of other validation recordings; delete it"):
        train(given, tmp_path / "out")


def test_of_runs_that_validate_alike_the_first_is_kept() -> None:
    def run(seed: int, *scores: float) -> recipe.Run:
        history = recipe.History(scores=list(scores))
        return recipe.Run(f"seed{seed}", seed, None, b"", history, {})  # type: ignore[arg-type]

    assert recipe.best_run([run(5), run(2)]).seed == 5
    assert recipe.best_run([run(5, 0.2), run(7, 0.1, 0.4), run(2, 0.4)]).seed == 7


def activities(folder: Path, at_end: bool, **split: Any) -> Settings:
    return Settings.model_validate(
        {
            "name": "tiny",
            "task": "activity",
            "data": {"path": str(folder)},
            "split": {"held_out": "session", **split},
            "features": {"bands": CHAIN.bands},
            "losses": {"at_end": at_end},
        }
    )


# ------------------------------------------------------------------------------------------------------ what is written


def test_the_files_say_what_was_trained(wdt: Wdt, config: Path) -> None:  # noqa: F811
    features = "[[features.parts]]\nkind = 'level'\nbands = 6\nslow_s = inf\n[model]"
    config.write_text(CONFIG.replace("bands = 6\n", "").replace("[model]", features).replace("steps = 24", "steps = 2"))
    out = config.parent / "out"
    ended = wdt("train", config, "-o", out, "--seeds", "5", "--data", config.parent / "data", "--json")
    assert ended.code == 0, ended.err
    document = json.loads((out / "metrics.json").read_text())
    model = TemporalModel.load(out / "model.rvne")
    assert document == ended.document
    assert document["model_sha256"] == model.sha256
    assert (document["kept"], document["trained"], document["source"]) == ("seed5", True, "replay")
    assert document["runs"][0]["history"]["steps"] == [2]
    resolved = json.loads((out / "settings.json").read_text())
    assert (resolved["seeds"], resolved["data"]["path"]) == ([5], str(config.parent / "data"))
    assert resolved["features"]["parts"][0]["slow_s"] == "Infinity"
    assert model.provenance["config"]["features"]["parts"][0]["slow_s"] == "Infinity"


def test_no_training_is_not_said_to_be_one(wdt: Wdt, config: Path) -> None:  # noqa: F811
    config.write_text(CONFIG.replace("steps = 24", "steps = 0"))
    ended = wdt("train", config, "-o", config.parent / "out", "--json")
    assert ended.document["trained"] is False
