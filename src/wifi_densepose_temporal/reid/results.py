"""What a gallery answers. Plain records: nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.model import Source

Decision = Literal["known", "unknown", "uncalibrated", "unavailable"]
Kind = Literal["enrolled", "updated"]


@dataclass(frozen=True)
class Identification:
    """Whose a probe is. Similarities are cosines, -1..1, larger is nearer."""

    person: str | None
    """The person recognised; None unless the decision is `"known"`."""
    decision: Decision
    """`"unknown"`: below the threshold. `"uncalibrated"`: there is no threshold. `"unavailable"`: nobody is enrolled,
    or the probe has no direction."""
    nearest: str | None
    """The nearest person, recognised or not; None where unavailable."""
    similarity: float | None
    """To the nearest person: the largest to any of their vectors."""
    enrolled_similarity: float | None
    """The largest to that person's enrolled vectors alone; this is what the threshold is for."""
    runner_up: str | None
    """The second nearest person; None where there is none."""
    runner_up_similarity: float | None
    threshold: float | None
    """With `enrolled_similarity` at or above it a person is known; None where the gallery is not calibrated."""
    source: Source
    """Where the probe came from, as the caller said."""
    model_sha256: str
    """Of the gallery's model, which made the probe."""
    trained: bool | None
    """Whether that model says that it was trained."""

    @property
    def margin(self) -> float | None:
        """How much nearer the nearest person is than the runner-up."""
        if self.similarity is None or self.runner_up_similarity is None:
            return None
        return self.similarity - self.runner_up_similarity


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what it was found with. It holds for strangers like these and about that many persons."""

    threshold: float
    false_accept_rate: float
    """What was asked for."""
    probes: int
    """Embeddings of persons that were not to be recognised."""
    persons: int
    """Persons that these are of; each counts once."""
    gallery_persons: int
    """Persons enrolled then; more persons than that, and more strangers pass."""
    method: Literal["strangers", "within"]
    """`"strangers"`: each probe was compared with all enrolled persons. `"within"`: each enrolled person with all
    others, one fewer than are enrolled."""
    when: str
    """UTC."""


@dataclass(frozen=True)
class Update:
    """What became of an online update."""

    accepted: bool
    reason: str
    """One sentence; empty where accepted."""
    similarity: float
    """To the nearest of the person's enrolled vectors."""
    other_similarity: float | None
    """To the nearest vector of anybody else; None where nobody else is enrolled."""


@dataclass(frozen=True)
class Forgotten:
    """What `forget` has done."""

    embeddings: int
    """Deleted."""
    scrubbed: bool
    """Whether the deleted bytes are gone from the database's files too. If not, something else holds them open: repeat
    `scrub()`."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person as the gallery holds them."""

    person: str
    """The caller's name."""
    key: str
    """The random key that the audit log names."""
    since: str
    """UTC."""
    enrolled: int
    """Vectors that never change."""
    updated: int
    """Vectors taken in by `update`."""
    sources: tuple[str, ...]
    recordings: tuple[str, ...]
    """SHA-256 of the recordings, where stated."""
    prototype: NDArray[np.float32]
    """`[E]`, the normalised mean of the vectors; zeros where they cancel out."""
    spread: float
    """Mean cosine distance of the vectors to the prototype."""


@dataclass(frozen=True)
class AuditEntry:
    """One change of the gallery. It names no person."""

    sequence: int
    when: str
    """UTC."""
    action: str
    key: str | None
    """Of the person; None where the change is not of one."""
    detail: str
    """JSON."""
