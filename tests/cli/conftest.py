"""How the tests call `wdt`, and the blobs that they give to it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wifi_densepose_temporal import FeatureConfig, WeightBlob, WeightBlobHeader, init_random_blob
from wifi_densepose_temporal.cli import main
from wifi_densepose_temporal.rvne import records

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
ESP32 = CAPTURES / "esp32_csi_tool_short.csv"
EVERY_CAPTURE = sorted(path for path in CAPTURES.iterdir() if path.suffix != ".md")


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """The untrained reference blob as a file."""
    path = tmp_path / "reference.rvne"
    path.write_bytes(init_random_blob())
    return path


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON on stdout, which is the whole of stdout and free of NaN and Infinity."""
        return json.loads(self.out, parse_constant=pytest.fail)

    def error_line(self) -> str:
        """The only line on stderr."""
        assert self.code == 1, (self.code, self.err)
        assert self.out == ""
        assert self.err.startswith("wdt: "), self.err
        assert self.err.endswith("\n")
        assert self.err.count("\n") == 1, self.err
        return self.err.removesuffix("\n")


Wdt = Callable[..., Ended]


@pytest.fixture
def wdt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Wdt]:
    """Runs a command in this process: `wdt("run", path)`. A traceback fails the test."""
    monkeypatch.setenv("COLUMNS", "200")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*args: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def wdt_process(*args: object, before: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own, after some Python code."""
    code = f"{before}\nfrom wifi_densepose_temporal.cli import main\nmain()"
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


def make_blob(
    labels: tuple[str, ...] | None = ("still", "moving"),
    provenance: Mapping[str, object] | None = None,
    chain: FeatureConfig | None = None,
    input_dim: int = 16,
) -> bytes:
    """A small model with random weights and the given records."""
    header = WeightBlobHeader(input_dim, 2, 1, 4, 1, 2 if labels is None else len(labels))
    weights = np.random.default_rng(0).uniform(-0.5, 0.5, header.model_floats()).astype(np.float32)
    extra = [
        *([] if labels is None else [records.class_labels(labels)]),
        *([] if provenance is None else [records.provenance(provenance)]),
        *([] if chain is None else [records.feature_chain(chain.to_words())]),
    ]
    return WeightBlob(header, weights, extra).serialize()
