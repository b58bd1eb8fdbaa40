"""Which shards a folder of snapshots has: `shards.json`, replaced whole. What no line of it names counts for nothing.

A move of tracks is done when this file is: before, the shards are the old ones, and after, the new ones.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from wifi_densepose_temporal.errors import FileError
from wifi_densepose_temporal.files import read_whole, write_whole

logger = logging.getLogger(__name__)

MANIFEST = "shards.json"
_MAX_BYTES = 1 << 20
_SHARD = re.compile(r"shard-\d{1,9}")
_SNAPSHOT = re.compile(r"(shard-\d{1,9})\.(\d{1,18})\.snapshot")


def number_of(shard: str) -> int:
    """Of a shard, from its name."""
    return int(shard.rpartition("-")[2])


def shards_in(folder: Path) -> tuple[str, ...]:
    """Names of the shards that a folder holds, each with its snapshot; none where no pool was finished there.

    Raises:
        FileError: the folder or its list cannot be read, is no such list, or is at odds with the snapshots there.
    """
    path, snapshots = folder / MANIFEST, snapshots_in(folder)
    if not path.exists():
        held = [name for name, found in snapshots.items() if max(found)[0]]  # at operation 0 there is no track yet
        if held:
            raise FileError(
                f"{folder} holds snapshots of {', '.join(held)} and no {MANIFEST}, which says whether they count; put "
                "it back, or give another folder"
            )
        return ()
    try:
        names = json.loads(read_whole(path, _MAX_BYTES))["shards"]
        sound = names and len(set(names)) == len(names) and all(_SHARD.fullmatch(name) for name in names)
    except (ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise FileError(f"{path} is damaged: it is no list of shards; put it back, or give another folder")
    missing = [name for name in names if name not in snapshots]
    if missing:
        raise FileError(f"{folder} has no snapshot of {', '.join(missing)}, which {MANIFEST} lists; put it back")
    return tuple(sorted(names, key=number_of))


def write_shards(folder: Path, names: Iterable[str]) -> None:
    """Says which shards there are from now on.

    Raises:
        FileError: it cannot be written; what it said before is as it was.
    """
    write_whole(folder / MANIFEST, json.dumps({"shards": list(names)}).encode())


def snapshots_in(folder: Path) -> dict[str, list[tuple[int, Path]]]:
    """Of each shard by name, listed or not: the numbers and files of its snapshots.

    Raises:
        FileError: the folder cannot be read.
    """
    found: dict[str, list[tuple[int, Path]]] = {}
    try:
        for path in folder.iterdir():
            if match := _SNAPSHOT.fullmatch(path.name):
                found.setdefault(match[1], []).append((int(match[2]), path))
    except OSError as error:
        raise FileError(f"cannot read the folder of snapshots {folder}: {error.strerror}") from None
    return found


def remove_snapshots(folder: Path, name: str) -> None:
    """Removes a shard's snapshots.

    Raises:
        FileError: one of them cannot be removed.
    """
    for _, path in snapshots_in(folder).get(name, ()):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"cannot remove {path}: {error.strerror}; remove it before {name} starts") from None


def remove_others(folder: Path, names: Iterable[str]) -> None:
    """Removes the snapshots of shards that are no more; one that stays is logged, and counts for nothing."""
    for name in snapshots_in(folder).keys() - set(names):
        try:
            remove_snapshots(folder, name)
            logger.warning("%s: removed snapshots of %s, which is no shard of this pool", folder, name)
        except FileError as error:
            logger.warning("%s", error)
