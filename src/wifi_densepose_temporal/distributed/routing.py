"""Which shard a track belongs to, from its id and the shards' names alone: no table, no state, no arithmetic of tracks.

Rendezvous hashing, "highest random weight" (Thaler and Ravishankar, "Using name-based mappings to increase hit rates",
IEEE/ACM Transactions on Networking 6(1), 1998): every pair of a track and a shard has a weight, drawn by a hash, and
the track belongs to the shard of the largest. A shard that joins takes the tracks for which it is now the largest,
about 1/n of all, and no track moves between two others; one that leaves gives its own away, and no other track moves.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from wifi_densepose_temporal.errors import ConfigError


@lru_cache(maxsize=1 << 20)  # ids of tracks come back each tick, and a hash for each shard takes a microsecond
def shard_of(track: int | str, shards: tuple[str, ...]) -> str:
    """The shard that a track belongs to; the order of `shards` does not matter.

    Args:
        track: its id, as `StreamPool` has it.
        shards: names, each once.

    Raises:
        ConfigError: no shards.
    """
    if not shards:
        raise ConfigError("there is no shard to route to; give at least one")
    return max(shards, key=lambda shard: (_weight(track, shard), shard))


def _weight(track: int | str, shard: str) -> bytes:
    """64 bits that look random: blake2b of the track, keyed by the shard; the same in every process and release."""
    key = blake2b(shard.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    text = f"s{track}" if isinstance(track, str) else f"i{int(track)}"  # 1 and "1" are two tracks, 1 and True are one
    return blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
