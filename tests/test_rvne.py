"""The .rvne container: bytes on the wire, one error a cause in the contract's order, and hostile bytes."""

from __future__ import annotations

import hashlib
import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wifi_densepose_temporal import (
    TemporalError,
    TemporalHeadConfig,
    TemporalModel,
    WeightBlob,
    WeightBlobHeader,
    WeightBlobView,
    errors,
    init_random_blob,
)
from wifi_densepose_temporal.rvne import Record, records

HEADER = WeightBlobHeader(input_dim=3, n_q_heads=4, n_kv_heads=2, head_dim=5, n_layers=1, n_classes=2)
WEIGHTS = np.arange(6, dtype=np.float32)


def header_bytes(
    magic: int = 0x52564E45,
    version: int = 1,
    flags: int = 0,
    reserved: int = 0,
    dims: tuple[int, ...] = (3, 4, 2, 5, 1, 2),
    weights_len: int = 24,
) -> bytes:
    """The table of docs/rvne-format.md, written out once more by hand."""
    return struct.pack("<IHBB6HI", magic, version, flags, reserved, *dims, weights_len)


def sealed(body: bytes) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body))


def blob(payload: bytes = WEIGHTS.tobytes(), tail: bytes = b"", **fields: Any) -> bytes:
    return sealed(header_bytes(**fields) + payload + tail)


def record(tag: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("<HHI", tag, flags, len(payload)) + payload + bytes(-len(payload) % 4)


def with_records(*sections: bytes, **fields: Any) -> bytes:
    section = b"".join(sections)
    return blob(tail=struct.pack("<I", len(section)) + section, flags=2, **fields)


# ---------------------------------------------------------------------------------------------------- the wire format


def test_reference_blob_is_the_same_everywhere() -> None:
    content = init_random_blob()
    assert len(content) == 41_244
    assert hashlib.sha256(content).hexdigest() == "7c6c074ef3b6b23b4d9ae2327deaade81329f003c3a52b59581492c08252d49d"
    assert init_random_blob() == content


def test_layout_is_the_tables() -> None:
    assert WeightBlob(HEADER, WEIGHTS).serialize() == blob()
    assert blob()[:4] == bytes.fromhex("454E5652")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_roundtrip(dtype: Any) -> None:
    header = WeightBlobHeader(16, 4, 1, 32, 2, 4, dtype=dtype)
    weights = np.linspace(-1, 1, 10_304).astype(dtype)
    content = WeightBlob(header, weights).serialize()
    view = WeightBlobView.parse(content)
    assert view.header == header
    assert view.weights.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(view.weights, weights)
    assert len(content) == 28 + weights.nbytes


def test_shared_blobs_roundtrip_byte_for_byte(shared: Path) -> None:
    for path in sorted((shared / "goldens").glob("*.rvne")):
        content = path.read_bytes()
        view = WeightBlobView.parse(content)
        assert WeightBlob(view.header, view.weights, view.records).serialize() == content


def test_a_view_shares_the_buffer_and_cannot_write_it() -> None:
    content = bytearray(blob())
    view = WeightBlobView.parse(content)
    assert np.shares_memory(view.weights, np.frombuffer(content, np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        view.weights[0] = 1


def test_records_travel() -> None:
    sent = [Record(9, b'{"trained": true}', critical=False), Record(2, struct.pack("<II", 1, 0), critical=True)]
    half = WeightBlobHeader(3, 4, 2, 5, 1, 2, dtype="float16")
    for header, weights in (
        (HEADER, WEIGHTS),
        (half, np.ones(3, np.float16)),
    ):  # records behind an odd number of halves
        content = WeightBlob(header, weights, sent).serialize()
        view = WeightBlobView.parse(content)
        assert list(view.records) == sent
        assert [r.name for r in view.records] == ["provenance", "pooling"]
        np.testing.assert_array_equal(view.weights, weights)


def test_empty_payload_and_unaligned_buffers_are_fine() -> None:
    assert WeightBlobView.parse(blob(b"", weights_len=0)).weights.size == 0
    shifted = memoryview(b"\0" + blob())[1:]
    np.testing.assert_array_equal(WeightBlobView.parse(shifted).weights, WEIGHTS)


def test_unknown_records_that_are_not_critical_are_kept_and_skipped() -> None:
    view = WeightBlobView.parse(with_records(record(0x7777, 0, b"hello")))
    assert [(r.tag, r.payload, r.name) for r in view.records] == [(0x7777, b"hello", "unknown")]


def test_record_payloads_are_the_tables() -> None:
    """Every record's bytes, written out once more by hand from docs/rvne-format.md."""
    config = TemporalHeadConfig("sparse_gqa", 4, 2, 5, window=7, block_size=3, global_tokens=(0, 9), log_stride=False)
    chain = {"version": 1, "bands": 2, "period_us": 3, "motion_time_us": 4, "max_gap_us": 5}
    W, b = np.arange(6, dtype=np.float16).reshape(3, 2), np.array([7, 8], np.float16)
    made = {
        1: (records.pattern(config, "rms"), struct.pack("<8I2I", 0, 7, 3, 1, 0, 1, 1, 2, 0, 9)),
        2: (records.pooling("last_n", 6), struct.pack("<2I", 2, 6)),
        3: (records.feature_scale([1, 2], [3, 4]), struct.pack("<4f", 1, 2, 3, 4)),
        4: (
            records.embedding_projection([(W, b)], "float16"),
            struct.pack("<3I", 3, 0, 2) + struct.pack("<6e", *range(6)) + struct.pack("<2e", 7, 8),
        ),
        5: (records.input_projection(W[:1], b, "float32"), struct.pack("<I4f", 1, 0, 1, 7, 8)),
        6: (
            records.feed_forward([(W, W.T)], "silu", "float16"),
            struct.pack("<2I", 2, 1) + struct.pack("<12e", *range(6), 0, 2, 4, 1, 3, 5),
        ),
        7: (records.feature_chain(chain), struct.pack("<5I", 1, 2, 3, 4, 5)),
        8: (records.class_labels(["a", "bc"]), b"a\0bc\0"),
        9: (records.provenance({"trained": True}), b'{"trained": true}'),
    }
    for tag, (made_record, payload) in made.items():
        assert made_record.serialize() == record(tag, 1 if tag < 8 else 0, payload)


def test_the_core_reads_the_pattern_words_in_the_tables_order() -> None:
    """Each switch on its own: a swap of two of them in the header that both sides share would show here."""
    names = ("dense", "window", "block_size", "causal", "log_stride", "landmarks", "norm", "n_global_tokens")
    for log_stride, landmarks, dense in itertools.product((0, 1), repeat=3):
        words = struct.pack("<8I", dense, 11, 5, 1, log_stride, landmarks, 1, 0)
        weights = np.zeros(3 * 2 * 5 * 6 + 6, np.float32)
        body = header_bytes(flags=2, weights_len=weights.nbytes) + weights.tobytes()
        section = record(1, 1, words)
        model = TemporalModel(sealed(body + struct.pack("<I", len(section)) + section))
        config = model.config
        read = (config.backend == "dense", config.window, config.block_size, config.log_stride, config.landmarks)
        assert read == (dense, 11, 5, log_stride, landmarks), names
        assert model.norm == "rms"


# ----------------------------------------------------------------------------------------------- one error a cause

DAMAGED = {
    "empty": (b"", errors.BlobTooShortError),
    "27 bytes": (blob()[:27], errors.BlobTooShortError),
    "magic": (blob(magic=0x52564E46), errors.BlobMagicError),
    "version": (blob(version=2), errors.BlobVersionError),
    "unknown flag": (blob(flags=8), errors.BlobFlagsError),
    "two dtypes": (blob(flags=5), errors.BlobFlagsError),
    "highest flag": (blob(flags=0x80), errors.BlobFlagsError),
    "reserved byte": (blob(reserved=1), errors.BlobFlagsError),
    "trailing byte": (blob() + b"\0", errors.BlobLengthError),
    "length too large": (blob(weights_len=28), errors.BlobLengthError),
    "length of 4 GB": (blob(weights_len=0xFFFFFFFC), errors.BlobLengthError),
    "half an element": (blob(b"\0" * 6, weights_len=6), errors.BlobLengthError),
    "half a word of int8": (blob(b"\0" * 6, weights_len=6, flags=4), errors.BlobLengthError),
    "records without a section": (blob(flags=2), errors.BlobLengthError),
    "crc": (blob()[:-1] + b"\0", errors.BlobCrcError),
    "weight changed": (blob()[:30] + b"\1" + blob()[31:], errors.BlobCrcError),
    "no input": (blob(dims=(0, 4, 2, 5, 1, 2)), errors.BlobDimsError),
    "no query heads": (blob(dims=(3, 0, 2, 5, 1, 2)), errors.BlobDimsError),
    "no kv heads": (blob(dims=(3, 4, 0, 5, 1, 2)), errors.BlobDimsError),
    "no head_dim": (blob(dims=(3, 4, 2, 0, 1, 2)), errors.BlobDimsError),
    "head ratio": (blob(dims=(3, 4, 3, 5, 1, 2)), errors.BlobHeadRatioError),
    "no layer": (blob(dims=(3, 4, 2, 5, 0, 2)), errors.BlobDegenerateError),
    "one class": (blob(dims=(3, 4, 2, 5, 1, 1)), errors.BlobDegenerateError),
    "unknown critical record": (with_records(record(0x7777, 1, b"")), errors.BlobRecordError),
    "known record not marked critical": (with_records(record(2, 0, bytes(8))), errors.BlobRecordError),
    "labels marked critical": (with_records(record(8, 1, b"a\0b\0")), errors.BlobRecordError),
    "unknown record flag": (with_records(record(9, 2, b"{}")), errors.BlobRecordError),
    "record twice": (with_records(record(9, 0, b"{}"), record(9, 0, b"{}")), errors.BlobRecordError),
    "record cut": (with_records(record(9, 0, b"{}")[:-4]), errors.BlobRecordError),
    "record longer than its section": (with_records(struct.pack("<HHI", 9, 0, 0xFFFFFFFF)), errors.BlobRecordError),
    "padding not zero": (with_records(record(9, 0, b"{}")[:-1] + b"\1"), errors.BlobRecordError),
    "section longer than the blob": (blob(tail=struct.pack("<I", 0xFFFFFFF0), flags=2), errors.BlobLengthError),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_each_cause_has_its_error(name: str) -> None:
    content, kind = DAMAGED[name]
    with pytest.raises(errors.BlobError) as caught:
        WeightBlobView.parse(content)
    assert type(caught.value) is kind


def test_causes_are_found_in_the_contracts_order() -> None:
    """Each blob has every later fault as well; the first one in the order is reported."""
    broken = {"dims": (0, 0, 3, 5, 0, 0), "reserved": 0, "weights_len": 99}
    assert_kind(b"\xff" * 27, errors.BlobTooShortError)
    assert_kind(header_bytes(0, 9, 0xF8, **broken) + bytes(9), errors.BlobMagicError)
    assert_kind(header_bytes(version=9, flags=0xF8, **broken) + bytes(9), errors.BlobVersionError)
    assert_kind(header_bytes(flags=0xF8, **broken) + bytes(9), errors.BlobFlagsError)
    assert_kind(header_bytes(**broken) + bytes(9), errors.BlobLengthError)
    assert_kind(blob(dims=(0, 4, 3, 5, 0, 0))[:-1] + b"\0", errors.BlobCrcError)
    assert_kind(blob(dims=(0, 4, 3, 5, 0, 0)), errors.BlobDimsError)
    assert_kind(blob(dims=(3, 4, 3, 5, 0, 0)), errors.BlobHeadRatioError)
    assert_kind(with_records(record(0x7777, 1, b""), dims=(3, 4, 2, 5, 0, 0)), errors.BlobDegenerateError)


def assert_kind(content: bytes, kind: type[TemporalError]) -> None:
    with pytest.raises(TemporalError) as caught:
        WeightBlobView.parse(content)
    assert type(caught.value) is kind


def test_a_last_record_without_its_padding_is_refused() -> None:
    """Also where the checksum behind it begins with a zero byte, which would pass for the padding."""
    for payload in (bytes([a, b, c]) for a in range(40) for b in range(40) for c in range(8)):
        content = blob(tail=struct.pack("<I", 11) + struct.pack("<HHI", 0x7777, 0, 3) + payload, flags=2)
        if content[-4] == 0:
            break
    assert content[-4] == 0
    with pytest.raises(errors.BlobRecordError):
        WeightBlobView.parse(content)


def test_every_truncation_is_refused() -> None:
    content = WeightBlob(HEADER, WEIGHTS, [Record(9, b'{"trained": false}', critical=False)]).serialize()
    for length in range(len(content)):
        with pytest.raises((errors.BlobTooShortError, errors.BlobLengthError)):
            WeightBlobView.parse(content[:length])


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_random_bytes_give_an_error(content: bytes) -> None:
    with pytest.raises(TemporalError):
        WeightBlobView.parse(content)


def test_a_hundred_thousand_mutations_give_an_error_or_a_view() -> None:
    """Bytes flipped, cut, inserted; half of them sealed again, so that what lies behind the checksum is reached."""
    rng = np.random.default_rng(0)
    seeds = [blob(), with_records(record(9, 0, b"{}"), record(2, 1, bytes(8))), blob(b"\0" * 8, flags=1, weights_len=8)]
    seeds.append(blob(b"\0" * 8, flags=4, weights_len=8))
    views = 0
    for _ in range(100_000):
        content = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(content)))
            kind = rng.integers(4)
            if kind < 2:
                content[at] = rng.integers(256)
            elif kind == 2:
                del content[at : at + int(rng.integers(8))]
            else:
                content[at:at] = rng.bytes(rng.integers(8))
            if not content:
                break
        mutant = sealed(bytes(content[:-4])) if rng.integers(2) else bytes(content)
        try:
            view = WeightBlobView.parse(mutant)
        except TemporalError:
            continue
        views += 1
        assert view.weights.nbytes <= len(mutant)
    assert 0 < views < 100_000


# ------------------------------------------------------------------------------------------------ files and writing


def test_a_file_roundtrip(tmp_path: Path) -> None:
    path = tmp_path / "model.rvne"
    path.write_bytes(init_random_blob())
    loaded = WeightBlob.load(path)
    loaded.save(tmp_path / "copy.rvne")
    assert (tmp_path / "copy.rvne").read_bytes() == init_random_blob()
    assert len(init_random_blob()) > 25_000


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.rvne"
    WeightBlob(HEADER, WEIGHTS).save(path)
    before = path.read_bytes()
    with pytest.raises(errors.DtypeError, match="the header says float32"):
        WeightBlob(HEADER, WEIGHTS.astype(np.float16)).save(path)
    with pytest.raises(errors.BlobHeadRatioError):
        WeightBlob(WeightBlobHeader(3, 4, 3, 5, 1, 2), WEIGHTS).save(path)
    with pytest.raises(errors.BlobDimsError, match="65536"):
        WeightBlob(WeightBlobHeader(70_000, 4, 2, 5, 1, 2), WEIGHTS).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.rvne"]


def test_files_that_are_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(errors.FileError, match="No such file"):
        WeightBlob.load(tmp_path / "none.rvne")
    with pytest.raises(errors.FileError, match="a directory"):
        WeightBlob.load(tmp_path)
    with pytest.raises(errors.FileError, match="not a regular file"):
        WeightBlob.load("/dev/zero")
    with pytest.raises(errors.FileError, match=r"none/model\.rvne"):
        WeightBlob(HEADER, WEIGHTS).save(tmp_path / "none" / "model.rvne")


def test_a_buffer_is_needed() -> None:
    with pytest.raises(errors.DtypeError, match="pass bytes"):
        WeightBlobView.parse("text")  # type: ignore[arg-type]
