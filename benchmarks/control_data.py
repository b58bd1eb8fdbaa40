"""Altered copies of a data set for controls.py: labels shuffled, people shuffled, recordings cut into pieces.

Each is a folder with a manifest, so that the recipe runs on it as on any data set. Nothing is trained here, and the
data set itself is only read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.datasets import Manifest, Recording
from wifi_densepose_temporal.datasets.labelled import read_labels
from wifi_densepose_temporal.datasets.recording import MAX_TEXT

#: Packets of a piece: what the baselines' windows of csi-har have, and two seconds at 100 packets a second.
PIECE = 200


def copied(recordings: Sequence[Recording], folder: Path) -> Manifest:
    """The same recordings in another folder, under their names."""
    made = []
    for one in recordings:
        path = folder / one.name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(one.path, path)
        labels = None
        if one.labels_path is not None:
            labels = path.parent / one.labels_path.name
            shutil.copyfile(one.labels_path, labels)
        made.append(replace(one, path=path, labels_path=labels))
    return Manifest(folder, tuple(made))


# ------------------------------------------------------------------------------------------------------ shuffled


def shuffled_labels(copy: Manifest, learning: Sequence[Recording], seed: int) -> Manifest:
    """The copy with the labels of the training recordings permuted among them; those of the tests stay true.

    Where each packet has a label, what is permuted is the labels of segments, a segment being packets in a row of one
    label: segments stay where they are, and as many of them have a label as before.
    """
    mine = [one for one in copy.recordings if one.name in {known.name for known in learning}]
    rng = np.random.default_rng(seed)
    if mine[0].labels_path is not None:
        shuffle_segments([one.labels_path for one in mine if one.labels_path is not None], rng)
        return copy
    return with_values(copy, "label", mine, rng.permutation([one.label for one in mine]))


def shuffle_segments(files: Sequence[Path], rng: np.random.Generator) -> None:
    """Permutes the labels of all segments of some files of labels, and writes the files anew."""
    labels = [read_labels(file) for file in files]
    starts = [np.append(0, np.flatnonzero(some[1:] != some[:-1]) + 1) for some in labels]
    drawn = rng.permutation(np.concatenate([some[first] for some, first in zip(labels, starts, strict=True)]))
    for file, some, first in zip(files, labels, starts, strict=True):
        mine, drawn = drawn[: len(first)], drawn[len(first) :]
        np.save(file, np.repeat(mine, np.diff(np.append(first, len(some)))))


def shuffled_people(copy: Manifest, learning: Sequence[Recording], seed: int) -> Manifest:
    """The copy with the people of the training recordings permuted among these: a "person" is any two recordings."""
    mine = [one for one in copy.recordings if one.name in {known.name for known in learning}]
    people = np.random.default_rng(seed).permutation([one.person for one in mine])
    return with_values(with_values(copy, "person", mine, people), "label", mine, people)


def with_values(manifest: Manifest, name: str, recordings: Sequence[Recording], values: NDArray[np.str_]) -> Manifest:
    """The manifest with one property of some recordings changed."""
    given = dict(zip((one.name for one in recordings), values.tolist(), strict=True))
    changed = (replace(one, **{name: given.get(one.name, one.value(name))}) for one in manifest.recordings)
    return Manifest(manifest.root, tuple(changed))


# -------------------------------------------------------------------------------------------------------- pieces


def pieces(recordings: Sequence[Recording], folder: Path) -> Manifest:
    """Each recording as files of `PIECE` packets; packets after the last whole piece are left out.

    A piece says of itself what its recording does: a model of pieces is trained and tested like one of recordings.
    """
    made = []
    for one in recordings:
        labels = None if one.labels_path is None else read_labels(one.labels_path)
        (folder / one.name).parent.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(write_pieces(one.path, folder / one.name)):
            own = None
            if labels is not None:
                own = path.with_name(f"{path.stem}-labels.npy")
                np.save(own, labels[number * PIECE : (number + 1) * PIECE])
            name, start = path.relative_to(folder).as_posix(), f"{one.start}-{number:03d}"[-MAX_TEXT:]
            made.append(replace(one, path=path, name=name, labels_path=own, start=start))
    return Manifest(folder, tuple(made))


def write_pieces(source: Path, target: Path) -> Iterator[Path]:
    """Writes the pieces of a file beside `target`, in its own format; gives the path of each."""
    numbered = (target.with_name(f"{target.stem}-{number:03d}{target.suffix}") for number in range(10**6))
    if source.suffix == ".csv":  # a packet a line
        lines = source.read_text().splitlines(keepends=True)
        for start in range(0, len(lines) - PIECE + 1, PIECE):
            path = next(numbered)
            path.write_text("".join(lines[start : start + PIECE]))
            yield path
    elif source.suffix == ".npy":  # [subcarriers, packets]
        array = np.load(source)
        for start in range(0, array.shape[1] - PIECE + 1, PIECE):
            path = next(numbered)
            np.save(path, array[:, start : start + PIECE])
            yield path
    else:  # .npz, every array of it [packets, ...]
        with np.load(source) as file:
            arrays = dict(file)
        for start in range(0, min(map(len, arrays.values())) - PIECE + 1, PIECE):
            path = next(numbered)
            np.savez(path, **{name: array[start : start + PIECE] for name, array in arrays.items()})
            yield path


def at_random(manifest: Manifest, train: int, seed: int) -> Manifest:
    """The pieces with "train" or "test" for a session, drawn: `train` of them are to be trained on."""
    sides = np.repeat(["train", "test"], [train, len(manifest.recordings) - train])
    return with_values(manifest, "session", manifest.recordings, np.random.default_rng(seed).permutation(sides))
