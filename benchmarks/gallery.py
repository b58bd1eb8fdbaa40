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
from wifi_densepose_temporal.reid.vectors import Vectors

DIM, EACH, SPREAD = 128, 20, 0.05
EXACT_VECTORS = search.EXACT_VECTORS
SIZES = (1_000, 50_000, 100_000)
PROBES = 500  # of each kind
KINDS = {"even": "a probe anywhere on the sphere", "near": "one near an enrolled person"}


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
    """A gallery of each size, and enrolling."""
    rng = np.random.default_rng(0)
    sizes = (1_000, 2_000) if quick else SIZES
    with tempfile.TemporaryDirectory() as folder:
        enrolling = _measure_enrolling(Path(folder) / "enrolling", 20 if quick else 300, rng)
        galleries = [_measure_gallery(Path(folder) / str(size), size, rng) for size in sizes]
    return {"dim": DIM, "exact_up_to": EXACT_VECTORS, "enrolling": enrolling, "galleries": galleries}


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
        indexed = None if building is None else _identify_ms(gallery, probes)
        return {
            "vectors": size,
            "open_s": opened,
            "exact_ms": exact,
            "build_s": building,
            "indexed_ms": indexed,
            "batch_ms": batch,
            "recall": None if building is None else _recall(gallery._vectors, probes),  # not of the public interface
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


def _recall(known: Vectors, probes: Floats) -> Result:
    """Share of the 1 and of the 10 exactly nearest vectors that are among the index's candidates."""
    if known._candidates is None:
        raise RuntimeError("the gallery has no index")
    shares: dict[str, list[float]] = {"at1": [], "at10": []}
    for ids, probe in zip(known._candidates.search(probes), probes, strict=True):
        nearest = known._ids[np.argsort(-(known.rows @ probe))[:10]]
        for name, k in (("at1", 1), ("at10", 10)):
            shares[name].append(len(np.intersect1d(ids, nearest[:k])) / k)
    kinds = {"even": slice(PROBES), "near": slice(PROBES, None)}
    return {kind: {name: float(np.mean(share[part])) for name, share in shares.items()} for kind, part in kinds.items()}


def tables(result: Result) -> list[Table]:
    """One row a size."""

    def times(one: Result | None) -> str:
        return " / ".join(f"{one[kind]['p50']:.2f}" for kind in KINDS) if one else "none"

    def recall(one: Result | None, name: str) -> str:
        return " / ".join(f"{one[kind][name]:.3f}" for kind in KINDS) if one else "all compared"

    rows = [
        (
            f"{one['vectors']:,}",
            f"{one['open_s']:.2f}",
            times(one["exact_ms"]),
            f"{one['batch_ms']:.2f}",
            times(one["indexed_ms"]),
            *(recall(one["recall"], name) for name in ("at1", "at10")),
        )
        for one in result["galleries"]
    ]
    intro = (
        f"Vectors of {result['dim']} numbers in a SQLite file; medians of `identify` of one probe, and a probe's share "
        f"of one call with all. Two figures are of {' and of '.join(KINDS.values())}. Recall: of the exactly nearest "
        f"1 or 10 vectors, the share among the index's candidates; there is an index above {result['exact_up_to']:,} "
        "vectors."
    )
    columns = (
        "vectors",
        "open, s",
        "one probe, all compared, ms",
        "in one call, ms",
        "with the index, ms",
        "recall@1",
        "recall@10",
    )
    enrolling = result["enrolling"]
    built = [f"{one['build_s']:.0f} s for {one['vectors']:,}" for one in result["galleries"] if one["indexed_ms"]]
    outro = (
        f"{enrolling['persons_per_s']:.0f} persons of {enrolling['vectors']} vectors are enrolled a second, each on "
        f"the disk before the next; one is forgotten in {enrolling['forget_ms']:.0f} ms."
        + "".join(f" The index takes one thread {one} vectors." for one in built)
    )
    return [Table("gallery", intro, columns, rows, outro)]


if __name__ == "__main__":
    main(__file__, measure, tables)
