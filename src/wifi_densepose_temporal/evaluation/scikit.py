"""scikit-learn's metrics, imported only when something is evaluated."""

from __future__ import annotations

from typing import Any

from wifi_densepose_temporal.errors import MissingExtraError

NEEDED = ("sklearn",)  # modules


def metrics() -> Any:
    """The module `sklearn.metrics`.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn import metrics as module  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(
            f"an evaluation needs scikit-learn ({error}): pip install 'wifi-densepose-temporal[evaluate]'"
        ) from None
    return module
