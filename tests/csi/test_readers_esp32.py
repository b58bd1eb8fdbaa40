"""Readers of ESP32 text, NumPy files and plain CSV: values, clocks, damaged lines and refused content."""

import io
from pathlib import Path

import numpy as np
import pytest

from wifi_densepose_temporal.csi.capture import Capture
from wifi_densepose_temporal.csi.read import read_capture
from wifi_densepose_temporal.errors import FormatError

SAMPLES = Path(__file__).parents[1] / "data" / "captures"


def write(folder: Path, data: bytes | str) -> Path:
    """Write a file whose name says nothing about its format."""
    path = folder / "capture"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# --- ESP32 text --------------------------------------------------------------------------------------------------


def column(capture: Capture, k: int) -> int:
    return int(np.flatnonzero(capture.subcarriers == k)[0])


def test_esp32_pairs_are_imaginary_then_real():
    """The first line reads [18 38 97 0 -20 -1 -25 -5 ... 12 -6 9 ]: subcarriers 0, 1, 2, 3 ... -1."""
    capture = read_capture(SAMPLES / "esp32_csi_tool_short.csv")
    for k, value in {0: 38 + 18j, 1: 0 + 97j, 2: -1 - 20j, 3: -5 - 25j, -1: 9 - 6j}.items():
        assert capture.iq[0, 0, column(capture, k)] == value
    assert not capture.amplitude[:, 0, column(capture, -32)].any()
    assert capture.rssi[0] == -77


def test_esp32_first_word_is_named_invalid_where_it_is_garbage():
    assert read_capture(SAMPLES / "esp32_csi_tool_short.csv").metadata["invalid_subcarriers"] == [0, 1]


def test_esp32_time_is_the_chips_own_and_not_the_serial_ports(shared):
    capture = read_capture(shared / "data" / "captures" / "esp32_csi_tool_100hz.csv")
    assert capture.metadata["clock_source"] == "local_timestamp"
    assert capture.timestamps[1] == pytest.approx((22111 - 7313) * 1e-6)
    assert capture.rate_hz == pytest.approx(63.34, abs=0.01)


HEADER = (
    "type,id,mac,rssi,rate,sig_mode,mcs,bandwidth,smoothing,not_sounding,aggregation,stbc,fec_coding,sgi,noise_floor,"
    "ampdu_cnt,channel,secondary_channel,local_timestamp,ant,sig_len,rx_state,len,first_word,data"
)


def recv_line(i: int, values: list[int], *, first_word: int = 1, local_us: int | None = None) -> str:
    """Return a line as Espressif's csi_recv example prints it."""
    stamp = 1_000_000 + 10_000 * i if local_us is None else local_us
    numbers = ",".join(map(str, values))
    return (
        f"CSI_DATA,{i},94:d9:b3:80:8c:81,-30,11,1,6,1,0,1,0,1,0,0,-93,0,13,2,{stamp},0,67,0,"
        f'{len(values)},{first_word},"[{numbers}]"'
    )


def recv_values(i: int, count: int = 128) -> list[int]:
    """Return a buffer in FFT order with a silent guard band."""
    pairs = [((7 * i + k) % 50 + 1, -((3 * i + k) % 40)) if k <= 28 or k >= 36 else (0, 0) for k in range(64)]
    return ([value for pair in pairs for value in pair] * 3)[:count]


@pytest.mark.parametrize("header", [HEADER + "\n", "I (322) boot: ESP-IDF v5.1\n", ""])
def test_esp32_lines_of_espressifs_example(header, tmp_path):
    text = header + "\n".join(recv_line(i, recv_values(i)) for i in range(12)) + "\n"
    capture = read_capture(write(tmp_path, text))
    assert (capture.format, capture.amplitude.shape) == ("esp32-csv", (12, 1, 64))
    assert capture.dropped_lines == ("boot" in header)
    assert capture.rate_hz == pytest.approx(100)
    imaginary, real = recv_values(5)[2 * 9 : 2 * 9 + 2]
    assert capture.iq[5, 0, column(capture, 9)] == complex(real, imaginary)
    assert capture.metadata["invalid_subcarriers"] == [0, 1]
    assert (capture.metadata["channel"], capture.metadata["noise_floor_dbm"]) == (13, -93)


def test_esp32_of_three_training_fields_the_first_is_returned(tmp_path):
    long = read_capture(write(tmp_path, "\n".join(recv_line(i, recv_values(i, 384)) for i in range(4))))
    short = read_capture(write(tmp_path, "\n".join(recv_line(i, recv_values(i)) for i in range(4))))
    np.testing.assert_array_equal(long.iq, short.iq)
    assert long.metadata["values_per_line"] == 384


@pytest.mark.parametrize(
    "line",
    [
        recv_line(9, recv_values(9))[:-40],
        recv_line(9, recv_values(9)[:-2]),
        recv_line(9, [*recv_values(9)[:-1], 128]),
        recv_line(9, recv_values(9)).replace("-30", "loud"),
        recv_line(9, recv_values(9)).replace(",67,", ","),
        recv_line(9, recv_values(9), local_us=2**32),
        recv_line(9, recv_values(9)).replace("[", ""),
        "CSI_DATA," + "1," * 20_000,
    ],
    ids=["cut", "short", "no byte", "no number", "a column less", "clock too large", "no bracket", "too long"],
)
def test_esp32_damaged_line_is_dropped_and_counted(line, tmp_path):
    good = [recv_line(i, recv_values(i)) for i in range(5)]
    capture = read_capture(write(tmp_path, "\n".join([HEADER, *good[:2], line, *good[2:]])))
    assert (len(capture), capture.dropped_lines) == (5, 1)


def test_esp32_clock_that_stands_still_gives_way_to_the_wall_clock(tmp_path):
    lines = (SAMPLES / "esp32_csi_tool_short.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [line.split(",") for line in lines[1:]]
    for i, row in enumerate(rows):
        row[names.index("local_timestamp")] = "7"
        row[names.index("real_timestamp")] = "1e308" if i == 9 else str(i / 4)
    text = "\n".join([lines[0], *(",".join(row) for row in rows)])
    capture = read_capture(write(tmp_path, text))
    assert (capture.metadata["clock_source"], capture.dropped_lines) == ("real_timestamp", 1)
    np.testing.assert_allclose(capture.timestamps, np.delete(np.arange(60), 9) / 4)


def test_esp32_clock_wraps(tmp_path):
    lines = [recv_line(i, recv_values(i), local_us=(2**32 - 20_000 + 10_000 * i) % 2**32) for i in range(5)]
    capture = read_capture(write(tmp_path, "\n".join(lines)))
    np.testing.assert_allclose(capture.timestamps, np.arange(5) * 0.01, atol=1e-9)


# --- NumPy and plain CSV -----------------------------------------------------------------------------------------


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def buffers(packets: int) -> np.ndarray:
    return np.array([recv_values(i) for i in range(packets)], dtype=np.int8)


def test_npz_with_a_duration_spreads_the_packets_over_it(tmp_path):
    data = npz(csi_data=buffers(50), num_subcarriers=64, duration_ms=500.0, chip="c6", label="walk")
    capture = read_capture(write(tmp_path, data), nominal_rate_hz=1)
    assert (capture.clock, capture.amplitude.shape) == ("nominal", (50, 1, 64))
    np.testing.assert_allclose(capture.timestamps, np.arange(50) * 0.01)
    assert (capture.metadata["chip"], capture.metadata["label"]) == ("c6", "walk")


def test_npz_with_times_drops_packets_without_one(tmp_path):
    times_s = np.array([5.0, 5.1, np.nan, 5.4])
    capture = read_capture(write(tmp_path, npz(iq=buffers(4), t=times_s)))
    assert (capture.clock, capture.dropped_lines) == ("measured", 1)
    np.testing.assert_allclose(capture.timestamps, [0, 0.1, 0.4])
    assert capture.iq[2, 0, column(capture, 9)] == complex(buffers(4)[3, 19], buffers(4)[3, 18])


@pytest.mark.parametrize("damage", [np.inf, -np.inf, 1.7e308, -1.7e308])
def test_npz_times_of_any_size_do_not_overflow(damage, tmp_path):
    capture = read_capture(write(tmp_path, npz(iq=buffers(4), t=np.array([1.0, damage, 2.0, 4.0]))))
    np.testing.assert_allclose(capture.timestamps, [0, 1, 3])


@pytest.mark.parametrize("duration_ms", [0.0, -1.0, np.nan, 1e-320, 1e308])
def test_npz_with_a_duration_that_is_none_takes_the_nominal_rate(duration_ms, tmp_path):
    capture = read_capture(write(tmp_path, npz(csi_data=buffers(4), duration_ms=duration_ms)), nominal_rate_hz=10)
    assert capture.metadata["clock_source"] == "nominal rate"
    assert capture.rate_hz == pytest.approx(10)


def test_npz_in_shifted_order_is_left_as_it_is():
    capture = read_capture(SAMPLES / "wiper81_empty1_B_first200.npz")
    with np.load(SAMPLES / "wiper81_empty1_B_first200.npz", allow_pickle=False) as arrays:
        pairs = arrays["iq"].astype(np.float32)
        np.testing.assert_array_equal(capture.iq[:, 0].imag, pairs[:, 0::2])
        np.testing.assert_array_equal(capture.iq[:, 0].real, pairs[:, 1::2])
        np.testing.assert_array_equal(capture.timestamps, arrays["t"] - arrays["t"][0])
    assert capture.subcarriers[0] == -32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weights": np.zeros(3)}, "holds 'weights'"),
        ({"iq": np.zeros((4, 128))}, "int8"),
        ({"iq": np.zeros((4, 127), dtype=np.int8)}, "even number"),
        ({"iq": buffers(4), "t": np.zeros(3)}, r"shape \(4,\)"),
        ({"iq": buffers(4), "t": np.array(["a"] * 4)}, "numbers"),
        ({"iq": buffers(4), "t": np.full(4, np.nan)}, "finite time"),
        ({"iq": buffers(4)[:0]}, "int8"),
    ],
)
def test_npz_of_another_content_is_refused(arrays, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        read_capture(write(tmp_path, npz(**arrays)))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("array", [np.ones((56, 90)), np.ones((90, 56)), np.ones((56, 90), dtype=">f4", order="F")])
def test_npy_subcarriers_are_the_shorter_axis(array, tmp_path):
    capture = read_capture(write(tmp_path, npy(array)), nominal_rate_hz=10)
    assert capture.amplitude.shape == (90, 1, 56)
    assert list(capture.subcarriers[[0, 27, 28, 55]]) == [-28, -1, 1, 28]
    assert capture.timestamps[-1] == pytest.approx(8.9)


def test_npy_packets_that_are_no_numbers_leave_a_gap(tmp_path):
    array = np.arange(8 * 30, dtype=np.float64).reshape(8, 30)
    array[3, 10:20] = [np.nan, np.inf, 1e300, *[np.nan] * 7]
    array[2, 5] = -1
    array[0, 12] = np.uint64(0x7FF0000000000001).view(np.float64)  # a NaN that traps when it is converted
    capture = read_capture(write(tmp_path, npy(array)))
    assert (len(capture), capture.dropped_lines) == (20, 10)
    assert capture.timestamps[10] == pytest.approx(0.2)
    assert capture.metadata["packets_with_negative_amplitude"] == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["WALK"]] * 5), "labels"),
        (np.ones(50), "amplitudes"),
        (np.ones((2, 3, 4)), "amplitudes"),
        (np.ones((600, 700)), "512"),
        (np.ones((1, 700)), "512"),
        (np.full((4, 9), np.nan), "finite"),
        (np.ones((4, 9), dtype=np.complex64), "amplitudes"),
        (np.zeros((0, 9)), "512"),
    ],
)
def test_npy_of_another_content_is_refused(array, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        read_capture(write(tmp_path, npy(array)))


def test_csv_of_amplitudes(tmp_path):
    rows = np.round(np.random.default_rng(1).uniform(1, 900, (40, 52)), 2)
    lines = [",".join(map(str, row)) for row in rows]
    lines[10] = lines[10][:50]
    lines[20] = lines[20].replace(",", ";")
    lines[30] = "nan," + lines[30].split(",", 1)[1]
    capture = read_capture(write(tmp_path, "\n".join(lines) + "\n"), nominal_rate_hz=50)
    assert (capture.format, capture.amplitude.shape, capture.dropped_lines) == ("amplitude-csv", (37, 1, 52), 3)
    kept = np.delete(np.arange(40), [10, 20, 30])
    np.testing.assert_array_equal(capture.amplitude[:, 0], rows[kept].astype(np.float32))
    np.testing.assert_allclose(capture.timestamps, kept / 50)
    assert not {-21, -7, 0, 7, 21} & set(capture.subcarriers.tolist())


def test_csv_last_line_without_an_end_counts_as_cut(tmp_path):
    capture = read_capture(write(tmp_path, "1,2,3\n4,5,6\n7,8,9"))
    assert (len(capture), capture.dropped_lines) == (2, 1)
    assert capture.subcarriers is None


def test_csv_negative_values_are_counted_and_left(tmp_path):
    capture = read_capture(write(tmp_path, "1,2,3\n4,-5,6\n"))
    assert capture.amplitude[1, 0, 1] == -5
    assert capture.metadata["packets_with_negative_amplitude"] == 1


# --- what comes around a text ------------------------------------------------------------------------------------


def test_csv_of_a_single_line_without_an_end_is_read(tmp_path):
    capture = read_capture(write(tmp_path, "1,2,3"))
    np.testing.assert_array_equal(capture.amplitude, [[[1, 2, 3]]])
    assert capture.dropped_lines == 0


@pytest.mark.parametrize("text", ["1,2,3\n4,5,6\n", "1,2,3"])
def test_csv_with_a_byte_order_mark(text, tmp_path):
    capture = read_capture(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert (capture.amplitude[0, 0, 0], capture.dropped_lines) == (1, 0)


@pytest.mark.parametrize("header", [HEADER + "\n", ""])
def test_esp32_text_with_a_byte_order_mark(header, tmp_path):
    text = header + "\n".join(recv_line(i, recv_values(i)) for i in range(5)) + "\n"
    capture = read_capture(write(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert (len(capture), capture.dropped_lines) == (5, 0)


@pytest.mark.parametrize(("kind", "message"), [(None, "name it"), ("amplitude-csv", "expected lines of 2 to 512")])
def test_a_text_without_a_row_says_what_a_row_is(kind, message, tmp_path):
    with pytest.raises(FormatError, match=message):
        read_capture(write(tmp_path, "hello\nworld\n"), kind)


# --- ESP32 buffers of other sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [106, 114, 234, 484, 490])
def test_esp32_buffers_that_are_no_classic_layout_are_kept_whole(count, tmp_path):
    values = [k % 100 + 1 for k in range(count)]
    capture = read_capture(write(tmp_path, "\n".join(recv_line(i, values, first_word=0) for i in range(4))))
    assert capture.amplitude.shape == (4, 1, count // 2)
    assert capture.subcarriers is None
    assert capture.iq[0, 0, -1] == complex(values[-1], values[-2])


@pytest.mark.parametrize("count", [128, 256, 376, 384, 612])
def test_esp32_buffers_of_the_classic_chips_begin_with_the_legacy_field(count, tmp_path):
    values = (recv_values(0, 384) * 2)[:count]
    capture = read_capture(write(tmp_path, "\n".join(recv_line(i, values) for i in range(4))))
    assert capture.amplitude.shape == (4, 1, 64)
    assert capture.subcarriers is not None
