"""`wdt adapt` on csi-har: trained on one person, adapted with a few recordings of each class of the other.

    python benchmarks/adapting.py --data ../shared/data

Takes the blobs that `benchmarks/results.py` has trained, and draws the recordings that the baselines' trees were given
(benchmarks/baselines.py). What a model is adapted with is never tested on. Where `wdt adapt` would refuse, the model as
it was is what one has left, and the column "delivered" counts it so. Writes benchmarks/results/adapting.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from baseline_activity import ADAPT_WITH, DRAWS, Examples, drawn
from baseline_row import percent, summaries
from measure import Result, machine, markdown

from wifi_densepose_temporal import TemporalModel, WeightBlobView
from wifi_densepose_temporal.adaptation import Windows, classifier_of, refit, statistics_of, validate, windows_in
from wifi_densepose_temporal.datasets import Recording, open_dataset
from wifi_densepose_temporal.files import read_whole, write_whole
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES

RESULT = Path(__file__).parent / "results" / "adapting.json"


def curve(blobs: Sequence[bytes], recordings: Sequence[Recording]) -> dict[str, Result]:
    """For each number of recordings of a class: accuracy on the others, over draws and blobs."""
    runs: dict[str, list[dict[str, float]]] = {str(count): [] for count in ADAPT_WITH}
    for blob in blobs:
        windows = windows_in(blob, recordings)
        for count, draw in itertools.product(ADAPT_WITH, range(DRAWS)):
            few = chosen(windows, recordings, count, draw)
            runs[str(count)].append(adapted(blob, windows.where(few), windows.where(~few)))
    return {count: summaries(some, "draws and seeds") for count, some in runs.items()}


def chosen(windows: Windows, recordings: Sequence[Recording], count: int, draw: int) -> np.ndarray:
    """Mask of the windows of the recordings that the baselines' trees of this draw were given."""
    labels, names = (np.array([getattr(one, key) for one in recordings]) for key in ("label", "name"))
    few, _ = drawn(Examples(np.zeros((len(names), 1)), labels, names), count, draw)
    return np.isin(names[windows.recording], few.source)


def adapted(blob: bytes, few: Windows, rest: Windows) -> dict[str, float]:
    """One draw: the model as it was, its refit, and what `wdt adapt` would have delivered."""
    model, view = TemporalModel.from_bytes(blob), WeightBlobView.parse(blob)
    statistics, original = statistics_of(model, view), classifier_of(model, view)
    helps = validate(statistics, original, few).helps
    before, after = (float(one.right(rest).mean()) for one in (original, refit(statistics, few)))
    return {
        "as it was": before,
        "refitted": after,
        "delivered": after if helps else before,
        "refused": float(not helps),
    }


def section(result: Result, baselines: Result) -> list[str]:
    """Of docs/results.md: the curve, beside trees that were given the same recordings."""
    trees = {one["name"]: one["metrics"]["accuracy"] for one in baselines["rows"] if "of each class" in one["name"]}
    cases = sorted({name.split("/")[2] for name in trees})
    columns = ["direction", "of each class", "as it was", "**refitted**", "delivered", "refused"]
    lines = []
    for direction, counts in result["curves"].items():
        for count, figures in counts.items():
            mine = [percent(figures[key]) for key in ("as it was", "refitted", "delivered")]
            given = [percent(trees[f"csi-har/{direction}/{case}/with {count} of each class"]) for case in cases]
            lines.append([direction, count, *mine, f"{100 * figures['refused']['mean']:.0f}", *given])
    return [
        "## Adapting csi-har to another person",
        f"`python benchmarks/adapting.py --data FOLDER`: {result['draws']} draws of recordings for each of the three "
        "seeds, accuracy on the remaining recordings in percent, mean ± standard deviation over draws and seeds. What "
        "a model is adapted with is never tested on. The trees were trained on the same recordings and on those of the "
        "first person. *Delivered* counts the model as it was where `wdt adapt` refuses. The refit's constants were "
        "chosen looking at both directions.",
        markdown([*columns, *(f"trees: {case}" for case in cases)], lines),
    ]


def measure(data: Path, runs: Path) -> Result:
    """Both directions."""
    manifest = open_dataset(data / "csi-har")
    found = {}
    for name in sorted(path.stem for path in (Path(__file__).parents[1] / "configs").glob("csi-har-?-to-?.toml")):
        blobs = [read_whole(path, MAX_BLOB_BYTES) for path in sorted((runs / name).glob("seed*/model.rvne"))]
        if not blobs:
            raise SystemExit(f"{runs / name} holds no trained model; run benchmarks/results.py --data first")
        source, other = name.removeprefix("csi-har-").split("-to-")
        found[f"{source} to {other}"] = curve(blobs, manifest.select(f"person={other}"))
    return {"benchmark": "adapting", "machine": machine(), "draws": DRAWS, "curves": found}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with csi-har in it")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(__file__).parents[1] / "build" / "runs",
        help="where benchmarks/results.py left its runs",
    )
    given = parser.parse_args()
    result = measure(given.data, given.runs)
    write_whole(RESULT, (json.dumps(result, indent=1) + "\n").encode())
    for direction, counts in result["curves"].items():
        for count, figures in counts.items():
            line = "  ".join(f"{key} {percent(one)}" for key, one in figures.items())
            print(f"{direction}, {count:>2} of each class: {line}")


if __name__ == "__main__":
    main()
