"""What the measurement of latency measures; how fast anything is, no test says."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.test_blob import CHAIN, LABELS, network_of
from wifi_densepose_temporal import AetherTemporalHead, TemporalModel
from wifi_densepose_temporal.errors import NonFiniteError
from wifi_densepose_temporal.evaluation import latency
from wifi_densepose_temporal.training.blob import to_blob


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> TemporalModel:
    monkeypatch.setattr(latency, "REPEAT", 4)
    blob = to_blob(network_of(), labels=LABELS, chain=CHAIN, provenance={"trained": False})
    return TemporalModel.from_bytes(blob.serialize())


def test_every_length_has_a_row_whatever_frames_there_are(model: TemporalModel) -> None:
    turns: list[None] = []
    rows = latency.measure(model, model, np.ones((3, 16), np.float32), [40, 1, 17], lambda: turns.append(None))
    assert [row.T for row in rows] == [1, 17, 40]
    assert len(turns) == 4
    head = AetherTemporalHead(model.config)
    for row in rows:
        assert row.edge_ratio == row.T * (row.T + 1) / 2 / head.edge_count(row.T)
        for timing in (row.step, row.prefill):
            assert timing.repeats == 4
            assert timing.speedup == timing.dense_ms / timing.sparse_ms
            assert timing.interval is not None
            assert 0 < timing.interval[0] <= timing.interval[1]


def test_a_length_past_its_budget_is_measured_no_more_than_it_has_to(
    model: TemporalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "BUDGET_S", 0.0)
    (row,) = latency.measure(model, model, np.ones((1, 16), np.float32), [5])
    assert row.step.repeats == latency.LEAST_REPEATS


def test_frames_that_the_model_refuses_give_no_time(model: TemporalModel) -> None:
    with pytest.raises(NonFiniteError):
        latency.measure(model, model, np.full((2, 16), 3e38, np.float32), [4])
