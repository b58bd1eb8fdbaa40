"""temporal_features.c makes of a driver's buffers what `features` makes of the recording, bit for bit."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.firmware.building import ACTIVITY, DEMO, EXAMPLE, REID, Build, run, saved
from wifi_densepose_temporal import (
    FeatureConfig,
    TemporalModel,
    WeightBlob,
    WeightBlobHeader,
    features,
    read_capture,
)
from wifi_densepose_temporal.csi import FeaturePart
from wifi_densepose_temporal.rvne import records


def packets_of_csv(path: Path) -> tuple[list[int], list[list[int]]]:
    """Times in microseconds and buffers of an ESP32 CSI Tool file of one sender, read without the package."""
    times, buffers = [], []
    columns: list[str] = []
    for line in path.read_text().splitlines():
        if line.startswith("type,"):
            columns = line.split(",")
        numbers = re.search(r"\[([-\d ]+)\]", line)
        if line.startswith("CSI_DATA") and numbers:
            times.append(int(line.split(",")[columns.index("local_timestamp")]))
            buffers.append([int(text) for text in numbers.group(1).split()])
    return times, buffers


def node_frames(program: Path, model: Path, times: Any, buffers: Any, first_word_invalid: bool) -> NDArray[np.float32]:
    sent = b"".join(struct.pack(f"<qI{len(csi)}b", t, len(csi), *csi) for t, csi in zip(times, buffers, strict=True))
    done = run(program, model, int(first_word_invalid), input=sent)
    return np.frombuffer(done.stdout, np.float32)


@pytest.fixture(scope="module")
def chain(build: Build) -> Path:
    return build("run_features", ["temporal_features"])


def host_frames(path: Path, model: Path) -> NDArray[np.float32]:
    chain = TemporalModel.load(model).feature_chain
    assert chain is not None
    return features(read_capture(path), FeatureConfig.from_words(chain))


@pytest.fixture(scope="module", params=["amplitudes", "phases"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of amplitudes, and one of phases that the 47 subcarriers of an ESP32 are enough for: `reid` takes 48."""
    if request.param == "amplitudes":
        return ACTIVITY
    parts = (FeaturePart("level", 8, time_s=0.1), FeaturePart("quadrature", 9, lag=1, size_s=1.0, size_floor=0.1))
    config = FeatureConfig(rate_hz=20, parts=parts)
    header = WeightBlobHeader(config.input_dim, 1, 1, 2, 1, 2)
    weights = np.ones(config.input_dim * (4 * 2 + 2), np.float32)
    blob = WeightBlob(header, weights, [records.feature_chain(config.to_words())])
    return saved(tmp_path_factory.mktemp("phases") / "phases.rvne", blob.serialize())


def assert_same_bits(made: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert len(expected) > 20
    np.testing.assert_array_equal(made.view(np.uint32), expected.ravel().view(np.uint32))


@pytest.mark.filterwarnings("default")
def test_frames_of_a_node_are_those_of_the_recording_bit_for_bit(chain: Path, model: Path) -> None:
    times, buffers = packets_of_csv(DEMO)
    assert_same_bits(node_frames(chain, model, times, buffers, first_word_invalid=True), host_frames(DEMO, model))


@pytest.mark.filterwarnings("default")
def test_longer_buffers_begin_with_the_same_field_and_one_of_another_length_is_left_out(
    chain: Path, model: Path
) -> None:
    """On a clock that starts elsewhere, too."""
    times, buffers = packets_of_csv(DEMO)
    long = [csi + [1] * 256 for csi in buffers]
    long.insert(50, buffers[50])
    times.insert(50, times[50])
    made = node_frames(chain, model, [t + (1 << 40) for t in times], long, first_word_invalid=True)
    assert_same_bits(made, host_frames(DEMO, model))


@pytest.mark.filterwarnings("default")
def test_shared_captures_give_the_same_frames(chain: Path, shared: Path, model: Path) -> None:
    for path in sorted((shared / "data" / "captures").glob("esp32_*_100hz.csv")):
        times, buffers = packets_of_csv(path)
        assert_same_bits(node_frames(chain, model, times, buffers, first_word_invalid=True), host_frames(path, model))


@pytest.mark.parametrize("name", [ACTIVITY, REID], ids=["amplitudes", "phases"])
def test_buffers_in_ascending_order_give_the_same_frames(chain: Path, shared: Path, name: Path) -> None:
    for path in sorted((shared / "data" / "wiper81").glob("*_A.npz"))[:6]:
        with np.load(path) as arrays:
            buffers, seconds = arrays["iq"], arrays["t"].astype(np.float64)
        invalid = bool(read_capture(path).metadata["invalid_subcarriers"])
        times = np.rint((seconds - seconds[0]) * 1e6).astype(int)
        made = node_frames(chain, name, times.tolist(), buffers.tolist(), invalid)
        assert_same_bits(made, host_frames(path, name))


def test_the_clock_of_32_bits_is_unwrapped_over_every_silence(chain: Path) -> None:
    run(chain)


def test_features_refuse_what_they_say(chain: Path, model: Path) -> None:
    run(chain, model)


def test_the_examples_memory_is_enough_for_the_shipped_model(chain: Path) -> None:
    (stated,) = re.findall(r"^#define FEATURE_BYTES (\d+)", (EXAMPLE / "main" / "csi_node.c").read_text(), re.MULTILINE)
    assert int(run(chain, ACTIVITY).stdout) <= int(stated)
