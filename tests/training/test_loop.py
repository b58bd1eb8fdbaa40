"""The training loop: what processes share, when it stops, which checkpoint it goes on from, and what it is fed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import distributed, multiprocessing

from wifi_densepose_temporal import FeatureConfig, TemporalHeadConfig
from wifi_densepose_temporal.datasets import Recording
from wifi_densepose_temporal.errors import ConfigError, TrainingError
from wifi_densepose_temporal.evaluation.decisions import majority_label
from wifi_densepose_temporal.training import curves, losses, tracks
from wifi_densepose_temporal.training import fit as loop
from wifi_densepose_temporal.training.augment import Packets
from wifi_densepose_temporal.training.batches import Sampler, Track, check_shares, frames_of, majority_labels
from wifi_densepose_temporal.training.fit import History, Score, fit
from wifi_densepose_temporal.training.network import NetworkSizes, TemporalNetwork
from wifi_densepose_temporal.training.objective import Objective
from wifi_densepose_temporal.training.sections import BatchSettings, LossSettings
from wifi_densepose_temporal.training.settings import FitSettings

HEAD = TemporalHeadConfig("sparse_gqa", q_heads=2, kv_heads=1, head_dim=4, window=8, block_size=4)
FEATURES, CLASSES = 6, 3


def some_tracks(people: int = 8, recordings: int = 2, frames: int = 12) -> list[Track]:
    """Recordings of people, one after the other; packets are frames."""
    made = []
    for number in range(people * recordings):
        rng = np.random.default_rng(number)
        values = rng.normal(number // recordings, 1, (frames, 1, FEATURES)).astype(np.float32)
        packets = Packets(np.arange(frames) / 25, values, rng.integers(0, CLASSES, frames))
        made.append(Track(f"{number}", packets, FEATURES, number // recordings))
    return made


def a_network(seed: int = 0) -> TemporalNetwork:
    torch.manual_seed(seed)
    return TemporalNetwork(NetworkSizes(FEATURES, CLASSES, 1, 8, pooling="mean", embedding=(6, 5)), HEAD)


def asked(
    steps: int = 4, losses: dict[str, object] | None = None, batch: dict[str, object] | None = None, **schedule: object
) -> FitSettings:
    return FitSettings.model_validate(
        {
            "batch": {"windows": 16, **(batch or {})},
            "losses": losses or {},
            "schedule": {"steps": steps, "every": 1, "warm_up": 0, "learning_rate": 1e-3, **schedule},
        }
    )


OF_PEOPLE: dict[str, object] = {"windows": 16, "identities": 8}
CONTRASTIVE: dict[str, object] = {"cross_entropy": 0, "contrastive": 1}


def two_views(batch: dict[str, object] | None = None) -> dict[str, object]:
    return {"augmentations": ["gaussian_noise", "amplitude_scaling"], **(batch or {})}


# -------------------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize("processes", [2, 3])
def test_a_process_gets_whole_people_with_all_their_recordings(processes: int) -> None:
    made = some_tracks()
    sampler = Sampler(made, BatchSettings.model_validate(OF_PEOPLE), None, 0)
    whole = sampler.draw(3)
    shares = [sampler.draw(3, (rank, processes)) for rank in range(processes)]
    assert torch.equal(torch.cat([share.frames for share in shares]), whole.frames)
    of = [set(share.identities.tolist()) for share in shares]
    assert sum(map(len, of)) == len(set.union(*of)) == 8
    for share in shares:
        for person in set(share.identities.tolist()):
            assert len(set(share.recordings[share.identities == person].tolist())) == 2


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_windows_of_any_batch_are_shared_evenly_and_none_is_lost(windows: int, processes: int, step: int) -> None:
    sampler = Sampler(some_tracks(2, 3), BatchSettings(windows=windows), None, 0)
    if windows < processes:
        with pytest.raises(ConfigError, match=rf"{windows} windows a step for {processes} processes"):
            check_shares(sampler.tracks, sampler.settings, processes)
        return
    check_shares(sampler.tracks, sampler.settings, processes)
    shares = [sampler.draw(step, (rank, processes)).recordings.tolist() for rank in range(processes)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert sorted(number for share in shares for number in share) == sorted(sampler.draw(step).recordings.tolist())


def test_more_processes_than_a_batch_has_people_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_processes", lambda: 3)
    with pytest.raises(ConfigError, match=r"2 identities a step for 3 processes.*raise batch\.identities"):
        fit(a_network(), some_tracks(2), asked(batch=OF_PEOPLE), None, 0)
    with pytest.raises(ConfigError, match="8 identities a step for 3 processes; expected at least 4 for each"):
        fit(a_network(), some_tracks(), asked(losses={"episodes": 1}, batch=OF_PEOPLE), None, 0)


def shared_losses() -> FitSettings:
    return asked(4, {"supervised_contrastive": 1, **CONTRASTIVE}, two_views(OF_PEOPLE), average=0.5, patience=2)


def one_of_two(rank: int, port: int, folder: Path) -> None:
    """One process of two: validation goes down in the first and up in the second."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    network, scores = a_network(), iter([1.0, 0.5, 0.4, 0.3] if rank == 0 else [0.0, 0.2, 0.6, 0.9])
    history = fit(network, some_tracks(), shared_losses(), None, 0, score=lambda network: next(scores))
    torch.save((asdict(history), network.state_dict()), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_processes_stop_together_with_the_same_weights_and_the_mean_of_their_losses(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    (first, weights), (second, others) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first == second
    assert first["scores"] == [1.0, 0.5, 0.4]
    assert first["best_step"] == 1
    assert first["stopped_early"]
    assert not torch.equal(weights["projection.1.running_mean"], torch.zeros(6))
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, atol=0, rtol=0, msg=name)
    torch.testing.assert_close(first["losses"][0], float(np.mean([loss_of_share(rank) for rank in (0, 1)])))


def loss_of_share(rank: int) -> float:
    """Of the first step, as if the share were all of it."""
    settings, network = shared_losses(), a_network()
    sampler = Sampler(some_tracks(), settings.batch, None, 0)
    views = (sampler.draw(0, (rank, 2), view) for view in (0, 1))
    return float(Objective(settings.losses, torch.ones(8))(network, *views, torch.tensor(1)).detach())


# --------------------------------------------------------------------------------------- stopping and diverging


def scores(values: list[float], seen: list[dict[str, torch.Tensor]]) -> Score:
    def score(network: TemporalNetwork) -> float:
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return values[len(seen) - 1]

    return score


def test_an_equal_score_is_no_improvement_and_patience_counts_from_the_best() -> None:
    seen: list[dict[str, torch.Tensor]] = []
    network = a_network()
    values = [0.4, 0.5, 0.5, 0.5, 0.9]
    history = fit(network, some_tracks(), asked(5, patience=2), None, 0, score=scores(values, seen))
    assert history.scores == [0.4, 0.5, 0.5, 0.5]
    assert history.stopped_early
    assert history.best_step == 2
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, seen[1][name]), name


@pytest.mark.parametrize("rate", [1e8, 1e30])
@pytest.mark.parametrize("score", [None, lambda network: float(network(torch.ones(1, 9, FEATURES))[0].detach().sum())])
def test_divergence_says_that_it_is_one(rate: float, score: Score | None) -> None:
    settings = asked(40, learning_rate=rate, clip=1e30)
    with pytest.raises(TrainingError, match=r"at step \d+: training diverged; lower learning_rate"):
        fit(a_network(), some_tracks(), settings, None, 0, score=score)


@pytest.mark.parametrize("at_end", [False, True])
def test_windows_without_labels_count_for_nothing(at_end: bool) -> None:
    made = some_tracks()
    bare = [replace(one, packets=replace(one.packets, labels=np.full(12, losses.NO_LABEL))) for one in made]
    objective = Objective(LossSettings(at_end=at_end), torch.ones(8))
    whole, half = (Sampler(some, BatchSettings(windows=32), None, 0) for some in (made[:8], made[:8] + bare[:8]))
    counted = torch.tensor(8 if at_end else 8 * 12)
    network = a_network()
    of_half, of_whole = (
        objective(network, sampler.draw(0, (0, 1)), None, counted * share) for sampler, share in ((half, 2), (whole, 4))
    )
    torch.testing.assert_close(of_half, of_whole)
    settings = asked(2, {"at_end": at_end})
    assert np.isfinite(fit(network, made[:2] + bare[:2], settings, None, 0).losses).all()
    assert fit(network, bare, settings, None, 0).losses == [0, 0]


# ------------------------------------------------------------------------------------------------- checkpoints


def with_first(change: Callable[[Track], Track]) -> Callable[[list[Track]], list[Track]]:
    return lambda made: [change(made[0]), *made[1:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: replace(one, packets=replace(one.packets, values=one.packets.values * 2)), "recordings"),
        (lambda one: replace(one, packets=replace(one.packets, labels=one.packets.labels[::-1])), "recordings"),
        (lambda one: replace(one, identity=5), "recordings"),
        ("mean", "starting weights"),
        ("scale", "starting weights"),
        ("classifier.weight", "starting weights"),
        ("part_weights", "part weights"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    change: Callable[[Track], Track] | str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "feature_weights", lambda *of: np.ones(8))
    made, settings, network = some_tracks(), asked(2), a_network()
    fit(a_network(), made, settings, None, 0, checkpoint=tmp_path / "checkpoint.pt")
    if change == "part_weights":
        settings = FitSettings.model_validate({**settings.model_dump(), "readout": {"part_weights": [2, 1]}})
    elif isinstance(change, str):
        with torch.no_grad():
            network.state_dict()[change].add_(0.5)
    else:
        made = with_first(change)(made)
    with pytest.raises(ConfigError, match=f"is a checkpoint of other {said}; delete it"):
        fit(network, made, settings, None, 0, checkpoint=tmp_path / "checkpoint.pt")


def test_another_readout_goes_on_from_the_same_checkpoint(tmp_path: Path) -> None:
    settings = asked(2)
    first = fit(a_network(), some_tracks(), settings, None, 0, checkpoint=tmp_path / "checkpoint.pt")
    other = FitSettings.model_validate({**settings.model_dump(), "readout": {"shrinkage": 0.5}})
    assert fit(a_network(), some_tracks(), other, None, 0, checkpoint=tmp_path / "checkpoint.pt") == first


# ------------------------------------------------------------------------------------------- what is looked at


def test_a_contrastive_training_is_watched_by_alignment_and_uniformity() -> None:
    network, settings = a_network(), asked(3, CONTRASTIVE, two_views())
    history = fit(network, some_tracks(), settings, None, 0)
    assert len(history.alignments) == len(history.uniformities) == 3
    sampler = Sampler(some_tracks(), settings.batch, None, 0)
    with torch.no_grad():
        one, two = (
            network.embedding(batch.last(network.pooled(batch.frames)))
            for batch in (sampler.draw(3, view=view) for view in (0, 1))
        )
    assert history.alignments[-1] == pytest.approx(float(losses.alignment(one, two)), rel=1e-4)
    both = (float(losses.uniformity(one)) + float(losses.uniformity(two))) / 2
    assert history.uniformities[-1] == pytest.approx(both, rel=1e-4)
    assert fit(a_network(), some_tracks(), asked(2), None, 0).alignments == []


def test_curves_have_a_panel_for_it_only_where_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(draw: Callable[[Figure], None], path: object) -> None:
        drawn.append(Figure())
        draw(drawn[-1])

    monkeypatch.setattr(curves, "save_figure", keep)
    plain = History([1, 2], [3.0, 2.0])
    for histories in (
        {"a": plain},
        {"a": plain, "b": replace(plain, alignments=[0.3, 0.2], uniformities=[-2.0, -3.0])},
    ):
        curves.plot_curves(histories, "title", "x.png")
    assert [len(figure.axes) for figure in drawn] == [2, 3]
    lines = [np.asarray(line.get_ydata()).tolist() for line in drawn[1].axes[2].lines]
    assert [line for line in lines if line] == [[0.3, 0.2], [-2.0, -3.0]]


# -------------------------------------------------------------------------------------------- what it is fed


def test_frames_are_labelled_as_in_evaluation() -> None:
    """A late packet is in no frame; times count in microseconds, and a frame's end is not before it."""
    times = np.array([0, 0.01, 0.04 - 1e-9, 0.05, 0.03, 0.09])
    packets = Packets(times, np.ones((6, 1, 20), np.float32), np.arange(6))
    frames, labels = frames_of(packets, 20, FeatureConfig(bands=4, rate_hz=25))
    assert len(frames) == 3
    assert labels.tolist() == [1, 3, 5]


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(1, 12))
def test_a_majority_is_that_of_evaluation(labels: list[int], packets: int) -> None:
    found = majority_labels(np.array(labels), packets)
    for end, label in enumerate(found.tolist(), start=1):
        known = [str(one) for one in labels[max(0, end - packets) : end] if one != losses.NO_LABEL]
        assert str(label) == (majority_label(np.array(known)) if known else str(losses.NO_LABEL))


def recordings(folder: Path) -> list[Recording]:
    """Two that change their label, one of one label, one without."""
    made = []
    for number in range(4):
        rng = np.random.default_rng(number)
        path, labels_path = folder / f"{number}-x.npy", folder / f"{number}-y.npy"
        np.save(path, rng.uniform(1, 9, (52, 150)).astype(np.float32))
        np.save(labels_path, np.array(["stand", "walk", "sit"])[rng.integers(0, 3, 150)])
        label, of_packets = ("still" if number == 2 else ""), labels_path if number < 2 else None
        made.append(Recording(path, path.name, label, of_packets, f"{number % 2}", "1", "1", f"{number}", 100.0))
    return made


def test_a_split_is_read_once_and_gives_what_its_parts_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, made = FeatureConfig(bands=4), recordings(tmp_path)
    train, validation = made[:3], made[3:]
    frames = np.concatenate([tracks.labelled_frames(one, chain, None).frames.values for one in train])
    read: list[str] = []
    for name in ("packets_of", "labelled_frames"):
        plain = getattr(tracks, name)
        monkeypatch.setattr(
            tracks,
            name,
            lambda one, *more, name=name, plain=plain: read.append(f"{name} {one.name}") or plain(one, *more),
        )
    learning = tracks.load(train, validation, chain, None)
    assert sorted(read) == sorted(f"{name} {one.name}" for one in made for name in ("packets_of", "labelled_frames"))
    names = learning.names
    assert names == tracks.Names(("sit", "stand", "still", "walk"), ("0", "1"))
    for found, expected in zip(learning.scale, (frames.mean(0), 1 / frames.std(0)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    labels = [[names.labels[number] for number in one.packets.labels if number >= 0] for one in learning.train]
    assert labels == [*(np.load(tmp_path / f"{number}-y.npy").tolist() for number in (0, 1)), ["still"] * 150]
    assert (learning.validation[0].packets.labels == losses.NO_LABEL).all()
