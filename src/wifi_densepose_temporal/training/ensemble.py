"""Several trained networks as one: side by side in its width, the logits the mean of theirs.

Networks that differ in nothing but their seed make different mistakes on people whom none of them has seen, and what
they have in common errs less. One blob holds them, and the core runs it as any other model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wifi_densepose_temporal.training.network import TemporalNetwork


def side_by_side(members: Sequence[TemporalNetwork], recordings: Sequence[NDArray[np.float32]]) -> TemporalNetwork:
    """One network of block-diagonal weights, in evaluation mode.

    The norm is over the whole width, so a member's h is divided by a root mean square that is not quite its own. Each
    member's h is therefore scaled to one mean root mean square: only how it changes from frame to frame is shared. With
    `norm="none"` the logits are exactly the mean of the members' logits.

    Args:
        members: of equal sizes, with an input projection and without an embedding projection.
        recordings: frames `[T, F]` of the training recordings, for the scales.
    """
    first = members[0]
    count, width, sizes, config = len(members), first.sizes.width, first.sizes, first.config
    scales = [_scale(member, recordings) for member in members]
    joined = TemporalNetwork(
        dataclasses.replace(sizes, width=count * width, hidden=count * sizes.hidden),
        dataclasses.replace(config, q_heads=count * config.q_heads, kv_heads=count * config.kv_heads),
    )
    with torch.no_grad():
        joined.mean.copy_(first.mean)
        joined.scale.copy_(first.scale)
        parameters = [dict(member.named_parameters()) for member in members]
        for name, tensor in joined.named_parameters():
            parts = [own[name] for own in parameters]
            tensor.copy_(_joined(name, parts, scales, width))
    return joined.eval()


def _joined(name: str, parts: Sequence[Tensor], scales: Sequence[float], width: int) -> Tensor:
    """One weight of the joined network, of the members' weights of that name and the scales of their h."""
    scaled = list(zip(parts, scales, strict=True))
    if name.startswith("input."):
        return torch.cat([part * scale for part, scale in scaled])
    if name == "classifier.weight":  # [C, d], or [C, 2 d] of mean and spread
        views = [(part / scale).reshape(len(part), -1, width) for part, scale in scaled]
        return torch.cat(views, dim=2).flatten(1) / len(parts)
    if name == "classifier.bias":
        return torch.stack(list(parts)).mean(0)
    adds_to_h = name.endswith(("out.weight", "narrow.weight"))
    blocks = [part * scale for part, scale in scaled] if adds_to_h else parts
    diagonal: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return diagonal


def _scale(network: TemporalNetwork, recordings: Sequence[NDArray[np.float32]]) -> float:
    """What makes the root mean square of h one, on average over frames before and after the layers."""
    if network.sizes.norm == "none":
        return 1.0
    squares = []
    with torch.no_grad():
        for frames in recordings:
            scaled = (torch.from_numpy(frames)[None] - network.mean) * network.scale
            for h in (network.input(scaled), network.hidden(torch.from_numpy(frames)[None])):
                squares.append(h.square().mean(-1).sqrt().flatten())
    return 1 / float(torch.cat(squares).mean())
