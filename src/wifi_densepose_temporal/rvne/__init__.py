"""The .rvne weight blob: how it is read, written and made. The format is documented in docs/rvne-format.md."""

from wifi_densepose_temporal.rvne.blob import WeightBlob, WeightBlobHeader, WeightBlobView
from wifi_densepose_temporal.rvne.int8 import quantise
from wifi_densepose_temporal.rvne.records import Record
from wifi_densepose_temporal.rvne.reference import init_random_blob

__all__ = ["Record", "WeightBlob", "WeightBlobHeader", "WeightBlobView", "init_random_blob", "quantise"]
