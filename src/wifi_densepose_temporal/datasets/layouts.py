"""Folders of published data sets, told from the names of their files: one function a layout.

How many people, days or recordings there are is nowhere written in, and what a layout's names do not say stays empty.
Files of other names are left alone. No file is opened.

    esp32-stability  D<day>/e<exercise>_<rx_tx or tx_rx>-x.npy, labels in ...-y.npy   doi 10.5281/zenodo.7991716
    csi-har          <activity>/user_<person>_sample_<number>.csv                    doi 10.3390/s21217225
    wiper81          p<person>_<A or B>.npz, empty<number>_<A or B>.npz              doi 10.1038/s41597-025-05804-0
    espectre         <baseline or movement>_<chip>_<count>sc_<date>_<time>.npz       github.com/francescopace/espectre
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.datasets.manifest import MANIFEST_NAME, MAX_RECORDINGS, Manifest, read_manifest
from wifi_densepose_temporal.datasets.recording import Recording, in_time, padded
from wifi_densepose_temporal.errors import FileError, FormatError

START_DIGITS = 6  # of a number in a start
STABILITY_RATE_HZ = 100.0  # stated by its authors
_STABILITY = re.compile(r"(D\d{1,6})/(e\d{1,6}_(?:rx_tx|tx_rx))-x\.npy", re.ASCII)
_HAR = re.compile(r"([^/]+)/user_(\d{1,6})_sample_(\d{1,6})\.csv", re.ASCII)
_WIPER = re.compile(r"((?:p|empty)\d{1,6})_([A-Z])\.npz", re.ASCII)
_ESPECTRE = re.compile(r"(baseline|movement)_([a-z0-9]{1,20})_\d{1,4}sc_(\d{8})_(\d{6})\.npz", re.ASCII)


def open_dataset(path: str | os.PathLike[str]) -> Manifest:
    """The manifest of a data set: a manifest file, a folder with a `manifest.csv`, or one of a known layout.

    Raises:
        FileError: there is no such file or folder.
        FormatError: the manifest is damaged, or the folder has no manifest and no known layout.
    """
    given = Path(path)
    if not given.is_dir():
        return read_manifest(given)
    if (given / MANIFEST_NAME).exists():
        return read_manifest(given / MANIFEST_NAME)
    return recognise(given)


def recognise(folder: Path) -> Manifest:
    """The manifest of a folder of a known layout.

    Raises:
        FileError: the folder cannot be listed.
        FormatError: the names are those of no layout, or of two.
    """
    found = _found(folder)
    if len(found) != 1:
        has = f"files of {' and '.join(found)}" if found else "no manifest.csv and no file of a known layout"
        raise FormatError(
            f"{folder} has {has}; expected one of {', '.join(LAYOUTS)}, or a manifest.csv: "
            "give the folder that holds one data set"
        )
    return next(iter(found.values()))


def known_layout(folder: Path) -> Manifest | None:
    """As `recognise`; None where the names are those of no layout, or of two.

    Raises:
        FileError: the folder cannot be listed.
        FormatError: a name of the layout is no file in the folder.
    """
    found = _found(folder)
    return next(iter(found.values())) if len(found) == 1 else None


def esp32_stability(root: Path) -> Manifest | None:
    """One person in one room; a session is a day folder; the labels are one a packet."""
    recordings = []
    for match in _named(root, "D*/*-x.npy", _STABILITY):
        session, exercise = match.groups()
        labels = f"{session}/{exercise}-y.npy"
        recordings.append(
            Recording(
                path=_file(root, match[0]),
                name=match[0],
                label="",
                labels_path=_file(root, labels) if (root / labels).exists() else None,
                person="1",
                session=session,
                room="1",
                start=padded(f"{session}/{exercise}", START_DIGITS),
                rate_hz=STABILITY_RATE_HZ,
            )
        )
    return _in_order(root, recordings)


def csi_har(root: Path) -> Manifest | None:
    """Seven activities; nothing tells visits apart, so a person is one session. The rate is assumed."""
    recordings = []
    for match in _named(root, "*/user_*_sample_*.csv", _HAR):
        activity, person, number = match.groups()
        recordings.append(
            _whole(root, match[0], label=activity, person=person, session=person, start=padded(number, START_DIGITS))
        )
    return _in_order(root, recordings)


def wiper81(root: Path) -> Manifest | None:
    """People who stand still, two recordings each in one visit; an empty room is a "person" of its own."""
    recordings = []
    for match in _named(root, "*.npz", _WIPER):
        person, session = match.groups()
        start = padded(f"{person}_{session}", START_DIGITS)
        recordings.append(_whole(root, match[0], label=person, person=person, session=session, room="1", start=start))
    return _in_order(root, recordings)


def espectre(root: Path) -> Manifest | None:
    """Ten seconds of a quiet room or of movement; a session is a day. No name tells the room, so the chip stands."""
    recordings = []
    for match in _named(root, "*.npz", _ESPECTRE):
        kind, chip, date, time = match.groups()
        label = {"baseline": "still", "movement": "movement"}[kind]
        recordings.append(_whole(root, match[0], label=label, session=date, room=chip, start=f"{date}_{time}"))
    return _in_order(root, recordings)


LAYOUTS = {"esp32-stability": esp32_stability, "csi-har": csi_har, "wiper81": wiper81, "espectre": espectre}


def _found(folder: Path) -> dict[str, Manifest]:
    root = folder.resolve()
    try:
        return {name: made for name, layout in LAYOUTS.items() if (made := layout(root)) is not None}
    except OSError as error:
        raise FileError(f"cannot list {folder}: {error.strerror or error}; check its permissions") from None


def _named(root: Path, pattern: str, name: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """The names, relative to `root`, that match whole; as many as a manifest may hold, and one more."""
    names = (path.relative_to(root).as_posix() for path in root.glob(pattern))
    return islice((match for text in names if (match := name.fullmatch(text))), MAX_RECORDINGS + 1)


def _file(root: Path, name: str) -> Path:
    """The file of a name that was found. A link is followed wherever it leads: it is the user who gave this folder.

    A manifest, which may be a stranger's, is not trusted so far.
    """
    try:
        file = (root / name).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise FormatError(f"{name!r} in {root} cannot be followed: {error}") from None
    if not file.is_file():
        raise FormatError(f"{name!r} in {root} is no file")
    return file


def _whole(
    root: Path, name: str, *, label: str, session: str, start: str, person: str = "", room: str = ""
) -> Recording:
    """A recording with one label."""
    return Recording(
        path=_file(root, name),
        name=name,
        label=label,
        labels_path=None,
        person=person,
        session=session,
        room=room,
        start=start,
        rate_hz=DEFAULT_RATE_HZ,
    )


def _in_order(root: Path, recordings: list[Recording]) -> Manifest | None:
    return Manifest(root, tuple(in_time(recordings))) if recordings else None
