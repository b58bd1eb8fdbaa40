"""Packets of a node: every field's bytes, one refusal a cause in the stated order, and hostile bytes."""

from __future__ import annotations

import dataclasses
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wifi_densepose_temporal import _core, errors
from wifi_densepose_temporal.errors import PacketError
from wifi_densepose_temporal.wire import (
    Classification,
    FeatureState,
    OtherPacket,
    RawCsi,
    parse_packet,
    raw_csi_packet,
)

# The tables of docs/wire.md, written out once more by hand.
IQ = np.array([[[1, -2], [3, -128], [127, 0]], [[5, 6], [-7, 8], [9, -10]]], np.int8)


def raw_csi(
    magic: int = 0xC5110001,
    node_id: int = 7,
    antennas: int = 2,
    subcarriers: int = 3,
    frequency: int = 2437,
    seq: int = 0xFFFFFFFE,
    rssi: int = -41,
    noise: int = -93,
    reserved: int = 0,
    iq: bytes = IQ.tobytes(),
) -> bytes:
    return struct.pack("<IBBHIIbbH", magic, node_id, antennas, subcarriers, frequency, seq, rssi, noise, reserved) + iq


def sealed(body: bytes, crc: int | None = None) -> bytes:
    return body + struct.pack("<I", zlib.crc32(body) if crc is None else crc)


NINE = (0.5, 0.25, 14.5, 0.75, 68.0, 0.125, -1.5, 2.5, 0.875)


def feature_state(
    magic: int = 0xC5110006,
    seq: int = 0xFFFE,
    nine: tuple[float, ...] = NINE,
    reserved: int = 0,
    crc: int | None = None,
    more: bytes = b"",
) -> bytes:
    body = struct.pack("<IBBHQ9fHH", magic, 7, 2, seq, 0x0102030405060708, *nine, 0x8001, reserved)
    return sealed(body, crc) + more


def classification(
    magic: int = 0xC5110007,
    version: int = 1,
    n_classes: int = 4,
    reserved: int = 0,
    argmax: int = 3,
    reserved_too: int = 0,
    logit: float = 1.5,
    margin: float = 0.25,
    crc: int | None = None,
    more: bytes = b"",
) -> bytes:
    body = struct.pack("<IHHB", magic, version, n_classes, 7) + reserved.to_bytes(3, "little")
    body += struct.pack("<QIB", 2**64 - 1, 2**32 - 2, argmax) + reserved_too.to_bytes(3, "little")
    return sealed(body + struct.pack("<ff", logit, margin), crc) + more


def same(a: Any, b: Any) -> bool:
    pairs = [(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)]
    return type(a) is type(b) and all(np.array_equal(x, y) for x, y in pairs)


PAGE = (Path(__file__).parents[1] / "docs" / "wire.md").read_text()

# ---------------------------------------------------------------------------------------------------------- the bytes


def test_raw_csi_is_the_tables() -> None:
    packet = parse_packet(raw_csi())
    assert isinstance(packet, RawCsi)
    assert same(packet, RawCsi(7, 0xFFFFFFFE, IQ, 2437, -41, -93))
    assert packet.iq.dtype == np.int8
    assert packet.serialize() == raw_csi()
    assert len(raw_csi()) == 20 + 2 * 2 * 3
    arguments = {"frequency_mhz": 2437, "rssi_dbm": -41, "noise_floor_dbm": -93}
    assert raw_csi_packet(IQ, node_id=7, seq=0xFFFFFFFE, **arguments) == raw_csi()


def test_feature_state_is_the_tables() -> None:
    packet = parse_packet(feature_state())
    assert packet == FeatureState(7, 2, 0xFFFE, 0x0102030405060708, *NINE, 0x8001)
    assert packet.serialize() == feature_state()
    assert len(feature_state()) == 60


def test_classification_is_the_tables() -> None:
    packet = parse_packet(classification())
    assert packet == Classification(7, 4, 2**64 - 1, 2**32 - 2, 3, 1.5, 0.25)
    assert packet.serialize() == classification()
    assert len(classification()) == 40


@pytest.mark.parametrize(
    ("sent", "mhz"),
    [
        (0, 0),
        (2412, 2412),
        (5825, 5825),
        (999_999, 999_999),
        (2_412_000_000, 2412),
        (2_483_499_999, 2483),
        (2_483_500_000, 2484),
        (2**32 - 1, 4295),
    ],
)
def test_frequency_is_taken_in_mhz_and_in_hz(sent: int, mhz: int) -> None:
    packet = parse_packet(raw_csi(frequency=sent))
    assert isinstance(packet, RawCsi)
    assert packet.frequency_mhz == mhz


def test_flags_in_the_reserved_bytes_of_raw_csi_cost_no_packet() -> None:
    assert same(parse_packet(raw_csi(reserved=0x3105)), parse_packet(raw_csi()))


@pytest.mark.parametrize(
    ("number", "kind"), [(2, "vitals"), (3, "feature_vector"), (4, "fused_vitals"), (5, "compressed_csi")]
)
def test_other_known_kinds_are_named_whatever_they_hold(number: int, kind: str) -> None:
    magic = struct.pack("<I", 0xC5110000 + number)
    assert parse_packet(magic) == OtherPacket(kind, 4)
    assert parse_packet(magic + b"\xff" * 28) == OtherPacket(kind, 32)


def test_fields_are_those_of_the_core() -> None:
    """So that none can be added in one place alone."""
    for name, kind in {"feature_state": FeatureState, "classification": Classification}.items():
        assert {field.name for field in dataclasses.fields(kind)} == {field for field, _, _ in _core.WIRE_FIELDS[name]}
    of_raw = {field for field, _, _ in _core.WIRE_FIELDS["raw_csi"]}
    assert {field.name for field in dataclasses.fields(RawCsi)} == of_raw - {"antennas", "subcarriers"} | {"iq"}


def test_tables_of_the_page_are_the_cores() -> None:
    sections = re.findall(r"^## 0xC511000\d: (.+?)\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in sections] == ["raw CSI", "feature state", "classification"]
    for name, text in sections:
        rows = re.findall(r"^\| (\d+) \| (\w+) \| (\w+) \|", text, re.MULTILINE)
        listed = [(field, form, int(at)) for at, form, field in rows]
        fields = list(_core.WIRE_FIELDS[name.replace(" ", "_").lower()])
        assert [row for row in listed if row[0] not in ("magic", "version", "iq", "crc32")] == fields


def test_threats_of_the_page_name_tests_that_exist() -> None:
    root = Path(__file__).parents[1]
    sources = "".join(path.read_text() for path in (root / "tests").rglob("test_*") if path.suffix in (".c", ".py"))
    table = PAGE[PAGE.index("## Threats") : PAGE.index("## Fuzzing")]
    named = [name for row in re.findall(r"\| ([^|\n]+) \|\n", table) for name in re.findall(r"`([^`]+)`", row)]
    assert len(named) >= 10
    for name in named:
        assert name in sources or (root / name).exists(), name


def test_the_example_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})


def test_what_comes_out_shares_no_memory_with_the_datagram() -> None:
    buffer = bytearray(raw_csi())
    packet = parse_packet(buffer)
    buffer[:] = bytes(len(buffer))
    assert same(packet, parse_packet(raw_csi()))


# ----------------------------------------------------------------------------------------------------------- refusals

NAN, INFINITY = float("nan"), float("inf")
REFUSALS = {
    "empty": (b"", "0 bytes"),
    "half a magic": (b"\x01\x00\x11", "3 bytes that start with 110001"),
    "foreign": (struct.pack("<I", 0xC5110008) + bytes(60), "start with C5110008"),
    "below the kinds": (struct.pack("<I", 0xC5110000) + bytes(60), "start with C5110000"),
    "big-endian": (raw_csi()[3::-1] + raw_csi()[4:], "start with 010011C5"),
    "raw: header cut": (raw_csi()[:19], "19 bytes; expected at least 20"),
    "raw: no antenna": (raw_csi(antennas=0, subcarriers=0), "0 antennas; expected at least 1"),
    "raw: no subcarrier": (raw_csi(subcarriers=0), "0 subcarriers; expected 1 to 512"),
    "raw: too many subcarriers": (raw_csi(subcarriers=513, iq=bytes(2052)), "513 subcarriers; expected 1 to 512"),
    "raw: cut": (raw_csi()[:-1], "31 bytes; expected exactly 32"),
    "raw: too long": (raw_csi() + b"\0", "33 bytes; expected exactly 32"),
    "raw: states more than there is": (raw_csi(antennas=255, subcarriers=512), "exactly 261140"),
    "state: cut": (feature_state()[:-1], "59 bytes; expected at least 60"),
    "state: too long": (feature_state(more=b"\0"), "61 bytes; expected exactly 60"),
    "state: checksum": (feature_state(crc=0x12345678), "CRC-32 is 12345678"),
    "state: reserved": (feature_state(reserved=0x0100), "reserved byte at 55"),
    "state: NaN": (feature_state(nine=(*NINE[:4], NAN, *NINE[5:])), "heartbeat_bpm is NaN or infinite"),
    "state: infinity": (feature_state(nine=(*NINE[:8], -INFINITY)), "node_coherence is NaN or infinite"),
    "class: cut": (classification()[:39], "39 bytes; expected at least 40"),
    "class: version": (classification(version=2), "version 2; expected 1"),
    "class: too long": (classification(more=b"\0"), "41 bytes; expected exactly 40"),
    "class: checksum": (classification(crc=0), "CRC-32 is 00000000"),
    "class: reserved": (classification(reserved=1), "reserved byte at 9"),
    "class: reserved too": (classification(reserved_too=1 << 16), "reserved byte at 27"),
    "class: NaN": (classification(logit=NAN), "top_logit is NaN or infinite"),
    "class: infinity": (classification(margin=INFINITY), "top1_minus_top2 is NaN or infinite"),
    "class: one class": (classification(n_classes=1, argmax=0), "1 classes; expected at least 2"),
    "class: argmax": (classification(argmax=4), "argmax is 4; expected less than 4"),
    "class: margin": (classification(margin=-0.25), "top1_minus_top2 is below zero"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_each_cause_has_a_sentence_with_what_was_found(name: str) -> None:
    content, said = REFUSALS[name]
    with pytest.raises(PacketError) as refused:
        parse_packet(content)
    assert said in str(refused.value)


def test_every_refusal_of_the_core_is_tried_above() -> None:
    def status(content: bytes) -> int:
        return int(_core.parse_packet(np.frombuffer(content, np.uint8))[1])

    # MAGIC is what a parse function says of another kind's packet; parse_packet asks for the kind first.
    assert {status(content) for content, _ in REFUSALS.values()} == set(_core.WireStatus) - {_core.WireStatus.MAGIC}


def test_of_several_causes_the_first_in_the_stated_order_is_told() -> None:
    wrong: dict[str, Any] = {
        "version": 9,
        "more": b"\0",
        "crc": 1,
        "reserved": 1,
        "logit": NAN,
        "n_classes": 0,
        "argmax": 9,
        "margin": -1.0,
    }
    right = {"version": 1, "more": b"", "crc": None, "reserved": 0, "logit": 0.0, "n_classes": 4, "argmax": 0}
    for field, said in {
        "version": "version 9",
        "more": "41 bytes",
        "crc": "CRC-32",
        "reserved": "reserved",
        "logit": "top_logit",
        "n_classes": "0 classes",
        "argmax": "argmax is 9",
        "margin": "below zero",
    }.items():
        with pytest.raises(PacketError, match=said):
            parse_packet(classification(**wrong))
        if field in right:
            wrong[field] = right[field]


@pytest.mark.parametrize("name", ["node_id", "seq", "frequency_mhz", "rssi_dbm", "noise_floor_dbm"])
@pytest.mark.parametrize("value", [2**64, -129, 1.5, "7", None])
def test_a_number_that_its_field_does_not_hold_is_refused_by_name(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"node_id": 1, "seq": 1, name: value}
    with pytest.raises(errors.ConfigError, match=f"{name} is"):
        raw_csi_packet(IQ, **arguments)


def test_iq_that_is_no_packets_is_refused() -> None:
    for iq in (IQ.astype(np.int16), IQ.astype(np.float32), IQ.tolist()):
        with pytest.raises(errors.DtypeError, match="int8"):
            raw_csi_packet(iq, node_id=1, seq=1)
    for shape in ((6, 2), (0, 3, 2), (256, 3, 2), (1, 0, 2), (1, 513, 2), (1, 3, 1)):
        with pytest.raises(errors.ShapeError, match="antennas, subcarriers, 2"):
            raw_csi_packet(np.zeros(shape, np.int8), node_id=1, seq=1)


def test_what_would_be_refused_is_not_written() -> None:
    packet = parse_packet(classification())
    assert isinstance(packet, Classification)
    for change in ({"argmax": 4}, {"top_logit": 1e300}, {"top1_minus_top2": -1.0}, {"n_classes": 1}):
        with pytest.raises(PacketError):
            dataclasses.replace(packet, **change).serialize()


# ------------------------------------------------------------------------------------------------------- round trips

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
i8 = st.integers(-128, 127)
f32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
raw_packets = st.builds(
    lambda iq, a, k, **fields: RawCsi(iq=np.resize(np.frombuffer(iq, np.int8), (a, k, 2)), **fields),
    st.binary(min_size=1, max_size=64),
    st.integers(1, 255),
    st.integers(1, 512),
    node_id=u8,
    seq=u32,
    frequency_mhz=st.integers(0, 999_999),
    rssi_dbm=i8,
    noise_floor_dbm=i8,
)
states = st.builds(FeatureState, u8, u8, u16, u64, *[f32] * 9, u16)
classifications = st.builds(
    lambda n, **fields: Classification(n_classes=n, **fields),
    st.integers(256, 2**16 - 1),
    node_id=u8,
    ts_us=u64,
    seq=u32,
    argmax=u8,
    top_logit=f32,
    top1_minus_top2=f32.map(abs),
)


@given(raw_packets | states | classifications)
def test_what_is_written_is_read_back(packet: Any) -> None:
    assert same(parse_packet(packet.serialize()), packet)


@given(st.binary(max_size=80), st.sampled_from([b"", *(struct.pack("<I", 0xC5110000 + n) for n in range(9))]))
def test_random_bytes_are_a_packet_or_a_packet_error(content: bytes, magic: bytes) -> None:
    try:
        packet = parse_packet(magic + content)
    except PacketError:
        return
    assert isinstance(packet, RawCsi | OtherPacket)


@given(st.sampled_from([feature_state(), classification()]), st.data())
def test_sealed_mutations_are_read_as_they_stand_or_refused(good: bytes, data: st.DataObject) -> None:
    body = bytearray(good[:-4])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(4, len(body) - 1))] = data.draw(u8)
    mutated = sealed(bytes(body))
    try:
        packet = parse_packet(mutated)
    except PacketError:
        return
    assert not isinstance(packet, OtherPacket)
    assert packet.serialize() == mutated
