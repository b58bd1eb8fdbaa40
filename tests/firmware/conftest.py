"""The fixture that compiles programs of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.firmware.building import COMPONENT, CORE, SANITIZERS, TESTS, Build, compile_c


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Links a program of tests/firmware with files of the component and, compiled once, the core."""
    folder = tmp_path_factory.mktemp("component")
    core = [compile_c([source], folder / f"{source.stem}.o", "-c", *SANITIZERS) for source in CORE]

    def build(name: str, component: list[str], *options: object, **more: Any) -> Path:
        sources = [TESTS / f"{name}.c", *(COMPONENT / "src" / f"{file}.c" for file in component)]
        return compile_c([*sources, *core], folder / name, *SANITIZERS, *options, **more)

    return build
