"""One link out of a capture of several: the packets of the sender that was heard most often.

Every sender reaches the receiver over other paths. A capture is one link: where two senders take turns, the steps
from the one to the other look like motion in a room where nothing moves.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

logger = logging.getLogger(__name__)

Packet = TypeVar("Packet")


def main_sender(packets: Sequence[Packet], address: Callable[[Packet], str]) -> tuple[list[Packet], dict[str, object]]:
    """The packets of the most frequent sender, in their order, and what the metadata says about it.

    Args:
        packets: at least one.
        address: gives a packet's sender.

    Returns:
        the packets; `mac`, `senders` and `other_senders_packets` for the metadata.
    """
    counts = Counter(map(address, packets))
    mac, count = counts.most_common(1)[0]
    others = len(packets) - count
    if others:
        logger.warning(
            "%d packets of %d other senders are left out; those of %s are kept", others, len(counts) - 1, mac
        )
    kept = [packet for packet in packets if address(packet) == mac] if others else list(packets)
    return kept, {"mac": mac, "senders": len(counts), "other_senders_packets": others}
