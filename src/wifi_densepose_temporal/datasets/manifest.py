"""A data set as a table: one row for each recording, and selections of rows by what they say.

The file is a CSV with a header. Its paths are relative, with forward slashes, and stay in the folder that the CSV is in
or in folders below it, also after symbolic links are followed: a manifest from a stranger reads no file of yours.
Nothing of a capture is opened here.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from wifi_densepose_temporal.datasets.recording import MAX_NAME, PROPERTIES, Recording
from wifi_densepose_temporal.errors import ConfigError, FormatError
from wifi_densepose_temporal.files import read_whole, write_whole

COLUMNS = ("path", "label", "labels_path", "person", "session", "room", "start", "rate_hz")
MANIFEST_NAME = "manifest.csv"
MAX_MANIFEST_BYTES = 32 * 1024 * 1024
MAX_RECORDINGS = 100_000
SHOWN = 20  # values that a message lists

#: Which recordings: a property to the values allowed, of which `*`, `?` and `[...]` stand for parts, as in a shell.
#: Every property has to match; no property at all is everything.
Selector = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Manifest:
    """The recordings of one data set, in their order.

    Attributes:
        root: the folder that names are relative to; absolute, symbolic links resolved.
        recordings: at least one; no file twice.

    Raises:
        FormatError: no recording, too many, or one file twice.
    """

    root: Path
    recordings: tuple[Recording, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.recordings) <= MAX_RECORDINGS:
            raise FormatError(
                f"a data set in {self.root} of {len(self.recordings)} recordings; expected 1 to {MAX_RECORDINGS}"
            )
        first: dict[Path, str] = {}
        for recording in self.recordings:
            if recording.path in first:
                raise FormatError(
                    f"{recording.name!r} is the file of {first[recording.path]!r} again; expected each file once"
                )
            first[recording.path] = recording.name

    def select(self, selector: Selector | str) -> tuple[Recording, ...]:
        """The recordings that a selector, or its text form (see `parse_selector`), asks for; at least one.

        Raises:
            ConfigError: an unknown property; a value, or a combination of values, that no recording has.
        """
        wanted = parse_selector(selector)
        missing = self.missing(wanted)
        if missing:
            name, values = next(iter(missing.items()))
            raise ConfigError(f"no recording has {name} {listed(values)}; there is {listed(self.values(name))}")
        found = self.matching(wanted)
        if not found:
            raise ConfigError(f"no recording is {selector_text(wanted)}: each part has some, but none has all")
        return found

    def matching(self, selector: Selector | str) -> tuple[Recording, ...]:
        """As `select`, without complaint: what is there, and empty where nothing is.

        Raises:
            ConfigError: an unknown property.
        """
        wanted = parse_selector(selector)
        return tuple(
            recording
            for recording in self.recordings
            if all(_matches(recording.value(name), values) for name, values in wanted.items())
        )

    def missing(self, selector: Selector | str) -> dict[str, list[str]]:
        """The values of a selector that no recording has, by property; empty where all are there."""
        wanted = parse_selector(selector)
        absent = {
            name: [value for value in values if not any(_matches(had, [value]) for had in self.values(name))]
            for name, values in wanted.items()
        }
        return {name: values for name, values in absent.items() if values}

    def values(self, name: str) -> tuple[str, ...]:
        """The distinct values of a property, in the order in which they first appear.

        Raises:
            ConfigError: an unknown property.
        """
        return tuple(dict.fromkeys(recording.value(name) for recording in self.recordings))


def parse_selector(selector: Selector | str) -> dict[str, tuple[str, ...]]:
    """A selector from its text form, ``session=D2,person=1|2`` or ``all``; a mapping is checked and returned.

    Raises:
        ConfigError: not of that form, or an unknown property.

    >>> parse_selector("session=D2,person=1|2")
    {'session': ('D2',), 'person': ('1', '2')}
    """
    if isinstance(selector, str):
        return parse_selector({} if selector.strip() == "all" else _parts(selector))
    if not isinstance(selector, Mapping):
        raise ConfigError(f"a selector is {selector!r}; expected a mapping or a text such as 'session=D2,person=1|2'")
    for name, values in selector.items():
        if name not in PROPERTIES:
            raise ConfigError(f"{name!r} is no property of a recording; expected one of {', '.join(PROPERTIES)}")
        if isinstance(values, str) or not values or not all(isinstance(value, str) for value in values):
            raise ConfigError(f"the selector's {name} is {values!r}; expected a list of texts, such as ['1', '2']")
    return {name: tuple(values) for name, values in selector.items()}


def selector_text(selector: Selector | str) -> str:
    """The text form of a selector: `parse_selector` of it gives the same."""
    wanted = parse_selector(selector)
    return ",".join(f"{name}={'|'.join(values)}" for name, values in wanted.items()) or "all"


def listed(values: Sequence[str]) -> str:
    """The first values of many, for a message."""
    shown = ", ".join(map(repr, values[:SHOWN]))
    return f"{shown} and {len(values) - SHOWN} more" if len(values) > SHOWN else shown


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Reads a manifest file; every file that it names is there.

    Raises:
        FileError: it cannot be read.
        FormatError: another header or number of columns, a value that no recording has, a path that leaves the
            manifest's folder or at which there is no file, or a file twice; the message names the line.
    """
    file = Path(path)
    data = read_whole(file, MAX_MANIFEST_BYTES)
    root = file.parent.resolve()
    try:
        return Manifest(root, tuple(_recordings(data, root)))
    except FormatError as error:
        raise FormatError(f"{file}: {error}") from None


def write_manifest(path: str | os.PathLike[str], manifest: Manifest) -> None:
    """Writes a manifest file into the data set's folder or one above it.

    Raises:
        ConfigError: the file would lie elsewhere, so that its paths could not be relative and stay below it, or it
            would take the place of a recording.
        FileError: it cannot be written.
    """
    file = Path(path).resolve()
    folder = file.parent
    if any(file in (recording.path, recording.labels_path) for recording in manifest.recordings):
        raise ConfigError(f"{path!s} is a recording of the data set; give the manifest another name")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for recording in manifest.recordings:
        writer.writerow(_row(recording, folder))
    write_whole(path, text.getvalue().encode())


def place(root: Path, relative: str) -> Path:
    """The file at a path that a manifest or a layout names, in `root` or below it, links followed.

    Args:
        root: a folder, resolved.
        relative: with forward slashes.

    Raises:
        FormatError: an absolute path, one with `..`, one that a link leads out of `root`, or no file there.
    """
    parts = PurePosixPath(relative)
    if not relative or len(relative) > MAX_NAME or not relative.isprintable():
        raise FormatError(f"the path {relative[:SHOWN]!r} is empty, too long or not printable")
    if parts.is_absolute() or ".." in parts.parts or "\\" in relative:
        raise FormatError(
            f"the path {relative!r} is not relative to the manifest's folder with forward slashes, or leaves it; "
            "put the manifest into the folder of the recordings or one above it"
        )
    try:
        file = (root / parts).resolve()
        there = file.is_file()
    except (OSError, RuntimeError) as error:  # a part that is too long; links in a circle
        raise FormatError(f"the path {relative!r} in {root} cannot be followed: {error}") from None
    if not file.is_relative_to(root):
        raise FormatError(f"the path {relative!r} is a link out of {root}; expected a file in that folder")
    if not there:
        raise FormatError(f"there is no file at {relative!r} in {root}")
    return file


def _recordings(data: bytes, root: Path) -> list[Recording]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"byte {error.start} is no UTF-8; expected a CSV in UTF-8") from None
    if "\0" in text:
        raise FormatError("it holds NUL bytes; expected a CSV in UTF-8")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    made: list[Recording] = []
    try:
        header = next(rows, [])
        if tuple(header) != COLUMNS:
            raise FormatError(f"its first line is {','.join(header)[:200]!r}; expected {','.join(COLUMNS)!r}")
        for row in rows:
            if row:
                made.append(_recording(row, root))
            if len(made) > MAX_RECORDINGS:
                raise FormatError(f"more than {MAX_RECORDINGS} recordings; expected at most that many")
    except (csv.Error, ConfigError, FormatError) as error:
        raise FormatError(f"line {rows.line_num}: {error}") from None
    return made


def _recording(row: list[str], root: Path) -> Recording:
    if len(row) != len(COLUMNS):
        raise FormatError(f"{len(row)} values; expected {len(COLUMNS)}: {', '.join(COLUMNS)}")
    name, label, labels, person, session, room, start, rate = row
    try:
        rate_hz = float(rate)
    except ValueError:
        raise FormatError(f"rate_hz is {rate[:SHOWN]!r}; expected packets a second") from None
    return Recording(
        path=place(root, name),
        name=PurePosixPath(name).as_posix(),
        label=label,
        labels_path=place(root, labels) if labels else None,
        person=person,
        session=session,
        room=room,
        start=start,
        rate_hz=rate_hz,
    )


def _row(recording: Recording, folder: Path) -> list[str]:
    labels = "" if recording.labels_path is None else _relative(recording.labels_path, folder)
    given = (recording.person, recording.session, recording.room, recording.start)
    return [_relative(recording.path, folder), recording.label, labels, *given, repr(float(recording.rate_hz))]


def _relative(file: Path, folder: Path) -> str:
    if not file.is_relative_to(folder):
        raise ConfigError(
            f"a manifest in {folder} cannot name {file}, which is not below it; write it to the folder of the "
            "recordings or one above it"
        )
    return file.relative_to(folder).as_posix()


def _matches(value: str, allowed: Sequence[str]) -> bool:
    return any(value == pattern or fnmatchcase(value, pattern) for pattern in allowed)


def _parts(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    for part in text.split(","):
        name, equals, values = part.partition("=")
        name = name.strip()
        if not equals or not values.strip() or name in parts:
            raise ConfigError(f"the selector {text!r} is not of the form 'session=D2,person=1|2', or 'all'")
        parts[name] = [value.strip() for value in values.split("|")]
    return parts
