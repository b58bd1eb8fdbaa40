"""The validation gate: may sparse attention replace dense? Both trained alike, then four criteria on what was held out.

What is compared are exported blobs, as they would be deployed. A criterion that the data cannot show is unavailable,
and sparse may replace dense only where all four pass. Beside the criteria stand yardsticks, without which their figures
mislead: how far two seeds of the dense model agree, and what the sparse model is worth with its attention taken out.

Here are training, embedding and words; statistics are evaluation/gate.py's, times evaluation/latency.py's.

Letters: F folds, S seeds, N held-out windows, E embedding size.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch.nn import functional

from wifi_densepose_temporal.config import Backend, TemporalHeadConfig
from wifi_densepose_temporal.datasets import FeatureCache, Recording, Split
from wifi_densepose_temporal.errors import ConfigError, FormatError
from wifi_densepose_temporal.evaluation import evaluate_activity, evaluate_identity
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
)
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS, gallery_and_probe, person_ranks
from wifi_densepose_temporal.evaluation.latency import LENGTHS, REPEAT, LatencyRow, measure, reached_from
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.training.augment import augment
from wifi_densepose_temporal.training.batches import Track, Window, batch, frames_of
from wifi_densepose_temporal.training.blob import to_network
from wifi_densepose_temporal.training.network import Layer, TemporalNetwork
from wifi_densepose_temporal.training.recipe import Run, train
from wifi_densepose_temporal.training.settings import Settings
from wifi_densepose_temporal.training.tracks import load_track, names_of

Floats = NDArray[np.float64]

LOSS_RULE = "contrastive loss of sparse at most 1 % above dense's (better may be any)"
RECOGNITION_RULES = {
    "identity": "re-ID rank-1 of sparse at most 1 percentage point below dense's",
    "activity": "window accuracy of sparse at most 1 percentage point below dense's, in place of re-ID rank-1",
}
ORDER_RULE = f"Spearman correlation of the top-{TOP} nearest-neighbour orders at least 0.95"
LATENCY_RULE = "latency at the deployed length at least 5 times better, of a step and of a prefill"
LOSS_BOUND, RECOGNITION_BOUND, ORDER_BOUND, LATENCY_BOUND = 0.01, -0.01, 0.95, 5.0

#: The seven of the recipe; for configurations that train without augmentations.
VIEWS = (
    "temporal_jitter",
    "subcarrier_masking",
    "gaussian_noise",
    "phase_rotation",
    "amplitude_scaling",
    "swap_subcarriers",
    "drop_and_interpolate",
)
VIEW_SEED = 0

MAX_WINDOWS = 1024  # of a fold; of more, evenly spaced ones are taken
FRAMES_AT_ONCE = 1 << 15


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
            f"start_from {settings.start_from!r} was trained with one pattern, which would not be an equal start; give "
            "a configuration without start_from"
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
    """The gate's document, of runs of the same splits and seeds in the same order."""
    count = len(settings.seeds)
    bar = progress.add_task("comparing", total=len(sparse) + REPEAT) if progress else None
    advance = (lambda: progress.advance(bar)) if progress and bar is not None else (lambda: None)
    folds = []
    for start in range(0, len(sparse), count):
        pairs = tuple(zip(sparse[start : start + count], dense[start : start + count], strict=True))
        folds.append(_Fold(settings, pairs, cache, advance))
    latency, row, rows = _latency(folds, advance)
    orders = _orders(folds)
    criteria = [_loss(folds), _recognition(settings, folds, cache), orders.criterion, latency]
    allowed = all(criterion.status == "pass" for criterion in criteria)
    return {
        "name": settings.name,
        "task": settings.task,
        "source": "replay",
        "trained": settings.schedule.steps > 0 or settings.readout is not None,
        "seeds": list(settings.seeds),
        "split": list(dict.fromkeys(run.split.words for run in sparse)),
        "compared": _compared(settings, folds, row),
        "criteria": [dataclasses.asdict(criterion) for criterion in criteria],
        "sparse_may_replace_dense": allowed,
        "verdict": _verdict(criteria),
        "cautions": _cautions(settings, folds, orders, row),
        "yardsticks": orders.yardsticks,
        "latency": [dataclasses.asdict(one) for one in rows],
        "deployed_frames": folds[0].length,
        "runs": [_run(pair) for fold in folds for pair in fold.pairs],
    }


# ------------------------------------------------------------------------------------------- held-out windows


@dataclass(frozen=True, eq=False)
class Held:
    """Held-out windows, as frames `[T, F]` each: as they were received, and in two augmented views."""

    clean: list[Window]
    first: list[Window]
    second: list[Window]

    @property
    def recording(self) -> NDArray[np.intp]:
        """[N]."""
        return np.array([window.recording for window in self.clean], np.intp)

    def group(self, task: str) -> NDArray[np.intp]:
        """[N] what the bootstrap draws: persons, or recordings."""
        of = [window.identity if task == "identity" else window.recording for window in self.clean]
        return np.unique(of, return_inverse=True)[1].astype(np.intp)


def held_out(split: Split) -> tuple[str, tuple[Recording, ...]]:
    """What models are judged on, in a word, and the recordings: those of all tests, else those of validation."""
    some = {one.name: one for test in split.tests.values() for one in test}
    if some:
        return "test" + "s" * (len(split.tests) > 1) + " " + ", ".join(split.tests), tuple(some.values())
    return ("validation" if split.validation else "nothing"), split.validation


def deployed_packets(settings: Settings) -> int:
    """Packets of a window as deployed: of training's windows, else of the read-out's; 0 for whole recordings."""
    return settings.batch.packets or (settings.readout.packets if settings.readout else 0)


def cut(settings: Settings, recordings: Sequence[Recording], cache: FeatureCache | None) -> Held:
    """The windows of recordings, one after the other, without a window that has no measurement in it."""
    names, chain = names_of(recordings, settings.chain, cache), settings.chain
    views: list[list[Window]] = []
    tracks = [load_track(recording, names, chain, cache) for recording in recordings]
    for number, track, start, end in _places(tracks, deployed_packets(settings)):
        packets = track.packets.at(start, end)
        chosen = settings.batch.augmentations or VIEWS
        versions = [packets]
        for view in (1, 2):
            rng = np.random.default_rng((VIEW_SEED, view, number, start))
            versions.append(augment(packets, chosen, rng, settings.batch.least, settings.batch.most))
        made = [Window(*frames_of(version, track.subcarriers, chain), track.identity, number) for version in versions]
        if all(len(window.frames) for window in made):
            views.append(made)
    return Held(*([made[view] for made in views] for view in range(3)))


def _places(tracks: Sequence[Track], size: int) -> list[tuple[int, Track, int, int]]:
    """Recording, track, first packet and end of each window; at most `MAX_WINDOWS`, evenly spaced over all."""
    places = []
    for number, track in enumerate(tracks):
        length = size or len(track.packets)
        ends = range(length, len(track.packets) + 1, length)
        places += [(number, track, end - length, end) for end in ends]
    if len(places) <= MAX_WINDOWS:
        return places
    return [places[place] for place in np.linspace(0, len(places) - 1, MAX_WINDOWS).round().astype(int)]


# ---------------------------------------------------------------------------------------- what models make of them


@dataclass(frozen=True, eq=False)
class _Vectors:
    """What one model makes of the held-out windows, `[N, E]` each; of unit length where it is called so."""

    unit: Floats
    first: Floats
    second: Floats


class _Fold:
    """One split: its runs, its held-out windows, and what each model makes of them."""

    def __init__(
        self,
        settings: Settings,
        pairs: tuple[tuple[Run, Run], ...],
        cache: FeatureCache | None,
        advance: Callable[[], object],
    ) -> None:
        self.task, self.pairs, split = settings.task, pairs, pairs[0][0].split
        self.what, self.recordings = held_out(split)
        # Without held-out recordings, training ones still say how many frames a window has.
        held = cut(settings, self.recordings or split.train[:8], cache)
        self.frames = np.concatenate([window.frames for window in held.clean]) if held.clean else None
        self.length = round(float(np.median([len(window.frames) for window in held.clean]))) if held.clean else None
        self.held = held if self.recordings and held.clean else None
        self.vectors: list[tuple[_Vectors, _Vectors]] = []
        self.as_dense: list[Floats] = []  # the sparse models' weights, run with the dense pattern: unit vectors
        self.without: list[Floats] = []  # without any attention
        for sparse, dense in pairs if self.held else ():
            self._embed(sparse, dense)
            advance()

    def _embed(self, sparse: Run, dense: Run) -> None:
        assert self.held is not None
        network = to_network(sparse.blob)
        self.vectors.append((_vectors(network, self.held), _vectors(to_network(dense.blob), self.held)))
        pattern = dataclasses.replace(network.config, backend="dense")
        self.as_dense.append(_unit(embed(with_pattern(network, pattern), self.held.clean)))
        self.without.append(_unit(embed(without_attention(network), self.held.clean)))


def with_pattern(network: TemporalNetwork, config: TemporalHeadConfig) -> TemporalNetwork:
    """The same network, changed in place: its weights run with another pattern."""
    network.config = config
    for layer in network.layers:
        cast(Layer, layer).config = config
    return network


def without_attention(network: TemporalNetwork) -> TemporalNetwork:
    """The same network, changed in place: attention adds nothing."""
    with torch.no_grad():
        for layer in network.layers:
            cast(Layer, layer).out.weight.zero_()
    return network


def embed(network: TemporalNetwork, windows: Sequence[Window]) -> Floats:
    """`[N, E]`: the projection at each window's last frame, not yet of unit length."""
    longest = max(len(window.frames) for window in windows)
    size = max(1, FRAMES_AT_ONCE // longest)
    rows = []
    with torch.no_grad():
        for start in range(0, len(windows), size):
            some = batch(windows[start : start + size])
            rows.append(network.projection(some.last(network.pooled(some.frames))).double().numpy())
    return np.concatenate(rows)


def _unit(rows: Floats) -> Floats:
    return functional.normalize(torch.from_numpy(rows), dim=-1).numpy()


def _vectors(network: TemporalNetwork, held: Held) -> _Vectors:
    first, second = (embed(network, view) for view in (held.first, held.second))
    return _Vectors(_unit(embed(network, held.clean)), first, second)


# ------------------------------------------------------------------------------------------------ the criteria


def _drawn(folds: Sequence[_Fold], groups: str) -> str:
    """What the interval's draws are of."""
    seeds = len(folds[0].pairs)
    what = f"bootstrap over {seeds} seeds x held-out {groups}" if seeds > 1 else f"bootstrap over held-out {groups}"
    missing = "" if seeds > 1 else "; one seed, so what retraining changes is not in it"
    return what + (f", within {len(folds)} folds" if len(folds) > 1 else "") + missing


def _groups(task: str) -> str:
    return "persons" if task == "identity" else "recordings"


def _no_windows(folds: Sequence[_Fold]) -> str | None:
    """Why there is nothing to compare on; None where there is."""
    if all(fold.held is not None for fold in folds):
        return None
    if any(not fold.recordings for fold in folds):
        return "the split has no test and no validation recordings in this data set"
    return "no held-out recording is as long as one window"


def _loss(folds: Sequence[_Fold]) -> Criterion:
    """Criterion 1."""
    name, why = "contrastive loss", _no_windows(folds)
    if why is not None or min(len(fold.held.clean) for fold in folds if fold.held) < 2:
        return unavailable(name, LOSS_RULE, why or "one held-out window has no other to be told from")
    groups = [fold.held.group(fold.task) for fold in folds if fold.held]
    draws = crossed_draws(len(folds[0].pairs), [int(group.max()) + 1 for group in groups])
    losses = []
    for side in range(2):
        of_fold = []
        for fold, group, drawn in zip(folds, groups, draws.groups, strict=True):
            views = [pair[side] for pair in fold.vectors]
            of_fold.append(np.stack([contrastive_loss(v.first, v.second, group, drawn) for v in views], 1))
        losses.append([mean_over_runs([part[kind] for part in of_fold], draws) for kind in range(2)])
    sparse, dense = (entropy + vicreg for entropy, vicreg in losses)
    worse = sparse / dense - 1
    alone = losses[0][0][0] / losses[1][0][0] - 1
    said = (
        f"sparse {sparse[0]:.4g}, dense {dense[0]:.4g}: sparse is {100 * worse[0]:+.2f} % of dense's. NT-Xent alone "
        f"{losses[0][0][0]:.4g} and {losses[1][0][0]:.4g}, {100 * alone:+.2f} %; the rest is VICReg"
    )
    if (alone <= LOSS_BOUND) != (worse[0] <= LOSS_BOUND):
        said += "; NT-Xent alone would decide the other way"
    figures, drawn_words = (float(sparse[0]), float(dense[0])), _drawn(folds, _groups(folds[0].task))
    interval = draws.interval_of(worse)
    return judge(name, LOSS_RULE, figures, float(worse[0]), LOSS_BOUND, interval, drawn_words, said, most=True)


def _recognition(settings: Settings, folds: Sequence[_Fold], cache: FeatureCache | None) -> Criterion:
    """Criterion 2."""
    identity = settings.task == "identity"
    name = "re-ID rank-1" if identity else "window accuracy (in place of re-ID rank-1)"
    rule = RECOGNITION_RULES[settings.task]
    if any(not fold.recordings for fold in folds):
        return unavailable(name, rule, _no_windows(folds) or "")
    rights_of = rank1_rights if identity else partial(window_rights, cache=cache)
    parts, wholes = [], []
    try:
        for fold in folds:
            of_run = [
                [rights_of(TemporalModel.from_bytes(run.blob), fold.recordings) for run in pair] for pair in fold.pairs
            ]
            parts.append([np.stack([pair[side][0] for pair in of_run]) for side in range(2)])
            wholes.append(of_run[0][0][1])
    except (ConfigError, FormatError) as error:
        return unavailable(name, rule, str(error))
    draws = crossed_draws(len(folds[0].pairs), [len(whole) for whole in wholes])
    sparse, dense = (ratio_over_runs([part[side] for part in parts], wholes, draws) for side in range(2))
    windows = int(sum(whole.sum() for whole in wholes))
    said = (
        f"sparse {100 * sparse[0]:.1f} %, dense {100 * dense[0]:.1f} % of {windows} held-out windows, "
        f"{100 * (sparse[0] - dense[0]):+.2f} points"
    )
    said += f"; probe windows of {DEFAULT_PACKETS} packets against the other session" if identity else ""
    said += "" if identity else "; an activity has no identity to be found again, so this is not re-ID"
    better, drawn = sparse - dense, _drawn(folds, "persons" if identity else "recordings")
    figures, difference = (float(sparse[0]), float(dense[0])), round(float(better[0]), 12)
    return judge(name, rule, figures, difference, RECOGNITION_BOUND, draws.interval_of(better), drawn, said)


def rank1_rights(model: TemporalModel, recordings: Sequence[Recording]) -> tuple[Floats, Floats]:
    """Of each person of the probe: probe windows whose person is found first, and all of them; as `wdt evaluate`."""
    result = evaluate_identity(model, *gallery_and_probe(recordings))
    gallery, probe = result.gallery, result.probe
    persons, number = np.unique(gallery.person, return_inverse=True)
    known = np.isin(probe.person, persons)
    similarity = probe.embedding[known].astype(np.float64) @ gallery.embedding.astype(np.float64).T
    own = np.searchsorted(persons, probe.person[known])
    right = person_ranks(similarity, number, own) == 1
    _, group = np.unique(own, return_inverse=True)
    return np.bincount(group, right).astype(np.float64), np.bincount(group).astype(np.float64)


def window_rights(
    model: TemporalModel, recordings: Sequence[Recording], cache: FeatureCache | None
) -> tuple[Floats, Floats]:
    """Of each recording: windows decided right, and all of them; as `wdt evaluate`."""
    scored = evaluate_activity(model, recordings, cache=cache).scored
    right = [np.count_nonzero(one.truth == one.decided) for one in scored]
    return np.array(right, np.float64), np.array([len(one.truth) for one in scored], np.float64)


@dataclass(frozen=True)
class _Orders:
    """Criterion 3 with what stands beside it."""

    criterion: Criterion
    yardsticks: dict[str, dict[str, Any] | None]


def _orders(folds: Sequence[_Fold]) -> _Orders:
    """Criterion 3: sparse against dense; beside it one model's weights in both patterns, two seeds, no attention."""
    name, why = "neighbour order", _no_windows(folds)
    if why is None and any(len(set(fold.held.recording.tolist())) < 3 for fold in folds if fold.held):
        why = "fewer than three held-out recordings: a window's neighbours are other recordings' windows"
    if why is not None:
        return _Orders(unavailable(name, ORDER_RULE, why), {})
    seeds = range(len(folds[0].pairs))
    two = list(itertools.combinations(seeds, 2))
    trained = _agreement(folds, [lambda f, s=s: (f.vectors[s][1].unit, f.vectors[s][0].unit) for s in seeds])
    yardsticks = {
        "sparse_weights_in_the_dense_pattern": _agreement(
            folds, [lambda f, s=s: (f.as_dense[s], f.vectors[s][0].unit) for s in seeds]
        ),
        "two_seeds_of_dense": _agreement(
            folds, [lambda f, a=a, b=b: (f.vectors[a][1].unit, f.vectors[b][1].unit) for a, b in two]
        )
        if two
        else None,
        "sparse_without_attention": _agreement(
            folds, [lambda f, s=s: (f.vectors[s][0].unit, f.without[s]) for s in seeds]
        ),
    }
    said = _order_words(trained, yardsticks)
    criterion = judge(
        name,
        ORDER_RULE,
        (None, None),
        trained["correlation"],
        ORDER_BOUND,
        trained["interval"],
        _drawn(folds, f"{_groups(folds[0].task)} of the probe windows"),
        said,
    )
    return _Orders(criterion, yardsticks)


#: Unit vectors of the reference and of the other model, in one fold.
Sides = Callable[[_Fold], tuple[Floats, Floats]]


def _agreement(folds: Sequence[_Fold], comparisons: Sequence[Sides]) -> dict[str, Any]:
    """Mean correlation over folds, comparisons (drawn as seeds are) and probe windows, its interval, and the overlap."""
    parts, wholes, shared, top = [], [], [], TOP
    for fold in folds:
        assert fold.held is not None
        recording, group = fold.held.recording, fold.held.group(fold.task)
        top = min(top, len(recording) - int(np.bincount(recording).max()))
        rows = []
        for sides in comparisons:
            alike, overlap = rank_agreement(*(neighbour_similarity(unit, recording) for unit in sides(fold)))
            rows.append(np.bincount(group, alike))
            shared.append(float(overlap.mean()))
        parts.append(np.stack(rows))
        wholes.append(np.bincount(group).astype(np.float64))
    draws = crossed_draws(len(comparisons), [len(whole) for whole in wholes])
    figures = ratio_over_runs(parts, wholes, draws)
    return {
        "correlation": round(float(figures[0]), 12),
        "interval": draws.interval_of(figures),
        "overlap": float(np.mean(shared)),
        "neighbours": top,
    }


def _order_words(trained: dict[str, Any], yardsticks: dict[str, dict[str, Any] | None]) -> str:
    pattern, seeds = yardsticks["sparse_weights_in_the_dense_pattern"], yardsticks["two_seeds_of_dense"]
    assert pattern is not None
    said = [
        f"sparse-trained against dense-trained {trained['correlation']:.3f}, over the {trained['neighbours']} nearest "
        f"of dense, of which sparse's {trained['neighbours']} nearest hold {100 * trained['overlap']:.0f} %",
        f"the sparse-trained weights alone, run sparse and dense, {pattern['correlation']:.3f}",
        "two seeds of dense unavailable, there is one"
        if seeds is None
        else f"two seeds of dense {seeds['correlation']:.3f}",
    ]
    return "; ".join(said)


def _latency(
    folds: Sequence[_Fold], advance: Callable[[], object]
) -> tuple[Criterion, LatencyRow | None, list[LatencyRow]]:
    """Criterion 4, the row of the deployed length, and all rows; of the first run's blobs."""
    length, frames = folds[0].length, folds[0].frames
    if length is None or frames is None:
        why = "no recording is as long as one window, so there is no deployed length"
        return unavailable("latency", LATENCY_RULE, why), None, []
    sparse, dense = (TemporalModel.from_bytes(run.blob) for run in folds[0].pairs[0])
    rows = measure(sparse, dense, frames, sorted({*LENGTHS, length}), advance)
    row = next(row for row in rows if row.T == length)
    least = min((row.step, row.prefill), key=lambda timing: timing.speedup)
    kinds = {
        "a step": (row.step, lambda row: row.step.speedup),
        "a prefill": (row.prefill, lambda row: row.prefill.speedup),
    }
    said = [
        f"{kind} at {length} frames {timing.sparse_ms:.4f} ms sparse, {timing.dense_ms:.4f} ms dense, "
        f"{timing.speedup:.2f}x ({_from(rows, of)})"
        for kind, (timing, of) in kinds.items()
    ]
    alone = _from(rows, lambda row: row.attention_speedup)
    said.append(f"attention alone {row.attention_speedup:.2f}x ({alone}), edges {row.edge_ratio:.2f}x")
    figures, drawn = (least.sparse_ms, least.dense_ms), f"bootstrap over {least.repeats} interleaved repeats"
    criterion = judge(
        "latency", LATENCY_RULE, figures, least.speedup, LATENCY_BOUND, least.interval, drawn, "; ".join(said)
    )
    return criterion, row, rows


def _from(rows: Sequence[LatencyRow], speedup_of: Callable[[LatencyRow], float]) -> str:
    reached = reached_from(rows, speedup_of, LATENCY_BOUND)
    return f"5x from {reached} frames on" if reached else f"5x not reached up to {max(row.T for row in rows)} frames"


# ------------------------------------------------------------------------------------------------------- words


def _compared(settings: Settings, folds: Sequence[_Fold], row: LatencyRow | None) -> list[str]:
    """What was compared with what, in sentences."""
    model, packets = settings.model, deployed_packets(settings)
    seeds = ", ".join(map(str, settings.seeds))
    windows = "whole recordings" if not packets else f"windows of {packets} packets"
    names = settings.batch.augmentations or VIEWS
    of = "the configuration's" if settings.batch.augmentations else "the configuration has none, so the recipe's"
    said = [
        f"Trained twice for each seed ({seeds}){f' and each of {len(folds)} folds' if len(folds) > 1 else ''}, with the "
        f"same data, steps ({settings.schedule.steps}), seeds and first weights: sparse attention (window "
        f"{model.window}, blocks of {model.block_size}, log-stride, landmarks, globals {list(model.global_tokens)}) and "
        "dense attention (every earlier frame). Compared are the exported models.",
        f"Held out: {', '.join(dict.fromkeys(fold.what for fold in folds))}, "
        f"{sum(len(fold.recordings) for fold in folds)} recordings, "
        f"{sum(len(fold.held.clean) for fold in folds if fold.held)} {windows}.",
        f"Contrastive loss: NT-Xent at temperature 0.07 plus VICReg, over two augmented views of all held-out windows of "
        f"a fold at once, seed {VIEW_SEED}; {of}: {', '.join(names)}.",
        "Neighbours of a window are the held-out windows of other recordings, by cosine of the embeddings.",
    ]
    if row is not None:
        said.append(
            f"Latency at {row.T} frames, one thread of the C core, of the exported models of the first run; there dense "
            f"attends to {row.edge_ratio:.2f} times as many keys as sparse."
        )
    return said


def _verdict(criteria: Sequence[Criterion]) -> str:
    """Yes or no, and why, in a sentence."""
    missed = [f"{one.name} {'failed' if one.status == 'fail' else 'is unavailable'}" for one in criteria]
    missed = [words for words, one in zip(missed, criteria, strict=True) if one.status != "pass"]
    if not missed:
        return "sparse may replace dense: yes, all four criteria pass"
    return f"sparse may replace dense: no, {'; '.join(missed)}"


def _cautions(settings: Settings, folds: Sequence[_Fold], orders: _Orders, row: LatencyRow | None) -> list[str]:
    """What a reader has to know so as not to read too much into the figures."""
    said = []
    if settings.schedule.steps == 0:
        said.append("No training steps: attention is as it was initialised, so that both models are nearly one.")
    if any(not fold.recordings for fold in folds) and row is not None:
        said.append("The length of a deployed window is that of training recordings, as none is held out.")
    if any(fold.what == "validation" for fold in folds):
        said.append("Held out is validation, which chose the weights of both models: not a test.")
    seeds, without = (orders.yardsticks.get(name) for name in ("two_seeds_of_dense", "sparse_without_attention"))
    if seeds is not None and seeds["correlation"] < ORDER_BOUND:
        said.append(
            f"Two dense models that differ in their seed alone agree to {seeds['correlation']:.3f} in their neighbour "
            "order, and would fail criterion 3 too: there it says little about sparse."
        )
    if without is not None and without["correlation"] >= ORDER_BOUND:
        said.append(
            f"The sparse model with its attention taken out still orders neighbours as with it ({without['correlation']:.3f}): "
            "attention adds little to this model, and criteria 1 to 3 say little about its pattern."
        )
    if row is not None and row.edge_ratio < 1.01:
        said.append("At the deployed length the sparse pattern covers every frame: both models see the same.")
    return said


def _run(pair: tuple[Run, Run]) -> dict[str, Any]:
    sparse, dense = pair
    digests = {
        f"{name}_sha256": TemporalModel.from_bytes(run.blob).sha256
        for name, run in zip(("sparse", "dense"), pair, strict=True)
    }
    return {"run": sparse.name, "seed": sparse.seed, "sparse": sparse.tests, "dense": dense.tests, **digests}
