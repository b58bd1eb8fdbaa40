"""The firmware's head, called on this machine, against the model that this package runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.conftest import make_blob
from tests.reference_model import SMALL, normal, random_model
from wifi_densepose_temporal import TemporalModel, init_random_blob
from wifi_densepose_temporal.errors import ConfigError, NodeError, ShapeError
from wifi_densepose_temporal.models import SHIPPED
from wifi_densepose_temporal.node import Node, c_header, fit, self_test

REFERENCE = init_random_blob()


def spoken_of(count: int, window_len: int, mode: str) -> int:
    """Of `count` frames so far, how many of the newest a decision is about."""
    if mode == "window" or count <= window_len:
        return min(count, window_len)
    # Two streams that start over when they are full, the second half a window behind: the longer one's frames.
    half = max(1, window_len // 2)
    first, second = (count - 1) % window_len + 1, (count - half - 1) % window_len + 1
    return max(first, second)


@settings(max_examples=25)
@given(
    st.integers(1, 20),
    st.integers(1, 70),
    st.sampled_from(["window", "session"]),
    st.sampled_from(["mean", "last", "last_n", "mean_spread"]),
)
def test_a_decision_is_the_models_on_just_those_frames(window_len: int, length: int, mode: Any, pooling: str) -> None:
    options = {"pooling": pooling, "pool_frames": 5 if pooling == "last_n" else 0, "norm": "rms"}
    blob = random_model(np.random.default_rng(length), SMALL, **options).blob()
    model, node, frames = TemporalModel.from_bytes(blob), Node(blob, window_len, mode), normal((length, 7), window_len)
    for count in range(1, length + 1):
        node.push(frames[count - 1])
        heard = frames[count - spoken_of(count, window_len, mode) : count]
        np.testing.assert_array_equal(node.classify(), model.predict(heard).logits[-1])


@pytest.mark.parametrize("mode", ["window", "session"])
def test_float16_caches_are_those_of_a_stream(mode: Any) -> None:
    node, frames = Node(REFERENCE, 64, mode, "float16"), normal((64, 16))
    stream = TemporalModel.from_bytes(REFERENCE).stream(64, "float16")
    for frame in frames:
        node.push(frame)
        expected = stream.push(frame).logits
    np.testing.assert_array_equal(node.classify(), expected)


def test_forgotten_frames_are_forgotten() -> None:
    node, frames = Node(REFERENCE, 40), normal((50, 16))
    for frame in frames:
        node.push(frame)
    node.reset()
    with pytest.raises(NodeError, match="ESP_ERR_INVALID_STATE"):
        node.classify()
    node.push(frames[0])
    np.testing.assert_array_equal(node.classify(), node.model.predict(frames[:1]).logits[-1])


def test_the_reference_blob_works_in_64_kilobytes() -> None:
    sizes = Node(REFERENCE, 256).sizes
    assert sizes.total == sizes.context + sizes.window + sizes.streams + sizes.logits < 64 * 1024
    assert sizes.window == 256 * 16 * 4
    assert Node(REFERENCE, 256, "session").sizes.window == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e13])
@pytest.mark.parametrize("mode", ["window", "session"])
def test_a_bad_frame_is_refused_by_name_and_changes_nothing(value: float, mode: Any) -> None:
    node, frames = Node(REFERENCE, 8, mode), normal((3, 16))
    for frame in frames:
        node.push(frame)
    before = node.classify()
    with pytest.raises(NodeError, match="ESP_ERR_INVALID_ARG") as raised:
        node.push(np.full(16, value, np.float32))
    assert raised.value.code == "ESP_ERR_INVALID_ARG"
    np.testing.assert_array_equal(node.classify(), before)


def test_a_frame_of_another_length_is_no_frame() -> None:
    with pytest.raises(ShapeError, match=r"frame has shape \(15,\); this model takes \[16\]"):
        Node(REFERENCE).push(np.zeros(15, np.float32))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window_len": 0}, "window_len"),
        ({"window_len": 2**31}, "window_len is 2147483648"),
        ({"mode": "rolling"}, "mode is 'rolling'; expected one of window, session"),
        ({"cache_dtype": "int8"}, "int8"),
    ],
)
def test_what_no_node_can_be(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Node(REFERENCE, **options)


def test_too_much_memory_has_its_name() -> None:
    with pytest.raises(NodeError, match="ESP_ERR_NO_MEM"):
        Node(make_blob(input_dim=65535), 2**30)  # 281 TB, for which no processor has addresses


def test_threads_are_refused_and_harm_nothing() -> None:
    """The GIL is released in a call, so that another thread can be inside at the same time."""
    node = Node(REFERENCE, 256)
    for frame in normal((256, 16)):
        node.push(frame)
    expected, answers, refusals = node.classify(), [], []

    def classify() -> None:
        for _ in range(20):
            try:
                answers.append(node.classify())
            except Exception as error:
                refusals.append(type(error).__name__)

    threads = [threading.Thread(target=classify) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refusals) <= {"CacheInUseError"}
    assert answers
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_the_arithmetic_is_right_here() -> None:
    self_test()


# ------------------------------------------------------------------------------------------- memory and the C array


def test_what_a_model_needs_is_listed_by_buffer() -> None:
    found = fit(REFERENCE, 256)
    assert found.total("heap", "static", "flash") == sum(buffer.bytes for buffer in found.buffers)
    assert found.total("flash") == len(REFERENCE)
    named = {buffer.name: buffer.bytes for buffer in found.buffers}
    assert named["window: the newest frames"] + named["streams: caches, pooling, scratch"] < Node(REFERENCE).sizes.total
    assert named["the task's queue of frames"] == 32 * 16 * 4
    assert found.total("heap") - fit(REFERENCE, 256, "window", "float16").total("heap") == 2 * 256 * 16 * 2
    assert named["the feature chain, packets of 64 columns"] > 0


@pytest.mark.parametrize("columns", [8, 100, 128, 512])
def test_the_feature_chain_counts_whatever_the_packets(columns: int) -> None:
    (chain,) = [buffer for buffer in fit(REFERENCE, columns=columns).buffers if "feature chain" in buffer.name]
    assert chain.bytes > 0


def test_a_model_whose_frames_a_node_cannot_make_does_not_fit() -> None:
    for blob, columns in ((make_blob(input_dim=30), 64), (REFERENCE, 513)):
        with pytest.raises(ConfigError, match="a node cannot make"):
            fit(blob, columns=columns)


def test_what_menuconfig_does_not_take_is_told() -> None:
    assert fit(REFERENCE, 256).limits == ()
    (window,) = fit(REFERENCE, 2000).limits
    assert "TEMPORAL_WINDOW_LEN" in window
    (classes,) = fit((SHIPPED / "reid.rvne").read_bytes()).limits
    assert "2 to 16 as TEMPORAL_N_CLASSES, and this is 54" in classes


@pytest.mark.parametrize("blob", [REFERENCE, (SHIPPED / "activity.rvne").read_bytes()], ids=["reference", "activity"])
def test_a_header_holds_the_blob_and_its_dims(blob: bytes, tmp_path: Path) -> None:
    text, model = c_header(blob, "room_model"), TemporalModel.from_bytes(blob)
    listed = text[text.index("{") + 1 : text.rindex("}")]
    assert bytes(int(byte, 16) for byte in listed.replace("\n", " ").replace(",", " ").split()) == blob
    assert f"#define ROOM_MODEL_INPUT_DIM {model.input_dim}\n" in text
    assert f"#define ROOM_MODEL_N_CLASSES {model.header.n_classes}\n" in text
    assert model.sha256 in text
    assert ("UNTRAINED" in text) == (model.trained is False)


@pytest.mark.parametrize("name", ["", "1model", "a-b", "x;y", "größe", "int", "wdt_model", "ruv_temporal_blob"])
def test_a_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"C identifier|C's or this project's own"):
        c_header(REFERENCE, name)
