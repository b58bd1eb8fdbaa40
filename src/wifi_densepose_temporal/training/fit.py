"""The training loop: draw, forward, loss, backward, clip, step; now and then a look at the validation recordings.

All randomness comes from the seed and the step's number, so that a run that was killed and goes on from its checkpoint
ends with the same bits as one that was not. Under `torchrun`, processes share each step's windows and add their
gradients up, so the step is that of one process (but for dropout, BatchNorm, and losses that compare windows, which are
the mean over the processes, each with windows of its own). The first process validates, and all go by what it finds.

Not here: what is trained on (batches.py), the loss of a step (objective.py), what becomes of the weights (recipe.py).
"""

from __future__ import annotations

import hashlib
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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.errors import ConfigError, NonFiniteError, TrainingError
from wifi_densepose_temporal.files import read_whole, write_whole
from wifi_densepose_temporal.training.batches import Batch, Sampler, Track, check_shares
from wifi_densepose_temporal.training.losses import EPISODE_PEOPLE, NO_LABEL, alignment, uniformity
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.objective import Objective
from wifi_densepose_temporal.training.readout import feature_weights
from wifi_densepose_temporal.training.sections import ReadoutSettings
from wifi_densepose_temporal.training.settings import FitSettings

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
        alignments: of two views of the windows that the next step would draw; empty without a contrastive loss.
        uniformities: of the same windows.
        best_step: the look whose weights were kept; the last one without validation.
        stopped_early: whether patience ran out.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    alignments: list[float] = field(default_factory=list)
    uniformities: list[float] = field(default_factory=list)
    best_step: int = 0
    stopped_early: bool = False


def fit(
    network: TemporalNetwork,
    tracks: Sequence[Track],
    settings: FitSettings,
    chain: FeatureConfig | None,
    seed: int,
    *,
    checkpoint: Path | None = None,
    score: Score | None = None,
    validation: Sequence[Track] = (),
    progress: Progress | None = None,
) -> History:
    """Trains the network in place; it ends in evaluation mode with the weights of the best look.

    Args:
        network: with its features' mean and scale set.
        tracks: training recordings.
        settings: schedule, batch and losses.
        chain: makes frames of windows; None where tracks hold frames.
        seed: of every draw.
        checkpoint: where the state is kept; if there is one of the same training, it goes on from there.
        score: validation. Without it the last weights are kept.
        validation: what `score` looks at; a checkpoint belongs to it, for it holds scores and the best weights.
        progress: where a bar is shown.

    Raises:
        TrainingError: the loss, its gradient or an activation is no longer finite.
        ConfigError: a checkpoint of other settings, recordings, seed or starting weights is in the way; or there are
            more processes than a step can be shared by.
        FileError: the checkpoint cannot be read or written.
    """
    run = _Run(network, tracks, settings, chain, seed, score, validation)
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
        validation: Sequence[Track],
    ) -> None:
        schedule = settings.schedule
        check_shares(tracks, settings.batch, _processes(), EPISODE_PEOPLE if settings.losses.episodes else 1)
        self.network, self.tracks, self.settings, self.chain = network, tracks, settings, chain
        self.seed, self.score, self.validation = seed, score, validation
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
        self.identity = self._identity()

    # ---------------------------------------------------------------------------------------------- one step

    def take_step(self) -> None:
        """One update of the weights."""
        self.network.train()
        generator = np.random.default_rng((self.seed, self.step))
        torch.manual_seed(int(generator.integers(2**62)) + _rank())  # of dropout
        batch, second = self._draw()
        at_end = self.settings.losses.at_end
        labels = batch.last(batch.labels) if at_end else batch.labels
        counted = _sum((labels != NO_LABEL).sum()).clamp(min=1)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.optimizer.zero_grad()
        loss = self._require_finite("loss", _sum(self._backward(batch, second, counted)))
        for parameter in self.parameters:
            if parameter.grad is not None:
                _sum(parameter.grad)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.schedule.clip)
        self._require_finite("norm of the gradient", norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.losses.append(loss)
        self.step += 1

    def _backward(self, batch: Batch, second: Batch | None, counted: Tensor) -> Tensor:
        """The loss, with its gradients left in the parameters; NaN where the operator refused what it was given.

        An error here would leave the other processes waiting; a loss that is NaN stops them all.
        """
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.settings.schedule.bf16):
                loss = self.objective(self.network, batch, second, counted, _processes())
            loss.backward()
        except NonFiniteError as error:
            logger.debug("step %d: %s", self.step, error)
            return torch.tensor(torch.nan)
        value: Tensor = loss.detach()
        return value

    def _require_finite(self, what: str, number: Tensor) -> float:
        if not torch.isfinite(number):
            raise TrainingError(
                f"the {what} is {float(number)} at step {self.step}: training diverged; lower learning_rate, or clip "
                "more"
            )
        return float(number)

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
        network = self._averaged().eval()
        for buffer in (*self.network.buffers(), *network.buffers()):  # BatchNorm saw windows of one process
            _from_first(buffer)
        if self.settings.losses.contrastive:
            self._look_at_views(network)
        if self.score is not None:
            history.scores.append(self._validated(network, self.score))
            if not history.scores[-1] > max(history.scores[:-1], default=-np.inf):
                looks_since = sum(step > history.best_step for step in history.steps)
                history.stopped_early = schedule.patience is not None and looks_since >= schedule.patience
                return
        history.best_step = self.step
        self.best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def _validated(self, network: TemporalNetwork, score: Score) -> float:
        """The first process's score, so that all keep the same weights and stop at the same look."""
        found = torch.tensor(torch.nan, dtype=torch.float64)
        if _rank() == 0:
            try:
                found.fill_(score(network))
            except NonFiniteError as error:
                logger.debug("step %d: %s", self.step, error)
        return self._require_finite("validation score", _from_first(found))

    def _look_at_views(self, network: TemporalNetwork) -> None:
        """Alignment and uniformity of the embeddings of two views: whether one of them has collapsed."""
        first, second = self._draw()
        assert second is not None
        found = torch.tensor([torch.nan, torch.nan])
        try:
            with torch.no_grad():
                one, two = (network.embedding(view.last(network.pooled(view.frames))) for view in (first, second))
            found = torch.stack([alignment(one, two), (uniformity(one) + uniformity(two)) / 2])
        except NonFiniteError as error:
            logger.debug("step %d: %s", self.step, error)
        _sum(found)
        self.history.alignments.append(self._require_finite("alignment", found[0] / _processes()))
        self.history.uniformities.append(self._require_finite("uniformity", found[1] / _processes()))

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
            "of": self.identity,
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
            of = dict(state["of"])
        except (RuntimeError, KeyError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
            raise ConfigError(f"{path} is no checkpoint of this package: {error}; delete it to start anew") from None
        if other := [name for name, value in self.identity.items() if of.get(name) != value]:
            raise ConfigError(f"{path} is a checkpoint of other {', '.join(other)}; delete it to start anew")
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.step, self.history, self.best = state["step"], History(**state["history"]), state["best"]
        logger.info("going on from step %d of %s", self.step, path)

    def _identity(self) -> dict[str, Any]:
        """What has to be the same for a run to go on; of the read-out, which comes after it, what the loss takes."""
        readout = self.settings.readout
        return {
            "settings": self.settings.model_dump_json(include=set(FitSettings.model_fields) - {"readout"}),
            "part weights": list(readout.part_weights) if readout is not None else [],
            "network": repr((self.network.sizes, self.network.config, self.chain)),
            "seed": self.seed,
            "recordings": [[track.name, track.digest] for track in self.tracks],
            "validation recordings": [[track.name, track.digest] for track in self.validation] or None,
            "starting weights": _digest(self.network),
        }


def _digest(network: TemporalNetwork) -> str:
    """sha256 of all weights and buffers: the scale of the features is one."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def _from_first(tensor: Tensor) -> Tensor:
    """What the first process has, in place."""
    if _processes() > 1:
        distributed.broadcast(tensor, 0)
    return tensor
