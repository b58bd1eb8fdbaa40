"""Thousands of tracks through one model: a pool of streams, pushed a frame of each at a time."""

from wifi_densepose_temporal.streams.decisions import Decisions
from wifi_densepose_temporal.streams.gaps import GapPolicy
from wifi_densepose_temporal.streams.pool import StreamPool
from wifi_densepose_temporal.streams.smoothing import ForwardFilter
from wifi_densepose_temporal.streams.snapshot import Snapshots
from wifi_densepose_temporal.streams.tracks import Counters, TrackId

__all__ = ["Counters", "Decisions", "ForwardFilter", "GapPolicy", "Snapshots", "StreamPool", "TrackId"]
