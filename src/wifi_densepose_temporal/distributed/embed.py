"""The embeddings of many captures at once, as a Ray Data job: one row a file, a part on disk for each that is done.

A worker holds one capture at a time, and what it made of it goes to disk at once, so memory does not grow with the
number of files, until the parts are put together. A job that was interrupted leaves its parts, each whole or absent;
the next one skips what they hold. A part belongs to a release, a model, a window, a rate, and a file as it was (its
path, size and time of change). Workers on other machines need the captures and the folder of parts at the same paths.
"""

from __future__ import annotations

import contextlib
import io
import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from wifi_densepose_temporal import __version__
from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.distributed.engine import connected_ray
from wifi_densepose_temporal.embeddings import EmbeddedRecording, embed_capture
from wifi_densepose_temporal.errors import ConfigError, FileError, FormatError, TemporalError
from wifi_densepose_temporal.evaluation import WindowEmbeddings
from wifi_densepose_temporal.files import read_whole, write_whole
from wifi_densepose_temporal.model import TemporalModel

logger = logging.getLogger(__name__)

MAX_PART_BYTES = 1 << 30
MAX_BLOCKS = 1024  # in which Ray Data schedules the rows: each costs it milliseconds


@dataclass(frozen=True, eq=False)
class EmbeddingJob:
    """What a job made."""

    recordings: tuple[EmbeddedRecording, ...]
    """In the order of the captures given, without those that failed."""
    failed: Mapping[Path, str]
    """Captures that could not be read or embedded, and why."""
    skipped: int
    """Captures that an earlier job had done."""


def embed_captures(
    model: TemporalModel,
    captures: Sequence[Path],
    parts: Path,
    *,
    workers: int,
    packets: int | None,
    rate_hz: float,
    advance: Callable[[], object] = lambda: None,
) -> EmbeddingJob:
    """Embeds captures in several processes; one that cannot be read is reported and stops nothing.

    Args:
        model: gives the embeddings; each worker gets it.
        captures: files, in any known format.
        parts: a folder for what is done, made if it is not there; whoever calls deletes it when it is no longer needed.
        workers: processes.
        packets: of a window; None: a recording is one window.
        rate_hz: packets a second to assume where a file has no clock.
        advance: called once for each capture that is done, failed or skipped.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: workers is below 1, or there are no captures.
        FileError: the folder of parts cannot be made, or written.
        FormatError: not a single capture could be embedded.
    """
    workers = as_int("workers", workers, least=1)
    if not captures:
        raise ConfigError("there are no captures to embed; give files, or a folder that holds some")
    ray = connected_ray(workers)
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {parts}: {error.strerror}; check the one above it") from None
    part_of = {path: parts / f"{_key(model, path, packets, rate_hz)}.npz" for path in captures}
    waiting = [path for path in part_of if _read_part(path, part_of[path]) is None]
    for _ in range(len(captures) - len(waiting)):
        advance()
    failed: dict[Path, str] = {}
    asked = [(path, part_of[path]) for path in waiting]
    for row in _run(ray, asked, (model, packets, rate_hz), workers) if asked else ():
        if row["error"]:
            failed[waiting[row["number"]]] = row["error"]
        advance()
    done = []
    for path in captures:
        if path not in failed:
            one = _read_part(path, part_of[path])
            if one is None:
                failed[path] = f"{path}: {part_of[path]} is gone or damaged; do all workers see that folder?"
            else:
                done.append(one)
    if not done:
        raise FormatError(
            f"none of the {len(captures)} captures could be embedded; the first: {next(iter(failed.values()))}"
        )
    return EmbeddingJob(tuple(done), failed, len(part_of) - len(waiting))


def drop_parts(parts: Path) -> None:
    """Deletes what jobs have left in the folder, and the folder if nothing else is in it."""
    with contextlib.suppress(OSError):  # what stays is done work, and harms nobody
        for part in parts.glob("*.npz"):
            part.unlink()
        parts.rmdir()


def _run(ray: Any, asked: list[tuple[Path, Path]], how: tuple[object, ...], workers: int) -> Any:
    """A row for each capture and its part, with the capture's number and error, in the order in which they are done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # ours counts files
    context.print_on_execution_start = False
    # Numbers, and not paths: a name that is no UTF-8 has no place in Ray Data's columns.
    rows = ray.data.from_items(
        [{"number": n} for n in range(len(asked))], override_num_blocks=min(len(asked), MAX_BLOCKS)
    )
    pool = ray.data.ActorPoolStrategy(size=min(workers, len(asked)))
    return rows.map(_Embedder, fn_constructor_args=(asked, *how), compute=pool).iter_rows()


class _Embedder:
    """A worker's model, and what it does with a row."""

    def __init__(
        self, asked: list[tuple[Path, Path]], model: TemporalModel, packets: int | None, rate_hz: float
    ) -> None:
        self.asked, self.model, self.packets, self.rate_hz = asked, model, packets, rate_hz

    def __call__(self, row: dict[str, int]) -> dict[str, int | str]:
        path, part = self.asked[row["number"]]
        try:
            made = embed_capture(self.model, path, self.packets, self.rate_hz)
        except TemporalError as error:
            return {**row, "error": str(error).encode(errors="backslashreplace").decode()}
        _write_part(part, made)  # a disk that is full is the job's failure, not the capture's
        return {**row, "error": ""}


# ------------------------------------------------------------------------------------------------------------ parts


def _key(model: TemporalModel, path: Path, packets: int | None, rate_hz: float) -> str:
    try:
        status = path.stat()
        state = (status.st_size, status.st_mtime_ns)
    except OSError:
        state = (-1, -1)  # the worker says what is wrong with it
    stated = (__version__, model.sha256, packets, rate_hz, str(path.resolve()), *state)
    return blake2b(repr(stated).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _write_part(part: Path, made: EmbeddedRecording) -> None:
    content, windows = io.BytesIO(), made.windows
    np.savez(
        content,
        embedding=windows.embedding,
        start_s=windows.start_s,
        end_s=windows.end_s,
        unavailable=np.array(windows.unavailable),
        source=np.array(made.source),
    )
    write_whole(part, content.getvalue())


def _read_part(path: Path, part: Path) -> EmbeddedRecording | None:
    """What a part holds; None where there is none, or where it is damaged, so that its capture is embedded again."""
    if not part.exists():
        return None
    try:
        with np.load(io.BytesIO(read_whole(part, MAX_PART_BYTES)), allow_pickle=False) as arrays:
            windows = WindowEmbeddings(
                arrays["embedding"], arrays["start_s"], arrays["end_s"], int(arrays["unavailable"])
            )
            count = len(windows.embedding)
            if windows.embedding.ndim != 2 or {len(windows.start_s), len(windows.end_s)} != {count}:
                raise ValueError("its arrays do not fit each other")
            return EmbeddedRecording(path, windows, str(arrays["source"]))
    # NumPy and zipfile word damage in many ways, NotImplementedError and RuntimeError among them.
    except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning("%s: damaged (%s); %s is embedded again", part, error, path)
        return None
