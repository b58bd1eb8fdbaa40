"""`wdt plot`: a picture of a recording, without a model. The drawing is in plot.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal import plot
from wifi_densepose_temporal.cli.output import (
    CaptureArgument,
    FormatOption,
    JsonOption,
    RateOption,
    print_json,
    print_line,
)
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ


def plot_capture(
    capture: CaptureArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="The picture to write: .png, .pdf or .svg.")],
    capture_format: FormatOption = None,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Draw a recording.

    Amplitude over time and subcarrier, and motion below it.
    """
    recording = read_capture(capture, capture_format, nominal_rate_hz=rate)
    plot.plot_capture(recording, capture.name, out)
    if as_json:
        print_json({"source": recording.source, "path": str(out), "format": recording.format, "frames": len(recording)})
        return
    print_line(f"picture: {out} ({recording.format}, {len(recording)} packets, source {recording.source})")
