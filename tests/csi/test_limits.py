"""Memory: what a small file may not make a reader take, and what a user is told when it does not suffice."""

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal.csi import limits
from wifi_densepose_temporal.csi.read import READERS, read_capture
from wifi_densepose_temporal.errors import FormatError, MemoryLimitError

SAMPLES = Path(__file__).parents[1] / "data" / "captures"
NAMES = sorted(path.name for path in SAMPLES.iterdir() if path.suffix != ".md")


def test_memory_that_is_not_there_is_an_error_of_this_package(tmp_path, monkeypatch):
    def hungry(data: bytes, rate_hz: float) -> None:
        raise MemoryError

    monkeypatch.setitem(READERS, "amplitude-csv", hungry)
    (tmp_path / "capture").write_text("1,2\n3,4\n")
    with pytest.raises(MemoryLimitError, match=r"capture.*not enough memory.* 8 bytes; split"):
        read_capture(tmp_path / "capture", "amplitude-csv")


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_refuses_more_packets_than_the_limit(name, monkeypatch):
    count = len(read_capture(SAMPLES / name))
    monkeypatch.setattr(limits, "MAX_PACKETS", 2 * count)  # an Intel log has a payload beside every report
    read_capture(SAMPLES / name)
    monkeypatch.setattr(limits, "MAX_PACKETS", count - 1)
    with pytest.raises(MemoryLimitError, match=rf"{name}.*packets; expected .*split it"):
        read_capture(SAMPLES / name)


@pytest.mark.parametrize("name", NAMES)
def test_every_reader_refuses_more_values_than_the_limit(name, monkeypatch):
    monkeypatch.setattr(limits, "MAX_VALUES", read_capture(SAMPLES / name).amplitude.size - 1)
    with pytest.raises(MemoryLimitError, match="values in all: split it"):
        read_capture(SAMPLES / name)


ESP32_LINE = b"CSI_DATA,0,a,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,0,[1,1]\n"


@pytest.mark.parametrize(("kind", "line"), [("amplitude-csv", b"1,1\n"), ("esp32-csv", ESP32_LINE)])
def test_short_lines_do_not_take_many_times_their_bytes(kind, line):
    data = line * (400_000 // len(line))
    tracemalloc.start()
    try:
        READERS[kind](data, 100.0)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(data)
    finally:
        tracemalloc.stop()


def archive(**sizes: int) -> bytes:
    """An .npz of int8 zeros, so many each, which deflate to a thousandth."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.zeros((size // 128, 128), np.int8) for name, size in sizes.items()})
    return buffer.getvalue()


def peak_of_refusal(data: bytes, message: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message):
            READERS["esp32-npz"](data, 100.0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_an_archive_that_expands_a_thousandfold_is_refused_before_it_does():
    data = archive(iq=64_000_000)
    assert len(data) < 80_000
    assert peak_of_refusal(data, "'iq.npy' .* declares 640.* bytes; expected at most") < 1_000_000


def test_the_entries_of_an_archive_share_one_budget():
    one = archive(iq=1_200_000)
    assert READERS["esp32-npz"](one, 100.0).amplitude.shape == (9375, 1, 64)
    peak_of_refusal(archive(iq=1_200_000, t=1_200_000), "'t.npy' .* expected at most .* more")


def test_entries_that_are_not_wanted_are_not_inflated():
    data = archive(iq=12_800, other=64_000_000)
    tracemalloc.start()
    READERS["esp32-npz"](data, 100.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_an_archive_of_a_hundred_thousand_entries_is_refused_before_they_are_listed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as many:
        for i in range(60_000):
            many.writestr(zipfile.ZipInfo(f"{i}"), b"")
    assert peak_of_refusal(buffer.getvalue(), "expected at most 64") < 1_000_000
