"""More than one process or machine, by Ray (extra `ray`): tracks in shards, many captures at once. No arithmetic."""

from __future__ import annotations

from wifi_densepose_temporal.distributed.embed import EmbeddingJob, embed_captures
from wifi_densepose_temporal.distributed.shards import ShardedPool

__all__ = ["EmbeddingJob", "ShardedPool", "embed_captures"]
