"""The losses of the AETHER recipe, over pytorch-metric-learning where it holds them, and what to watch beside them.

Letters: B windows, T frames, C classes, E embedding size.
"""

from __future__ import annotations

import torch
from pytorch_metric_learning import losses as metric_losses
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE, TEMPERATURE_FLOOR = 0.07, 0.01
VARIANCE_WEIGHT, COVARIANCE_WEIGHT, VICREG_EPSILON = 25.0, 1.0, 1e-4
NO_LABEL = -1
EPISODE_PEOPLE = 4  # of fewer, a half is no two people


def frame_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the frames that have a label; 0 where none has one.

    Args:
        logits: `[B, T, C]`.
        labels: int64 `[B, T]`; frames of label -1 (padding, or unlabelled) do not count.
        label_smoothing: share of the probability that is spread over all classes.
    """
    if not (labels != NO_LABEL).any():
        return logits.sum() * 0  # a mean over nothing would be NaN
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, label_smoothing=label_smoothing
    )


class Contrastive(nn.Module):
    """NT-Xent on unit vectors, plus VICReg's variance and covariance terms on what they were made from.

    NT-Xent: Chen et al., "SimCLR", 2020, with a temperature that is learned, from 0.07 and not below 0.01. Variance
    and covariance: Bardes et al., "VICReg", 2022, weights 25 and 1, target standard deviation 1, eps 1e-4.
    """

    def __init__(self) -> None:
        """The loss at its first temperature."""
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(TEMPERATURE).log())
        self._entropy = metric_losses.SelfSupervisedLoss(metric_losses.NTXentLoss())
        self._spread = metric_losses.VICRegLoss(
            invariance_lambda=0, variance_mu=VARIANCE_WEIGHT, covariance_v=COVARIANCE_WEIGHT, eps=VICREG_EPSILON
        )

    @property
    def temperature(self) -> Tensor:
        """As learned so far, at least 0.01."""
        return self.log_temperature.exp().clamp(min=TEMPERATURE_FLOOR)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The loss of two views `[B, E]` of the same B windows, as projected: not yet of unit length."""
        self._entropy.loss.temperature = self.temperature
        pulled = self._entropy(functional.normalize(first, dim=-1), functional.normalize(second, dim=-1))
        total: Tensor = pulled + self._spread(first, ref_emb=second)
        return total


class SupervisedContrastive(nn.Module):
    """Windows of one identity attract each other, all others repel: Khosla et al., "SupCon", 2020."""

    def __init__(self, temperature: float = 0.1) -> None:
        """The loss at this temperature."""
        super().__init__()
        self._loss = metric_losses.SupConLoss(temperature=temperature)

    def forward(self, embeddings: Tensor, identities: Tensor) -> Tensor:
        """The loss of unit vectors `[B, E]` of identities int64 `[B]`."""
        loss: Tensor = self._loss(embeddings, identities)
        return loss


class Episodes(nn.Module):
    """Half of the identities are recognised through the whitening that the other half gives, as in deployment.

    The read-out of readout.py is a closed form, so the gradient goes through it: the encoder learns what makes the
    covariance of known people serve strangers. Positives are windows of one identity from two recordings; the loss is
    softplus of the supervised contrastive term, which rests once a pair is told apart.
    """

    def __init__(self, between_recordings: float = 0.3, shrinkage: float = 0.3, temperature: float = 0.1) -> None:
        """The loss with its whitening's constants; fewer windows than for the read-out ask for more shrinkage."""
        super().__init__()
        self.between_recordings, self.shrinkage, self.temperature = between_recordings, shrinkage, temperature

    def forward(self, pooled: Tensor, identities: Tensor, recordings: Tensor, weights: Tensor) -> Tensor:
        """The loss of pooled vectors `[B, P]`, of identities and recordings int64 `[B]`, with prior weights `[P]`.

        The first half of the identities, in the order of the batch, gives the whitening. 0 where the batch has fewer
        than two identities on a side, or no identity of two recordings.
        """
        order = list(dict.fromkeys(identities.tolist()))
        if len(order) < EPISODE_PEOPLE:
            return pooled.sum() * 0
        known = torch.isin(identities, torch.tensor(order[: len(order) // 2]))
        mean, scale, lower = self._whitening(pooled[known], identities[known], recordings[known], weights)
        asked, of, recording = (x[~known] for x in (pooled, identities, recordings))
        rows = torch.linalg.solve_triangular(lower, ((asked - mean) / scale).T, upper=False).T
        unit = functional.normalize(rows, dim=-1)
        similarity = unit @ unit.T / self.temperature
        same = of[:, None] == of
        positive = same & (recording[:, None] != recording)
        if not positive.any():
            return pooled.sum() * 0
        others = similarity.masked_fill(same, -1e9).logsumexp(1, keepdim=True)
        return functional.softplus(others - similarity)[positive].mean()

    def _whitening(
        self, pooled: Tensor, identities: Tensor, recordings: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, scale and the lower factor of the change's covariance, as readout.whitening has them."""
        within = pooled - _group_means(pooled, recordings)
        between = _group_means(pooled, recordings) - _group_means(pooled, identities)
        count, people = len(set(recordings.tolist())), len(set(identities.tolist()))
        change = within.T @ within / max(1, len(pooled) - count)
        share = count / len(pooled)  # each recording once, though every window of it stands in `between`
        change = change + self.between_recordings * share * between.T @ between / max(1, count - people)
        scale = (change.diagonal() + 1e-10).sqrt() / weights
        change = change / scale[:, None] / scale
        level = self.shrinkage * change.trace() / len(change)
        change = (1 - self.shrinkage) * change + level * torch.eye(len(change))
        return pooled.mean(0), scale, torch.linalg.cholesky(change)


def _group_means(rows: Tensor, groups: Tensor) -> Tensor:
    """`[B, P]`: each row replaced by the mean of its group."""
    same = (groups[:, None] == groups).to(rows.dtype)
    return same @ rows / same.sum(1, keepdim=True)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """E |z_i - z_j|^2 over pairs of views, unit vectors `[B, E]` each: 0 when augmentation changes nothing.

    Wang and Isola, "Alignment and uniformity", 2020.
    """
    return ((first - second) ** 2).sum(-1).mean()


def uniformity(embeddings: Tensor) -> Tensor:
    """Logarithm of E exp(-2 |z_i - z_j|^2) over pairs of unit vectors `[B, E]`.

    0 when all are one, about -4 when they are spread over the sphere. Wang and Isola, 2020.
    """
    return torch.pdist(embeddings).pow(2).mul(-2).exp().mean().log()
