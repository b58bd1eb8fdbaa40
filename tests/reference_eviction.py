"""Full caches as docs/semantics.md defines them, in plain NumPy and float64: sets of held positions, and no trick.

Candidates are those of reference.py, intersected with what is held. Who steps a heavy-hitter sequence takes the token
that leaves out of `held`: where two are equal within rounding, either may.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests import reference
from wifi_densepose_temporal import TemporalHeadConfig

Float64 = NDArray[np.float64]


class Sequence:
    """What has been appended so far, the positions that are held, and the weight that each has received."""

    def __init__(self, config: TemporalHeadConfig, capacity: int, landmark_blocks: int) -> None:
        self.config, self.capacity, self.landmark_blocks = config, capacity, landmark_blocks
        self.held: set[int] = set()
        self.received: dict[int, float] = {}
        self.k: list[Float64] = []
        self.v: list[Float64] = []
        self.means: list[tuple[Float64, Float64]] = []
        self.block: list[tuple[Float64, Float64]] = []

    def append(self, k: NDArray, v: NDArray, stored: type = np.float32) -> None:
        """k, v [Hkv, D]; `stored` is the dtype that tokens are kept in, while means are of what was given."""
        self.held.add(len(self.k))
        self.received[len(self.k)] = 0.0
        self.k.append(k.astype(stored).astype(np.float64))
        self.v.append(v.astype(stored).astype(np.float64))
        self.block.append((k.astype(np.float64), v.astype(np.float64)))
        if len(self.block) == self.config.block_size:
            keys, values = zip(*self.block, strict=True)
            self.means.append((np.mean(keys, axis=0), np.mean(values, axis=0)))
            self.block = []

    def slide(self) -> None:
        """Keeps the newest `capacity` tokens and the global ones."""
        newest = range(max(0, len(self.k) - self.capacity), len(self.k))
        self.held &= set(newest) | set(self.config.global_tokens)

    def may_leave(self) -> set[int]:
        """Before an append that finds `capacity` tokens held: those of which one leaves."""
        protected = set(self.config.global_tokens)
        if self.config.window:
            protected |= set(sorted(self.held)[-self.config.window :])
        return self.held - protected or {min(self.held - set(self.config.global_tokens))}

    def attend(self, q: NDArray) -> Float64:
        """[Hq, D] of the newest token's q [Hq, D]; every token is given the weights that it receives."""
        config, i = self.config, len(self.k) - 1
        tokens = sorted(reference.token_candidates(config, i, i + 1) & self.held)
        kept = range(max(0, len(self.means) - self.landmark_blocks), len(self.means))
        blocks = sorted(reference.landmark_candidates(config, i, i + 1) & set(kept))
        keys = np.array([self.k[t] for t in tokens] + [self.means[b][0] for b in blocks])
        values = np.array([self.v[t] for t in tokens] + [self.means[b][1] for b in blocks])
        out = np.empty(q.shape, np.float64)
        for h in range(config.q_heads):
            g = h // (config.q_heads // config.kv_heads)
            scores = keys[:, g] @ q[h].astype(np.float64) / np.sqrt(config.head_dim)
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            out[h] = weights @ values[:, g]
            for t, weight in zip(tokens, weights, strict=False):  # landmarks follow the tokens
                self.received[t] += weight
        return out


def forward(
    config: TemporalHeadConfig, policy: str, capacity: int, landmark_blocks: int, q: Float64, k: Float64, v: Float64
) -> Float64:
    """[T, Hq, D]: what a sliding or a heavy-hitter cache makes of q [T, Hq, D], k, v [T, Hkv, D]."""
    sequence, rows = Sequence(config, capacity, landmark_blocks), []
    for t in range(len(q)):
        if policy == "heavy-hitter" and len(sequence.held) == capacity:
            sequence.held.remove(min(sequence.may_leave(), key=lambda p: (sequence.received[p], p)))
        sequence.append(k[t], v[t], np.float64)
        if policy == "sliding":
            sequence.slide()
        rows.append(sequence.attend(q[t]))
    return np.array(rows)


class Compacted:
    """h2o-compact: the tokens held, renumbered, and the means of their blocks as they stand."""

    def __init__(self, config: TemporalHeadConfig, capacity: int) -> None:
        self.config, self.capacity = config, capacity
        self.k: list[NDArray] = []
        self.v: list[NDArray] = []

    def step(self, q: NDArray, k: NDArray, v: NDArray, scores: NDArray | None) -> Float64:
        if len(self.k) == self.capacity:
            assert scores is not None
            open_to = [j for j in range(len(self.k) - self.config.window) if j not in self.config.global_tokens]
            victim = min(open_to, key=lambda j: (scores[j], j)) if open_to else 0
            del self.k[victim], self.v[victim]
        self.k.append(k)
        self.v.append(v)
        rows = [np.zeros((len(self.k), *q.shape)), np.array(self.k), np.array(self.v)]
        rows[0][-1] = q
        return np.asarray(reference.forward(self.config, *rows)[-1])
