"""A network to a blob and back, without loss: what training leaves for the host, and for the node.

A projection head's BatchNorm is folded into the affine layer before it, so a network read back from a blob has none
and gives the same embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.errors import BlobModelError
from wifi_densepose_temporal.model import TemporalModel
from wifi_densepose_temporal.rvne import Record, WeightBlob, WeightBlobHeader, WeightBlobView, records
from wifi_densepose_temporal.rvne.blob import BlobDtype
from wifi_densepose_temporal.training.network import Layer, NetworkSizes, TemporalNetwork

Floats = NDArray[np.float32]


def to_blob(
    network: TemporalNetwork,
    *,
    labels: Sequence[str],
    chain: FeatureConfig | None,
    provenance: Mapping[str, Any],
    dtype: BlobDtype = "float32",
) -> WeightBlob:
    """The network as a blob, with all that is needed to run it.

    Args:
        network: as trained; its parameters are copied, BatchNorm as in evaluation.
        labels: C names, in the order of the logits.
        chain: what made its frames; None: not stated, since none of ours did.
        provenance: where the weights come from; has to say `trained`.
        dtype: of the weights; float16 rounds them, and `to_network` of such a blob gives the rounded ones.

    Raises:
        BlobRecordError: a weight that the dtype cannot hold, or labels or provenance that no record can.
        BlobModelError: labels of another number than the network's classes; or int8.
    """
    sizes, config = network.sizes, network.config
    if dtype == "int8":
        raise BlobModelError("a network is written in float32 or float16; rvne.quantise makes int8 of that")
    if len(labels) != sizes.classes:
        raise BlobModelError(f"{len(labels)} labels for a network of {sizes.classes} classes")
    layers = [cast(Layer, layer) for layer in network.layers]
    matrices = [m for layer in layers for m in (layer.query, layer.key, layer.value, layer.out)]
    flat = np.concatenate([_weight(matrix).ravel() for matrix in (*matrices, network.classifier)])
    with np.errstate(over="ignore"):
        stored = flat.astype(dtype)
    if not np.isfinite(stored).all():
        raise BlobModelError(f"a weight that {dtype} cannot hold; training has diverged, or float32 is needed")
    header = WeightBlobHeader(
        sizes.width, config.q_heads, config.kv_heads, config.head_dim, sizes.layers, sizes.classes, dtype
    )
    extra = [records.pattern(config, sizes.norm), records.pooling(sizes.pooling, sizes.pool_frames)]
    extra.append(records.feature_scale(_array(network.mean), _array(network.scale)))
    if isinstance(network.input, nn.Linear):
        extra.append(records.input_projection(*_affine(network.input), dtype))
    if sizes.classifier_bias:
        extra.append(records.classifier_bias(_array(network.classifier.bias), dtype))
    if sizes.hidden:
        blocks = [(_weight(layer.widen), _weight(layer.narrow)) for layer in layers]
        extra.append(records.feed_forward(blocks, sizes.activation, dtype))
    if sizes.embedding:
        extra.append(records.embedding_projection(_folded(network.projection), dtype))
    if chain is not None:
        extra.append(records.feature_chain(chain.to_words()))
    extra += [records.class_labels(labels), records.provenance(provenance)]
    return WeightBlob(header, stored, extra)


def to_network(blob: bytes) -> TemporalNetwork:
    """The network of a blob's bytes, in evaluation mode.

    Raises:
        BlobError: as `TemporalModel.from_bytes`; `BlobModelError` if its weights are int8.
    """
    model, view = TemporalModel.from_bytes(blob), WeightBlobView.parse(blob)
    if view.header.dtype == "int8":
        raise BlobModelError("a model of int8 weights cannot be trained on; start from the one that it came from")
    payloads = {record.name: _Payload(record, view.header.dtype) for record in view.records}
    sizes = _sizes(model, view, payloads)
    network = TemporalNetwork(sizes, model.config)
    flat = _Numbers(np.asarray(view.weights, np.float32))
    with torch.no_grad():
        for layer in (cast(Layer, layer) for layer in network.layers):
            for matrix in (layer.query, layer.key, layer.value, layer.out):
                flat.fill(matrix)
        flat.fill(network.classifier)
        _fill_records(network, payloads)
    return network.eval()


# ------------------------------------------------------------------------------------------- network to arrays


def _array(tensor: torch.Tensor) -> Floats:
    return tensor.detach().cpu().float().numpy()


def _weight(linear: nn.Module | None) -> Floats:
    """`[in, out]`: PyTorch keeps the transposed."""
    return np.ascontiguousarray(_array(cast(nn.Linear, linear).weight).T)


def _affine(linear: nn.Linear) -> tuple[Floats, Floats]:
    return _weight(linear), _array(linear.bias)


def _folded(projection: nn.Module) -> list[tuple[Floats, Floats]]:
    """The projection's affine layers; `(x W + b - m) s + c` of a BatchNorm becomes `x (W s) + (b - m) s + c`."""
    if isinstance(projection, nn.Linear):
        return [_affine(projection)]
    first, *between, last = cast(nn.Sequential, projection)
    weight, bias = _affine(cast(nn.Linear, first))
    for norm in between:
        if isinstance(norm, nn.BatchNorm1d):
            mean, variance = _array(cast(torch.Tensor, norm.running_mean)), cast(torch.Tensor, norm.running_var)
            scale = _array(norm.weight) / np.sqrt(_array(variance) + norm.eps)
            weight, bias = weight * scale, (bias - mean) * scale + _array(norm.bias)
    return [(weight, bias), _affine(cast(nn.Linear, last))]


# ------------------------------------------------------------------------------------------- payloads to network


class _Numbers:
    """Takes tensors from a flat array, one after the other."""

    def __init__(self, numbers: Floats) -> None:
        self.numbers = numbers

    def take(self, *shape: int) -> Floats:
        count = int(np.prod(shape))
        taken, self.numbers = self.numbers[:count].reshape(shape), self.numbers[count:]
        return taken

    def fill(self, linear: nn.Module | None) -> None:
        layer = cast(nn.Linear, linear)
        layer.weight.copy_(torch.from_numpy(self.take(layer.in_features, layer.out_features).T.copy()))


class _Payload:
    """A record's words, then its tensors, each padded to a multiple of 4 bytes; the core has checked all sizes."""

    def __init__(self, record: Record, dtype: BlobDtype) -> None:
        names = _core.RECORD_WORDS.get(record.name, [])
        count = 4 * len(names)
        self.words = dict(zip(names, np.frombuffer(record.payload[:count], "<u4").tolist(), strict=True))
        self._rest = record.payload[count:]
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def take(self, *shape: int, dtype: str | None = None) -> torch.Tensor:
        kind = np.dtype(dtype) if dtype else self._dtype
        size = int(np.prod(shape)) * kind.itemsize
        taken = np.frombuffer(self._rest[:size], kind).astype(np.float32).reshape(shape)
        self._rest = self._rest[-(-size // 4) * 4 :]
        return torch.from_numpy(taken)


def _sizes(model: TemporalModel, view: WeightBlobView, payloads: Mapping[str, _Payload]) -> NetworkSizes:
    feed_forward, embedding = (payloads.get(name) for name in ("feed_forward", "embedding_projection"))
    projected = [embedding.words[name] for name in ("hidden", "output")] if embedding else []
    return NetworkSizes(
        features=model.input_dim,
        classes=view.header.n_classes,
        layers=view.header.n_layers,
        width=view.header.input_dim,
        input_projection="input_projection" in payloads,
        norm="rms" if model.norm == "rms" else "none",
        hidden=feed_forward.words["hidden"] if feed_forward else 0,
        activation="relu" if feed_forward and not feed_forward.words["activation"] else "silu",
        pooling=cast(Any, model.pooling),
        pool_frames=model.pooling_frames,
        embedding=tuple(size for size in projected if size),
        classifier_bias="classifier_bias" in payloads,
    )


def _fill_records(network: TemporalNetwork, payloads: Mapping[str, _Payload]) -> None:
    sizes = network.sizes
    if "feature_scale" in payloads:
        network.mean.copy_(payloads["feature_scale"].take(sizes.features, dtype="<f4"))
        network.scale.copy_(payloads["feature_scale"].take(sizes.features, dtype="<f4"))
    if isinstance(network.input, nn.Linear):
        _fill_affine(network.input, payloads["input_projection"])
    if sizes.classifier_bias:
        network.classifier.bias.copy_(payloads["classifier_bias"].take(sizes.classes))
    if "feed_forward" in payloads:
        numbers = _Numbers(payloads["feed_forward"].take(sizes.layers * 2 * sizes.width * sizes.hidden).numpy())
        for layer in (cast(Layer, layer) for layer in network.layers):
            numbers.fill(layer.widen)
            numbers.fill(layer.narrow)
    if sizes.embedding:
        affine = [module for module in network.projection.modules() if isinstance(module, nn.Linear)]
        if len(affine) == 2:
            network.projection = nn.Sequential(affine[0], nn.ReLU(), affine[1])
        for linear in affine:
            _fill_affine(linear, payloads["embedding_projection"])


def _fill_affine(linear: nn.Linear, payload: _Payload) -> None:
    linear.weight.copy_(payload.take(linear.in_features, linear.out_features).T)
    linear.bias.copy_(payload.take(linear.out_features))
