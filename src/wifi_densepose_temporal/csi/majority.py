"""What most packets of a capture agree on, and those packets: one kind, one sender, one receive chain.

A capture is one link of one shape. Every sender reaches the receiver over other paths and every antenna sees other
ones: where two take turns, the steps from the one to the other look like motion in a room where nothing moves.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

Packet = TypeVar("Packet")
Kind = TypeVar("Kind", bound=Hashable)


def majority(packets: Sequence[Packet], kind_of: Callable[[Packet], Kind]) -> tuple[Kind, list[Packet]]:
    """The most frequent kind (of several, the first), and the packets of it, in their order.

    Args:
        packets: at least one.
        kind_of: gives a packet's kind.
    """
    kinds = [kind_of(packet) for packet in packets]
    kind = Counter(kinds).most_common(1)[0][0]
    return kind, [packet for packet, other in zip(packets, kinds, strict=True) if other == kind]


def main_sender(packets: Sequence[Packet], address: Callable[[Packet], str]) -> tuple[list[Packet], dict[str, object]]:
    """The packets of the most frequent sender, in their order, and what the metadata says about it.

    Args:
        packets: at least one.
        address: gives a packet's sender.

    Returns:
        the packets; `mac`, `senders` and `other_senders_packets` for the metadata.
    """
    mac, kept = majority(packets, address)
    senders, others = len(set(map(address, packets))), len(packets) - len(kept)
    if others:
        logger.warning("%d packets of %d other senders are left out; those of %s are kept", others, senders - 1, mac)
    return kept, {"mac": mac, "senders": senders, "other_senders_packets": others}


def main_chain(chain: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Which packets hold the most frequent receive chain (of several, the lowest), bool [T].

    Args:
        chain: int16 [T], the receive chain of each packet.
    """
    chains, counts = np.unique(chain, return_counts=True)
    return np.asarray(chain == chains[counts.argmax()])
