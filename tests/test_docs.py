"""What the pages say is what the code does: commands, examples, tables, the worked blob."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wifi_densepose_temporal import FeatureConfig, _core
from wifi_densepose_temporal.datasets import Manifest, labelled_frames, open_dataset
from wifi_densepose_temporal.datasets.layouts import LAYOUTS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "docs" / "rvne-format.md").read_text()
DATA_PAGE = (ROOT / "docs" / "data.md").read_text()
SHIPPED = ROOT / "src" / "wifi_densepose_temporal" / "data"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_ci_calls_exactly_the_readmes_test_command() -> None:
    demo, tests = (
        line for block in blocks(README, "sh")[:1] for line in block.splitlines() if line.startswith("python3")
    )
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert tests in script
    assert demo.endswith("wdt demo")


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_readme_examples_run(number: int, tmp_path: Path) -> None:
    code = blocks(README, "python")[number]
    if "Gallery" in code:
        pytest.importorskip("sqlalchemy", reason="the README's gallery needs the extra reid, which is not installed")
    if "estimators" in code:
        pytest.importorskip("torch", reason="the README's scikit-learn example needs PyTorch, which is not installed")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_examples_are_as_short_as_promised() -> None:
    prefill, streaming, scikit, many = blocks(README, "python")
    assert len(prefill.splitlines()) <= 5
    assert len(streaming.splitlines()) <= 7
    assert len(scikit.splitlines()) <= 6
    assert len(many.splitlines()) <= 11


def test_links_and_named_files_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        text = page.read_text()
        links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
        named = re.findall(r"`((?:core|docs|tests|benchmarks|src|firmware)/[\w./-]+)`", text)
        for target in [*(page.parent / link for link in links), *(ROOT / name for name in named)]:
            assert target.exists(), f"{page.name} names {target}"


def test_the_worked_blob_is_what_its_command_prints() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "worked_blob.py"], capture_output=True, text=True, check=True
    )
    assert f"<!-- worked_blob -->\n```\n{done.stdout}```" in FORMAT


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The data set that docs/data.md describes, of shipped recordings."""
    monkeypatch.chdir(tmp_path)
    for name, shipped in {
        "day1/still.csv": "demo_esp32.csv",
        "day1/walk.npy": "esp32_stability_D2_e01_rx_tx-x.npy",
        "day2/still.npz": "wiper81_p01_A.npz",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(SHIPPED / shipped, tmp_path / name)
    exec(*blocks(DATA_PAGE, "python"), {})
    (table,) = blocks(DATA_PAGE, "csv")
    (tmp_path / "manifest.csv").write_text(table)
    return open_dataset(tmp_path)


def test_the_data_pages_labels_fit_their_recording(own_data: Manifest) -> None:
    (walk,) = own_data.select("recording=day1/walk.npy")
    assert set(labelled_frames(walk, FeatureConfig()).frame_labels) == {"sitting", "walking"}


def test_the_data_pages_selectors_choose_what_it_says(own_data: Manifest) -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (?:every|those|`,` is|by)", DATA_PAGE, re.MULTILINE)
    chosen = {row: [one.name for one in own_data.select(row.replace("\\|", "|"))] for row in rows}
    assert chosen == {
        "all": ["day1/still.csv", "day1/walk.npy", "day2/still.npz"],
        "session=day2": ["day2/still.npz"],
        "session=day1,person=anna\\|ben": ["day1/still.csv", "day1/walk.npy"],
        "recording=day1/*": ["day1/still.csv", "day1/walk.npy"],
        "label=sitting": ["day1/still.csv", "day2/still.npz"],
    }


def test_the_data_pages_columns_are_those_of_a_manifest() -> None:
    table = DATA_PAGE[: DATA_PAGE.index("**Labels beside")]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == [
        "path",
        "label",
        "labels_path",
        "person",
        "session",
        "room",
        "start",
        "rate_hz",
    ]


def test_the_data_pages_layouts_are_those_that_are_known(tmp_path: Path) -> None:
    table = DATA_PAGE[DATA_PAGE.index("## Known layouts") :]
    rows = re.findall(r"^\| ([\w-]+) \| `([^`]+)`", table, re.MULTILINE)
    assert [name for name, _ in rows] == list(LAYOUTS)
    for name, example in rows:
        file = tmp_path / name / example
        file.parent.mkdir(parents=True)
        file.touch()
        assert open_dataset(tmp_path / name) == LAYOUTS[name](tmp_path / name)


def test_tables_of_figures_are_what_the_report_writes() -> None:
    script = ROOT / "benchmarks" / "report.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_record_table_is_the_cores() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (yes|no) \| ([\w, ]*?) ?\|", FORMAT, re.MULTILINE)
    documented = {name: (int(tag), critical == "yes") for tag, name, critical, _ in rows}
    assert documented == {name: tuple(facts) for name, facts in _core.RECORDS.items()}
    words = {name: listed.split(", ") for _, name, _, listed in rows if listed}
    assert words == {name: list(fields) for name, fields in _core.RECORD_WORDS.items()}


def test_threats_name_tests_that_exist() -> None:
    table = FORMAT[FORMAT.index("## Threats") :]
    files = [path for path in (ROOT / "tests").rglob("test_*") if path.suffix in (".c", ".py")]  # no compiled ones
    sources = "".join(path.read_text() for path in files)
    for names in re.findall(r"\| ([^|\n]+) \|\n", table):
        for name in re.findall(r"`([^`]+)`", names):
            assert name in sources or (ROOT / name).exists(), name
