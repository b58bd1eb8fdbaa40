"""What the extension's pool holds against its caller: streams/pool.py never does this."""

from __future__ import annotations

import numpy as np
import pytest

from tests.streams.conftest import model_of
from wifi_densepose_temporal import _core


def test_arrays_of_other_sizes_are_refused() -> None:
    model = model_of("reference")
    pool = _core.Pool(model._core, 8, False, "sliding", 4)
    pool.grow(4)
    frames, logits = np.zeros((4, model.input_dim), np.float32), np.zeros((4, model.header.n_classes), np.float32)
    embedding, status = np.zeros((4, model.embedding_dim), np.float32), np.full(8, 7, np.uint8)
    for size in (1, 3, 5):
        with pytest.raises(ValueError, match="sizes"):
            pool.push(np.arange(4), frames, logits, embedding, status[:size], 1)
    assert (status == 7).all()


def test_slots_that_cannot_be_laid_out_are_not_added() -> None:
    pool = _core.Pool(model_of("reference")._core, 8, False, "h2o-compact", 4)
    with pytest.raises(ValueError, match="policy"):
        pool.grow(3)
    assert pool.slots == 0
