"""The packets that a node sends and takes, from bytes and to bytes. docs/wire.md has their tables.

The C core (`core/include/wdt_wire.h`) knows where each field lies, parses and writes; this file adds types and errors
in sentences. Everything that comes out of `parse_packet` was checked; the bytes may come from anyone.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import ConfigError, DtypeError, PacketError, ShapeError
from wifi_densepose_temporal.rvne.blob import as_bytes

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on

DEFAULT_PORT = _core.WIRE_DEFAULT_PORT

_KINDS = {number: name for name, number in _core.WIRE_KINDS.items()}
_RANGES = {"u8": (0, 2**8 - 1), "u16": (0, 2**16 - 1), "u32": (0, 2**32 - 1), "u64": (0, 2**64 - 1), "i8": (-128, 127)}

# Sentences for what the core refuses; {field} is the name of the number at the offset that was found.
_REFUSALS: dict[int, str] = {
    _core.WireStatus.TOO_SHORT: "{found} bytes; expected at least {expected}: was it cut?",
    _core.WireStatus.VERSION: "version {found}; expected {expected}: update this package",
    _core.WireStatus.ANTENNAS: "{found} antennas; expected at least {expected}",
    _core.WireStatus.SUBCARRIERS: "{found} subcarriers; expected 1 to {expected}",
    _core.WireStatus.LENGTH: "{found} bytes; expected exactly {expected}, as its fields say",
    _core.WireStatus.CRC: "its CRC-32 is {found:08X}, that of its bytes {expected:08X}: damaged on its way",
    _core.WireStatus.RESERVED: "the reserved byte at {found} is not {expected}: a later version's?",
    _core.WireStatus.NON_FINITE: "{field} is NaN or infinite; expected a finite number",
    _core.WireStatus.CLASSES: "{found} classes; expected at least {expected}",
    _core.WireStatus.ARGMAX: "argmax is {found}; expected less than {expected}, its number of classes",
    _core.WireStatus.MARGIN: "top1_minus_top2 is below zero; expected the largest logit minus another",
}


@dataclass(frozen=True, eq=False)
class RawCsi:
    """0xC5110001: one packet's channel state, as the node's driver gave it.

    Attributes:
        node_id, seq: which node, and its counter of packets, which wraps at 2^32.
        iq: int8 `[antennas, subcarriers, 2]`. What comes first of a pair, and the order of the subcarriers, are the
            sender's: an ESP32 puts the imaginary part first, and subcarriers 0 to 31 before -32 to -1.
        frequency_mhz: of the channel; 0 where it is not stated. In packets it comes in Hz too.
        rssi_dbm, noise_floor_dbm: 0 where they are not stated.
    """

    node_id: int
    seq: int
    iq: NDArray[np.int8]
    frequency_mhz: int = 0
    rssi_dbm: int = 0
    noise_floor_dbm: int = 0

    def serialize(self) -> bytes:
        """The packet's bytes; the errors are those of `raw_csi_packet`."""
        iq = self.iq
        if not isinstance(iq, np.ndarray) or iq.dtype != np.int8:
            given = iq.dtype if isinstance(iq, np.ndarray) else type(iq).__name__
            raise DtypeError(f"iq is {given}; expected a numpy.ndarray of int8: a packet has a byte for each number")
        most = _core.WIRE_MAX_SUBCARRIERS
        if iq.ndim != 3 or iq.shape[2] != 2 or not 1 <= iq.shape[0] <= 255 or not 1 <= iq.shape[1] <= most:
            raise ShapeError(
                f"iq has shape {iq.shape}; expected [antennas, subcarriers, 2] with 1 to 255 and 1 to {most} of them"
            )
        if isinstance(self.frequency_mhz, int) and self.frequency_mhz >= 1_000_000:
            raise ConfigError(f"frequency_mhz is {self.frequency_mhz}; a packet's reader would take it for hertz")
        values = {name: value for name, value in vars(self).items() if name != "iq"}
        fields = _fields("raw_csi", values | {"antennas": iq.shape[0], "subcarriers": iq.shape[1]})
        return _core.write_raw_csi(fields, np.ascontiguousarray(iq))


@dataclass(frozen=True)
class FeatureState:
    """0xC5110006: what a node measured of vital signs and motion over its last interval. Scores are the node's own."""

    node_id: int
    mode: int
    seq: int
    ts_us: int
    motion_score: float
    presence_score: float
    respiration_bpm: float
    respiration_conf: float
    heartbeat_bpm: float
    heartbeat_conf: float
    anomaly_score: float
    env_shift_score: float
    node_coherence: float
    quality_flags: int

    def serialize(self) -> bytes:
        """The packet's bytes.

        Raises:
            ConfigError: a number beyond its field.
            PacketError: what `parse_packet` would refuse.
        """
        return _checked(_core.write_feature_state(_fields("feature_state", vars(self))))


@dataclass(frozen=True)
class Classification:
    """0xC5110007: what a node's model decided.

    Attributes:
        node_id, seq: which node, and its counter of these packets, which wraps at 2^32.
        n_classes: of the model; `argmax` is below it.
        ts_us: the node's clock, microseconds.
        top_logit, top1_minus_top2: the largest logit, and by how much it is larger than the next.
    """

    node_id: int
    n_classes: int
    ts_us: int
    seq: int
    argmax: int
    top_logit: float
    top1_minus_top2: float

    def serialize(self) -> bytes:
        """The packet's bytes.

        Raises:
            ConfigError: a number beyond its field.
            PacketError: what `parse_packet` would refuse.
        """
        return _checked(_core.write_classification(_fields("classification", vars(self))))


@dataclass(frozen=True)
class OtherPacket:
    """A packet of a kind that is known and not read: to be counted and skipped. Only its magic was looked at.

    Attributes:
        kind: ``"vitals"``, ``"feature_vector"``, ``"fused_vitals"`` or ``"compressed_csi"``.
        length: its bytes.
    """

    kind: str
    length: int


Packet = RawCsi | FeatureState | Classification | OtherPacket


def parse_packet(data: Buffer) -> Packet:
    """Reads one datagram.

    Args:
        data: the datagram, whole; what comes out shares no memory with it.

    Raises:
        PacketError: no packet of a node, or one that is cut, damaged, or says what cannot be; the message says what was
            found and what was expected.
        DtypeError: `data` is no buffer.
    """
    content = as_bytes(data)
    number, status, fields, found, expected = _core.parse_packet(content)
    kind = _KINDS.get(number)
    if kind is None:
        start = content[:4].tobytes()[::-1].hex().upper()
        raise PacketError(
            f"{content.size} bytes that start with {start or 'nothing'}; expected a node's packet, which starts with "
            f"{_core.WIRE_MAGIC + min(_KINDS):08X} to {_core.WIRE_MAGIC + max(_KINDS):08X}, little-endian"
        )
    if status != _core.WireStatus.OK:
        field = next((name for name, _, at in _core.WIRE_FIELDS[kind] if at == found), "")
        sentence = _REFUSALS[status].format(found=found, expected=expected, field=field)
        raise PacketError(f"a {kind} packet: {sentence}")
    if fields is None:
        return OtherPacket(kind, content.size)
    return _packet(kind, fields)


def raw_csi_packet(
    iq: NDArray[np.int8],
    *,
    node_id: int,
    seq: int,
    frequency_mhz: int = 0,
    rssi_dbm: int = 0,
    noise_floor_dbm: int = 0,
) -> bytes:
    """The bytes of a 0xC5110001 packet; the arguments are the attributes of `RawCsi`.

    Raises:
        ConfigError: a number beyond its field.
        DtypeError: `iq` is not int8.
        ShapeError: `iq` is not `[antennas, subcarriers, 2]`, or has more of them than a packet can say.
    """
    return RawCsi(node_id, seq, iq, frequency_mhz, rssi_dbm, noise_floor_dbm).serialize()


def _packet(kind: str, fields: dict[str, Any]) -> Packet:
    if kind == "feature_state":
        return FeatureState(**fields)
    if kind == "classification":
        return Classification(**fields)
    taken = {field.name for field in dataclasses.fields(RawCsi)}
    return RawCsi(**{name: value for name, value in fields.items() if name in taken})


def _fields(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the core's types, none beyond its field."""
    fields: dict[str, Any] = {}
    for name, form, _ in _core.WIRE_FIELDS[kind]:
        value = values[name]
        try:
            fields[name] = float(value) if form == "f32" else operator.index(value)
        except (TypeError, ValueError, OverflowError):
            wanted = "a number" if form == "f32" else "a whole number"
            raise ConfigError(f"{name} is {value!r}; expected {wanted}") from None
        if form != "f32" and not _RANGES[form][0] <= fields[name] <= _RANGES[form][1]:
            raise ConfigError(f"{name} is {value}; expected {_RANGES[form][0]} to {_RANGES[form][1]}")
    return fields


def _checked(packet: bytes) -> bytes:
    parse_packet(packet)
    return packet
