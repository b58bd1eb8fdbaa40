"""The only place that touches the disk: files are read whole and bounded, and written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from wifi_densepose_temporal.errors import ConfigError, FileError, TemporalError


def read_whole(path: str | os.PathLike[str], max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`.

    The cap keeps a wrong path (a disk image, a video) from filling memory; devices, pipes and directories are refused.

    Raises:
        FileError: there is no such file, it is no regular file, it cannot be read, or it is too large.
    """
    try:
        file = Path(path)
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise FileError(f"{file} is {kind}; give the path of one file")
        if status.st_size > max_bytes:
            raise FileError(
                f"{file} has {status.st_size} bytes; at most {max_bytes} are read: split it, if it is the right file"
            )
        with file.open("rb") as stream:
            return stream.read(min(max_bytes, status.st_size + 1))  # bounded, even if the file grows meanwhile
    except FileError:
        raise
    except (OSError, ValueError, TypeError) as error:  # ValueError: a NUL in the path; TypeError: no path at all
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot read {path!s}: {reason}; check the path and its permissions") from None


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file beside `path` and renames it: a reader, or a crash, sees the old file or the whole new one.

    Raises:
        FileError: it cannot be written; what was at `path` is as it was.
    """
    beside = None
    try:
        target = Path(path)
        new = target.with_name(f"{_start(target)}{secrets.token_hex(8)}")
        with new.open("xb") as file:
            beside = new
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot write {path!s}: {reason}; check the folder and its permissions") from None
    finally:
        _unlink(beside)


def write_in_parts(path: str | os.PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Lets `write` write a file beside `path`, which nobody else may read, and renames it: for what is large.

    When this returns, the file is on the disk, its name too. What a killed process has left beside `path` is removed:
    who writes a part has it locked, in whatever container.

    Raises:
        FileError: it cannot be written, and what was at `path` is as it was; or it is there, and the disk does not
            acknowledge its name, as the message says.
    """
    beside = folder = None
    try:
        target = Path(path)
        _remove_orphans(target)
        folder = os.open(target.parent, os.O_RDONLY)
        new = target.with_name(f"{_start(target)}{secrets.token_hex(8)}.part")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            beside = new
            _lock(descriptor)
            write(file)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(target)  # before another process can take it for an orphan
        _acknowledge(folder, target)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, TemporalError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot write {path!s}: {reason}; check the folder, its permissions and its space") from None
    finally:
        _unlink(beside)
        if folder is not None:
            os.close(folder)


def _start(target: Path) -> str:
    """How names of files beside `target` begin: short enough, in bytes, for any file system."""
    return f".{os.fsencode(target.name)[:100].decode(errors='ignore')}."


def _unlink(beside: Path | None) -> None:
    """Removes what is there only if the renaming was not reached; what stops that does not hide what went wrong."""
    if beside is not None:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _acknowledge(folder: int, target: Path) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        raise FileError(
            f"{target} is written, but its name may not be on the disk yet: {error.strerror}; write it again"
        ) from None


def _remove_orphans(target: Path) -> None:
    """Removes parts that nobody writes any more."""
    for part in target.parent.glob(f"{glob.escape(_start(target))}*.part"):
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if _lock(descriptor):
                    part.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks a file until it is closed; False where somebody else has, or the file system knows no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def require_new(out: Path, read: Iterable[Path]) -> None:
    """Refuses an output that would take the place of something that is read.

    Raises:
        ConfigError: it names both.
    """
    for path in read:
        if out.resolve() == path.resolve():
            raise ConfigError(f"--out {out} is {path}, which is read; give the output a file of its own")
