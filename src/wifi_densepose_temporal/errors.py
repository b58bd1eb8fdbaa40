"""Every error that this package raises on purpose.

All derive from `TemporalError`, so one `except` clause catches them; each also derives from the built-in
exception that a caller would expect (`ValueError`, `TypeError`, `OSError`). A message says what was given,
what was expected and what to do. A call that raises one of these has changed nothing; of a batch, only
`BatchRefusedError` says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TemporalError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(TemporalError, ValueError):
    """A parameter, or a combination of parameters, that no head, cache or chain can have."""


class ShapeError(TemporalError, ValueError):
    """An array of the wrong rank or size."""


class DtypeError(TemporalError, TypeError):
    """An array whose dtype or layout cannot become float32 without losing something."""


class NonFiniteError(TemporalError, ValueError):
    """NaN or infinity where a number is needed; the message names the first offender's index."""


class CacheFullError(TemporalError):
    """An append to a cache that holds `capacity` tokens already."""


class CacheInUseError(TemporalError):
    """A cache or stream touched by a second call while a first one is inside it."""


class BatchRefusedError(TemporalError):
    """Some tracks of `step_batch` refused their token, each alone; all the others have stepped.

    Attributes:
        refused: index of each track that refused: the error that `step` raises for it. Its cache is as it was.
        out: float32 `[N, Hq, D]`, the results of the others; NaN in the rows that were refused.
    """

    def __init__(self, refused: dict[int, TemporalError], out: NDArray[np.float32]) -> None:
        super().__init__(refused, out)
        self.refused = refused
        self.out = out

    def __str__(self) -> str:
        first = "; ".join(f"{i}: {type(error).__name__}: {error}" for i, error in list(self.refused.items())[:3])
        more = f"; and {len(self.refused) - 3} more" if len(self.refused) > 3 else ""
        return (
            f"{len(self.refused)} of {len(self.out)} tracks refused their token, the others have stepped "
            f"(see .refused and .out): {first}{more}"
        )


class TrackError(TemporalError, LookupError):
    """A track that is not open in a pool, that is open already, or that stands twice in one push."""


class TimeOrderError(TemporalError, ValueError):
    """A frame whose time is not after that of its track's last one."""


class SnapshotError(TemporalError, ValueError):
    """A file that is no snapshot of a pool, that is damaged, or that is another model's."""


class MemoryLimitError(TemporalError, MemoryError):
    """A cache or stream larger than this machine can give."""


class MissingExtraError(TemporalError, ImportError):
    """A feature whose optional dependency is not installed; the message names the extra."""


class TrainingError(TemporalError, ArithmeticError):
    """Training that diverged, or that cannot give what was asked of it."""


class AdaptationError(TemporalError, ValueError):
    """An adaptation that would not help, or that there are too few recordings for; the message gives the figures."""


class FormatError(TemporalError, ValueError):
    """A capture file of no known format, or with nothing in it that can be read."""


class PacketError(TemporalError, ValueError):
    """Bytes that are no packet of a node, or a packet with something in it that cannot be."""


class NetworkError(TemporalError, OSError):
    """A port that cannot be opened, or that takes no packet."""


class NodeError(TemporalError, RuntimeError):
    """The firmware's C code refuses; `code` is the name of its error, such as `ESP_ERR_NO_MEM`."""

    def __init__(self, message: str, code: str = "") -> None:
        """A refusal of this code."""
        super().__init__(message)
        self.code = code


class LeakageError(TemporalError, ValueError):
    """A split in which a recording, or a value of what is held out, stands on two sides."""


class EmulationError(TemporalError, RuntimeError):
    """An image for an emulated chip that cannot be built or run, or that ended in another way than it should."""


class ShardLostError(TemporalError, RuntimeError):
    """A shard that died, or did not answer in time, during a call; it is started again, without what was in flight.

    Attributes:
        shard: its name.
    """

    def __init__(self, shard: str, message: str) -> None:
        super().__init__(shard, message)
        self.shard = shard

    def __str__(self) -> str:
        return str(self.args[1])


class FileError(TemporalError, OSError):
    """A file that cannot be opened, read or written."""


class BlobError(TemporalError, ValueError):
    """Base of everything that can be wrong with an .rvne blob."""


class BlobTooShortError(BlobError):
    """Fewer bytes than a header and a checksum take."""


class BlobMagicError(BlobError):
    """The first four bytes are not those of an .rvne blob."""


class BlobVersionError(BlobError):
    """A format version that this release does not know."""


class BlobFlagsError(BlobError):
    """A flag bit, or a reserved byte, that this release does not know."""


class BlobLengthError(BlobError):
    """The buffer's length is not the one that the header states."""


class BlobCrcError(BlobError):
    """The checksum does not match: the bytes were damaged or changed."""


class BlobDimsError(BlobError):
    """A zero among input_dim, n_q_heads, n_kv_heads and head_dim."""


class BlobHeadRatioError(BlobError):
    """n_q_heads is not a multiple of n_kv_heads."""


class BlobDegenerateError(BlobError):
    """No layer, or fewer than two classes."""


class BlobRecordError(BlobError):
    """A records section that is malformed, or that holds a critical record this release does not know."""


class BlobModelError(BlobError):
    """A valid container whose content is not a model: wrong number of weights, NaN, or records at odds."""


class GalleryError(TemporalError):
    """Base of everything that a gallery of persons refuses."""


class UnknownPersonError(GalleryError, LookupError):
    """A person that the gallery does not hold."""


class DuplicatePersonError(GalleryError, ValueError):
    """A person that the gallery holds already."""


class GalleryModelError(GalleryError, ValueError):
    """Embeddings of another model than the gallery's, or of none that was stated."""


class GalleryDamagedError(GalleryError, ValueError):
    """A gallery, or an export of one, whose content cannot be trusted: cut off, changed, or no gallery at all."""


class GalleryUnavailableError(GalleryError, OSError):
    """A gallery that cannot be read or written now: absent, locked, its disk full or its server gone."""
