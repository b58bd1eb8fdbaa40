"""From a capture file to feature frames: readers, features, windows."""

from __future__ import annotations

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.features import FeatureConfig, FeaturePart, FeatureStream, Frames, extract, features
from wifi_densepose_temporal.csi.read import read_capture
from wifi_densepose_temporal.csi.windows import windows

__all__ = [
    "Capture",
    "FeatureConfig",
    "FeaturePart",
    "FeatureStream",
    "Frames",
    "extract",
    "features",
    "read_capture",
    "windows",
]
