"""The firmware's head on this machine: its C code through its own interface, what it needs, what it would send."""

from wifi_densepose_temporal.node.agreement import Agreement, agreement
from wifi_densepose_temporal.node.header import c_header
from wifi_densepose_temporal.node.memory import DEFAULT_COLUMNS, Buffer, Fit, fit
from wifi_densepose_temporal.node.node import DEFAULT_WINDOW_LEN, Mode, Node, NodeSizes, self_test
from wifi_densepose_temporal.node.replay import DEFAULT_PERIOD_S, NodeDecision, decision_packet, run_on_node

__all__ = [
    "DEFAULT_COLUMNS",
    "DEFAULT_PERIOD_S",
    "DEFAULT_WINDOW_LEN",
    "Agreement",
    "Buffer",
    "Fit",
    "Mode",
    "Node",
    "NodeDecision",
    "NodeSizes",
    "agreement",
    "c_header",
    "decision_packet",
    "fit",
    "run_on_node",
    "self_test",
]
