"""`wdt node send`: a recording as the packets of a node, over UDP. The playing is in node/send.py."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from wifi_densepose_temporal.cli.output import CaptureArgument, FormatOption, RateOption, note, print_line
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.node.send import DEFAULT_HOST, DEFAULT_PORT, packets_of, play
from wifi_densepose_temporal.timeline import clock_notes


def node_send(
    capture: CaptureArgument,
    port: Annotated[int, typer.Option(min=1, max=65535, metavar="P", help="UDP port to send to.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option(metavar="H", help="An address of this machine.")] = DEFAULT_HOST,
    node_id: Annotated[
        int, typer.Option(min=0, max=255, metavar="N", help="The node that packets say they are of.")
    ] = 1,
    speed: Annotated[float, typer.Option(metavar="X", help="So many times faster than it was recorded.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="The first N packets alone.")] = None,
    capture_format: FormatOption = None,
    rate: RateOption = DEFAULT_RATE_HZ,
) -> None:
    """Play a recording as a node's raw CSI packets (0xC5110001) to a UDP port of this machine.

    Each packet goes out at its time in the recording. The recording needs I/Q, as an ESP32's has. Ctrl-C ends it early.
    """
    recording = read_capture(capture, capture_format, nominal_rate_hz=rate)
    packets = packets_of(recording, node_id, limit)
    sending = play(packets, recording.timestamps[: len(packets)], port, host, speed)
    for text in clock_notes(recording):
        note(text)
    name, sent, of_all = capture.name, 0, len(packets)
    to = f"{host} port {port}"
    try:
        with _progress() as progress:
            task = progress.add_task(f"to {to}", total=of_all)
            for sent in sending:
                progress.update(task, completed=sent)
    except KeyboardInterrupt:
        print_line(f"{name}: {sent} of {of_all} packets sent to {to}")
        raise
    print_line(f"{name}: {sent} packets of {len(packets[0])} bytes sent to {to}")


def _progress() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
