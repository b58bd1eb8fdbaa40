"""Every figure of docs/results.md: trains each configuration, and writes the page, and the README's table, from it.

    python benchmarks/results.py --data ../shared/data     trains (minutes), evaluates, writes results and page
    python benchmarks/results.py                           writes the page from benchmarks/results alone

--data is a folder with the data sets in it, each under the name that its configuration gives. Runs are kept in --runs;
one that is whole there is evaluated again and not trained again. Baselines come from benchmarks/baselines.py, negative
controls and what leaking splits would have said from benchmarks/controls.py, the curve of `wdt adapt` from
benchmarks/adapting.py, and strangers among the probes from benchmarks/open_set.py, which take the same runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import adapting
import open_set
from baseline_row import percent
from measure import Result, machine, markdown

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "results.md"

#: Configuration, and for each of its tests what the names of the baselines' rows begin with.
TASKS: dict[str, dict[str, str]] = {
    "esp32-stability": {day: f"esp32-stability/{day}/" for day in ("D2", "D3", "D4")},
    "csi-har-1-to-2": {"person 2": "csi-har/1 to 2/"},
    "csi-har-2-to-1": {"person 1": "csi-har/2 to 1/"},
    "csi-har-third": {"others": "csi-har/others to "},
    "wiper81-unseen": {"test": "wiper81/unseen persons/"},
    "wiper81-reid": {"others": "wiper81/others/"},
    "wiper81-closed": {"B": "wiper81/closed set/"},
}

#: Figures in the order of columns, and the columns' titles.
COLUMNS = {
    "accuracy": "accuracy",
    "window_accuracy": "window accuracy",
    "frame_accuracy": "frame accuracy",
    "macro_f1": "macro F1",
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
    "map": "mAP",
    "auc": "AUC",
}

#: By data set, the rows of the baselines that a random split is held against, with `{}` for the case, and the figure.
HONEST = {
    "esp32-stability": (("esp32-stability/D2/{}", "accuracy"),),
    "csi-har": (("csi-har/1 to 2/{}", "accuracy"), ("csi-har/2 to 1/{}", "accuracy")),
    "wiper81": (("wiper81/unseen persons/{}", "rank1"), ("wiper81/closed set/{}/gallery A", "rank1")),
}

READING = """Read with these in mind:

- **esp32-stability** is one person in one room, and its activities come in a fixed order: a model that sees the
  recording so far may remember the script. The row with the last seconds only says what is left without it.
- **csi-har** has two people here, each training and test in turn, and the configuration was chosen looking at
  both: optimistic. A third person is the clean test. Each recording holds one activity, is cut to it, which a
  live stream is not, and is one window, decided at its end: the frame accuracy counts decisions before that too.
- **wiper81** has one visit of each person, two recordings, A and B, seconds apart, standing in one room: all of it is
  recognition within a visit. That anybody is recognised on another day, in another room or doing something else is
  not claimed, and this data cannot show it. Most of it is the closed-form whitening of the features; the attention
  layer adds nothing measurable on people never seen.
- Rows marked NEVER USE leak. They stand here once, to show how much that flatters, and are compared with nothing."""


@dataclass
class Row:
    """A line of a task's table."""

    test: str
    model: str
    figures: dict[str, str] = field(default_factory=dict)
    """Key of COLUMNS to text; empty where the data are not at hand."""


def train(name: str, data: Path, runs: Path) -> Result:
    """The summary of a configuration's training; where a test was not there it says so."""
    config = ROOT / "configs" / f"{name}.toml"
    folder = tomllib.loads(config.read_text())["data"]["path"]
    command = [sys.executable, "-m", "wifi_densepose_temporal", "train", config, "--data", data / folder]
    anew, begun = not (runs / name).exists(), time.perf_counter()
    done = subprocess.run([*command, "-o", runs / name, "--json"], capture_output=True, text=True, check=True)
    document = json.loads(done.stdout)
    taken = {"seconds": time.perf_counter() - begun if anew else None}
    return taken | {key: document[key] for key in ("name", "task", "seeds", "split", "tests", "unavailable", "runs")}


def page(results: Result, baselines: Result, controls: Result) -> str:
    """The whole of docs/results.md."""
    parts = [
        "# Results",
        "Written by `python benchmarks/results.py`; every figure is in percent, a mean over seeds (and folds) ± its "
        "standard deviation, on recordings that training never saw. What is evaluated is the exported float16 blob, "
        "run by the C core. In each table the temporal head stands beside plain scikit-learn baselines on statistics "
        "of windows (`python benchmarks/baselines.py --data FOLDER`).",
        f"Machine: {results['machine']}. Data: see [THIRD-PARTY.md](../THIRD-PARTY.md).",
        READING,
    ]
    for name in TASKS:
        run = results["configurations"].get(name)
        if run is not None:
            parts += task(name, run, baselines, controls)
    parts += open_set.section(json.loads(open_set.RESULT.read_text()))
    parts += adapting.section(json.loads(adapting.RESULT.read_text()), baselines)
    parts += speed(json.loads((RESULTS / "training_speed.json").read_text()))
    parts += negative_controls(results, controls)
    parts += leaking(results, baselines, controls)
    for file in sorted(RESULTS.glob("gate_*.json")):
        parts += gate(json.loads(file.read_text()))
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------------------------------- a table a task


def task(name: str, run: Result, baselines: Result, controls: Result) -> list[str]:
    """A configuration's section: command, split in words, ours and baselines in one table."""
    command = f"`wdt train configs/{name}.toml --data PATH`"
    rows: list[Row] = []
    for test in (*run["tests"], *run["unavailable"]):
        if test in run["unavailable"]:
            rows.append(Row(test, f"unavailable here: the data at hand have no {lacking(run['unavailable'][test])}"))
            continue
        rows.append(Row(test, "**temporal head**", ours(run["tests"][test])))
        short = controls["context"]
        if short["config"] == name and test in short["tests"]:
            words = f"the same blobs, from the last {short['seconds']:g} s only"
            rows.append(Row(test, words, spreads(short["tests"][test])))
        if test in TASKS[name]:
            rows += baseline_rows(baselines, TASKS[name][test], test, run["task"])
    took = "" if run["seconds"] is None else f"; {run['seconds']:.0f} seconds in all, evaluation too"
    parts = [f"## {name}", f"{command}, seeds {', '.join(map(str, run['seeds']))}{took}."]
    parts += [f"> {words}" for words in run["split"]]
    parts += [text for text in (table(rows), described(baselines, tuple(TASKS[name].values()))) if text]
    if run["unavailable"]:
        parts.append(
            f"What is unavailable is filled in by {command}, `python benchmarks/baselines.py --data FOLDER` and "
            "`python benchmarks/results.py --data FOLDER` where the data set has it."
        )
    return parts


def ours(figures: Result) -> dict[str, str]:
    """Figures of `wdt train`."""
    return {name: percent(one) for name, one in figures.items() if name in COLUMNS}


def spreads(figures: Result) -> dict[str, str]:
    """Figures of controls.py and baselines.py."""
    return {name: percent(one) for name, one in figures.items()}


def baseline_rows(baselines: Result, prefix: str, test: str, kind: str) -> Iterator[Row]:
    """The baselines of a test that there are figures of."""
    for one in of_split(baselines, prefix):
        if one["unavailable"] is None:
            figures = spreads(one["metrics"])
            if kind == "activity":
                figures["window_accuracy"] = figures.pop("accuracy")
            yield Row(test, f"baseline: {one['name'].removeprefix(prefix)}", figures)


def of_split(baselines: Result, prefix: str) -> list[Result]:
    """Rows of the baselines whose name begins so, but for those with a few recordings of the other person."""
    rows = [one for one in baselines["rows"] if not one["group"].endswith("-adapted")]
    return [one for one in rows if one["name"].startswith(prefix)]


def described(baselines: Result, prefixes: tuple[str, ...]) -> str:
    """What each baseline of a table is, in its own words."""
    said = {}
    for prefix in prefixes:
        found = [one for one in of_split(baselines, prefix) if one["unavailable"] is None]
        said |= {one["baseline"]: one["name"].removeprefix(prefix) for one in found}
    return "\n".join(f"- {name.split('/')[0]}: {words}." for words, name in said.items())


def table(rows: list[Row]) -> str:
    """Rows of a task, with the columns that any of them has a figure for."""
    used = [name for name in COLUMNS if any(name in row.figures for row in rows)]
    lines = [[row.test, row.model, *(row.figures.get(name, "") for name in used)] for row in rows]
    return markdown(("test", "model", *(COLUMNS[name] for name in used)), lines, texts=2)


def lacking(selector: str) -> str:
    """What a data set lacks, in words."""
    return "other recordings" if selector == "rest" else selector


# ------------------------------------------------------------------------------------------- controls and leaks


def negative_controls(results: Result, controls: Result) -> list[str]:
    """What there is to see where nothing can be learnt, and the empty rooms."""
    runs, lines = results["configurations"], []
    for one in controls["labels_shuffled"]:
        usual = runs[one["config"]]["tests"][one["test"]]["window_accuracy"]
        chance = f"{100 * one['chance']:.1f}; always the most frequent label {100 * one['most_frequent']:.1f}"
        found = spreads(one["figures"])["window_accuracy"]
        lines.append([f"{one['config']}: labels permuted in training, window accuracy", found, chance, percent(usual)])
    compared, unseen = controls["embeddings"], runs[controls["embeddings"]["config"]]["tests"]["test"]
    rank1, permuted = unseen["rank1"], compared["permuted_rank1"]
    chance = f"{100 * compared['chance']:.1f}"
    lines.append(
        ["wiper81-unseen: names of the probe permuted, rank-1", percent(permuted), chance, percent(rank1)],
    )
    whitened = controls["people_shuffled"]["figures"]
    lines += [
        ["wiper81-unseen: people permuted in training, rank-1", percent(whitened["rank1"]), chance, percent(rank1)],
        ["the same, mAP", percent(whitened["map"]), "", percent(unseen["map"])],
    ]
    return [
        "## Negative controls",
        f"`{controls['command']}`, {sum(controls['seconds'].values()) / 60:.0f} minutes. The recipe is the ordinary "
        "one, on altered copies of the data; the tests' own labels stay true. Where labels are one a packet, those of "
        "segments were permuted over all training recordings, and segments stay where they are.",
        markdown(("control", "found", "chance", "ordinary"), lines),
        'With people permuted over the training recordings, so that a "person" is any two recordings, those who were '
        f"never trained on are still recognised in {100 * whitened['rank1']['mean']:.1f} % of the windows. That is no "
        "leak: training people and test people are different ones. The whitening learns how a channel changes within a "
        "recording, and takes that away; who is who adds the rest.",
        *empty_rooms(compared),
    ]


def empty_rooms(compared: Result) -> list[str]:
    """Empty rooms enrolled as people."""
    title = "### Empty rooms enrolled as people"
    found = compared["empty"]
    if found is None:
        return [title, "Unavailable here: the data at hand have no recordings of the empty room."]
    words = {
        "people_rank1": "a person: the right one",
        "people_taken_for_empty": "a person: taken for an empty room",
        "empty_rank1": "an empty room: the right one",
        "empty_taken_for_another_empty": "an empty room: taken for that of another time",
        "empty_taken_for_people": "an empty room: taken for a person",
    }
    lines = [[text, percent(found[name])] for name, text in words.items()]
    return [
        title,
        f"Recordings of the empty room at {compared['rooms']} times, A in the gallery and B in the probe like those of "
        "people; the models are those of wiper81-unseen, which were trained on neither.",
        markdown(("a probe window of", "share of windows"), lines),
        "Rank-1 of the empty rooms is what the room and the devices give away of the time with nobody in it; some of "
        "what recognises a person within a visit may be the time of the visit.",
    ]


def leaking(results: Result, baselines: Result, controls: Result) -> list[str]:
    """What a random split would have said, beside the honest one: ours and the baselines."""
    lines = []
    for one in controls["leaking"]:
        key = "rank1" if "rank1" in one["honest"] else "window_accuracy"
        title = f"**temporal head**, {one['config']}, {one['what']}"
        lines.append(leak(title, COLUMNS[key], one["honest"][key], one["random"][key]))
        if one["config"] == "wiper81-closed":
            unseen = results["configurations"]["wiper81-unseen"]["tests"]["test"][key]
            title = "**temporal head**, wiper81-unseen against the same pieces, with everybody in training"
            lines.append(leak(title, COLUMNS[key], unseen, one["random"][key]))
    by_name = {one["name"]: one for one in baselines["rows"]}
    for name, row in by_name.items():
        data, split, *rest = name.split("/", 2)
        for honest, key in HONEST[data] if row["never_use"] else ():
            other = by_name.get(honest.format(*rest))
            if other is not None and other["unavailable"] is None:
                title = f"baseline, {other['name']} against {split}"
                lines.append(leak(title, COLUMNS[key], other["metrics"][key], row["metrics"][key]))
    sizes = "; ".join(f"{one['config']} {one['train']} and {one['test']} {one['what']}" for one in controls["leaking"])
    return [
        "## What a random split of windows would have said (NEVER USE)",
        "The temporal head was trained anew on the recordings cut into pieces: by the split of its configuration, and "
        "with as many pieces drawn at random, so that pieces of one recording are on both sides; the row of whole "
        "recordings mixes people instead. Where the training recordings come from is all that differs. To train and to "
        f"test: {sizes}. One seed where no spread is given; else each seed has a draw of its own.",
        markdown(("model", "figure", "honest split", "random split, NEVER USE", "flattered by"), lines, texts=2),
        "It is not used because the pieces next to a test piece were trained on: the same person, minute, posture and "
        "place of every chair. A model that remembers those need know nothing of activities or people, and whoever "
        "installs it has no recording that it was trained on. How much a model is flattered depends on how much of a "
        "recording it can remember, which the table shows, and not on how good it is.",
    ]


def leak(title: str, figure: str, honest: Result, random: Result) -> list[str]:
    """A line: two figures and their difference in points."""
    rise = 100 * (random["mean"] - honest["mean"])
    return [title, figure, percent(honest), percent(random), f"{rise:+.1f}"]


def speed(result: Result) -> list[str]:
    """What benchmarks/training.py measured."""
    step, ratio = result["sparse_ms"], result["masked_ms"] / result["sparse_ms"]
    lines = [
        ["forward and backward of a 2-layer model, T = 1024, sparse operator", f"{step:.1f} ms"],
        ["the same with PyTorch's attention and a mask", f"{result['masked_ms']:.0f} ms, {ratio:.1f} times as long"],
        ["a window of 100 packets to its embedding (`reid`), chain and model", f"{result['embedding_ms']:.2f} ms"],
    ]
    return [
        "## Speed of training and embedding",
        f"`python benchmarks/training.py --json OUT.json`, one thread, medians; {result['machine']}, synthetic input.",
        markdown(("what", "time"), lines),
    ]


def gate(document: Result) -> list[str]:
    """What `wdt gate CONFIG --json` said, as it was kept in benchmarks/results."""
    lines = [[one["name"], one["status"], one["said"]] for one in document["criteria"]]
    seeds = ", ".join(map(str, document["seeds"]))
    title = f"## Gate: {document['name']}"
    return [
        title,
        f"`wdt gate configs/{document['name']}.toml`, seeds {seeds}: {document['verdict']}.",
        markdown(("criterion", "", "what was compared"), lines, texts=3),
    ]


# ------------------------------------------------------------------------------------------------- the README


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
    ("wiper81-closed", "B", "rank1", "wiper81: people trained on, the other recording of their visit, rank-1"),
)


def summary(results: dict[str, Any]) -> str:
    """The table of the README."""
    lines = []
    for name, test, figure, words in SUMMARY:
        found = results["configurations"][name]["tests"][test][figure]
        lines.append([words, f"{100 * found['mean']:.1f} %", f"{100 * found['std']:.1f}"])
    return markdown(("data and split", "mean", "standard deviation"), lines)


def put(text: str, name: str, content: str) -> str:
    """The text with other content between its markers of this name."""
    start, end = f"<!-- {name} -->\n", f"\n<!-- end {name} -->"
    head, rest = text.split(start)
    return head + start + content + end + rest.split(f"<!-- end {name} -->", 1)[1]


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "runs")
    args = parser.parse_args()
    stored = RESULTS / "training.json"
    if args.data is not None:
        runs = {name: train(name, args.data, args.runs) for name in TASKS}
        stored.write_text(json.dumps({"machine": machine(), "configurations": runs}, indent=1) + "\n")
    results, baselines, controls = (
        json.loads((RESULTS / f"{name}.json").read_text()) for name in ("training", "baselines", "controls")
    )
    PAGE.write_text(page(results, baselines, controls))
    readme = ROOT / "README.md"
    readme.write_text(put(readme.read_text(), "figures of training", summary(results)))


if __name__ == "__main__":
    main()
