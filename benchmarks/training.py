"""What training and embedding cost: `python benchmarks/training.py`.

- A model's step, forward and backward, at T = 1024: the sparse operator against the same attention as PyTorch's with a
  mask over tokens and block means, both in one run, one thread.
- One window of 100 packets to an embedding: chain and model, in the C core, from packets to vector.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

import torch
from dense_torch import candidate_mask, with_means
from measure import Case, Result, Table, interleave, main
from numpy import median
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from wifi_densepose_temporal import TemporalHeadConfig, read_capture
from wifi_densepose_temporal.evaluation.identity import cut, embed_windows
from wifi_densepose_temporal.models import load_model
from wifi_densepose_temporal.training import network as module
from wifi_densepose_temporal.training.network import NetworkSizes, TemporalNetwork

LENGTH, PACKETS = 1024, 100
SIZES = NetworkSizes(features=32, classes=10, layers=2, width=32, hidden=64)
HEAD = TemporalHeadConfig("sparse_gqa", q_heads=4, kv_heads=1, head_dim=16, window=32, block_size=16)


def masked_attention(q: Tensor, k: Tensor, v: Tensor, config: TemporalHeadConfig) -> Tensor:
    """The same pattern by PyTorch: q `[1, T, Hq, D]`, k, v `[1, T, Hkv, D]`."""
    group = config.q_heads // config.kv_heads
    keys, values = (with_means(x[0].movedim(1, 0), config.block_size).repeat_interleave(group, 0) for x in (k, v))
    out = scaled_dot_product_attention(q[0].movedim(1, 0), keys, values, attn_mask=mask(config, q.shape[1]))
    return out.movedim(0, 1)[None]


MASKS: dict[int, Tensor] = {}


def mask(config: TemporalHeadConfig, length: int) -> Tensor:
    """`[T, T + blocks]`, made once: what an implementation with a mask would keep."""
    if length not in MASKS:
        i = torch.arange(length)[:, None]
        j = torch.arange(length + length // config.block_size)[None]
        MASKS[length] = candidate_mask(config, length)(i, i, i, j)
    return MASKS[length]


def measure(quick: bool) -> Result:
    """Medians in milliseconds."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, frames = TemporalNetwork(SIZES, HEAD), torch.randn(1, LENGTH, SIZES.features)
    sparse = module.temporal_attention

    def step(attention: Any) -> None:
        module.temporal_attention = attention
        network.zero_grad()
        network(frames)[0].square().mean().backward()

    data = resources.files("wifi_densepose_temporal") / "data" / "wiper81_p01_A.npz"
    with resources.as_file(data) as path:
        window = cut(read_capture(path), slice(0, PACKETS))
    model = load_model("reid")
    cases = {
        "sparse": Case(lambda: step(sparse)),
        "masked": Case(lambda: step(masked_attention)),
        "embedding": Case(lambda: embed_windows(model, window, None)),
    }
    samples = interleave(cases, 10 if quick else 60)
    return {f"{name}_ms": 1e3 * float(median(times)) for name, times in samples.items()}


def tables(result: Result) -> list[Table]:
    """One row each."""
    ratio = result["masked_ms"] / result["sparse_ms"]
    rows = [
        (f"2-layer model, T = {LENGTH}, forward and backward, sparse operator", f"{result['sparse_ms']:.2f} ms"),
        ("the same with a mask over everything (PyTorch)", f"{result['masked_ms']:.2f} ms, {ratio:.1f} times"),
        (f"a window of {PACKETS} packets to its embedding (`reid`)", f"{result['embedding_ms']:.2f} ms"),
    ]
    return [Table("training", "One thread; medians.", ("what", "time"), rows)]


if __name__ == "__main__":
    main(__file__, measure, tables)
