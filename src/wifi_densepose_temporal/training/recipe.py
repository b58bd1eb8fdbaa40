"""From a configuration to blobs and figures: for each split and seed train, export, evaluate on what was held out.

Left in the folder: `model.rvne`, `metrics.json`, `curves.png`, the configuration, and a folder for each split and seed
with its own model and checkpoint, from which a killed run goes on. What is evaluated is the exported blob in the core,
not the network in PyTorch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import distributed

from wifi_densepose_temporal.adaptation import with_statistics
from wifi_densepose_temporal.datasets import (
    FeatureCache,
    Manifest,
    Recording,
    Split,
    make_folds,
    make_split,
    open_dataset,
)
from wifi_densepose_temporal.errors import ConfigError, FileError, FormatError
from wifi_densepose_temporal.evaluation import evaluate_activity, evaluate_identity
from wifi_densepose_temporal.evaluation.identity import RANKS, Scores, gallery_and_probe
from wifi_densepose_temporal.evaluation.report import counted, few
from wifi_densepose_temporal.evaluation.within import evaluate_within, require_windows_within
from wifi_densepose_temporal.files import write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.rvne.records import UNTRAINED_CLASSES
from wifi_densepose_temporal.training.batches import frames_of
from wifi_densepose_temporal.training.blob import to_blob
from wifi_densepose_temporal.training.ensemble import side_by_side
from wifi_densepose_temporal.training.fit import History, fit
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.provenance import (
    Start,
    check_start,
    provenance,
    read_start,
    take_over,
)
from wifi_densepose_temporal.training.readout import fit_readout, require_windows
from wifi_densepose_temporal.training.settings import Settings
from wifi_densepose_temporal.training.tracks import Learning, load
from wifi_densepose_temporal.training.validation import score_of

logger = logging.getLogger(__name__)

ACTIVITY_METRICS = ("window_accuracy", "frame_accuracy", "recording_accuracy", "macro_f1")


@dataclass(frozen=True, eq=False)
class Run:
    """One split and seed: the blob, how training went, and its figures on each test; None where unavailable."""

    name: str
    seed: int
    split: Split
    blob: bytes
    history: History
    tests: Mapping[str, Mapping[str, float | None]]

    @property
    def validation(self) -> float | None:
        """The score that the kept weights had; None without validation recordings."""
        return max(self.history.scores) if self.history.scores else None


def splits_of(settings: Settings) -> list[Split]:
    """The splits that a configuration asks for.

    Raises:
        ConfigError, LeakageError, FileError: as `make_split` and `make_folds`.
    """
    asked, whole = settings.split, open_dataset(settings.data.path)
    manifest = Manifest(whole.root, whole.select(asked.among))
    validation = {"validation_fraction": asked.validation.fraction, "validation_by": asked.validation.by}
    if asked.folds is not None:
        return make_folds(manifest, held_out=asked.held_out, count=asked.folds, **validation)  # type: ignore[arg-type]
    return [make_split(manifest, held_out=asked.held_out, train=asked.train, tests=asked.tests, **validation)]  # type: ignore[arg-type]


def train(
    settings: Settings, folder: Path, *, cache: FeatureCache | None = None, progress: Progress | None = None
) -> list[Run]:
    """Trains every split and seed, and leaves its files in `folder`.

    Args:
        settings: the configuration.
        folder: where everything goes; made if it is not there. Training goes on from the checkpoints in it; a run
            that was trained to its end already is only exported and evaluated again.
        cache: of features.
        progress: where bars are shown.

    Raises:
        ConfigError, LeakageError, FileError, FormatError: as the parts; what can be found out before training, is.
        TrainingError: training diverged.
    """
    start_processes()
    make_folder(folder)
    splits = splits_of(settings)
    start = read_start(settings.start_from) if settings.start_from is not None else None
    for split in splits:
        check_labels(settings, split)
        check_people(settings, split)
        check_within_windows(settings, split)
        if start is not None:
            check_start(start, split)
    bar = progress.add_task(settings.name, total=len(splits) * len(settings.seeds)) if progress else None
    runs = []
    for number, split in enumerate(splits):
        prepared = _Prepared(settings, split, start, cache, progress)
        for seed in settings.seeds:
            name = f"fold{number}-seed{seed}" if len(splits) > 1 else f"seed{seed}"
            runs.append(prepared.run(name, seed, folder))
            if progress and bar is not None:
                progress.advance(bar)
    return runs


def check_labels(settings: Settings, split: Split) -> None:
    """Refuses recordings without labels where these are learned, or decisions are held against them.

    Raises:
        FormatError: it names the recordings.
    """
    if settings.task != "activity" or not settings.names_classes:
        return
    recordings = (*split.train, *split.validation, *(one for test in split.tests.values() for one in test))
    bare = [one.name for one in recordings if not one.label and one.labels_path is None]
    if bare:
        raise FormatError(
            f"without a label: {counted(len(bare), 'recording')} ({few(bare)}); state it in the manifest, leave them "
            "out by split.among, or pretrain without labels"
        )


def check_people(settings: Settings, split: Split) -> None:
    """Refuses recordings of nobody known where people are learned, validated by or looked for: they would be one.

    Raises:
        FormatError: it names the recordings.
        ConfigError: as `gallery_and_probe`.
    """
    sides: list[Sequence[Recording]] = [split.train] if settings.learns_people else []
    if settings.task == "identity":
        sides.append(split.validation)
        for test in split.tests.values():
            sides += (test,) if settings.split.within is not None else ()
            sides += sides_of(test, split.train)
    bare = list(dict.fromkeys(one.name for side in sides for one in side if not one.person))
    if bare:
        raise FormatError(
            f"without a person: {counted(len(bare), 'recording')} ({few(bare)}); whose they are is not known: state it "
            "in the manifest, or leave them out by split.among"
        )


def check_within_windows(settings: Settings, split: Split) -> None:
    """Refuses tests that lack a window that `split.within` names.

    Raises:
        FormatError: it names the recording.
        FileError: a recording cannot be read.
    """
    if (within := settings.split.within) is not None:
        for test in split.tests.values():
            require_windows_within(test, within.probe, within.gallery)


class _Prepared:
    """A split's recordings, loaded once for all seeds."""

    def __init__(
        self,
        settings: Settings,
        split: Split,
        start: Start | None,
        cache: FeatureCache | None,
        progress: Progress | None,
    ) -> None:
        self.settings, self.split, self.start, self.cache, self.progress = settings, split, start, cache, progress
        learning = load(split.train, split.validation, settings.chain, cache)
        self.tracks, self.scale = learning.train, learning.scale
        self.validation = learning.validation
        self.classes = class_names(settings, learning, split)
        if settings.readout is not None:
            long = [track for track in self.tracks if len(track.packets) >= settings.readout.packets]
            require_windows(self.tracks, {track.identity for track in long}, settings.readout)
        self.score = score_of(learning.validation, settings) if learning.validation else None

    def run(self, name: str, seed: int, folder: Path) -> Run:
        """Trains with one seed, exports and evaluates."""
        settings = self.settings
        make_folder(folder / name)
        network, history = self.trained(seed, folder / name)
        if settings.readout is not None:
            fit_readout(network, self.tracks, settings.chain, settings.readout)
        blob = to_blob(
            network,
            labels=self.classes,
            chain=settings.chain,
            provenance=provenance(settings, self.split, seed, history, self.start),
            dtype=settings.dtype,
        ).serialize()
        if settings.task == "activity" and settings.names_classes:
            blob = with_statistics(blob, self.split.train, self.cache)
        if is_first_process():
            write_whole(folder / name / "model.rvne", blob)
        model = TemporalModel.from_bytes(blob)
        known, tested = self.split.train, self.split.tests
        tests = {test: evaluate(model, settings, some, known, self.cache) for test, some in tested.items()}
        if (within := settings.split.within) is not None:
            words = f"windows {_numbers(within.probe)} among {_numbers(within.gallery)}"
            for test, some in tested.items():
                tests[f"{test}, {words}"] = figures(evaluate_within(model, some, within.probe, within.gallery))
        return Run(name, seed, self.split, blob, history, tests)

    def trained(self, seed: int, folder: Path) -> tuple[TemporalNetwork, History]:
        """A network; of several members each has a seed and a checkpoint of its own.

        The history is then the first member's, but for the losses, which are the members' mean.
        """
        settings, count = self.settings, self.settings.model.members
        members, histories = [], []
        for member in range(count):
            own = seed * count + member
            members.append(self.network(own))
            histories.append(
                fit(
                    members[-1],
                    self.tracks,
                    settings,
                    settings.chain,
                    own,
                    checkpoint=folder / ("checkpoint.pt" if count == 1 else f"checkpoint-{member}.pt"),
                    score=self.score,
                    validation=self.validation,
                    progress=self.progress,
                )
            )
        if count == 1:
            return members[0], histories[0]
        losses = np.mean([history.losses for history in histories], axis=0).tolist()
        return side_by_side(members, self.frames), replace(histories[0], losses=losses)

    @cached_property
    def frames(self) -> list[NDArray[np.float32]]:
        """`[T, F]` of each training recording."""
        return [frames_of(track.packets, track.subcarriers, self.settings.chain)[0] for track in self.tracks]

    def network(self, seed: int) -> TemporalNetwork:
        """The network that training starts from."""
        settings = self.settings
        torch.manual_seed(seed)
        sizes = settings.model.sizes(settings.chain.input_dim, len(self.classes))
        network = TemporalNetwork(sizes, settings.model.head())
        network.mean.copy_(torch.from_numpy(self.scale[0]))
        network.scale.copy_(torch.from_numpy(self.scale[1] * settings.loudness))
        if self.start is not None:
            take_over(network, self.start, settings)
        return network


# ------------------------------------------------------------------------------------------ what a run says


def evaluate(
    model: TemporalModel,
    settings: Settings,
    recordings: Sequence[Recording],
    known: Sequence[Recording],
    cache: FeatureCache | None,
) -> dict[str, float | None]:
    """The figures of a blob on held-out recordings, as `wdt evaluate` gives them.

    People are looked for between the `sides_of` the recordings and those `known` from training. Of activities there is
    None to say where the classifier is not trained.
    """
    if settings.task == "activity" and not settings.names_classes:
        return dict.fromkeys(ACTIVITY_METRICS)
    if settings.task == "activity":
        result = evaluate_activity(model, recordings, cache=cache)
        return {name: getattr(result, name) for name in ACTIVITY_METRICS}
    return figures(evaluate_identity(model, *sides_of(recordings, known)).scores)


def sides_of(
    recordings: Sequence[Recording], known: Sequence[Recording]
) -> tuple[Sequence[Recording], Sequence[Recording]]:
    """Gallery and probe of a test: its first and second session; of one session: those `known`, a closed set, and it.

    Raises:
        ConfigError: as `gallery_and_probe`.
    """
    several = len({recording.session for recording in recordings}) > 1
    return gallery_and_probe(recordings) if several else (known, recordings)


def figures(scores: Scores) -> dict[str, float | None]:
    """Ranks, mAP and AUC by name."""
    return {**{f"rank{k}": scores.rank(k) for k in RANKS}, "map": scores.map, "auc": scores.auc}


def _numbers(windows: Sequence[int]) -> str:
    return ", ".join(map(str, windows))


def class_names(settings: Settings, learning: Learning, split: Split) -> tuple[str, ...]:
    """What the classifier decides between: labels or people trained on; placeholders where it is not trained.

    Raises:
        FormatError: validation has a label that training lacks.
        ConfigError: it is one, so that there is nothing to decide.
    """
    if not settings.names_classes:
        return UNTRAINED_CLASSES
    activity = settings.task == "activity"
    if activity and learning.untrained:
        raise FormatError(
            f"validation recordings are labelled {few(learning.untrained)}, and no training recording is: what is not "
            "trained is never decided; train on recordings of it too, or leave them out by split.among"
        )
    classes = learning.names.labels if activity else tuple(sorted({one.person for one in split.train}))
    if len(classes) < 2:
        what = "activity" if activity else "person"
        raise ConfigError(f"training recordings of one {what}, {few(classes)}; a classifier takes two or more")
    return classes


def summary(settings: Settings, runs: Sequence[Run]) -> dict[str, Any]:
    """All runs as a document: for each test the mean and spread of each figure over seeds (and folds), and each run."""
    tests: dict[str, dict[str, Any]] = {}
    for test in dict.fromkeys(test for run in runs for test in run.tests):
        found: dict[str, list[float]] = {}
        for run in runs:
            for name, value in run.tests.get(test, {}).items():
                if value is not None:
                    found.setdefault(name, []).append(value)
        tests[test] = {name: _spread(values) for name, values in found.items()}
    kept = best_run(runs)
    model = TemporalModel.from_bytes(kept.blob)
    unavailable = {name: selector for run in runs for name, selector in run.split.unavailable.items()}
    return {
        "name": settings.name,
        "task": settings.task,
        "source": "replay",
        "kept": kept.name,
        "model_sha256": model.sha256,
        "trained": model.trained,
        "classifier_trained": settings.trains_classifier,
        "seeds": list(settings.seeds),
        "split": list(dict.fromkeys(run.split.words for run in runs)),
        "tests": tests,
        "unavailable": unavailable,
        "runs": [
            {
                "run": run.name,
                "seed": run.seed,
                "bytes": len(run.blob),
                "validation": run.validation,
                "best_step": run.history.best_step,
                "stopped_early": run.history.stopped_early,
                "history": asdict(run.history),
                "tests": run.tests,
            }
            for run in runs
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float | int]:
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        "least": min(values),
        "most": max(values),
        "n": len(values),
    }


def best_run(runs: Sequence[Run]) -> Run:
    """The run to keep: the best on validation recordings, the first seed without them. Tests have no say."""
    return max(runs, key=lambda run: run.validation or 0.0)  # of equal ones, max keeps the first


# --------------------------------------------------------------------------------------- folders and processes


def make_folder(folder: Path) -> None:
    """The folder, if it is not there.

    Raises:
        FileError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror or error}; check the path") from None


def start_processes() -> None:
    """Joins the other processes, where `torchrun` has started several: they share each step's windows."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("gloo")


def is_first_process() -> bool:
    """Whether this process writes and reports."""
    return not distributed.is_initialized() or distributed.get_rank() == 0
