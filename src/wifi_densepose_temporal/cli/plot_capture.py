"""`wdt plot`: a picture of a recording, without a model. The drawing is in plot.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal import plot
from wifi_densepose_temporal.cli.output import CaptureArgument, FormatOption, JsonOption, print_json, print_line
from wifi_densepose_temporal.csi import read_capture


def plot_capture(
    capture: CaptureArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write: .png, .pdf or .svg.")],
    capture_format: FormatOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a recording.

    Amplitude over time and subcarrier, and motion below it.
    """
    recording = read_capture(capture, capture_format)
    plot.plot_capture(recording, capture.name, out)
    if as_json:
        print_json({"source": recording.source, "path": str(out), "format": recording.format, "frames": len(recording)})
        return
    print_line(f"picture: {out} ({recording.format}, {len(recording)} packets, source {recording.source})")
