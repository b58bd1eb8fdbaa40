"""One Ray for all tests of this folder: real processes, on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray on two cores; its files go where Ray puts them, outside of the repository."""
    ray = pytest.importorskip(
        "ray", reason="distributed/ is not tested: Ray is not installed (pip install 'wifi-densepose-temporal[ray]')"
    )
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
