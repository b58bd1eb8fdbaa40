"""What the pages say is what the code does: commands, examples, tables, the worked blob."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from wifi_densepose_temporal import _core

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FORMAT = (ROOT / "docs" / "rvne-format.md").read_text()


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
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_readme_examples_are_as_short_as_promised() -> None:
    prefill, streaming = blocks(README, "python")[:2]
    assert len(prefill.splitlines()) <= 5
    assert len(streaming.splitlines()) <= 7


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
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.*"))
    for names in re.findall(r"\| ([^|\n]+) \|\n", table):
        for name in re.findall(r"`([^`]+)`", names):
            assert name in sources or (ROOT / name).exists(), name
