"""Every figure of docs/results.md: trains each configuration, and writes the page, and the README's table, from it.

    python benchmarks/results.py --data ../shared/data     trains (minutes), evaluates, writes results and page
    python benchmarks/results.py                           writes the page from benchmarks/results alone

--data is a folder with the data sets in it, each under the name that its configuration gives. Runs are kept in --runs;
one that is whole there is evaluated again and not trained again. Baselines come from benchmarks/baselines.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from measure import machine

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"
CONFIGS = ("esp32-stability", "csi-har-1-to-2", "csi-har-2-to-1", "csi-har-third", "wiper81-unseen", "wiper81-closed")
SHOWN = ("window_accuracy", "macro_f1", "rank1", "rank5", "map", "auc")


def train(name: str, data: Path, runs: Path) -> dict[str, Any]:
    """The summary of a configuration's training; where a test was not there it says so."""
    config = ROOT / "configs" / f"{name}.toml"
    folder = tomllib.loads(config.read_text())["data"]["path"]
    command = [sys.executable, "-m", "wifi_densepose_temporal", "train", config, "--data", data / folder]
    done = subprocess.run([*command, "-o", runs / name, "--json"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    return {key: document[key] for key in ("name", "task", "seeds", "split", "tests", "unavailable", "runs")}


def page(results: dict[str, Any], baselines: list[tuple[str, str]]) -> str:
    """The whole of docs/results.md."""
    parts = [
        "# Results",
        "Written by `python benchmarks/results.py`; every figure is a mean over seeds (and folds) with its standard "
        "deviation, on recordings that training never saw. What is evaluated is the exported float16 blob, run by the "
        "C core.",
        f"Machine: {results['machine']}. Data: see [THIRD-PARTY.md](../THIRD-PARTY.md).",
        READING,
    ]
    for name in CONFIGS:
        run = results["configurations"].get(name)
        if run is None:
            continue
        parts += [
            f"## {name}",
            f"`wdt train configs/{name}.toml --data PATH`, seeds {', '.join(map(str, run['seeds']))}.",
        ]
        parts += [f"> {words}" for words in run["split"]]
        parts.append(table(run))
    for file in sorted(RESULTS.glob("gate_*.json")):
        parts += gate(json.loads(file.read_text()))
    parts += [f"## Baselines: {title}\n\n{text}" for title, text in baselines]
    return "\n\n".join(parts) + "\n"


def gate(document: dict[str, Any]) -> list[str]:
    """What `wdt gate CONFIG --json` said, as it was kept in benchmarks/results."""
    lines = ["| criterion | | what was compared |", "|---|---|---|"]
    lines += [f"| {one['name']} | {one['status']} | {one['said']} |" for one in document["criteria"]]
    seeds = ", ".join(map(str, document["seeds"]))
    title = f"## Gate: {document['name']}"
    return [
        title,
        f"`wdt gate configs/{document['name']}.toml`, seeds {seeds}: {document['verdict']}.",
        "\n".join(lines),
    ]


def table(run: dict[str, Any]) -> str:
    """Figures of each test of a configuration."""
    lines = ["| test | figure | mean | standard deviation | runs |", "|---|---|---:|---:|---:|"]
    for test, figures in run["tests"].items():
        for name in SHOWN:
            if name in figures:
                figure = figures[name]
                lines.append(
                    f"| {test} | {name} | {100 * figure['mean']:.1f} % | {100 * figure['std']:.1f} | {figure['n']} |"
                )
    lines += [f"| {test} | unavailable: no {selector} | | | |" for test, selector in run["unavailable"].items()]
    return "\n".join(lines)


READING = """Read with these in mind:

- **esp32-stability** is one person in one room, and its activities come in a fixed order: a model that sees the
  recording so far may remember the script. `wdt evaluate MODEL DATA --context 2` shows what is left with two
  seconds.
- **csi-har** has two people here, each training and test in turn, and the configuration was chosen looking at
  both: optimistic. A third person is the clean test. Each recording holds one activity and is cut to it, which
  a live stream is not.
- **wiper81**'s two recordings of a person are seconds apart: recognition within a visit, not across days. Most
  of it is the closed-form whitening of the features; the attention layer adds nothing measurable on people
  never seen. The whitening learns how one person's channel changes, not who is who: with identities shuffled
  over recordings it still works.
- A random split of windows puts windows of one recording on both sides. The baselines' tables show once how
  much that flatters; it is never used for a figure of ours."""


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "runs")
    args = parser.parse_args()
    stored = RESULTS / "training.json"
    if args.data is not None:
        runs = {name: train(name, args.data, args.runs) for name in CONFIGS}
        results = {"machine": machine(), "configurations": runs}
        stored.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(stored.read_text())
    PAGE.write_text(page(results, baseline_tables()))
    readme = ROOT / "README.md"
    readme.write_text(put(readme.read_text(), "figures of training", summary(results)))


# Test, figure and what it is, for the README.
SUMMARY = (
    (
        "esp32-stability",
        "D2",
        "window_accuracy",
        "esp32-stability: 10 activities, trained on D1, tested ten minutes later",
    ),
    ("csi-har-1-to-2", "person 2", "window_accuracy", "csi-har: 7 activities, whole recordings, person 1 to person 2"),
    ("csi-har-2-to-1", "person 1", "window_accuracy", "the same, person 2 to person 1"),
    (
        "wiper81-unseen",
        "test",
        "rank1",
        "wiper81: people never trained on, windows of 100 packets of one visit, rank-1",
    ),
    ("wiper81-unseen", "test", "map", "the same, mAP"),
)


def summary(results: dict[str, Any]) -> str:
    """The table of the README."""
    lines = ["| data and split | mean | standard deviation |", "|---|---:|---:|"]
    for name, test, figure, words in SUMMARY:
        found = results["configurations"][name]["tests"][test][figure]
        lines.append(f"| {words} | {100 * found['mean']:.1f} % | {100 * found['std']:.1f} |")
    return "\n".join(lines)


def put(text: str, name: str, content: str) -> str:
    """The text with other content between its markers of this name."""
    start, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
    head, rest = text.split(start)
    return head + start + content + end + rest.split(f"<!-- end {name} -->", 1)[1]


def baseline_tables() -> list[tuple[str, str]]:
    """Titles and Markdown of the tables of benchmarks/baselines.py."""
    from baselines import tables

    made = tables(json.loads((RESULTS / "baselines.json").read_text()))
    return [(table.name.removeprefix("baselines_").replace("_", " "), table.markdown()) for table in made]


if __name__ == "__main__":
    main()
