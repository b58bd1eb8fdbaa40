"""Models by name and by path."""

from __future__ import annotations

from pathlib import Path

import pytest

from wifi_densepose_temporal import FileError, WeightBlobView, adaptation, init_random_blob, models
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "activity.rvne").write_bytes(init_random_blob())
    monkeypatch.setattr(models, "SHIPPED", folder)
    return folder


def test_a_name_is_the_shipped_model_even_beside_a_file_of_that_name(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("activity").write_bytes(b"another")
    assert models.find_model("activity") == shipped / "activity.rvne"
    assert models.find_model("./activity").read_bytes() == b"another"
    assert models.load_model("activity").sha256 == REFERENCE_SHA256
    assert models.shipped_models() == {"activity": shipped / "activity.rvne"}


def test_a_path_is_itself(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.rvne").write_bytes(init_random_blob())
    assert models.find_model(tmp_path / "mine.rvne") == tmp_path / "mine.rvne"
    assert models.find_model(str(tmp_path / "mine.rvne")) == tmp_path / "mine.rvne"


@pytest.mark.parametrize("name", ["reid", "/nowhere/m.rvne", "a\0b", "x" * 5000, "/"])
def test_what_is_neither_lists_what_ships(shipped: Path, name: str) -> None:
    with pytest.raises(FileError, match="ships activity;"):
        models.find_model(name)


def test_without_shipped_models_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(FileError, match="this release ships no model"):
        models.find_model("activity")


@pytest.mark.parametrize(("name", "task"), [("activity", "activity"), ("reid", "identity")])
def test_what_ships_is_trained_small_and_says_of_what_it_was_made(name: str, task: str) -> None:
    assert models.find_model(name).stat().st_size <= 100_000
    model = models.load_model(name)
    assert model.trained
    assert not model.warnings
    assert model.feature_chain is not None
    assert model.provenance["task"] == task
    assert len(model.provenance["data"]["recordings"]) == len(model.provenance["data"]["sha256"]) > 0
    assert "Trained on" in model.provenance["split"]


def test_the_shipped_activity_model_can_be_adapted() -> None:
    view = WeightBlobView.parse(models.find_model("activity").read_bytes())
    statistics = adaptation.statistics_of(models.load_model("activity"), view)
    assert (statistics.windows > 0).all()
