"""A tiny model trained for seconds on the recording that ships: loss falls, a killed run goes on with the same bits,
two processes take the step of one, a split that leaks is refused, and the blob says what it is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Wdt, wdt  # noqa: F401 - a fixture
from wifi_densepose_temporal import TemporalModel, WeightBlobView, adaptation
from wifi_densepose_temporal.errors import ConfigError, LeakageError, TrainingError
from wifi_densepose_temporal.training import fit as loop
from wifi_densepose_temporal.training.blob import to_network
from wifi_densepose_temporal.training.recipe import train
from wifi_densepose_temporal.training.settings import Settings, read_settings

CONFIG = """
name = "tiny"
task = "activity"
seeds = [3]
[data]
path = "data"
[split]
held_out = "session"
train = "session=D1"
[split.tests]
D2 = "session=D2"
D9 = "session=D9"
[features]
bands = 6
rate_hz = 25
[model]
width = 8
layers = 1
q_heads = 2
head_dim = 4
hidden = 8
window = 8
block_size = 4
[batch]
windows = 3
label_packets = 20
augmentations = ["temporal_jitter", "subcarrier_masking", "gaussian_noise", "amplitude_scaling"]
[schedule]
steps = 24
learning_rate = 1e-2
average = 0.5
every = 6
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration beside a folder laid out like esp32-stability, made of the recording that ships."""
    shipped = resources.files("wifi_densepose_temporal") / "data"
    name = "esp32_stability_D2_e01_rx_tx"
    with resources.as_file(shipped / f"{name}-x.npy") as x, resources.as_file(shipped / f"{name}-y.npy") as y:
        amplitude, labels = np.load(x), np.load(y)
    for session, gain in (("D1", 1.0), ("D2", 1.1)):
        (tmp_path / "data" / session).mkdir(parents=True)
        for exercise in (1, 2):
            cut = slice(0, 900) if exercise == 1 else slice(20, 920)
            path = tmp_path / "data" / session / f"e{exercise:02d}_rx_tx"
            np.save(f"{path}-x.npy", amplitude[:, cut] * np.float32(gain))
            np.save(f"{path}-y.npy", labels[cut])
    file = tmp_path / "tiny.toml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def settings(config: Path) -> Settings:
    return read_settings(config)


def test_loss_falls_and_the_blob_says_what_it_is(settings: Settings, tmp_path: Path) -> None:
    (run,) = train(settings, tmp_path / "out")
    assert run.history.losses[-1] < 0.7 * run.history.losses[0]
    model = TemporalModel.load(tmp_path / "out" / "seed3" / "model.rvne")
    assert model.trained
    assert model.feature_chain == settings.chain.to_words()
    assert model.provenance["task"] == "activity"
    assert model.provenance["seeds"] == [3]
    assert len(model.provenance["data"]["sha256"]) == 2
    assert "session D1" in model.provenance["split"]
    assert (run.tests["D2"]["window_accuracy"] or 0) > 0.3
    assert run.split.unavailable == {"D9": "session=D9"}


def test_every_choice_of_the_configuration_reaches_the_network(config: Path) -> None:
    choices = {"norm": "none", "activation": "relu", "pooling": "last_n", "pool_frames": 3, "embedding": "[5]"}
    numbers = {"dropout": 0.3, "input_noise": 0.11, "input_offset": 0.22, "input_mask": 0.33}
    lines = [f"{key} = {value!r}" if value != "[5]" else f"{key} = [5]" for key, value in (choices | numbers).items()]
    config.write_text(CONFIG.replace("width = 8", "\n".join(["width = 8", *lines])))
    settings = read_settings(config)
    sizes = settings.model.sizes(settings.chain.input_dim, 4)
    for name in (*choices, *numbers):
        assert getattr(sizes, name) == getattr(settings.model, name), name


def test_a_quiet_part_enters_the_network_quietly(config: Path, tmp_path: Path) -> None:
    parts = """
[[features.parts]]
kind = "level"
bands = 2
[[features.parts]]
kind = "motion"
bands = 3
lag = 1
time_s = 0.5
"""
    quiet = CONFIG.replace("bands = 6\n", "").replace("[model]", f"{parts}[model]").replace("steps = 24", "steps = 0")
    scales = []
    for number, text in enumerate((quiet, quiet.replace("[model]\n", "[model]\npart_scale = [1, 0.25]\n"))):
        config.write_text(text)
        (run,) = train(read_settings(config), tmp_path / str(number))
        scales.append(to_network(run.blob).scale.numpy())
    np.testing.assert_allclose(scales[1] / scales[0], [1, 1, 0.25, 0.25, 0.25], rtol=1e-6)
    config.write_text(quiet.replace("[model]\n", "[model]\npart_scale = [1]\n"))
    with pytest.raises(ConfigError, match="1 part_scale for 2 parts"):
        read_settings(config)


def test_a_trained_activity_model_carries_what_adapting_takes(settings: Settings, tmp_path: Path) -> None:
    (run,) = train(settings, tmp_path / "out")
    model, view = TemporalModel.from_bytes(run.blob), WeightBlobView.parse(run.blob)
    statistics = adaptation.statistics_of(model, view)
    windows = adaptation.windows_in(run.blob, run.split.train)
    assert statistics.windows.sum() == len(windows)
    np.testing.assert_allclose(statistics.mean, adaptation.measure(windows, len(model.labels)).mean, atol=1e-5)


def test_members_are_trained_one_by_one_and_leave_one_model(config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("width = 8", "width = 8\nmembers = 2"))
    (run,) = train(read_settings(config), tmp_path / "out")
    alone = []
    for seed in (6, 7):  # seed 3 of two members
        config.write_text(CONFIG.replace("seeds = [3]", f"seeds = [{seed}]"))
        alone.append(train(read_settings(config), tmp_path / f"seed {seed}")[0])
    network, *members = (to_network(one.blob) for one in (run, *alone))
    assert network.sizes.width == 16
    assert run.history.losses == pytest.approx(np.mean([one.history.losses for one in alone], axis=0))
    halves = network.layers[0].query.weight.detach().numpy().reshape(2, 8, 2, 8)
    for number, member in enumerate(members):
        own = member.layers[0].query.weight.detach().numpy()
        np.testing.assert_array_equal(halves[number, :, number], own)
        assert not halves[number, :, 1 - number].any()


def test_members_that_were_killed_go_on_with_the_same_bits(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second member is killed: the first one is not trained again, and the second one from its checkpoint on."""
    config.write_text(CONFIG.replace("width = 8", "width = 8\nmembers = 2"))
    settings = read_settings(config)
    (whole,) = train(settings, tmp_path / "whole")
    step = loop._Run.take_step

    def killed(run: loop._Run) -> None:
        if (run.seed, run.step) == (7, 15):
            raise KeyboardInterrupt
        step(run)

    monkeypatch.setattr(loop._Run, "take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "killed")
    assert {path.name for path in (tmp_path / "killed" / "seed3").iterdir()} == {"checkpoint-0.pt", "checkpoint-1.pt"}
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(loop._Run, "take_step", lambda run: (taken.append((run.seed, run.step)), step(run))[1])
    (resumed,) = train(settings, tmp_path / "killed")
    assert taken == [(7, number) for number in range(12, 24)]
    assert resumed.blob == whole.blob
    assert resumed.history == whole.history


def test_a_killed_run_goes_on_with_the_same_bits(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = train(settings, tmp_path / "whole")
    step = loop._Run.take_step

    def killed(run: loop._Run) -> None:
        if run.step == 15:
            raise KeyboardInterrupt
        step(run)

    monkeypatch.setattr(loop._Run, "take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "killed")
    monkeypatch.undo()
    taken: list[int] = []
    monkeypatch.setattr(loop._Run, "take_step", lambda run: (taken.append(run.step), step(run))[1])
    (resumed,) = train(settings, tmp_path / "killed")
    assert taken == list(range(12, 24)), "from the last checkpoint, not from the start"
    assert resumed.blob == whole.blob
    assert resumed.history == whole.history


def test_a_checkpoint_of_other_settings_is_refused(settings: Settings, tmp_path: Path) -> None:
    train(settings, tmp_path / "out")
    other = settings.model_copy(update={"schedule": settings.schedule.model_copy(update={"learning_rate": 0.1})})
    with pytest.raises(ConfigError, match="other settings"):
        train(other, tmp_path / "out")
    (tmp_path / "out" / "seed3" / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ConfigError, match="delete it to start anew"):
        train(settings, tmp_path / "out")


def test_a_split_that_leaks_is_refused_and_named(settings: Settings, tmp_path: Path) -> None:
    first, second = (tmp_path / "data" / session / "e01_rx_tx-x.npy" for session in ("D1", "D2"))
    second.write_bytes(first.read_bytes())
    with pytest.raises(LeakageError, match=r"D1/e01_rx_tx-x\.npy.*D2/e01_rx_tx-x\.npy"):
        train(settings, tmp_path / "out")


def test_divergence_is_an_error_and_not_a_model(settings: Settings, tmp_path: Path) -> None:
    wild = settings.schedule.model_copy(update={"learning_rate": 1e30, "clip": 1e30})
    with pytest.raises(TrainingError, match=r"at step \d+: training diverged"):
        train(settings.model_copy(update={"schedule": wild}), tmp_path / "out")
    assert not (tmp_path / "out" / "seed3" / "model.rvne").exists()


def test_two_processes_take_the_step_of_one(config: Path, tmp_path: Path) -> None:
    """Without dropout their sums differ by rounding alone, so two steps leave the same weights within 1e-4."""
    config.write_text(CONFIG.replace("steps = 24", "steps = 2").replace("[batch]", "dropout = 0.0\n[batch]"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "wifi_densepose_temporal", "train", config, "--cache", tmp_path / "cache"]
    processes = [
        subprocess.Popen(
            [*command, "-o", tmp_path / "two"],
            env=os.environ
            | {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert ended[1][0] == "", "one process reports"
    (one,) = train(read_settings(config), tmp_path / "one")
    states = [
        torch.load(tmp_path / name / "seed3" / "checkpoint.pt", weights_only=True)["network"] for name in ("one", "two")
    ]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], atol=1e-4, rtol=0, msg=name)
    assert one.seed == 3


def test_the_command_leaves_its_files(wdt: Wdt, config: Path, tmp_path: Path) -> None:  # noqa: F811
    ended = wdt("train", config, "-o", tmp_path / "out", "--cache", tmp_path / "cache", "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert document["trained"] is True
    assert document["tests"]["D2"]["window_accuracy"]["n"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.rvne", "metrics.json", "curves.png", "config.toml", "settings.json", "seed3"
    }  # fmt: skip
    assert (tmp_path / "out" / "config.toml").read_bytes() == config.read_bytes()
    assert document == json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "contrastive" in wdt("pretrain", config, "-o", tmp_path / "pre").error_line()


def test_pretraining_needs_no_labels_and_training_starts_from_it(wdt: Wdt, config: Path, tmp_path: Path) -> None:  # noqa: F811
    text = CONFIG.replace("[batch]", 'embedding = [6, 5]\npooling = "mean"\n[batch]')
    pre = tmp_path / "pre.toml"
    pre.write_text(text + "\n[losses]\ncross_entropy = 0\ncontrastive = 1\n")
    ended = wdt("pretrain", pre, "-o", tmp_path / "pre", "--cache", tmp_path / "cache", "--json")
    assert ended.code == 0, ended.err
    config.write_text('start_from = "pre/model.rvne"\n' + text)
    ended = wdt("train", config, "-o", tmp_path / "out", "--cache", tmp_path / "cache", "--json")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("steps = 24", "step = 24"), "schedule.step"),
        (("windows = 3", "windows = 0"), "batch.windows"),
        (('"gaussian_noise"', '"glitter"'), "glitter"),
        (("bands = 6", "bands = 0"), "bands"),
        (('held_out = "session"', 'held_out = "window"'), "held_out"),
        (("[schedule]", "[schedule"), "is no TOML"),
        (("width = 8", "members = 2"), "set width"),
        (("[model]", "[split.validation]\nfraction = 0.5\n[model]\nmembers = 2"), "several members"),
        (
            ("[split.tests]", "[split.within]\nprobe = [0]\ngallery = [0, 1]\n[split.tests]"),
            "windows 0 are in probe and gallery",
        ),
        (("[split.tests]", "[split.within]\nprobe = [0]\ngallery = [1]\n[split.tests]"), "windows of people"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(config: Path, change: tuple[str, str], said: str) -> None:
    config.write_text(CONFIG.replace(*change))
    with pytest.raises(ConfigError, match=said):
        read_settings(config)
