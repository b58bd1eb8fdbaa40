"""The shape of a head: which tokens a query sees, with how many heads. Validated once, then frozen."""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import ConfigError

Backend = Literal["sparse_gqa", "dense"]


@dataclass(frozen=True)
class TemporalHeadConfig:
    """Parameters of an attention head; see docs/semantics.md for the pattern they describe.

    Args:
        backend: `"sparse_gqa"` (window, log-stride, landmarks, globals) or `"dense"` (every earlier token).
        q_heads: query heads, Hq; a multiple of `kv_heads`.
        kv_heads: key/value heads, Hkv. Equal to `q_heads` is MHA, 1 is MQA, between is GQA.
        head_dim: D, size of one head.
        window: how many positions before the query (and after it, if not causal) are seen; may be 0.
        block_size: B, tokens that one landmark stands for; at least 1.
        causal: a query sees nothing after itself. Streaming needs it.
        global_tokens: positions that every query sees (0 is the session's start); kept sorted, each once.
        log_stride: also the positions 1, 2, 4, 8, ... before the query, and such blocks.
        landmarks: also the means of blocks.

    Raises:
        ConfigError: a value that no head can have; the message names the rule.
    """

    backend: Backend
    q_heads: int
    kv_heads: int
    head_dim: int
    window: int
    block_size: int
    causal: bool = True
    global_tokens: tuple[int, ...] = (0,)
    log_stride: bool = True
    landmarks: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.backend, str) or self.backend not in get_args(Backend):
            raise ConfigError(f"backend is {self.backend!r}; expected one of {', '.join(get_args(Backend))}")
        for name in ("q_heads", "kv_heads", "head_dim", "window", "block_size"):
            object.__setattr__(self, name, as_int(name, getattr(self, name)))
        for name in ("causal", "log_stride", "landmarks"):
            value = getattr(self, name)
            if not isinstance(value, bool | np.bool_):
                raise ConfigError(f"{name} is {value!r}; expected True or False")
            object.__setattr__(self, name, bool(value))
        object.__setattr__(self, "global_tokens", _as_positions(self.global_tokens))
        broken = _core.head_rule(self.core)
        if broken is not None:
            raise ConfigError(f"{broken}; given {self!r}")

    def __reduce__(self) -> tuple[type[TemporalHeadConfig], tuple[Any, ...]]:
        """Pickled and copied by its fields; the core's form is made anew."""
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def core(self) -> _core.Head:
        """The same head as the C core sees it."""
        return _core.make_head(
            dense=self.backend == "dense",
            q_heads=self.q_heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            window=self.window,
            block_size=self.block_size,
            causal=self.causal,
            log_stride=self.log_stride,
            landmarks=self.landmarks,
            global_tokens=list(self.global_tokens),
        )

    @classmethod
    def default_aether(cls) -> TemporalHeadConfig:
        """The AETHER head, which a blob without a pattern record also runs with (the core's defaults)."""
        return cls.from_core(_core.default_head())

    @classmethod
    def from_core(cls, head: _core.Head) -> TemporalHeadConfig:
        """The configuration of a head of the C core, such as a loaded model's."""
        return cls(
            backend="dense" if head.dense else "sparse_gqa",
            q_heads=head.q_heads,
            kv_heads=head.kv_heads,
            head_dim=head.head_dim,
            window=head.window,
            block_size=head.block_size,
            causal=head.causal,
            global_tokens=tuple(head.global_tokens),
            log_stride=head.log_stride,
            landmarks=head.landmarks,
        )


def as_int(name: str, value: object, least: int | None = None) -> int:
    """`value` as an int between -2^30 and 2^30, the range that the core's fields have room for, and not below `least`.

    Raises:
        ConfigError: not a whole number (True and 3.0 are not), or out of range.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"{name} is {value!r}; expected a whole number") from None
    if abs(number) > _core.MAX_EXTENT:
        raise ConfigError(f"{name} is {number}; expected at most {_core.MAX_EXTENT} in magnitude")
    if least is not None and number < least:
        raise ConfigError(f"{name} is {number}; expected at least {least}")
    return number


def _as_positions(tokens: object) -> tuple[int, ...]:
    most = _core.MAX_GLOBAL_TOKENS
    try:
        if isinstance(tokens, str | bytes):
            raise TypeError
        given = list(islice(tokens, most + 1))  # type: ignore[call-overload]
    except TypeError:
        raise ConfigError(f"global_tokens is {tokens!r}; expected positions, such as (0,)") from None
    if len(given) > most:
        raise ConfigError(f"global_tokens holds more than {most} positions; expected at most {most}")
    return tuple(sorted({as_int("a global token", token) for token in given}))
