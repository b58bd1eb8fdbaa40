"""`wdt embed`: embeddings of recordings as arrays, each with its origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import ESP32, EVERY_CAPTURE, Wdt
from tests.evaluation.recordings import CHAIN, make_blob, make_model, wander
from wifi_densepose_temporal import extract, read_capture
from wifi_densepose_temporal.evaluation import embed_windows

STABILITY = next(path for path in EVERY_CAPTURE if "stability" in path.name)


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    (tmp_path / "m.rvne").write_bytes(make_blob(provenance={"trained": True}))
    return tmp_path / "m.rvne"


def test_a_recording_is_one_embedding_that_of_its_last_frame(wdt: Wdt, blob: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    ended = wdt("embed", blob, ESP32, STABILITY, "-o", out)
    assert ended.code == 0, ended.err
    assert f"{out}: 2 embeddings" in ended.out
    model = make_model(provenance={"trained": True})
    with np.load(out, allow_pickle=False) as arrays:
        assert set(arrays) == {"embedding", "recording", "start_s", "end_s", "source", "model_sha256", "trained"}
        assert arrays["embedding"].dtype == np.float32
        assert arrays["recording"].tolist() == [str(ESP32), str(STABILITY)]
        assert arrays["source"].tolist() == ["replay", "replay"]
        assert (str(arrays["model_sha256"]), str(arrays["trained"])) == (model.sha256, "true")
        for row, path in enumerate((ESP32, STABILITY)):
            capture = read_capture(path)
            expected = model.predict(extract(capture, CHAIN).values).embedding[-1]
            np.testing.assert_allclose(arrays["embedding"][row], expected, atol=1e-6)
            assert (arrays["start_s"][row], arrays["end_s"][row]) == (capture.timestamps[0], capture.timestamps[-1])


def test_windows_are_cut_one_after_the_other(wdt: Wdt, blob: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    document = wdt("embed", blob, STABILITY, "--out", out, "--window", 100, "--json").document
    expected = embed_windows(make_model(), read_capture(STABILITY), 100)
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["embedding"], expected.embedding)
        np.testing.assert_array_equal(arrays["end_s"], expected.end_s)
    assert document["embeddings"] == len(expected.embedding) > 1
    assert (document["source"], document["trained"], document["path"]) == ("replay", True, str(out))
    assert document["recordings"][0]["embeddings"] == document["embeddings"]


@pytest.mark.parametrize(
    ("provenance", "stated", "said"), [({"trained": False}, "false", "UNTRAINED"), ({}, "unstated", "Unknown training")]
)
def test_whether_the_model_was_trained_is_in_the_file_and_said(
    wdt: Wdt, tmp_path: Path, provenance: dict[str, object], stated: str, said: str
) -> None:
    (tmp_path / "m.rvne").write_bytes(make_blob(provenance=provenance))
    assert said in wdt("embed", tmp_path / "m.rvne", ESP32, "-o", tmp_path / "e.npz").out
    assert said in wdt("embed", tmp_path / "m.rvne", ESP32, "-o", tmp_path / "e.npz", "--json").err
    with np.load(tmp_path / "e.npz") as arrays:
        assert str(arrays["trained"]) == stated


def test_a_recording_that_gives_no_embedding_is_an_error_and_no_file_is_written(
    wdt: Wdt, blob: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "short.npy", wander(60, 1).T)
    asked = ("embed", blob, STABILITY, tmp_path / "short.npy", "-o", tmp_path / "e.npz", "--window", 100)
    assert "short.npy: unavailable: no whole window of 100 packets among its 60" in wdt(*asked).error_line()
    assert not (tmp_path / "e.npz").exists()


def test_a_window_without_a_measurement_is_said_to_be_left_out(wdt: Wdt, blob: Path, tmp_path: Path) -> None:
    amplitude = wander(300, 1)
    amplitude[100:200] = 0
    np.save(tmp_path / "gap.npy", amplitude.T)
    ended = wdt("embed", blob, tmp_path / "gap.npy", "-o", tmp_path / "e.npz", "--window", 100, "--json")
    assert "gap.npy: 1 windows left out" in ended.err
    assert ended.document["recordings"][0]["unavailable"] == 1
    with np.load(tmp_path / "e.npz") as arrays:
        assert arrays["start_s"].tolist() == [0, 2]


def test_an_output_that_is_an_input_is_refused(wdt: Wdt, blob: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "r.npy", wander(300, 1).T)
    for given in (tmp_path / "r.npy", blob):
        before = given.read_bytes()
        line = wdt("embed", blob, STABILITY, tmp_path / "r.npy", "-o", tmp_path / "." / given.name).error_line()
        assert "which is read" in line
        assert given.read_bytes() == before


def test_the_output_has_to_be_named(wdt: Wdt, blob: Path) -> None:
    assert wdt("embed", blob, ESP32).code == 2
