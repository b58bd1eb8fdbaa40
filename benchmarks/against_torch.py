"""The default head against PyTorch's attention on one thread: all pairs, and FlexAttention with the head's own pattern.

PyTorch's tensors lie as it likes them, `[1, heads, T, D]`, and are made beforehand; so are FlexAttention's block mask,
block means and compiled kernel, one for every T. Every call makes its output array, ours too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch._dynamo
from dense_torch import candidate_mask, with_means
from measure import MQA, Case, Result, Table, digits, interleave, main, median, uniform
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from wifi_densepose_temporal import AetherTemporalHead

LENGTHS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
SPARSE, DENSE = AetherTemporalHead(MQA), AetherTemporalHead(dataclasses.replace(MQA, backend="dense"))

#: Largest difference that two float32 kernels of the same attention may have.
TOLERANCE = 1e-5

#: Seconds that a slow case may take before it gets as few samples as it needs.
BUDGET_S = 2.0


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's attention over all earlier tokens."""
    with torch.inference_mode():
        return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def flex(q: Tensor, k: Tensor, v: Tensor) -> Callable[[], Tensor]:
    """FlexAttention over the tokens and block means that our head sees, compiled and called once."""
    length = q.shape[2]
    keys, values = (with_means(x[0], MQA.block_size)[None] for x in (k, v))
    mask = create_block_mask(candidate_mask(MQA, length), 1, 1, length, keys.shape[2], device="cpu")
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend() -> Tensor:
        with torch.inference_mode():
            return compiled(q, keys, values, block_mask=mask, enable_gqa=True)

    attend()
    return attend


def measure(quick: bool) -> Result:
    """All lengths and kernels in the same turns."""
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = 64  # a kernel for every T
    lengths = LENGTHS[:7] if quick else LENGTHS
    reasons: dict[str, str] = {}
    cases: dict[str, Case] = {}
    for length in lengths:
        cases |= _cases(length, reasons)
    times = interleave(cases, turns=3 if quick else 40, budget_s=BUDGET_S)
    rows = [_row(length, times) for length in lengths]
    return {"torch": torch.__version__, "flex_refused": reasons, "rows": rows}


def _cases(length: int, reasons: dict[str, str]) -> dict[str, Case]:
    qkv = uniform(MQA, length)
    tensors = [torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))[None]) for x in qkv]
    _require_equal(DENSE.forward(*qkv), sdpa(*tensors))
    cases = {
        f"{length}/sparse": Case(partial(SPARSE.forward, *qkv)),
        f"{length}/sdpa": Case(partial(sdpa, *tensors)),
        f"{length}/dense": Case(partial(DENSE.forward, *qkv)),
    }
    try:
        attend = flex(*tensors)
    except Exception as error:  # whatever its compiler meets on this machine belongs into the table
        reasons[str(length)] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
        return cases
    _require_equal(SPARSE.forward(*qkv), attend())
    return cases | {f"{length}/flex": Case(attend)}


def _require_equal(ours: NDArray[np.float32], theirs: Tensor) -> None:
    difference = float(np.abs(ours - theirs[0].transpose(0, 1).numpy()).max())
    if not difference <= TOLERANCE:
        raise AssertionError(f"the outputs differ by {difference}, which is more than {TOLERANCE}")


def _row(length: int, times: dict[str, list[float]]) -> Result:
    of = {name: times.get(f"{length}/{name}") for name in ("sparse", "sdpa", "dense", "flex")}
    return {
        "T": length,
        "ms": {name: 1e3 * median(seconds) for name, seconds in of.items() if seconds},
        "samples": {name: len(seconds) for name, seconds in of.items() if seconds},
    }


def tables(result: Result) -> list[Table]:
    """Times and ratios over T."""
    columns = ("T", "sparse ms", "SDPA ms", "dense ms", "Flex ms", "SDPA / sparse", "Flex / sparse", "SDPA / dense")
    rows = []
    for row in result["rows"]:
        ms = row["ms"]
        texts = [digits(ms[name]) if name in ms else "" for name in ("sparse", "sdpa", "dense", "flex")]
        pairs = (("sdpa", "sparse"), ("flex", "sparse"), ("sdpa", "dense"))
        ratios = [f"{digits(ms[a] / ms[b])}x" if a in ms else "" for a, b in pairs]
        rows.append((str(row["T"]), *texts, *ratios))
    intro = f"PyTorch {result['torch']}; medians of {_counts(result)}."
    return [Table("against_torch", intro, columns, rows, _outcome(result))]


def _counts(result: Result) -> str:
    usual = max(count for row in result["rows"] for count in row["samples"].values())
    named = {"sparse": "sparse", "sdpa": "SDPA", "dense": "dense", "flex": "Flex"}
    fewer = [
        f"{named[name]} {count} at T = {row['T']}"
        for row in result["rows"]
        for name, count in row["samples"].items()
        if count < usual
    ]
    return f"{usual} samples" + (f" ({', '.join(fewer)})" if fewer else "")


def wins_from(result: Result) -> int | None:
    """The shortest T from which on sparse is faster than SDPA at every T that was measured."""
    first = None
    for row in reversed(result["rows"]):
        if row["ms"]["sparse"] >= row["ms"]["sdpa"]:
            break
        first = row["T"]
    return first


def _outcome(result: Result) -> str:
    first = wins_from(result)
    won = f"Sparse is faster than SDPA from T = {first} on." if first else "Sparse is not faster than SDPA here."
    refused = "".join(f" FlexAttention at T = {length}: {why}." for length, why in result["flex_refused"].items())
    return won + refused


if __name__ == "__main__":
    main(__file__, measure, tables)
