"""Chooses the instruction set that the kernels use: once, when the package is imported."""

from __future__ import annotations

import os

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.errors import ConfigError

#: Names the set to use instead of the fastest one: `scalar` is the readable reference.
VARIABLE = "WDT_INSTRUCTION_SET"


def choose_instruction_set() -> None:
    """Uses the fastest set that this processor has, or the one that the environment names.

    Raises:
        ConfigError: the environment names one that this build or this processor has not.
    """
    usable = _core.instruction_sets()
    name = os.environ.get(VARIABLE, usable[0])
    if not _core.use_instruction_set(name):
        raise ConfigError(f"{VARIABLE} is {name!r}; this build has on this processor: {', '.join(usable)}")
