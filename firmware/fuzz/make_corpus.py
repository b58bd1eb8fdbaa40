"""Writes the fuzz targets' corpus: small inputs of every kind, from the package's own recording and models.

    python firmware/fuzz/make_corpus.py [FOLDER]

The same bytes in every run; tests/firmware/test_fuzz.py holds the committed files equal to them.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

import wifi_densepose_temporal
from wifi_densepose_temporal import TemporalHeadConfig, WeightBlob, WeightBlobHeader
from wifi_densepose_temporal.csi import FeatureConfig, FeaturePart, read_capture
from wifi_densepose_temporal.models import load_model
from wifi_densepose_temporal.node.send import packets_of
from wifi_densepose_temporal.rvne import quantise, records
from wifi_densepose_temporal.wire import Classification, FeatureState

CORPUS = Path(__file__).parent / "corpus"
DEMO = Path(wifi_densepose_temporal.__file__).parent / "data" / "demo_esp32.csv"
PACKETS = 12  # of the recording, in an input of the feature chain
V2 = FeatureConfig(
    parts=(FeaturePart("level", 3, log_floor=0.01, slow_s=1.0), FeaturePart("motion", 2, lag=2, time_s=0.5)),
    rate_hz=50,
    max_gap_s=0.5,
    frame_bins=2,
    hold=False,
)
PHASE = FeatureConfig(parts=(FeaturePart("quadrature", 4, lag=1),), rate_hz=50, max_gap_s=0.5)


def packet_inputs() -> dict[str, bytes]:
    """Each kind of packet, of the recording where it has one."""
    capture = read_capture(DEMO)
    raw = packets_of(capture, node_id=3)
    others = {f"other_{number}": struct.pack("<I", 0xC5110000 + number) + bytes(28) for number in (2, 3, 4, 5)}
    return {
        "raw_csi": raw[0],
        "raw_csi_hz": raw[1][:8] + struct.pack("<I", 2_437_000_000) + raw[1][12:],
        "raw_csi_small": struct.pack("<IBBHIIbbH", 0xC5110001, 1, 2, 3, 2412, 7, -40, -90, 0) + bytes(range(12)),
        "feature_state": FeatureState(3, 1, 2, 10**6, *np.linspace(0, 2, 9).tolist(), 5).serialize(),
        "classification": Classification(3, 4, 10**6, 9, 2, 1.5, 0.25).serialize(),
        **others,
    }


def blob(header: WeightBlobHeader, *extra: records.Record, pooled_dim: int | None = None) -> bytes:
    """A model of random weights."""
    weights = np.random.default_rng(6).uniform(-0.5, 0.5, header.model_floats(pooled_dim)).astype(header.dtype)
    return WeightBlob(header, weights, extra).serialize()


def blob_inputs() -> dict[str, bytes]:
    """Models with and without each record, in every dtype."""
    rng = np.random.default_rng(7)

    def floats(*shape: int) -> Any:
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    def everything(dtype: Any) -> bytes:
        header = WeightBlobHeader(4, 2, 1, 3, 2, 2, dtype=dtype)
        pattern = TemporalHeadConfig("sparse_gqa", 2, 1, 3, window=3, block_size=2, global_tokens=(0, 2))
        return blob(
            header,
            records.pattern(pattern, "rms"),
            records.pooling("mean_spread"),
            records.feature_scale(floats(5), floats(5)),
            records.input_projection(floats(5, 4), floats(4), dtype),
            records.feed_forward([(floats(4, 3), floats(3, 4))] * 2, "silu", dtype),
            records.embedding_projection([(floats(8, 3), floats(3)), (floats(3, 2), floats(2))], dtype),
            records.classifier_bias(floats(2), dtype),
            records.class_labels(("still", "moving")),
            records.class_statistics(np.ones(2), floats(2, 8), np.eye(8)),
            records.provenance({"trained": False}),
            pooled_dim=8,
        )

    small = WeightBlobHeader(4, 2, 1, 3, 1, 2)
    return {
        "plain": blob(small),
        "half": blob(WeightBlobHeader(3, 2, 2, 3, 1, 3, dtype="float16")),
        "everything": everything("float32"),
        "everything_half": everything("float16"),
        "int8": quantise(blob(WeightBlobHeader(3, 2, 2, 3, 1, 3))),
        "everything_int8": quantise(everything("float32")),
        "features_cached_int8": quantise(blob(WeightBlobHeader(3, 2, 1, 4, 2, 2))),
        "last_n": blob(small, records.pooling("last_n", 3)),
        "chain": blob(small, records.feature_chain(FeatureConfig(bands=2).to_words())),
        "chain_of_parts": blob(
            WeightBlobHeader(5, 2, 1, 3, 1, 2), records.feature_chain(V2.to_words()), records.pooling("last")
        ),
        "features_cached": blob(WeightBlobHeader(3, 2, 1, 4, 2, 2)),  # input_dim no larger than head_dim
        "dense": blob(small, records.pattern(TemporalHeadConfig("dense", 2, 1, 3, window=0, block_size=1))),
    }


def chain_words(words: dict[str, Any]) -> bytes:
    """As the record has them."""
    return records.feature_chain(words).payload


def feature_inputs() -> dict[str, bytes]:
    """Chains of the shipped models and others, over the recording's packets."""
    capture = read_capture(DEMO)
    pairs = [np.frombuffer(packet[20:], np.int8) for packet in packets_of(capture, node_id=0)[:PACKETS]]
    step = struct.pack("<H", 20_000 // 16)  # of time, 20 ms

    def amplitude(operation: int, columns: int) -> bytes:
        values = [np.abs(iq[: 2 * columns : 2].astype(int)) - 1 for iq in pairs]
        return b"".join(bytes([operation]) + step + (value & 255).astype(np.uint8).tobytes() for value in values)

    def iq(columns: int) -> bytes:
        shifted = [(pair[: 2 * columns].astype(int) + 128).astype(np.uint8).tobytes() for pair in pairs]
        return b"".join(b"\x01" + step + value for value in shifted)

    activity, reid = (chain_words(load_model(name).feature_chain or {}) for name in ("activity", "reid"))
    floats = b"".join(b"\x02" + step + np.linspace(1, 9, 6, dtype="<f4").tobytes() for _ in range(4))
    return {
        "activity": activity + bytes([1, 64, 1]) + amplitude(0, 64),
        "reid": reid + bytes([1, 64, 1]) + iq(64),
        "default": chain_words(FeatureConfig(bands=4).to_words()) + bytes([2, 16, 0]) + amplitude(0, 32) + b"\3\0\0",
        "parts": chain_words(V2.to_words()) + bytes([1, 32, 1]) + amplitude(0, 32) + b"\5\0\0",
        "phase": chain_words(PHASE.to_words()) + bytes([1, 32, 0]) + iq(32),
        "floats": chain_words(FeatureConfig(bands=2).to_words()) + bytes([1, 6, 0]) + floats,
    }


def buffer_inputs() -> dict[str, bytes]:
    """The same chains over the recording's packets as an ESP32's buffers; buffers of each kind of layout."""
    capture = read_capture(DEMO)
    pairs = [packet[20:] for packet in packets_of(capture, node_id=0)[:PACKETS]]
    step = struct.pack("<H", 20_000 // 16)

    def buffers(chain: bytes, values: int, layout: int) -> bytes:
        whole = [step + (pair + bytes(values))[:values] for pair in pairs[: 1500 // values]]
        return chain + struct.pack("<HB", values, layout) + b"".join(whole)

    small = chain_words(FeatureConfig(bands=2).to_words())
    activity, reid = (chain_words(load_model(name).feature_chain or {}) for name in ("activity", "reid"))
    return {
        "activity": buffers(activity, 128, 0x80),
        "reid": buffers(reid, 128, 0x80 | 0x40),
        "longer": buffers(small, 384, 0x80),
        "ascending": buffers(small, 128, 1 | 0x40),
        "no_order": buffers(small, 60, 0x80),
    }


def frame_inputs() -> dict[str, bytes]:
    """Both modes, and frames that are refused or overflow."""
    frames = np.random.default_rng(8).normal(size=(12, 3)).astype("<f4")
    good = b"".join(bytes([t % 8]) + frame.tobytes() for t, frame in enumerate(frames))
    hostile = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [1e12, -1e12, 1e12], [1e-40, 0, 0], [7e4, 0, 0]], "<f4")
    bad = b"".join(b"\0" + frame.tobytes() for frame in hostile)
    return {
        "window": bytes([4 << 2]) + good,
        "session": bytes([4 << 2 | 1]) + good + b"\xf8" + good[:39],
        "half": bytes([3 << 2 | 3]) + good,
        "hostile": bytes([5 << 2]) + good[:26] + bad + good[:39],
        "hostile_half": bytes([5 << 2 | 3]) + good[:26] + bad + b"\xf0\xf8\xf0" + good[:39],
    }


def snapshot_inputs() -> dict[str, bytes]:
    """States of each policy and pooling as they are, and some with changes of their bytes."""
    nan, large = struct.pack("<f", np.nan), struct.pack("<f", 3.3e38)

    def state(
        policy: int, pooling: int, capacity: int, frames: int, *changes: tuple[int, bytes], half: bool = False
    ) -> bytes:
        start = bytes([policy | half << 2 | pooling << 3, capacity - 1, 2, 1, 1, frames])
        return start + b"".join(struct.pack("<HB", place, len(change)) + change for place, change in changes)

    return {
        "empty": state(2, 0, 3, 0),
        "refuse": state(0, 0, 9, 7),
        "sliding": state(1, 1, 4, 30),
        "sliding_half": state(1, 2, 4, 30, half=True),
        "heavy_hitter": state(2, 3, 4, 30),
        "heavy_hitter_half": state(2, 0, 9, 60, half=True),
        "length": state(1, 0, 4, 30, (0, struct.pack("<q", 1 << 41))),
        "tables": state(2, 3, 4, 30, (272, bytes(20)), (296, struct.pack("<q", 3))),
        "numbers": state(1, 3, 4, 30, (300, nan), (380, large)),
    }


INPUTS = {
    "packet": packet_inputs,
    "blob": blob_inputs,
    "features": feature_inputs,
    "buffers": buffer_inputs,
    "frames": frame_inputs,
    "snapshot": snapshot_inputs,
}


def corpus() -> dict[Path, bytes]:
    """Every file of the corpus, below its folder."""
    return {Path(target) / name: content for target, made in INPUTS.items() for name, content in made().items()}


def main(folder: Path) -> None:
    """Writes the files."""
    for name, content in corpus().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else CORPUS)
