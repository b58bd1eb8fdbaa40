"""Small folders of the known layouts, made of pieces of the samples in tests/data/captures: each file has its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.datasets import Recording

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
WALK = CAPTURES / "esp32_stability_D1_e01_rx_tx_first300-x.npy"
PERSON = CAPTURES / "wiper81_empty1_B_first200.npz"
PACKETS = 60
LABELS = ("SEATED_TX", "STANDING_UP_TX", "WALKING_RX")


def walk(piece: int) -> np.ndarray:
    """Amplitudes [56, PACKETS] float64 of the sample, another stretch for each piece."""
    return np.load(WALK)[:, 2 * piece : 2 * piece + PACKETS]


def packet_labels(count: int = PACKETS) -> np.ndarray:
    """[count, 1], as the data set has them: thirds of each activity."""
    return np.repeat(np.array(LABELS), -(-count // 3))[:count, np.newaxis]


def stability(root: Path, days: tuple[str, ...] = ("D1", "D2"), exercises: int = 3) -> Path:
    piece = 0
    for day in days:
        (root / day).mkdir(parents=True)
        for exercise in range(1, exercises + 1):
            for way in ("rx_tx", "tx_rx"):
                name = f"e{exercise:02d}_{way}"
                np.save(root / day / f"{name}-x.npy", walk(piece))
                np.save(root / day / f"{name}-y.npy", packet_labels())
                piece += 1
    return root


def csi_har(root: Path, people: int = 2, samples: int = 3) -> Path:
    piece = 0
    for activity in ("fall", "walk"):
        (root / activity).mkdir(parents=True)
        for person in range(1, people + 1):
            for sample in range(1, samples + 1):
                file = root / activity / f"user_{person}_sample_{sample}.csv"
                np.savetxt(file, walk(piece)[:52].T, fmt="%.5g", delimiter=",")
                piece += 1
    return root


def wiper81(root: Path, people: int = 4) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with np.load(PERSON) as sample:
        iq, t = sample["iq"], sample["t"]
    for piece, person in enumerate(["empty1", *(f"p{number:02d}" for number in range(1, people + 1))]):
        for session in "AB":
            begin = 4 * piece + 2 * (session == "B")
            some = slice(begin, begin + PACKETS)
            np.savez_compressed(root / f"{person}_{session}.npz", iq=iq[some], t=t[some])
    return root


def espectre(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with np.load(PERSON) as sample:
        iq = sample["iq"]
    names = (
        "baseline_c3_64sc_20260329_130303",
        "movement_c3_64sc_20260329_130321",
        "baseline_esp32_64sc_20260214_183059",
    )
    for piece, name in enumerate(names):
        data = iq[2 * piece : 2 * piece + PACKETS]
        np.savez_compressed(root / f"{name}.npz", csi_data=data, duration_ms=np.float64(600), chip="c3")
    (root / "dataset_info.json").write_text("{}")
    return root


MAKERS: dict[str, Callable[[Path], Path]] = {
    "esp32-stability": stability,
    "csi-har": csi_har,
    "wiper81": wiper81,
    "espectre": espectre,
}


@pytest.fixture(params=MAKERS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The name of each layout and a small folder of it."""
    return request.param, MAKERS[request.param](tmp_path / "data")


def recording(path: Path, **properties: object) -> Recording:
    """A recording of one file, with these properties and plain others."""
    given = {"label": "walk", "labels_path": None, "person": "1", "session": "1", "room": "1", "start": "1"}
    rate = {"rate_hz": DEFAULT_RATE_HZ}
    return Recording(path=path.resolve(), name=path.name, **(given | rate | properties))  # type: ignore[arg-type]
