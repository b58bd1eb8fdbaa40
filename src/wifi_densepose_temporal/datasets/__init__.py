"""Data sets: which recordings there are, who, when and what; splits that do not leak; frames with their labels."""

from __future__ import annotations

from wifi_densepose_temporal.datasets.cache import FeatureCache
from wifi_densepose_temporal.datasets.frames import packets_of
from wifi_densepose_temporal.datasets.labelled import LabelledFrames, labelled_frames
from wifi_densepose_temporal.datasets.layouts import open_dataset
from wifi_densepose_temporal.datasets.manifest import (
    Manifest,
    Selector,
    parse_selector,
    read_manifest,
    write_manifest,
)
from wifi_densepose_temporal.datasets.recording import HeldOut, Recording
from wifi_densepose_temporal.datasets.split import Split, check_leakage, make_folds, make_split

__all__ = [
    "FeatureCache",
    "HeldOut",
    "LabelledFrames",
    "Manifest",
    "Recording",
    "Selector",
    "Split",
    "check_leakage",
    "labelled_frames",
    "make_folds",
    "make_split",
    "open_dataset",
    "packets_of",
    "parse_selector",
    "read_manifest",
    "write_manifest",
]
