"""`wdt gate`: four lines, the same in the table, in --json and in gate.json; an exit code of 0 for yes and for no."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Wdt
from tests.evaluation.recordings import write_persons
from wifi_densepose_temporal.evaluation import latency

CONFIG = """
name = "tiny"
task = "identity"
seeds = [0, 1]
[data]
path = "home"
[split]
held_out = "person"
train = "person=ann|ben|cat"
tests = { strangers = "rest" }
[features]
bands = 4
[model]
layers = 1
width = 8
q_heads = 2
head_dim = 4
window = 4
block_size = 4
[batch]
windows = 8
packets = 50
[losses]
cross_entropy = 0
supervised_contrastive = 1
[schedule]
steps = 2
every = 2
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(latency, "LENGTHS", (8, 16))
    monkeypatch.setattr(latency, "REPEAT", 3)
    (tmp_path / "home").mkdir()
    write_persons(tmp_path / "home", ("ann", "ben", "cat", "dan", "eve", "fay"), length=100)
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return tmp_path / "tiny.toml"


def test_the_document_and_the_file_beside_the_runs_are_one(wdt: Wdt, config: Path, tmp_path: Path) -> None:
    ended = wdt("gate", config, "-o", tmp_path / "out", "--seeds", "3,4", "--json")
    assert ended.code == 0, ended.err
    document = ended.document
    assert document == json.loads((tmp_path / "out" / "gate.json").read_text())
    assert [one["status"] in ("pass", "fail") for one in document["criteria"]] == [True] * 4
    assert document["seeds"] == [3, 4]
    assert (document["source"], document["trained"]) == ("replay", True)
    for side in ("sparse", "dense"):
        assert (tmp_path / "out" / side / "seed4" / "model.rvne").exists()


def test_the_table_says_what_was_compared_and_ends_with_the_verdict(wdt: Wdt, config: Path, tmp_path: Path) -> None:
    ended = wdt("gate", config, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    document = json.loads((tmp_path / "out" / "gate.json").read_text())
    for words in (*document["split"], *document["compared"], *document["cautions"]):
        assert words in ended.out
    for number, one in enumerate(document["criteria"], 1):
        assert f"{number}. {one['rule']}." in ended.out
        assert f"{one['status']}: {one['said']}" in ended.out
    assert ended.out.strip().endswith(document["verdict"])


def test_what_is_unavailable_has_no_figure_in_the_table(wdt: Wdt, config: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace('tests = { strangers = "rest" }', ""))
    ended = wdt("gate", config, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    row = next(line for line in ended.out.splitlines() if "1. contrastive loss" in line and "│" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["unavailable", "-", "-", "-", "-"]


def test_wrong_seeds_are_refused_before_anything_is_made(wdt: Wdt, config: Path, tmp_path: Path) -> None:
    assert "has a seed twice" in wdt("gate", config, "-o", tmp_path / "out", "--seeds", "1,1").error_line()
    assert not (tmp_path / "out").exists()
