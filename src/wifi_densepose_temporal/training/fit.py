"""The training loop: draw, forward, loss, backward, clip, step; now and then a look at the validation recordings.

All randomness comes from the seed and the step's number, so that a run that was killed and goes on from its checkpoint
ends with the same bits as one that was not. Under `torchrun`, processes share each step's windows and add their
gradients up, so the step is that of one process (but for dropout, BatchNorm, and contrastive losses, whose negatives
are those of the same process).

Not here: what is trained on (batches.py), and what becomes of the weights (recipe.py).
"""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.errors import ConfigError, TrainingError
from wifi_densepose_temporal.files import read_whole, write_whole
from wifi_densepose_temporal.training.batches import Batch, Sampler, Track
from wifi_densepose_temporal.training.losses import Contrastive, Episodes, SupervisedContrastive, frame_cross_entropy
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.readout import feature_weights
from wifi_densepose_temporal.training.settings import FitSettings, LossSettings, ReadoutSettings

logger = logging.getLogger(__name__)

MAX_CHECKPOINT_BYTES = 1 << 30

#: A number that is better when larger, of the network in evaluation mode: validation.
Score = Callable[[TemporalNetwork], float]


@dataclass
class History:
    """What happened: one entry a look.

    Attributes:
        steps: number of each look.
        losses: mean loss since the look before.
        scores: on the validation recordings; empty where there are none.
        best_step: the look whose weights were kept; the last one without validation.
        stopped_early: whether patience ran out.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_step: int = 0
    stopped_early: bool = False


class Objective(nn.Module):
    """The weighted losses of a step; holds what is learned besides the network (a temperature)."""

    def __init__(self, settings: LossSettings, feature_weights: Tensor) -> None:
        """Losses of these weights; `feature_weights [P]` are the prior weights of the episodes' whitening."""
        super().__init__()
        self.settings, self.feature_weights = settings, feature_weights
        self.contrastive = Contrastive()
        self.supervised = SupervisedContrastive()
        self.episodes = Episodes()

    def forward(self, network: TemporalNetwork, batch: Batch, second: Batch | None, counted: Tensor) -> Tensor:
        """The loss of a step.

        Args:
            network: to be trained.
            batch: its windows.
            second: another view of the same windows, for the contrastive loss.
            counted: labelled frames of the whole step, over all processes; at_end, its windows.
        """
        settings, total = self.settings, torch.zeros(())
        pooled = network.pooled(batch.frames)
        if settings.cross_entropy and settings.at_end:
            loss = end_cross_entropy(network, batch.last(pooled), batch.last(batch.labels), settings)
            total = total + settings.cross_entropy * loss * len(batch.labels) / counted
        elif settings.cross_entropy:
            mine = (batch.labels >= 0).sum()
            loss = frame_cross_entropy(network.logits(pooled), batch.labels, settings.label_smoothing)
            total = total + settings.cross_entropy * loss * mine / counted
        if settings.supervised_contrastive:
            embeddings = network.embedding(batch.last(pooled))
            total = total + settings.supervised_contrastive * self.supervised(embeddings, batch.identities)
        if settings.episodes:
            loss = self.episodes(batch.last(pooled), batch.identities, batch.recordings, self.feature_weights)
            total = total + settings.episodes * loss
        if settings.contrastive and second is not None:
            views = [
                network.projection(b.last(p)) for b, p in ((batch, pooled), (second, network.pooled(second.frames)))
            ]
            total = total + settings.contrastive * self.contrastive(*views)
        return total


def end_cross_entropy(network: TemporalNetwork, pooled: Tensor, labels: Tensor, settings: LossSettings) -> Tensor:
    """Cross-entropy of windows' last pooled vectors `[B, P]` and labels `[B]`, mixed in pairs if the settings say so.

    Mixing: Verma et al., "Manifold mixup", 2019, on the pooled vector, the larger share being the window's own.
    """
    targets = one_hot(labels, network.sizes.classes).to(pooled.dtype)
    if settings.mix and network.training:
        share = torch.distributions.Beta(settings.mix, settings.mix).sample((len(pooled), 1))
        share, other = torch.maximum(share, 1 - share), torch.randperm(len(pooled))
        pooled, targets = (share * x + (1 - share) * x[other] for x in (pooled, targets))
    return cross_entropy(network.logits(pooled), targets, label_smoothing=settings.label_smoothing)


def fit(
    network: TemporalNetwork,
    tracks: Sequence[Track],
    settings: FitSettings,
    chain: FeatureConfig | None,
    seed: int,
    *,
    checkpoint: Path | None = None,
    score: Score | None = None,
    progress: Progress | None = None,
) -> History:
    """Trains the network in place; it ends in evaluation mode with the weights of the best look.

    Args:
        network: with its features' mean and scale set.
        tracks: training recordings.
        settings: schedule, batch and losses.
        chain: makes frames of windows; None where tracks hold frames.
        seed: of every draw.
        checkpoint: where the state is kept; if there is one of the same settings and seed, training goes on from it.
        score: validation. Without it the last weights are kept.
        progress: where a bar is shown.

    Raises:
        TrainingError: the loss is no longer finite.
        ConfigError: a checkpoint of other settings, another seed or other recordings is in the way.
        FileError: the checkpoint cannot be read or written.
    """
    run = _Run(network, tracks, settings, chain, seed, score)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    steps = settings.schedule.steps
    bar = progress.add_task(f"seed {seed}", total=steps, completed=run.step) if progress else None
    while run.step < steps and not run.history.stopped_early:
        run.take_step()
        if progress and bar is not None:
            progress.update(bar, completed=run.step)
        if run.step % settings.schedule.every == 0 or run.step == steps:
            run.look()
            if checkpoint is not None and _rank() == 0:
                run.save(checkpoint)
    if progress and bar is not None:
        progress.remove_task(bar)
    return run.finish()


class _Run:
    """The state of a run: what a checkpoint holds."""

    def __init__(
        self,
        network: TemporalNetwork,
        tracks: Sequence[Track],
        settings: FitSettings,
        chain: FeatureConfig | None,
        seed: int,
        score: Score | None,
    ) -> None:
        schedule = settings.schedule
        self.network, self.tracks, self.settings, self.chain = network, tracks, settings, chain
        self.seed, self.score = seed, score
        self.sampler = Sampler(tracks, settings.batch, chain, seed)
        weights = feature_weights(chain, settings.readout or ReadoutSettings(), network)
        self.objective = Objective(settings.losses, torch.from_numpy(weights).float())
        decay = get_ema_multi_avg_fn(schedule.average)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(network, multi_avg_fn=decay, use_buffers=True) if schedule.average else None
        self.parameters = [*network.parameters(), *self.objective.parameters()]
        shrunk = {"params": [p for p in self.parameters if p.ndim > 1], "weight_decay": schedule.weight_decay}
        free = {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0}  # biases, temperature
        self.optimizer = torch.optim.AdamW([shrunk, free], lr=schedule.learning_rate, betas=(0.9, 0.98))
        self.step, self.losses, self.history = 0, [], History()  # type: int, list[float], History
        self.best: dict[str, Tensor] = {}

    # ---------------------------------------------------------------------------------------------- one step

    def take_step(self) -> None:
        """One update of the weights."""
        self.network.train()
        generator = np.random.default_rng((self.seed, self.step))
        torch.manual_seed(int(generator.integers(2**62)) + _rank())  # of dropout
        batch, second = self._draw()
        at_end = self.settings.losses.at_end
        counted = _sum(torch.tensor(len(batch.labels)) if at_end else (batch.labels >= 0).sum().clamp(min=1))
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.settings.schedule.bf16):
            loss = self.objective(self.network, batch, second, counted)
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.parameters:
            if parameter.grad is not None:
                _sum(parameter.grad)
        nn.utils.clip_grad_norm_(self.parameters, self.settings.schedule.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.losses.append(float(_sum(loss.detach())))
        if not np.isfinite(self.losses[-1]):
            raise TrainingError(f"the loss is {self.losses[-1]} at step {self.step}; lower learning_rate, or clip more")
        self.step += 1

    def _draw(self) -> tuple[Batch, Batch | None]:
        """The windows of this step; and, for the contrastive loss, the same windows augmented in another way."""
        share = (_rank(), _processes())
        first = self.sampler.draw(self.step, share)
        return first, self.sampler.draw(self.step, share, view=1) if self.settings.losses.contrastive else None

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        schedule = self.settings.schedule
        warm = max(1, round(schedule.warm_up * schedule.steps))
        if self.step < warm:
            return schedule.learning_rate * (self.step + 1) / warm
        passed = (self.step - warm) / max(1, schedule.steps - warm)
        return float(schedule.learning_rate * 0.5 * (1 + np.cos(np.pi * passed)))

    # ------------------------------------------------------------------------------------- looks and their end

    def look(self) -> None:
        """Validates, and keeps the weights if they are the best so far."""
        schedule, history = self.settings.schedule, self.history
        history.steps.append(self.step)
        history.losses.append(float(np.mean(self.losses)))
        self.losses = []
        network = self._averaged()
        if self.score is not None:
            history.scores.append(self.score(network.eval()))
            if history.scores[-1] < max(history.scores[:-1], default=-np.inf):
                looks_since = len(history.scores) - 1 - int(np.argmax(history.scores))
                history.stopped_early = schedule.patience is not None and looks_since >= schedule.patience
                return
        history.best_step = self.step
        self.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def finish(self) -> History:
        """Puts the kept weights into the network."""
        if self.best:
            self.network.load_state_dict(self.best)
        self.network.eval()
        return self.history

    def _averaged(self) -> TemporalNetwork:
        network = self.network if self.average is None else self.average.module
        assert isinstance(network, TemporalNetwork)
        return network

    # --------------------------------------------------------------------------------------------- checkpoints

    def save(self, path: Path) -> None:
        """Writes the state beside `path`, then renames it."""
        state = {
            "of": self._identity(),
            "step": self.step,
            "history": vars(self.history),
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "best": self.best,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(path, content.getvalue())

    def restore(self, path: Path) -> None:
        """Takes the state up again."""
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(read_whole(path, MAX_CHECKPOINT_BYTES)), weights_only=True)
            of = state["of"]
        except (RuntimeError, KeyError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
            raise ConfigError(f"{path} is no checkpoint of this package: {error}; delete it to start anew") from None
        if of != self._identity():
            raise ConfigError(f"{path} is a checkpoint of other settings, seed or recordings; delete it to start anew")
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step, self.history, self.best = state["step"], History(**state["history"]), state["best"]
        logger.info("going on from step %d of %s", self.step, path)

    def _identity(self) -> dict[str, Any]:
        """What has to be the same for a run to go on."""
        return {
            "settings": self.settings.model_dump_json(include=set(FitSettings.model_fields)),
            "network": repr((self.network.sizes, self.network.config, self.chain)),
            "seed": self.seed,
            "recordings": [track.name for track in self.tracks],
        }


# -------------------------------------------------------------------------------------------------- processes


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def _rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def _sum(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place."""
    if _processes() > 1:
        distributed.all_reduce(tensor)
    return tensor
