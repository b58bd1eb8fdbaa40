"""Windows over a frame sequence: which frames each holds, that nothing is copied, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wifi_densepose_temporal.csi.windows import windows
from wifi_densepose_temporal.errors import ConfigError, ShapeError


@given(frames=st.integers(0, 20), length=st.integers(1, 8), hop=st.integers(1, 8))
def test_window_n_starts_at_frame_n_hop(frames, length, hop):
    sequence = np.arange(frames * 3, dtype=np.float32).reshape(frames, 3)
    starts = range(0, frames - length + 1, hop)
    made = windows(sequence, length, hop)
    assert made.shape == (len(starts), length, 3)
    assert made.dtype == np.float32
    for n, start in enumerate(starts):
        np.testing.assert_array_equal(made[n], sequence[start : start + length])


@pytest.mark.parametrize("frames", [2, 10])
def test_windows_are_a_read_only_view(frames):
    sequence = np.zeros((frames, 2), np.float32)
    made = windows(sequence, 4)
    assert np.shares_memory(made, sequence) == (frames == 10)
    with pytest.raises(ValueError, match="read-only"):
        made[...] = 1


@pytest.mark.parametrize(("length", "hop"), [(0, 1), (-1, 1), (4, 0), (4, -2), (2.5, 1), (4, "x"), (None, 1)])
def test_a_length_or_hop_below_one_is_refused(length, hop):
    with pytest.raises(ConfigError, match="whole number"):
        windows(np.zeros((10, 2), np.float32), length, hop)


@pytest.mark.parametrize("shape", [(10,), (10, 2, 2)])
def test_frames_of_another_rank_are_refused(shape):
    with pytest.raises(ShapeError, match="expected"):
        windows(np.zeros(shape, np.float32), 2)
