"""A classification packet (0xC5110007) by the byte table of the contract, and by nothing of the package."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple


class ReferencePacket(NamedTuple):
    """The fields in their order; magic, version and checksum are right, and reserved bytes 0."""

    n_classes: int
    node_id: int
    ts_us: int
    seq: int
    argmax: int
    top_logit: float
    margin: float

    @classmethod
    def decode(cls, packet: bytes) -> ReferencePacket:
        magic, version, *fields, crc = struct.unpack("<IHHB3xQIB3xffI", packet)
        assert (magic, version, crc) == (0xC5110007, 1, zlib.crc32(packet[:-4]))
        assert packet[9:12] == packet[25:28] == bytes(3)
        return cls(*fields)
