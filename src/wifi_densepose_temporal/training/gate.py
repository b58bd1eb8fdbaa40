"""The validation gate: may sparse attention replace dense? Both trained alike, then four criteria on what was held out.

What is compared are exported blobs, as they would be deployed. A criterion that the data cannot show is unavailable,
and sparse may replace dense only where all four pass. Beside the criteria stand yardsticks, without which their figures
mislead: how far two seeds of the dense model agree, and what the sparse model is worth with its attention taken out.

Windows and embeddings are paired.py's, statistics evaluation/gate.py's, times evaluation/latency.py's.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from wifi_densepose_temporal.datasets import FeatureCache, Recording
from wifi_densepose_temporal.errors import ConfigError, FormatError
from wifi_densepose_temporal.evaluation import evaluate_activity, evaluate_identity, latency
from wifi_densepose_temporal.evaluation.gate import (
    TOP,
    Criterion,
    contrastive_loss,
    crossed_draws,
    judge,
    mean_over_runs,
    neighbour_similarity,
    rank_agreement,
    ratio_over_runs,
    unavailable,
    verdict,
)
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS, gallery_and_probe, person_ranks
from wifi_densepose_temporal.evaluation.latency import LatencyRow, reached_from
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.training.paired import LEAST, MOST, VIEW_SEED, VIEWS, Floats, Fold, deployed_packets
from wifi_densepose_temporal.training.recipe import Run, train
from wifi_densepose_temporal.training.settings import Settings

LOSS_RULE = "contrastive loss of sparse at most 1 % above dense's; one-sided, it may be any better"
RECOGNITION_RULES = {
    "identity": "re-ID rank-1 of sparse at most 1 percentage point below dense's",
    "activity": "window accuracy of sparse at most 1 percentage point below dense's, in place of re-ID rank-1",
}
ORDER_RULE = f"mean Spearman correlation of the top-{TOP} nearest-neighbour orders at least 0.95"
LATENCY_RULE = "latency at the deployed length at least 5 times better, of a step and of a prefill"
LOSS_BOUND, RECOGNITION_BOUND, ORDER_BOUND, LATENCY_BOUND = 0.01, -0.01, 0.95, 5.0

#: The unit vectors `[N, E]` of a reference and of another model.
Sides = tuple[Floats, Floats]


def gate(
    settings: Settings, folder: Path, *, cache: FeatureCache | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Trains the configuration with sparse and with dense attention, and compares them.

    Args:
        settings: the configuration; its backend does not matter, its sparse pattern does.
        folder: `sparse` and `dense` in it hold the runs, from which a killed gate goes on.
        cache: of features.
        progress: where bars are shown.

    Returns:
        The document that `compare` makes.

    Raises:
        ConfigError: the configuration starts from weights that were trained with one of the two patterns; and as
            `recipe.train`.
        LeakageError, FileError, FormatError, TrainingError: as `recipe.train`.
    """
    if settings.start_from is not None:
        raise ConfigError(
            f"start_from {settings.start_from!r} was trained with one of the two patterns, which is no equal start; "
            "give a configuration without start_from"
        )
    sparse, dense = (
        train(with_backend(settings, backend), folder / name, cache=cache, progress=progress)
        for name, backend in (("sparse", "sparse_gqa"), ("dense", "dense"))
    )
    return compare(settings, sparse, dense, cache, progress)


def with_backend(settings: Settings, backend: str) -> Settings:
    """The configuration with another attention, all else equal."""
    return settings.model_copy(update={"model": settings.model.model_copy(update={"backend": backend})})


def compare(
    settings: Settings,
    sparse: Sequence[Run],
    dense: Sequence[Run],
    cache: FeatureCache | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The gate's document, of runs of the same splits and seeds in the same order, as `recipe.train` gives them."""
    bar = progress.add_task("comparing", total=len(sparse) + latency.REPEAT) if progress else None

    def advance() -> None:
        if progress and bar is not None:
            progress.advance(bar)

    pairs, seeds = list(zip(sparse, dense, strict=True)), len(settings.seeds)
    folds = [Fold(settings, pairs[start : start + seeds], cache, advance) for start in range(0, len(pairs), seeds)]
    order, yardsticks = _order(folds)
    speed, rows = _latency(folds[0], advance)
    deployed = next((row for row in rows if folds[0].length == row.T), None)
    criteria = [_loss(folds), _recognition(folds, cache, settings.names_classes), order, speed]
    return {
        "name": settings.name,
        "task": settings.task,
        "source": "replay",
        "trained": settings.trains,
        "seeds": list(settings.seeds),
        "split": list(dict.fromkeys(run.split.words for run in sparse)),
        "held_out": list(dict.fromkeys(fold.what for fold in folds)),
        "compared": _compared(settings, folds, deployed),
        "criteria": [dataclasses.asdict(criterion) for criterion in criteria],
        "sparse_may_replace_dense": all(criterion.status == "pass" for criterion in criteria),
        "verdict": verdict(criteria),
        "cautions": _cautions(settings, folds, yardsticks, deployed),
        "yardsticks": yardsticks,
        "deployed_frames": folds[0].length,
        "latency": [dataclasses.asdict(row) for row in rows],
        "runs": [_run(*pair) for pair in pairs],
    }


# ------------------------------------------------------------------------------------------------ the criteria


def _loss(folds: Sequence[Fold]) -> Criterion:
    """Criterion 1."""
    name, held = "contrastive loss", [fold.held for fold in folds if fold.held is not None]
    why = _no_windows(folds) or ("a single held-out window" if min(len(some) for some in held) < 2 else None)
    if why:
        return unavailable(name, LOSS_RULE, why)
    groups = [some.group(fold.task) for some, fold in zip(held, folds, strict=True)]
    draws = crossed_draws(len(folds[0].pairs), [int(group.max()) + 1 for group in groups])
    parts: list[list[Floats]] = []  # of sparse and dense: NT-Xent and VICReg [D], mean over runs
    for vectors in ([fold.sparse for fold in folds], [fold.dense for fold in folds]):
        of_fold = [
            np.stack([contrastive_loss(one.first, one.second, group, drawn) for one in of_seeds], 1)
            for of_seeds, group, drawn in zip(vectors, groups, draws.groups, strict=True)
        ]
        parts.append([mean_over_runs([figures[kind] for figures in of_fold], draws) for kind in range(2)])
    (sparse_pull, sparse_spread), (dense_pull, dense_spread) = parts
    sparse, dense = sparse_pull + sparse_spread, dense_pull + dense_spread
    worse, alone = sparse / dense - 1, float(sparse_pull[0] / dense_pull[0] - 1)
    difference = round(float(worse[0]), 12)
    said = (
        f"sparse {sparse[0]:.4g}, dense {dense[0]:.4g}, sparse {100 * difference:+.2f} %; NT-Xent alone "
        f"{sparse_pull[0]:.4g} and {dense_pull[0]:.4g}, {100 * alone:+.2f} %, the rest is VICReg"
    )
    if (alone <= LOSS_BOUND) != (difference <= LOSS_BOUND):
        said += "; NT-Xent alone would decide the other way"
    chance = float(np.mean([np.log(2 * len(some) - 1) for some in held]))
    if dense_pull[0] >= chance:
        said += f"; by chance it is {chance:.4g}: dense does not tell views of one window from others', it says little"
    figures = float(sparse[0]), float(dense[0])
    within = draws.interval_of(worse)
    return judge(name, LOSS_RULE, figures, difference, LOSS_BOUND, within, _drawn(folds), said, most=True)


def _recognition(folds: Sequence[Fold], cache: FeatureCache | None, named: bool) -> Criterion:
    """Criterion 2."""
    identity, rule = folds[0].task == "identity", RECOGNITION_RULES[folds[0].task]
    name = "re-ID rank-1" if identity else "window accuracy (in place of re-ID rank-1)"
    if any(not fold.recordings for fold in folds):
        return unavailable(name, rule, _no_windows(folds) or "")
    if not identity and not named:
        return unavailable(name, rule, "the classifier is not trained in this configuration")
    rights_of = rank1_rights if identity else partial(window_rights, cache=cache)
    rights: list[list[Floats]] = [[], []]  # of sparse and dense, in each fold [S, G]
    wholes = []
    try:
        for fold in folds:
            for side in range(2):
                counts = [rights_of(TemporalModel.from_bytes(pair[side].blob), fold.recordings) for pair in fold.pairs]
                rights[side].append(np.stack([right for right, _ in counts]))
            wholes.append(counts[0][1])
    except (ConfigError, FormatError) as error:
        return unavailable(name, rule, str(error))
    draws = crossed_draws(len(folds[0].pairs), [len(whole) for whole in wholes])
    sparse, dense = (ratio_over_runs(side, wholes, draws) for side in rights)
    difference = round(float(sparse[0] - dense[0]), 12)
    said = (
        f"sparse {100 * sparse[0]:.1f} %, dense {100 * dense[0]:.1f} %, {100 * difference:+.2f} points, of "
        f"{sum(whole.sum() for whole in wholes):.0f} held-out windows, cut as wdt evaluate does; "
        + (f"{DEFAULT_PACKETS}-packet windows against those of the other session" if identity else "this is not re-ID")
    )
    figures, within = (float(sparse[0]), float(dense[0])), draws.interval_of(sparse - dense)
    return judge(name, rule, figures, difference, RECOGNITION_BOUND, within, _drawn(folds), said)


def rank1_rights(model: TemporalModel, recordings: Sequence[Recording]) -> tuple[Floats, Floats]:
    """Of each person of the probe: probe windows whose person is found first, and all of them; as `wdt evaluate`.

    Raises:
        ConfigError, FormatError: as `gallery_and_probe` and `evaluate_identity`.
    """
    result = evaluate_identity(model, *gallery_and_probe(recordings))
    gallery, probe = result.gallery, result.probe
    persons, number = np.unique(gallery.person, return_inverse=True)
    known = np.isin(probe.person, persons)
    similarity = probe.embedding[known].astype(np.float64) @ gallery.embedding.astype(np.float64).T
    own = np.searchsorted(persons, probe.person[known])
    group = np.unique(own, return_inverse=True)[1]
    right = person_ranks(similarity, number, own) == 1
    return np.bincount(group, right).astype(np.float64), np.bincount(group).astype(np.float64)


def window_rights(
    model: TemporalModel, recordings: Sequence[Recording], cache: FeatureCache | None = None
) -> tuple[Floats, Floats]:
    """Of each recording: windows decided right, and all of them; as `wdt evaluate`.

    Raises:
        ConfigError, FormatError: as `evaluate_activity`.
    """
    scored = evaluate_activity(model, recordings, cache=cache).scored
    right = [np.count_nonzero(one.truth == one.decided) for one in scored]
    return np.array(right, np.float64), np.array([len(one.truth) for one in scored], np.float64)


def _order(folds: Sequence[Fold]) -> tuple[Criterion, dict[str, dict[str, Any] | None]]:
    """Criterion 3, and what to hold its figure against."""
    name, held = "neighbour order", [fold.held for fold in folds if fold.held is not None]
    why = _no_windows(folds)
    if why is None and any(len(set(some.recording.tolist())) < 3 for some in held):
        why = "fewer than three held-out recordings; a window's neighbours are windows of the others"
    if why is not None:
        return unavailable(name, ORDER_RULE, why), {}
    seeds = range(len(folds[0].pairs))
    two = list(itertools.combinations(seeds, 2))
    trained = _agreement(folds, [[(f.dense[s].unit, f.sparse[s].unit) for s in seeds] for f in folds])
    pattern = _agreement(folds, [[(f.as_dense[s], f.sparse[s].unit) for s in seeds] for f in folds])
    without = _agreement(folds, [[(f.sparse[s].unit, f.without[s]) for s in seeds] for f in folds])
    chance = _agreement(folds, [[(f.dense[a].unit, f.dense[b].unit) for a, b in two] for f in folds]) if two else None
    top = trained["neighbours"]
    said = (
        f"sparse-trained against dense-trained {trained['correlation']:.3f}, over the {top} nearest of dense, of which "
        f"sparse has {100 * trained['overlap']:.0f} % among its {top}; the sparse-trained weights run sparse against "
        f"run dense {pattern['correlation']:.3f}; two seeds of dense "
        + ("unavailable, there is one" if chance is None else f"{chance['correlation']:.3f}")
    )
    yardsticks = {
        "sparse_weights_run_sparse_and_dense": pattern,
        "two_seeds_of_dense": chance,
        "sparse_with_and_without_attention": without,
    }
    correlation, within = trained["correlation"], trained["interval"]
    drawn = _drawn(folds) + ", of the probe windows"
    return judge(name, ORDER_RULE, (None, None), correlation, ORDER_BOUND, within, drawn, said), yardsticks


def _agreement(folds: Sequence[Fold], comparisons: Sequence[Sequence[Sides]]) -> dict[str, Any]:
    """The mean correlation over folds, each fold's comparisons and probe windows, its interval, and the overlap."""
    parts, wholes, shared, top = [], [], [], TOP
    for fold, sides in zip(folds, comparisons, strict=True):
        assert fold.held is not None
        recording, group = fold.held.recording, fold.held.group(fold.task)
        top = min(top, len(recording) - int(np.bincount(recording).max()))
        rows = []
        for reference, other in sides:
            similarity = neighbour_similarity(reference, recording), neighbour_similarity(other, recording)
            alike, overlap = rank_agreement(*similarity)
            rows.append(np.bincount(group, alike).astype(np.float64))
            shared.append(float(overlap.mean()))
        parts.append(np.stack(rows))
        wholes.append(np.bincount(group).astype(np.float64))
    draws = crossed_draws(len(comparisons[0]), [len(whole) for whole in wholes])
    figures = ratio_over_runs(parts, wholes, draws)
    return {
        "correlation": round(float(figures[0]), 12),
        "interval": draws.interval_of(figures),
        "overlap": float(np.mean(shared)),
        "neighbours": top,
    }


def _latency(fold: Fold, advance: Callable[[], object]) -> tuple[Criterion, list[LatencyRow]]:
    """Criterion 4, and the times at all lengths; of the first run's blobs."""
    name, length = "latency", fold.length
    if length is None:
        return unavailable(name, LATENCY_RULE, "no recording is as long as one window: no deployed length"), []
    sparse, dense = (TemporalModel.from_bytes(run.blob) for run in fold.pairs[0])
    frames = np.concatenate([passage.frames for passage in fold.windows.clean])[: max(latency.LENGTHS)]
    rows = latency.measure(sparse, dense, frames, sorted({*latency.LENGTHS, length}), advance)
    row = next(row for row in rows if length == row.T)
    said = [
        f"{kind} at {length} frames {timing.sparse_ms:.4g} ms sparse, {timing.dense_ms:.4g} ms dense, "
        f"{timing.speedup:.2f}x ({_from(rows, of)})"
        for kind, timing, of in (
            ("a step", row.step, lambda row: row.step.speedup),
            ("a prefill", row.prefill, lambda row: row.prefill.speedup),
        )
    ]
    alone = _from(rows, lambda row: row.attention_speedup)
    said.append(f"attention alone {row.attention_speedup:.2f}x ({alone}), keys to attend to {row.edge_ratio:.2f}x")
    least = min(row.step, row.prefill, key=lambda timing: timing.speedup)
    figures, drawn = (least.sparse_ms, least.dense_ms), f"bootstrap over {least.repeats} interleaved repeats"
    words = "; ".join(said)
    return judge(name, LATENCY_RULE, figures, least.speedup, LATENCY_BOUND, least.interval, drawn, words), rows


# ------------------------------------------------------------------------------------------------------- words


def _no_windows(folds: Sequence[Fold]) -> str | None:
    """Why there is nothing to compare on; None where there is."""
    if any(not fold.recordings for fold in folds):
        return "the split has no test and no validation recordings in this data set"
    if any(fold.held is None for fold in folds):
        return "no held-out recording is as long as one window"
    return None


def _drawn(folds: Sequence[Fold]) -> str:
    """What an interval's draws are of."""
    seeds, groups = len(folds[0].pairs), "persons" if folds[0].task == "identity" else "recordings"
    among = f", within each of {len(folds)} folds" if len(folds) > 1 else ""
    if seeds == 1:
        return f"bootstrap over held-out {groups}{among}; one seed: what retraining changes is not in it"
    return f"bootstrap over {seeds} seeds x held-out {groups}{among}"


def _from(rows: Sequence[LatencyRow], speedup_of: Callable[[LatencyRow], float]) -> str:
    reached = reached_from(rows, speedup_of, LATENCY_BOUND)
    return f"5x from {reached} frames on" if reached else f"5x not reached up to {max(row.T for row in rows)} frames"


def _compared(settings: Settings, folds: Sequence[Fold], deployed: LatencyRow | None) -> list[str]:
    """What was compared with what, in sentences."""
    model, packets = settings.model, deployed_packets(settings)
    seeds, recordings = ", ".join(map(str, settings.seeds)), sum(len(fold.recordings) for fold in folds)
    in_folds = f" in each of {len(folds)} folds" if len(folds) > 1 else ""
    windows = sum(len(fold.held) for fold in folds if fold.held is not None)
    held_out = ", ".join(dict.fromkeys(fold.what for fold in folds))
    said = [
        f"Trained twice for each seed ({seeds}){in_folds}, with the same data, first weights and budget of "
        f"{settings.schedule.steps} steps: sparse attention (window {model.window}, blocks of {model.block_size}, "
        f"log-stride, landmarks, globals {list(model.global_tokens)}), and dense attention (every earlier frame). "
        "Compared are the exported models.",
        f"Held out: {held_out}, {recordings} recordings, {windows} windows, "
        + (
            f"each of {packets} packets and seen alone."
            if packets
            else "each seen after all of its recording before it."
        ),
        "Contrastive loss: NT-Xent at temperature 0.07 (the first one, not as learned) plus VICReg, over two augmented "
        f"views (seed {VIEW_SEED}; {LEAST} to {MOST} of {', '.join(VIEWS)}) of all held-out windows of a fold at once.",
        "Neighbours of a window: held-out windows of other recordings, by cosine of the embeddings.",
    ]
    if deployed is not None:
        said.append(
            f"Latency: the exported models of the first run, one thread of the C core, at {deployed.T} frames, where "
            f"dense attends to {deployed.edge_ratio:.2f} times as many keys as sparse."
        )
    return said


def _cautions(
    settings: Settings,
    folds: Sequence[Fold],
    yardsticks: dict[str, dict[str, Any] | None],
    deployed: LatencyRow | None,
) -> list[str]:
    """What keeps a reader from reading too much into the figures."""
    said = []
    if settings.schedule.steps == 0:
        said.append("No training steps: attention is as it was initialised, so both models are nearly one.")
    if deployed is not None and any(not fold.recordings for fold in folds):
        said.append("Nothing is held out: the length of a deployed window is that of training recordings.")
    if any(fold.what == "validation" for fold in folds):
        said.append("Held out is validation, by which the weights of both models were chosen: it is no test.")
    chance, without = (yardsticks.get(of) for of in ("two_seeds_of_dense", "sparse_with_and_without_attention"))
    if chance is not None and chance["correlation"] < ORDER_BOUND:
        said.append(
            f"Two dense models that differ in nothing but the seed agree to {chance['correlation']:.3f} in the order "
            "of neighbours: dense itself does not reach criterion 3, which so says little about sparse."
        )
    if without is not None and without["correlation"] >= ORDER_BOUND:
        said.append(
            "With its attention taken out the sparse model orders neighbours as before, to "
            f"{without['correlation']:.3f}: attention adds little to this model, and criteria 1 to 3 say little "
            "about the pattern."
        )
    if deployed is not None and deployed.edge_ratio < 1.01:
        said.append("At the deployed length the sparse pattern covers every frame: both models attend to the same.")
    return said


def _run(sparse: Run, dense: Run) -> dict[str, Any]:
    digests = {
        f"{name}_sha256": TemporalModel.from_bytes(run.blob).sha256
        for name, run in (("sparse", sparse), ("dense", dense))
    }
    return {"run": sparse.name, "seed": sparse.seed, "sparse": sparse.tests, "dense": dense.tests, **digests}
