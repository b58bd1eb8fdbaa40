"""The gradient: `backward` beside `forward` and `forward_for_backward`, one thread, and its error against float64.

A pair of query and candidate costs 10 D floating-point operations per query head in `backward`: the score again, the
weight's gradient, and the shares of dq, dk and dv.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from dense_torch import attend_dense
from measure import MHA, MQA, Case, Result, Table, digits, interleave, main, median, uniform

from wifi_densepose_temporal import AetherTemporalHead, TemporalHeadConfig

HEADS = {"MQA": MQA, "MHA": MHA}
LENGTHS = (100, 512, 1024, 2048, 8192)

#: T at which the gradient is compared with float64.
CHECKED = 256


def flops(config: TemporalHeadConfig, length: int) -> float:
    """Of `backward` over `length` positions."""
    return 10.0 * config.head_dim * config.q_heads * AetherTemporalHead(config).edge_count(length)


def bytes_touched(config: TemporalHeadConfig, length: int) -> int:
    """Of q, out, d_out, dq and of k, v, dk, dv, and of log_sum, each once."""
    return 4 * length * (4 * config.head_dim * (config.q_heads + config.kv_heads) + config.q_heads)


def measure(quick: bool) -> Result:
    """All heads and lengths in the same turns."""
    lengths = LENGTHS[:3] if quick else LENGTHS
    cases: dict[str, Case] = {}
    for name, config in HEADS.items():
        for length in lengths:
            head, qkv = AetherTemporalHead(config), uniform(config, length)
            d_out = uniform(config, length, seed=1)[0]
            out, log_sum = head.forward_for_backward(*qkv)
            cases[f"{name}/{length}/forward"] = Case(partial(head.forward, *qkv))
            cases[f"{name}/{length}/kept"] = Case(partial(head.forward_for_backward, *qkv))
            cases[f"{name}/{length}/backward"] = Case(partial(head.backward, *qkv, out, log_sum, d_out))
    times = interleave(cases, turns=3 if quick else 60)
    return {
        "samples": 3 if quick else 60,
        "rows": [_row(name, length, times) for name in HEADS for length in lengths],
        "errors": {name: relative_error(config) for name, config in HEADS.items()},
        "checked_T": CHECKED,
    }


def _row(name: str, length: int, times: dict[str, list[float]]) -> Result:
    forward, kept, backward = (median(times[f"{name}/{length}/{call}"]) for call in ("forward", "kept", "backward"))
    work = flops(HEADS[name], length)
    return {
        "head": name,
        "T": length,
        "forward_ms": 1e3 * forward,
        "forward_for_backward_ms": 1e3 * kept,
        "backward_ms": 1e3 * backward,
        "flops": work,
        "bytes": bytes_touched(HEADS[name], length),
        "gflops": work / backward / 1e9,
    }


def relative_error(config: TemporalHeadConfig) -> float:
    """The gradient's largest error against autograd in float64, as a share of its largest number."""
    qkv, d_out = uniform(config, CHECKED), uniform(config, CHECKED, seed=1)[0]
    head = AetherTemporalHead(config)
    out, log_sum = head.forward_for_backward(*qkv)
    ours = head.backward(*qkv, out, log_sum, d_out)
    leaves = [torch.from_numpy(x).double().requires_grad_() for x in qkv]
    exact = torch.autograd.grad(attend_dense(config, *leaves), leaves, torch.from_numpy(d_out).double())
    errors = [np.abs(x - y.numpy()).max() for x, y in zip(ours, exact, strict=True)]
    return float(max(errors) / max(y.abs().max().item() for y in exact))


def tables(result: Result) -> list[Table]:
    """Times and ratios over T."""
    columns = ("head", "T", "forward ms", "forward_for_backward ms", "backward ms", "ratio", "backward GFLOP/s")
    rows = [
        (
            row["head"],
            str(row["T"]),
            *(digits(row[f"{call}_ms"]) for call in ("forward", "forward_for_backward", "backward")),
            f"{row['backward_ms'] / row['forward_ms']:.2f}x",
            digits(row["gflops"]),
        )
        for row in result["rows"]
    ]
    intro = f"Medians of {result['samples']} samples. The ratio is backward to forward."
    errors = ", ".join(f"{name} {error:.1e}" for name, error in result["errors"].items())
    outro = (
        "Largest error against PyTorch's autograd of a dense masked formulation in float64, at "
        f"T = {result['checked_T']}, relative to the gradient's largest number: {errors}."
    )
    return [Table("backward", intro, columns, rows, outro)]


if __name__ == "__main__":
    main(__file__, measure, tables)
