"""One recording of a data set: where its file is, who was in it, when, and doing what.

It is a row of a manifest and holds no samples: `labelled.packets_of` reads the packets, `labelled.labelled_frames` the
frames with their labels. Nothing is guessed: a property that is not known is the empty text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from wifi_densepose_temporal.csi.clock import MAX_RATE_HZ, MIN_RATE_HZ
from wifi_densepose_temporal.errors import ConfigError, FileError

#: What a split can hold out.
HeldOut = Literal["recording", "session", "person", "room"]
HELD_OUT: tuple[str, ...] = get_args(HeldOut)
#: What a selector can ask for; "recording" is the name.
PROPERTIES = (*HELD_OUT, "label", "start")

MAX_TEXT = 100  # characters of a label, person, session, room or start
MAX_NAME = 500


@dataclass(frozen=True)
class Recording:
    """One recording.

    Attributes:
        path: of the capture file; absolute, symbolic links resolved.
        name: the path relative to the manifest's folder, with forward slashes; unique within a data set.
        label: what is done in the whole recording; empty where `labels_path` says it for each packet. Both empty: the
            recording has no label, and can be used only where none is needed.
        labels_path: .npy with one text per packet of the file, or None.
        person: who; people of one data set that have one text are one person.
        session: which visit or day; without a break in between.
        room: where.
        start: orders the recordings of a data set in time (`in_time`); any text whose numbers grow with time. Digits
            right after a point are a fraction.
        rate_hz: packets a second, for a file without a clock.

    Raises:
        ConfigError: a text that is too long, holds control characters or has spaces around it; both a label and a
            file of labels; a rate that no clock has.
    """

    path: Path
    name: str
    label: str
    labels_path: Path | None
    person: str
    session: str
    room: str
    start: str
    rate_hz: float

    def __post_init__(self) -> None:
        _check_text("name", self.name, MAX_NAME)
        for name in ("label", "person", "session", "room", "start"):
            _check_text(name, getattr(self, name), MAX_TEXT)
        if self.label and self.labels_path is not None:
            raise ConfigError(
                f"{self.name!r} has the label {self.label!r} and a file of labels too; expected one of the two"
            )
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise ConfigError(f"{self.name!r} has rate_hz {self.rate_hz}; expected {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}")

    def value(self, name: str) -> str:
        """The value of one of `PROPERTIES`.

        Raises:
            ConfigError: no such property.
        """
        if name not in PROPERTIES:
            raise ConfigError(f"{name!r} is no property of a recording; expected one of {', '.join(PROPERTIES)}")
        value: str = getattr(self, "name" if name == "recording" else name)
        return value

    @property
    def sha256(self) -> str:
        """Digest of the capture file's bytes, 64 hexadecimal digits.

        Raises:
            FileError: the file cannot be read.
        """
        try:
            status = self.path.stat()
            return _digest(self.path, status.st_size, status.st_mtime_ns)
        except OSError as error:
            raise FileError(f"cannot read {self.path}: {error.strerror or error}; check the path") from None


def in_time(recordings: Iterable[Recording]) -> list[Recording]:
    """Recordings in the order of their starts, of one start in that of their names; 2 comes before 10 in both.

    In a start, digits right after a point are a fraction: 0.25 comes before 0.5. A name has none: r.2 is before r.10.
    """
    return sorted(recordings, key=lambda one: (padded(one.start, MAX_TEXT, fractions=True), padded(one.name, MAX_NAME)))


def padded(text: str, digits: int, *, fractions: bool = False) -> str:
    """The text with zeros before its numbers, so that in the order of texts e2 comes before e10.

    With `fractions`, digits right after a point stay as they are: as text they are in order already.
    """
    numbers = "(?<![.0-9])[0-9]+" if fractions else "[0-9]+"
    return re.sub(numbers, lambda number: number[0].zfill(digits), text)


@lru_cache(maxsize=1 << 16)
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """The digest of a file, read in blocks; remembered as long as its size and its time of change stay."""
    del size, mtime_ns  # parts of the key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_text(name: str, text: object, most: int) -> None:
    # Two texts that look alike would be two people: a person could then stand on both sides of a split, unseen.
    if not isinstance(text, str):
        raise ConfigError(f"a recording's {name} is {text!r}; expected a text")
    if len(text) > most:
        raise ConfigError(f"a recording's {name} has {len(text)} characters; expected at most {most}")
    if (
        not text.isprintable()
        or text != text.strip()
        or (name != "name" and not unicodedata.is_normalized("NFC", text))
    ):
        raise ConfigError(
            f"a recording's {name} is {text!r}; expected printable text without spaces around it, in Unicode's NFC form"
        )
