"""The threshold from which on a person is known, found with persons who are not."""

from __future__ import annotations

import math

import numpy as np

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.errors import ConfigError

#: Fewest enrolled persons that can be each other's strangers.
LEAST_PERSONS = 20


def threshold_at(similarities: Floats, false_accept_rate: float) -> float:
    """The smallest threshold that fewer than `false_accept_rate` of strangers reach.

    The k-th largest of n similarities, k = floor(rate (n + 1)), is not to be reached: a further stranger, drawn like
    these n, then reaches the threshold with a probability of at most k / (n + 1), over the draw of all (the quantile of
    split conformal prediction: Vovk, Gammerman and Shafer, 2005).

    Args:
        similarities: `[n]`, of each stranger's probe to the person nearest to it.
        false_accept_rate: between 0 and 1.

    Raises:
        ConfigError: no such rate, or too few similarities for it.
    """
    if not isinstance(false_accept_rate, float) or not 0 < false_accept_rate < 1:
        raise ConfigError(f"false_accept_rate is {false_accept_rate!r}; expected a number between 0 and 1")
    at = math.floor(false_accept_rate * (len(similarities) + 1) + 1e-9)  # 0.01 * 100 is 1, however it is rounded
    if at < 1:
        needed = math.ceil(1 / false_accept_rate - 1e-9) - 1
        raise ConfigError(
            f"{len(similarities)} probes cannot show a false-accept rate of {false_accept_rate:g}; expected at least "
            f"{needed}: give more probes or a higher rate"
        )
    largest = np.sort(similarities)[len(similarities) - at]
    return float(np.nextafter(largest, np.float32(np.inf), dtype=np.float32))
