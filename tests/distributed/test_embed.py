"""Many captures at once: the arrays of one after the other; what a damaged file and an interruption do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Wdt, wdt
from tests.evaluation.recordings import make_blob, make_model, wander
from wifi_densepose_temporal import load_model
from wifi_densepose_temporal.distributed.embed import embed_captures
from wifi_densepose_temporal.errors import ConfigError, FormatError

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    # Ray Data sets defaults of its own that it has deprecated.
    pytest.mark.filterwarnings(r"ignore:`use_\w+` is deprecated:DeprecationWarning:ray\.data\.context"),
]
__all__ = ["wdt"]  # the fixture


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    (tmp_path / "m.rvne").write_bytes(make_blob(provenance={"trained": True}))
    return tmp_path / "m.rvne"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five captures, one of them a level down, and a hidden file that is none."""
    (tmp_path / "captures" / "more").mkdir(parents=True)
    for number in range(5):
        name = f"more/r{number}.npy" if number == 3 else f"r{number}.npy"
        np.save(tmp_path / "captures" / name, wander(250 + 10 * number, number).T)
    (tmp_path / "captures" / ".notes").write_text("no capture")
    return tmp_path / "captures"


def same_arrays(first: Path, second: Path) -> bool:
    with np.load(first) as one, np.load(second) as other:
        return set(one) == set(other) and all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_workers_write_what_one_process_writes_without_a_damaged_capture(
    wdt: Wdt, blob: Path, folder: Path, tmp_path: Path
) -> None:
    alone, shared = tmp_path / "alone.npz", tmp_path / "shared.npz"
    asked = ("embed", blob, folder, "--window", 100)
    assert wdt(*asked, "-o", alone).code == 0
    (folder / "r5.npy").write_bytes((folder / "r0.npy").read_bytes()[:60])
    ended = wdt(*asked, "-o", shared, "--workers", 2, "--json")
    assert ended.code == 0, ended.err
    assert (ended.document["embeddings"], list(ended.document["failed"])) == (10, [str(folder / "r5.npy")])
    assert "left out: " in ended.err
    assert same_arrays(alone, shared)
    assert not list(tmp_path.glob(".*.parts"))


def test_an_interrupted_job_continues_and_embeds_nothing_twice(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has left three parts: one of a capture that has changed since, and one that is damaged."""
    model, parts = make_model(), tmp_path / "parts"
    captures = sorted(folder.rglob("*.npy"))
    options = {"packets": 100, "rate_hz": 100.0}
    first = embed_captures(model, captures[:3], parts, workers=1, **options)
    np.save(captures[1], wander(400, 99).T)
    for part in parts.iterdir():
        with np.load(part) as arrays:
            cut = np.array_equal(arrays["embedding"], first.recordings[2].windows.embedding)
        if cut:
            part.write_bytes(part.read_bytes()[:-100])
    steps: list[None] = []
    job = embed_captures(model, captures, parts, workers=2, advance=lambda: steps.append(None), **options)
    assert (job.skipped, len(steps), len(job.recordings)) == (1, 5, 5)
    assert "is embedded again" in caplog.text
    assert [len(one.windows.embedding) for one in job.recordings] == [2, 4, 2, 2, 2]  # the second one as it is now
    for one, other in zip(first.recordings[::2], job.recordings[:3:2], strict=True):
        np.testing.assert_array_equal(one.windows.embedding, other.windows.embedding)


def test_a_job_without_a_single_embedding_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.csv").write_text("nothing\n")
    with pytest.raises(FormatError, match="none of the 1 captures"):
        embed_captures(
            make_model(), [tmp_path / "text.csv"], tmp_path / "parts", workers=1, packets=None, rate_hz=100.0
        )


@pytest.mark.parametrize("at", [30, 200, 600])
def test_a_damaged_part_is_made_again(at: int, blob: Path, folder: Path, tmp_path: Path) -> None:
    captures, parts = sorted(folder.glob("*.npy"))[:1], tmp_path / "parts"
    first = embed_captures(load_model(blob), captures, parts, workers=1, packets=100, rate_hz=100.0)
    (part,) = parts.glob("*.npz")
    content = bytearray(part.read_bytes())
    content[at] ^= 0xFF
    part.write_bytes(content)
    again = embed_captures(load_model(blob), captures, parts, workers=1, packets=100, rate_hz=100.0)
    expected = first.recordings[0].windows.embedding
    np.testing.assert_array_equal(again.recordings[0].windows.embedding, expected)


def test_no_captures_is_an_error(blob: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no captures"):
        embed_captures(load_model(blob), [], tmp_path / "parts", workers=1, packets=100, rate_hz=100.0)
