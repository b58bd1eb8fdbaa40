"""A trained blob with its weights in int8: a quarter of float32's bytes, and on a chip fewer instructions than float16.

Every tensor has one scale, its largest number over 127. Nothing is trained or calibrated: run the model on recordings
to see what rounding does to its decisions (`wdt node quantise --check`).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np

from wifi_densepose_temporal.errors import BlobModelError
from wifi_densepose_temporal.rvne import records, tensors
from wifi_densepose_temporal.rvne.blob import WeightBlob, WeightBlobView
from wifi_densepose_temporal.rvne.records import Record
from wifi_densepose_temporal.rvne.reference import REFERENCE_SHA256


def quantise(blob: bytes) -> bytes:
    """The same model with int8 weights, rounded to nearest even.

    Records that hold no weights are kept as they are, and the provenance receives `quantised`: the dtype, and the
    digest of `blob`.

    Raises:
        BlobError: as `WeightBlobView.parse`; `BlobModelError` if it is int8 already, or no model.
    """
    view = WeightBlobView.parse(blob)
    if view.header.dtype == "int8":
        raise BlobModelError("the weights are int8 already; quantise the float32 or float16 model that they came from")
    header = replace(view.header, dtype="int8")
    weights = np.frombuffer(tensors.write_int8(view.tensors()), np.int8)
    kept = [_quantised(record, view) for record in view.records if record.name != "provenance"]
    return WeightBlob(header, weights, [*kept, records.provenance(_facts(blob, view))]).serialize()


def _quantised(record: Record, view: WeightBlobView) -> Record:
    words, values = view.record_tensors(record)
    return replace(record, payload=words + tensors.write_int8(values))


def _facts(blob: bytes, view: WeightBlobView) -> dict[str, Any]:
    digest, record = hashlib.sha256(blob).hexdigest(), view.record("provenance")
    facts = records.read_provenance(record.payload) if record else {}
    if digest == REFERENCE_SHA256:  # known by its digest, which the result does not have
        facts["trained"] = False
    return facts | {"quantised": {"dtype": "int8", "from": digest}}
