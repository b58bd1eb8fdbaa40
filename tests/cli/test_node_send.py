"""`wdt node send`: what arrives at a port of this machine, at which time, and what is refused before any packet."""

from __future__ import annotations

import dataclasses
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import CAPTURES, ESP32, Wdt
from wifi_densepose_temporal import Capture, errors, read_capture
from wifi_densepose_temporal.node import send
from wifi_densepose_temporal.wire import RawCsi, parse_packet


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(30)
        yield listening


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def received(listener: socket.socket, count: int) -> list[RawCsi]:
    """The next packets, and there are no more."""
    packets = [parse_packet(listener.recv(65535)) for _ in range(count)]
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(65535)
    assert all(isinstance(packet, RawCsi) for packet in packets)
    return packets  # type: ignore[return-value]


def test_every_packet_of_an_esp32_capture_arrives_as_its_buffer(wdt: Wdt, listener: socket.socket) -> None:
    ended = wdt("node", "send", ESP32, "--port", port_of(listener), "--node-id", 9, "--speed", 1e6)
    assert ended.code == 0, ended.err
    capture = read_capture(ESP32)
    packets = received(listener, len(capture))
    assert f"{len(capture)} packets of 148 bytes sent to 127.0.0.1 port {port_of(listener)}" in ended.out
    lines = [line for line in ESP32.read_text().splitlines() if line.startswith("CSI_DATA")]
    buffer = [int(value) for value in lines[0].split("[")[1].split()[:128]]
    assert packets[0].iq.ravel().tolist() == buffer
    assert [packet.seq for packet in packets] == list(range(len(capture)))
    assert {packet.node_id for packet in packets} == {9}
    assert (packets[0].rssi_dbm, packets[0].noise_floor_dbm, packets[0].frequency_mhz) == (-77, -96, 2437)
    assert capture.iq is not None
    ascending = np.roll(np.stack([packet.iq for packet in packets]), 32, axis=2)
    np.testing.assert_array_equal(ascending[..., 1] + 1j * ascending[..., 0], capture.iq)


def test_limit_sends_the_first_packets_alone(wdt: Wdt, listener: socket.socket) -> None:
    ended = wdt("node", "send", ESP32, "--port", port_of(listener), "--speed", 1e6, "--limit", 3)
    assert "3 packets of" in ended.out
    assert [packet.seq for packet in received(listener, 3)] == [0, 1, 2]


def test_several_antennas_of_whole_numbers_are_sent_too(wdt: Wdt, listener: socket.socket) -> None:
    ended = wdt("node", "send", CAPTURES / "intel5300_first20.dat", "--port", port_of(listener), "--speed", 1e6)
    assert ended.code == 0, ended.err
    assert received(listener, 20)[0].iq.shape == (3, 30, 2)


class Clock:
    """A clock that only sleeping moves on, instead of the module's `time`."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@pytest.mark.parametrize("speed", [1.0, 4.0])
def test_packets_go_out_at_the_recordings_own_clock(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, speed: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(send, "time", clock)
    times_s = np.array([5.0, 5.5, 5.25, 7.0])  # the third comes late: at once
    sent_at = [clock.now for _ in send.play([b"1", b"2", b"3", b"4"], times_s, port_of(listener), speed=speed)]
    assert sent_at == [100.0, 100.0 + 0.5 / speed, 100.0 + 0.5 / speed, 100.0 + 2.0 / speed]
    assert [listener.recv(9) for _ in range(4)] == [b"1", b"2", b"3", b"4"]


def test_ctrl_c_ends_it_and_says_how_many_were_sent(listener: socket.socket) -> None:
    command = [sys.executable, "-m", "wifi_densepose_temporal", "node", "send", str(ESP32)]
    command += ["--port", str(port_of(listener)), "--speed", "0.000001"]
    restore = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=restore
    ) as process:
        try:
            listener.recv(65535)  # it has begun
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f" of {len(read_capture(ESP32))} packets sent to 127.0.0.1" in out
    assert err == "wdt: interrupted\n"


# ----------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("host", ["8.8.8.8", "192.168.1.20", "0.0.0.0", "255.255.255.255", "example.org", ""])
def test_another_machine_is_refused(wdt: Wdt, host: str) -> None:
    assert "expected an address" in wdt("node", "send", ESP32, "--host", host).error_line()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "::1"])
def test_this_machine_is_not(host: str) -> None:
    assert list(send.play([], np.empty(0), 5005, host)) == []


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf"])
def test_a_speed_that_is_none_is_refused(wdt: Wdt, speed: str) -> None:
    assert "expected 1e-06 to 1e+12" in wdt("node", "send", ESP32, "--speed", speed).error_line()


@pytest.mark.parametrize("arguments", [("--port", 0), ("--port", 65536), ("--node-id", 256), ("--limit", 0)])
def test_wrong_usage(wdt: Wdt, arguments: tuple[Any, ...]) -> None:
    assert wdt("node", "send", ESP32, *arguments).code == 2
    with pytest.raises(errors.ConfigError):
        send.play([], np.empty(0), 0)


def test_a_recording_of_amplitudes_is_refused(wdt: Wdt) -> None:
    capture = next(CAPTURES.glob("*.npy"))
    assert "amplitudes only; a raw CSI packet needs I/Q" in wdt("node", "send", capture).error_line()


def with_iq(capture: Capture, iq: np.ndarray) -> Capture:
    return Capture.from_iq(capture.format, capture.timestamps, capture.clock, iq, subcarriers=capture.subcarriers)


@pytest.mark.parametrize("value", [128, -129, 0.5, np.nan, np.inf])
def test_iq_that_fits_no_byte_is_refused_by_its_place(value: float) -> None:
    capture = read_capture(ESP32)
    assert capture.iq is not None
    iq = capture.iq.copy()
    iq.real[4, 0, 0] = value  # subcarrier -32, which is column 32 of the buffer
    with pytest.raises(errors.DtypeError, match="the real part of packet 4, antenna 0, column 32 is"):
        send.packets_of(with_iq(capture, iq), 1)
    assert len(send.packets_of(with_iq(capture, iq), 1, limit=4)) == 4


def test_a_packet_larger_than_a_datagram_is_refused() -> None:
    capture = read_capture(ESP32)
    with pytest.raises(errors.ShapeError, match="UDP datagram takes 65507"):
        send.packets_of(with_iq_of(capture, (1, 64, 512)), 1)
    with pytest.raises(errors.ShapeError, match="antennas, subcarriers"):
        send.packets_of(with_iq_of(capture, (1, 1, 513)), 1)


def with_iq_of(capture: Capture, shape: tuple[int, int, int]) -> Capture:
    return Capture.from_iq(capture.format, capture.timestamps[: shape[0]], "nominal", np.ones(shape, np.complex64))


def test_what_the_system_does_not_take_is_a_network_error(listener: socket.socket) -> None:
    with pytest.raises(errors.NetworkError, match="cannot send to"):
        list(send.play([bytes(send.MAX_DATAGRAM_BYTES + 1)], np.zeros(1), port_of(listener)))


def test_what_a_recording_does_not_say_is_zero() -> None:
    capture = dataclasses.replace(read_capture(ESP32), rssi=None, metadata={})
    packet = parse_packet(send.packets_of(capture, 1)[0])
    assert isinstance(packet, RawCsi)
    assert (packet.rssi_dbm, packet.noise_floor_dbm, packet.frequency_mhz) == (0, 0, 0)


@pytest.mark.parametrize(
    ("said", "mhz"),
    [
        ({"channel": 1}, 2412),
        ({"channel": 13}, 2472),
        ({"channel": 14}, 2484),
        ({"channel": 36}, 5180),
        ({"channel": 177}, 5885),
        ({"channel": 15}, 0),
        ({"channel": None}, 0),
        ({"channel": "6"}, 0),
        ({"frequency_mhz": 5200, "channel": 1}, 5200),
    ],
)
def test_frequency_is_that_of_the_channel(said: dict[str, object], mhz: int) -> None:
    packet = parse_packet(send.packets_of(dataclasses.replace(read_capture(ESP32), metadata=said), 1)[0])
    assert isinstance(packet, RawCsi)
    assert packet.frequency_mhz == mhz


def test_no_file_is_one_line(wdt: Wdt, tmp_path: Path) -> None:
    wdt("node", "send", tmp_path / "none.csv").error_line()
