"""`wdt embed`: the embeddings of recordings as arrays in a file. The work is in evaluation/identity.py."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument, watched
from wifi_densepose_temporal.cli.output import JsonOption, RateOption, note, print_json, print_line
from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.errors import FormatError
from wifi_densepose_temporal.evaluation import WindowEmbeddings, embed_windows
from wifi_densepose_temporal.files import require_new, write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model, load_model
from wifi_densepose_temporal.timeline import training_note

TRAINED = {True: "true", False: "false", None: "unstated"}


def embed(
    model: ModelArgument,
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="CSI recordings in any known format.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.npz", help="Where the arrays go.")],
    window: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Packets of a window; by default the whole recording is one.")
    ] = None,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Write the embeddings of recordings to a NumPy file.

    Each row is one window, embedded as if nothing had come before it. Arrays: embedding [n, E], unit vectors;
    recording [n], the path as given; start_s and end_s [n], seconds since the recording's first packet; source [n];
    model_sha256; trained (true, false or unstated).
    """
    require_new(out, [find_model(model), *captures])
    loaded = load_model(model)
    made, sources = [], []
    with watched(len(captures), "embedding") as advance:
        for path in captures:
            windows, source = _embed(loaded, path, window, rate)
            made.append(windows)
            sources.append(source)
            advance()
    content = io.BytesIO()
    counts = [len(windows.embedding) for windows in made]
    np.savez(
        content,
        embedding=np.concatenate([windows.embedding for windows in made]),
        recording=np.repeat(np.array([str(path) for path in captures]), counts),
        start_s=np.concatenate([windows.start_s for windows in made]),
        end_s=np.concatenate([windows.end_s for windows in made]),
        source=np.repeat(np.array(sources), counts),
        model_sha256=np.array(loaded.sha256),
        trained=np.array(TRAINED[loaded.trained]),
    )
    write_whole(out, content.getvalue())
    _say(loaded, captures, made, sources, out, as_json)


def _embed(model: TemporalModel, path: Path, window: int | None, rate: float) -> tuple[WindowEmbeddings, str]:
    capture = read_capture(path, nominal_rate_hz=rate)
    windows = embed_windows(model, capture, window)
    if not len(windows.embedding):
        raise FormatError(
            f"{path}: unavailable: no {'' if window is None else f'whole window of {window} packets '}"
            f"among its {len(capture)} packets holds a measurement; leave it out, or give a smaller --window"
        )
    if windows.unavailable:
        note(f"{path}: {windows.unavailable} windows left out: no packet in them is a measurement")
    return windows, capture.source


def _say(
    model: TemporalModel,
    captures: list[Path],
    made: list[WindowEmbeddings],
    sources: list[str],
    out: Path,
    as_json: bool,
) -> None:
    total = sum(len(windows.embedding) for windows in made)
    if not as_json:
        print_line(f"{out}: {total} embeddings of {model.embedding_dim} numbers, of {len(captures)} recordings")
        print_line(training_note(model), style="" if model.trained else "yellow")
        return
    note(training_note(model))
    rows = [
        {"recording": str(path), "source": source, "embeddings": len(w.embedding), "unavailable": w.unavailable}
        for path, source, w in zip(captures, sources, made, strict=True)
    ]
    document = {
        "source": " and ".join(sorted(set(sources))),
        "model_sha256": model.sha256,
        "trained": model.trained,
        "path": str(out),
        "embeddings": total,
        "embedding_dim": model.embedding_dim,
        "recordings": rows,
    }
    print_json(document)
