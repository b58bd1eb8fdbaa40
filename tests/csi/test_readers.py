"""Each reader on real recordings: counts, shapes, values, clocks and subcarriers."""

import json
import struct
from pathlib import Path

import csiread
import numpy as np
import pytest

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.read import read_capture
from wifi_densepose_temporal.errors import FormatError

SAMPLES = Path(__file__).parents[1] / "data" / "captures"


def write(folder: Path, data: bytes) -> Path:
    """Write a file whose name says nothing about its format."""
    path = folder / "capture"
    path.write_bytes(data)
    return path


# file, format, [T, A, S], clock, mean rate in hertz, dropped
SAMPLE_TABLE = [
    ("intel5300_short.dat", "intel5300", (29, 3, 30), "nominal", 100, 0),
    ("intel5300_first20.dat", "intel5300", (20, 3, 30), "measured", 1000, 0),
    ("nexmon_4358.pcap", "nexmon-pcap", (4, 1, 256), "measured", 25210, 0),
    ("nexmon_43455c0_first20.pcap", "nexmon-pcap", (20, 1, 256), "measured", 5.322, 0),
    ("atheros_first20.dat", "atheros", (20, 6, 56), "measured", 478, 0),
    ("picoscenes_first20.csi", "picoscenes", (20, 3, 56), "measured", 1590, 0),
    ("feitcsi_ht20.csi", "feitcsi", (48, 2, 56), "measured", 20.0, 0),
    ("esp32_csi_tool_short.csv", "esp32-csv", (60, 1, 64), "measured", 4.707, 0),
    ("wiper81_empty1_B_first200.npz", "esp32-npz", (200, 1, 64), "measured", 74, 0),
    ("esp32_stability_D1_e01_rx_tx_first300-x.npy", "amplitude-npy", (300, 1, 56), "nominal", 100, 0),
]


@pytest.mark.parametrize(("name", "kind", "shape", "clock", "rate_hz", "dropped"), SAMPLE_TABLE)
def test_sample(name, kind, shape, clock, rate_hz, dropped, tmp_path):
    capture = read_capture(write(tmp_path, (SAMPLES / name).read_bytes()))
    assert (capture.format, capture.amplitude.shape, capture.clock) == (kind, shape, clock)
    assert (capture.dropped_lines, capture.source) == (dropped, "replay")
    assert capture.rate_hz == pytest.approx(rate_hz, rel=0.02)
    check_invariants(capture)


def check_invariants(capture: Capture) -> None:
    assert capture.timestamps.dtype == np.float64
    assert capture.timestamps[0] == 0
    assert (np.diff(capture.timestamps) >= 0).all()
    assert capture.amplitude.dtype == np.float32
    assert np.isfinite(capture.amplitude).all()
    if capture.iq is not None:
        assert capture.iq.dtype == np.complex64
        # Two roundings of a square, one of the sum, one of the root: under 2 units of 2^-24 in all.
        np.testing.assert_allclose(capture.amplitude, np.abs(capture.iq.astype(np.complex128)), rtol=2 * 2.0**-24)
    assert capture.subcarriers is not None
    assert capture.subcarriers.dtype == np.int16
    assert (np.diff(capture.subcarriers) > 0).all()
    json.dumps(dict(capture.metadata))


# --- full recordings ---------------------------------------------------------------------------------------------

SHARED_TABLE = [
    ("captures/intel5300_3x3_3000.dat", (2998, 3, 30), 0),
    ("captures/intel5300_short.dat", (29, 3, 30), 0),
    ("captures/nexmon_43455c0.pcap", (566, 1, 256), 0),
    ("captures/nexmon_4358.pcap", (4, 1, 256), 0),
    ("captures/atheros.dat", (401, 6, 56), 0),
    ("captures/picoscenes_qca9300.csi", (1000, 3, 56), 0),
    ("captures/feitcsi_ht20.csi", (48, 2, 56), 0),
    ("captures/esp32_csi_tool_100hz.csv", (833, 1, 64), 1),
    ("captures/esp32_csi_tool_short.csv", (60, 1, 64), 0),
]


@pytest.mark.parametrize(("name", "shape", "dropped"), SHARED_TABLE)
def test_full_recording(shared, name, shape, dropped):
    capture = read_capture(shared / "data" / name)
    assert (capture.amplitude.shape, capture.dropped_lines) == (shape, dropped)
    check_invariants(capture)


def test_every_wiper81_recording_has_1000_packets_in_a_known_order(shared):
    paths = sorted((shared / "data" / "wiper81").glob("*.npz"))
    for path in paths:
        capture = read_capture(path)
        assert (capture.amplitude.shape, capture.clock, capture.dropped_lines) == ((1000, 1, 64), "measured", 0)
        assert capture.subcarriers is not None
        assert not capture.amplitude[:, 0, 32].any()  # DC
    assert len(paths) == 114


def test_every_espectre_recording_is_brought_into_one_order(shared):
    paths = sorted((shared / "data" / "espectre").glob("*.npz"))
    assert len(paths) == 12
    for path in paths:
        capture = read_capture(path)
        assert (capture.clock, capture.dropped_lines) == ("nominal", 0)
        assert capture.subcarriers is not None
        quiet = np.abs(capture.subcarriers) > 29
        first_word = np.isin(capture.subcarriers, capture.metadata["invalid_subcarriers"])
        mean = capture.amplitude[:, 0].mean(axis=0)
        assert mean[quiet & ~first_word].max() < 0.1 * np.median(mean)
        with np.load(path, allow_pickle=False) as arrays:
            assert capture.rate_hz == pytest.approx(len(arrays["csi_data"]) / (float(arrays["duration_ms"]) / 1000))


def test_every_stability_recording_and_no_label_file(shared):
    paths = sorted((shared / "data" / "esp32-stability").glob("*/*-x.npy"))
    assert len(paths) == 24
    for path in paths:
        capture = read_capture(path)
        expected = np.load(path, allow_pickle=False)
        np.testing.assert_array_equal(capture.amplitude[:, 0], expected.T.astype(np.float32))
        with pytest.raises(FormatError, match="labels"):
            read_capture(path.with_name(path.name.replace("-x.npy", "-y.npy")))


def test_csi_har_has_one_packet_a_line(shared):
    folders = sorted(path for path in (shared / "data" / "csi-har").iterdir() if path.is_dir())
    assert len(folders) == 7  # activities
    for folder in folders:
        path = min(folder.iterdir())
        capture = read_capture(path, nominal_rate_hz=320)
        lines = path.read_text().splitlines()
        assert (capture.amplitude.shape, capture.dropped_lines) == ((len(lines), 1, 52), 0)
        assert capture.rate_hz == pytest.approx(320)
        np.testing.assert_array_equal(capture.amplitude[7, 0], np.array(lines[7].split(","), dtype=np.float32))


# --- Intel 5300 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["intel5300_short.dat", "intel5300_first20.dat"])
def test_intel_values_are_those_of_csiread(name):
    capture = read_capture(SAMPLES / name)
    reference = csiread.Intel(str(SAMPLES / name), nrxnum=3, ntxnum=3, if_report=False)
    reference.read()
    assert reference.count == len(capture)
    np.testing.assert_array_equal(capture.iq, reference.csi[..., 0].transpose(0, 2, 1).astype(np.complex64))
    strongest = np.max([reference.rssi_a, reference.rssi_b, reference.rssi_c], axis=0)
    np.testing.assert_array_equal(capture.rssi, strongest - 44 - reference.agc)
    if capture.clock == "measured":
        ticks = reference.timestamp_low.astype(np.int64)
        np.testing.assert_allclose(capture.timestamps, (ticks - ticks[0]) * 1e-6, atol=1e-9)


def test_intel_keeps_the_streams_that_every_packet_has():
    capture = read_capture(SAMPLES / "intel5300_short.dat")
    assert capture.metadata["tx_streams"] == 1
    assert capture.metadata["tx_streams_left_out"] == 2


def test_intel_subcarriers_follow_the_bandwidth_flag(tmp_path):
    data = (SAMPLES / "intel5300_short.dat").read_bytes()
    assert list(read_capture(SAMPLES / "intel5300_short.dat").subcarriers[[0, 14, 15, 29]]) == [-28, -1, 1, 28]
    wide = b"".join(with_rate_flag(record) for record in intel_records(data))
    assert list(read_capture(write(tmp_path, wide)).subcarriers[[0, 14, 15, 29]]) == [-58, -2, 2, 58]


def intel_records(data: bytes) -> list[bytes]:
    records, at = [], 0
    while at < len(data):
        size = 2 + int.from_bytes(data[at : at + 2], "big")
        records.append(data[at : at + size])
        at += size
    return records


def with_rate_flag(record: bytes) -> bytes:
    return record[:22] + bytes([record[22] | 0x08]) + record[23:]


@pytest.mark.parametrize("bits", [0xFF, 0x00, 0b001000])
def test_intel_antenna_permutation_that_is_none_is_read_as_no_permutation(bits, tmp_path):
    """The compiled parser would write beside its array."""
    records = intel_records((SAMPLES / "intel5300_short.dat").read_bytes())

    def permuted(value: int) -> Capture:
        return read_capture(write(tmp_path, b"".join(r[:18] + bytes([value]) + r[19:] for r in records)))

    np.testing.assert_array_equal(permuted(bits).iq, permuted(0b100100).iq)


# --- Nexmon ------------------------------------------------------------------------------------------------------


def nexmon_reference(path: Path, chip: str) -> csiread.Nexmon:
    reference = csiread.Nexmon(str(path), chip, 80, if_report=False)
    reference.read()
    return reference


def centred(csi: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(csi, axes=1).astype(np.complex64)


@pytest.mark.parametrize(("name", "chip"), [("nexmon_43455c0_first20.pcap", "43455c0"), ("nexmon_4358.pcap", "4358")])
def test_nexmon_values_are_those_of_csiread(name, chip):
    capture = read_capture(SAMPLES / name)
    reference = nexmon_reference(SAMPLES / name, chip)
    assert capture.metadata["chip"] == chip
    np.testing.assert_array_equal(capture.iq[:, 0], centred(reference.csi))
    np.testing.assert_array_equal(capture.chain, reference.core * 4 + reference.spatial)
    times_s = (reference.sec.astype(float) - reference.sec[0]) + (
        reference.usec.astype(float) - reference.usec[0]
    ) / 1e6
    np.testing.assert_allclose(capture.timestamps, times_s, atol=1e-9)


def test_nexmon_full_recording_is_that_of_csiread(shared):
    path = shared / "data" / "captures" / "nexmon_43455c0.pcap"
    np.testing.assert_array_equal(read_capture(path).iq[:, 0], centred(nexmon_reference(path, "43455c0").csi))


def nexmon_with_version(name: str, version: int) -> bytes:
    data, at = bytearray((SAMPLES / name).read_bytes()), 24
    while at < len(data):
        struct.pack_into("<H", data, at + 16 + 42 + 16, version)
        at += 16 + struct.unpack_from("<I", data, at + 8)[0]
    return bytes(data)


@pytest.mark.parametrize(("name", "chip"), [("nexmon_43455c0_first20.pcap", "43455c0"), ("nexmon_4358.pcap", "4358")])
def test_nexmon_chip_is_guessed_from_the_samples_and_says_so(name, chip, tmp_path):
    known = {"43455c0": 101, "4358": 3}[chip]
    told = read_capture(write(tmp_path, nexmon_with_version(name, known)))
    guessed = read_capture(write(tmp_path, nexmon_with_version(name, 0xBEEF)))
    assert (told.metadata["chip"], told.metadata["chip_guessed"]) == (chip, False)
    assert (guessed.metadata["chip"], guessed.metadata["chip_guessed"]) == (chip, True)
    np.testing.assert_array_equal(guessed.iq, told.iq)


def test_nexmon_4366c0_is_unpacked_as_csiread_does(tmp_path):
    path = write(tmp_path, nexmon_with_version("nexmon_4358.pcap", 106))
    capture = read_capture(path)
    assert capture.metadata["chip"] == "4366c0"
    np.testing.assert_array_equal(capture.iq[:, 0], centred(nexmon_reference(path, "4366c0").csi))


def test_nexmon_buffer_is_in_fft_order():
    """The guard band of an 80 MHz channel, beyond 122, is silent at both ends, and so is the carrier."""
    capture = read_capture(SAMPLES / "nexmon_4358.pcap")
    mean = capture.amplitude[:, 0].mean(axis=0)
    guard = np.abs(capture.subcarriers) > 122
    assert mean[guard].max() < 0.05 * np.median(mean)
    assert mean[capture.subcarriers == 0] < 0.05 * np.median(mean)


def test_nexmon_rssi_is_in_the_newer_captures_only():
    assert read_capture(SAMPLES / "nexmon_4358.pcap").rssi is None
    # Bytes 11 11 c6 94: RSSI 0xc6 is -58 dBm.
    assert read_capture(SAMPLES / "nexmon_43455c0_first20.pcap").rssi[0] == -58


@pytest.mark.parametrize(("order", "magic", "scale"), [(">", 0xA1B2C3D4, 1), ("<", 0xA1B23C4D, 1000)])
def test_pcap_byte_order_and_nanoseconds(order, magic, scale, tmp_path):
    data, at = (SAMPLES / "nexmon_4358.pcap").read_bytes(), 24
    out = struct.pack(order + "I", magic) + data[4:24]
    while at < len(data):
        sec, usec, captured, sent = struct.unpack_from("<IIII", data, at)
        out += struct.pack(order + "IIII", sec, usec * scale, captured, sent) + data[at + 16 : at + 16 + captured]
        at += 16 + captured
    converted, original = read_capture(write(tmp_path, out)), read_capture(SAMPLES / "nexmon_4358.pcap")
    np.testing.assert_array_equal(converted.iq, original.iq)
    np.testing.assert_allclose(converted.timestamps, original.timestamps, atol=1e-12)


def test_other_traffic_in_a_pcap_is_counted_apart(tmp_path):
    data = (SAMPLES / "nexmon_4358.pcap").read_bytes()
    ping = struct.pack("<IIII", 1507213439, 0, 60, 60) + bytes(60)
    capture = read_capture(write(tmp_path, data[:24] + ping + data[24:]))
    assert (len(capture), capture.metadata["other_packets"], capture.dropped_lines) == (4, 1, 0)
    with pytest.raises(FormatError, match="other traffic"):
        read_capture(write(tmp_path, data[:24] + ping))


# --- Atheros, PicoScenes -----------------------------------------------------------------------------------------


def test_atheros_values_are_those_of_csiread():
    path = SAMPLES / "atheros_first20.dat"
    reference = csiread.Atheros(str(path), nrxnum=3, ntxnum=2, tones=56, if_report=False)
    reference.read()
    capture = read_capture(path)
    expected = reference.csi.reshape(20, 56, 6).transpose(0, 2, 1)
    np.testing.assert_array_equal(capture.iq, expected.astype(np.complex64))
    assert capture.rssi[0] == reference.rssi[0] - 95
    np.testing.assert_allclose(capture.timestamps, (reference.timestamp - reference.timestamp[0]) * 1e-6, atol=1e-9)


def test_atheros_log_of_a_big_endian_router(tmp_path):
    data, at, swapped = (SAMPLES / "atheros_first20.dat").read_bytes(), 0, b""
    layout = "HQHHBBBBBBBBBBBH"
    while at < len(data):
        header = struct.unpack_from("<" + layout, data, at)
        swapped += struct.pack(">" + layout, *header) + data[at + 27 : at + 2 + header[0]]
        at += 2 + header[0]
    big, little = read_capture(write(tmp_path, swapped)), read_capture(SAMPLES / "atheros_first20.dat")
    np.testing.assert_array_equal(big.iq, little.iq)
    np.testing.assert_array_equal(big.timestamps, little.timestamps)


def test_picoscenes_values_are_those_of_csiread():
    path = SAMPLES / "picoscenes_first20.csi"
    reference = csiread.Picoscenes(str(path), {"CSI": [56, 3, 1], "MPDU": 1522}, if_report=False)
    reference.read()
    capture = read_capture(path)
    np.testing.assert_array_equal(
        capture.iq, reference.raw["CSI"]["CSI"][..., 0].transpose(0, 2, 1).astype(np.complex64)
    )
    np.testing.assert_array_equal(capture.subcarriers, reference.raw["CSI"]["SubcarrierIndex"][0])
    np.testing.assert_array_equal(capture.rssi, reference.raw["RxSBasic"]["RSSI"])
    ticks = reference.raw["RxSBasic"]["Timestamp"]
    np.testing.assert_allclose(capture.timestamps, (ticks - ticks[0]) * 1e-6, atol=1e-9)


def with_time(data: bytes, at: int, ticks: int) -> bytes:
    return data[:at] + struct.pack("<Q", ticks) + data[at + 8 :]


@pytest.mark.parametrize(("top", "steps_us"), [(2**32, 1000), (2**40, 1000)])
@pytest.mark.parametrize(("name", "header"), [("atheros_first20.dat", 2), ("picoscenes_first20.csi", 4)])
def test_the_32_bit_clock_of_an_atheros_chip_wraps_in_its_64_bit_field(name, header, top, steps_us, tmp_path):
    """At 2^32 the counter starts again at 0; a value above shows a real 64-bit clock, which does not."""
    data, at, out, i = (SAMPLES / name).read_bytes(), 0, b"", 0
    while at < len(data):
        length = header + int.from_bytes(data[at : at + header], "little")
        record = data[at : at + length]
        field = 2 if header == 2 else record.index(b"RxSBasic") + 12
        ticks = top - 5000 + steps_us * i
        out += with_time(record, field, ticks % 2**32 if top == 2**32 else ticks)
        at, i = at + length, i + 1
    capture = read_capture(write(tmp_path, out))
    np.testing.assert_allclose(capture.timestamps, np.arange(20) * 1e-3, atol=1e-9)


def test_picoscenes_of_another_device_is_refused_by_name(tmp_path):
    data = (SAMPLES / "picoscenes_first20.csi").read_bytes()
    other = data.replace(b"CSI\x02\x00\x00\x93", b"CSI\x02\x00\x34\x12")
    assert other != data
    with pytest.raises(FormatError, match="device 0x1234"):
        read_capture(write(tmp_path, other))


# --- FeitCSI -----------------------------------------------------------------------------------------------------


def test_feitcsi_values_are_those_of_the_file():
    data = (SAMPLES / "feitcsi_ht20.csi").read_bytes()
    capture = read_capture(SAMPLES / "feitcsi_ht20.csi")
    # Record 1 begins at 272 + 4 * 2 * 56; antenna 1 after the 56 pairs of antenna 0.
    at = (272 + 448) + 272 + 4 * 56
    real, imaginary = struct.unpack_from("<hh", data, at + 4 * 5)
    assert capture.iq[1, 1, 5] == complex(real, imaginary)
    assert (capture.metadata["modulation"], capture.metadata["bandwidth_mhz"]) == ("HT", 20)
    assert capture.rssi[0] == -39  # 41 and 39 in the file: the stronger one


def test_feitcsi_clock_wraps(tmp_path):
    data = bytearray((SAMPLES / "feitcsi_ht20.csi").read_bytes())
    for i in range(48):
        struct.pack_into("<I", data, 720 * i + 88, (2**32 - 3000 + 1000 * i) % 2**32)
    capture = read_capture(write(tmp_path, bytes(data)))
    np.testing.assert_allclose(capture.timestamps, np.arange(48) * 1e-3, atol=1e-9)


@pytest.mark.parametrize(("modulation", "known"), [(2, True), (4, False)])
def test_feitcsi_indices_are_given_for_the_spacing_of_the_chain_only(modulation, known, tmp_path):
    data = b""
    for i in range(4):
        record = bytearray((SAMPLES / "feitcsi_ht20.csi").read_bytes()[720 * i : 720 * i + 272])
        count = 56 if modulation == 2 else 242
        struct.pack_into("<I", record, 0, 4 * 2 * count)
        struct.pack_into("<I", record, 52, count)
        struct.pack_into("<I", record, 92, modulation << 8)
        data += bytes(record) + bytes([1, 0, 2, 0]) * (2 * count)
    capture = read_capture(write(tmp_path, data))
    assert (capture.subcarriers is not None) == known
    assert capture.metadata["modulation"] == ("HT" if known else "HE")


def test_feitcsi_packets_of_another_geometry_are_dropped(tmp_path):
    data = bytearray((SAMPLES / "feitcsi_ht20.csi").read_bytes())
    data[46], data[47] = 1, 2  # the first packet: one antenna, two streams, as many values
    capture = read_capture(write(tmp_path, bytes(data)))
    assert (len(capture), capture.dropped_lines) == (47, 1)
