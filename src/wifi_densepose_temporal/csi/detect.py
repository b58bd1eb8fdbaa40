"""Which format a capture has, told from its content: the name and its suffix are never looked at."""

from __future__ import annotations

import codecs

from wifi_densepose_temporal.csi import amplitude_csv, atheros, esp32_csv, feitcsi, intel5300, nexmon, npy, picoscenes
from wifi_densepose_temporal.errors import FormatError

TEXT_HEAD_BYTES = 64 * 1024  # an ESP32's boot messages come before its first packet
PROBED_LINES = 20
PCAPNG_MAGIC, GZIP_MAGIC = b"\n\r\r\n", b"\x1f\x8b"


def detect(data: bytes) -> str:
    """The format's name, as in `Capture.format`.

    Raises:
        FormatError: none of the known ones; the message shows the first bytes.
    """
    for name, matches in _PROBES.items():
        if matches(data):
            return name
    raise FormatError(
        f"no known capture format: {len(data)} bytes that begin with {data[:8].hex(' ')}; known are "
        f"{', '.join(_PROBES)}; if you know which it is, name it (format=, or --format)"
    )


def refuse_wrapped(data: bytes) -> None:
    """Refuses a file that holds a capture in a way that is not read, and says how to get it out.

    Raises:
        FormatError: a pcapng or gzip file.
    """
    if data.startswith(PCAPNG_MAGIC):
        raise FormatError(
            "a pcapng file; expected a classic pcap: convert it with `editcap -F pcap in.pcapng out.pcap`"
        )
    if data.startswith(GZIP_MAGIC):
        raise FormatError("a gzip file; expected the capture itself: unpack it with `gunzip`")


def _is_amplitude_csv(data: bytes) -> bool:
    """Tells whether most of the first lines are comma-separated amplitudes."""
    head = data[:TEXT_HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
    lines = [line for line in head.split(b"\n", PROBED_LINES)[:PROBED_LINES] if line.strip()]
    return 2 * sum(amplitude_csv.parse_line(line) is not None for line in lines) > len(lines)


# Magic numbers first; then text; then the formats that only a consistent first record gives away.
_PROBES = {
    "nexmon-pcap": nexmon.is_pcap,
    "esp32-npz": lambda data: data.startswith(npy.ZIP_MAGIC),
    "amplitude-npy": lambda data: data.startswith(npy.NPY_MAGIC),
    "picoscenes": picoscenes.starts_with_record,
    "esp32-csv": lambda data: esp32_csv.MARK in data[:TEXT_HEAD_BYTES],
    "amplitude-csv": _is_amplitude_csv,
    "intel5300": intel5300.starts_with_record,
    "feitcsi": feitcsi.starts_with_record,
    "atheros": atheros.starts_with_record,
}
