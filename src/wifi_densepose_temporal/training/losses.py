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


def frame_cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over the frames that have a label.

    Args:
        logits: `[B, T, C]`.
        labels: int64 `[B, T]`; frames of label -1 (padding, or unlabelled) do not count.
        label_smoothing: share of the probability that is spread over all classes.
    """
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
