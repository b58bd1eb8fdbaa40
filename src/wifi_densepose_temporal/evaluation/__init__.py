"""What a model is worth on recordings: streaming decisions, metrics, reports. Needs the extra `evaluate`."""

from __future__ import annotations

from wifi_densepose_temporal.evaluation.activity import ActivityResult, ClassScore, ScoredRecording, evaluate_activity
from wifi_densepose_temporal.evaluation.decisions import NO_DECISION, Decisions, Windowing, decide, frames_at_packets
from wifi_densepose_temporal.evaluation.identity import (
    Gallery,
    IdentityResult,
    Scores,
    WindowEmbeddings,
    embed_windows,
    evaluate_identity,
    score,
)
from wifi_densepose_temporal.evaluation.open_set import (
    FPIRS,
    Searches,
    equal_error_rate,
    joined,
    rates_at,
    search,
    threshold_at,
    tpir,
)
from wifi_densepose_temporal.evaluation.plots import plot_cmc, plot_confusion
from wifi_densepose_temporal.evaluation.report import (
    activity_document,
    identity_document,
    leak_warning,
    seen_in_training,
    split_words,
)

__all__ = [
    "FPIRS",
    "NO_DECISION",
    "ActivityResult",
    "ClassScore",
    "Decisions",
    "Gallery",
    "IdentityResult",
    "ScoredRecording",
    "Scores",
    "Searches",
    "WindowEmbeddings",
    "Windowing",
    "activity_document",
    "decide",
    "embed_windows",
    "equal_error_rate",
    "evaluate_activity",
    "evaluate_identity",
    "frames_at_packets",
    "identity_document",
    "joined",
    "leak_warning",
    "plot_cmc",
    "plot_confusion",
    "rates_at",
    "score",
    "search",
    "seen_in_training",
    "split_words",
    "threshold_at",
    "tpir",
]
