"""What ESP-IDF would compile: the chip's files against stubs, the switch off, Kconfig and the example's settings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.firmware.building import (
    ACTIVITY,
    COMPONENT,
    EXAMPLE,
    FIRMWARE,
    HOST,
    SANITIZERS,
    TASK_CONFIG,
    TESTS,
    compile_c,
    require,
    run,
)
from wifi_densepose_temporal import load_model
from wifi_densepose_temporal.node import c_header


def test_off_everything_is_not_supported_and_nothing_of_the_core_is_needed(tmp_path: Path) -> None:
    (tmp_path / "sdkconfig.h").write_text("/* menuconfig leaves out what is off */\n")
    off = COMPONENT / "src" / "switched_off.c"
    run(compile_c([TESTS / "test_off.c", off], tmp_path / "off", *SANITIZERS, config=tmp_path))
    alone = compile_c([off], tmp_path / "off.o", "-c", "-O2", config=tmp_path)
    assert "wdt_" not in run("nm", alone, text=True).stdout


def test_off_answers_every_entry_point(tmp_path: Path) -> None:
    """What the component defines when it is on, it defines when it is off."""

    def functions(config: str, *names: str) -> set[str]:
        (tmp_path / "sdkconfig.h").write_text(config)
        found = set[str]()
        for name in names:
            source = COMPONENT / "src" / f"{name}.c"
            listed = run("nm", "--defined-only", compile_c([source], tmp_path / "o", "-c", config=tmp_path), text=True)
            found |= {line.split()[2] for line in listed.stdout.splitlines() if " T " in line}
        return found

    on = functions(TASK_CONFIG, "ruv_temporal", "self_test", "temporal_features", "temporal_task")
    assert functions("/* off */\n", "switched_off") == on
    assert functions(TASK_CONFIG, "switched_off") == set()


RISCV = ["riscv64-unknown-elf-gcc", "--specs=picolibc.specs", "-march=rv32imafc", "-mabi=ilp32f"]


STUBS = FIRMWARE / "stubs"
SWITCHED_OFF = f"""#include "{STUBS}/sdkconfig.h"
#undef CONFIG_CSI_TEMPORAL_HEAD_ENABLED
"""
EMBEDDED = f"""#include "{STUBS}/sdkconfig.h"
#define CONFIG_CSI_NODE_EMBEDDED_MODEL 1
"""
WIFI6 = f"""#include "{STUBS}/sdkconfig.h"
#define CONFIG_SOC_WIFI_HE_SUPPORT 1
"""


def compile_example(folder: Path, config: str, *names: str, compiler: list[str] | None = None) -> None:
    (folder / "sdkconfig.h").write_text(config)
    (folder / "esp_err.h").write_text(f'#include "{STUBS}/esp_err.h"\n')
    for name in names or ("csi_node", "network"):
        options = ["-c", "-O2", f"-I{STUBS}"]
        compile_c([EXAMPLE / "main" / f"{name}.c"], folder / "o", *options, config=folder, compiler=compiler)


@pytest.mark.parametrize("compiler", [None, RISCV], ids=["host", "rv32"])
def test_the_chips_files_compile_against_the_stubs(tmp_path: Path, compiler: list[str] | None) -> None:
    """The names, types and warnings; test_example.py runs the example against functions that are pretended."""
    if compiler:
        require(compiler[0])
    for source in sorted((COMPONENT / "src").glob("*.c")):
        compile_c([source], tmp_path / "o", "-c", "-O2", f"-I{STUBS}", config=STUBS, compiler=compiler)
    compile_example(tmp_path, f'#include "{STUBS}/sdkconfig.h"\n', compiler=compiler)


def test_the_example_compiles_with_the_head_off(tmp_path: Path) -> None:
    compile_example(tmp_path, SWITCHED_OFF)


def test_the_example_compiles_with_a_model_in_it(tmp_path: Path) -> None:
    (tmp_path / "model.h").write_text(c_header(ACTIVITY.read_bytes()))
    compile_example(tmp_path, EMBEDDED)


def test_the_example_refuses_chips_whose_csi_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is for ESP32, S2, S3 and C3"):
        compile_example(tmp_path, WIFI6, "network")


def kconfig_defaults() -> dict[str, str]:
    text = (COMPONENT / "Kconfig").read_text()
    options = re.split(r"^(?:config|choice) (\w+)$", text, flags=re.MULTILINE)[1:]
    return {
        name: match.group(1)
        for name, body in zip(options[::2], options[1::2], strict=True)
        if (match := re.search(r"^    default (\w+)", body, re.MULTILINE))
    }


def test_the_hosts_configuration_is_kconfigs_with_the_head_on() -> None:
    host = dict(re.findall(r"#define CONFIG_(\w+) (\w+)", (HOST / "sdkconfig.h").read_text()))
    defaults = kconfig_defaults()
    assert defaults.pop("CSI_TEMPORAL_HEAD_ENABLED") == "n"
    assert host.pop("CSI_TEMPORAL_HEAD_ENABLED") == "1"
    chosen = defaults.pop("TEMPORAL_MODE")
    assert {name: value for name, value in defaults.items() if value != "n"} | {chosen: "1"} == host


NUMBERS = {"TEMPORAL_INPUT_DIM", "TEMPORAL_WINDOW_LEN", "TEMPORAL_N_CLASSES", "TEMPORAL_CLASSIFY_PERIOD_MS"}


def test_kconfig_defines_the_numbers_with_the_head_off_too() -> None:
    """The example's arrays have their lengths: they are hidden then, by their menu, and do not depend on it."""
    text = (COMPONENT / "Kconfig").read_text()
    (hidden,) = re.findall(
        r'menu "Numbers"\n    visible if CSI_TEMPORAL_HEAD_ENABLED\n(.*?)^endmenu', text, re.M | re.S
    )
    assert set(re.findall(r"^config (\w+)", hidden, re.MULTILINE)) == NUMBERS
    assert "depends on" not in hidden


def test_kconfigs_ranges_are_the_contracts() -> None:
    text = (COMPONENT / "Kconfig").read_text()
    ranges = {m[0]: (int(m[1]), int(m[2])) for m in re.findall(r"config (\w+)\n(?: .*\n)*?    range (\d+) (\d+)", text)}
    assert ranges == {
        "TEMPORAL_INPUT_DIM": (1, 256),
        "TEMPORAL_WINDOW_LEN": (32, 1024),
        "TEMPORAL_N_CLASSES": (2, 16),
        "TEMPORAL_CLASSIFY_PERIOD_MS": (100, 60000),
    }


def test_the_component_compiles_its_own_files_all_of_them() -> None:
    listed = set(re.findall(r"\bsrc/(\w+\.c)\b", (COMPONENT / "CMakeLists.txt").read_text()))
    assert listed == {path.name for path in (COMPONENT / "src").glob("*.c")}


def test_a_component_without_the_repository_around_it_says_what_is_missing(tmp_path: Path) -> None:
    require("cmake")
    folder = tmp_path / "project" / "components" / "ruv_temporal"
    folder.mkdir(parents=True)
    copied = shutil.copy(COMPONENT / "CMakeLists.txt", folder)
    done = subprocess.run(["cmake", "-P", copied], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "ruv_temporal compiles the repository's core/, which is not at" in " ".join(done.stderr.split())


def test_the_examples_dims_and_partition_are_the_shipped_models() -> None:
    defaults = dict(re.findall(r"^CONFIG_(\w+)=(\w+)$", (EXAMPLE / "sdkconfig.defaults").read_text(), re.MULTILINE))
    model = load_model("activity")
    assert int(defaults["TEMPORAL_INPUT_DIM"]) == model.input_dim
    assert int(defaults["TEMPORAL_N_CLASSES"]) == len(model.labels)
    (size,) = re.findall(r"^model, .*, (0x\w+)$", (EXAMPLE / "partitions.csv").read_text(), re.MULTILINE)
    assert int(size, 0) >= ACTIVITY.stat().st_size
    assert f"**{model.input_dim} features and {len(model.labels)} classes**" in (COMPONENT / "README.md").read_text()
