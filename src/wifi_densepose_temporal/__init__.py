"""The AETHER temporal head: from WiFi CSI frames to an activity class and a re-identification embedding."""

from importlib.metadata import version

from wifi_densepose_temporal.cache import KvCache
from wifi_densepose_temporal.config import TemporalHeadConfig
from wifi_densepose_temporal.csi import (
    Capture,
    FeatureConfig,
    FeatureStream,
    Frames,
    extract,
    features,
    read_capture,
    windows,
)
from wifi_densepose_temporal.errors import (
    AdaptationError,
    BatchRefusedError,
    BlobCrcError,
    BlobDegenerateError,
    BlobDimsError,
    BlobError,
    BlobFlagsError,
    BlobHeadRatioError,
    BlobLengthError,
    BlobMagicError,
    BlobModelError,
    BlobRecordError,
    BlobTooShortError,
    BlobVersionError,
    CacheFullError,
    CacheInUseError,
    ConfigError,
    DtypeError,
    FileError,
    FormatError,
    LeakageError,
    MemoryLimitError,
    MissingExtraError,
    NonFiniteError,
    ShapeError,
    SnapshotError,
    TemporalError,
    TimeOrderError,
    TrackError,
    TrainingError,
)
from wifi_densepose_temporal.head import AetherTemporalHead
from wifi_densepose_temporal.instruction_set import choose_instruction_set
from wifi_densepose_temporal.model import Prediction, Stream, TemporalModel
from wifi_densepose_temporal.models import load_model
from wifi_densepose_temporal.rvne import WeightBlob, WeightBlobHeader, WeightBlobView, init_random_blob
from wifi_densepose_temporal.streams import Decisions, ForwardFilter, GapPolicy, StreamPool

choose_instruction_set()

__version__ = version("wifi-densepose-temporal")

__all__ = [
    "AdaptationError",
    "AetherTemporalHead",
    "BatchRefusedError",
    "BlobCrcError",
    "BlobDegenerateError",
    "BlobDimsError",
    "BlobError",
    "BlobFlagsError",
    "BlobHeadRatioError",
    "BlobLengthError",
    "BlobMagicError",
    "BlobModelError",
    "BlobRecordError",
    "BlobTooShortError",
    "BlobVersionError",
    "CacheFullError",
    "CacheInUseError",
    "Capture",
    "ConfigError",
    "Decisions",
    "DtypeError",
    "FeatureConfig",
    "FeatureStream",
    "FileError",
    "FormatError",
    "ForwardFilter",
    "Frames",
    "GapPolicy",
    "KvCache",
    "LeakageError",
    "MemoryLimitError",
    "MissingExtraError",
    "NonFiniteError",
    "Prediction",
    "ShapeError",
    "SnapshotError",
    "Stream",
    "StreamPool",
    "TemporalError",
    "TemporalHeadConfig",
    "TemporalModel",
    "TimeOrderError",
    "TrackError",
    "TrainingError",
    "WeightBlob",
    "WeightBlobHeader",
    "WeightBlobView",
    "__version__",
    "extract",
    "features",
    "init_random_blob",
    "load_model",
    "read_capture",
    "windows",
]
