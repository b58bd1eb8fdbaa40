"""Where weights come from: what a blob says of its origin, and what the blob that training starts from says of its own.

An encoder remembers what it was pretrained on as well as what it was trained on. So the recordings of the blob that
training starts from go into the new blob's list, and none of them may validate or test.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from torch import Tensor

from wifi_densepose_temporal.datasets import Recording, Split
from wifi_densepose_temporal.errors import ConfigError, LeakageError
from wifi_densepose_temporal.evaluation.report import DIGEST_LETTERS, counted, few, seen_in_training
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES
from wifi_densepose_temporal.training.blob import to_network
from wifi_densepose_temporal.training.fit import History
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.settings import Settings

logger = logging.getLogger(__name__)

UNLISTED = "what the model that training started from was trained on is not listed in its blob"


@dataclass(frozen=True, eq=False)
class Start:
    """The model that training starts from, and what it was trained on."""

    sha256: str
    model: TemporalModel
    network: TemporalNetwork
    names: tuple[str, ...]
    """Of its recordings, as its blob has them."""
    digests: tuple[str, ...]
    """The first letters of each recording's digest."""
    listed: bool
    """Whether these are all."""


def read_start(path: str) -> Start:
    """The blob that training starts from; it is warned about where its blob does not list what it was trained on.

    Raises:
        FileError, BlobError: as `TemporalModel.load`.
    """
    content = read_whole(path, MAX_BLOB_BYTES)
    model = TemporalModel.from_bytes(content)
    data = model.provenance.get("data")
    names, digests = (_texts(data.get(key) if isinstance(data, dict) else None) for key in ("recordings", "sha256"))
    whole = bool(digests) and isinstance(data, dict) and "incomplete" not in data
    listed = whole or (model.trained is False and not digests)
    if not listed:
        logger.warning("WARNING: start_from %s: %s; nothing shows that tests are new to it", path, UNLISTED)
    names = names if len(names) == len(digests) else digests  # a name for each, whatever the blob says
    digests = tuple(digest[:DIGEST_LETTERS].lower() for digest in digests)
    return Start(hashlib.sha256(content).hexdigest(), model, to_network(content), names, digests, listed)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else ()


def check_start(start: Start, split: Split) -> None:
    """Refuses a split in which the start has seen what validates or tests.

    Raises:
        LeakageError: it names the recordings.
        FileError: a recording's file cannot be read.
    """
    sides = {"validation": split.validation, **{f"test {name!r}": test for name, test in split.tests.items()}}
    for side, recordings in sides.items():
        seen = seen_in_training(start.model, recordings)
        if seen:
            raise LeakageError(
                f"start_from {start.sha256[:12]} was trained on {counted(len(seen), 'recording')} of {side} "
                f"({few(seen)}): the result would be what the model remembers; pretrain without them"
            )


def take_over(network: TemporalNetwork, start: Start, settings: Settings) -> None:
    """Takes over the weights of the start, all up to the pooling; not those of classes and projection.

    Raises:
        ConfigError: the two do not have the same feature chain, sizes up to the pooling, norm, activation and pattern.
    """
    other = start.network
    own, theirs = _encoder(network), _encoder(other)
    differences = {
        "feature chain": start.model.feature_chain != settings.chain.to_words(),
        "norm": other.sizes.norm != network.sizes.norm,
        "activation": network.sizes.hidden > 0 and other.sizes.activation != network.sizes.activation,
        "attention pattern": other.config != network.config,
        "sizes": {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in theirs.items()},
    }
    if any(differences.values()):
        wrong = " and ".join(name for name, differs in differences.items() if differs)
        raise ConfigError(
            f"start_from {start.sha256[:12]} has another {wrong}: it is a model of {other.sizes}, {other.config}; "
            f"expected {network.sizes}, {network.config}, and the same [features]"
        )
    network.load_state_dict(theirs, strict=False)


def _encoder(network: TemporalNetwork) -> dict[str, Tensor]:
    """Weights and scales up to the pooling."""
    state = network.state_dict()
    return {name: state[name] for name in state if not name.startswith(("classifier", "projection"))}


def provenance(settings: Settings, split: Split, seed: int, history: History, start: Start | None) -> dict[str, Any]:
    """What the blob says of its origin."""
    trained = settings.trains or (start is not None and start.model.trained is True)
    config = json.loads(settings.model_dump_json(exclude={"data"}))  # through JSON: infinity is a text there
    said: dict[str, Any] = {
        "trained": trained,
        "task": settings.task,
        "data": _data(settings, (*split.train, *split.validation), start),
        "split": split.words,
        "seeds": [seed],
        "metrics": {"validation": max(history.scores) if history.scores else None, "best_step": history.best_step},
        "config": config,
        "tool": f"wifi-densepose-temporal {metadata.version('wifi-densepose-temporal')}",
    }
    if trained and not settings.trains_classifier:
        said["classifier"] = "untrained"
    if start is not None:
        config["start_from"] = start.sha256
        what = f"trained on {counted(len(start.digests), 'recording')}, listed too" if start.listed else UNLISTED
        said["split"] += f" Started from model {start.sha256[:12]}: {what}."
    return said


def _data(settings: Settings, learned: Sequence[Recording], start: Start | None) -> dict[str, Any]:
    """The recordings that the weights have seen, those of the start last."""
    names, digests = [one.name for one in learned], [_digest(one) for one in learned]
    if start is not None:
        new = [(n, d) for n, d in zip(start.names, start.digests, strict=True) if d not in digests]
        names, digests = names + [n for n, _ in new], digests + [d for _, d in new]
    incomplete = {} if start is None or start.listed else {"incomplete": UNLISTED}
    return {"name": settings.name, "recordings": names, "sha256": digests, **incomplete}


def _digest(recording: Recording) -> str:
    return recording.sha256[:DIGEST_LETTERS]
