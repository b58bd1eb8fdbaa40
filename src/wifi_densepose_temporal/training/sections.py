"""The sections of a configuration, each checked by itself: what its keys mean, their defaults and their bounds.

What sections cannot say at once, and how the file is read: settings.py. docs/training.md's table is made from the
descriptions here and there.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS
from wifi_densepose_temporal.evaluation.within import check_within
from wifi_densepose_temporal.training.augment import AUGMENTATIONS
from wifi_densepose_temporal.training.network import NetworkSizes

HeldOut = Literal["recording", "session", "person", "room"]
Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Above0 = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the file: unknown keys are refused, and what was read is not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, ser_json_inf_nan="strings")


class DataSettings(Section):
    """Which recordings: a manifest, or a folder of a known layout."""

    path: str = Field(description="A manifest, or a folder of a known layout; `--data` takes its place.")


class ValidationSettings(Section):
    """The part of the training recordings that training stops by: the last `fraction` of the values of `by`."""

    fraction: float = Field(
        default=0.0, ge=0, lt=1, description="The last ones, in order of time, of the values of `by`."
    )
    by: HeldOut = Field(default="recording", description="What training and validation share no value of.")


class WithinSettings(Section):
    """Windows of a recording that are looked for among others of the same one, by number from 0, as some papers do."""

    probe: tuple[NotNegative, ...] = Field(
        min_length=1,
        description=f"Windows of {DEFAULT_PACKETS} packets that are looked for, by number from 0 in a test recording.",
    )
    gallery: tuple[NotNegative, ...] = Field(min_length=1, description="Windows of the same among which.")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        check_within(self.probe, self.gallery)
        return self


class SplitSettings(Section):
    """Who is on which side. Either `train` and `tests`, or `folds`: never windows of one recording on two sides."""

    held_out: HeldOut = Field(description="What no test shares a value of with training.")
    among: str = Field(default="all", description="Selector of the recordings that the split is made of.")
    train: str = Field(default="all", description="Selector, such as `session=D1`, of what trains and validates.")
    tests: dict[str, str] = Field(default={}, description="Name of each test to its selector, or to `rest`.")
    folds: Positive | Literal["each"] | None = Field(
        default=None,
        description="In place of `train` and `tests`: so many groups of values of `held_out`, each tested once.",
    )
    validation: ValidationSettings = ValidationSettings()
    within: WithinSettings | None = Field(default=None, description="Identity: one more figure for each of the tests.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.folds is not None and (self.tests or self.train != "all"):
            raise ValueError("folds stand in place of train and tests")
        return self


class ModelSettings(Section):
    """Sizes of the network, apart from features and classes, which come from the data."""

    layers: Positive = Field(
        default=2, description="Of attention, each with a feed-forward block where `hidden` is not 0."
    )
    width: Positive | None = Field(
        default=None, description="Of the model; none: no input projection, as wide as a frame."
    )
    q_heads: Positive = Field(default=4, description="Query heads; a multiple of `kv_heads`.")
    kv_heads: Positive = Field(default=1, description="Key and value heads.")
    head_dim: Positive = Field(default=16, description="Size of one head.")
    backend: Literal["sparse_gqa", "dense"] = Field(
        default="sparse_gqa", description="Sparse attention, or all frames before."
    )
    window: NotNegative = Field(default=32, description="Frames before the present one that attention sees.")
    block_size: Positive = Field(default=16, description="Frames that one landmark stands for.")
    global_tokens: tuple[int, ...] = Field(
        default=(0,), description="Frames that all later ones see, by number from 0."
    )
    norm: Literal["none", "rms"] = Field(default="rms", description="Before attention and feed-forward.")
    hidden: NotNegative = Field(default=0, description="Size of the feed-forward blocks; 0: none.")
    activation: Literal["relu", "silu"] = Field(default="silu", description="Of the feed-forward blocks.")
    pooling: Literal["mean", "last", "last_n", "mean_spread"] = Field(
        default="last", description="Over the frames so far."
    )
    pool_frames: NotNegative = Field(default=0, description="Of `last_n`; 0 with the others.")
    embedding: tuple[Positive, ...] = Field(
        default=(), max_length=2, description="Sizes of the projection to the embedding: none, one layer, or two."
    )
    members: Positive = Field(default=1, description="Networks, each from a seed of its own, side by side in one blob.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="While training.")
    part_scale: tuple[Above0, ...] = Field(
        default=(), description="Standard deviation at the input of each of the `[[features.parts]]`; none: 1."
    )
    input_noise: float = Field(
        default=0.0, ge=0, description="While training: most of the noise's standard deviation, in scaled features."
    )
    input_offset: float = Field(default=0.0, ge=0, description="The same, one number for all frames of a window.")
    input_mask: float = Field(
        default=0.0, ge=0, lt=1, description="Largest share of features that a window does without."
    )

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


class BatchSettings(Section):
    """What one step sees: windows of recordings, augmented."""

    windows: Positive = Field(default=32, description="Of a step.")
    packets: NotNegative = Field(default=0, description="Of a window; 0: whole recordings.")
    label_packets: Positive = Field(
        default=1, description="A frame's label is that of most of the last so many packets."
    )
    identities: Positive | None = Field(
        default=None, description="Windows come in equal parts from this many people, and from their recordings."
    )
    copies: NotNegative = Field(
        default=0, description="Augmented versions of a recording to draw from; 0: ever new ones."
    )
    augmentations: tuple[str, ...] = Field(default=(), description=f"Of {', '.join(AUGMENTATIONS)}.")
    least: NotNegative = Field(default=2, description="At least so many augmentations at a time,")
    most: NotNegative = Field(default=4, description="and at most so many.")

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

    @model_validator(mode="after")
    def _counts_that_fit_together(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is more than most {self.most}; give least <= most")
        if self.identities is not None and self.windows < self.identities:
            raise ValueError(f"{self.windows} windows of {self.identities} identities: give at least one window each")
        return self


class LossSettings(Section):
    """Weights of the losses; 0 leaves one out."""

    cross_entropy: float = Field(
        default=1.0, ge=0, description="Of activities; 0 where people are learned, or no labels."
    )
    at_end: bool = Field(default=False, description="Cross-entropy at a window's last frame alone, not at every one.")
    label_smoothing: float = Field(
        default=0.0, ge=0, le=1, description="Share of the probability that all classes get."
    )
    mix: float = Field(
        default=0.0, ge=0, description="`at_end`: pairs of windows are mixed by shares of Beta(mix, mix)."
    )
    supervised_contrastive: float = Field(
        default=0.0, ge=0, description="Windows of one person attract each other (SupCon)."
    )
    episodes: float = Field(
        default=0.0, ge=0, description="Recognise half of a step's people through the whitening of the other half."
    )
    contrastive: float = Field(
        default=0.0, ge=0, description="Two views of a window attract each other (NT-Xent, VICReg)."
    )

    @model_validator(mode="after")
    def _mixed_at_the_end(self) -> Self:
        if self.mix and not self.at_end:
            raise ValueError("mix is of windows' last frames: set at_end to true, or mix to 0")
        return self


class ScheduleSettings(Section):
    """How long, how fast, and when it stops."""

    steps: NotNegative = Field(default=1000, description="Of the optimiser.")
    learning_rate: float = Field(default=2e-3, gt=0, description="At its highest; half a cosine down to 0.")
    weight_decay: float = Field(default=0.01, ge=0, description="Of AdamW, on matrices.")
    warm_up: float = Field(default=0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")
    clip: float = Field(default=1.0, gt=0, description="Of the gradient's norm.")
    average: float = Field(default=0.0, ge=0, lt=1, description="Decay of the exponential average of weights; 0: none.")
    bf16: bool = Field(default=False, description="Forward passes in bfloat16.")
    every: Positive = Field(
        default=50, description="Steps between checkpoints, and between looks at validation recordings."
    )
    patience: Positive | None = Field(default=None, description="Looks without improvement after which training stops.")


class ReadoutSettings(Section):
    """A closed form in place of a trained projection: training.readout."""

    packets: Positive = Field(default=100, description="Of a window.")
    hop: Positive = Field(default=25, description="Packets between the starts of two windows.")
    shrinkage: float = Field(
        default=0.1, ge=0, le=1, description="Of the change's covariance, towards features that change independently."
    )
    part_weights: tuple[Above0, ...] = Field(
        default=(), description="Of each of the `[[features.parts]]`; a small one is shrunk harder; none: 1."
    )
    between_recordings: float = Field(
        default=0.3, ge=0, description="Weight of what changes between a person's recordings."
    )
    closed_set: bool = Field(
        default=False,
        description="Only directions that tell the trained people apart: one fewer than there are people.",
    )
    evening: float = Field(
        default=0.0, ge=0, le=0.5, description="Power of its variance that a direction is divided by."
    )
