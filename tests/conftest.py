"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of goldens and recordings beside the repository; tests that need it are skipped, loudly, without."""
    if not (SHARED / "goldens").is_dir():
        pytest.skip(f"needs the goldens and recordings in {SHARED.name}/ beside the repository")
    return SHARED
