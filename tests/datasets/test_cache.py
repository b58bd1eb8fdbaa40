"""The feature cache: the same frames again without reading, made anew when anything they depend on changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.datasets.conftest import PERSON, packet_labels, recording, walk
from wifi_densepose_temporal import FeatureConfig
from wifi_densepose_temporal.datasets import FeatureCache, Recording, cache, labelled_frames
from wifi_densepose_temporal.datasets.cache import default_folder, entry_key
from wifi_densepose_temporal.datasets.frames import RecordingFrames, recording_frames
from wifi_densepose_temporal.errors import FileError

CONFIG = FeatureConfig()


@pytest.fixture
def found(tmp_path: Path) -> Recording:
    np.save(tmp_path / "r-x.npy", walk(0))
    np.save(tmp_path / "r-y.npy", packet_labels())
    return recording(tmp_path / "r-x.npy", label="", labels_path=tmp_path / "r-y.npy")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The recordings that the cache had to read."""
    read: list[Path] = []

    def counted(given: Recording, config: FeatureConfig) -> RecordingFrames:
        read.append(given.path)
        return recording_frames(given, config)

    monkeypatch.setattr(cache, "recording_frames", counted)
    return read


def equal(a: RecordingFrames, b: RecordingFrames) -> None:
    for one, other in zip((*a.frames, *a[1:]), (*b.frames, *b[1:]), strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.parametrize("mapped_from", [0, 1 << 30])
def test_the_second_time_comes_from_the_folder(
    tmp_path: Path, found: Recording, made: list[Path], monkeypatch: pytest.MonkeyPatch, mapped_from: int
) -> None:
    monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", mapped_from)
    kept = FeatureCache(tmp_path / "cache" / "deep")
    first, again = (labelled_frames(found, CONFIG, kept) for _ in range(2))
    assert made == [found.path]
    np.testing.assert_array_equal(first.frames.values, again.frames.values)
    np.testing.assert_array_equal(first.frame_labels, again.frame_labels)
    equal(kept.recording_frames(found, CONFIG), recording_frames(found, CONFIG))


@pytest.mark.parametrize("mapped_from", [0, 1 << 30])
def test_writing_into_the_frames_does_not_reach_the_cache(
    tmp_path: Path, found: Recording, monkeypatch: pytest.MonkeyPatch, mapped_from: int
) -> None:
    monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", mapped_from)
    kept = FeatureCache(tmp_path / "cache")
    for _ in range(3):
        kept.recording_frames(found, CONFIG).frames.values[:] = 7
    equal(kept.recording_frames(found, CONFIG), recording_frames(found, CONFIG))


@pytest.mark.parametrize("mapped_from", [0, 1 << 30])
def test_a_recording_without_one_frame_is_kept_too(
    tmp_path: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch, mapped_from: int
) -> None:
    monkeypatch.setattr(cache, "MAPPED_FROM_BYTES", mapped_from)
    np.save(tmp_path / "silent.npy", np.zeros((56, 20)))
    kept = FeatureCache(tmp_path / "cache")
    for _ in range(2):
        assert kept.recording_frames(recording(tmp_path / "silent.npy"), CONFIG).frames.values.shape == (0, 16)
    assert len(made) == 1


def test_other_bytes_rates_and_chains_are_other_entries(tmp_path: Path, found: Recording) -> None:
    keys = [
        entry_key(found, CONFIG),
        entry_key(found, FeatureConfig(bands=4)),
        entry_key(recording(found.path, rate_hz=50.0), CONFIG),
        entry_key(recording(PERSON), CONFIG),
    ]
    np.save(found.path, walk(1))
    keys.append(entry_key(found, CONFIG))
    assert len(set(keys)) == len(keys)
    (tmp_path / "moved.npy").write_bytes(found.path.read_bytes())
    assert entry_key(recording(tmp_path / "moved.npy", person="2"), CONFIG) == keys[-1]


def test_another_reader_library_or_release_is_another_entry(
    tmp_path: Path, found: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that a reader with a fault made are not found again once the reader is right."""

    def key() -> str:
        cache.made_by.cache_clear()
        return entry_key(found, CONFIG)

    keys = [key()]
    for name in ("csi/amplitude_npy.py", "csi/clock.py", "csi/features.py", "datasets/blocks.py"):
        place = next(number for number, file in enumerate(cache.CODE) if file.as_posix().endswith(name))
        other = tmp_path / "reader.py"
        other.write_bytes(cache.CODE[place].read_bytes() + b"# mended")
        with monkeypatch.context() as patched:
            patched.setattr(cache, "CODE", (*cache.CODE[:place], other, *cache.CODE[place + 1 :]))
            keys.append(key())
    for name in ("csiread", "wifi-densepose-temporal"):
        with monkeypatch.context() as patched:
            patched.setattr(cache, "version", lambda asked, other=name: "0" if asked == other else "1")
            keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda entry: flip(entry.with_suffix(".values.npy")),
    "a cut array": lambda entry: os.truncate(entry.with_suffix(".values.npy"), 100),
    "a lost array": lambda entry: entry.with_suffix(".held.npy").unlink(),
    "no JSON": lambda entry: entry.write_bytes(b"{"),
    "other JSON": lambda entry: entry.write_text(json.dumps([1, 2])),
    "deep JSON": lambda entry: entry.write_text("[" * 4000),
    "a list without arrays": lambda entry: entry.write_text(json.dumps({"arrays": {}})),
    "a large list": lambda entry: os.truncate(entry, 1 << 20),
    "no list": lambda entry: entry.unlink(),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_made_again(
    tmp_path: Path, found: Recording, made: list[Path], damage: Callable[[Path], object]
) -> None:
    kept = FeatureCache(tmp_path / "cache")
    kept.recording_frames(found, CONFIG)
    damage(kept.folder / f"{entry_key(found, CONFIG)}.json")
    equal(kept.recording_frames(found, CONFIG), recording_frames(found, CONFIG))
    kept.recording_frames(found, CONFIG)
    assert len(made) == 2
    assert not [path for path in kept.folder.iterdir() if path.name.startswith(".")]


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path, found: Recording) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot make the cache folder"):
        FeatureCache(tmp_path / "file").recording_frames(found, CONFIG)


def test_more_recordings_than_descriptors_can_be_open_at_once(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = FeatureCache(tmp_path / "cache")
    for number in range(40):
        np.save(tmp_path / f"{number}.npy", walk(number))
        kept.recording_frames(recording(tmp_path / f"{number}.npy"), CONFIG)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 30, hard))
        held = [kept.recording_frames(recording(tmp_path / f"{number}.npy"), CONFIG) for number in range(40)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(held) == 40


def test_the_folder_is_that_of_the_user_s_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert FeatureCache().folder == default_folder() == tmp_path / "xdg" / "wifi-densepose-temporal"
    for unset in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert default_folder() == tmp_path / ".cache" / "wifi-densepose-temporal"
