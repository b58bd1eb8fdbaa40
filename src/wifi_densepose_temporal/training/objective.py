"""What one step of training makes small: the weighted sum of the losses that a configuration asks for.

Not here: the losses themselves (losses.py), and the steps (fit.py).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from wifi_densepose_temporal.training.batches import Batch
from wifi_densepose_temporal.training.losses import (
    NO_LABEL,
    Contrastive,
    Episodes,
    SupervisedContrastive,
    frame_cross_entropy,
)
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.sections import LossSettings


class Objective(nn.Module):
    """The weighted losses of a step; holds what is learned besides the network (a temperature)."""

    def __init__(self, settings: LossSettings, feature_weights: Tensor) -> None:
        """Losses of these weights; `feature_weights [P]` are the prior weights of the episodes' whitening."""
        super().__init__()
        self.settings, self.feature_weights = settings, feature_weights
        self.contrastive = Contrastive()
        self.supervised = SupervisedContrastive()
        self.episodes = Episodes()

    def forward(
        self, network: TemporalNetwork, batch: Batch, second: Batch | None, counted: Tensor, processes: int = 1
    ) -> Tensor:
        """The loss of a step.

        Args:
            network: to be trained.
            batch: its windows.
            second: another view of the same windows, for the contrastive loss.
            counted: labelled frames of the whole step, over all processes; at_end, its windows that end in one.
            processes: that share the step; losses that compare windows are their mean.
        """
        settings, total = self.settings, torch.zeros(())
        pooled = network.pooled(batch.frames)
        if settings.cross_entropy and settings.at_end:
            labels = batch.last(batch.labels)
            loss = end_cross_entropy(network, batch.last(pooled), labels, settings)
            total = total + settings.cross_entropy * loss * (labels != NO_LABEL).sum() / counted
        elif settings.cross_entropy:
            mine = (batch.labels != NO_LABEL).sum()
            loss = frame_cross_entropy(network.logits(pooled), batch.labels, settings.label_smoothing)
            total = total + settings.cross_entropy * loss * mine / counted
        if settings.supervised_contrastive:
            embeddings = network.embedding(batch.last(pooled))
            loss = self.supervised(embeddings, batch.identities)
            total = total + settings.supervised_contrastive * loss / processes
        if settings.episodes:
            loss = self.episodes(batch.last(pooled), batch.identities, batch.recordings, self.feature_weights)
            total = total + settings.episodes * loss / processes
        if settings.contrastive and second is not None:
            views = [
                network.projection(b.last(p)) for b, p in ((batch, pooled), (second, network.pooled(second.frames)))
            ]
            total = total + settings.contrastive * self.contrastive(*views) / processes
        return total


def end_cross_entropy(network: TemporalNetwork, pooled: Tensor, labels: Tensor, settings: LossSettings) -> Tensor:
    """Cross-entropy of windows' last pooled vectors `[B, P]` and labels `[B]`, mixed in pairs if the settings say so.

    Windows without a label (-1) are left out; 0 where none has one. Mixing: Verma et al., "Manifold mixup", 2019, on
    the pooled vector, the larger share being the window's own.
    """
    known = labels != NO_LABEL
    pooled, labels = pooled[known], labels[known]
    if not len(labels):
        return network.logits(pooled).sum()
    targets = one_hot(labels, network.sizes.classes).to(pooled.dtype)
    if settings.mix and network.training:
        share = torch.distributions.Beta(settings.mix, settings.mix).sample((len(pooled), 1))
        share, other = torch.maximum(share, 1 - share), torch.randperm(len(pooled))
        pooled, targets = (share * x + (1 - share) * x[other] for x in (pooled, targets))
    return cross_entropy(network.logits(pooled), targets, label_smoothing=settings.label_smoothing)
