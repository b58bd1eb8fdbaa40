"""One frame at a time: `step`, many tracks with `step_batch`, and a model's `Stream.push`; one thread, through Python.

A step at T is one to a cache that holds T tokens (up to 150 more in later samples of batches). What a step looks at
is what `edge_count` grows by.
"""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import numpy as np
from measure import MQA, Case, Result, Table, interleave, main, median, uniform

from wifi_densepose_temporal import AetherTemporalHead, KvCache, TemporalModel, init_random_blob

HEAD = AetherTemporalHead(MQA)
TOKENS_ONLY = AetherTemporalHead(dataclasses.replace(MQA, landmarks=False))

#: Tokens in each track's cache, and tokens of the long one.
TRACK, LONG = 1000, 1_000_000

#: Tracks that a second-level cache has room for: what a step of each touches is about 0.5 MB together.
SET = 32

#: Steps in a sample of `step`, and calls in a sample of one set of tracks.
STEPS, SET_CALLS = 20, 10


def step_flops(length: int) -> float:
    """Of one step to a cache of `length` tokens: see prefill.py."""
    return 4.0 * MQA.head_dim * MQA.q_heads * _candidates(HEAD, length)


def step_bytes(length: int, item: int = 4) -> float:
    """Of q, the new k and v, the output, and each key and value that the step looks at, once.

    Tokens have `item` bytes a number, block means four.
    """
    tokens = _candidates(TOKENS_ONLY, length)
    means = _candidates(HEAD, length) - tokens
    seen = 2 * MQA.head_dim * MQA.kv_heads * (item * tokens + 4 * means)
    return seen + 2 * MQA.head_dim * (MQA.q_heads + MQA.kv_heads) * 4


def _candidates(head: AetherTemporalHead, length: int) -> int:
    return head.edge_count(length + 1) - head.edge_count(length)


def filled(length: int, capacity: int, dtype: str = "float32") -> KvCache:
    """A cache that holds `length` random tokens."""
    cache = HEAD.make_cache(capacity, dtype)
    rows = 1000
    q, k, v = uniform(MQA, rows)
    out = np.empty_like(q[0])
    for t in range(length):
        HEAD.step(q[t % rows], k[t % rows], v[t % rows], cache, out=out)
    return cache


def measure(quick: bool) -> Result:
    """Single steps, batches, and a model."""
    turns = 3 if quick else 60
    long, tracks = (20_000, 1_000) if quick else (LONG, 10_000)
    return {
        "long": long,
        "tracks": tracks,
        "step": _measure_steps(turns, long),
        "small_batches": _measure_small_batches(turns),
        "large_batches": _measure_large_batches(turns, tracks),
        "model": _measure_model(turns),
    }


def _measure_steps(turns: int, long: int) -> list[Result]:
    token = uniform(MQA)
    out = np.empty_like(token[0])
    held = {length: filled(length, length + 8000) for length in (TRACK, long)}
    ways = {"out": {"out": out}, "new": {}}
    cases = {}
    for length, cache in held.items():
        for way, given in ways.items():
            cases[f"{length}/{way}"] = Case(partial(HEAD.step, *token, cache, **given), calls=STEPS)
    times = interleave(cases, turns)
    return [
        {
            "T": length,
            "way": way,
            "us": 1e6 * median(times[f"{length}/{way}"]),
            "bytes_allocated": _allocated(partial(HEAD.step, *token, held[length], **given)),
            "candidates": _candidates(HEAD, length),
            "flops": step_flops(length),
            "bytes": step_bytes(length),
            "samples": turns,
        }
        for length in held
        for way, given in ways.items()
    ]


def _allocated(step: Callable[[], object], steps: int = 100) -> float:
    """Bytes that each of `steps` calls leaves behind while its result is kept, as tracemalloc sees it."""
    kept: list[object] = [None] * steps
    tracemalloc.start()
    try:
        for _ in range(2):  # the second round counts: the interpreter keeps a little of its own from the first
            kept[:] = [None] * steps
            before = tracemalloc.get_traced_memory()[0]
            for i in range(steps):
                kept[i] = step()
            after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return (after - before) / steps


def _measure_small_batches(turns: int) -> list[Result]:
    caches = _copies(filled(TRACK, TRACK + 200), 1000)
    sets = [caches[i : i + SET] for i in range(0, len(caches) - SET + 1, SET)]
    a_set, all_at_once = _batch(SET), _batch(len(caches))
    one_after_another = iter(sets * (turns // len(sets) + 2))
    current: list[Sequence[KvCache]] = [sets[0]]

    def next_set() -> None:
        current[:] = islice(one_after_another, 1)

    times = interleave(
        {
            f"sets of {SET}": Case(lambda: a_set(current[0]), next_set, calls=SET_CALLS),
            "all 1000": Case(partial(all_at_once, caches), calls=1),
        },
        turns,
    )
    sizes = {f"sets of {SET}": SET, "all 1000": len(caches)}
    return [_batch_row(name, sizes[name], "float32", seconds) for name, seconds in times.items()]


def _measure_large_batches(turns: int, tracks: int) -> list[Result]:
    step_all = _batch(tracks)
    cases = {}
    for dtype in ("float32", "float16"):
        caches = _copies(filled(TRACK, TRACK + 8 + 2 * turns, dtype), tracks)
        cases[dtype] = Case(partial(step_all, caches), calls=1)
    times = interleave(cases, turns)
    return [_batch_row(f"all {tracks}", tracks, dtype, seconds) for dtype, seconds in times.items()]


def _copies(cache: KvCache, count: int) -> list[KvCache]:
    return [cache.copy() for _ in range(count)]


def _batch(size: int) -> Callable[[Sequence[KvCache]], object]:
    q, k, v = uniform(MQA, size)
    return partial(HEAD.step_batch, q, k, v, out=np.empty_like(q))


def _batch_row(name: str, tracks: int, dtype: str, seconds: list[float]) -> Result:
    return {
        "case": name,
        "tracks": tracks,
        "dtype": dtype,
        "us_per_track": 1e6 * median(seconds) / tracks,
        "flops": step_flops(TRACK),
        "bytes": step_bytes(TRACK, 4 if dtype == "float32" else 2),
        "samples": len(seconds),
    }


def _measure_model(turns: int) -> Result:
    model = TemporalModel.from_bytes(init_random_blob())
    frames = np.random.default_rng(0).uniform(-1, 1, (TRACK, model.input_dim)).astype(np.float32)
    stream = model.stream(source="synthetic")
    for frame in frames:
        stream.push(frame)
    times = interleave(
        {
            "push": Case(partial(stream.push, frames[0]), calls=STEPS),
            "predict": Case(partial(model.predict, frames, "synthetic"), calls=1),
        },
        turns,
    )
    return {
        "layers": model.header.n_layers,
        "push_us": 1e6 * median(times["push"]),
        "predict_us_per_frame": 1e6 * median(times["predict"]) / TRACK,
        "samples": turns,
    }


def tables(result: Result) -> list[Table]:
    """Steps, batches, the model."""
    return [_step_table(result), _batch_table(result), _model_table(result)]


def _step_table(result: Result) -> Table:
    ways = {"out": "into `out`", "new": "new array"}
    rows = [
        (
            f"{row['T']:,}",
            ways[row["way"]],
            f"{row['us']:.2f}",
            str(row["candidates"]),
            f"{row['bytes_allocated']:.0f}",
        )
        for row in result["step"]
    ]
    intro = f"`step` of the default head, float32; medians of {result['step'][0]['samples']} samples of {STEPS} steps."
    return Table("step", intro, ("T", "result", "µs a step", "candidates", "bytes allocated a step"), rows)


def _batch_table(result: Result) -> Table:
    batches = [*result["small_batches"], *result["large_batches"]]
    rows = [
        (row["case"], row["dtype"], f"{row['us_per_track']:.2f}", f"{row['bytes'] / row['us_per_track'] / 1e3:.1f}")
        for row in batches
    ]
    single, half = (row["us_per_track"] for row in result["large_batches"])
    intro = (
        f"`step_batch` over tracks of about {TRACK} tokens each; medians of {batches[0]['samples']} samples. "
        f"A set of {SET} is called {SET_CALLS} times in a row, so that most of what it touches is in the second-level "
        "cache; the others come out of the third level and memory."
    )
    outro = f"float16 takes {half / single:.2f} of float32's time over {result['tracks']:,} tracks."
    return Table("step_batch", intro, ("tracks in a call", "cache", "µs a track", "GB/s"), rows, outro)


def _model_table(result: Result) -> Table:
    model = result["model"]
    rows = [
        ("`Stream.push`, a frame", f"{model['push_us']:.2f}"),
        ("`predict` over 1,000 frames, a frame", f"{model['predict_us_per_frame']:.2f}"),
    ]
    intro = (
        f"The reference blob ({model['layers']} layers), one track after {TRACK} frames; medians of {model['samples']} "
        f"samples. `predict` takes frames 0 to {TRACK - 1} in one call: the same computation, called once."
    )
    return Table("model", intro, ("call", "µs"), rows)


if __name__ == "__main__":
    main(__file__, measure, tables)
