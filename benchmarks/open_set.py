"""Open-set re-identification of people never trained on, beside linear discriminants in the same harness.

    python benchmarks/open_set.py --data ../shared/data     trains what is not there, writes results/open_set.json

--data is a folder with the data sets in it. Folds, seeds and training are those of configs/wiper81-unseen.toml; its
runs are kept in --runs and are those of benchmarks/results.py, which lays the result out. Metrics are of
evaluation/open_set.py.

Each of a fold's 18 people is enrolled half of the time: first the odd ones of them, in the order they came, and then
the even ones. All are probed each time, so that a probe is searched once among nine people with its own and once among
nine others. Both halves share one threshold. Gallery A, probe B, within one visit: nothing here is of another day.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from baseline_features import Packets, Values, amplitude_statistics, channel_statistics
from baseline_identity import AMPLITUDE, CHANNEL, Windows, windows_of
from baseline_row import percent, summary
from measure import Result, machine, markdown, software
from numpy.typing import NDArray
from open_set_systems import SECONDS, Embedded, System, discriminant, head

from wifi_densepose_temporal.cli.train import training_progress
from wifi_densepose_temporal.datasets import FeatureCache, Recording, Split, packets_of
from wifi_densepose_temporal.evaluation.bootstrap import draw_counts, interval
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS, gallery_and_probe, person_scores
from wifi_densepose_temporal.evaluation.open_set import (
    FPIRS,
    Searches,
    equal_error_rate,
    joined,
    search,
    threshold_at,
    tpir,
)
from wifi_densepose_temporal.training import recipe
from wifi_densepose_temporal.training.settings import Settings, SplitSettings, read_settings

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "open_set.json"

CONFIG = "wiper81-unseen"
ENROLLED = 9
#: Of a fold's 36 people the last so many, in the order they came, are kept out of training to set a threshold.
CALIBRATING = 12
OPERATING_FPIR = FPIRS["tpir_fpir10"]

HEAD = "temporal head"
STATISTICS: dict[str, tuple[Callable[[Packets, int], Values], str]] = {
    "LDA, amplitude": (amplitude_statistics, AMPLITUDE),
    "LDA, channel": (channel_statistics, CHANNEL),
}

COLUMNS = {"rank1": "rank-1", "tpir_fpir10": "TPIR at FPIR 10 %", "tpir_fpir1": "TPIR at FPIR 1 %", "eer": "EER"}

Draws = NDArray[np.int64]
Figures = dict[str, Values]  # of a run: its figure, and then that of each draw of people, [1 + DRAWS]


# ---------------------------------------------------------------------------------------------- figures of one fold


def halves(of: Embedded) -> list[Searches]:
    """Every probe among the odd people, and then among the even ones; the people are numbered as they came."""
    names, number = np.unique(of.probe_person, return_inverse=True)
    return [among(of, names[half::2], names, number, slice(None)) for half in (0, 1)]


def strangers(of: Embedded, enrolled: int) -> Searches:
    """Every person's probes among so many people who came next, in a circle."""
    names, number = np.unique(of.probe_person, return_inverse=True)
    return joined(
        [
            among(of, np.sort(np.roll(names, -1 - one)[:enrolled]), names, number[number == one], number == one)
            for one in range(len(names))
        ]
    )


def among(
    of: Embedded,
    enrolled: NDArray[np.str_],
    names: NDArray[np.str_],
    number: NDArray[np.intp],
    probes: slice | NDArray[np.bool_],
) -> Searches:
    """Searches of some probes, whose persons' numbers are given, among some people."""
    within = np.isin(of.gallery_person, enrolled)
    similarity = of.probe[probes] @ of.gallery[within].T
    similarity = np.where(np.isnan(similarity), -np.inf, similarity)
    scores = person_scores(similarity, np.searchsorted(enrolled, of.gallery_person[within]))
    return search(scores, enrolled, names, number)


def share(searches: Searches, right: NDArray[np.bool_], of: NDArray[np.bool_], drawn: Draws) -> Values:
    """The share of some searches that are right too, in each draw."""
    people = drawn.shape[1]
    counts = [np.bincount(searches.person[some], minlength=people) for some in (right & of, of)]
    with np.errstate(invalid="ignore"):  # a draw without any
        return (drawn @ counts[0]) / (drawn @ counts[1])


def searched(searches: Searches, drawn: Draws) -> Figures:
    """Rank-1 of the enrolled and TPIRs."""
    tpirs = {name: tpir(searches, fpir, drawn) for name, fpir in FPIRS.items()}
    return {"rank1": share(searches, searches.first, searches.mated, drawn), **tpirs}


def figures(of: Embedded, drawn: Draws) -> Figures:
    """All figures of windows of a fold; the EER is of all pairs of an A and a B window. `drawn` begins with ones."""
    number = np.unique(of.probe_person, return_inverse=True)[1]
    same = of.probe_person[:, np.newaxis] == of.gallery_person
    exact, eer = equal_error_rate(of.probe @ of.gallery.T, same, number, drawn)
    if exact is None:
        raise ValueError("all pairs are of one kind")
    eer[0] = exact  # a draw's ROC has fewer points
    return {**searched(joined(halves(of)), drawn), "eer": eer}


def operating(
    system: System, calibrating: Sequence[Recording], test: Sequence[Recording], drawn: Draws
) -> dict[str, Figures]:
    """What thresholds that were set without the probe give, by whom they were set on."""
    of = system.embed(test)
    parts = halves(of)
    others = threshold(strangers(system.embed(calibrating), ENROLLED))
    enrolled = [threshold(strangers(gallery_alone(of, half), ENROLLED - 1)) for half in (0, 1)]
    best = {"tpir_fpir10": tpir(joined(parts), OPERATING_FPIR, drawn)}
    return {"others": at(parts, [others, others], drawn) | best, "the enrolled": at(parts, enrolled, drawn) | best}


def gallery_alone(of: Embedded, half: int) -> Embedded:
    """The enrolled windows of a half, as gallery and as probe."""
    within = np.isin(of.gallery_person, np.unique(of.gallery_person)[half::2])
    windows, person = of.gallery[within], of.gallery_person[within]
    return Embedded(windows, person, windows, person)


def threshold(searches: Searches) -> float:
    """At the stated FPIR.

    Raises:
        ValueError: too few searches.
    """
    found = threshold_at(searches, OPERATING_FPIR)
    if found is None:
        raise ValueError(f"{searches.non_mated} searches are too few to set a threshold")
    return found


def at(parts: Sequence[Searches], thresholds: Sequence[float], drawn: Draws) -> Figures:
    """FPIR and TPIR of the halves, each at its threshold."""
    searches = joined(parts)
    passed = np.concatenate([part.score > one for part, one in zip(parts, thresholds, strict=True)])
    return {
        "threshold": np.full(len(drawn), np.mean(thresholds)),
        "fpir": share(searches, passed, ~searches.mated, drawn),
        "tpir": share(searches, passed & searches.first, searches.mated, drawn),
    }


def listened(system: System, test: Sequence[Recording], drawn: Draws) -> dict[str, Figures]:
    """Figures after each of `SECONDS`, and how many streams had no embedding then."""
    enrolled, probe = system.embed(test), gallery_and_probe(test)[1]
    heard = [system.listen(packets_of(one), one) for one in probe]
    found = {}
    for seconds in SECONDS:
        persons = np.repeat([one.person for one in probe], [len(some[seconds]) for some in heard])
        made = np.stack([row for some in heard for row in some[seconds]])
        searches = halves(Embedded(enrolled.gallery, enrolled.gallery_person, made, persons))
        some = searched(joined(searches), drawn)
        found[f"{seconds:g}"] = {name: some[name] for name in ("rank1", "tpir_fpir10")} | {
            "streams": np.full(len(drawn), len(made), np.float64),
            "without": np.full(len(drawn), np.isnan(made).any(axis=1).sum(), np.float64),
        }
    return found


# ------------------------------------------------------------------------------------------------- over the folds

ByFold = list[list[Figures]]  # for each fold its runs, one a seed


def together(runs: ByFold) -> dict[str, Result]:
    """Each figure over folds and seeds: mean and spread, the folds, and the interval by person."""
    found = {}
    for name in runs[0][0]:
        values = [float(run[name][0]) for fold in runs for run in fold]
        found[name] = summary(values, "folds and seeds" if len(runs[0]) > 1 else "folds") | {
            "folds": [float(np.mean([run[name][0] for run in fold])) for fold in runs],
            "interval": interval(mean(runs, name)[1:], len(values)),
        }
    return found


def mean(runs: ByFold, name: str) -> Values:
    """Of a figure in each draw, in which every fold draws its own people anew."""
    return np.mean([np.mean([run[name] for run in fold], axis=0) for fold in runs], axis=0)


def ahead(ours: ByFold, theirs: ByFold) -> dict[str, Result]:
    """By how much the one is above the other, in the same draws."""
    found = {}
    for name in ours[0][0]:
        difference = mean(ours, name) - mean(theirs, name)
        found[name] = {"mean": float(difference[0]), "interval": interval(difference[1:], 2)}
    return found


# ------------------------------------------------------------------------------------------------------ the bench


@dataclass(frozen=True, eq=False)
class Fold:
    """The systems of a fold, one a seed, trained on all its people and on those who do not set the threshold."""

    split: Split
    calibrating: tuple[Recording, ...]
    trained: Mapping[str, list[System]]
    without: Mapping[str, list[System]]


def folds_of(settings: Settings, runs: Path, every: Mapping[str, Windows]) -> list[Fold]:
    """Trains what is not in `runs` yet."""
    found = []
    with training_progress() as progress:
        do = partial(recipe.train, cache=FeatureCache(), progress=progress)
        whole = do(settings, runs / CONFIG)
        for number, split in enumerate(recipe.splits_of(settings)):
            kept, calibrating = apart(split.train)
            sides = {"test": selector(split.tests["test"]), "calibrating": selector(calibrating)}
            asked = SplitSettings(held_out="person", train=selector(kept), tests=sides)
            fewer = do(settings.model_copy(update={"split": asked}), runs / f"{CONFIG}-threshold-{number}")
            seeds = len(settings.seeds)
            mine = whole[number * seeds : (number + 1) * seeds]
            found.append(
                Fold(
                    split,
                    calibrating,
                    {HEAD: [head(run.blob) for run in mine], **discriminants(every, split.train)},
                    {HEAD: [head(run.blob) for run in fewer], **discriminants(every, kept)},
                )
            )
            logger.info("fold %d of %d is trained", number + 1, settings.split.folds)
    return found


def discriminants(every: Mapping[str, Windows], train: Sequence[Recording]) -> dict[str, list[System]]:
    """The baselines, which know no seed."""
    return {name: [discriminant(every[name], known, train)] for name, (known, _) in STATISTICS.items()}


def apart(train: Sequence[Recording]) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """The recordings to train on, and those of the last people, in the order they came."""
    last = sorted({one.person for one in train})[-CALIBRATING:]
    return tuple(one for one in train if one.person not in last), tuple(one for one in train if one.person in last)


def selector(recordings: Sequence[Recording]) -> str:
    """Of the people of some recordings."""
    return "person=" + "|".join(dict.fromkeys(one.person for one in recordings))


def measure(data: Path, runs: Path) -> Result:
    """Everything of the result file but the machine's facts."""
    file = ROOT / "configs" / f"{CONFIG}.toml"
    settings = read_settings(file, data / Path(read_settings(file).data.path).name)
    whole = recipe.splits_of(settings)[0]
    people = (*whole.train, *whole.tests["test"])
    folds = folds_of(settings, runs, {name: windows_of(people, known) for name, (known, _) in STATISTICS.items()})
    once = np.ones((1, len(folds[0].split.tests["test"]) // 2), np.int64)
    drawn = [np.concatenate([once, draw_counts(once.shape[1], seed)]) for seed in range(len(folds))]
    names, pairs = (HEAD, *STATISTICS), list(zip(folds, drawn, strict=True))
    windows = {n: [[figures(s.embed(f.split.tests["test"]), d) for s in f.trained[n]] for f, d in pairs] for n in names}
    logger.info("windows are done")
    points = {
        n: [[operating(s, f.calibrating, f.split.tests["test"], d) for s in f.without[n]] for f, d in pairs]
        for n in names
    }
    heard = {n: [[listened(s, f.split.tests["test"], d) for s in f.trained[n]] for f, d in pairs] for n in names}
    return {
        "config": CONFIG,
        "seeds": list(settings.seeds),
        "folds": [selector(fold.split.tests["test"]) for fold in folds],
        "calibrating": [selector(fold.calibrating) for fold in folds],
        "searches": {"mated": int(joined(halves(folds[0].trained[HEAD][0].embed(whole.tests["test"]))).mated.sum())},
        "recordings": recordings_of(folds),
        "baselines": {name: words for name, (_, words) in STATISTICS.items()},
        "windows": {name: together(some) for name, some in windows.items()},
        "ahead": {name: ahead(windows[HEAD], windows[name]) for name in STATISTICS},
        "operating_point": {
            name: {
                whom: together([[run[whom] for run in fold] for fold in some]) for whom in ("others", "the enrolled")
            }
            for name, some in points.items()
        },
        "listened": {
            name: {
                seconds: together([[run[seconds] for run in fold] for fold in some])
                for seconds in (f"{one:g}" for one in SECONDS)
            }
            for name, some in heard.items()
        },
    }


def recordings_of(folds: Sequence[Fold]) -> Result:
    """How many there are in the probe, and how many end before the longest time that is asked for."""
    probes = [packets_of(one).timestamps for fold in folds for one in gallery_and_probe(fold.split.tests["test"])[1]]
    return {"probe": len(probes), "short": sum(bool(times[-1] - times[0] < SECONDS[-1]) for times in probes)}


# ------------------------------------------------------------------------------------------------------- the page


def section(result: Result) -> list[str]:
    """Of docs/results.md."""
    seeds, mated = ", ".join(map(str, result["seeds"])), result["searches"]["mated"]
    took = f"{result['seconds']:.0f} seconds{'' if result['trained_anew'] else ' with the trained models at hand'}"
    return [
        "## Open set: strangers among the probes",
        f"`{result['command']}`, {took}; seeds {seeds}. People never "
        f"trained on: the {len(result['folds'])} folds of {result['config']}, of 18 consecutive people each. Nine are "
        "enrolled from A, first the odd ones and then the even ones, and all 18 are probed from B, each time, in "
        f"windows of {DEFAULT_PACKETS} packets: for each model {mated} searches for somebody who is enrolled and as "
        "many for somebody who is not, with one threshold. TPIR: the own person comes first, and passes the threshold "
        f"that 10 % or 1 % of the strangers' windows pass ({mated // 10} and {mated // 100} of them: the fewer, the "
        "more a figure hangs on single windows). EER: of all pairs of an A and a B window.",
        "Mean over folds and seeds ± standard deviation; in brackets the 95 % interval, bootstrap over the people of "
        "each fold, with the threshold found anew in each draw.",
        table(result["windows"], COLUMNS),
        "\n".join(f"- {name}: shrinkage LDA on {words}." for name, words in result["baselines"].items()),
        f"How far the {HEAD} is ahead, in points and in the same draws of people (of the EER, below 0 is better):",
        markdown(
            ("against", *COLUMNS.values()),
            [[name, *(points(found[key]) for key in COLUMNS)] for name, found in result["ahead"].items()],
        ),
        "\n".join(f"- {compared(name, found)}" for name, found in result["ahead"].items()),
        *operating_section(result),
        *listened_section(result),
    ]


def compared(name: str, found: Result) -> str:
    """In which figures the head is ahead of a system beyond the interval, in which behind, and in which neither."""
    verdicts: dict[str, list[str]] = {"ahead": [], "behind": [], "neither ahead nor behind beyond the interval": []}
    ahead, behind, neither = verdicts.values()
    for key, words in COLUMNS.items():
        low, high = found[key]["interval"]
        if key == "eer":  # the smaller, the better
            low, high = -high, -low
        (ahead if low > 0 else behind if high < 0 else neither).append(words)
    told = "; ".join(f"{verdict} in {', '.join(words)}" for verdict, words in verdicts.items() if words)
    return f"Against {name}: {told}."


def missed(name: str, found: Result) -> str:
    """How far the FPIR of thresholds set beforehand is from the wanted one."""
    told = []
    for whom, one in found.items():
        folds, off = one["fpir"]["folds"], 100 * (one["fpir"]["mean"] - OPERATING_FPIR)
        low, high = 100 * min(folds), 100 * max(folds)
        told.append(f"set on {whom}, {low:.0f} to {high:.0f} % in its folds, {off:+.1f} points in the mean")
    return f"- {name}: {'; '.join(told)}."


def operating_section(result: Result) -> list[str]:
    """Thresholds that were set without the probe."""
    lines = []
    for name, found in result["operating_point"].items():
        for whom, one in found.items():
            folds = ", ".join(f"{100 * share:.0f}" for share in one["fpir"]["folds"])
            lines.append([name, whom, cell(one["fpir"]), folds, cell(one["tpir"]), percent(one["tpir_fpir10"])])
    return [
        "### A threshold that was set beforehand",
        f"The last {CALIBRATING} people of a fold's training, in the order they came, are not trained on: these "
        f"models have {36 - CALIBRATING} people to learn from, not 36. Set on *others*: each of the {CALIBRATING} is "
        f"looked for among the {ENROLLED} who came next, B in A, and the threshold lets 10 % of those windows "
        "through. Set on *the enrolled*: each of the nine is looked for among the other eight, A in A, so that nobody "
        "but the enrolled is needed. The table says what either then gives on the fold's 18 test people.",
        markdown(
            ("model", "set on", "FPIR, 10 % wanted", "its folds", "TPIR", "TPIR at the test's own 10 %"), lines, texts=2
        ),
        f"FPIR where {100 * OPERATING_FPIR:.0f} % was wanted:",
        "\n".join(missed(name, found) for name, found in result["operating_point"].items()),
        "These thresholds are this script's own: of single windows, by evaluation/open_set.py. `Gallery.calibrate` "
        "sets a gallery's by another rule, which counts the stranger to come (reid/calibration.py).",
    ]


def listened_section(result: Result) -> list[str]:
    """Frame by frame."""
    keys = {"rank1": "rank-1", "tpir_fpir10": "TPIR at FPIR 10 %"}
    columns = [f"{name}: {words}" for name in result["listened"] for words in keys.values()]
    lines = []
    for seconds, one in result["listened"][HEAD].items():
        figures = [
            cell(found[seconds][key], short=name != HEAD) for name, found in result["listened"].items() for key in keys
        ]
        lines.append([seconds, f"{one['streams']['mean']:.0f}", *figures])
    last = result["listened"][HEAD][f"{SECONDS[-1]:g}"]["streams"]["mean"]
    return [
        "### After so many seconds of listening",
        "The enrolled windows and the models are those of the first table. B goes through a stream frame by frame, and "
        "the embedding is the one at the newest frame. A stream is started at each of the first 16 whole seconds, "
        "where it has room and does not overlap with another of its length; a stream that starts later knows nothing "
        f"of what came before. Time is the clock's, so that silences count. {result['recordings']['short']} of the "
        f"{result['recordings']['probe']} recordings of B end before {SECONDS[-1]:.0f} seconds: they are then asked at "
        "their end. An LDA is given the statistics of the packets so far.",
        markdown(("seconds", "streams a fold", *columns), lines),
        f"The fewer the streams, the coarser the FPIR: at {SECONDS[-1]:.0f} seconds it is "
        f"{int(OPERATING_FPIR * last)} of {last:.0f} strangers' searches.",
    ]


def table(systems: dict[str, Result], columns: Mapping[str, str]) -> str:
    """Systems by figures."""
    lines = [
        [f"**{name}**" if name == HEAD else name, *(cell(found[key]) for key in columns)]
        for name, found in systems.items()
    ]
    return markdown(("model", *columns.values()), lines)


def cell(figure: Result, *, short: bool = False) -> str:
    """A figure with its interval."""
    return percent(figure) if short else f"{percent(figure)} [{bounds(figure['interval'])}]"


def points(figure: Result) -> str:
    """A difference with its interval."""
    low, high = figure["interval"]
    return f"{100 * figure['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def bounds(found: Sequence[float]) -> str:
    """An interval in percent."""
    return ", ".join(f"{100 * one:.1f}" for one in found)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="holds the data sets' folders")
    parser.add_argument("--runs", type=Path, default=ROOT / "build" / "runs", help="trained configurations")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    logger.setLevel(logging.INFO)
    facts = {"benchmark": "open_set", "command": "python benchmarks/open_set.py --data FOLDER", "source": "replay"}
    facts |= {"machine": machine(), "software": software(), "load": os.getloadavg()[0]}
    facts["trained_anew"], start = not (given.runs / CONFIG).exists(), time.perf_counter()
    result = facts | measure(given.data, given.runs)
    result["seconds"] = round(time.perf_counter() - start, 1)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
