"""Inputs and outputs of an independent implementation: forward, streamed at every position, dense, edge counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig

TOLERANCE = 1e-6  # the contract's; they differ by 2.4e-7 at most
OWN = Path(__file__).parent / "data" / "goldens"


def load(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    arrays = {}
    for path in folder.glob("*.f32"):
        name, shape = path.stem.rsplit("_", 1)
        arrays[name] = np.fromfile(path, "<f4").reshape([int(n) for n in shape.split("x")])
    return json.loads((folder / "config.json").read_text()), arrays


def head(facts: dict[str, Any], backend: Any) -> AetherTemporalHead:
    names = ("q_heads", "kv_heads", "head_dim", "window", "block_size", "causal", "log_stride", "landmarks")
    config = {name: facts[name] for name in names}
    return AetherTemporalHead(TemporalHeadConfig(backend, **config, global_tokens=tuple(facts["global_tokens"])))


def stream(head: AetherTemporalHead, arrays: dict[str, NDArray[np.float32]], dtype: str) -> NDArray[np.float32]:
    q, k, v = arrays["q"], arrays["k"], arrays["v"]
    cache = head.make_cache(len(q), dtype)
    return np.stack([head.step(q[t], k[t], v[t], cache) for t in range(len(q))])


def check_case(folder: Path) -> None:
    facts, arrays = load(folder)
    sparse = head(facts, "sparse_gqa")
    q, k, v = arrays["q"], arrays["k"], arrays["v"]
    np.testing.assert_allclose(sparse.forward(q, k, v), arrays["out"], atol=TOLERANCE, rtol=0)
    assert sparse.edge_count(facts["seq"]) == facts["sparse_edges_per_head"]
    if facts["causal"]:
        np.testing.assert_allclose(stream(sparse, arrays, "float32"), arrays["streamed"], atol=TOLERANCE, rtol=0)
        np.testing.assert_allclose(stream(sparse, arrays, "float16"), arrays["streamed"], atol=2e-3, rtol=0)
    if "dense" in arrays:
        dense = head(facts, "dense")
        np.testing.assert_allclose(dense.forward(q, k, v), arrays["dense"], atol=TOLERANCE, rtol=0)
        if facts["causal"]:
            np.testing.assert_allclose(stream(dense, arrays, "float32"), arrays["dense"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", sorted(path.name for path in OWN.iterdir()))
def test_golden_in_the_repository(name: str) -> None:
    check_case(OWN / name)


def test_every_shared_golden(shared: Path) -> None:
    folders = sorted(path for path in (shared / "goldens").iterdir() if path.is_dir())
    assert folders
    for folder in folders:
        check_case(folder)
