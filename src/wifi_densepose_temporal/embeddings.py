"""What `wdt embed` does: recordings in, the embeddings of their windows as arrays of one NumPy file out.

One recording after the other; distributed/embed.py does the same for many at once.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wifi_densepose_temporal.csi import read_capture
from wifi_densepose_temporal.errors import FileError, FormatError
from wifi_densepose_temporal.evaluation import WindowEmbeddings, embed_windows
from wifi_densepose_temporal.model import TemporalModel

TRAINED = {True: "true", False: "false", None: "unstated"}


@dataclass(frozen=True, eq=False)
class EmbeddedRecording:
    """A recording's windows."""

    path: Path
    """As given."""
    windows: WindowEmbeddings
    source: str
    """What the capture says of itself, such as `"replay"`."""


def captures_in(paths: Iterable[Path]) -> list[Path]:
    """The paths, with every folder's files in its place: at any depth, in the order of their names, no hidden ones.

    Raises:
        FileError: a folder without a file, or one that cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = sorted(file for file in path.rglob("[!.]*") if file.is_file() and not _is_hidden(file, path))
        if not files:
            raise FileError(f"{path} is a folder without a file in it that can be seen; give a folder of captures")
        found.extend(files)
    return found


def _is_hidden(file: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(below).parts)


def embed_capture(
    model: TemporalModel, path: str | os.PathLike[str], packets: int | None, rate_hz: float
) -> EmbeddedRecording:
    """Reads a capture and embeds its windows, at least one.

    Args:
        model: gives the embeddings.
        path: of the capture.
        packets: length of a window; None: the whole recording is one.
        rate_hz: packets a second to assume where the file has no clock.

    Raises:
        FileError, FormatError, MemoryLimitError, ConfigError: as `read_capture` and `embed_windows`.
        FormatError: also if no window of it holds a measurement.
    """
    capture = read_capture(path, nominal_rate_hz=rate_hz)
    windows = embed_windows(model, capture, packets)
    if not len(windows.embedding):
        raise FormatError(
            f"{path!s}: unavailable: no {'' if packets is None else f'whole window of {packets} packets '}"
            f"among its {len(capture)} packets holds a measurement; leave it out, or give a smaller --window"
        )
    return EmbeddedRecording(Path(path), windows, capture.source)


def npz_of(model: TemporalModel, recordings: Sequence[EmbeddedRecording]) -> bytes:
    """The content of the file that `wdt embed` writes.

    Arrays, n windows in all: embedding float32 `[n, E]`, recording `[n]`, start_s and end_s float64 `[n]` in seconds,
    source `[n]`, model_sha256, trained (`true`, `false` or `unstated`).
    """
    content = io.BytesIO()
    counts = [len(one.windows.embedding) for one in recordings]
    np.savez(
        content,
        embedding=np.concatenate([one.windows.embedding for one in recordings]),
        recording=np.repeat(np.array([str(one.path) for one in recordings]), counts),
        start_s=np.concatenate([one.windows.start_s for one in recordings]),
        end_s=np.concatenate([one.windows.end_s for one in recordings]),
        source=np.repeat(np.array([one.source for one in recordings]), counts),
        model_sha256=np.array(model.sha256),
        trained=np.array(TRAINED[model.trained]),
    )
    return content.getvalue()
