"""A read-out in closed form: the embedding's projection as a whitening, in place of one that is trained.

With a few dozen people to learn from, a projection that is trained remembers them. What a person's windows have in
common, and what changes between windows of one recording and between recordings of one person, are covariances; the
projection that makes the change round and keeps the directions in which people differ is linear discriminant analysis
(Fisher 1936; Ledoit and Wolf 2004 for why the covariance is shrunk).

Letters: N windows, P pooled_dim, E embedding size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wifi_densepose_temporal.adaptation.discriminant import group_means, shrunk
from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.errors import TrainingError
from wifi_densepose_temporal.training.batches import Track, batch, windows_of
from wifi_densepose_temporal.training.network import TemporalNetwork
from wifi_densepose_temporal.training.sections import ReadoutSettings

Float64 = NDArray[np.float64]

#: Windows that go through the network at once.
AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Windows:
    """Pooled vectors of windows, with whose they are and which recording each is from."""

    pooled: Float64  # [N, P]
    identity: NDArray[np.int64]  # [N]
    recording: NDArray[np.int64]  # [N]


def fit_readout(
    network: TemporalNetwork, tracks: Sequence[Track], chain: FeatureConfig | None, settings: ReadoutSettings
) -> None:
    """Puts the closed form's projection, and each identity's direction as its class, into the network.

    Args:
        network: as trained; its projection is one affine layer.
        tracks: training recordings.
        chain: makes their frames.
        settings: how windows are cut, and how covariances are estimated.

    Raises:
        TrainingError: fewer than two identities, a projection of another form, a classifier of other classes than the
            identities of the tracks, or an identity without a window.
    """
    if not isinstance(network.projection, nn.Linear):
        raise TrainingError("a closed-form read-out fills one affine layer; set model.embedding to one size")
    windows = pooled_windows(network, tracks, chain, settings)
    identities = len({track.identity for track in tracks})
    if network.classifier.out_features != identities:
        raise TrainingError(f"a classifier of {network.classifier.out_features} classes for {identities} identities")
    weights = feature_weights(chain, settings, network)
    mean, weight = whitening(windows, network.projection.out_features, settings, weights)
    with torch.no_grad():
        network.projection.weight.copy_(torch.from_numpy(weight.T))
        network.projection.bias.copy_(torch.from_numpy(-mean @ weight))
        network.classifier.weight.copy_(torch.from_numpy((weight @ _directions(windows, mean, weight).T).T))


def pooled_windows(
    network: TemporalNetwork, tracks: Sequence[Track], chain: FeatureConfig | None, settings: ReadoutSettings
) -> Windows:
    """The pooled vector of every window of `packets` packets, `hop` apart, each as if nothing had come before.

    Raises:
        TrainingError: an identity of which there is none; it names the recordings.
    """
    cut = windows_of(tracks, chain, settings.packets, settings.hop)
    require_windows(tracks, {window.identity for window in cut}, settings)
    pooled = []
    network.eval()
    for start in range(0, len(cut), AT_ONCE):
        some = batch(cut[start : start + AT_ONCE])
        with torch.no_grad():
            pooled.append(some.last(network.pooled(some.frames)).double().numpy())
    identity, recording = (np.array([getattr(window, name) for window in cut]) for name in ("identity", "recording"))
    return Windows(np.concatenate(pooled), identity, recording)


def require_windows(tracks: Sequence[Track], identities: Collection[int], settings: ReadoutSettings) -> None:
    """Refuses tracks of identities that are not among those with a window.

    Raises:
        TrainingError: it names some of the tracks.
    """
    short = [track.name for track in tracks if track.identity not in identities]
    if short:
        raise TrainingError(
            f"no recording of somebody has a whole window of {settings.packets} packets ({', '.join(short[:5])}); set "
            "fewer readout.packets, or leave the person out"
        )


def feature_weights(chain: FeatureConfig | None, settings: ReadoutSettings, network: TemporalNetwork) -> Float64:
    """`[P]`: prior weight of each pooled feature, 1 unless the settings weigh the parts of a frame.

    Raises:
        TrainingError: another number of weights than the chain has parts, or pooled vectors that are no frames' means.
    """
    if not settings.part_weights:
        return np.ones(network.sizes.pooled_dim)
    parts = () if chain is None else chain.part_dims
    if len(parts) != len(settings.part_weights) or sum(parts) != network.sizes.pooled_dim:
        raise TrainingError(
            f"{len(settings.part_weights)} part_weights for {len(parts)} parts and {network.sizes.pooled_dim} pooled "
            "features; expected one a part, a width of as many features as a frame, and no spread"
        )
    return np.repeat(settings.part_weights, parts)


def whitening(
    windows: Windows, size: int, settings: ReadoutSettings, weights: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Mean `[P]` and weight `[P, E]`: `(pooled - mean) @ weight` has round change, the largest differences first.

    The change is the covariance of windows around their recording's mean, plus `between_recordings` times that of
    recordings around their person's mean, each feature scaled to its weight, shrunk towards the identity by
    `shrinkage`. Of a closed set the directions from the number of people on are zero: n people differ in n - 1, and
    what is in the others tells nobody known apart. With `evening` a direction is divided by that power of its variance
    over people and change: the first ones hold the hour of the visit too, and would rule every cosine.
    """
    people, of_person = np.unique(windows.identity, return_inverse=True)
    recordings, first, of_recording = np.unique(windows.recording, return_index=True, return_inverse=True)
    if len(people) < 2:
        raise TrainingError(f"{len(people)} identity to train on; a whitening needs at least two")
    recording_mean = group_means(windows.pooled, of_recording, len(recordings))
    person_mean = group_means(recording_mean, of_person[first], len(people))
    within = windows.pooled - recording_mean[of_recording]
    between = recording_mean - person_mean[of_person[first]]
    across = person_mean - person_mean.mean(0)
    change = within.T @ within / max(1, len(within) - len(recordings))
    change += settings.between_recordings * between.T @ between / max(1, len(recordings) - len(people))
    scale = (np.sqrt(np.diag(change)) + 1e-9) / (1 if weights is None else weights)
    change = change / scale[:, None] / scale
    inverse = np.linalg.inv(np.linalg.cholesky(shrunk(change, settings.shrinkage)))
    spread = inverse @ (across.T @ across / scale[:, None] / scale) @ inverse.T
    variances, directions = np.linalg.eigh(spread / (len(people) - 1))
    weight = (inverse.T @ directions[:, ::-1][:, :size]) / scale[:, None]
    weight /= (1 + np.maximum(variances[::-1][:size], 0)) ** settings.evening
    if settings.closed_set:
        weight[:, len(people) - 1 :] = 0
    return windows.pooled.mean(0), weight / np.linalg.norm(weight) * np.sqrt(weight.shape[1])  # of a size for float16


def _directions(windows: Windows, mean: Float64, weight: Float64) -> Float64:
    """`[identities, E]`: unit vector of each identity's mean embedding."""
    projected = (windows.pooled - mean) @ weight
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    people, of_person = np.unique(windows.identity, return_inverse=True)
    means = group_means(projected, of_person, len(people))
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))
