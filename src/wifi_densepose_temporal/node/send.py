"""Plays a recording as a node would send it: 0xC5110001 packets over UDP, at the recording's own clock.

The order within a packet is that of an ESP32's buffer, because nodes send that buffer as it is and whoever listens has
to take it: subcarriers 0, 1, 2, ... then the negative ones up to -1, and of each pair the imaginary part first. Columns
without a known subcarrier stay in the recording's order.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.config import as_int
from wifi_densepose_temporal.csi import Capture
from wifi_densepose_temporal.errors import ConfigError, DtypeError, NetworkError, ShapeError
from wifi_densepose_temporal.wire import DEFAULT_PORT, raw_csi_packet

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "packets_of", "play"]

DEFAULT_HOST = "127.0.0.1"
MAX_DATAGRAM_BYTES = 65_507  # of UDP over IPv4
MIN_SPEED, MAX_SPEED = 1e-6, 1e12


def packets_of(capture: Capture, node_id: int, limit: int | None = None) -> list[bytes]:
    """The packets of a capture, in their order, counted from 0.

    Args:
        capture: with I/Q of whole numbers that fit a signed byte, as an ESP32's.
        node_id: what the packets say of where they come from, 0..255.
        limit: only so many, from the first on.

    Raises:
        DtypeError: there is no I/Q, or a part of it is no whole number or does not fit a byte.
        ShapeError: more antennas or subcarriers than a packet or a datagram takes.
        ConfigError: a `node_id` beyond its field, or a limit below 1.
    """
    if limit is not None:
        as_int("limit", limit, least=1)
    if capture.iq is None:
        raise DtypeError(f"this {capture.format} recording holds amplitudes only; a raw CSI packet needs I/Q")
    iq = _as_bytes(capture.iq[:limit][..., _buffer_order(capture)])
    rssi = np.zeros(len(iq)) if capture.rssi is None else np.nan_to_num(capture.rssi, nan=0.0)
    rssi_dbm = np.clip(np.rint(rssi), -128, 127).astype(int).tolist()
    noise = capture.metadata.get("noise_floor_dbm")
    noise_dbm = round(noise) if isinstance(noise, int | float) and -128 <= noise <= 127 else 0
    mhz = _frequency_mhz(capture)
    packets = [
        raw_csi_packet(
            iq[t], node_id=node_id, seq=t, frequency_mhz=mhz, rssi_dbm=rssi_dbm[t], noise_floor_dbm=noise_dbm
        )
        for t in range(len(iq))
    ]
    if len(packets[0]) > MAX_DATAGRAM_BYTES:
        raise ShapeError(
            f"a packet of {iq.shape[1]} antennas and {iq.shape[2]} subcarriers has {len(packets[0])} bytes; "
            f"a UDP datagram takes {MAX_DATAGRAM_BYTES}"
        )
    return packets


def play(
    packets: Sequence[bytes],
    times_s: NDArray[np.float64],
    port: int,
    host: str = DEFAULT_HOST,
    speed: float = 1.0,
) -> Iterator[int]:
    """Sends each packet when its time has come, and yields how many were sent after each.

    Args:
        packets: what to send.
        times_s: `[len(packets)]` when, seconds from any start; a time before the last one's is now.
        port: UDP port, 1..65535.
        host: an address of this machine's loopback, or ``"localhost"``: a recording played to someone else's port would
            pass for a measurement there.
        speed: how many times faster than the recording, 10^-6 to 10^12.

    Raises:
        ConfigError: a host that is not this machine, a port or a speed that is none. Raised at the call, before any
            packet.
        NetworkError: the system does not take a packet.
    """
    address = _loopback(host)
    if not 1 <= port <= 65535:
        raise ConfigError(f"port is {port}; expected 1 to 65535")
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise ConfigError(f"speed is {speed}; expected {MIN_SPEED:g} to {MAX_SPEED:g}")
    return _sent(packets, times_s, address, port, speed)


def _sent(
    packets: Sequence[bytes],
    times_s: NDArray[np.float64],
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    speed: float,
) -> Iterator[int]:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            start = time.monotonic()
            for count, (packet, at_s) in enumerate(zip(packets, times_s - times_s[:1], strict=True), 1):
                time.sleep(min(max(0.0, start + at_s / speed - time.monotonic()), threading.TIMEOUT_MAX))
                sender.sendto(packet, (str(address), port))
                yield count
    except OSError as error:
        raise NetworkError(f"cannot send to {address} port {port}: {error.strerror or error}") from None


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The host's address, if it is this machine's own. Names other than localhost are not looked up."""
    try:
        address = ipaddress.ip_address(DEFAULT_HOST if host == "localhost" else host)
    except ValueError:
        raise ConfigError(f"host is {host!r}; expected an address such as {DEFAULT_HOST}, or localhost") from None
    if not address.is_loopback:
        raise ConfigError(f"host is {host}; expected an address of this machine, such as {DEFAULT_HOST}")
    return address


def _buffer_order(capture: Capture) -> NDArray[np.intp]:
    """The columns in the order of an ESP32's buffer."""
    index = capture.subcarriers
    if index is None:
        return np.arange(capture.amplitude.shape[2])
    return np.lexsort((index, index < 0))


def _as_bytes(iq: NDArray[np.complex64]) -> NDArray[np.int8]:
    """int8 `[T, A, S, 2]`, the imaginary part first."""
    pairs = np.stack([iq.imag, iq.real], axis=-1)
    fits = (pairs == np.rint(pairs)) & (pairs >= -128) & (pairs <= 127)  # not of NaN
    if not fits.all():
        t, antenna, column, part = (int(i) for i in np.argwhere(~fits)[0])
        raise DtypeError(
            f"{('the imaginary', 'the real')[part]} part of packet {t}, antenna {antenna}, column {column} is "
            f"{pairs[t, antenna, column, part]:g}; a packet takes whole numbers from -128 to 127, as an ESP32 gives"
        )
    return pairs.astype(np.int8)


def _frequency_mhz(capture: Capture) -> int:
    """Of the channel's centre (IEEE Std 802.11-2020, annex E); 0 where the recording does not say."""
    known, channel = capture.metadata.get("frequency_mhz"), capture.metadata.get("channel")
    if isinstance(known, int):
        return known if 0 <= known < 1_000_000 else 0
    if not isinstance(channel, int):
        return 0
    if channel == 14:
        return 2484
    return 2407 + 5 * channel if 1 <= channel <= 13 else 5000 + 5 * channel if 32 <= channel <= 177 else 0
