"""`wdt node run`: a recording through the node's C code, and the packets that it would send."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from wifi_densepose_temporal.cli.output import (
    CaptureArgument,
    FormatOption,
    JsonOption,
    RateOption,
    note,
    print_json,
    print_line,
    print_table,
)
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.models import DEFAULT_MODEL, read_blob
from wifi_densepose_temporal.node import DEFAULT_PERIOD_S, DEFAULT_WINDOW_LEN, Mode, Node, NodeDecision, run_on_node
from wifi_densepose_temporal.node.replay import MAX_PERIOD_S, MIN_PERIOD_S
from wifi_densepose_temporal.timeline import data_notes, feature_config, some_frames, training_note

ModelOption = Annotated[
    str, typer.Option("--model", metavar="MODEL", help="A .rvne file, or the name of a shipped model.")
]
WindowOption = Annotated[
    int, typer.Option("--window-len", min=1, metavar="N", help="Frames of the window, as in menuconfig.")
]
ModeOption = Annotated[
    Mode,
    typer.Option(
        "--mode", help="window: exactly the newest N frames, all run at each decision; session: each frame run once."
    ),
]
HalfOption = Annotated[bool, typer.Option("--float16-cache", help="Keep what a stream remembers in float16.")]


def node_run(
    capture: CaptureArgument,
    model: ModelOption = DEFAULT_MODEL,
    capture_format: FormatOption = None,
    rate: RateOption = DEFAULT_RATE_HZ,
    window_len: WindowOption = DEFAULT_WINDOW_LEN,
    mode: ModeOption = "window",
    half: HalfOption = False,
    period: Annotated[
        float,
        typer.Option(min=MIN_PERIOD_S, max=MAX_PERIOD_S, metavar="S", help="Seconds from one decision to the next."),
    ] = DEFAULT_PERIOD_S,
    node_id: Annotated[int, typer.Option(min=0, max=255, help="Of the packets.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run a recording through the node's C code, and print the packets that it would send.

    The code is the firmware's, called through its own interface on this machine, in the recording's time.
    """
    recording = read_capture(capture, capture_format, nominal_rate_hz=rate)
    node = Node(read_blob(model), window_len, mode, "float16" if half else "float32")
    config, stated = feature_config(node.model)
    frames = some_frames(recording, config)
    decisions = list(run_on_node(node, frames, period, node_id))
    notes = [training_note(node.model), *data_notes(recording, frames, config, stated)]
    if not node.features_bytes(recording.amplitude.shape[2]):
        notes.append("A node cannot make these frames itself: the blob's chain does not fit its packets of this shape.")
    if as_json:
        for text in notes:
            note(text)
        print_json(
            {
                "source": recording.source,
                "model_sha256": node.model.sha256,
                "trained": node.model.trained,
                "note": " ".join(notes),
                "mode": node.mode,
                "window_len": node.window_len,
                "heap_bytes": node.sizes.total,
                "decisions": [_as_document(decision) for decision in decisions],
            }
        )
        return
    print_line(f"{capture.name}: {recording.format}, {len(recording)} packets", style="bold")
    print_line(
        f"source {recording.source}, model {node.model.sha256[:12]}, {node.mode} of {node.window_len} frames, "
        f"{node.sizes.total} bytes of heap on this machine"
    )
    rows = [_cells(decision) for decision in decisions]
    print_table(rows, ("time s", "frame", "seq", "label", "top logit", "margin"), words=("label",))
    for decision in decisions:
        print_line(decision.packet.serialize().hex())
    if not rows:
        print_line(f"unavailable: the recording ends before the first decision, after {period:g} s")
    for text in notes:
        print_line(text, style="" if node.model.trained else "yellow")


def _cells(decision: NodeDecision) -> tuple[object, ...]:
    packet = decision.packet
    numbers = (f"{packet.top_logit:.3f}", f"{packet.top1_minus_top2:.3f}")
    return (f"{decision.time_s:.2f}", decision.frame, packet.seq, decision.label, *numbers)


def _as_document(decision: NodeDecision) -> dict[str, object]:
    return {
        "time_s": decision.time_s,
        "frame": decision.frame,
        "label": decision.label,
        "logits": np.asarray(decision.logits),
        "seq": decision.packet.seq,
        "packet": decision.packet.serialize().hex(),
    }
