"""What a configuration cannot ask for is refused by name before data is read, and the page lists every key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.test_training import CONFIG
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.training.settings import read_settings

ROOT = Path(__file__).parents[2]
PEOPLE = CONFIG.replace('"activity"', '"identity"').replace("hidden = 8", "hidden = 8\nembedding = [4]")
PARTS = PEOPLE.replace("bands = 6\n", "").replace(
    "[model]",
    '[[features.parts]]\nkind = "level"\nbands = 2\n[[features.parts]]\nkind = "motion"\nbands = 3\nlag = 1\n[model]',
)
EPISODES = "\n[losses]\ncross_entropy = 0\nepisodes = 1\n"
VALIDATION = "[split.validation]\nfraction = 0.5\n[split.tests]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIG.replace("[schedule]", "least = 5\n[schedule]"), "least 5 is more than most 4"),
        (CONFIG.replace("[schedule]", "identities = 4\n[schedule]"), "3 windows of 4 identities"),
        (CONFIG.replace("hidden = 8", "embedding = [0]"), "model.embedding.0"),
        (CONFIG.replace("hidden = 8", "embedding = [8, 8, 8]"), "model.embedding"),
        (CONFIG.replace("seeds = [3]", "seeds = [3, 3]"), "seeds: .*a seed twice"),
        (CONFIG.replace("seeds = [3]", "seeds = [2147483648]"), "seeds.0"),
        (CONFIG.replace("width = 8", "width = 1"), "one pooled number"),
        (CONFIG.replace("hidden = 8", 'pooling = "last_n"'), "pool_frames 0"),
        (CONFIG + "[losses]\nmix = 0.4\n", "at_end"),
        (CONFIG + "patience = 2\n", "patience"),
        (CONFIG + "[losses]\ncross_entropy = 0\n", "every loss has the weight 0"),
        (CONFIG + "[readout]\n", "readout is of people"),
        (
            CONFIG.replace("[split.tests]", VALIDATION) + "[losses]\ncross_entropy = 0\ncontrastive = 1\n",
            "no decisions",
        ),
        (PEOPLE, "cross_entropy is of activity labels"),
        (PEOPLE.replace("[4]", "[4, 4]") + EPISODES + "[readout]\n", "one layer"),
        (PEOPLE.replace("[4]", "[]") + EPISODES + "[readout]\n", "one layer"),
        (PEOPLE.replace("hidden = 8", 'pooling = "last_n"') + EPISODES, "last_n.* with pool_frames 0"),
        (PEOPLE.replace("hidden = 8", "pool_frames = 3") + EPISODES, "'last' with pool_frames 3"),
        (PARTS + EPISODES + "[readout]\npart_weights = [1, 1, 1]\n", "3 readout.part_weights for 2 parts"),
        (PARTS + EPISODES + "[readout]\npart_weights = [1, 1]\n", "frame's 5 features, and 8 are pooled"),
    ],
)
def test_a_contradiction_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tiny.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_settings(tmp_path / "tiny.toml")


def test_people_without_cross_entropy_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(PEOPLE + EPISODES + "[readout]\n")
    assert read_settings(tmp_path / "tiny.toml").trains_classifier


@pytest.mark.parametrize("seeds", [(1, 1), (-1,), (2**31,)])
def test_seeds_of_the_command_line_are_checked_as_those_of_the_file(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG)
    with pytest.raises(ConfigError, match="seeds"):
        read_settings(tmp_path / "tiny.toml", seeds=seeds)


def test_configurations_that_ship_are_accepted() -> None:
    shipped = sorted((ROOT / "configs").glob("*.toml"))
    assert [read_settings(path).name for path in shipped] == [path.stem for path in shipped]


def test_the_pages_table_of_keys_is_what_its_command_prints() -> None:
    script = ROOT / "docs" / "training_keys.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "training.md").read_text().endswith(f"<!-- training_keys -->\n{done.stdout}")
