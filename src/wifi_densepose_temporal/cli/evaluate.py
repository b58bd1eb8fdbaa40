"""`wdt evaluate`: what a model is worth on a data set. The metrics are in evaluation/, the words in its report.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from wifi_densepose_temporal.cli.output import JsonOption, note, print_json, print_line, print_table
from wifi_densepose_temporal.datasets import Manifest, Recording, open_dataset
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.evaluation import (
    Windowing,
    activity_document,
    evaluate_activity,
    evaluate_identity,
    identity_document,
    leak_warning,
    plot_cmc,
    plot_confusion,
    seen_in_training,
    split_words,
)
from wifi_densepose_temporal.evaluation.decisions import DEFAULT_HOP, DEFAULT_WINDOW
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS, gallery_and_probe
from wifi_densepose_temporal.evaluation.report import METRICS
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import load_model
from wifi_densepose_temporal.plot import check_picture

FIGURES = ("label", "precision", "recall", "f1", "support")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A .rvne file, or the name of a shipped model.")]


def evaluate(
    model: ModelArgument,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data set: its folder, or its manifest.")],
    split: Annotated[
        str, typer.Option(metavar="SELECTOR", help="Which recordings, such as 'session=D2,person=1|2'.")
    ] = "all",
    gallery: Annotated[
        str | None, typer.Option(metavar="SELECTOR", help="Of those, whom to know; by default the first session.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option(metavar="SELECTOR", help="Of those, whom to recognise; by default the second session.")
    ] = None,
    context: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Decide from the last seconds only, not from the start.")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help=f"Packets: {DEFAULT_WINDOW} for activities, {DEFAULT_PACKETS} for persons."
        ),
    ] = None,
    hop: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"Packets between windows of an activity: {DEFAULT_HOP}.")
    ] = None,
    confusion: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw the confusion of activities.")] = None,
    cmc: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw rank-k over k of persons.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model on recordings.

    Activities: decisions made streaming, counted in windows, packets and recordings. Persons (a model trained for that,
    or --gallery and --probe): rank-1, 5 and 10, mAP, AUC and EER, and TPIR at an FPIR of 10 and 1 % where the
    probe has strangers. Intervals are bootstrapped; what the model saw in training is warned about.
    """
    loaded, manifest = load_model(model), open_dataset(data)
    selected = Manifest(manifest.root, manifest.select(split))
    if loaded.provenance.get("task") == "identity" or gallery is not None or probe is not None:
        _refuse({"--context": context, "--hop": hop, "--confusion": confusion}, "persons")
        if cmc is not None:
            check_picture(cmc)  # before the work, not after it
        sides = choose_sides(selected, gallery, probe)
        document = _identity(loaded, sides, window or DEFAULT_PACKETS, _chosen(manifest, split), cmc)
    else:
        _refuse({"--cmc": cmc}, "activities")
        if confusion is not None:
            check_picture(confusion)
        windowing = Windowing(window or DEFAULT_WINDOW, hop or DEFAULT_HOP, context)
        document = _activity(loaded, selected.recordings, windowing, _chosen(manifest, split), confusion)
    if as_json:
        for text in document["notes"]:
            note(text)
        print_json(document)
    else:
        print_evaluation(document)


def choose_sides(
    selected: Manifest, gallery: str | None, probe: str | None
) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """The recordings of gallery and probe: as asked for, or as `gallery_and_probe` has them.

    Raises:
        ConfigError: one of the two is given alone, a selector selects nothing, or there is one session only.
    """
    if gallery is not None and probe is not None:
        return selected.select(gallery), selected.select(probe)
    if gallery is not None or probe is not None:
        raise ConfigError("a gallery or a probe alone was given; give both, --gallery SELECTOR and --probe SELECTOR")
    return gallery_and_probe(selected.recordings)


def print_evaluation(document: dict[str, Any]) -> None:
    """The evaluation for people: the split first, then the figures, then what one must know to believe them."""
    print_line(document["split"], style="bold red" if "WARNING" in document["split"] else "bold")
    print_table(_metric_rows(document), ("metric", "figure", "95 % interval"), words=("metric",))
    if document["per_class"] is not None:
        rows = [[_figure(score[name]) for name in FIGURES] for score in document["per_class"]]
        print_table(rows, FIGURES, words=("label",), title="windows of each label")
    for text in document["notes"]:
        print_line(text)
    if document["picture"] is not None:
        print_line(f"picture: {document['picture']}")


@contextmanager
def watched(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal; gives the call that moves it on by one."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _activity(
    model: TemporalModel, recordings: tuple[Recording, ...], windowing: Windowing, chosen: str, picture: Path | None
) -> dict[str, Any]:
    split = _split(model, recordings, chosen)
    with watched(len(recordings), "deciding") as advance:
        result = evaluate_activity(model, recordings, windowing, advance=advance)
    if picture is not None:
        plot_confusion(result, _title(model, chosen), picture)
    return activity_document(model, result, split) | {"picture": None if picture is None else str(picture)}


def _identity(
    model: TemporalModel,
    sides: tuple[tuple[Recording, ...], tuple[Recording, ...]],
    packets: int,
    chosen: str,
    picture: Path | None,
) -> dict[str, Any]:
    gallery, probe = sides
    split = _split(model, gallery + probe, chosen)
    with watched(len(gallery + probe), "embedding") as advance:
        result = evaluate_identity(model, gallery, probe, packets, advance=advance)
    if picture is not None:
        plot_cmc(result, _title(model, chosen), picture)
    return identity_document(model, result, split) | {"picture": None if picture is None else str(picture)}


def _split(model: TemporalModel, recordings: tuple[Recording, ...], chosen: str) -> str:
    """The split in words; a leak is said on stderr at once, before any figure."""
    seen = seen_in_training(model, recordings)
    warning = leak_warning(seen, len(recordings))
    if warning is not None:
        note(warning)
    return split_words(model, recordings, seen, chosen)


def _refuse(options: dict[str, object], task: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError(f"{name} means nothing in an evaluation of {task}; leave it out")


def _chosen(manifest: Manifest, split: str) -> str:
    return f"{manifest.root.name}: {split}"


def _title(model: TemporalModel, chosen: str) -> str:
    trained = {True: "trained", False: "UNTRAINED", None: "training not stated"}[model.trained]
    return f"{chosen}; model {model.sha256[:12]} ({trained})"


def _metric_rows(document: dict[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for name in METRICS:
        if document[name] is not None:
            interval = document["intervals"].get(name)
            rows.append(
                [name, _figure(document[name]), None if interval is None else " to ".join(map(_figure, interval))]
            )
    return rows


def _figure(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
