"""The key/value cache of one sequence: what `AetherTemporalHead.step` appends to.

One cache belongs to one track, and to one thread at a time. It keeps every token up to `capacity`, and then refuses.
"""

from __future__ import annotations

from typing import Literal, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.config import TemporalHeadConfig, as_int
from wifi_densepose_temporal.errors import ConfigError, MemoryLimitError

CacheDtype = Literal["float32", "float16"]


class KvCache:
    """Keys and values of the tokens so far, with the running means of their blocks.

    Made by `AetherTemporalHead.make_cache`. `len(cache)` tokens are held.
    """

    def __init__(self, config: TemporalHeadConfig, capacity: int, dtype: DTypeLike = "float32") -> None:
        """An empty cache.

        Args:
            config: the head that will step it; causal.
            capacity: tokens it can hold; memory is reserved now and touched as it fills.
            dtype: `"float32"`, or `"float16"` for half the memory at about three digits. Arithmetic stays float32.

        Raises:
            ConfigError: the head is not causal, capacity is below 1, or dtype is another.
            MemoryLimitError: this machine has not that much memory.
        """
        if not isinstance(config, TemporalHeadConfig):
            raise ConfigError(f"config is {type(config).__name__}; expected a TemporalHeadConfig")
        if not config.causal:
            raise ConfigError("a cache needs a causal head: a non-causal one sees tokens that are not there yet")
        capacity = as_int("capacity", capacity, least=1)
        self._dtype = as_cache_dtype(dtype)
        try:
            self._core = _core.Cache(config.core, capacity, self._dtype == "float16")
        except MemoryError:
            raise MemoryLimitError(f"a cache of {capacity} tokens does not fit into memory; lower capacity") from None

    def __len__(self) -> int:
        return self._core.length

    def __repr__(self) -> str:
        core = self._core
        return (
            f"KvCache(len={len(self)}, capacity={self.capacity}, kv_heads={core.kv_heads}, head_dim={core.head_dim}, "
            f"dtype={self.dtype!r}, nbytes={self.nbytes})"
        )

    @property
    def dtype(self) -> CacheDtype:
        """Of the keys and values held: `"float32"` or `"float16"`."""
        return self._dtype

    @property
    def capacity(self) -> int:
        """Tokens that fit."""
        return self._core.capacity

    @property
    def position(self) -> int:
        """Position, counted from the sequence's start, that the next token will have."""
        return self._core.length

    @property
    def is_full(self) -> bool:
        """True when the next append will be refused."""
        return self._core.length == self._core.capacity

    @property
    def nbytes(self) -> int:
        """Bytes of memory reserved."""
        return self._core.nbytes

    def clear(self) -> None:
        """Forgets every token, in constant time."""
        self._core.clear()

    def copy(self) -> KvCache:
        """A second cache with the same content, which from here on goes its own way. Takes O(len) time.

        Raises:
            MemoryLimitError: this machine has not that much memory.
        """
        twin = object.__new__(KvCache)
        twin._dtype = self._dtype
        try:
            twin._core = self._core.copy()
        except MemoryError:
            raise MemoryLimitError(f"a copy of {self.nbytes} bytes does not fit into memory") from None
        return twin

    def __copy__(self) -> KvCache:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, object]) -> KvCache:
        return self.copy()

    def read(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Copies of the keys and the values held: float32 `[len, Hkv, D]` each."""
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
