"""From CSI packets to frames at a fixed rate: the feature chain over a recording, or packet by packet.

The arithmetic is core/src/chain.c, the file that runs on the microcontroller too; docs/features.md has the
formulas and the reasons. This module checks arguments and turns seconds into microseconds. It reads no files
(csi/read.py does), and makes no frames where there is no data.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wifi_densepose_temporal import _core
from wifi_densepose_temporal.arrays import as_float32
from wifi_densepose_temporal.csi.bands import Subcarriers, assign_bands, columns_of, usable_subcarriers
from wifi_densepose_temporal.csi.majority import main_chain
from wifi_densepose_temporal.errors import (
    ConfigError,
    DtypeError,
    MemoryLimitError,
    NonFiniteError,
    ShapeError,
)

if TYPE_CHECKING:
    from wifi_densepose_temporal.csi.capture import Capture

logger = logging.getLogger(__name__)

# core/include/wdt_chain.h is the only place that defines the defaults.
_WORDS = _core.chain_defaults()
_US = 1e6  # microseconds in a second


PartKind = Literal["level", "motion", "quadrature"]


@dataclasses.dataclass(frozen=True)
class FeaturePart:
    """One part of a frame: a value for each band, and what is made of it; docs/features.md has the formulas.

    Attributes:
        kind: `"level"` of each band; `"motion"`, its mean change since `lag` bins ago; `"quadrature"`, the sine of the
            phase between a band and the one `lag` bands on, times both amplitudes, for which I/Q is needed.
        bands: groups of neighbouring subcarriers, B; 1..1024. The part has B values, a quadrature B - lag.
        lag: 1..64, bins for motion and bands for quadrature; 0 for level.
        time_s: time constant of an average over time, seconds; 0 for none.
        log_floor: if above 0, a value v becomes log(v + log_floor); up to 1, in steps of 10^-6; 0 for quadrature.
        slow_s: time constant, seconds, of an average that is subtracted; infinity for the mean so far; 0 for none.
        size_s: if above 0, the part is divided by its own size, averaged with this time constant, plus `size_floor`;
            the logarithm of that divisor is one more feature.
        size_floor: above 0 and up to 1 with `size_s`, else 0.
    """

    kind: PartKind
    bands: int
    lag: int = 0
    time_s: float = 0.0
    log_floor: float = 0.0
    slow_s: float = 0.0
    size_s: float = 0.0
    size_floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _core.CHAIN_PARTS:
            raise ConfigError(f"a part of kind {self.kind!r}; expected one of {', '.join(_core.CHAIN_PARTS)}")
        try:
            for name in ("bands", "lag"):
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            for name in ("time_s", "log_floor", "slow_s", "size_s", "size_floor"):
                number = float(getattr(self, name))
                if math.isnan(number) or (number == math.inf and name != "slow_s"):
                    raise ConfigError(f"{self}: {name} must be a finite number")
                object.__setattr__(self, name, number)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self}: bands and lag must be ints and the rest numbers ({error})") from None
        if not all(0 <= number < 1 << 32 for number in self.to_words().values()):
            raise ConfigError(f"{self}: a number that is negative or too large for 32 bits")

    def to_words(self) -> dict[str, int]:
        """The part in a blob's feature chain record, u32 by name; times in microseconds."""
        slow_us = _core.CHAIN_SO_FAR if self.slow_s == math.inf else round(self.slow_s * _US)
        micro = (round(self.time_s * _US), round(self.log_floor * _US), slow_us)
        sizes = (round(self.size_s * _US), round(self.size_floor * _US))
        words = (_core.CHAIN_PARTS.index(self.kind), self.bands, self.lag, *micro, *sizes)
        return dict(zip(_core.CHAIN_PART_FIELDS, words, strict=True))

    @classmethod
    def from_words(cls, words: Mapping[str, int]) -> FeaturePart:
        """The part of a record: `from_words(w).to_words() == w`."""
        if set(words) != set(_core.CHAIN_PART_FIELDS) or not 0 <= words["kind"] < len(_core.CHAIN_PARTS):
            raise ConfigError(f"a part of {dict(words)}; expected a known kind and {_core.CHAIN_PART_FIELDS}")
        kind, bands, lag, *micro = (words[name] for name in _core.CHAIN_PART_FIELDS)
        time_s, log_floor, slow_s, size_s, size_floor = (number / _US for number in micro)
        if words["slow_us"] == _core.CHAIN_SO_FAR:
            slow_s = math.inf
        name = cast(PartKind, _core.CHAIN_PARTS[kind])
        return cls(name, bands, lag, time_s, log_floor, slow_s, size_s, size_floor)


@dataclasses.dataclass(frozen=True)
class FeatureConfig:
    """What a frame is. A model is trained for one configuration, and its blob carries it.

    Without `parts` a frame is the level and the motion of `bands` bands, one a bin. With them, it is those parts.

    Attributes:
        bands: groups of neighbouring subcarriers, B; 1..1024, and no more than usable subcarriers.
        rate_hz: bins a second, 0.1..10000, and frames too unless `frame_bins` says otherwise. It runs as a whole
            number of microseconds a bin, `period_us`: 30 Hz as 33333 us, that is 30.0003 Hz.
        motion_time_s: time constant of the motion average, seconds; at most 10000 bins.
        max_gap_s: a silence longer than this, seconds, ends a segment; at most 10000 bins.
        parts: of a frame, in their order; then `bands` and `motion_time_s` are not used and stay as they are.
        frame_bins: bins from one frame to the next, 1..1000; a frame holds its parts as of its last bin.
        hold: whether a bin without a packet gives a frame, with the levels of the one before. Only with `parts` may it
            be False: then such a bin is passed over, and a mean over frames counts what was measured alone.

    Raises:
        ConfigError: a value that is no number or outside its range.
    """

    bands: int = _WORDS["bands"]
    rate_hz: float = _US / _WORDS["period_us"]
    motion_time_s: float = _WORDS["motion_time_us"] / _US
    max_gap_s: float = _WORDS["max_gap_us"] / _US
    parts: tuple[FeaturePart, ...] = ()
    frame_bins: int = 1
    hold: bool = True

    def __post_init__(self) -> None:
        try:
            for name in ("bands", "frame_bins"):
                object.__setattr__(self, name, operator.index(getattr(self, name)))
            for name in ("rate_hz", "motion_time_s", "max_gap_s"):
                object.__setattr__(self, name, float(getattr(self, name)))
            object.__setattr__(self, "parts", tuple(map(_as_part, self.parts)))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self}: bands must be an int and the rest numbers ({error})") from None
        if not 0.1 <= self.rate_hz <= 10_000:
            raise ConfigError(f"rate_hz={self.rate_hz}; expected 0.1 to 10000 frames a second")
        if not 1 <= self.bands <= _core.CHAIN_MAX_BANDS:
            raise ConfigError(f"bands={self.bands}; expected 1 to {_core.CHAIN_MAX_BANDS}")
        for name in ("motion_time_s", "max_gap_s"):
            if not 0 < getattr(self, name) <= 4294:  # microseconds in 32 bits
                raise ConfigError(f"{name}={getattr(self, name)}; expected above 0 and at most 4294 seconds")
        self._check_parts()
        broken = _core.chain_rule(self.to_words())
        if broken is not None:
            raise ConfigError(f"{self}, in microseconds {self.to_words()}: {broken}")

    def _check_parts(self) -> None:
        if not isinstance(self.hold, bool):
            raise ConfigError(f"hold={self.hold!r}; expected True or False")
        if not self.parts and (self.frame_bins != 1 or not self.hold):
            raise ConfigError(f"frame_bins={self.frame_bins} and hold={self.hold} without parts; list the parts")
        unused = (self.bands, round(self.motion_time_s * _US)) != (_WORDS["bands"], _WORDS["motion_time_us"])
        if self.parts and unused:
            raise ConfigError(
                f"bands={self.bands} and motion_time_s={self.motion_time_s} beside parts; each part has its own"
            )

    @property
    def input_dim(self) -> int:
        """Features of a frame, F: without `parts` 2 * bands, a level and a motion for each band."""
        return _core.chain_features(self.to_words())

    @property
    def part_dims(self) -> tuple[int, ...]:
        """How many of a frame's features each of `parts` makes, in their order."""
        return tuple(FeatureConfig(parts=(part,)).input_dim for part in self.parts)

    @property
    def period_us(self) -> int:
        """Microseconds of a bin: 1e6 / rate_hz, rounded."""
        return round(_US / self.rate_hz)

    @property
    def frame_period_s(self) -> float:
        """Seconds between frames."""
        return self.period_us * self.frame_bins / _US

    @property
    def needs_phase(self) -> bool:
        """Whether a part needs I/Q: amplitudes alone are refused."""
        return any(part.kind == "quadrature" for part in self.parts)

    def to_words(self) -> dict[str, Any]:
        """The fields of a blob's feature chain record, u32 by name, times rounded to microseconds.

        With parts also `"parts"`, a list of theirs.
        """
        words: dict[str, Any] = {
            "version": 2 if self.parts else _WORDS["version"],
            "bands": 0 if self.parts else self.bands,
            "period_us": self.period_us,
            "motion_time_us": 0 if self.parts else round(self.motion_time_s * _US),
            "max_gap_us": round(self.max_gap_s * _US),
        }
        if self.parts:
            words |= {
                "frame_bins": self.frame_bins,
                "hold": int(self.hold),
                "parts": [part.to_words() for part in self.parts],
            }
        return words

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> FeatureConfig:
        """The configuration of a blob's feature chain record: `from_words(w).to_words() == w`.

        Raises:
            ConfigError: a field too many or too few, another version, or a value outside its range.
        """
        listed = "parts" in words
        expected = {*_WORDS, "frame_bins", "hold", "parts"} if listed else set(_WORDS)
        if set(words) != expected:
            raise ConfigError(f"a feature chain record of {list(words)}; expected {sorted(expected)}")
        if words["version"] != (2 if listed else _WORDS["version"]):
            raise ConfigError(
                f"feature chain version {words['version']}; expected {2 if listed else _WORDS['version']}: "
                "update the package, or export the model again with this one"
            )
        if words["period_us"] < 1:
            raise ConfigError(f"period_us={words['period_us']}; expected 100 to 10000000")
        timing = {"rate_hz": _US / words["period_us"], "max_gap_s": words["max_gap_us"] / _US}
        if not listed:
            return cls(bands=words["bands"], motion_time_s=words["motion_time_us"] / _US, **timing)
        parts = tuple(map(FeaturePart.from_words, words["parts"]))
        if not parts:
            raise ConfigError("a feature chain record without parts; expected 1 to 12")
        if words["hold"] not in (0, 1):
            raise ConfigError(f"a feature chain record with hold {words['hold']}; expected 0 or 1")
        return cls(parts=parts, frame_bins=words["frame_bins"], hold=bool(words["hold"]), **timing)


def _as_part(part: FeaturePart | Mapping[str, Any]) -> FeaturePart:
    """A part, or the keywords of one, as a configuration file has them."""
    return part if isinstance(part, FeaturePart) else FeaturePart(**part)


class Frames(NamedTuple):
    """Frames in the order of time; one period apart, except where a segment ended between two of them."""

    values: NDArray[np.float32]
    """[T, F] the parts, one after the other; without `parts` B levels, relative to the packet's root mean square, then
    their B motions."""
    times_s: NDArray[np.float64]
    """[T] end of each frame's bin, seconds, on the clock of the timestamps; nothing later went into it."""
    held: NDArray[np.bool_]
    """[T] True where no packet fell into the bin and the levels are those of the frame before."""
    skipped_packets: int
    """Packets that are no measurement: an antenna all zero, a negative, infinite or NaN amplitude."""
    late_packets: int
    """Packets older than one that came before them."""


class FeatureStream:
    """The feature chain, any number of packets at a time, with the same frames as in one go.

    One stream belongs to one link and to one thread at a time; a second one gets `CacheInUseError`.

    Args:
        config: what a frame is.
        antennas: rows of a packet, 1..64.
        subcarriers: the columns of a packet: their OFDM indices or their number, as for `assign_bands`.

    Raises:
        ConfigError: antennas outside their range, or subcarriers that `assign_bands` refuses.

    >>> import numpy as np
    >>> stream = FeatureStream(FeatureConfig(bands=2, rate_hz=50), antennas=1, subcarriers=4)
    >>> packet = np.array([[3, 3, 4, 4]], np.float32)  # [antenna, subcarrier], any gain
    >>> stream.push(0.000, packet).values.shape  # the first bin, 20 ms, is still open
    (0, 4)
    >>> frames = stream.push(0.025, packet)
    >>> [f"{x:.3f}" for x in frames.values[0]], frames.times_s.tolist()
    (['0.849', '1.131', '0.000', '0.000'], [0.02])
    """

    def __init__(self, config: FeatureConfig, antennas: int, subcarriers: Subcarriers):
        if not 1 <= antennas <= _core.CHAIN_MAX_ANTENNAS:
            raise ConfigError(f"antennas={antennas}; expected 1 to {_core.CHAIN_MAX_ANTENNAS}")
        for bands in {part.bands for part in config.parts} or {config.bands}:
            assign_bands(subcarriers, bands)  # refuses what the chain would, and says why
        count, index = columns_of(subcarriers)
        self.config = config
        self._shape = (antennas, count)
        self._needs_phase = config.needs_phase
        self._chain = _core.Chain(config.to_words(), antennas, count, index)

    def push(self, timestamp_s: ArrayLike, packets: NDArray[np.generic]) -> Frames:
        """The frames that these packets complete; packets come in the order of their arrival.

        Args:
            timestamp_s: scalar or [n], seconds on any clock, rounded to microseconds.
            packets: [antenna, subcarrier] or [n, antenna, subcarrier]: complex64 I/Q, or linear amplitude
                of a real dtype that float32 holds exactly.

        Raises:
            ShapeError: packets of another shape than the stream's, or not as many as timestamps.
            DtypeError: float64, complex128, or no numbers at all.
            NonFiniteError: a timestamp that is NaN or infinite. (Such an amplitude only skips its packet.)
            CacheInUseError: another thread is inside this stream.
            MemoryLimitError: the frames do not fit into memory.
        """
        times, values = np.asarray(timestamp_s), np.asarray(packets)
        if times.ndim == 0 and values.ndim == 2:
            times, values = times[np.newaxis], values[np.newaxis]
        if times.ndim != 1 or values.shape != (times.size, *self._shape):
            raise ShapeError(
                f"packets of shape {values.shape} at timestamps of shape {times.shape}; expected "
                f"[n, {self._shape[0]}, {self._shape[1]}], that is packet, antenna, subcarrier, at [n]"
            )
        t_us = _microseconds(times)
        try:
            if self._needs_phase and values.dtype != np.complex64:
                raise DtypeError(
                    f"packets of {values.dtype}; a part of this chain is of phases: give I/Q as complex64, "
                    "or use a model whose features need amplitudes alone"
                )
            if values.dtype == np.complex64:
                pairs = np.ascontiguousarray(values).view(np.float32).reshape(*values.shape, 2)
                return _frames(self._chain.push_iq(t_us, pairs))
            return _frames(self._chain.push(t_us, as_float32("packets", values)))
        except MemoryError:
            raise MemoryLimitError(
                f"the frames of {times.size} packets do not fit into memory; push fewer at a time"
            ) from None

    def flush(self) -> Frames:
        """The frame of the bin that is still open, if there is one; ends the segment.

        Raises:
            CacheInUseError: another thread is inside this stream.
        """
        return _frames(self._chain.flush())


_DEFAULT = FeatureConfig()


def extract(capture: Capture, config: FeatureConfig = _DEFAULT) -> Frames:
    """The frames of a whole recording.

    Where a packet holds a single receive chain (`capture.chain`), only the packets of the most frequent one
    are used: the others saw the room through another antenna, and the mixture would look like motion.

    Raises:
        ConfigError: fewer usable subcarriers than bands, or a capture of a shape that no stream takes.
        MemoryLimitError: the frames do not fit into memory.
    """
    packets, timestamps = packets_for(capture, config), capture.timestamps
    if capture.chain is not None and capture.chain.size:
        mine = main_chain(capture.chain)
        if not mine.all():
            logger.info("%d packets of other receive chains are left out", np.count_nonzero(~mine))
        packets, timestamps = packets[mine], timestamps[mine]
    index = usable_subcarriers(capture)
    antennas, count = packets.shape[1:]
    stream = FeatureStream(config, antennas, count if index is None else index)
    frames, last = stream.push(timestamps, packets), stream.flush()
    if frames.skipped_packets or frames.late_packets:
        logger.info("%d packets skipped, %d late", frames.skipped_packets, frames.late_packets)
    return join_frames([frames, last])


def join_frames(parts: Sequence[Frames]) -> Frames:
    """What a stream gave, one after the other, as one."""
    return Frames(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.times_s for part in parts]),
        np.concatenate([part.held for part in parts]),
        sum(part.skipped_packets for part in parts),
        sum(part.late_packets for part in parts),
    )


def silences(times_s: NDArray[np.float64], config: FeatureConfig) -> NDArray[np.bool_]:
    """Between which frames there was a silence longer than `max_gap_s`, `[T - 1]`: [t] is between frames t and t + 1.

    A chain that holds has a frame for every period but there. One that does not passes over empty bins as well, so that
    only a distance above `max_gap_s` is a silence.

    Args:
        times_s: `[T]` ends of the frames' bins, seconds, as `Frames.times_s`.
        config: the chain that made them.
    """
    longest_s = 1.5 * config.frame_period_s if config.hold else max(config.max_gap_s, config.frame_period_s)
    found: NDArray[np.bool_] = np.rint(np.diff(times_s) * _US) > round(longest_s * _US)
    return found


def packets_for(capture: Capture, config: FeatureConfig) -> NDArray[np.float32] | NDArray[np.complex64]:
    """What the chain takes of a capture: [packet, antenna, subcarrier] I/Q where it needs phases, else amplitude.

    Raises:
        ConfigError: it needs phases and the capture holds amplitudes only.
    """
    if not config.needs_phase:
        return capture.amplitude
    if capture.iq is None:
        raise ConfigError(
            f"the capture ({capture.format}) holds amplitudes only, and these features need phases; "
            "use a recording with I/Q, or a model whose features need amplitudes alone"
        )
    return capture.iq


def features(capture: Capture, config: FeatureConfig = _DEFAULT) -> NDArray[np.float32]:
    """`extract(capture, config).values`: [T, F], F = 16 with the default configuration."""
    return extract(capture, config).values


def _microseconds(timestamps_s: NDArray[np.generic]) -> NDArray[np.int64]:
    if not np.can_cast(timestamps_s.dtype, np.float64):
        raise DtypeError(f"timestamps are {timestamps_s.dtype}; expected seconds as float64")
    seconds = timestamps_s.astype(np.float64)
    finite = np.isfinite(seconds)
    if not finite.all():
        first = int(finite.argmin())
        raise NonFiniteError(f"timestamps[{first}] is {seconds[first]}; expected finite seconds")
    limit = 2.0 * _core.CHAIN_MAX_TIME_US / _US  # fits int64, and is no time to the core
    t_us: NDArray[np.int64] = np.rint(seconds.clip(-limit, limit) * _US).astype(np.int64)
    return t_us


def _frames(made: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8], int, int]) -> Frames:
    values, times_us, held, skipped, late = made
    return Frames(values, times_us / _US, held.astype(np.bool_), skipped, late)
