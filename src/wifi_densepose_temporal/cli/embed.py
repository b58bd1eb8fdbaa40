"""`wdt embed`: the embeddings of recordings as arrays in a file, by embeddings.py and distributed/embed.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from wifi_densepose_temporal.cli.evaluate import ModelArgument, watched
from wifi_densepose_temporal.cli.output import JsonOption, RateOption, note, print_json, print_line
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.distributed.embed import drop_parts, embed_captures
from wifi_densepose_temporal.embeddings import EmbeddedRecording, captures_in, embed_capture, npz_of
from wifi_densepose_temporal.files import require_new, write_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model, load_model
from wifi_densepose_temporal.timeline import training_note


def embed(
    model: ModelArgument,
    captures: Annotated[
        list[Path],
        typer.Argument(metavar="CAPTURE...", help="CSI recordings in any known format, or folders of them."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.npz", help="Where the arrays go.")],
    window: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Packets of a window; by default the whole recording is one.")
    ] = None,
    rate: RateOption = DEFAULT_RATE_HZ,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Processes that share the work (extra `ray`); continues an interrupted job."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the embeddings of recordings to a NumPy file.

    Each row is one window, embedded as if nothing had come before it. Arrays: embedding [n, E], unit vectors;
    recording [n], the path as given; start_s and end_s [n], seconds since the recording's first packet; source [n];
    model_sha256; trained (true, false or unstated). A recording that cannot be read is an error; with --workers it is
    left out, and said. What --workers has done is kept in .OUT.npz.parts until all is done.
    """
    paths = captures_in(captures)
    require_new(out, [find_model(model), *paths])
    loaded = load_model(model)
    parts = out.with_name(f".{out.name}.parts")
    failed: dict[str, str] = {}
    with watched(len(paths), "embedding") as advance:
        if workers is None:
            made = _one_by_one(loaded, paths, window, rate, advance)
        else:
            job = embed_captures(loaded, paths, parts, workers=workers, packets=window, rate_hz=rate, advance=advance)
            made = job.recordings
            failed = {str(path): why for path, why in job.failed.items()}
    for one in made:
        if one.windows.unavailable:
            note(f"{one.path}: {one.windows.unavailable} windows left out: no packet in them is a measurement")
    for why in failed.values():
        note(f"left out: {why}")
    write_whole(out, npz_of(loaded, made))
    if workers is not None:
        drop_parts(parts)
    _say(loaded, made, failed, out, as_json)


def _one_by_one(
    model: TemporalModel, paths: Sequence[Path], window: int | None, rate: float, advance: Callable[[], None]
) -> tuple[EmbeddedRecording, ...]:
    made = []
    for path in paths:
        made.append(embed_capture(model, path, window, rate))
        advance()
    return tuple(made)


def _say(
    model: TemporalModel, made: Sequence[EmbeddedRecording], failed: dict[str, str], out: Path, as_json: bool
) -> None:
    total = sum(len(one.windows.embedding) for one in made)
    if not as_json:
        without = f", {len(failed)} left out" if failed else ""
        print_line(f"{out}: {total} embeddings of {model.embedding_dim} numbers, of {len(made)} recordings{without}")
        print_line(training_note(model), style="" if model.trained else "yellow")
        return
    note(training_note(model))
    rows = [
        {
            "recording": str(one.path),
            "source": one.source,
            "embeddings": len(one.windows.embedding),
            "unavailable": one.windows.unavailable,
        }
        for one in made
    ]
    document = {
        "source": " and ".join(sorted({one.source for one in made})),
        "model_sha256": model.sha256,
        "trained": model.trained,
        "path": str(out),
        "embeddings": total,
        "embedding_dim": model.embedding_dim,
        "recordings": rows,
        "failed": failed,
    }
    print_json(document)
