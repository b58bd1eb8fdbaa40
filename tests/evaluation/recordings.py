"""Small models and data sets for the tests of evaluation: amplitudes that wander, so that decisions change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import FeatureConfig, TemporalModel, WeightBlob, WeightBlobHeader
from wifi_densepose_temporal.datasets import Manifest, read_manifest
from wifi_densepose_temporal.rvne import records

CHAIN = FeatureConfig(bands=4, max_gap_s=0.2)
SUBCARRIERS = 20
LABELS = ("walk", "sit", "fall")
HEADER = "path,label,labels_path,person,session,room,start,rate_hz"


def make_blob(labels: Sequence[str] = LABELS, provenance: Mapping[str, object] | None = None, seed: int = 9) -> bytes:
    """A model of random weights whose decisions follow its input."""
    header = WeightBlobHeader(CHAIN.input_dim, 2, 1, 4, 1, len(labels))
    weights = np.random.default_rng(seed).normal(0, 0.7, header.model_floats()).astype(np.float32)
    mean = np.repeat([0.9, 0.1], CHAIN.bands).astype(np.float32)
    extra = [
        records.feature_scale(mean, np.full(CHAIN.input_dim, 20, np.float32)),
        records.pooling("last_n", 5),
        records.class_labels(labels),
        records.feature_chain(CHAIN.to_words()),
        *([] if provenance is None else [records.provenance(provenance)]),
    ]
    return WeightBlob(header, weights, extra).serialize()


def make_model(labels: Sequence[str] = LABELS, **options: Any) -> TemporalModel:
    return TemporalModel.from_bytes(make_blob(labels, **options))


def wander(packets: int, seed: int, step: float = 0.1, room: int | None = None) -> NDArray[np.float32]:
    """Amplitudes [packets, S] of a random walk; two of the same `room` start alike."""
    rng = np.random.default_rng([seed, 77])
    start = (rng if room is None else np.random.default_rng(room)).uniform(1, 2, SUBCARRIERS)
    return np.abs(start + np.cumsum(rng.normal(0, step, (packets, SUBCARRIERS)), axis=0)).astype(np.float32)


def label_runs(packets: int, labels: Sequence[str], run: int) -> NDArray[np.str_]:
    """Each label for `run` packets, in turn."""
    return np.resize(np.repeat(labels, run), packets)


def write_labelled(
    folder: Path, lengths: Sequence[int] = (230, 175, 300), labels: Sequence[str] = LABELS, run: int = 60
) -> Manifest:
    """Recordings r0, r1, ... with a label for each packet, at 100 Hz; recording n is of person `n % 2`, session n."""
    rows = [HEADER]
    for number, length in enumerate(lengths):
        np.save(folder / f"r{number}-x.npy", wander(length, number).T)
        np.save(folder / f"r{number}-y.npy", label_runs(length, [*labels[number:], *labels[:number]], run))
        rows.append(f"r{number}-x.npy,,r{number}-y.npy,{number % 2},s{number},hall,{number},100")
    return _manifest(folder, rows)


def write_whole_labels(folder: Path, labels: Sequence[str], length: int = 120) -> Manifest:
    """Recordings w0, w1, ... with a single label each."""
    rows = [HEADER]
    for number, label in enumerate(labels):
        np.save(folder / f"w{number}.npy", wander(length, 100 + number).T)
        rows.append(f"w{number}.npy,{label},,1,s{number},hall,{number},100")
    return _manifest(folder, rows)


def write_persons(
    folder: Path, persons: Sequence[str], sessions: Sequence[str] = ("A", "B"), length: int = 100
) -> Manifest:
    """One recording of each person in each session; a person's recordings are alike."""
    rows = [HEADER]
    for number, person in enumerate(persons):
        for visit, session in enumerate(sessions):
            name = f"{person}_{session}.npy"
            np.save(folder / name, wander(length, 10 * number + visit, step=0.02, room=number).T)
            rows.append(f"{name},,,{person},{session},hall,{session}{number:03d},100")
    return _manifest(folder, rows)


def _manifest(folder: Path, rows: list[str]) -> Manifest:
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return read_manifest(folder / "manifest.csv")
