"""`wdt run` and `wdt capture-info` on real recordings of the shared folder, with the frame counts that it states."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Wdt

# Frames by the data's README, by csiread where it reads the file, else by the file's own lines.
FRAMES = {
    "captures/atheros.dat": 401,
    "captures/esp32_csi_tool_100hz.csv": 833,
    "captures/esp32_csi_tool_short.csv": 60,
    "captures/feitcsi_ht20.csi": 48,
    "captures/intel5300_3x3_3000.dat": 2998,
    "captures/intel5300_short.dat": 29,
    "captures/nexmon_43455c0.pcap": 566,
    "captures/nexmon_4358.pcap": 4,
    "captures/picoscenes_qca9300.csi": 1000,
    "csi-har/bend/user_1_sample_1.csv": 1073,
    "esp32-stability/D1/e01_rx_tx-x.npy": 1020,
    "espectre/movement_c3_64sc_20260329_130321.npz": 1020,
    "wiper81/p01_A.npz": 1000,
}


@pytest.mark.parametrize("name", FRAMES)
def test_the_frame_count_and_a_timeline(shared: Path, wdt: Wdt, name: str) -> None:
    path = shared / "data" / name
    assert wdt("capture-info", path, "--json").document["frames"] == FRAMES[name]
    assert wdt("capture-info", path).code == 0
    document = wdt("run", path, "--json").document
    assert document["capture"]["frames"] == FRAMES[name]
    assert document["timeline"]
    assert wdt("run", path).code == 0


def test_no_capture_is_forgotten(shared: Path) -> None:
    captures = {f"captures/{path.name}" for path in (shared / "data" / "captures").iterdir()}
    assert captures == {name for name in FRAMES if name.startswith("captures/")}
