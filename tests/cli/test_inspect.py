"""`wdt inspect` and `wdt init-random-blob`."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Wdt, make_blob
from wifi_densepose_temporal import FeatureConfig, WeightBlob, WeightBlobHeader, init_random_blob
from wifi_densepose_temporal.models import shipped_models
from wifi_densepose_temporal.rvne import Record
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256


def with_bytes(at: int, content: bytes, records: bytes = b"") -> bytes:
    """The reference blob with some bytes replaced and a records section added, and a right checksum."""
    blob = bytearray(init_random_blob()[:-4])
    blob[at : at + len(content)] = content
    blob += records
    return bytes(blob) + zlib.crc32(blob).to_bytes(4, "little")


# A records section of 8 bytes: tag 999, critical, no payload.
UNKNOWN_CRITICAL = b"\x08\0\0\0" + b"\xe7\x03\x01\0\0\0\0\0"


DAMAGED: dict[str, Callable[[], bytes]] = {
    "too short": lambda: init_random_blob()[:27],
    "magic": lambda: with_bytes(0, b"GGUF"),
    "version": lambda: with_bytes(4, b"\x02"),
    "flags": lambda: with_bytes(6, b"\x80"),
    "length": lambda: init_random_blob() + b"\0",
    "crc": lambda: init_random_blob()[:100] + b"\xff\xff\xff\xff" + init_random_blob()[104:],
    "dims": lambda: with_bytes(8, b"\0\0"),
    "head ratio": lambda: with_bytes(0x0C, b"\x03"),
    "degenerate": lambda: with_bytes(0x12, b"\x01"),
    "record": lambda: with_bytes(6, b"\x02", UNKNOWN_CRITICAL),
}


@pytest.mark.parametrize("check", DAMAGED)
def test_a_damaged_blob_is_refused_by_the_name_of_the_check(wdt: Wdt, tmp_path: Path, check: str) -> None:
    (tmp_path / "m.rvne").write_bytes(DAMAGED[check]())
    for args in ([], ["--json"]):
        assert f"failed check '{check}'" in wdt("inspect", tmp_path / "m.rvne", *args).error_line()


def test_a_missing_blob_is_one_line(wdt: Wdt, tmp_path: Path) -> None:
    wdt("inspect", tmp_path / "missing").error_line()
    wdt("inspect", tmp_path).error_line()


def test_a_shipped_model_goes_by_its_name(wdt: Wdt) -> None:
    for name, path in shipped_models().items():
        document = wdt("inspect", name, "--json").document
        assert document["file"] == path.name
        assert document["model_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert shipped_models()


def test_the_reference_blob_is_described(wdt: Wdt, tmp_path: Path) -> None:
    blob = init_random_blob()
    (tmp_path / "m.rvne").write_bytes(blob)
    document = wdt("inspect", tmp_path / "m.rvne", "--json").document
    assert document["model_sha256"] == REFERENCE_SHA256
    assert int(document["crc32"], 16) == zlib.crc32(blob[:-4])
    assert (document["header"]["input_dim"], document["header"]["weights_bytes"]) == (16, 41216)
    assert (document["model"], document["trained"], document["records"]) == (True, False, [])
    assert [tensor["name"] for tensor in document["tensors"][4:]] == [
        *(f"layer 1 {name}" for name in ("Wq", "Wk", "Wv", "Wo")),
        "Wc",
    ]
    shapes = [tensor["shape"] for tensor in document["tensors"]]
    assert shapes == [[16, 128], [16, 32], [16, 32], [128, 16]] * 2 + [[16, 4]]
    weights = np.frombuffer(blob, "<f4", 16 * 128, 24).astype(np.float64)
    first = document["tensors"][0]
    expected = [weights.min(), weights.max(), weights.mean(), weights.std()]
    assert [first[name] for name in ("min", "max", "mean", "std")] == pytest.approx(expected, rel=1e-12)
    shown = wdt("inspect", tmp_path / "m.rvne").out
    for said in (REFERENCE_SHA256, document["crc32"], "layer 1 Wo", "128x16", "UNTRAINED"):
        assert said in shown


def test_records_are_decoded(wdt: Wdt, tmp_path: Path) -> None:
    facts = {"trained": True, "data": "somewhere"}
    (tmp_path / "m.rvne").write_bytes(make_blob(("sit", "walk"), facts, FeatureConfig(rate_hz=20)))
    document = wdt("inspect", tmp_path / "m.rvne", "--json").document
    found = {record["name"]: record for record in document["records"]}
    assert set(found) == {"class_labels", "provenance", "feature_chain"}
    assert found["class_labels"]["content"] == ["sit", "walk"]
    assert found["provenance"]["content"] == facts
    assert (found["class_labels"]["critical"], found["feature_chain"]["critical"]) == (False, True)
    assert found["feature_chain"]["bytes"] == 20
    assert found["feature_chain"]["content"]["period_us"] == 50_000
    assert (document["trained"], document["provenance"]) == (True, facts)
    shown = wdt("inspect", tmp_path / "m.rvne").out
    assert "walk" in shown
    assert "somewhere" in shown


def test_a_class_that_can_never_win_is_said(wdt: Wdt, tmp_path: Path) -> None:
    header = WeightBlobHeader(4, 1, 1, 2, 1, 2)
    weights = np.ones(header.model_floats(), np.float32)
    WeightBlob(header, weights).save(tmp_path / "m.rvne")
    document = wdt("inspect", tmp_path / "m.rvne", "--json").document
    assert any("class_1" in warning for warning in document["warnings"])
    assert "doubtful" in wdt("inspect", tmp_path / "m.rvne").out


@pytest.mark.parametrize("values", [[1.0, 2.0, 3.0], [np.nan, np.inf], []])
def test_a_container_that_is_no_model_is_shown_with_the_reason(wdt: Wdt, tmp_path: Path, values: list[float]) -> None:
    header = WeightBlobHeader(4, 1, 1, 2, 1, 2)
    unknown = Record(tag=999, payload=b"\x1b[2Jabc", critical=False)
    WeightBlob(header, np.array(values, np.float32), [unknown]).save(tmp_path / "c.rvne")
    ended = wdt("inspect", tmp_path / "c.rvne", "--json")
    assert ended.code == 0
    document = ended.document
    assert document["model"] is False
    assert document["why_not"]
    assert document["trained"] is None
    assert document["tensors"][0]["shape"] == [len(values)]
    assert document["tensors"][0]["non_finite"] == sum(not np.isfinite(value) for value in values)
    assert document["records"][0]["name"] == "unknown"
    shown = wdt("inspect", tmp_path / "c.rvne")
    assert shown.code == 0
    assert "model: no, because" in shown.out
    assert "input dim" in shown.out


def test_a_model_of_very_many_layers_fits_on_a_screen(wdt: Wdt, tmp_path: Path) -> None:
    header = WeightBlobHeader(1, 1, 1, 1, 500, 2)
    WeightBlob(header, np.ones(header.model_floats(), np.float32)).save(tmp_path / "m.rvne")
    assert wdt("inspect", tmp_path / "m.rvne").out.count("\n") < 120
    assert len(wdt("inspect", tmp_path / "m.rvne", "--json").document["tensors"]) == 2001


def test_init_random_blob_writes_the_reference_bytes(wdt: Wdt, tmp_path: Path) -> None:
    path = tmp_path / "ref.rvne"
    ended = wdt("init-random-blob", path)
    assert ended.code == 0
    assert REFERENCE_SHA256 in ended.out
    assert "UNTRAINED" in ended.out
    assert hashlib.sha256(path.read_bytes()).hexdigest() == REFERENCE_SHA256


def test_init_random_blob_replaces_nothing_unless_told(wdt: Wdt, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_bytes(b"years of training")
    assert "--force" in wdt("init-random-blob", path).error_line()
    assert path.read_bytes() == b"years of training"
    document = wdt("init-random-blob", path, "--force", "--json").document
    assert (document["model_sha256"], document["trained"]) == (REFERENCE_SHA256, False)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == REFERENCE_SHA256
    wdt("init-random-blob", tmp_path / "no" / "folder").error_line()
