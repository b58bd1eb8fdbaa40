"""`wdt capture-info`: what is in a recording, without running anything on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wifi_densepose_temporal.cli.output import (
    CaptureArgument,
    FormatOption,
    JsonOption,
    RateOption,
    print_facts,
    print_json,
)
from wifi_densepose_temporal.csi import Capture, read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ


def capture_info(
    file: CaptureArgument,
    capture_format: FormatOption = None,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Show what a recording holds.

    Format, rate, length, antennas, subcarriers, gaps, damaged lines, signal strength, and what else the file says.
    """
    document = describe(read_capture(file, capture_format, nominal_rate_hz=rate), file)
    if as_json:
        print_json(document)
        return
    print_facts(_for_people(document))


def describe(capture: Capture, file: Path) -> dict[str, object]:
    """The facts of a capture; times in seconds, RSSI in dBm."""
    gaps, index = capture.gaps, capture.subcarriers
    return {
        "source": capture.source,
        "file": file.name,
        "format": capture.format,
        "frames": len(capture),
        "rate_hz": capture.rate_hz,
        "clock": capture.clock,
        "duration_s": float(capture.timestamps.max() - capture.timestamps.min()),
        "backward_steps": int((np.diff(capture.timestamps) < 0).sum()),
        "antennas": capture.amplitude.shape[1],
        "subcarriers": capture.amplitude.shape[2],
        "subcarrier_index": None if index is None else [int(index[0]), int(index[-1])],
        "iq": capture.iq is not None,
        "gaps": len(gaps),
        "longest_gap_s": max((length_s for _, length_s in gaps), default=None),
        "dropped_lines": capture.dropped_lines,
        "rssi_dbm": _range(capture.rssi),
        "chains": None if capture.chain is None else np.unique(capture.chain),
        "metadata": dict(capture.metadata),
    }


def _range(rssi: np.ndarray | None) -> list[float] | None:
    """Lowest and highest, of the packets that have one."""
    known = np.empty(0) if rssi is None else rssi[np.isfinite(rssi)]
    return [float(known.min()), float(known.max())] if known.size else None


def _for_people(facts: dict[str, object]) -> dict[str, object]:
    def number(name: str, form: str) -> str | None:
        return None if facts[name] is None else form.format(facts[name])

    def span(name: str, unit: str = "") -> str:
        ends = facts[name]
        return f"{ends[0]:g} to {ends[1]:g}{unit}" if isinstance(ends, list) else "unknown"

    measured = facts["clock"] == "measured"
    clock = "measured" if measured else "nominal: no usable clock in the file, --rate changes what is assumed"
    if facts["backward_steps"]:
        clock += f"; it steps back {facts['backward_steps']} times"
    content = "I/Q and amplitude" if facts["iq"] else "amplitude only"
    gaps = (
        f"{facts['gaps']}" if not facts["gaps"] else f"{facts['gaps']}, longest {number('longest_gap_s', '{:.3f} s')}"
    )
    shown = {
        "file": facts["file"],
        "source": facts["source"],
        "format": f"{facts['format']} ({content})",
        "frames (packets)": facts["frames"],
        "rate": number("rate_hz", "{:.2f} Hz") or "unknown",
        "clock": clock,
        "duration": number("duration_s", "{:.3f} s"),
        "antennas": facts["antennas"],
        "subcarriers": f"{facts['subcarriers']} (OFDM index {span('subcarrier_index')})",
        "gaps": gaps,
        "dropped lines": facts["dropped_lines"],
        "RSSI": span("rssi_dbm", " dBm"),
    }
    metadata = facts["metadata"]
    return shown | (metadata if isinstance(metadata, dict) else {})
