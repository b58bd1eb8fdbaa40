"""Ray, imported only when something is distributed, and connected to with as little noise as it can be."""

from __future__ import annotations

import logging
import os
from typing import Any

from wifi_densepose_temporal.errors import MissingExtraError


def connected_ray(workers: int) -> Any:
    """The module `ray`, connected: to the caller's cluster if `ray.init` was called, else to one on this machine.

    A cluster elsewhere is named to Ray as always, by `ray.init(address=...)` before, or by `RAY_ADDRESS`.

    Args:
        workers: processes that will work at once; a machine of fewer cores takes them too.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"work in several processes needs Ray ({error}): pip install 'wifi-densepose-temporal[ray]'"
        ) from None
    if not ray.is_initialized():
        _init(ray, workers)
    return ray


def _init(ray: Any, workers: int) -> None:
    options: dict[str, Any] = {"include_dashboard": False, "logging_level": logging.WARNING}
    if not os.environ.get("RAY_ADDRESS"):
        options |= {"address": "local", "num_cpus": max(workers, os.cpu_count() or 1)}
        # Ray's default of 15 lets anything else on the machine go before a tick; the daemons read it as they start.
        os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(**options)
