"""`wdt train` and `wdt pretrain`: from a configuration to models and figures. The work is training/recipe.py's."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table, write_json
from wifi_densepose_temporal.datasets import FeatureCache
from wifi_densepose_temporal.errors import ConfigError, MissingExtraError
from wifi_densepose_temporal.files import read_whole, write_whole

if TYPE_CHECKING:
    from wifi_densepose_temporal.training.settings import Settings

NEEDED = ("torch", "pytorch_metric_learning", "pydantic", "sklearn", "matplotlib")

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="What to train, on what: configs/.")]
DataOption = Annotated[
    Path | None, typer.Option(metavar="PATH", help="The data set, in place of the configuration's.", show_default=False)
]
OutOption = Annotated[
    Path | None, typer.Option("-o", "--out", metavar="FOLDER", help="Where it goes; by default runs/NAME.")
]
CacheOption = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Of features; by default in the user's cache folder.")
]
SeedsOption = Annotated[
    str | None, typer.Option(metavar="N,N", help="Seeds, in place of the configuration's.", show_default=False)
]


@dataclass(frozen=True)
class Job:
    """What a command trains, where it goes, and the cache of features."""

    settings: Settings
    folder: Path
    cache: FeatureCache


def train(
    config: ConfigArgument,
    data: DataOption = None,
    out: OutOption = None,
    cache: CacheOption = None,
    seeds: SeedsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model and evaluate it on what it was not trained on.

    Leaves model.rvne, metrics.json, curves.png, the configuration and settings.json: what it was with --data and
    --seeds. A run that was killed goes on where it was.
    """
    _run(prepare(config, data, out, cache, seeds), config, as_json)


def pretrain(
    config: ConfigArgument,
    data: DataOption = None,
    out: OutOption = None,
    cache: CacheOption = None,
    seeds: SeedsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder without labels, by telling two augmented views of a window from all others.

    The configuration gives the contrastive loss alone a weight. `wdt train` starts from its model with start_from. Its
    classifier is not trained, and its classes are placeholders.
    """
    job = prepare(config, data, out, cache, seeds)
    losses = job.settings.losses
    if losses.cross_entropy or losses.supervised_contrastive or losses.episodes or not losses.contrastive:
        raise ConfigError("pretraining uses no labels: set losses.contrastive, and cross_entropy = 0")
    if job.settings.readout is not None:
        raise ConfigError("pretraining uses no labels, and [readout] is of people: leave it out")
    _run(job, config, as_json)


def prepare(
    config: Path, data: Path | None, out: Path | None, cache: Path | None, seeds: str | None, suffix: str = ""
) -> Job:
    """The job of a command line.

    Args:
        config: the configuration.
        data: in place of the configuration's.
        out: the folder; None: runs/NAME with the suffix.
        cache: folder of features; None: the user's.
        seeds: in place of the configuration's, such as 0,1,2.
        suffix: of the folder's name.

    Raises:
        MissingExtraError: as `require_training`.
        FileError, ConfigError: as `read_settings`; seeds that are none.
    """
    require_training()
    from wifi_densepose_temporal.training.settings import read_settings

    settings = read_settings(config, data, None if seeds is None else _seeds(seeds))
    folder = Path("runs") / f"{settings.name}{suffix}" if out is None else out
    return Job(settings, folder, FeatureCache(cache))


def _run(job: Job, config: Path, as_json: bool) -> None:
    from wifi_densepose_temporal.training import recipe
    from wifi_densepose_temporal.training.curves import plot_curves
    from wifi_densepose_temporal.training.settings import MAX_SETTINGS_BYTES

    settings, folder = job.settings, job.folder
    original = read_whole(config, MAX_SETTINGS_BYTES)  # now: it may have been edited once training is over
    with training_progress() as progress:
        runs = recipe.train(settings, folder, cache=job.cache, progress=progress)
    if not recipe.is_first_process():
        return
    document = recipe.summary(settings, runs) | {"folder": str(folder)}
    write_whole(folder / "model.rvne", recipe.best_run(runs).blob)
    write_whole(folder / "config.toml", original)
    write_whole(folder / "settings.json", settings.model_dump_json(indent=2).encode() + b"\n")
    plot_curves({run.name: run.history for run in runs}, settings.name, folder / "curves.png")
    write_json(folder / "metrics.json", document)
    if as_json:
        print_json(document)
    else:
        print_summary(document)


def require_training() -> None:
    """Refuses where the extra is not installed.

    Raises:
        MissingExtraError: it names what is missing, and how to install it.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f"training needs {', '.join(missing)}; install them with "
            "pip install -c constraints.txt '.[train]' from a clone"
        )


def training_progress() -> Progress:
    """Bars on stderr, where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def print_summary(document: dict[str, Any]) -> None:
    """The split in words, then each test's figures over the runs."""
    for words in document["split"]:
        print_line(words, style="bold")
    rows = [
        [test, name, *(f"{100 * figure[key]:.1f} %" for key in ("mean", "std", "least", "most")), figure["n"]]
        for test, figures in document["tests"].items()
        for name, figure in figures.items()
    ]
    print_table(rows, ("test", "figure", "mean", "std", "least", "most", "runs"), words=("test", "figure"))
    if not document["classifier_trained"]:
        print_line("The classifier was not trained: its labels mean nothing.", style="bold yellow")
    for test, figures in document["tests"].items():
        if not figures:
            print_line(f"{test}: unavailable, there is nothing trained to test")
    for test, selector in document["unavailable"].items():
        print_line(f"{test}: unavailable, the data set has no {selector}")
    print_line(f"kept: {document['kept']}, in {document['folder']}/model.rvne")


def _seeds(text: str) -> list[int]:
    """The numbers in a text; which ones may be seeds, `read_settings` checks."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"seeds are {text!r}; expected different whole numbers, such as 0,1,2") from None
