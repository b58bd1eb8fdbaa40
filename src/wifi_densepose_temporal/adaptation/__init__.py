"""A trained model and a few labelled recordings of another place: the same model with a classifier for that place."""

from wifi_densepose_temporal.adaptation.adapt import (
    Adaptation,
    adapt,
    classifier_of,
    statistics_of,
    windows_in,
    with_statistics,
)
from wifi_densepose_temporal.adaptation.discriminant import (
    Classifier,
    ClassStatistics,
    Validation,
    Windows,
    folds,
    measure,
    refit,
    validate,
)

__all__ = [
    "Adaptation",
    "ClassStatistics",
    "Classifier",
    "Validation",
    "Windows",
    "adapt",
    "classifier_of",
    "folds",
    "measure",
    "refit",
    "statistics_of",
    "validate",
    "windows_in",
    "with_statistics",
]
