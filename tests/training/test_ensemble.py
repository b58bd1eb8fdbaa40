"""Networks side by side in one: what they say together, in PyTorch and in the core."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.test_blob import POOLINGS, blob_of, network_of
from wifi_densepose_temporal import TemporalModel
from wifi_densepose_temporal.training.ensemble import side_by_side
from wifi_densepose_temporal.training.network import TemporalNetwork


def members_of(*seeds: int, **choices: object) -> list[TemporalNetwork]:
    """Networks of one kind that scale their frames alike, as those of one training set do."""
    members = [network_of(seed, **choices) for seed in seeds]
    for member in members[1:]:
        member.mean.copy_(members[0].mean)
        member.scale.copy_(members[0].scale)
    return members


def frames_of(length: int, seed: int = 5) -> Tensor:
    return torch.randn(1, length, 16, generator=torch.Generator().manual_seed(seed))


def logits(network: TemporalNetwork, frames: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(frames)[0]
    return found


@pytest.mark.parametrize(("pooling", "pool_frames"), POOLINGS)
def test_without_a_norm_the_logits_are_the_mean_of_the_members(pooling: str, pool_frames: int) -> None:
    members = members_of(0, 1, 2, norm="none", hidden=5, pooling=pooling, pool_frames=pool_frames)
    frames = frames_of(60)
    joined = side_by_side(members, [frames_of(30)[0].numpy()])
    expected = torch.stack([logits(member, frames) for member in members]).mean(0)
    torch.testing.assert_close(logits(joined, frames), expected, rtol=1e-4, atol=1e-4)


def test_members_of_different_loudness_count_alike() -> None:
    """A norm takes a member's size away where it stands alone, so its size is not what it has to say."""
    quiet, other = members_of(0, 1, hidden=5)
    loud, _ = members_of(0, 1, hidden=5)
    with torch.no_grad():
        for name, parameter in loud.named_parameters():
            if name.startswith("input.") or name.endswith(("out.weight", "narrow.weight")):
                parameter.mul_(8)
            elif name == "classifier.weight":
                parameter.div_(8)
    frames, training = frames_of(60), [frames_of(40)[0].numpy()]
    torch.testing.assert_close(logits(loud, frames), logits(quiet, frames), rtol=1e-3, atol=1e-3)
    one, two = (side_by_side([member, other], training) for member in (quiet, loud))
    torch.testing.assert_close(logits(one, frames), logits(two, frames), rtol=1e-3, atol=1e-3)


def test_two_of_the_same_say_what_one_says() -> None:
    member, same = members_of(0, 0, hidden=5)
    frames = frames_of(60)
    joined = side_by_side([member, same], [frames_of(40)[0].numpy()])
    torch.testing.assert_close(logits(joined, frames), logits(member, frames), rtol=1e-3, atol=1e-3)


def test_the_core_runs_them_as_one_model() -> None:
    joined = side_by_side(members_of(0, 1, 2, hidden=5), [frames_of(30)[0].numpy()])
    frames = frames_of(200)
    expected = logits(joined, frames)[0]
    prediction = TemporalModel.from_bytes(blob_of(joined)).predict(frames[0].numpy())
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)
