"""The one file that says how a model is made: data, split, features, model, losses, schedule, seeds.

A TOML file, checked when it is read: an unknown key, a value out of range or a combination that cannot be is refused
with the key's name. Paths in it are relative to it. The keys of each section are sections.py's; docs/training.md lists
all of them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, field_validator, model_validator

from wifi_densepose_temporal.csi import FeatureConfig
from wifi_densepose_temporal.errors import ConfigError
from wifi_densepose_temporal.files import read_whole
from wifi_densepose_temporal.training.sections import (
    BatchSettings,
    DataSettings,
    LossSettings,
    ModelSettings,
    ReadoutSettings,
    ScheduleSettings,
    Section,
    SplitSettings,
)

MAX_SETTINGS_BYTES = 1 << 20

Task = Literal["activity", "identity"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class FitSettings(Section):
    """What the training loop needs to know."""

    batch: BatchSettings = BatchSettings()
    losses: LossSettings = LossSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    readout: ReadoutSettings | None = Field(
        default=None, description="Of people, after training; none: the trained one."
    )


class Settings(FitSettings):
    """A whole configuration."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", description="Of the run, and of its folder.")
    task: Task = Field(description="What is recognised: what somebody does, or who it is.")
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2), min_length=1, description="One model each; `--seeds` takes their place."
    )
    start_from: str | None = Field(
        default=None, description="A blob, such as `wdt pretrain` leaves, to take the encoder from."
    )
    data: DataSettings
    split: SplitSettings
    features: dict[str, Any] = Field(
        default={}, description="The feature chain, which goes into the blob: features.md."
    )
    model: ModelSettings = ModelSettings()
    dtype: Literal["float32", "float16"] = Field(default="float16", description="Of the weights in the blob.")

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{list(seeds)} has a seed twice; give different ones")
        return seeds

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for wrong, said in self._contradictions():
            if wrong:
                raise ValueError(said)
        return self

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        """What sections cannot say at once, and what to do about it.

        Raises:
            ConfigError: sizes that no network has.
        """
        model, losses, validated = self.model, self.losses, self.split.validation.fraction > 0
        identity, scales, parts = self.task == "identity", len(model.part_scale), len(self.chain.parts)
        pooled_dim, weighed = self.pooled_dim, len(self.readout.part_weights) if self.readout is not None else 0
        yield scales not in (0, parts), f"{scales} part_scale for {parts} parts; give one for each"
        yield weighed not in (0, parts), f"{weighed} readout.part_weights for {parts} parts; give one for each"
        yield (
            weighed > 0 and pooled_dim != self.chain.input_dim,
            f"readout.part_weights are of a frame's {self.chain.input_dim} features, and {pooled_dim} are pooled: "
            "leave part_weights or model.width out, and pool without spread",
        )
        yield (
            model.members > 1 and validated,
            "several members have no validation score in common: leave split.validation out",
        )
        yield (
            not identity and self.split.within is not None,
            'split.within compares windows of people: leave it out, or set task to "identity"',
        )
        yield (
            not identity and self.readout is not None,
            'readout is of people: leave it out, or set task to "identity"',
        )
        yield (
            self.readout is not None and len(model.embedding) != 1,
            f"readout fills one layer: set model.embedding to one size, not {list(model.embedding)}",
        )
        yield (
            identity and losses.cross_entropy > 0 and self.schedule.steps > 0,
            "losses.cross_entropy is of activity labels, and says nothing of people: set it to 0, and give "
            "supervised_contrastive, episodes or contrastive a weight",
        )
        weights = (losses.cross_entropy, losses.supervised_contrastive, losses.episodes, losses.contrastive)
        yield (
            self.schedule.steps > 0 and not any(weights),
            "every loss has the weight 0; give one, or set schedule.steps = 0",
        )
        yield (
            not self.names_classes and not identity and validated,
            "without cross_entropy there are no decisions to validate by: leave split.validation out",
        )
        yield (
            self.schedule.patience is not None and not validated,
            "schedule.patience counts looks at validation recordings: set split.validation.fraction, or leave it out",
        )
        yield (
            not identity and self.names_classes and pooled_dim < 2,
            "an activity model of one pooled number has no statistics to adapt by: set model.width to 2 or more",
        )

    @property
    def names_classes(self) -> bool:
        """Whether the classifier is for something; without, its classes are placeholders and no labels are needed."""
        return self.losses.cross_entropy > 0 or self.readout is not None

    @property
    def learns_people(self) -> bool:
        """Whether it has to be known whose the training recordings are."""
        return self.losses.supervised_contrastive > 0 or self.losses.episodes > 0 or self.readout is not None

    @property
    def trains(self) -> bool:
        """Whether any weight is learned from data."""
        return self.schedule.steps > 0 or self.readout is not None

    @property
    def trains_classifier(self) -> bool:
        """Whether the classifier's weights are."""
        return self.trains and self.names_classes

    @property
    def pooled_dim(self) -> int:
        """P: length of the vector that is classified."""
        return self.model.sizes(self.chain.input_dim, 2).pooled_dim

    @property
    def loudness(self) -> NDArray[np.float32]:
        """`[F]`: the standard deviation with which each feature enters the network."""
        chain = self.chain
        if not self.model.part_scale:
            return np.ones(chain.input_dim, np.float32)
        return np.repeat(np.asarray(self.model.part_scale, np.float32), chain.part_dims)

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


def read_settings(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    seeds: Sequence[int] | None = None,
) -> Settings:
    """The settings in a TOML file; paths in them are absolute.

    Args:
        path: the file.
        data: takes the place of `data.path`, relative to the working directory.
        seeds: take the place of `seeds`.

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
    if seeds is not None:
        document["seeds"] = list(seeds)
    try:
        settings = Settings.model_validate(document)
        settings.model.head()
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ConfigError(f"{file}: {wrong}") from None
    found = file.parent / settings.data.path if data is None else Path(data)
    paths: dict[str, Any] = {"data": DataSettings(path=os.fspath(found.absolute()))}
    if settings.start_from is not None:
        paths["start_from"] = os.fspath((file.parent / settings.start_from).absolute())
    return settings.model_copy(update=paths)
