"""Training on arrays of cases in place of recordings: what the scikit-learn estimators call.

Letters: T frames of a case, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

from wifi_densepose_temporal.cases import Floats, digest
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.rvne.records import UNTRAINED_CLASSES
from wifi_densepose_temporal.training.augment import Packets
from wifi_densepose_temporal.training.batches import Track
from wifi_densepose_temporal.training.blob import to_blob
from wifi_densepose_temporal.training.fit import fit
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.sections import ModelSettings
from wifi_densepose_temporal.training.settings import FitSettings


def train_cases(
    cases: Sequence[Floats],
    numbers: NDArray[np.int64],
    model: Mapping[str, Any],
    loop: Mapping[str, Any],
    *,
    classes: Sequence[str],
    task: str,
    seed: int,
) -> bytes:
    """The bytes of a blob trained on all cases. PyTorch's global generator is left as it was.

    Args:
        cases: frames, float32 `[T, F]` each.
        numbers: `[n_cases]`, class or identity of each; every frame of a case has it.
        model: values of `ModelSettings`.
        loop: values of `FitSettings`.
        classes: names of the model's classes.
        task: what the provenance calls this.
        seed: of weights, draws and dropout.

    Raises:
        ConfigError: a value that is out of range; every one that is wrong is named.
        TrainingError: the loss is no longer finite.
    """
    sizes, settings = _settings(model, loop)
    scaler = StandardScaler().fit(np.concatenate(cases))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TemporalNetwork(sizes.sizes(cases[0].shape[1], len(classes)), sizes.head())
        network.mean.copy_(torch.from_numpy(scaler.mean_))
        network.scale.copy_(torch.from_numpy(1 / scaler.scale_))
        fit(network, _tracks(cases, numbers), settings, None, seed)
    provenance = {
        "trained": settings.schedule.steps > 0,
        "task": task,
        "data": {"name": "arrays", "cases": len(cases), "sha256": digest(cases, numbers)},
        "split": f"all {len(cases)} cases that fit was given; what was held out from it is not known here.",
        "seeds": [seed],
        "config": {"model": sizes.model_dump(mode="json"), **settings.model_dump(mode="json")},
        "tool": f"wifi-densepose-temporal {metadata.version('wifi-densepose-temporal')}",
    }
    if tuple(classes) == UNTRAINED_CLASSES:
        provenance["classifier"] = "untrained"
    # No chain of ours made these frames, and a blob that named one would be run on captures with it.
    return to_blob(network, labels=classes, chain=None, provenance=provenance).serialize()


def _settings(model: Mapping[str, Any], loop: Mapping[str, Any]) -> tuple[ModelSettings, FitSettings]:
    try:
        return ModelSettings.model_validate(model), FitSettings.model_validate(loop)
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][-1]}: {e['msg']}, given {e['input']!r}" for e in error.errors()[:5])
        raise ConfigError(wrong) from None


def _tracks(cases: Sequence[Floats], numbers: NDArray[np.int64]) -> list[Track]:
    """Cases as tracks that hold frames; the time between two is 1."""
    tracks = []
    for i, (case, number) in enumerate(zip(cases, numbers.tolist(), strict=True)):
        packets = Packets(np.arange(len(case), dtype=np.float64), case[:, np.newaxis], np.full(len(case), number))
        tracks.append(Track(f"case {i}", packets, case.shape[1], number))
    return tracks
