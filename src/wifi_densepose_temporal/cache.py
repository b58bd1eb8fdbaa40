"""The key/value cache of one sequence: what `AetherTemporalHead.step` appends to.

One cache belongs to one track, and to one thread at a time. It keeps every token up to `capacity`; what a full one does
is its policy's: it refuses, unless another one was asked for (docs/semantics.md, "Full caches").
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.config import TemporalHeadConfig, as_int
from wifi_densepose_temporal.errors import ConfigError, MemoryLimitError

CacheDtype = Literal["float32", "float16"]
CachePolicy = Literal["refuse", "sliding", "heavy-hitter", "h2o-compact"]

#: Complete blocks whose means a sliding or heavy-hitter cache keeps: the newest so many.
DEFAULT_LANDMARK_BLOCKS: int = _core.DEFAULT_LANDMARK_BLOCKS


class KvCache:
    """Keys and values of the tokens so far, with the running means of their blocks.

    Made by `AetherTemporalHead.make_cache`. `len(cache)` tokens are held.
    """

    def __init__(
        self,
        config: TemporalHeadConfig,
        capacity: int,
        dtype: DTypeLike = "float32",
        policy: CachePolicy = "refuse",
        landmark_blocks: int = DEFAULT_LANDMARK_BLOCKS,
    ) -> None:
        """An empty cache.

        Args:
            config: the head that will step it; causal.
            capacity: tokens it can hold; memory is reserved now and touched as it fills.
            dtype: `"float32"`, or `"float16"` for half the memory at about three digits. Arithmetic stays float32.
            policy: what a full cache does with the next token. `"refuse"`: CacheFullError. `"sliding"`: keeps the
                newest `capacity` tokens, and the global ones beside them. `"heavy-hitter"`: lets go of the token that
                has received the least attention (Zhang et al., "H2O", 2023). `"h2o-compact"`: lets go of the one with
                the lowest of the scores that `step` is given, and renumbers the others.
            landmark_blocks: complete blocks whose means a sliding or heavy-hitter cache keeps, the newest so many.

        Raises:
            ConfigError: the head is not causal, capacity or landmark_blocks is below 1, or dtype or policy is another.
            MemoryLimitError: this machine has not that much memory.
        """
        if not isinstance(config, TemporalHeadConfig):
            raise ConfigError(f"config is {type(config).__name__}; expected a TemporalHeadConfig")
        if not config.causal:
            raise ConfigError("a cache needs a causal head: a non-causal one sees tokens that are not there yet")
        capacity = as_int("capacity", capacity, least=1)
        self._dtype = as_cache_dtype(dtype)
        self._policy = as_cache_policy(policy)
        self._landmark_blocks = as_int("landmark_blocks", landmark_blocks, least=1)
        try:
            self._core = _core.Cache(
                config.core, capacity, self._dtype == "float16", self._policy, self._landmark_blocks
            )
        except MemoryError:
            raise MemoryLimitError(f"a cache of {capacity} tokens does not fit into memory; lower capacity") from None

    def __len__(self) -> int:
        return self._core.length

    def __repr__(self) -> str:
        core = self._core
        return (
            f"KvCache(len={len(self)}, capacity={self.capacity}, kv_heads={core.kv_heads}, head_dim={core.head_dim}, "
            f"dtype={self.dtype!r}, policy={self.policy!r}, nbytes={self.nbytes})"
        )

    @property
    def dtype(self) -> CacheDtype:
        """Of the keys and values held: `"float32"` or `"float16"`."""
        return self._dtype

    @property
    def policy(self) -> CachePolicy:
        """What the cache does when it is full."""
        return self._policy

    @property
    def landmark_blocks(self) -> int:
        """Complete blocks whose means a sliding or heavy-hitter cache keeps; the others keep all."""
        return self._landmark_blocks

    @property
    def capacity(self) -> int:
        """Tokens that fit; a sliding cache holds the global tokens beside them."""
        return self._core.capacity

    @property
    def position(self) -> int:
        """Position, counted from the sequence's start, that the next token will have; of h2o-compact, `len`."""
        return self._core.position

    @property
    def is_full(self) -> bool:
        """True when the next append will be refused; of h2o-compact, one without scores.

        A sliding cache never is, and a heavy-hitter cache only where every token that it holds is global.
        """
        return self._core.is_full

    @property
    def nbytes(self) -> int:
        """Bytes of memory reserved."""
        return self._core.nbytes

    def clear(self) -> None:
        """Forgets every token, in constant time; heavy-hitter in O(capacity)."""
        self._core.clear()

    def copy(self) -> KvCache:
        """A second cache with the same content, which from here on goes its own way. Takes O(len) time.

        Raises:
            MemoryLimitError: this machine has not that much memory.
        """
        twin = object.__new__(KvCache)
        twin._dtype, twin._policy, twin._landmark_blocks = self._dtype, self._policy, self._landmark_blocks
        try:
            twin._core = self._core.copy()
        except MemoryError:
            raise MemoryLimitError(f"a copy of {self.nbytes} bytes does not fit into memory") from None
        return twin

    def __copy__(self) -> KvCache:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, object]) -> KvCache:
        return self.copy()

    def positions(self) -> NDArray[np.int64]:
        """Positions of the tokens held, ascending: int64 `[len]`."""
        return self._core.positions()

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Copies of the keys and the values held, in the order of `positions`: float32 `[len, Hkv, D]` each."""
        return self._core.read()

    def tobytes(self) -> bytes:
        """Everything that is held, as it lies in memory: caches with equal bytes go on equally, bit by bit."""
        return self._core.tobytes()


def as_cache_dtype(dtype: DTypeLike) -> CacheDtype:
    """`dtype` as one of the two names that a cache can have.

    Raises:
        ConfigError: any other.
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in ("float32", "float16"):
        raise ConfigError(f"a cache of dtype {name} was asked for; expected float32 or float16")
    return cast(CacheDtype, name)


def as_cache_policy(policy: str) -> CachePolicy:
    """`policy` as one of the names that a cache can have.

    Raises:
        ConfigError: any other.
    """
    if not isinstance(policy, str) or policy not in get_args(CachePolicy):
        raise ConfigError(f"policy is {policy!r}; expected one of {', '.join(get_args(CachePolicy))}")
    return cast(CachePolicy, policy)
