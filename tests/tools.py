"""What a test does whose compilers or emulators are absent."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest


def give_up_without(missing: Sequence[str], what: str) -> None:
    """Skips the test where a tool is missing, and says what is then not tested; in CI it fails."""
    if missing:
        give_up = pytest.fail if os.environ.get("WDT_REQUIRE_QEMU") else pytest.skip
        give_up(f"{what}: no {' and no '.join(missing)} (.ci/run names Debian's packages)")
