"""`wdt gallery`: who is enrolled, and everything that is done to them besides enrolling. The work is in reid/."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from wifi_densepose_temporal.cli.output import (
    JsonOption,
    RateOption,
    note,
    print_facts,
    print_json,
    print_line,
    print_table,
)
from wifi_densepose_temporal.cli.persons import (
    DEFAULT_GALLERY,
    DEFAULT_REID_MODEL,
    GalleryOption,
    ReidModelOption,
    WindowOption,
    counted,
    embed_different,
)
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS
from wifi_densepose_temporal.models import load_model

if TYPE_CHECKING:
    from wifi_densepose_temporal.model import TemporalModel
    from wifi_densepose_temporal.reid import Gallery, Person

app = typer.Typer(no_args_is_help=True, help="Persons that can be recognised again: list, forget, merge, move, check.")

PersonArgument = Annotated[str, typer.Argument(metavar="PERSON", help="As given to wdt enroll.")]


PENDING = (
    "the bytes of who was forgotten are still in the gallery's files, which another process has open; "
    "run wdt gallery scrub when it has ended"
)


def _open(gallery: str, model: TemporalModel | None = None) -> Gallery:
    from wifi_densepose_temporal.reid import Gallery

    return Gallery.open(gallery, model)


@app.command("list")
def list_persons(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """List who is enrolled, with the gallery's threshold."""
    with _open(gallery) as opened:
        persons = [_facts(opened.show(name)) for name in opened.persons()]
        calibration = opened.calibration
        origin = {"model_sha256": opened.model_sha256, "trained": opened.trained}
    said = None if calibration is None else dataclasses.asdict(calibration)
    if as_json:
        print_json(origin | {"persons": persons, "calibration": said})
        return
    columns = ("person", "since", "enrolled", "updated", "spread")
    rows = [[*(one[name] for name in columns[:-1]), f"{one['spread']:.3f}"] for one in persons]
    print_table(rows, columns, words=("person", "since"))
    print_line("not calibrated" if calibration is None else _threshold(said or {}))


@app.command()
def show(person: PersonArgument, gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """Show one person: vectors, sources, recordings and how far the vectors spread."""
    with _open(gallery) as opened:
        facts = _facts(opened.show(person))
        origin = {"model_sha256": opened.model_sha256, "trained": opened.trained}
    if as_json:
        print_json(origin | facts)
    else:
        print_facts(facts)


@app.command()
def forget(person: PersonArgument, gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """Delete a person for good: their rows, and the rows' bytes in the gallery's files."""
    with _open(gallery) as opened:
        done = opened.forget(person)
    if not done.scrubbed:
        note(PENDING)
    if as_json:
        print_json({"person": person, "embeddings": done.embeddings, "scrubbed": done.scrubbed})
    else:
        print_line(f"{person}: forgotten, {counted(done.embeddings, 'embedding')} deleted")


@app.command()
def scrub(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """Rewrite the gallery's files without the bytes of who was forgotten, where `forget` could not."""
    with _open(gallery) as opened:
        done, name = opened.scrub(), opened.name
    if not done:
        note(PENDING)
    if as_json:
        print_json({"scrubbed": done})
    elif done:
        print_line(f"{name}: nothing is left of who was forgotten")


@app.command()
def merge(
    person: PersonArgument,
    into: Annotated[str, typer.Option("--into", metavar="OTHER", help="The person they turned out to be.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Give a person's embeddings to another one, and delete the first name."""
    with _open(gallery) as opened:
        total = opened.merge(person, into=into)
    if as_json:
        print_json({"person": into, "merged": person, "embeddings": total})
    else:
        print_line(f"{person} is {into} now, with {counted(total, 'embedding')}")


@app.command("export")
def export_persons(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Where they go; personal data, for its owner only.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Write all persons to one file, which `import` reads."""
    with _open(gallery) as opened:
        _said(as_json, "export", out, opened.export(out))


@app.command("import")
def import_persons(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Made by export.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Take in all persons of an exported file, or none. The gallery has to exist, for the same model."""
    with _open(gallery) as opened:
        _said(as_json, "import", file, opened.import_(file))


@app.command()
def verify(gallery: GalleryOption = DEFAULT_GALLERY, as_json: JsonOption = False) -> None:
    """Check every page, row and checksum."""
    with _open(gallery) as opened:
        count, people, name = opened.verify(), len(opened.persons()), opened.name
    if as_json:
        print_json({"persons": people, "embeddings": count, "sound": True})
    else:
        print_line(f"{name}: {counted(people, 'person')}, {counted(count, 'embedding')}, all sound")


@app.command()
def calibrate(
    strangers: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CAPTURE...]", help="Recordings of persons who are not enrolled."),
    ] = None,
    persons: Annotated[
        str | None,
        typer.Option(
            "--persons", metavar="A,B,A", help="Whose the recordings are, in their order; by default one person each."
        ),
    ] = None,
    rate_of_errors: Annotated[
        float, typer.Option("--false-accept-rate", metavar="R", help="Strangers taken for somebody, at most; 0..1.")
    ] = 0.01,
    gallery: GalleryOption = DEFAULT_GALLERY,
    model: ReidModelOption = DEFAULT_REID_MODEL,
    window: WindowOption = DEFAULT_PACKETS,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Set the threshold above which a person is known, to a stated rate of strangers taken for somebody.

    Without recordings of strangers, each enrolled person is a stranger to all the others.
    """
    paths, loaded = strangers or [], load_model(model)
    whose = _whose(paths, persons)
    made = embed_different(loaded, paths, window, rate)
    with _open(gallery, loaded) as opened:
        if made:
            calibration = opened.calibrate(
                np.concatenate([one.embedding for one in made]),
                [name for name, one in zip(whose, made, strict=True) for _ in one.embedding],
                false_accept_rate=rate_of_errors,
                recordings=[one.sha256 for one in made for _ in one.embedding],
            )
        else:
            calibration = opened.calibrate_within(false_accept_rate=rate_of_errors)
    said = dataclasses.asdict(calibration)
    if as_json:
        print_json({"model_sha256": loaded.sha256, "trained": loaded.trained} | said)
    else:
        print_line(_threshold(said))


@app.command()
def audit(
    last: Annotated[int, typer.Option("--last", min=1, metavar="N", help="The newest N entries.")] = 100,
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: JsonOption = False,
) -> None:
    """Show what was done to the gallery, and when. The log names nobody: a person is a random key."""
    with _open(gallery) as opened:
        entries = [dataclasses.asdict(one) for one in opened.audit(last)]
    if as_json:
        print_json({"entries": entries})
        return
    columns = ("sequence", "when", "action", "key", "detail")
    print_table([[one[name] for name in columns] for one in entries], columns, words=columns[1:])


def _whose(paths: list[Path], persons: str | None) -> list[str]:
    """Whose each recording is."""
    if persons is None:
        return [f"recording {number}" for number, _ in enumerate(paths)]
    names = [name.strip() for name in persons.split(",")]
    if len(names) != len(paths) or not all(names):
        raise ConfigError(
            f"--persons {persons!r} for {counted(len(paths), 'recording')}; give each one's person, between commas"
        )
    return names


def _facts(person: Person) -> dict[str, Any]:
    facts = dataclasses.asdict(person)
    del facts["prototype"]  # a vector says nothing to a reader, and is personal data
    return facts


def _threshold(said: dict[str, Any]) -> str:
    return (
        f"threshold {said['threshold']:.3f}: at most {100 * said['false_accept_rate']:g} % of strangers like these "
        f"pass ({said['method']}: {counted(said['probes'], 'probe')} of {counted(said['persons'], 'person')}, "
        f"{said['gallery_persons']} enrolled)"
    )


def _said(as_json: bool, what: str, file: Path, count: int) -> None:
    if as_json:
        print_json({"path": str(file), "embeddings": count})
    else:
        print_line(f"{file}: {counted(count, 'embedding')} {what}ed")
