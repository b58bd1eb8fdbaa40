"""Cases that the tests of the estimators learn from, and a model that is small enough to learn them at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALL = {
    "layers": 1,
    "width": 16,
    "q_heads": 2,
    "head_dim": 8,
    "window": 8,
    "hidden": 32,
    "dropout": 0.0,
    "steps": 120,
    "learning_rate": 1e-2,
    "random_state": 0,
}
FREQUENCIES = {"fast": 0.25, "slow": 0.03}


def waves(cases: int, seed: int, timepoints: int = 24) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Two channels of a noisy wave, which begins anywhere; the class is how fast it is."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.resize(list(FREQUENCIES), cases))
    frequency = np.array([FREQUENCIES[label] for label in y])[:, None, None]
    phase = rng.uniform(0, 2 * np.pi, (cases, 1, 1)) + np.array([0, 1.3])[:, None]
    X = np.sin(2 * np.pi * frequency * np.arange(timepoints) + phase)
    return X + 0.1 * rng.standard_normal(X.shape), y


X, Y = waves(96, seed=0)
NEW_X, NEW_Y = waves(60, seed=1)
