"""Files that are one length-prefixed record after another: the walk over them, and what happens at damage.

A format says how long the record at a position is (`size`) and where one certainly begins (`starts`); the walk
takes the records one after the other. Where there is none, a damaged length or a cut, it goes on at the next place
where one certainly begins and counts the gap as one record. It does not look into a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from wifi_densepose_temporal.csi.limits import check_size

# Places that are looked at for the next record, in all gaps of a file together: about a second.
MAX_CANDIDATES = 1 << 20


class Walk(NamedTuple):
    """The records of a file, without what was damaged."""

    records: list[bytes]
    """Whole by their length; whether they make sense is for the reader to say."""
    gaps: int
    """Damaged stretches between or after them."""
    unread_bytes: int
    """Bytes from the last gap to the end of the file, where no record was found any more."""


class Format(NamedTuple):
    """How the records of a format are told."""

    size: Callable[[bytes, int], int]
    """Bytes of the plausible record at a position, its length field included; 0 where there is none."""
    starts: Callable[[bytes, int], bool]
    """Whether a record begins at a position that noise would not look like; looks at its header only."""
    mark: re.Pattern[bytes]
    """Matches, without consuming anything, bytes that every record has ..."""
    mark_at: int
    """... so many bytes after its begin."""


def walk(data: bytes, position: int, form: Format) -> Walk:
    """Takes the records from `position` to the end of the file, in linear time whatever the bytes.

    Raises:
        MemoryLimitError: more records than a capture may have.
    """
    records: list[bytes] = []
    gaps, candidates = 0, MAX_CANDIDATES
    while position < len(data):
        if size := form.size(data, position):
            records.append(data[position : position + size])
            check_size(len(records))
            position += size
            continue
        gaps += 1
        following = None
        for match in form.mark.finditer(data, position + 1 + form.mark_at):
            candidates -= 1
            if candidates < 0:
                break
            if form.starts(data, match.start() - form.mark_at):
                following = match.start() - form.mark_at
                break
        if following is None:
            return Walk(records, gaps, len(data) - position)
        position = following
    return Walk(records, gaps, 0)
