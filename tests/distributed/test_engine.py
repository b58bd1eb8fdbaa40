"""Without Ray, what needs it says so, and what does not need it works."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import ESP32, Wdt, wdt
from tests.evaluation.recordings import make_blob, make_model
from wifi_densepose_temporal.distributed import ShardedPool
from wifi_densepose_temporal.errors import MissingExtraError

__all__ = ["wdt"]  # the fixture


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)


@pytest.mark.usefixtures("no_ray")
def test_the_extra_is_named(wdt: Wdt, tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'wifi-densepose-temporal\[ray\]'"):
        ShardedPool(make_model(), tmp_path / "shards")
    (tmp_path / "m.rvne").write_bytes(make_blob())
    asked = ("embed", tmp_path / "m.rvne", ESP32, "-o", tmp_path / "e.npz")
    assert "pip install 'wifi-densepose-temporal[ray]'" in wdt(*asked, "--workers", 2).error_line()
    assert not (tmp_path / "e.npz").exists()
    assert wdt(*asked).code == 0
