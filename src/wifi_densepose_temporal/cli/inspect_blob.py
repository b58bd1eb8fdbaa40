"""`wdt inspect`: what an .rvne blob holds, and whether it is a model. It runs nothing but the model's own checks.

A damaged blob is refused with the name of the first check that it fails; a blob that is sound but no model is shown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
import typer

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.cli.output import JsonOption, print_facts, print_json, print_line, print_table
from wifi_densepose_temporal.errors import BlobError, TemporalError
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.models import find_model
from wifi_densepose_temporal.rvne import Record, WeightBlobView, records
from wifi_densepose_temporal.rvne.blob import MAX_BLOB_BYTES
from wifi_densepose_temporal.rvne.records import read_class_labels, read_provenance
from wifi_densepose_temporal.timeline import training_note

MAX_TENSORS_SHOWN = 64  # in the table; JSON has them all
FIGURES = ("min", "max", "mean", "std")
NUMBERED = {"norm": _core.NORMS, "kind": _core.POOLINGS, "activation": _core.ACTIVATIONS}


def inspect(
    blob: Annotated[str, typer.Argument(metavar="BLOB", help="A .rvne file, or the name of a shipped model.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a blob holds and whether it is a model.

    Header, records, statistics of the weights, checksums, provenance, and what makes the model doubtful.
    """
    path = find_model(blob)
    content = read_whole(path, MAX_BLOB_BYTES)
    try:
        view = WeightBlobView.parse(content)
    except BlobError as error:
        raise type(error)(f"{path}: failed check {failed_check(error)!r}: {error}") from None
    document = describe(path.name, content, view)
    if as_json:
        print_json(document)
    else:
        _print(document)


def failed_check(error: BlobError) -> str:
    """The check's name, from the error's: `BlobHeadRatioError` is "head ratio"."""
    words = re.findall("[A-Z][a-z]*", type(error).__name__.removeprefix("Blob").removesuffix("Error"))
    return " ".join(words).lower()


def describe(name: str, content: bytes, view: WeightBlobView) -> dict[str, Any]:
    """Everything about a blob whose container is sound."""
    try:
        model, why_not = TemporalModel.from_bytes(content), None
    except TemporalError as error:
        model, why_not = None, str(error)
    return {
        "file": name,
        "bytes": len(content),
        "model_sha256": hashlib.sha256(content).hexdigest(),
        "crc32": f"0x{view.crc:08x}",
        "header": {"version": _core.RVNE_VERSION, **asdict(view.header), "weights_bytes": view.weights.nbytes},
        "records": [describe_record(record) for record in view.records],
        "tensors": [_statistics(name, tensor) for name, tensor in tensors(view)],
        "model": model is not None,
        "why_not": why_not,
        "trained": None if model is None else model.trained,
        "note": None if model is None else training_note(model),
        "provenance": None if model is None else model.provenance,
        "labels": None if model is None else model.labels,
        "warnings": [] if model is None else model.warnings,
        "config": None if model is None else asdict(model.config),
    }


def tensors(view: WeightBlobView) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of the weights, as docs/rvne-format.md lays them out; one flat `weights` if they do not fit.

    With `d = input_dim`, `dq = n_q_heads * head_dim` and `dkv = n_kv_heads * head_dim`: per layer Wq `[d, dq]`, Wk and
    Wv `[d, dkv]`, Wo `[dq, d]`; then Wc `[pooled, n_classes]`, where `pooled` is d, or 2 d with `mean_spread` pooling.
    """
    header, weights = view.header, _numbers(view)
    d, dq, dkv = header.input_dim, header.n_q_heads * header.head_dim, header.n_kv_heads * header.head_dim
    shapes = {"Wq": (d, dq), "Wk": (d, dkv), "Wv": (d, dkv), "Wo": (dq, d)}
    layers = header.n_layers * sum(rows * columns for rows, columns in shapes.values())
    if weights.size - layers not in (d * header.n_classes, 2 * d * header.n_classes):
        yield "weights", weights
        return
    at = 0
    for layer in range(header.n_layers):
        for name, shape in shapes.items():
            size = shape[0] * shape[1]
            yield f"layer {layer} {name}", weights[at : at + size].reshape(shape)
            at += size
    yield "Wc", weights[at:].reshape(-1, header.n_classes)


def _numbers(view: WeightBlobView) -> np.ndarray:
    """The weights; of int8 in float32 or, where they do not fit the header, the bytes that they lie in."""
    if view.header.dtype != "int8":
        return view.weights
    try:
        return np.concatenate(view.tensors())
    except BlobError:
        return view.weights


def _statistics(name: str, tensor: np.ndarray) -> dict[str, Any]:
    """Minimum, maximum, mean and standard deviation of the finite values, and how many are not finite."""
    exact = tensor.astype(np.float64)
    finite = exact[np.isfinite(exact)]
    figures = (finite.min(), finite.max(), finite.mean(), finite.std()) if finite.size else (None,) * 4
    return {
        "name": name,
        "shape": list(tensor.shape),
        **dict(zip(FIGURES, figures, strict=True)),
        "non_finite": exact.size - finite.size,
    }


def describe_record(record: Record) -> dict[str, Any]:
    """A record's name, tag, whether a loader must know it, its size, and its content in short."""
    try:
        content = _content(record)
    except BlobError as error:
        content = f"unreadable: {error}"
    return {
        "name": record.name,
        "tag": record.tag,
        "critical": record.critical,
        "bytes": len(record.payload),
        "content": content,
    }


def _content(record: Record) -> object:
    if record.name == "class_labels":
        return read_class_labels(record.payload)
    if record.name == "provenance":
        return read_provenance(record.payload)
    fields = _core.RECORD_WORDS.get(record.name, [])
    words = np.frombuffer(record.payload[: len(record.payload) // 4 * 4], "<u4").tolist()
    if len(words) < len(fields):
        return f"unreadable: {len(record.payload)} bytes; expected at least {4 * len(fields)}"
    content: dict[str, object] = dict(zip(fields, words, strict=False))
    for field, names in NUMBERED.items():
        number = content.get(field)
        if isinstance(number, int) and number < len(names):
            content[field] = names[number]
    if record.name == "feature_chain" and content["version"] == 2:
        return content | _parts(words[len(fields) :])
    rest = len(record.payload) - 4 * len(fields)
    if record.name == "pattern":
        content["global_tokens"] = words[len(fields) :]
    elif rest:
        content["tensor_bytes" if record.name != "unknown" else "unknown_bytes"] = rest
    return content


def _parts(words: list[int]) -> dict[str, object]:
    """What a feature chain of version 2 goes on with: frame_bins, hold, n_parts, the parts."""
    fields, counts, rest = _core.CHAIN_PART_FIELDS, dict(zip(records.CHAIN_COUNTS, words, strict=False)), words[3:]
    rows = [dict(zip(fields, rest[at : at + len(fields)], strict=False)) for at in range(0, len(rest), len(fields))]
    kinds = dict(enumerate(_core.CHAIN_PARTS))
    parts: list[dict[str, object]] = [{**row, "kind": kinds.get(row["kind"], row["kind"])} for row in rows]
    return {**counts, "parts": parts}


def _print(document: dict[str, Any]) -> None:
    header = document["header"]
    facts = {name: document[name] for name in ("file", "bytes", "model_sha256", "crc32")}
    print_facts(facts | {name.replace("_", " "): value for name, value in header.items()})
    columns = ("name", "tag", "critical", "bytes", "content")
    if document["records"]:
        print_table(
            [[record[name] for name in columns] for record in document["records"]],
            columns,
            ("name", "content"),
            "records",
        )
    else:
        print_line("records: none")
    _print_tensors(document["tensors"])
    if not document["model"]:
        print_line(f"model: no, because {document['why_not']}", style="yellow")
        return
    print_line(f"model: yes, {len(document['labels'])} classes")
    print_facts({"labels": document["labels"], "provenance": document["provenance"] or "not stated"})
    print_line(document["note"], style="" if document["trained"] else "yellow")
    for warning in document["warnings"]:
        print_line(f"doubtful: {warning}", style="yellow")


def _print_tensors(statistics: list[dict[str, Any]]) -> None:
    rows = []
    for one in statistics[:MAX_TENSORS_SHOWN]:
        shown = [None if one[figure] is None else f"{one[figure]:.4g}" for figure in FIGURES]
        rows.append([one["name"], "x".join(map(str, one["shape"])), *shown, one["non_finite"]])
    print_table(rows, ("tensor", "shape", *FIGURES, "non-finite"), ("tensor", "shape"), "weights")
    if len(statistics) > MAX_TENSORS_SHOWN:
        print_line(f"and {len(statistics) - MAX_TENSORS_SHOWN} more tensors: --json has them all")
