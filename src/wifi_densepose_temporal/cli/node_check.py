"""`wdt node check`: would a model fit a chip, buffer by buffer."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument
from wifi_densepose_temporal.cli.node_run import HalfOption, ModeOption, WindowOption
from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table
from wifi_densepose_temporal.models import read_blob
from wifi_densepose_temporal.node import DEFAULT_COLUMNS, DEFAULT_WINDOW_LEN, Fit, fit
from wifi_densepose_temporal.timeline import training_note

_UNITS = {"": 1, "K": 1024, "M": 1024 * 1024}
_DOES_NOT_FIT = 1


def as_bytes(text: str) -> int:
    """Bytes of a text such as 64K.

    Raises:
        typer.BadParameter: it is no such text.
    """
    match = re.fullmatch(r"(\d{1,12})([KM]?)", text.strip().upper())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no number of bytes; expected one such as 65536, 64K or 1M")
    return int(match[1]) * _UNITS[match[2]]


def node_check(
    model: ModelArgument,
    heap: Annotated[
        int, typer.Option(parser=as_bytes, metavar="BYTES", help="What the chip has to give, such as 64K.")
    ],
    window_len: WindowOption = DEFAULT_WINDOW_LEN,
    mode: ModeOption = "window",
    half: HalfOption = False,
    columns: Annotated[int, typer.Option(min=1, max=512, help="Of a packet.")] = DEFAULT_COLUMNS,
    as_json: JsonOption = False,
) -> None:
    """Say whether a model fits a chip's memory, and what needs it.

    Heap and static memory count against --heap; the blob in flash does not, nor what a project has of its own. Exit
    code 1 if it does not fit, or if menuconfig does not take its sizes. Figures are of the firmware's own size function
    on this machine; a chip, with smaller pointers, needs a little less.
    """
    found = fit(read_blob(model), window_len, mode, "float16" if half else "float32", columns)
    needed = found.total("heap", "static")
    fits = needed <= heap and not found.limits
    if as_json:
        print_json(_as_document(found, needed, heap, fits))
    else:
        rows = [(buffer.name, buffer.where, buffer.bytes) for buffer in found.buffers]
        print_table(rows, ("buffer", "where", "bytes"), words=("buffer", "where"))
        verdict = (
            f"fits: {heap - needed} bytes are left" if needed <= heap else f"does not fit: {needed - heap} too many"
        )
        print_line(f"{needed} of {heap} bytes: {verdict}", style="bold")
        for sentence in found.limits:
            print_line(f"does not fit: {sentence}", style="bold")
        if needed > heap:
            print_line("A shorter --window-len, --float16-cache or another model needs less.")
        print_line(training_note(found.model), style="" if found.model.trained else "yellow")
    raise typer.Exit(0 if fits else _DOES_NOT_FIT)


def _as_document(found: Fit, needed: int, heap: int, fits: bool) -> dict[str, object]:
    return {
        "model_sha256": found.model.sha256,
        "trained": found.model.trained,
        "mode": found.mode,
        "window_len": found.window_len,
        "buffers": [vars(buffer) for buffer in found.buffers],
        "needed_bytes": needed,
        "heap_bytes": heap,
        "limits": list(found.limits),
        "fits": fits,
    }
