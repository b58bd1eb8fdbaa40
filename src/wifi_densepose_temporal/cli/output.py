"""What the commands have in common: their shared options, and how they print. No command logic.

On stdout, a command prints tables for people, or with `--json` exactly one JSON document; everything else is stderr's.
Text that came from a file is hostile: it is never read as markup, and its control characters are shown, not obeyed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wifi_densepose_temporal.csi.clock import MAX_RATE_HZ, MIN_RATE_HZ
from wifi_densepose_temporal.csi.read import READERS
from wifi_densepose_temporal.files import write_whole

# What every document says of its result, null where the command has no such thing.
ORIGIN: Mapping[str, object] = {"source": None, "model_sha256": None, "trained": None}


def _known_format(name: str | None) -> str | None:
    if name is not None and name not in READERS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(READERS)}")
    return name


CaptureArgument = Annotated[Path, typer.Argument(metavar="CAPTURE", help="A CSI recording in any known format.")]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="F", callback=_known_format, help=f"Its format, not guessed: {', '.join(READERS)}."
    ),
]
RateOption = Annotated[
    float,
    typer.Option(
        "--rate",
        metavar="HZ",
        min=MIN_RATE_HZ,
        max=MAX_RATE_HZ,
        help="Packets a second to assume where the file has no usable clock.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def print_json(document: Mapping[str, object]) -> None:
    """Prints one JSON document, with its origin; a number that JSON cannot hold becomes null."""
    typer.echo(json.dumps(_plain({**ORIGIN, **document}), indent=2, allow_nan=False))


def write_json(path: Path, document: Mapping[str, object]) -> None:
    """Writes what `print_json` would print, whole or not at all."""
    write_whole(path, json.dumps(_plain({**ORIGIN, **document}), indent=2, allow_nan=False).encode() + b"\n")


def print_table(
    rows: Iterable[Iterable[object]], columns: Iterable[str], words: Collection[str] = (), title: str | None = None
) -> None:
    """Prints a table; the columns in `words` stand to the left, numbers to the right. Nothing is markup."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in words else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(cell, row))
    Console().print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Prints names and values, one a line."""
    table = Table(show_header=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(cell(name), cell(value))
    Console().print(table)


def print_line(text: str, style: str = "") -> None:
    """Prints one line on stdout, however long it is."""
    Console().print(Text(visible(text), style=style), soft_wrap=True)


def note(text: str) -> None:
    """Prints one line on stderr."""
    typer.echo(f"wdt: {visible(text)}", err=True)


def visible(text: object) -> str:
    r"""The text on one line, with control characters and lone surrogates written as escapes such as \x1b."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in str(text)
    )


def cell(value: object) -> Text:
    """A value as a table's text: None is a dash, booleans are yes and no, mappings and lists are JSON."""
    if value is None:
        return Text("-")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, dict | list | tuple):
        return Text(visible(json.dumps(_plain(value), ensure_ascii=False)))
    return Text(visible(value))


def _plain(value: object) -> object:
    """The value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
