"""Negative controls: what the recipe gives where there is nothing to learn, and what a leaking split would have said.

    python benchmarks/controls.py --data ../shared/data     trains, evaluates, writes benchmarks/results/controls.json

--data is a folder with the data sets in it. The configurations themselves are not trained again if --runs has them
(benchmarks/results.py puts them there). Altered copies of the data are in control_data.py; what is trained on them goes
through the package's own recipe, unchanged, and is thrown away. benchmarks/results.py lays the result out.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from baseline_row import summaries, summary
from control_data import PIECE, at_random, copied, pieces, shuffled_labels, shuffled_people
from measure import Result, machine, software
from numpy.typing import NDArray
from rich.logging import RichHandler
from rich.progress import Progress

from wifi_densepose_temporal.cli.train import training_progress
from wifi_densepose_temporal.datasets import FeatureCache, Manifest, Recording, Split, open_dataset, write_manifest
from wifi_densepose_temporal.evaluation import IdentityResult, Windowing, evaluate_activity, evaluate_identity
from wifi_densepose_temporal.evaluation.identity import gallery_and_probe
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.training import recipe
from wifi_densepose_temporal.training.recipe import Run
from wifi_densepose_temporal.training.settings import DataSettings, Settings, SplitSettings, read_settings

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
OUT = ROOT / "benchmarks" / "results" / "controls.json"

ACTIVITY = ("esp32-stability", "csi-har-1-to-2")
UNSEEN, CLOSED = "wiper81-unseen", "wiper81-closed"
#: Random splits of a configuration's pieces; csi-har has many to test, and takes long.
DRAWS = {"esp32-stability": 3, "csi-har-1-to-2": 1, CLOSED: 3}
EMPTY = "person=empty*"
CONTEXT_S = 2.0
PERMUTATIONS = 200
SHOWN = ("window_accuracy", "macro_f1", "rank1", "rank5", "rank10", "map", "auc")


@dataclass(frozen=True, eq=False)
class Bench:
    """Where things are."""

    configurations: Mapping[str, Settings]
    """As they were at the start."""
    runs: Path
    """Trained configurations, kept."""
    scratch: Path
    """Altered data and what is trained on them, thrown away."""
    progress: Progress

    def ordinary(self, name: str) -> list[Run]:
        """The runs of a configuration, trained where they are not there."""
        return recipe.train(self.configurations[name], self.runs / name, cache=self.cache, progress=self.progress)

    def altered(self, name: str, settings: Settings, manifest: Manifest, seed: int) -> list[Run]:
        """Trains on other data with one seed; `name` is of the folder, which no other may have."""
        file = manifest.root / f"{name}.csv"
        write_manifest(file, manifest)
        changed = settings.model_copy(update={"data": DataSettings(path=str(file)), "seeds": (seed,)})
        logger.info("%s: training with seed %d", name, seed)
        return recipe.train(changed, self.scratch / "runs" / name, cache=self.cache, progress=self.progress)

    @property
    def cache(self) -> FeatureCache:
        """Of features, thrown away with the altered data."""
        return FeatureCache(self.scratch / "cache")


def configured(name: str, data: Path) -> Settings:
    """A configuration, on its data set in `data`."""
    file = ROOT / "configs" / f"{name}.toml"
    return read_settings(file, data / Path(read_settings(file).data.path).name)


def figures(runs: Sequence[Run], test: str, over: str) -> Result:
    """Mean and spread of what several runs have in a test."""
    there = [{name: value for name, value in run.tests[test].items() if value is not None} for run in runs]
    return summaries([{name: some[name] for name in SHOWN if name in some} for some in there], over)


# ------------------------------------------------------------------------------------------------ shuffled labels


def labels_shuffled(bench: Bench, name: str) -> Result:
    """An activity configuration trained on permuted labels, tested on true ones."""
    settings = bench.configurations[name]
    split = recipe.splits_of(settings)[0]
    test = next(iter(split.tests))
    runs: list[Run] = []
    for seed in settings.seeds:
        copy = copied(open_dataset(settings.data.path).recordings, bench.scratch / "shuffled" / f"{name}-{seed}")
        runs += bench.altered(f"{name}-labels-{seed}", settings, shuffled_labels(copy, learned(split), seed), seed)
    model = TemporalModel.from_bytes(runs[0].blob)
    support = [label.support for label in evaluate_activity(model, split.tests[test], cache=bench.cache).per_class]
    return {
        "config": name,
        "test": test,
        "seeds": list(settings.seeds),
        "figures": figures(runs, test, "seeds, each with a permutation of its own"),
        "chance": 1 / len(support),
        "most_frequent": max(support) / sum(support),
        "windows": sum(support),
    }


def people_shuffled(bench: Bench) -> Result:
    """The configuration of unseen people, each fold trained with its people permuted over its recordings."""
    settings = bench.configurations[UNSEEN]
    copy = copied(open_dataset(settings.data.path).recordings, bench.scratch / "shuffled" / UNSEEN)
    runs: list[Run] = []
    for fold, split in enumerate(recipe.splits_of(settings)):
        sides = selector(learned(split)), selector(split.tests["test"])
        fixed = with_split(settings, SplitSettings(held_out="person", train=sides[0], tests={"test": sides[1]}))
        for seed in settings.seeds:
            altered = shuffled_people(copy, learned(split), seed)
            runs += bench.altered(f"people-{fold}-{seed}", fixed, altered, seed)
    return {"config": UNSEEN, "seeds": list(settings.seeds), "figures": figures(runs, "test", "folds and seeds")}


def learned(split: Split) -> tuple[Recording, ...]:
    """What training and its validation see."""
    return (*split.train, *split.validation)


def selector(recordings: Sequence[Recording]) -> str:
    """Of the people of some recordings."""
    return "person=" + "|".join(dict.fromkeys(one.person for one in recordings))


# --------------------------------------------------------------------------------- empty rooms and shuffled probes


def embeddings_compared(bench: Bench) -> Result:
    """Empty rooms enrolled beside the people of a fold, and the same people with the probe's names permuted."""
    settings = bench.configurations[UNSEEN]
    empty = open_dataset(settings.data.path).matching(EMPTY)
    rooms, permuted, chances = [], [], []
    for run in bench.ordinary(UNSEEN):
        logger.info("%s: %d empty recordings beside the people of %s", UNSEEN, len(empty), run.name)
        model, people = TemporalModel.from_bytes(run.blob), run.split.tests["test"]
        if empty:
            rooms.append(taken_for(evaluate_identity(model, *gallery_and_probe((*people, *empty)))))
        alone = evaluate_identity(model, *gallery_and_probe(people))
        permuted += rank1_permuted(alone, run.seed)
        chances.append(1 / len(np.unique(alone.gallery.person)))
    return {
        "config": UNSEEN,
        "seeds": list(settings.seeds),
        "rooms": len({one.person for one in empty}),
        "empty": summaries(rooms, "folds and seeds") if rooms else None,
        "permuted_rank1": summary(permuted, f"{PERMUTATIONS} permutations of each fold and seed"),
        "chance": float(np.mean(chances)),
    }


def nearest(result: IdentityResult) -> NDArray[np.str_]:
    """`[probe windows]`: whose the nearest gallery window is."""
    return result.gallery.person[(result.probe.embedding @ result.gallery.embedding.T).argmax(axis=1)]


def taken_for(result: IdentityResult) -> dict[str, float]:
    """Whom windows of people and of empty rooms are taken for, where both are in the gallery: shares of windows."""
    true, found = result.probe.person, nearest(result)
    room, said_room = (np.char.startswith(names, "empty") for names in (true, found))
    return {
        "people_rank1": float(np.mean((true == found)[~room])),
        "people_taken_for_empty": float(np.mean(said_room[~room])),
        "empty_rank1": float(np.mean((true == found)[room])),
        "empty_taken_for_another_empty": float(np.mean((said_room & (true != found))[room])),
        "empty_taken_for_people": float(np.mean(~said_room[room])),
    }


def rank1_permuted(result: IdentityResult, seed: int) -> list[float]:
    """Rank-1 with the probe's people permuted, for each permutation: all windows of a person get one other name."""
    people, number = np.unique(result.probe.person, return_inverse=True)
    found, rng = nearest(result), np.random.default_rng(seed)
    return [float(np.mean(rng.permutation(people)[number] == found)) for _ in range(PERMUTATIONS)]


# ------------------------------------------------------------------------------------------------- leaking splits


def leaking(bench: Bench) -> list[Result]:
    """Splits that leak: pieces of recordings of all data sets; and people mixed, by whole recordings."""
    cut = f"pieces of {PIECE} packets"
    found = [compared(bench, name, cut, pieces) for name in DRAWS]
    return [*found, compared(bench, ACTIVITY[1], "whole recordings", copied)]


def compared(bench: Bench, name: str, what: str, make: Callable[[Sequence[Recording], Path], Manifest]) -> Result:
    """A configuration trained and tested on what `make` makes of its recordings: by its own split, and by random ones.

    A random split has as many of them to train on, so that where they come from is all that differs.
    """
    settings = bench.configurations[name]
    seeds = settings.seeds[: DRAWS[name]]
    split = recipe.splits_of(settings)[0]
    test, folder = next(iter(split.tests)), f"{name}-{make.__name__}"
    manifest = make((*learned(split), *split.tests[test]), bench.scratch / folder)
    own = with_split(settings, settings.split.model_copy(update={"within": None}))
    honest = [run for seed in seeds for run in bench.altered(f"{folder}-honest-{seed}", own, manifest, seed)]
    train = len(learned(honest[0].split))
    mixed = SplitSettings(held_out="recording", train="session=train", tests={test: "session=test"})
    random: list[Run] = []
    for seed in seeds:
        drawn = at_random(manifest, train, seed)
        random += bench.altered(f"{folder}-random-{seed}", with_split(settings, mixed), drawn, seed)
    return {
        "config": name,
        "what": what,
        "seeds": list(seeds),
        "train": train,
        "test": len(manifest.recordings) - train,
        "honest": figures(honest, test, "seeds"),
        "random": figures(random, test, "seeds, each with a draw of its own"),
    }


def with_split(settings: Settings, split: SplitSettings) -> Settings:
    """The configuration with another split."""
    return settings.model_copy(update={"split": split})


# -------------------------------------------------------------------------------------------------- short context


def context_limited(bench: Bench) -> Result:
    """The activity configuration's blobs, each decision made from the last seconds only."""
    name = ACTIVITY[0]
    runs = bench.ordinary(name)
    found: dict[str, Result] = {}
    for test in runs[0].tests:
        made = []
        for run in runs:
            model, windowing = TemporalModel.from_bytes(run.blob), Windowing(context_s=CONTEXT_S)
            result = evaluate_activity(model, run.split.tests[test], windowing, cache=bench.cache)
            made.append({key: float(getattr(result, key)) for key in ("window_accuracy", "macro_f1")})
        found[test] = summaries(made, "seeds")
    return {"config": name, "seeds": [run.seed for run in runs], "seconds": CONTEXT_S, "tests": found}


def labels_shuffled_in_each(bench: Bench) -> list[Result]:
    """Of both data sets of activities."""
    return [labels_shuffled(bench, name) for name in ACTIVITY]


#: Key of the result file to what makes it.
CONTROLS: dict[str, Callable[[Bench], Result | list[Result]]] = {
    "context": context_limited,
    "embeddings": embeddings_compared,
    "people_shuffled": people_shuffled,
    "labels_shuffled": labels_shuffled_in_each,
    "leaking": leaking,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="holds the data sets' folders")
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "runs", help="trained configurations")
    parser.add_argument("--only", choices=CONTROLS, help="one control; the file keeps the others as they were")
    given = parser.parse_args()
    result = json.loads(OUT.read_text()) if given.only else {"seconds": {}}
    result |= {"benchmark": "controls", "command": "python benchmarks/controls.py --data FOLDER", "source": "replay"}
    result |= {"machine": machine(), "software": software(), "load": os.getloadavg()[0]}
    configurations = {name: configured(name, given.data) for name in (*ACTIVITY, UNSEEN, CLOSED)}
    with training_progress() as progress:
        handler = RichHandler(console=progress.console, show_path=False)
        logging.basicConfig(level=logging.ERROR, format="%(message)s", handlers=[handler])  # no warnings: D3 is absent
        logger.setLevel(logging.INFO)
        for name in [given.only] if given.only else CONTROLS:
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as scratch:
                result[name] = CONTROLS[name](Bench(configurations, given.runs, Path(scratch).resolve(), progress))
            result["seconds"][name] = round(time.perf_counter() - start, 1)
    OUT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
