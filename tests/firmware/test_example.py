"""The example's app_main against a pretended ESP-IDF (test_node.c): order of calls, events, packets, what it logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.firmware.building import ACTIVITY, ERRORS, EXAMPLE, FIRMWARE, REFERENCE, Build, run, saved

CONFIG = f"""#include "{FIRMWARE}/stubs/sdkconfig.h"
#undef CONFIG_TEMPORAL_INPUT_DIM
#define CONFIG_TEMPORAL_INPUT_DIM 30
#undef CONFIG_TEMPORAL_N_CLASSES
#define CONFIG_TEMPORAL_N_CLASSES 10
"""


@pytest.fixture(scope="module")
def node(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tmp_path_factory.mktemp("config")
    (config / "sdkconfig.h").write_text(CONFIG)
    (config / "esp_err.h").write_text(f'#include "{FIRMWARE}/stubs/esp_err.h"\n')  # comes before the host's
    component = ["ruv_temporal", "self_test", "temporal_task", "temporal_features"]
    example = [EXAMPLE / "main" / name for name in ("csi_node.c", "network.c")]
    posix = FIRMWARE / "host" / "temporal_port_posix.c"
    options = [f"-I{FIRMWARE / 'stubs'}", f"-I{EXAMPLE / 'main'}", "-pthread"]
    return build("test_node", component, *example, posix, *options, config=config)


def said(node: Path, scenario: str, blob: Path = ACTIVITY) -> list[str]:
    return run(node, scenario, blob, text=True).stdout.splitlines()


def counts(log: list[str]) -> str:
    (line,) = [line for line in log if "CSI buffers" in line]
    return line.removeprefix("I csi_node: CSI buffers: ")


def test_packets_and_connections(node: Path) -> None:
    """The order of calls is checked in the program: a socket before the network stack ends it."""
    log = said(node, "packets")
    buffers, frames = counts(log).split("; ")
    assert buffers == "121 received (2 lost, 2 without order, 1 refused), 1 of another length"
    assert frames.endswith(" frames dropped")  # how many is this machine's: packets come here as fast as they are made


def test_no_silence_makes_a_packet_look_old(node: Path) -> None:
    assert "390 received (0 lost, 0 without order, 0 refused)" in counts(said(node, "silences"))


def test_a_blob_that_clashes_is_no_reason_to_restart(node: Path, tmp_path: Path) -> None:
    log = said(node, "clash", saved(tmp_path / "reference.rvne", REFERENCE))
    assert log == [
        f"E csi_node: the head does not start ({ERRORS['ESP_ERR_INVALID_ARG']:#x}): nothing is measured",
        "app_main returned",
    ]


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        ("no_partition", "E csi_node: no partition `model`: see partitions.csv"),
        ("no_map", "E csi_node: the partition `model` cannot be mapped (0x101): no free pages, or no memory"),
        ("no_blob", "E csi_node: no blob in the partition `model`: write one with parttool.py"),
        ("no_address", "E network: 192.168.1.10 is no IPv4 address"),
    ],
)
def test_what_is_missing_is_named(node: Path, scenario: str, why: str) -> None:
    assert said(node, scenario) == [why, "app_main returned"]
