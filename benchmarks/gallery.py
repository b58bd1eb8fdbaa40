"""A gallery of persons: how fast it enrols and identifies, and what the approximate index finds of the exact answer.

Half of the vectors are spread evenly over the sphere, where no index has anything to go by; the others are persons of
20 vectors each around a centre, as embeddings are. Probes are of both kinds. Galleries are SQLite files.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import Result, Table, main
from numpy.typing import NDArray

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.reid import Gallery
from wifi_densepose_temporal.reid import vectors as search
from wifi_densepose_temporal.reid.transfer import Exported, write_export
from wifi_densepose_temporal.reid.vectors import Candidates

DIM, EACH, SPREAD = 128, 20, 0.05
EXACT_VECTORS = search.EXACT_VECTORS
SIZES = (1_000, 50_000, 100_000)
PROBES = 500  # of each kind


@dataclass(frozen=True)
class Model:
    """No model: vectors are drawn."""

    sha256: str = "0" * 64
    embedding_dim: int = DIM
    trained: bool | None = False


def draw(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Vectors `[count, E]`, the even half first, and probes of both kinds, `[2 * PROBES, E]`."""
    even = unit(rng.standard_normal((count // 2, DIM)))
    centres = unit(rng.standard_normal((count // 2 // EACH, DIM)))
    near = unit(np.repeat(centres, EACH, axis=0) + SPREAD * rng.standard_normal((count // 2, DIM)))
    probes = near[rng.integers(0, len(near), PROBES)] + SPREAD * rng.standard_normal((PROBES, DIM))
    return np.concatenate([even, near]), np.concatenate([unit(rng.standard_normal((PROBES, DIM))), unit(probes)])


def unit(rows: NDArray[Any]) -> Floats:
    """Rows of length 1."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def measure(quick: bool) -> Result:
    """Recall of the index, and a gallery of each size."""
    rng = np.random.default_rng(0)
    sizes = (1_000, 2_000) if quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        galleries = [_measure_gallery(Path(folder) / str(size), size, rng) for size in sizes]
        enrolling = _measure_enrolling(Path(folder) / "enrolling", 20 if quick else 300, rng)
    recall = _measure_recall(sizes[-1], rng)
    return {"dim": DIM, "exact_up_to": EXACT_VECTORS, "enrolling": enrolling, "galleries": galleries, "recall": recall}


def _measure_enrolling(path: Path, count: int, rng: np.random.Generator) -> Result:
    """Persons of 20 vectors, each acknowledged before the next."""
    rows = unit(rng.standard_normal((EACH, DIM)))
    with Gallery.open(path, Model(), create=True) as gallery:
        start = time.perf_counter()
        for number in range(count):
            gallery.enrol(f"p{number}", rows)
        per_s = count / (time.perf_counter() - start)
        start = time.perf_counter()
        gallery.forget("p0")
        return {"persons_per_s": per_s, "vectors": EACH, "forget_ms": 1e3 * (time.perf_counter() - start)}


def _measure_gallery(path: Path, size: int, rng: np.random.Generator) -> Result:
    """Opening, and identifying one probe after the other; where there is an index, before and after it is built."""
    vectors, probes = draw(size, rng)
    row = ("enrolled", "synthetic", None, "2026-01-01T00:00:00Z")
    persons = {f"p{number}": [row] * EACH for number in range(size // EACH)}
    export = path.with_suffix(".export")
    write_export(export, Exported(Model.sha256, DIM, False, None, persons, vectors))
    with Gallery.open(path, Model(), create=True) as gallery:
        gallery.import_(export)  # one transaction, and so faster than enrolling one after the other
    start = time.perf_counter()
    with Gallery.open(path, Model()) as gallery:
        opened = time.perf_counter() - start
        search.EXACT_VECTORS = size  # every vector is compared, whatever the size
        exact, batch = _identify_ms(gallery, probes), _batch_ms(gallery, probes)
        search.EXACT_VECTORS = EXACT_VECTORS
        building = gallery.wait_for_index()
        return {
            "vectors": size,
            "open_s": opened,
            "exact_ms": exact,
            "build_s": building,
            "indexed_ms": None if building is None else _identify_ms(gallery, probes),
            "batch_ms": batch,
        }


def _identify_ms(gallery: Gallery, probes: Floats) -> Result:
    """Median and 99th percentile of calls with one probe, of each kind."""
    out = {}
    for kind, rows in (("even", probes[:PROBES]), ("near", probes[PROBES:])):
        seconds = []
        for row in rows[:200]:
            start = time.perf_counter()
            gallery.identify(row)
            seconds.append(1e3 * (time.perf_counter() - start))
        out[kind] = {"p50": statistics.median(seconds), "p99": float(np.quantile(seconds, 0.99))}
    return out


def _batch_ms(gallery: Gallery, probes: Floats) -> float:
    """A probe's share of one call with all."""
    start = time.perf_counter()
    gallery.identify(probes)
    return 1e3 * (time.perf_counter() - start) / len(probes)


def _measure_recall(size: int, rng: np.random.Generator) -> Result:
    """Share of the 1 and of the 10 exactly nearest vectors that are among the index's candidates."""
    vectors, probes = draw(size, rng)
    index = Candidates(DIM)
    start = time.perf_counter()
    index.follow(np.arange(size), vectors)
    built = time.perf_counter() - start
    start = time.perf_counter()
    found = index.search(probes)
    searched = 1e3 * (time.perf_counter() - start) / len(probes)
    nearest = [np.argsort(-(vectors @ probe))[:10] for probe in probes]
    shares = {
        f"at{k}": [len(np.intersect1d(f, n[:k])) / k for f, n in zip(found, nearest, strict=True)] for k in (1, 10)
    }
    return {
        "vectors": size,
        "build_s": built,
        "search_ms": searched,
        **{
            f"{kind}_{name}": float(np.mean(share[part]))
            for name, share in shares.items()
            for kind, part in (("even", slice(PROBES)), ("near", slice(PROBES, None)), ("all", slice(None)))
        },
    }


def tables(result: Result) -> list[Table]:
    """Latency, and recall."""

    def cell(one: Result | None) -> str:
        return (
            "-" if one is None else " / ".join(f"{one[k]['p50']:.2f} ({one[k]['p99']:.1f})" for k in ("even", "near"))
        )

    rows = [
        [
            f"{g['vectors']:,}",
            f"{g['open_s']:.2f} s",
            cell(g["exact_ms"]),
            f"{g['batch_ms']:.2f}",
            cell(g["indexed_ms"]),
        ]
        for g in result["galleries"]
    ]
    recall, enrolling = result["recall"], result["enrolling"]
    return [
        Table(
            "identify",
            f"One probe, milliseconds: median (99th percentile) of even / near probes, {result['dim']} numbers.",
            ["vectors", "open", "every vector compared", "the same, of 1,000 in one call", "with the index"],
            rows,
            f"{enrolling['persons_per_s']:.0f} persons of {enrolling['vectors']} vectors enrolled a second, "
            f"each on the disk; one forgotten in {enrolling['forget_ms']:.0f} ms.",
        ),
        Table(
            "recall",
            f"What the index proposes of the exactly nearest, {recall['vectors']:,} vectors.",
            ["probes", "recall@1", "recall@10"],
            [
                [kind, f"{recall[f'{kind}_at1']:.4f}", f"{recall[f'{kind}_at10']:.4f}"]
                for kind in ("even", "near", "all")
            ],
            f"Built in {recall['build_s']:.0f} s on one thread; {recall['search_ms']:.1f} ms a probe.",
        ),
    ]


if __name__ == "__main__":
    main(__file__, measure, tables)
