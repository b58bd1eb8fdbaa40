"""The reference blob: AETHER-shaped random weights, the same bytes everywhere. It is untrained by construction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wifi_densepose_temporal.rvne.blob import WeightBlob, WeightBlobHeader

_SEED = 0xC5110007DEADBEEF
_MULTIPLIER = 2685821657736338717
_U64 = (1 << 64) - 1

REFERENCE_HEADER = WeightBlobHeader(
    input_dim=16, n_q_heads=4, n_kv_heads=1, head_dim=32, n_layers=2, n_classes=4, dtype="float32"
)
#: sha256 of the bytes, as docs/rvne-format.md states it; a blob with this digest is known to be untrained.
REFERENCE_SHA256 = "7c6c074ef3b6b23b4d9ae2327deaade81329f003c3a52b59581492c08252d49d"


def init_random_blob() -> bytes:
    """The reference blob's bytes: 41,244 of them, sha256 `REFERENCE_SHA256`.

    Each weight is `(high 32 bits of xorshift64* as float32 / float32(2^32 - 1) - 0.5) * 0.2`, in float32
    (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
    """
    count = REFERENCE_HEADER.model_floats()
    draws = np.fromiter((value >> 32 for value in _xorshift64_star(count)), np.uint32, count)
    weights = (draws.astype(np.float32) / np.float32(2**32 - 1) - np.float32(0.5)) * np.float32(0.2)
    return WeightBlob(REFERENCE_HEADER, weights).serialize()


def _xorshift64_star(count: int) -> Iterator[int]:
    state = _SEED
    for _ in range(count):
        state ^= state << 13 & _U64
        state ^= state >> 7
        state ^= state << 17 & _U64
        yield state * _MULTIPLIER & _U64
