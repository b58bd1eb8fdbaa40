"""The attention head: a whole window at once, or one frame at a time against a cache. Both give the same numbers.

Axis letters: B batch, T positions, Hq query heads, Hkv key/value heads, D head_dim. The arithmetic is in `core/`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import as_float32, require_finite
from wifi_densepose_temporal.cache import KvCache
from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.errors import (
    CacheFullError,
    ConfigError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
)


class AetherTemporalHead:
    """Sparse (or dense) grouped-query attention over a sequence; holds no state but its configuration.

    >>> import numpy as np
    >>> head = AetherTemporalHead(TemporalHeadConfig.default_aether())
    >>> rng = np.random.default_rng(0)
    >>> q, k, v = (rng.uniform(-1, 1, (100, heads, 32)).astype(np.float32) for heads in (4, 1, 1))
    >>> out = head.forward(q, k, v)
    >>> cache = head.make_cache(capacity=100)
    >>> bool(np.allclose([head.step(q[t], k[t], v[t], cache) for t in range(100)], out, atol=1e-6))
    True
    """

    def __init__(self, config: TemporalHeadConfig) -> None:
        """A head of this configuration.

        Raises:
            ConfigError: config is no TemporalHeadConfig.
        """
        if not isinstance(config, TemporalHeadConfig):
            raise ConfigError(f"config is {type(config).__name__}; expected a TemporalHeadConfig")
        self.config = config

    def __repr__(self) -> str:
        return f"AetherTemporalHead({self.config!r})"

    def forward(self, q: ArrayLike, k: ArrayLike, v: ArrayLike) -> NDArray[np.float32]:
        """Attention of a whole window.

        Args:
            q: `[T, Hq, D]` or `[B, T, Hq, D]`, float32 or exactly convertible to it. T may be 0.
            k: `[T, Hkv, D]`, or with the same B in front.
            v: like `k`.

        Returns:
            float32, the shape of `q`: row t is the softmax of q·k/sqrt(D) over t's candidates, times their values.

        Raises:
            ShapeError: shapes that do not fit each other or the configuration.
            DtypeError: a dtype that float32 cannot hold.
            NonFiniteError: NaN, infinity or a number beyond 1e12, with the first one's index.
            MemoryLimitError: the output, or a copy of an input that needs one, does not fit into memory.
        """
        arrays = [as_float32(name, value) for name, value in (("q", q), ("k", k), ("v", v))]
        rank = arrays[0].ndim
        if rank not in (3, 4):
            raise ShapeError(f"q has shape {arrays[0].shape}; expected [T, Hq, D] or [B, T, Hq, D]")
        lead = arrays[0].shape[:-2]
        for name, array in zip("qkv", arrays, strict=True):
            self._require_shape(name, array, lead)
            require_finite(name, array)
        batched = [array if rank == 4 else array[np.newaxis] for array in arrays]
        try:
            out = np.empty_like(batched[0])
            _core.forward(self.config.core, batched[0], batched[1], batched[2], out)
        except MemoryError:
            raise MemoryLimitError(f"a window of shape {arrays[0].shape} does not fit into memory") from None
        return out.reshape(arrays[0].shape)

    def make_cache(self, capacity: int, dtype: DTypeLike = "float32") -> KvCache:
        """An empty cache for one sequence of up to `capacity` tokens; see `KvCache`.

        Raises:
            ConfigError: the head is not causal, capacity is below 1, or dtype is neither float32 nor float16.
            MemoryLimitError: this machine has not that much memory.
        """
        return KvCache(self.config, capacity, dtype)

    def step(self, q: ArrayLike, k: ArrayLike, v: ArrayLike, cache: KvCache) -> NDArray[np.float32]:
        """Appends one token to the cache and attends: row `cache.position` of `forward` over the whole sequence.

        Takes O(window + log T) time. A call that raises leaves the cache as it was.

        Args:
            q: `[Hq, D]` or `[1, Hq, D]`.
            k: `[Hkv, D]` or `[1, Hkv, D]`.
            v: like `k`.
            cache: made by `make_cache` of a head with the same `kv_heads`, `head_dim` and `block_size`.

        Returns:
            float32, the shape of `q`.

        Raises:
            ShapeError, DtypeError, NonFiniteError: as `forward`; more than one token is a ShapeError.
            CacheFullError: the cache holds `capacity` tokens.
            ConfigError: the cache was made for another head.
            CacheInUseError: another thread is in a call on this cache.
        """
        if not isinstance(cache, KvCache):
            raise ConfigError(f"cache is {type(cache).__name__}; expected the KvCache that make_cache() gives")
        arrays = [as_float32(name, value) for name, value in (("q", q), ("k", k), ("v", v))]
        for name, array in zip("qkv", arrays, strict=True):
            if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0] != 1):
                raise ShapeError(
                    f"{name} has shape {array.shape}; a step takes one token, [heads, D] or [1, heads, D]: "
                    "use forward for a window"
                )
            self._require_shape(name, array, array.shape[:-2])
            require_finite(name, array)
        rows = [array.reshape(array.shape[-2:]) for array in arrays]
        out = np.empty_like(rows[0])
        status = _core.step(self.config.core, cache._core, rows[0], rows[1], rows[2], out)
        if status != _core.Status.OK:
            raise self._refusal(status, cache)
        return out.reshape(arrays[0].shape)

    def edge_count(self, T: int) -> int:  # noqa: N803 - the axis letter of the documentation
        """Number of (query, candidate) pairs per query head over a sequence of `T` positions.

        The work of a window: each pair costs 4·D floating-point operations per query head.

        Raises:
            ShapeError: T is no whole number from 0 to 2^30.
        """
        if isinstance(T, bool) or not isinstance(T, int | np.integer) or not 0 <= T <= _core.MAX_EXTENT:
            raise ShapeError(f"T is {T!r}; expected a length, 0 to {_core.MAX_EXTENT}")
        return _core.edge_count(self.config.core, int(T))

    def _require_shape(self, name: str, array: NDArray[np.float32], lead: tuple[int, ...]) -> None:
        heads = self.config.q_heads if name == "q" else self.config.kv_heads
        expected = (*lead, heads, self.config.head_dim)
        if array.shape != expected:
            raise ShapeError(
                f"{name} has shape {array.shape}; expected {expected}: "
                f"{heads} {'query' if name == 'q' else 'key/value'} heads of {self.config.head_dim}"
            )

    def _refusal(self, status: int, cache: KvCache) -> Exception:
        if status == _core.Status.FULL:
            return CacheFullError(
                f"the cache holds {len(cache)} of {cache.capacity} tokens; make a larger one, or clear() it"
            )
        if status == _core.Status.HALF_RANGE:
            return NonFiniteError("k or v has a value beyond +-65504, float16's largest; use a float32 cache")
        return ConfigError(f"{cache!r} was made for a head with other kv_heads, head_dim or blocks than {self.config}")
