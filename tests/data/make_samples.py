"""Cut the small samples in tests/data/captures out of the full recordings.

    python tests/data/make_samples.py DATA

DATA holds `captures/`, `wiper81/` and `esp32-stability/`. Short files are copied whole; of the long ones the first
whole records are kept, byte for byte. It decodes nothing, so that it shares no code with the readers it serves.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

SAMPLES = Path(__file__).parent / "captures"
RECORDS = 20
WIPER_PACKETS = 200
STABILITY_PACKETS = 300


def first_records(data: bytes, start: int, size: Callable[[bytes, int], int], records: int = RECORDS) -> bytes:
    """Return `start` bytes of file header and the first records; `size(data, at)` is a record's length in bytes."""
    at = start
    for _ in range(records):
        at += size(data, at)
    return data[:at]


def little(data: bytes, at: int, width: int) -> int:
    """Return an unsigned little-endian integer of `width` bytes."""
    return int.from_bytes(data[at : at + width], "little")


def main(folder: Path) -> None:
    """Write every sample."""
    captures = folder / "captures"
    for name in ("intel5300_short.dat", "nexmon_4358.pcap", "feitcsi_ht20.csi", "esp32_csi_tool_short.csv"):
        shutil.copyfile(captures / name, SAMPLES / name)

    cuts: dict[str, tuple[str, int, Callable[[bytes, int], int], int]] = {
        # A report of this file is followed by a record of the packet's payload: twice as many records.
        "intel5300_3x3_3000.dat": (
            "intel5300_first20.dat",
            0,
            lambda data, at: 2 + int.from_bytes(data[at : at + 2], "big"),
            2 * RECORDS,
        ),
        "nexmon_43455c0.pcap": (
            "nexmon_43455c0_first20.pcap",
            24,
            lambda data, at: 16 + little(data, at + 8, 4),
            RECORDS,
        ),
        "atheros.dat": ("atheros_first20.dat", 0, lambda data, at: 2 + little(data, at, 2), RECORDS),
        "picoscenes_qca9300.csi": ("picoscenes_first20.csi", 0, lambda data, at: 4 + little(data, at, 4), RECORDS),
    }
    for name, (sample, start, size, records) in cuts.items():
        data = (captures / name).read_bytes()
        (SAMPLES / sample).write_bytes(first_records(data, start, size, records))

    with np.load(folder / "wiper81" / "empty1_B.npz", allow_pickle=False) as room:
        np.savez_compressed(
            SAMPLES / "wiper81_empty1_B_first200.npz", iq=room["iq"][:WIPER_PACKETS], t=room["t"][:WIPER_PACKETS]
        )
    walk = np.load(folder / "esp32-stability" / "D1" / "e01_rx_tx-x.npy", allow_pickle=False)
    np.save(SAMPLES / "esp32_stability_D1_e01_rx_tx_first300-x.npy", walk[:, :STABILITY_PACKETS])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
