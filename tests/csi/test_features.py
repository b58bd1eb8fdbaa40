"""The feature chain against its NumPy reference, and what a user relies on: streamed frames are the same frames,
gain does not matter, stillness is zero, silence makes nothing up, and no input makes it fail or grow without bound.
"""

import itertools
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.csi.reference_features import UNUSED, reference, tolerance, usable_columns

from wifi_densepose_temporal.csi.bands import assign_bands, usable_subcarriers
from wifi_densepose_temporal.csi.features import FeatureConfig, FeatureStream, Frames, extract, features
from wifi_densepose_temporal.errors import (
    CacheInUseError,
    ConfigError,
    DtypeError,
    NonFiniteError,
    ShapeError,
)

HT20 = list(range(-32, 32))


def joined(parts):
    return Frames(
        np.concatenate([p.values for p in parts]),
        np.concatenate([p.times_s for p in parts]),
        np.concatenate([p.held for p in parts]),
        sum(p.skipped_packets for p in parts),
        sum(p.late_packets for p in parts),
    )


def run(config, subcarriers, t_us, packets, cuts=()):
    """Frames of the packets, pushed in blocks that end at `cuts`, and of the flush."""
    stream = FeatureStream(config, packets.shape[1], subcarriers)
    edges = [0, *sorted(cuts), len(packets)]
    blocks = [slice(a, b) for a, b in itertools.pairwise(edges)]
    seconds = np.asarray(t_us) / 1e6
    return joined([*(stream.push(seconds[b], packets[b]) for b in blocks), stream.flush()])


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@st.composite
def recordings(draw):
    """Packets at irregular times with gaps, duplicates and steps back, some of them no measurement."""
    period = draw(st.sampled_from([100, 7_777, 20_000]))
    gap = draw(st.sampled_from([1, 3, 10])) * period + draw(st.integers(0, 50))
    config = FeatureConfig.from_words(
        {
            "version": 1,
            "bands": draw(st.integers(1, 4)),
            "period_us": period,
            "motion_time_us": draw(st.sampled_from([1, period, 12 * period])),
            "max_gap_us": gap,
        }
    )
    steps = st.one_of(
        st.integers(0, period // 2),
        st.sampled_from([0, period - 1, period, period + 1, gap, gap + 1, -1, -period]),
        st.integers(0, 2 * gap),
    )
    t_us = np.cumsum(draw(st.lists(steps, min_size=1, max_size=40)), dtype=np.int64) + draw(
        st.integers(-(10**12), 10**12)
    )
    subcarriers = draw(
        st.one_of(
            st.integers(4, 9),
            st.permutations([-28, -26, -8, -7, -1, 0, 1, 3, UNUSED, 26]),
            st.permutations([-60, -11, -2, -1, 2, 5, 58]),
        )
    )
    count = subcarriers if isinstance(subcarriers, int) else len(subcarriers)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    packets = rng.rayleigh(30, (t_us.size, draw(st.integers(1, 3)), count)).astype(np.float32)
    for spoilt in draw(st.lists(st.integers(0, t_us.size - 1), max_size=4)):
        packets[spoilt, 0] = draw(st.sampled_from([0, np.nan, np.inf, -1]))
    return config, subcarriers, t_us, packets


@given(recordings())
@settings(deadline=None)
def test_equals_the_reference(recording):
    config, subcarriers, t_us, packets = recording
    words = config.to_words()
    values, times_us, held, skipped, late = reference(t_us.tolist(), packets, subcarriers, words)
    frames = run(config, subcarriers, t_us, packets)
    assert frames.values.dtype == np.float32
    allowed = tolerance(len(usable_columns(subcarriers)), packets.shape[1], len(t_us), words)
    np.testing.assert_allclose(frames.values, values, rtol=0, atol=allowed)
    np.testing.assert_array_equal(np.rint(frames.times_s * 1e6), times_us)
    np.testing.assert_array_equal(frames.held, held)
    assert (frames.skipped_packets, frames.late_packets) == (skipped, late)


@given(recordings(), st.lists(st.integers(0, 40), max_size=8))
@settings(deadline=None)
def test_streamed_in_blocks_is_the_same_to_the_bit(recording, cuts):
    config, subcarriers, t_us, packets = recording
    cuts = [min(cut, len(packets)) for cut in cuts]
    assert_same(run(config, subcarriers, t_us, packets, cuts=cuts), run(config, subcarriers, t_us, packets))


@given(recordings(), st.integers(0, 2**32))
@settings(deadline=None)
def test_a_packets_gain_does_not_matter(recording, seed):
    config, subcarriers, t_us, packets = recording
    # Powers of two, because they alone multiply a float32 without rounding: then equal means equal.
    gain = 2.0 ** np.random.default_rng(seed).integers(-20, 20, (*packets.shape[:2], 1))
    assert_same(
        run(config, subcarriers, t_us, packets * gain.astype(np.float32)),
        run(config, subcarriers, t_us, packets),
    )


@given(recordings())
@settings(deadline=None)
def test_stillness_has_no_motion_at_all(recording):
    config, subcarriers, t_us, packets = recording
    still = np.broadcast_to(np.abs(np.nan_to_num(packets[:1], posinf=1)) + 1, packets.shape)
    frames = run(config, subcarriers, t_us, still)
    assert len(frames.values)
    assert not frames.values[:, config.bands :].any()


@given(recordings(), st.integers(0, 2**32))
@settings(deadline=None)
def test_columns_that_are_left_out_have_no_influence(recording, seed):
    config, subcarriers, t_us, packets = recording
    out = assign_bands(subcarriers, config.bands) < 0
    noisy = packets.copy()
    rubbish = np.array([0, 1e30, np.nan, np.inf, -5], np.float32)
    noisy[..., out] = np.random.default_rng(seed).choice(rubbish, noisy[..., out].shape)
    assert_same(run(config, subcarriers, t_us, noisy), run(config, subcarriers, t_us, packets))


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30),
    st.sampled_from([FeatureConfig(bands=1), FeatureConfig(bands=1, rate_hz=10_000, max_gap_s=0.01)]),
)
@settings(deadline=None)
def test_output_is_bounded_whatever_the_timestamps(timestamps, config):
    stream = FeatureStream(config, 1, 2)
    packets = np.ones((len(timestamps), 1, 2), np.float32)
    frames = joined([stream.push(timestamps, packets), stream.flush()])
    most = 1 + config.to_words()["max_gap_us"] // config.period_us
    assert len(frames.values) <= most * len(timestamps)
    assert (np.diff(frames.times_s) >= 0).all()
    assert np.isfinite(frames.values).all()
    assert frames.skipped_packets == sum(abs(t) * 1e6 > 2**61 for t in timestamps)


def test_no_data_makes_no_frames():
    stream = FeatureStream(FeatureConfig(), 1, 8)
    packets = np.ones((3, 1, 8), np.float32)
    frames = joined([stream.push([0.0, 5.0, 500.0], packets), stream.flush()])
    np.testing.assert_allclose(frames.times_s, [0.02, 5.02, 500.02], rtol=0, atol=1e-12)
    assert not frames.held.any()
    assert len(stream.flush().values) == 0


def test_iq_and_its_amplitude_give_the_same_frames():
    rng = np.random.default_rng(0)
    iq = rng.integers(-128, 128, (50, 2, 64)).astype(np.complex64) + 1j * rng.integers(-128, 128, (50, 2, 64))
    iq = iq.astype(np.complex64)
    t_us = np.arange(50) * 9_000
    amplitude = np.sqrt(iq.real * iq.real + iq.imag * iq.imag)
    config = FeatureConfig()
    assert_same(run(config, HT20, t_us, iq), run(config, HT20, t_us, amplitude))
    assert_same(run(config, HT20, t_us, iq[:, ::-1][:, ::-1]), run(config, HT20, t_us, amplitude))


def test_one_packet_at_a_time_needs_no_packet_axis():
    stream = FeatureStream(FeatureConfig(bands=1), 1, 3)
    assert stream.push(0.0, np.ones((1, 3), np.float32)).values.shape == (0, 2)
    assert stream.push(0.03, np.ones((1, 3), np.uint8)).values.tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("timestamps", "packets", "error"),
    [
        ([0.0], np.ones((1, 2, 4), np.float32), ShapeError),
        ([0.0], np.ones((1, 1, 5), np.float32), ShapeError),
        ([0.0, 1.0], np.ones((1, 1, 4), np.float32), ShapeError),
        (0.0, np.ones((1, 1, 4), np.float32), ShapeError),
        ([0.0], np.ones((1, 1, 4), np.float64), DtypeError),
        ([0.0], np.ones((1, 1, 4), np.complex128), DtypeError),
        ([0.0], np.full((1, 1, 4), "x"), DtypeError),
        (["now"], np.ones((1, 1, 4), np.float32), DtypeError),
        ([np.nan], np.ones((1, 1, 4), np.float32), NonFiniteError),
        ([np.inf], np.ones((1, 1, 4), np.float32), NonFiniteError),
    ],
)
def test_a_refused_push_changes_nothing(timestamps, packets, error):
    refused, untouched = (FeatureStream(FeatureConfig(bands=2), 1, 4) for _ in range(2))
    first = np.array([[1, 2, 3, 4]], np.float32)
    for stream in (refused, untouched):
        stream.push(0.0, first)
    with pytest.raises(error):
        refused.push(timestamps, packets)
    assert_same(refused.flush(), untouched.flush())


def test_a_second_thread_is_refused():
    stream = FeatureStream(FeatureConfig(), 1, 64)
    packets = np.ones((200_000, 1, 64), np.float32)
    refusals = []

    def push():
        try:
            stream.push(np.arange(200_000) * 0.01, packets)
        except CacheInUseError as error:
            refusals.append(error)

    thread = threading.Thread(target=push)
    thread.start()
    while thread.is_alive() and not refusals:
        try:
            stream.flush()
        except CacheInUseError as error:
            refusals.append(error)
    thread.join()
    assert refusals
    stream.flush()  # and afterwards it is free again


OUT_OF_MEMORY = """
import resource
import numpy as np
from wifi_densepose_temporal.csi.features import FeatureConfig, FeatureStream
from wifi_densepose_temporal.errors import MemoryLimitError

config = FeatureConfig(bands=1024, rate_hz=10_000, max_gap_s=1.0)
streams = [FeatureStream(config, 1, 1024) for _ in range(2)]
packet = np.ones((1, 1, 1024), np.float32)
for stream in streams:
    stream.push([0.0], packet)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
try:
    streams[0].push(np.arange(1, 40) * 0.99, np.repeat(packet, 39, axis=0))  # 3 GB of held frames
except MemoryLimitError:
    one, other = (stream.flush() for stream in streams)
    assert one.values.tobytes() == other.values.tobytes() and one.times_s == other.times_s
    print("refused, unchanged")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc and RLIMIT_AS")
def test_frames_beyond_memory_are_refused_and_change_nothing():
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused, unchanged"


# ------------------------------------------------------------------------------------------------- configuration


def test_the_default_frame():
    config = FeatureConfig()
    assert (config.bands, config.rate_hz, config.motion_time_s, config.max_gap_s) == (8, 50.0, 0.25, 1.0)
    assert (config.input_dim, config.period_us) == (16, 20_000)


def test_the_documented_defaults_are_the_defaults():
    text = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    documented = {row[1].strip("`").split(" =")[0]: row[2] for row in rows if len(row) == 4}
    for name, word in FeatureConfig().to_words().items():
        assert documented[name].split(", ")[-1] == str(word)


@given(
    bands=st.integers(1, 1024),
    period_us=st.integers(100, 10_000_000),
    motion=st.integers(1, 10_000),
    gap=st.integers(1, 10_000),
)
def test_a_record_survives_the_way_there_and_back(bands, period_us, motion, gap):
    words = {
        "version": 1,
        "bands": bands,
        "period_us": period_us,
        "motion_time_us": min(motion * period_us, 4_294_000_000),
        "max_gap_us": min(gap * period_us, 4_294_000_000),
    }
    assert FeatureConfig.from_words(words).to_words() == words


@pytest.mark.parametrize(
    "wrong",
    [
        {"bands": 0},
        {"bands": 1025},
        {"bands": 2.5},
        {"rate_hz": 0},
        {"rate_hz": -50},
        {"rate_hz": 0.09},
        {"rate_hz": 10_001},
        {"rate_hz": float("nan")},
        {"rate_hz": "fast"},
        {"motion_time_s": 0},
        {"motion_time_s": 1e-7},
        {"motion_time_s": 201},
        {"motion_time_s": float("inf")},
        {"max_gap_s": -1},
        {"max_gap_s": 201},
        {"max_gap_s": 1e12},
    ],
)
def test_a_wrong_configuration_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FeatureConfig(**wrong)


@pytest.mark.parametrize("change", [{"version": 2}, {"bands": 0}, {"period_us": 0}, {"max_gap_us": 2**40}, {"more": 1}])
def test_a_wrong_record_is_refused(change):
    with pytest.raises(ConfigError):
        FeatureConfig.from_words(FeatureConfig().to_words() | change)


@pytest.mark.parametrize(
    ("antennas", "subcarriers"),
    [
        (0, 64),
        (65, 64),
        (1, 0),
        (1, 4097),
        (1, -1),
        (1, 7),
        (1, [-7, 7, 21, -21, 0, 27, 28, 30, 1]),
        (1, [0.5] * 9),
        (1, []),
        (1, [HT20]),
        (1, [40_000] * 9),
    ],
)
def test_a_stream_without_eight_usable_columns_is_refused(antennas, subcarriers):
    with pytest.raises(ConfigError):
        FeatureStream(FeatureConfig(), antennas, subcarriers)


@pytest.mark.parametrize("bands", [0, 1025])
def test_bands_out_of_range_are_refused(bands):
    with pytest.raises(ConfigError, match="bands"):
        assign_bands(2000, bands)


@pytest.mark.parametrize("half", [32, 64, 128, 1024])
def test_bands_are_contiguous_near_equal_pieces_of_the_spectrum(half):
    index = np.random.default_rng(half).permutation(np.arange(-half, half))
    band = assign_bands(index, 8)
    columns = usable_columns(index.tolist())
    expected = np.full(index.size, -1)
    for b, group in enumerate(np.array_split(np.array(columns), 8)):
        expected[group] = b
    np.testing.assert_array_equal(band, expected)


# ---------------------------------------------------------------------------------------------------- recordings


def recording(t_us, amplitude, subcarriers=None, chain=None, metadata=None):
    """What `extract` reads of a Capture."""
    return SimpleNamespace(
        timestamps=np.asarray(t_us) / 1e6,
        amplitude=amplitude,
        subcarriers=None if subcarriers is None else np.array(subcarriers, np.int16),
        chain=None if chain is None else np.array(chain, np.int16),
        metadata=metadata or {},
    )


def test_extract_is_the_stream_and_its_flush():
    amplitude = np.random.default_rng(1).rayleigh(20, (100, 2, 64)).astype(np.float32)
    t_us = np.arange(100) * 8_000
    capture = recording(t_us, amplitude, HT20)
    assert_same(extract(capture), run(FeatureConfig(), HT20, t_us, amplitude))
    np.testing.assert_array_equal(features(capture), extract(capture).values)
    assert features(capture).shape == (40, 16)


def test_columns_that_the_reader_calls_invalid_are_left_out():
    amplitude = np.random.default_rng(1).rayleigh(20, (20, 1, 64)).astype(np.float32)
    spoilt = amplitude.copy()
    spoilt[..., 33] = 97  # an ESP32's first four bytes, at indices 0 and 1
    t_us = np.arange(20) * 20_000
    clean, rubbish = (recording(t_us, a, HT20, metadata={"invalid_subcarriers": [0, 1]}) for a in (amplitude, spoilt))
    assert_same(extract(clean), extract(rubbish))
    index = usable_subcarriers(clean)
    assert index.tolist() == [*range(-32, 0), UNUSED, UNUSED, *range(2, 32)]


def test_only_the_most_frequent_receive_chain_is_used():
    amplitude = np.random.default_rng(1).rayleigh(20, (30, 1, 64)).astype(np.float32)
    t_us, chain = np.arange(30) * 15_000, np.array([4, 0, 4] * 10)
    mine = chain == 4
    assert_same(
        extract(recording(t_us, amplitude, HT20, chain)),
        extract(recording(t_us[mine], amplitude[mine], HT20)),
    )


def test_a_real_recording_equals_the_reference():
    stored = np.load(Path(__file__).parents[1] / "data" / "captures" / "wiper81_empty1_B_first200.npz")
    iq = stored["iq"].astype(np.float32)
    amplitude = np.sqrt(iq[:, 0::2] ** 2 + iq[:, 1::2] ** 2)[:, np.newaxis]
    t_us = np.rint((stored["t"] - stored["t"][0]) * 1e6).astype(np.int64)
    frames = run(FeatureConfig(), HT20, t_us, amplitude)
    words = FeatureConfig().to_words()
    values, times_us, held, skipped, late = reference(t_us.tolist(), amplitude, HT20, words)
    np.testing.assert_allclose(frames.values, values, rtol=0, atol=tolerance(48, 1, 20, words))
    np.testing.assert_array_equal(np.rint(frames.times_s * 1e6), times_us)
    np.testing.assert_array_equal(frames.held, held)
    assert (frames.skipped_packets, frames.late_packets) == (skipped, late) == (0, 0)
    assert 0.5 < frames.values[:, :8].mean() < 1.5
