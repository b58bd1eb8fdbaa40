"""Activity baselines: extremely randomised trees on statistics of windows, or of whole recordings.

Rows of esp32-stability (one day trains, later ones test), of csi-har (other persons test), of csi-har with a few
recordings of the other person, and of what a random split of windows would have said of the same trees.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from baseline_features import STEPS, Values, in_parts, levels_and_motions, motions, packets
from baseline_row import SEEDS, no_row, row, summaries
from measure import Result
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold

from wifi_densepose_temporal.csi.windows import windows
from wifi_densepose_temporal.datasets import Recording, make_folds, make_split, open_dataset
from wifi_densepose_temporal.datasets.labelled import read_labels
from wifi_densepose_temporal.errors import FormatError
from wifi_densepose_temporal.evaluation.decisions import DEFAULT_HOP, DEFAULT_WINDOW, majority_label

TREES = 300
FOLDS = 5  # of the random split
#: Two packets at 100 a second are 20 ms, the feature chain's default frame.
FRAME_STEP = (2,)
PARTS = 4
HAR_WINDOW, HAR_HOP = 200, 100
ADAPT_WITH = (1, 2, 5, 10)  # recordings of each class
DRAWS = 10

RANDOM = (
    "NEVER USE: a random split of windows, so that windows of one recording, overlapping ones too, are in training "
    "and in test: it says how well trees remember a recording"
)


@dataclass(frozen=True, eq=False)
class Examples:
    """Windows or recordings."""

    values: Values
    """[n, F]"""
    labels: NDArray[np.str_]
    """[n]"""
    source: NDArray[np.str_]
    """[n] the name of the recording that each is of."""

    def of(self, recordings: Sequence[Recording]) -> Examples:
        """Those of some recordings."""
        return self.at(np.isin(self.source, [one.name for one in recordings]))

    def at(self, chosen: NDArray[np.generic]) -> Examples:
        """Those at a mask or at numbers."""
        return Examples(self.values[chosen], self.labels[chosen], self.source[chosen])


def joined(parts: Sequence[Examples]) -> Examples:
    """All of several."""
    names = ("values", "labels", "source")
    return Examples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def run_trees(train: Examples, test: Examples, seed: int) -> dict[str, float]:
    """Trains and tests once."""
    trees = ExtraTreesClassifier(TREES, random_state=seed, n_jobs=1).fit(train.values, train.labels)
    decided = trees.predict(test.values)
    return {
        "accuracy": float(accuracy_score(test.labels, decided)),
        "macro_f1": float(
            f1_score(test.labels, decided, labels=np.unique(test.labels), average="macro", zero_division=0)
        ),
    }


def trees_row(name: str, baseline: str, words: str, train: Examples, test: Examples) -> Result:
    """Trees over `SEEDS`."""
    runs = [run_trees(train, test, seed) for seed in SEEDS]
    return row(name, baseline, words, summaries(runs, "seeds"), len(test.labels))


def random_split_row(name: str, baseline: str, every: Examples) -> Result:
    """What a random split of windows would have said: every window is tested once by trees of the others."""
    runs = []
    for seed in SEEDS:
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(every.values, every.labels)
        scores = [run_trees(every.at(train), every.at(test), seed) for train, test in folds]
        runs.append({metric: float(np.mean([score[metric] for score in scores])) for metric in scores[0]})
    words = f"{FOLDS} random folds of all windows of {len(set(every.source.tolist()))} recordings"
    return row(name, baseline, words, summaries(runs, "seeds"), len(every.labels), never_use=RANDOM)


# --------------------------------------------------------------------------------------------------- esp32-stability


def stability_examples(recordings: Sequence[Recording]) -> dict[str, Examples]:
    """Windows of labelled packets by what is known of them; a window's label is that of most of its packets."""
    made: dict[str, list[Examples]] = {"levels and motion": [], "motion": [], "motion, 20 ms": []}
    for one in recordings:
        if one.labels_path is None:
            raise FormatError(f"{one.name} has no labels beside it")
        given = packets(one)
        labels = read_labels(one.labels_path)[given.positions]
        cut = windows(given.amplitude, DEFAULT_WINDOW, DEFAULT_HOP)
        majority = [majority_label(some[:, 0]) for some in windows(labels[:, np.newaxis], DEFAULT_WINDOW, DEFAULT_HOP)]
        values = (levels_and_motions(cut), motions(cut), motions(cut, FRAME_STEP))
        for into, known in zip(made.values(), values, strict=True):
            into.append(Examples(known, np.array(majority), np.full(len(cut), one.name)))
    return {name: joined(some) for name, some in made.items()}


def stability(data: Path) -> list[Result]:
    """D1 trains; the later days, as far as they are there, test."""
    manifest = open_dataset(data / "esp32-stability")
    tests = {day: f"session={day}" for day in ("D2", "D3", "D4")}
    split = make_split(manifest, held_out="session", train="session=D1", tests=tests)
    cut = f"{DEFAULT_WINDOW}-packet windows, hop {DEFAULT_HOP}, label of most packets"
    rows = []
    for known, every in stability_examples(manifest.recordings).items():
        steps = "2 packets" if known == "motion, 20 ms" else f"{', '.join(map(str, STEPS))} packets"
        baseline = f"{TREES} extremely randomised trees on mean and spread of {known} (steps of {steps}); {cut}"
        for day in tests:
            name = f"esp32-stability/{day}/{known}"
            if day in split.unavailable:
                rows.append(no_row(name, baseline, f"this copy of the data set has no {split.unavailable[day]}"))
            else:
                train, test = every.of(split.train), every.of(split.tests[day])
                rows.append(trees_row(name, baseline, split.words, train, test))
        rows.append(random_split_row(f"esp32-stability/random windows/{known}", baseline, every))
    return rows


# ----------------------------------------------------------------------------------------------------------- csi-har


def har_recordings(recordings: Sequence[Recording], parts: int, *, averaged: bool = False) -> Examples:
    """Whole recordings in `parts` equal parts; `averaged` knows of a packet only the mean of its subcarriers.

    That mean, beside a root mean square of 1, says how flat the channel is, and moves with the person. Trees that see
    no single subcarrier cannot learn the source person's pattern of them, nor use the other's.
    """
    amplitudes = [packets(one).amplitude for one in recordings]
    values = [in_parts(some.mean(axis=1, keepdims=True) if averaged else some, parts) for some in amplitudes]
    labels, names = ([getattr(one, name) for one in recordings] for name in ("label", "name"))
    return Examples(np.concatenate(values), np.array(labels), np.array(names))


def har_windows(recordings: Sequence[Recording]) -> Examples:
    """Windows, each on its own."""
    made = []
    for one in recordings:
        values = levels_and_motions(windows(packets(one).amplitude, HAR_WINDOW, HAR_HOP))
        made.append(Examples(values, np.full(len(values), one.label), np.full(len(values), one.name)))
    return joined(made)


def har_wholes(recordings: Sequence[Recording]) -> dict[str, tuple[Examples, str]]:
    """The ways to describe a whole recording, and each in words."""
    what = f"{TREES} extremely randomised trees on mean and spread of levels and motion"
    parts, averaged = f"{PARTS} parts", f"{PARTS} parts, mean subcarrier"
    return {
        "whole": (har_recordings(recordings, 1), f"{what}; whole recordings"),
        parts: (har_recordings(recordings, PARTS), f"{what} of each of {PARTS} equal parts; whole recordings"),
        averaged: (
            har_recordings(recordings, PARTS, averaged=True),
            f"{what} of the mean of all subcarriers, of each of {PARTS} equal parts; whole recordings",
        ),
    }


def har(data: Path) -> list[Result]:
    """One person trains and another tests; with three, also all but one."""
    manifest = open_dataset(data / "csi-har")
    persons = manifest.values("person")
    windowed = (
        har_windows(manifest.recordings),
        f"{TREES} extremely randomised trees on mean and spread of levels and motion; {HAR_WINDOW}-packet windows, "
        f"hop {HAR_HOP}",
    )
    splits = {
        f"{a} to {b}": make_split(manifest, held_out="person", train=f"person={a}", tests={"test": f"person={b}"})
        for a, b in itertools.permutations(persons, 2)
    }
    if len(persons) > 2:
        folds = make_folds(manifest, held_out="person")
        splits |= {f"others to {fold.tests['test'][0].person}": fold for fold in folds}
    rows = []
    for case, (every, baseline) in (har_wholes(manifest.recordings) | {"windows": windowed}).items():
        for name, split in splits.items():
            train, test = every.of(split.train), every.of(split.tests["test"])
            rows.append(trees_row(f"csi-har/{name}/{case}", baseline, split.words, train, test))
        if len(persons) <= 2:
            why = f"this copy of the data set has {len(persons)} persons: one to test leaves no two to train on"
            rows.append(no_row(f"csi-har/others to one/{case}", baseline, why))
    rows.append(random_split_row("csi-har/random windows/windows", windowed[1], windowed[0]))
    return rows


def har_adapted(data: Path) -> list[Result]:
    """One person's recordings and a few of the other's train; the other's remaining recordings test."""
    manifest = open_dataset(data / "csi-har")
    rows = []
    for case, (every, baseline) in har_wholes(manifest.recordings).items():
        for a, b in itertools.permutations(manifest.values("person"), 2):
            own, other = (every.of(manifest.select(f"person={person}")) for person in (a, b))
            rows += [adapted_row(f"csi-har/{a} to {b}/{case}", baseline, own, other, count) for count in ADAPT_WITH]
    return rows


def adapted_row(prefix: str, baseline: str, own: Examples, other: Examples, count: int) -> Result:
    """`DRAWS` draws of `count` recordings of each class, which train too."""
    name = f"{prefix}/with {count} of each class"
    fewest = min(np.unique(other.labels, return_counts=True)[1])
    if fewest <= count:
        return no_row(name, baseline, f"the other person has only {fewest} recordings of a class")
    words = (
        f"Trained on all recordings of one person and on {count} of each class of the other, drawn at random; tested "
        f"on the remaining recordings; {DRAWS} draws, each with trees of its own. No recording is on both sides."
    )
    runs = []
    for seed in range(DRAWS):
        few, rest = drawn(other, count, seed)
        runs.append(run_trees(joined([own, few]), rest, seed))
    return row(name, baseline, words, summaries(runs, "draws"), len(rest.labels))


def drawn(examples: Examples, count: int, seed: int) -> tuple[Examples, Examples]:
    """`count` of each class, and the rest."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(examples.labels), bool)
    for label in np.unique(examples.labels):
        chosen[rng.choice(np.flatnonzero(examples.labels == label), count, replace=False)] = True
    return examples.at(chosen), examples.at(~chosen)
