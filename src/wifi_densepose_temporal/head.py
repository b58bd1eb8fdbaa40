"""The attention head: a whole window at once, or one frame at a time against a cache. Both give the same numbers.

Axis letters: B batch, T positions, Hq query heads, Hkv key/value heads, D head_dim. The arithmetic is in `core/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import Floats, as_float32, changed_meanwhile, require_finite, require_out
from wifi_densepose_temporal.cache import DEFAULT_LANDMARK_BLOCKS, CachePolicy, KvCache
from wifi_densepose_temporal.config import TemporalHeadConfig, as_int
from wifi_densepose_temporal.errors import (
    BatchRefusedError,
    CacheFullError,
    CacheInUseError,
    ConfigError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
    TemporalError,
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

    def forward(
        self, q: ArrayLike, k: ArrayLike, v: ArrayLike, *, threads: int = 1, out: Floats | None = None
    ) -> Floats:
        """Attention of a whole window.

        Args:
            q: `[T, Hq, D]` or `[B, T, Hq, D]`, float32 or exactly convertible to it. T may be 0.
            k: `[T, Hkv, D]`, or with the same B in front.
            v: like `k`.
            threads: at most this many work at it; fewer where there is too little to do, and never more than 256. The
                result is the same, bit for bit.
            out: where the result goes: float32, C-contiguous, of `q`'s shape, apart from the inputs. None makes it.

        Returns:
            float32, the shape of `q`: row t is the softmax of q·k/sqrt(D) over t's candidates, times their values.

        Raises:
            ShapeError: shapes that do not fit each other or the configuration.
            DtypeError: a dtype that float32 cannot hold; an `out` that cannot be written to as it is.
            NonFiniteError: NaN, infinity or a number beyond 1e12, with the first one's index.
            ConfigError: threads is no whole number of at least 1; `out` shares memory with an input.
            MemoryLimitError: the output, or a copy of an input that needs one, does not fit into memory.
        """
        try:
            taken = _core.forward(self.config.core, q, k, v, out, threads)
            if taken is None:
                window = self._as_window(q, k, v)
                require_out(out, window[0].shape, *window)
                taken = _core.forward(self.config.core, *window, out, as_int("threads", threads, least=1))
        except MemoryError as error:
            _raise_too_large(error)
        if taken is None:
            raise changed_meanwhile()
        return taken

    def make_cache(
        self,
        capacity: int,
        dtype: DTypeLike = "float32",
        policy: CachePolicy = "refuse",
        landmark_blocks: int = DEFAULT_LANDMARK_BLOCKS,
    ) -> KvCache:
        """An empty cache for one sequence that holds up to `capacity` tokens; see `KvCache`.

        Raises:
            ConfigError: the head is not causal, capacity or landmark_blocks is below 1, dtype is neither float32 nor
                float16, or policy is none of `CachePolicy`.
            MemoryLimitError: this machine has not that much memory.
        """
        return KvCache(self.config, capacity, dtype, policy, landmark_blocks)

    def step(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        cache: KvCache,
        *,
        scores: ArrayLike | None = None,
        out: Floats | None = None,
    ) -> Floats:
        """Appends one token to the cache and attends: row `cache.position` of `forward` over the whole sequence.

        Once a policy has let go of tokens, it is that row with its candidates restricted to what the cache holds. Takes
        O(window + log T) time (heavy-hitter O(window + log T log capacity), h2o-compact O(capacity) for each token that
        leaves), and no new memory where `out` is given. A call that raises leaves the cache as it was.

        Args:
            q: `[Hq, D]` or `[1, Hq, D]`.
            k: `[Hkv, D]` or `[1, Hkv, D]`.
            v: like `k`.
            cache: made by `make_cache` of a head with the same `kv_heads`, `head_dim` and `block_size`, and for sliding
                and heavy-hitter the same `window` and `global_tokens`.
            scores: for a cache with policy h2o-compact only, which needs them when it is full: `[len(cache)]`, finite;
                of the tokens before the newest `window` that are not global, the one with the lowest leaves.
            out: as in `forward`.

        Returns:
            float32, the shape of `q`.

        Raises:
            ShapeError, DtypeError, NonFiniteError: as `forward`; more than one token is a ShapeError.
            CacheFullError: the cache is full, and its policy lets no token go (h2o-compact: without scores).
            ConfigError: the cache was made for another head; `out` shares memory with an input; scores for a cache of
                another policy.
            CacheInUseError: another thread is in a call on this cache.
        """
        if not isinstance(cache, KvCache):
            raise ConfigError(f"cache is {type(cache).__name__}; expected the KvCache that make_cache() gives")
        taken = _core.step(self.config.core, cache._core, q, k, v, out, scores)
        if taken is None:
            token = self._as_token(q, k, v)
            row = None if scores is None else _as_scores(scores, cache)
            require_out(out, token[0].shape, *token, *([] if row is None else [row]))
            taken = _core.step(self.config.core, cache._core, *token, out, row)
        if taken is None or isinstance(taken, _core.Status):
            if scores is not None:
                _require_scored(cache)
            raise self._refusal(taken, cache)
        return taken

    def step_batch(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        caches: Sequence[KvCache],
        *,
        out: Floats | None = None,
        threads: int = 1,
    ) -> Floats:
        """`step` for one token of each of N tracks: row i goes to `caches[i]`. The same numbers, in one call.

        A track that refuses its token refuses alone; the others step. Any other error is raised before any has.

        Args:
            q: `[N, Hq, D]`.
            k: `[N, Hkv, D]`.
            v: like `k`.
            caches: a list or tuple of N caches, each once.
            out: as in `forward`.
            threads: as in `forward`.

        Returns:
            float32 `[N, Hq, D]`.

        Raises:
            ShapeError, DtypeError: as `forward`; N rows are expected for N caches.
            ConfigError: `caches` is no list or tuple of caches; `threads` or `out` as in `forward`.
            BatchRefusedError: after all others have stepped. Its `refused` holds each refused track's error as `step`
                raises it (NonFiniteError, CacheFullError, ConfigError, CacheInUseError), its `out` the results.
        """
        if not isinstance(caches, (list, tuple)):
            raise ConfigError(f"caches is {type(caches).__name__}; expected a list or tuple of caches")
        try:
            cores = [cache._core for cache in caches]
        except AttributeError:
            _raise_no_cache(caches)
        rows = (q, k, v)
        taken = _core.step_batch(self.config.core, cores, q, k, v, out, threads)
        if taken is None:
            _raise_no_cache(caches)
            rows = self._as_rows(q, k, v, len(caches))
            require_out(out, rows[0].shape, *rows)
            threads = as_int("threads", threads, least=1)
            taken = _core.step_batch(self.config.core, cores, *rows, out, threads)
        if taken is None:
            raise changed_meanwhile()
        result, refused = taken
        if refused:
            errors = {i: self._track_refusal(why, caches[i], *(np.asarray(x)[i] for x in rows)) for i, why in refused}
            raise BatchRefusedError(errors, result)
        return result

    def edge_count(self, T: int) -> int:  # noqa: N803 - the axis letter of the documentation
        """Number of (query, candidate) pairs per query head over a sequence of `T` positions.

        The work of a window: each pair costs 4·D floating-point operations per query head.

        Raises:
            ShapeError: T is no whole number from 0 to 2^30.
        """
        if isinstance(T, bool) or not isinstance(T, int | np.integer) or not 0 <= T <= _core.MAX_EXTENT:
            raise ShapeError(f"T is {T!r}; expected a length, 0 to {_core.MAX_EXTENT}")
        return _core.edge_count(self.config.core, int(T))

    def forward_for_backward(
        self, q: ArrayLike, k: ArrayLike, v: ArrayLike, *, threads: int = 1
    ) -> tuple[Floats, Floats]:
        """`forward`, with what `backward` needs of it besides its output.

        Args:
            q: as in `forward`; so are the others.
            k: `[T, Hkv, D]`, or with the same B in front.
            v: like `k`.
            threads: at most this many.

        Returns:
            The output, and float32 `log_sum`, `[T, Hq]` or `[B, T, Hq]`: the logarithm of the softmax's denominator.

        Raises:
            ShapeError, DtypeError, NonFiniteError, ConfigError, MemoryLimitError: as `forward`.
        """
        try:
            taken = _core.forward_with_log_sum(self.config.core, q, k, v, threads)
            if taken is None:
                window, threads = self._as_window(q, k, v), as_int("threads", threads, least=1)
                taken = _core.forward_with_log_sum(self.config.core, *window, threads)
        except MemoryError as error:
            _raise_too_large(error)
        if taken is None:
            raise changed_meanwhile()
        return taken

    def backward(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        out: ArrayLike,
        log_sum: ArrayLike,
        d_out: ArrayLike,
        *,
        threads: int = 1,
    ) -> tuple[Floats, Floats, Floats]:
        """A loss's gradient by q, k and v, from its gradient by the output.

        The exact derivative of `forward`, of its landmarks too. Scores are computed again from `log_sum`, so memory
        is O(T) (Dao et al., "FlashAttention", 2022, algorithm 4).

        Args:
            q: as it was in `forward_for_backward`, and not searched for NaN again.
            k: likewise.
            v: likewise.
            out: what it returned.
            log_sum: what it returned besides.
            d_out: the loss's gradient by `out`, of the same shape.
            threads: as in `forward`.

        Returns:
            float32 `dq`, `dk`, `dv` of the shapes of `q`, `k`, `v`.

        Raises:
            ShapeError, DtypeError, ConfigError, MemoryLimitError: as `forward`.
            NonFiniteError: NaN, infinity or a number beyond 1e12 in d_out.
        """
        try:
            taken = _core.backward(self.config.core, q, k, v, out, log_sum, d_out, threads)
            if taken is None:
                window, threads = self._as_shaped_window(q, k, v), as_int("threads", threads, least=1)
                results = _as_results(window[0].shape, out, log_sum, d_out)
                taken = _core.backward(self.config.core, *window, *results, threads)
        except MemoryError as error:
            _raise_too_large(error)
        if taken is None:
            raise changed_meanwhile()
        return taken

    def _as_window(self, q: ArrayLike, k: ArrayLike, v: ArrayLike) -> tuple[Floats, Floats, Floats]:
        arrays = self._as_shaped_window(q, k, v)
        for name, array in zip("qkv", arrays, strict=True):
            require_finite(name, array)
        return arrays

    def _as_shaped_window(self, q: ArrayLike, k: ArrayLike, v: ArrayLike) -> tuple[Floats, Floats, Floats]:
        arrays = as_float32("q", q), as_float32("k", k), as_float32("v", v)
        if arrays[0].ndim not in (3, 4):
            raise ShapeError(f"q has shape {arrays[0].shape}; expected [T, Hq, D] or [B, T, Hq, D]")
        for name, array in zip("qkv", arrays, strict=True):
            self._require_shape(name, array, arrays[0].shape[:-2])
        return arrays

    def _as_token(self, q: ArrayLike, k: ArrayLike, v: ArrayLike) -> tuple[Floats, Floats, Floats]:
        arrays = as_float32("q", q), as_float32("k", k), as_float32("v", v)
        for name, array in zip("qkv", arrays, strict=True):
            if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[0] != 1):
                raise ShapeError(
                    f"{name} has shape {array.shape}; a step takes one token, [heads, D] or [1, heads, D]: "
                    "use forward for a window"
                )
            self._require_shape(name, array, array.shape[:-2])
            require_finite(name, array)
        return arrays

    def _as_rows(self, q: ArrayLike, k: ArrayLike, v: ArrayLike, tracks: int) -> tuple[Floats, Floats, Floats]:
        arrays = as_float32("q", q), as_float32("k", k), as_float32("v", v)
        for name, array in zip("qkv", arrays, strict=True):
            self._require_shape(name, array, (tracks,))
        return arrays

    def _require_shape(self, name: str, array: Floats, lead: tuple[int, ...]) -> None:
        heads = self.config.q_heads if name == "q" else self.config.kv_heads
        expected = (*lead, heads, self.config.head_dim)
        if array.shape != expected:
            raise ShapeError(
                f"{name} has shape {array.shape}; expected {expected}: "
                f"{heads} {'query' if name == 'q' else 'key/value'} heads of {self.config.head_dim}"
            )

    def _refusal(self, status: int | None, cache: KvCache) -> TemporalError:
        if status is None:
            return changed_meanwhile()
        if status == _core.Status.FULL and cache.policy == "h2o-compact":
            return CacheFullError(
                f"the cache holds {len(cache)} of {cache.capacity} tokens; say which may leave, with step(scores=...)"
            )
        if status == _core.Status.FULL and cache.policy == "heavy-hitter":
            return CacheFullError(f"all {len(cache)} tokens that the cache holds are global; make a larger one")
        if status == _core.Status.FULL:
            return CacheFullError(
                f"the cache holds {len(cache)} of {cache.capacity} tokens; make a larger one, or clear() it"
            )
        if status == _core.Status.HALF_RANGE:
            return NonFiniteError("k or v has a value beyond +-65504, float16's largest; use a float32 cache")
        kept = " (or window or global tokens)" if cache.policy in ("sliding", "heavy-hitter") else ""
        return ConfigError(
            f"{cache!r} was made for a head with other kv_heads, head_dim or blocks{kept} than {self.config}"
        )

    def _track_refusal(self, why: int | CacheInUseError, cache: KvCache, *token: Floats) -> TemporalError:
        if isinstance(why, CacheInUseError):
            return why
        if why != _core.Status.NON_FINITE:
            return self._refusal(why, cache)
        try:
            for name, row in zip("qkv", token, strict=True):
                require_finite(name, row)
        except NonFiniteError as error:
            return error
        return changed_meanwhile()


def _as_results(
    shape: tuple[int, ...], out: ArrayLike, log_sum: ArrayLike, d_out: ArrayLike
) -> tuple[Floats, Floats, Floats]:
    """What `backward` takes besides q of this shape, k and v."""
    arrays = as_float32("out", out), as_float32("log_sum", log_sum), as_float32("d_out", d_out)
    for name, array, expected in zip(("out", "log_sum", "d_out"), arrays, (shape, shape[:-1], shape), strict=True):
        if array.shape != expected:
            raise ShapeError(f"{name} has shape {array.shape}; expected {expected}, as forward_for_backward gives it")
    require_finite("d_out", arrays[2])
    return arrays


def _as_scores(scores: ArrayLike, cache: KvCache) -> Floats:
    _require_scored(cache)
    row = as_float32("scores", scores)
    if row.shape != (len(cache),):
        raise ShapeError(f"scores has shape {row.shape}; expected one for each token held, ({len(cache)},)")
    require_finite("scores", row)
    return row


def _require_scored(cache: KvCache) -> None:
    if cache.policy != "h2o-compact":
        raise ConfigError(f"scores were given for a cache with policy {cache.policy}; they are h2o-compact's")


def _raise_no_cache(caches: Sequence[object]) -> None:
    for i, cache in enumerate(caches):
        if not isinstance(cache, KvCache):
            raise ConfigError(f"caches[{i}] is {type(cache).__name__}; expected the KvCache that make_cache() gives")


def _raise_too_large(error: MemoryError) -> NoReturn:
    if isinstance(error, MemoryLimitError):
        raise error
    raise MemoryLimitError("this window and its result do not fit into memory; give a shorter one") from None
