"""Losses against their formulas in plain loops and float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from wifi_densepose_temporal.training import losses
from wifi_densepose_temporal.training.readout import Windows, whitening
from wifi_densepose_temporal.training.sections import ReadoutSettings


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_counts_labelled_frames_alone() -> None:
    logits, labels = normal(2, 5, 3), torch.tensor([[0, 1, 2, -1, -1], [2, 2, 1, 0, -1]])
    expected = [-logits[b, t].log_softmax(-1)[labels[b, t]] for b in range(2) for t in range(5) if labels[b, t] >= 0]
    torch.testing.assert_close(losses.frame_cross_entropy(logits, labels), torch.stack(expected).mean())


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> float:
    """Each of the 2 B views against all others: minus the log of its partner's share."""
    z = functional.normalize(torch.cat([first, second]).double(), dim=-1)
    count, terms = len(first), []
    for i in range(2 * count):
        shares = [float(torch.exp(z[i] @ z[j] / temperature)) for j in range(2 * count)]
        partner = (i + count) % (2 * count)
        terms.append(-np.log(shares[partner] / (sum(shares) - shares[i])))
    return float(np.mean(terms))


def vicreg(z: Tensor) -> tuple[float, float]:
    """Variance and covariance terms of one view, as Bardes et al. write them."""
    z = z.double()
    variance = torch.clamp(1 - torch.sqrt(z.var(0) + 1e-4), min=0).mean()
    centred = z - z.mean(0)
    covariance = centred.T @ centred / (len(z) - 1)
    off = covariance - torch.diag(covariance.diagonal())
    return float(variance), float((off**2).sum() / z.shape[1])


def test_contrastive_is_nt_xent_with_variance_and_covariance() -> None:
    first, second = normal(6, 4), normal(6, 4, seed=1)
    loss = losses.Contrastive()
    variances, covariances = zip(vicreg(first), vicreg(second), strict=True)
    # The library halves the two variance terms; the recipe's weight of 25 is that of their mean.
    expected = nt_xent(first, second, 0.07) + 25 * np.mean(variances) + sum(covariances)
    assert float(loss(first, second).detach()) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_is_learned_and_has_a_floor() -> None:
    loss = losses.Contrastive()
    assert float(loss.temperature.detach()) == pytest.approx(0.07)
    loss(normal(6, 4), normal(6, 4, seed=1)).backward()
    assert loss.log_temperature.grad is not None
    assert float(loss.log_temperature.grad) != 0
    with torch.no_grad():
        loss.log_temperature.fill_(-20)
    assert float(loss.temperature.detach()) == pytest.approx(0.01)


def test_supervised_contrastive_equals_its_formula() -> None:
    z, identities = functional.normalize(normal(7, 3), dim=-1), torch.tensor([0, 1, 0, 2, 1, 0, 2])
    terms = []
    for i in range(7):
        others = [j for j in range(7) if j != i]
        total = sum(float(torch.exp(z[i] @ z[j] / 0.1)) for j in others)
        same = [float(z[i] @ z[j] / 0.1) - np.log(total) for j in others if identities[j] == identities[i]]
        terms.append(-np.mean(same))
    assert float(losses.SupervisedContrastive()(z, identities)) == pytest.approx(np.mean(terms), rel=1e-4)


def test_cross_entropy_without_a_label_is_nothing_to_learn_from() -> None:
    logits = normal(2, 5, 3).requires_grad_()
    loss = losses.frame_cross_entropy(logits, torch.full((2, 5), -1), 0.1)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_alignment_and_uniformity_equal_their_means() -> None:
    first, second = (functional.normalize(normal(5, 3, seed=seed), dim=-1) for seed in (0, 1))
    assert float(losses.alignment(first, second)) == pytest.approx(
        np.mean([float(((a - b) ** 2).sum()) for a, b in zip(first, second, strict=True)])
    )
    pairs = [float(((first[i] - first[j]) ** 2).sum()) for i in range(5) for j in range(i)]
    assert float(losses.uniformity(first)) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(pairs)))), rel=1e-4)
    assert float(losses.uniformity(first[:1].repeat(4, 1))) == pytest.approx(0, abs=1e-6)


def episode(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Eight people, two recordings of three windows each."""
    people, recordings = torch.arange(8).repeat_interleave(6), torch.arange(16).repeat_interleave(3)
    pooled = normal(8, 5, seed=seed)[people] + 0.5 * normal(16, 5, seed=1)[recordings] + 0.3 * normal(48, 5, seed=2)
    return pooled, people, recordings


def test_an_episode_whitens_as_the_read_out_does() -> None:
    pooled, people, recordings = episode()
    known = people < 4
    mean, scale, lower = losses.Episodes(shrinkage=0.1)._whitening(
        pooled[known], people[known], recordings[known], torch.ones(5)
    )
    windows = Windows(pooled[known].double().numpy(), people[known].numpy(), recordings[known].numpy())
    expected_mean, weight = whitening(windows, 5, ReadoutSettings(shrinkage=0.1, between_recordings=0.3))
    np.testing.assert_allclose(mean, expected_mean, atol=1e-6)
    inner = [x @ x.T for x in (np.linalg.inv(lower.numpy() * scale.numpy()[:, None]).T, weight)]
    # The same metric, but for the one factor that keeps the read-out's weights within float16.
    np.testing.assert_allclose(inner[0] / np.trace(inner[0]), inner[1] / np.trace(inner[1]), atol=1e-5)


def test_an_episode_rewards_people_who_are_told_apart() -> None:
    pooled, people, recordings = episode()
    loss = losses.Episodes()
    good = float(loss(pooled, people, recordings, torch.ones(5)))
    shuffled = pooled[torch.randperm(48, generator=torch.Generator().manual_seed(0))]
    assert good < float(loss(shuffled, people, recordings, torch.ones(5)))
    assert float(loss(pooled[:18], people[:18], recordings[:18], torch.ones(5))) == 0  # three people are too few
    assert float(loss(pooled, people, people, torch.ones(5))) == 0  # one recording each: no pair


def test_a_whitening_makes_the_change_round() -> None:
    pooled, people, recordings = (x.numpy() for x in episode())
    windows = Windows(pooled.astype(np.float64), people, recordings)
    mean, weight = whitening(windows, 5, ReadoutSettings(shrinkage=0, between_recordings=0))
    within = (pooled - np.array([pooled[recordings == r].mean(0) for r in recordings])) @ weight
    covariance = within.T @ within
    np.testing.assert_allclose(covariance / covariance[0, 0], np.eye(5), atol=1e-6)
    spread = np.array([((pooled - mean) @ weight)[people == p].mean(0) for p in range(8)]).var(0)
    assert (np.diff(spread) <= 1e-9).all()  # the directions in which people differ most come first


def test_of_a_closed_set_what_tells_nobody_apart_is_left_out() -> None:
    pooled, people, recordings = (x.numpy() for x in episode())
    three = people < 3
    windows = Windows(pooled[three].astype(np.float64), people[three], recordings[three])
    _, weight = whitening(windows, 5, ReadoutSettings(closed_set=True))
    assert np.abs(weight).max(0).astype(bool).tolist() == [True, True, False, False, False]
    _, every = whitening(windows, 5, ReadoutSettings())
    ratio = weight[:, :2] / every[:, :2]  # the directions that are left are the same ones
    np.testing.assert_allclose(ratio, ratio[0, 0])


def test_evening_out_makes_people_as_round_as_the_change() -> None:
    pooled, people, recordings = (x.numpy().astype(np.float64) for x in episode())
    windows = Windows(pooled, people.astype(int), recordings.astype(int))
    _, weight = whitening(windows, 5, ReadoutSettings(shrinkage=0, between_recordings=0, evening=0.5))
    projected = pooled @ weight
    recording_means = np.array([projected[recordings == r].mean(0) for r in recordings])
    change = (projected - recording_means).T @ (projected - recording_means) / (48 - 16)
    means = np.array([projected[people == p].mean(0) for p in range(8)])
    total = change + np.cov(means.T)
    np.testing.assert_allclose(total / total[0, 0], np.eye(5), atol=1e-6)
