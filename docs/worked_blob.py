"""Prints the worked example of docs/rvne-format.md: the smallest model with two records, byte by byte.

    python docs/worked_blob.py

It writes nothing; tests/test_docs.py holds the page to what this prints.
"""

from __future__ import annotations

import numpy as np

from wifi_densepose_temporal import WeightBlob, WeightBlobHeader
from wifi_densepose_temporal.rvne import records

HEADER = WeightBlobHeader(input_dim=2, n_q_heads=1, n_kv_heads=1, head_dim=1, n_layers=1, n_classes=2, dtype="float16")
TENSORS = {
    "Wq [2, 1]": [0.5, -0.5],
    "Wk [2, 1]": [1, 0],
    "Wv [2, 1]": [0, 1],
    "Wo [1, 2]": [1, 1],
    "Wc [2, 2]": [1, 0, 0, 1],
}
RECORDS = (records.pooling("last"), records.class_labels(["still", "moving"]))
FIELDS = [
    (4, "magic"),
    (2, "version 1"),
    (1, "flags: float16, records"),
    (1, "reserved"),
    (2, "input_dim 2"),
    (2, "n_q_heads 1"),
    (2, "n_kv_heads 1"),
    (2, "head_dim 1"),
    (2, "n_layers 1"),
    (2, "n_classes 2"),
    (4, "weights_len 24"),
    *((2 * len(values), f"{name}, float16") for name, values in TENSORS.items()),
    (4, "records_len 40"),
    *(
        (size, f"pooling: {what}")
        for size, what in [(2, "tag 2"), (2, "critical"), (4, "length 8"), (8, "kind 1, frames 0")]
    ),
    *((size, f"labels: {what}") for size, what in [(2, "tag 8"), (2, "not critical"), (4, "length 13")]),
    (13, '"still\\0moving\\0"'),
    (3, "zeros up to a multiple of 4"),
    (4, "CRC-32 of everything above"),
]


def main() -> None:
    """Prints offset, bytes and meaning of every field."""
    weights = np.concatenate([np.asarray(values, np.float16) for values in TENSORS.values()])
    blob = WeightBlob(HEADER, weights, RECORDS).serialize()
    at = 0
    for size, meaning in FIELDS:
        print(f"{at:04x}  {blob[at : at + size].hex(' '):<41} {meaning}")  # noqa: T201
        at += size
    if at != len(blob):
        raise SystemExit(f"the fields add up to {at} bytes and the blob has {len(blob)}")


if __name__ == "__main__":
    main()
