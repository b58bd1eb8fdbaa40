"""How large a capture may be: checked before anything of that size is allocated."""

from __future__ import annotations

from wifi_densepose_temporal.errors import MemoryLimitError

MAX_PACKETS = 1 << 22  # over an hour at 1000 packets a second
# As complex64 1 GiB; with the amplitude and what is in between, a reader then needs below 4 GiB.
MAX_VALUES = 1 << 27


def check_size(packets: int, antennas: int = 1, subcarriers: int = 1) -> None:
    """Refuses a capture of more packets, or of more values in all, than fit into the memory of a usual machine.

    Raises:
        MemoryLimitError: above `MAX_PACKETS` or `MAX_VALUES`.
    """
    if packets > MAX_PACKETS:
        raise MemoryLimitError(f"a capture of more than {MAX_PACKETS} packets; expected at most that many: split it")
    if packets * antennas * subcarriers > MAX_VALUES:
        raise MemoryLimitError(
            f"a capture of {packets} packets of {antennas} x {subcarriers} values; expected at most {MAX_VALUES}"
            " values in all: split it"
        )
