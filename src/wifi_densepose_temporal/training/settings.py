"""The one file that says how a model is made: data, split, features, model, losses, schedule, seeds.

A TOML file, checked when it is read: an unknown key, a value out of range or a combination that cannot be is refused
with the key's name. Paths in it are relative to it. docs/training.md explains each key.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.training.augment import AUGMENTATIONS
from wifi_densepose_temporal.training.network import NetworkSizes

MAX_SETTINGS_BYTES = 1 << 20

Task = Literal["activity", "identity"]
HeldOut = Literal["recording", "session", "person", "room"]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class DataSettings(_Section):
    """Which recordings: a manifest, or a folder of a known layout."""

    path: str


class ValidationSettings(_Section):
    """The part of the training recordings that training stops by: the last `fraction` of the values of `by`."""

    fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    by: HeldOut = "recording"


class WithinSettings(_Section):
    """Windows of a recording that are looked for among others of the same one, by number from 0, as some papers do."""

    probe: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    gallery: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if set(self.probe) & set(self.gallery):
            raise ValueError("a window is not looked for by itself: probe and gallery have one in common")
        return self


class SplitSettings(_Section):
    """Who is on which side. Either `train` and `tests`, or `folds`: never windows of one recording on two sides."""

    held_out: HeldOut
    among: str = "all"  # the recordings that the split is made of
    train: str = "all"
    tests: dict[str, str] = Field(default_factory=dict)
    folds: Positive | Literal["each"] | None = None
    validation: ValidationSettings = ValidationSettings()
    within: WithinSettings | None = None  # identity: one more figure for each of the tests

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.folds is not None and (self.tests or self.train != "all"):
            raise ValueError("folds stand in place of train and tests")
        return self


class ModelSettings(_Section):
    """Sizes of the network, apart from features and classes, which come from the data."""

    layers: Positive = 2
    width: Positive | None = None  # None: no input projection, the width is the number of features
    q_heads: Positive = 4
    kv_heads: Positive = 1
    head_dim: Positive = 16
    backend: Literal["sparse_gqa", "dense"] = "sparse_gqa"
    window: Annotated[int, Field(ge=0)] = 32
    block_size: Positive = 16
    global_tokens: tuple[int, ...] = (0,)
    norm: Literal["none", "rms"] = "rms"
    hidden: Annotated[int, Field(ge=0)] = 0
    activation: Literal["relu", "silu"] = "silu"
    pooling: Literal["mean", "last", "last_n", "mean_spread"] = "last"
    pool_frames: Annotated[int, Field(ge=0)] = 0
    embedding: tuple[int, ...] = ()
    members: Positive = 1  # networks, each trained from a seed of its own, that go into one blob side by side
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    part_scale: tuple[
        Annotated[float, Field(gt=0)], ...
    ] = ()  # of [features] parts: their standard deviation at the input
    input_noise: Annotated[float, Field(ge=0)] = 0.0  # most of its standard deviation, in scaled features
    input_offset: Annotated[float, Field(ge=0)] = 0.0  # the same for all frames of a window
    input_mask: Annotated[float, Field(ge=0, lt=1)] = 0.0  # largest share of features that a window does without

    @model_validator(mode="after")
    def _members_that_fit_together(self) -> Self:
        if self.members > 1 and (self.width is None or self.embedding):
            raise ValueError("members stand side by side in the width: set width, and no embedding")
        return self

    def head(self) -> TemporalHeadConfig:
        """The attention pattern."""
        return TemporalHeadConfig(
            self.backend,
            self.q_heads,
            self.kv_heads,
            self.head_dim,
            self.window,
            self.block_size,
            global_tokens=self.global_tokens,
        )

    def sizes(self, features: int, classes: int) -> NetworkSizes:
        """The network's sizes for frames of `features` and `classes` classes."""
        return NetworkSizes(
            features,
            classes,
            self.layers,
            self.width or features,
            self.width is not None,
            self.norm,
            self.hidden,
            self.activation,
            self.pooling,
            self.pool_frames,
            self.embedding,
            dropout=self.dropout,
            input_noise=self.input_noise,
            input_offset=self.input_offset,
            input_mask=self.input_mask,
        )


class BatchSettings(_Section):
    """What one step sees: windows of recordings, augmented."""

    windows: Positive = 32
    packets: Annotated[int, Field(ge=0)] = 0  # of a window; 0: whole recordings
    label_packets: Positive = 1  # a frame's label is that of most of the last so many packets
    identities: Positive | None = None  # windows come in equal parts from this many people, and from their recordings
    copies: Annotated[int, Field(ge=0)] = 0  # augmented versions of a recording to draw from; 0: ever new ones
    augmentations: tuple[str, ...] = ()
    least: Annotated[int, Field(ge=0)] = 2
    most: Annotated[int, Field(ge=0)] = 4

    @field_validator("augmentations")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AUGMENTATIONS:
                raise ValueError(f"{name!r} is none of {', '.join(AUGMENTATIONS)}")
        return names

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        if self.copies and self.packets:
            raise ValueError("copies are of whole recordings: set packets to 0, or copies to 0")
        return self


class LossSettings(_Section):
    """Weights of the losses; 0 leaves one out."""

    cross_entropy: Annotated[float, Field(ge=0)] = 1.0
    at_end: bool = False  # cross-entropy at a window's last frame alone, not at every one
    label_smoothing: Share = 0.0
    mix: Annotated[float, Field(ge=0)] = 0.0  # at_end: pairs of windows are mixed by shares of Beta(mix, mix); 0: not
    supervised_contrastive: Annotated[float, Field(ge=0)] = 0.0
    episodes: Annotated[float, Field(ge=0)] = 0.0  # recognise half of the identities through the other half's whitening
    contrastive: Annotated[float, Field(ge=0)] = 0.0


class ScheduleSettings(_Section):
    """How long, how fast, and when it stops."""

    steps: Annotated[int, Field(ge=0)] = 1000
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warm_up: Share = 0.1  # share of the steps
    clip: Annotated[float, Field(gt=0)] = 1.0  # of the gradient's norm
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of the exponential average of weights; 0: none
    bf16: bool = False
    every: Positive = 50  # steps between checkpoints, and between looks at the validation recordings
    patience: Positive | None = None  # looks without improvement after which training stops


class ReadoutSettings(_Section):
    """A closed form in place of a trained projection: training.readout."""

    packets: Positive = 100  # of a window
    hop: Positive = 25  # packets between the starts of two windows
    shrinkage: Share = 0.1  # of the change's covariance, towards features that change independently
    part_weights: tuple[Annotated[float, Field(gt=0)], ...] = ()  # of [features] parts; a small one is shrunk harder
    between_recordings: Annotated[float, Field(ge=0)] = 0.3  # weight of what changes between a person's recordings
    closed_set: bool = False  # only directions that tell the trained people apart: one fewer than there are people
    evening: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # power of its variance that a direction is divided by


class FitSettings(_Section):
    """What the training loop needs to know."""

    batch: BatchSettings = BatchSettings()
    losses: LossSettings = LossSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    readout: ReadoutSettings | None = None  # after training; None: what was trained stays


class Settings(FitSettings):
    """A whole configuration."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    task: Task
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0, 1, 2)
    start_from: str | None = None  # a blob, such as `wdt pretrain` leaves
    data: DataSettings
    split: SplitSettings
    features: dict[str, Any] = Field(default_factory=dict)
    model: ModelSettings = ModelSettings()
    dtype: Literal["float32", "float16"] = "float16"

    @model_validator(mode="after")
    def _one_scale_a_part(self) -> Self:
        if self.model.part_scale and len(self.model.part_scale) != len(self.chain.parts):
            raise ValueError(
                f"{len(self.model.part_scale)} part_scale for {len(self.chain.parts)} parts; give one for each"
            )
        return self

    @model_validator(mode="after")
    def _members_without_validation(self) -> Self:
        if self.model.members > 1 and self.split.validation.fraction:
            raise ValueError("several members have no validation score in common: leave split.validation out")
        return self

    @model_validator(mode="after")
    def _windows_of_people(self) -> Self:
        if self.split.within is not None and self.task != "identity":
            raise ValueError('split.within compares windows of people: leave it out, or set task to "identity"')
        return self

    @property
    def loudness(self) -> NDArray[np.float32]:
        """`[F]`: the standard deviation with which each feature enters the network."""
        chain = self.chain
        if not self.model.part_scale:
            return np.ones(chain.input_dim, np.float32)
        features = [FeatureConfig(parts=(part,)).input_dim for part in chain.parts]
        return np.repeat(np.asarray(self.model.part_scale, np.float32), features)

    @property
    def chain(self) -> FeatureConfig:
        """The feature chain; keys of `[features]` are `FeatureConfig`'s."""
        return FeatureConfig(**self.features)

    @field_validator("features")
    @classmethod
    def _is_a_chain(cls, features: dict[str, Any]) -> dict[str, Any]:
        try:
            FeatureConfig(**features)
        except (ConfigError, TypeError) as error:
            raise ValueError(str(error)) from None
        return features


def read_settings(path: str | os.PathLike[str], data: str | os.PathLike[str] | None = None) -> Settings:
    """The settings in a TOML file.

    Args:
        path: the file.
        data: takes the place of `data.path`, relative to the working directory.

    Raises:
        FileError: the file cannot be read.
        ConfigError: it is no TOML, or its content is refused; every key that is wrong is named.
    """
    file = Path(path)
    try:
        document = tomllib.loads(read_whole(file, MAX_SETTINGS_BYTES).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from None
    if data is not None:
        document["data"] = {"path": os.fspath(data)}
    try:
        settings = Settings.model_validate(document)
        settings.model.head()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ConfigError(f"{file}: {wrong}") from None
    if settings.start_from is not None:
        settings = settings.model_copy(update={"start_from": os.fspath(file.parent / settings.start_from)})
    if data is None:
        beside = DataSettings(path=os.fspath(file.parent / settings.data.path))
        settings = settings.model_copy(update={"data": beside})
    return settings
