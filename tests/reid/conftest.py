"""The same tests against a SQLite file and a PostgreSQL database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reid.postgres import Server
from wifi_densepose_temporal.reid import Gallery


@dataclass(frozen=True)
class Model:
    """What a gallery needs to know of a model."""

    sha256: str = "ab" * 32
    embedding_dim: int = 32
    trained: bool | None = True


MODEL = Model()


class People(Protocol):
    def __call__(self, count: int, each: int, spread: float = 0.1, dim: int = 32) -> NDArray[np.float32]: ...


def unit(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def people() -> People:
    """Draws persons: `[count, each, dim]` unit vectors around a centre for each person."""
    rng = np.random.default_rng(0)

    def draw(count: int, each: int, spread: float = 0.1, dim: int = 32) -> NDArray[np.float32]:
        centres = unit(rng.standard_normal((count, 1, dim)))
        return unit(centres + spread * rng.standard_normal((count, each, dim)))

    return draw


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    try:
        running = Server()
    except Exception as error:
        if os.environ.get("WDT_REQUIRE_POSTGRES") == "1":
            raise
        pytest.skip(f"no PostgreSQL server could be started: half of these tests are not run: {error}")
    yield running
    running.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a gallery: a path, or a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "persons.gallery")
    return str(request.getfixturevalue("server").empty())


@pytest.fixture
def gallery(where: str) -> Iterator[Gallery]:
    with Gallery.open(where, MODEL, create=True) as opened:
        yield opened
