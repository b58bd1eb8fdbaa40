"""The only place that touches the disk: files are read whole and bounded, and written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from pathlib import Path

from wifi_densepose_temporal.errors import ConfigError, FileError


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
        beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"cannot write {path!s}: {reason}; check the folder and its permissions") from None
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)  # there only if the renaming was not reached, by whatever cause


def require_new(out: Path, read: Iterable[Path]) -> None:
    """Refuses an output that would take the place of something that is read.

    Raises:
        ConfigError: it names both.
    """
    for path in read:
        if out.resolve() == path.resolve():
            raise ConfigError(f"--out {out} is {path}, which is read; give the output a file of its own")
