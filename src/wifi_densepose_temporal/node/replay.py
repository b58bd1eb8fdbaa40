"""A recording through a node: what it would decide, when, and the packets that it would send.

Frames come from the core's feature chain, which a node runs too; time is the recording's, so that a replay does not
wait. As on a node, a period in which no frame came sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.csi import Frames
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.node.node import Node
from wifi_densepose_temporal.wire import Classification

#: From one decision to the next, the firmware's default and the range that its menuconfig takes.
DEFAULT_PERIOD_S = 1.0
MIN_PERIOD_S, MAX_PERIOD_S = 0.1, 60.0


@dataclass(frozen=True, eq=False)
class NodeDecision:
    """One decision of a node."""

    time_s: float
    """End of the newest frame, seconds since the recording's first packet."""
    frame: int
    """Number of that frame, from 0."""
    label: str
    """Name of the class with the largest logit, as the blob has it."""
    logits: NDArray[np.float32]
    """`[C]`."""
    packet: Classification
    """What goes out by UDP."""


def run_on_node(
    node: Node, frames: Frames, period_s: float = DEFAULT_PERIOD_S, node_id: int = 0
) -> Iterator[NodeDecision]:
    """Pushes the recording's frames into the node, which decides once a period.

    Args:
        node: forgets what it had seen before.
        frames: of the recording, as `timeline.some_frames` makes them by the model's own chain.
        period_s: seconds of the recording from one decision to the next, 0.1 to 60.
        node_id: 0 to 255, of the packets.

    Yields:
        Each decision as it is made.

    Raises:
        ConfigError: a period or a node_id out of its range.
        NodeError: the C code refuses a frame.
    """
    if not MIN_PERIOD_S <= period_s <= MAX_PERIOD_S:
        raise ConfigError(f"period is {period_s} s; expected {MIN_PERIOD_S:g} to {MAX_PERIOD_S:g}")
    node.reset()
    due_s, seq = frames.times_s[0] + period_s, 0
    for number, (values, time_s) in enumerate(zip(frames.values, frames.times_s, strict=True)):
        node.push(values)
        if time_s < due_s:
            continue
        logits = node.classify()
        packet = decision_packet(logits, node_id, round(time_s * 1e6), seq)
        yield NodeDecision(float(time_s), number, node.model.labels[packet.argmax], logits, packet)
        seq += 1
        due_s = (due_s if due_s + period_s > time_s else time_s) + period_s


def decision_packet(logits: NDArray[np.float32], node_id: int, ts_us: int, seq: int) -> Classification:
    """The packet that says what these logits, `[C]`, decide.

    Raises:
        ConfigError: a packet has room for 2 to 256 classes; or a number beyond its field, when it is serialized.
    """
    decided = _core.decide(logits)
    if decided is None:
        raise ConfigError(f"the model has {len(logits)} classes; a packet has room for 2 to 256")
    argmax, top_logit, margin = decided
    return Classification(
        node_id=node_id,
        n_classes=len(logits),
        ts_us=ts_us,
        seq=seq,
        argmax=argmax,
        top_logit=top_logit,
        top1_minus_top2=margin,
    )
