"""Identity baselines: shrinkage linear discriminant analysis (LDA) on statistics of windows of wiper81.

Persons never trained on are projected with the axes that tell the training persons apart, and compared by cosine;
persons trained on are classified, or compared in the same way. The metrics are those of the package's own evaluation.
A and B of a person are seconds apart in one visit: all of it is recognition within a visit, not across days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from baseline_features import Packets, Values, amplitude_statistics, channel_statistics, packets
from baseline_row import SEEDS, no_row, row, summaries
from measure import Result
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from wifi_densepose_temporal.datasets import Manifest, Recording, make_folds, make_split, open_dataset
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS, RANKS, Scores, score

FOLDS = 3
GALLERY, PROBE = "A", "B"
#: "The 54" of the issue; the others come after them in time.
FIRST = tuple(f"p{number:02d}" for number in range(1, 55))

AMPLITUDE = "mean, spread and mean absolute step of gain-normalised amplitude"
CHANNEL = f"{AMPLITUDE}; mean log amplitude and neighbour products c[k+1]*conj(c[k])/gain^2"
RANDOM = (
    "NEVER USE: a random half of all windows is training and gallery at once and the other half is the probe, so that "
    "each person and each recording is on both sides"
)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows and whose they are."""

    values: Values
    """[n, F]"""
    person: NDArray[np.str_]
    """[n]"""
    session: NDArray[np.str_]
    """[n]"""

    def at(self, chosen: NDArray[np.generic]) -> Windows:
        """Those at a mask or at numbers."""
        return Windows(self.values[chosen], self.person[chosen], self.session[chosen])

    def of(self, recordings: Sequence[Recording]) -> Windows:
        """Those of some persons, both sessions."""
        return self.at(np.isin(self.person, [one.person for one in recordings]))

    def sides(self) -> tuple[Windows, Windows]:
        """Gallery and probe."""
        return self.at(self.session == GALLERY), self.at(self.session == PROBE)


def windows_of(
    recordings: Sequence[Recording], known: Callable[[Packets, int], Values], *, every_column: bool = False
) -> Windows:
    """Consecutive windows of recordings, described by one of the functions of `baseline_features`."""
    values = [known(packets(one, every_column=every_column), DEFAULT_PACKETS) for one in recordings]
    counts = [len(some) for some in values]
    person, session = (np.repeat([one.value(name) for one in recordings], counts) for name in ("person", "session"))
    return Windows(np.concatenate(values), person, session)


def trained(train: Windows) -> Pipeline:
    """Standardised values and LDA with the shrinkage of Ledoit and Wolf; deterministic, so that no seed matters."""
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    return make_pipeline(StandardScaler(), lda).fit(train.values, train.person)


def cosines(model: Pipeline, gallery: Windows, probe: Windows) -> Values:
    """Of the projections: probe by gallery windows."""

    def unit(side: Windows) -> Values:
        projected = model.transform(side.values)
        return projected / np.linalg.norm(projected, axis=1, keepdims=True)

    return unit(probe) @ unit(gallery).T


def compared(model: Pipeline, gallery: Windows, probe: Windows) -> dict[str, float]:
    """Ranks, mAP and AUC of probe against gallery."""
    scores = score(cosines(model, gallery, probe), gallery.person, probe.person)
    found = ranks(scores) | {"map": scores.map}
    return found if scores.auc is None else found | {"auc": scores.auc}


def compared_within(model: Pipeline, side: Windows) -> dict[str, float]:
    """Ranks of each window among all others of its own side."""
    similarity = cosines(model, side, side)
    np.fill_diagonal(similarity, -2)  # below every cosine: a window is not found by itself; ranks stay exact
    return ranks(score(similarity, side.person, side.person))


def ranks(scores: Scores) -> dict[str, float]:
    """Those that are reported."""
    return {f"rank{k}": scores.rank(k) for k in RANKS}


def wiper81(data: Path) -> list[Result]:
    """All rows of the data set; the empty rooms are no persons and are left out."""
    manifest = open_dataset(data / "wiper81")
    manifest = Manifest(manifest.root, manifest.select("person=p*"))
    cut = f"single {DEFAULT_PACKETS}-packet windows"
    cases = {
        "amplitude": (windows_of(manifest.recordings, amplitude_statistics), f"shrinkage LDA on {AMPLITUDE}; {cut}"),
        "amplitude, every column": (
            windows_of(manifest.recordings, amplitude_statistics, every_column=True),
            f"shrinkage LDA on {AMPLITUDE}, of all columns of the buffer, with those that hold no channel; {cut}",
        ),
        "channel": (windows_of(manifest.recordings, channel_statistics), f"shrinkage LDA on {CHANNEL}; {cut}"),
    }
    rows = []
    for case, (every, baseline) in cases.items():
        rows.append(unseen_row(f"wiper81/unseen persons/{case}", baseline, manifest, every))
        rows.append(others_row(f"wiper81/others/{case}", baseline, manifest, every))
        rows += closed_rows(f"wiper81/closed set/{case}", baseline, every)
        rows.append(random_split_row(f"wiper81/random windows/{case}", baseline, every))
    return rows


def unseen_row(name: str, baseline: str, manifest: Manifest, every: Windows) -> Result:
    """Folds of consecutive persons: LDA of the others, gallery A, probe B."""
    runs, tested = [], 0
    for split in make_folds(manifest, held_out="person", count=FOLDS):
        gallery, probe = every.of(split.tests["test"]).sides()
        runs.append(compared(trained(every.of(split.train)), gallery, probe))
        tested += len(probe.person)
    words = (
        f"Held out by person: {FOLDS} folds of consecutive persons, of {len(manifest.values('person'))} in all. "
        f"Trained on both sessions of the other persons; gallery {GALLERY}, probe {PROBE}, within one visit."
    )
    return row(name, baseline, words, summaries(runs, "folds"), tested)


def others_row(name: str, baseline: str, manifest: Manifest, every: Windows) -> Result:
    """LDA of the first persons, gallery A and probe B of those who came later."""
    if manifest.missing({"person": FIRST}) or set(manifest.values("person")) <= set(FIRST):
        why = f"this copy of the data set has nobody beside {FIRST[0]} to {FIRST[-1]}, or lacks some of them"
        return no_row(name, baseline, why)
    split = make_split(manifest, held_out="person", train={"person": FIRST}, tests={"others": "rest"})
    gallery, probe = every.of(split.tests["others"]).sides()
    runs = [compared(trained(every.of(split.train)), gallery, probe)]
    words = f"{split.words} Gallery {GALLERY}, probe {PROBE}, within one visit."
    return row(name, baseline, words, summaries(runs, "one run"), len(probe.person))


def closed_rows(name: str, baseline: str, every: Windows) -> list[Result]:
    """All persons are trained on, by their A windows; B windows are classified, and matched in two ways."""
    first, second = every.sides()
    model = trained(first)
    right = {"accuracy": float(np.mean(model.predict(second.values) == second.person))}
    words = f"Closed set: trained on {GALLERY} of all {len(set(every.person.tolist()))} persons, {PROBE} "
    count = len(second.person)
    return [
        row(f"{name}/classified", baseline, f"{words}classified.", summaries([right], "one run"), count),
        row(
            f"{name}/gallery {GALLERY}",
            baseline,
            f"{words}matched against gallery {GALLERY}.",
            summaries([compared(model, first, second)], "one run"),
            count,
        ),
        row(
            f"{name}/gallery {PROBE}",
            baseline,
            f"{words}matched, each window against all others of {PROBE}: probes and gallery are both from {PROBE}, "
            "as in the data set's paper. Windows of one recording, next to each other in time, stand on both sides.",
            summaries([compared_within(model, second)], "one run"),
            count,
        ),
    ]


def random_split_row(name: str, baseline: str, every: Windows) -> Result:
    """What a random split of windows would have said."""
    runs = []
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(every.person))
        train, test = every.at(order[::2]), every.at(order[1::2])
        runs.append(compared(trained(train), train, test))
    words = f"A random half of the windows of all {len(set(every.person.tolist()))} persons, both sessions."
    return row(name, baseline, words, summaries(runs, "seeds"), len(every.person) // 2, never_use=RANDOM)
