"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from wifi_densepose_temporal import TemporalModel, init_random_blob

# A slow machine is no failure: timing is never a test here.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# A file is one process's (justfile): the longest ones begin first, or the last of them would be waited for.
LONGEST = ("test_instruction_sets.py", "test_fuzz.py", "test_core.py", "test_estimators.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of goldens and recordings beside the repository; tests that need it are skipped, loudly, without."""
    for part in ("goldens", "data"):
        if not (SHARED / part).is_dir():
            pytest.skip(f"needs the goldens and recordings in {SHARED.name}/ beside the repository; no {part}/ there")
    return SHARED


@pytest.fixture(scope="session")
def reference_blob_model() -> TemporalModel:
    """The reference blob as a model; running it changes nothing."""
    return TemporalModel.from_bytes(init_random_blob())
