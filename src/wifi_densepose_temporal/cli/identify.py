"""`wdt identify`: whose recording is it. The work is in reid/."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from wifi_densepose_temporal.cli.output import (
    CaptureArgument,
    JsonOption,
    RateOption,
    note,
    print_json,
    print_line,
    print_table,
)
from wifi_densepose_temporal.cli.persons import (
    DEFAULT_GALLERY,
    DEFAULT_REID_MODEL,
    GalleryOption,
    ReidModelOption,
    WindowOption,
    embed_recording,
)
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS
from wifi_densepose_temporal.models import load_model
from wifi_densepose_temporal.timeline import training_note

if TYPE_CHECKING:
    from wifi_densepose_temporal.reid import Identification

UNCALIBRATED = (
    "uncalibrated: this gallery has no threshold, so nobody is recognised and only the nearest person is shown; "
    "set one with wdt gallery calibrate"
)


def identify(
    capture: CaptureArgument,
    gallery: GalleryOption = DEFAULT_GALLERY,
    model: ReidModelOption = DEFAULT_REID_MODEL,
    window: WindowOption = DEFAULT_PACKETS,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Say which enrolled person a recording is of, or that it is none of them.

    The whole recording is one probe: each person's similarity is the mean over its windows, and the nearest person is
    known if that reaches the gallery's threshold. Single windows are shown below.
    """
    from wifi_densepose_temporal.reid import Gallery

    loaded = load_model(model)
    with Gallery.open(gallery, loaded) as opened:
        probe = embed_recording(loaded, capture, window, rate)
        pooled = opened.identify_pooled(probe.embedding, source=probe.source)
        single = opened.identify(probe.embedding, source=probe.source)
    note(training_note(loaded))
    if pooled.decision == "uncalibrated":
        note(UNCALIBRATED)
    if as_json:
        print_json({**_plain(pooled), "windows": [_plain(one) for one in single]})
        return
    print_line(f"{capture.name}: {_sentence(pooled)}", style="bold")
    print_line(f"source {pooled.source}, model {pooled.model_sha256[:12]}")
    rows = [
        (number, one.decision, one.person, one.nearest, _digits(one.similarity), _digits(one.margin))
        for number, one in enumerate(single)
    ]
    columns = ("window", "decision", "person", "nearest", "similarity", "margin")
    print_table(rows, columns, words=("decision", "person", "nearest"))


def _plain(one: Identification) -> dict[str, Any]:
    return dataclasses.asdict(one) | {"margin": one.margin}


def _digits(number: float | None) -> str | None:
    return None if number is None else f"{number:.3f}"


def _sentence(one: Identification) -> str:
    if one.similarity is None:
        return "unavailable: nobody is enrolled, or no window has a direction"
    near = f"nearest is {one.nearest} at {one.similarity:.3f}"
    if one.decision == "uncalibrated":
        return f"uncalibrated; {near}"
    return f"{one.person or 'unknown'} ({near}, threshold {one.threshold:.3f})"
