"""`wdt node quantise`: a model with its weights in int8."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument
from wifi_densepose_temporal.cli.output import JsonOption, print_json, print_line, print_table
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.files import require_new, write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model, read_blob
from wifi_densepose_temporal.node import Agreement, agreement
from wifi_densepose_temporal.rvne import quantise
from wifi_densepose_temporal.timeline import training_note


def node_quantise(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.rvne", help="Where the int8 model goes.")],
    check: Annotated[
        list[Path] | None,
        typer.Option(metavar="CAPTURE", help="Compare the decisions on this recording; may be given more than once."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Round a model's weights to int8: fewer bytes of flash than any other dtype, fewer instructions than float16.

    Nothing is trained. With --check, say on how many frames of a recording both models decide alike, and by how much
    their logits differ at most.
    """
    path, captures = find_model(model), check or []
    require_new(out, [path, *captures])
    blob = read_blob(model)
    before, made = TemporalModel.from_bytes(blob), quantise(blob)
    after = TemporalModel.from_bytes(made)
    read = {str(capture): read_capture(capture) for capture in captures}
    compared = {name: agreement(capture, before, after) for name, capture in read.items()}
    write_whole(out, made)
    if as_json:
        sources = {name: capture.source for name, capture in read.items()}
        print_json(_as_document(out, before, after, (len(blob), len(made)), compared, sources))
        return
    print_line(f"{out}: {len(made)} bytes, made of {len(blob)} in {before.header.dtype}", style="bold")
    if compared:
        rows = [_cells(Path(name).name, found) for name, found in compared.items()]
        print_table(rows, ("capture", "frames", "decided alike", "largest difference", "largest logit"), ("capture",))
    print_line(training_note(after), style="" if after.trained else "yellow")


def _cells(name: str, found: Agreement) -> tuple[object, ...]:
    share = f"{found.alike} ({100 * found.alike / found.frames:.1f} %)"
    return name, found.frames, share, f"{found.largest_difference:.3g}", f"{found.largest_logit:.3g}"


def _as_document(
    out: Path,
    before: TemporalModel,
    after: TemporalModel,
    sizes: tuple[int, int],
    compared: dict[str, Agreement],
    sources: dict[str, str],
) -> dict[str, object]:
    return {
        "path": str(out),
        "model_sha256": after.sha256,
        "trained": after.trained,
        "quantised_from": before.sha256,
        "bytes_before": sizes[0],
        "bytes_after": sizes[1],
        "check": [{"capture": name, "source": sources[name]} | asdict(found) for name, found in compared.items()],
    }
