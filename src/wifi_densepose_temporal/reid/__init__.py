"""Persons recognised again: a gallery of embeddings in SQLite or PostgreSQL. Needs the extra `reid`.

What a gallery stores is personal data: see docs/privacy.md.
"""

from __future__ import annotations

from wifi_densepose_temporal.errors import MissingExtraError

try:
    import sqlalchemy as _  # noqa: F401  (asked for here, so that the files beside need not)
except ImportError as error:
    raise MissingExtraError(
        f"a gallery needs SQLAlchemy ({error}): pip install 'wifi-densepose-temporal[reid]'"
    ) from None

from wifi_densepose_temporal.reid.gallery import Gallery
from wifi_densepose_temporal.reid.results import (
    AuditEntry,
    Calibration,
    Decision,
    Forgotten,
    Identification,
    Person,
    Update,
)

__all__ = [
    "AuditEntry",
    "Calibration",
    "Decision",
    "Forgotten",
    "Gallery",
    "Identification",
    "Person",
    "Update",
]
