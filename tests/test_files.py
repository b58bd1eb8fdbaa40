"""Files are written whole or not at all, and what went wrong is what is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from wifi_densepose_temporal import files
from wifi_densepose_temporal.errors import FileError
from wifi_densepose_temporal.files import write_in_parts, write_whole


def in_parts(path: Path, content: bytes) -> None:
    def write(file: BinaryIO) -> None:
        file.write(content)

    write_in_parts(path, write)


WAYS = pytest.mark.parametrize("write", [write_whole, in_parts])


@WAYS
def test_a_file_where_a_folder_should_be(write: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        write(tmp_path / "file" / "pool", b"x")


@WAYS
@pytest.mark.parametrize("name", ["é" * 120, "\U0001f600" * 60, "a" * 255])
def test_long_names(write: Any, name: str, tmp_path: Path) -> None:
    write(tmp_path / name, b"x")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"x")]


def test_a_part_in_progress_is_nobodys_orphan(tmp_path: Path) -> None:
    path = tmp_path / "pool"

    def write(file: BinaryIO) -> None:
        in_parts(path, b"inner")
        file.write(b"outer")

    write_in_parts(path, write)
    assert path.read_bytes() == b"outer"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_does_not_acknowledge_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sync = tmp_path / "pool", os.fsync

    def fail_on_folders(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fail_on_folders)
    with pytest.raises(FileError, match=r"is written, but"):
        in_parts(path, b"new")
    assert path.read_bytes() == b"new"
