"""`wdt manifest`: which recordings a data set has, as a table that splits are made from. The logic is in datasets/."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.output import JsonOption, note, print_json, print_line, print_table
from wifi_densepose_temporal.datasets import Manifest, Recording, open_dataset, write_manifest
from wifi_densepose_temporal.datasets.labelled import read_labels
from wifi_densepose_temporal.datasets.layouts import known_layout
from wifi_densepose_temporal.datasets.manifest import MANIFEST_NAME

COUNTED = ("person", "session", "room", "label")
UNKNOWN = "not known"


def manifest(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A data set's folder of a known layout, or a manifest.csv.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="CSV", help="Write the manifest there: into FOLDER or one above it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the recordings of a data set: who, when, where, doing what.

    Paths in a manifest are relative to it, and stay below its folder. No capture is opened; files of labels are, so
    that one that cannot be used is told here.
    """
    dataset = read_recordings(folder)
    counts = count(dataset)
    if output is not None:
        write_manifest(output, dataset)
    beside = folder / MANIFEST_NAME
    if folder.is_dir() and beside.exists() and (output is None or output.resolve() != beside.resolve()):
        note(f"{beside} is what the other commands read; -o {beside} writes it anew")
    if as_json:
        written = None if output is None else str(output)
        print_json(
            {"folder": str(folder), "manifest": written, "recordings": len(dataset.recordings), "counts": counts}
        )
        return
    print_line(f"{folder}: {len(dataset.recordings)} recordings", style="bold")
    for name, values in counts.items():
        print_table(values.items(), (name, "recordings"), words=(name,))
    if output is not None:
        print_line(f"manifest: {output}")


def read_recordings(folder: Path) -> Manifest:
    """As the names in a folder of a known layout tell them, since a manifest.csv in it may be older; else as listed.

    Raises:
        FileError, FormatError: as `open_dataset`.
    """
    found = known_layout(folder) if folder.is_dir() else None
    return open_dataset(folder) if found is None else found


def count(dataset: Manifest) -> dict[str, dict[str, int]]:
    """In how many recordings each person, session, room and label occurs, in the data set's order.

    Raises:
        FileError, FormatError: a file of labels cannot be read.
    """
    return {
        name: dict(Counter(value for recording in dataset.recordings for value in _values(recording, name)))
        for name in COUNTED
    }


def _values(recording: Recording, name: str) -> list[str]:
    """One value; several where labels are one a packet."""
    if name == "label" and recording.labels_path is not None:
        return list(dict.fromkeys(read_labels(recording.labels_path).tolist()))
    return [recording.value(name) or UNKNOWN]
