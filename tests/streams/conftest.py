"""Models that pools are tested with."""

from __future__ import annotations

from functools import cache

from wifi_densepose_temporal import TemporalModel, init_random_blob, load_model


@cache
def model_of(name: str) -> TemporalModel:
    return TemporalModel.from_bytes(init_random_blob()) if name == "reference" else load_model(name)
