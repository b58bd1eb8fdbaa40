"""What a reader returns: the packets of one capture file, in the order in which they were received.

A `Capture` holds channel state as complex samples where the file has them and as amplitudes always, when each
packet arrived, and what the file says about itself. It does no processing: no resampling, no gain
normalisation, no removal of null or pilot subcarriers. That is `features`' work.

Axes: T packets, A antennas (receive antenna times transmit stream), S subcarriers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.errors import ShapeError

Clock = Literal["measured", "nominal"]

# An interval is a gap when it is longer than both of these.
MIN_GAP_S = 0.1
GAP_MEDIANS = 5.0


@dataclass(frozen=True, eq=False)
class Capture:
    """One recording of one link, as read from a file.

    Attributes:
        format: which reader made it, for example ``"esp32-csv"``.
        timestamps: float64 [T], seconds since the first packet, in file order; wraps of the device's clock
            are undone. A packet that the device reported late has a smaller time than the one before it.
        clock: ``"measured"``, or ``"nominal"`` where the file has no usable clock and the timestamps were
            made from a rate that the caller gave or the file states.
        iq: complex64 [T, A, S], or None where the file holds amplitudes only.
        amplitude: float32 [T, A, S]; where `iq` is given, ``sqrt(re*re + im*im)`` in float32.
        rssi: float32 [T], dBm, the strongest antenna; NaN where a packet has none; None where the file has
            none.
        subcarriers: int16 [S], OFDM index relative to the carrier (0 is DC), ascending; None where unknown,
            and then the columns are in file order.
        dropped_lines: how many lines or records were damaged, cut or of another kind than the rest; a damaged
            stretch between two records counts as one.
        chain: int16 [T], the receive chain that a packet holds where one packet holds only one (Nexmon:
            ``core * 4 + spatial``); else None.
        metadata: what else the file says; JSON-serialisable. Where the file names the sender of each packet,
            only the most frequent one's are in the capture, and `other_senders_packets` says how many whole
            packets of other links there were (they are no `dropped_lines`). Where the end of a file of records
            could not be read, `unread_bytes` says how much.
        source: where the data came from: ``"replay"``, ``"live"`` or ``"synthetic"``.

    Raises:
        ShapeError: the arrays disagree on T or S, or T, A or S is zero.
    """

    format: str
    timestamps: NDArray[np.float64]
    clock: Clock
    iq: NDArray[np.complex64] | None
    amplitude: NDArray[np.float32]
    rssi: NDArray[np.float32] | None
    subcarriers: NDArray[np.int16] | None
    dropped_lines: int
    chain: NDArray[np.int16] | None
    metadata: Mapping[str, object]
    source: str = "replay"

    def __post_init__(self) -> None:
        shape = self.amplitude.shape
        if len(shape) != 3 or 0 in shape:
            raise ShapeError(f"a capture's amplitude has shape {shape}; expected [packets, antennas, subcarriers]")
        expected = {
            "timestamps": (self.timestamps, shape[:1]),
            "iq": (self.iq, shape),
            "rssi": (self.rssi, shape[:1]),
            "chain": (self.chain, shape[:1]),
            "subcarriers": (self.subcarriers, shape[2:]),
        }
        for name, (array, wanted) in expected.items():
            if array is not None and array.shape != wanted:
                raise ShapeError(f"a capture's {name} has shape {array.shape}; expected {wanted}, as amplitude has")

    @classmethod
    def from_iq(
        cls,
        format: str,  # noqa: A002 - the field's name
        timestamps: NDArray[np.float64],
        clock: Clock,
        iq: NDArray[np.complex64],
        *,
        rssi: NDArray[np.float32] | None = None,
        subcarriers: NDArray[np.int16] | None = None,
        dropped_lines: int = 0,
        chain: NDArray[np.int16] | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> Self:
        """A capture whose amplitude is the float32 magnitude of `iq`, complex64 [T, A, S]."""
        amplitude = np.sqrt(iq.real * iq.real + iq.imag * iq.imag)
        return cls(
            format=format,
            timestamps=timestamps,
            clock=clock,
            iq=iq,
            amplitude=amplitude,
            rssi=rssi,
            subcarriers=subcarriers,
            dropped_lines=dropped_lines,
            chain=chain,
            metadata=metadata or {},
        )

    def __len__(self) -> int:
        """The number of packets, T."""
        return len(self.timestamps)

    @property
    def rate_hz(self) -> float | None:
        """Mean packet rate in hertz, ``(T - 1) / (last - first)``; None for one packet or no elapsed time."""
        span_s = float(self.timestamps[-1] - self.timestamps[0])
        return (len(self) - 1) / span_s if span_s > 0 else None

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Silences as (start, length) in seconds: intervals above ``max(0.1 s, 5 x the median interval)``."""
        intervals_s = np.diff(self.timestamps)
        if not len(intervals_s):
            return []
        limit_s = max(MIN_GAP_S, GAP_MEDIANS * float(np.median(intervals_s)))
        return [(float(self.timestamps[i]), float(intervals_s[i])) for i in np.flatnonzero(intervals_s > limit_s)]
