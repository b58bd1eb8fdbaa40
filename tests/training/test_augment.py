"""Augmentations: each keeps what its docstring says it keeps, changes something, and leaves its input alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wifi_densepose_temporal import FeatureConfig
from wifi_densepose_temporal.csi import FeaturePart
from wifi_densepose_temporal.training import augment
from wifi_densepose_temporal.training.augment import AUGMENTATIONS, Packets
from wifi_densepose_temporal.training.batches import frames_of

seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["amplitude", "iq"])


def packets_of(seed: int, kind: str = "amplitude", count: int = 40, subcarriers: int = 20) -> Packets:
    rng = np.random.default_rng(seed)
    values = rng.uniform(1, 9, (count, 2, subcarriers)).astype(np.float32)
    if kind == "iq":
        values = (values * np.exp(1j * rng.uniform(-3, 3, values.shape))).astype(np.complex64)
    return Packets(np.sort(rng.uniform(0, 1, count)), values, rng.integers(0, 3, count))


def run(name: str, packets: Packets, seed: int) -> Packets:
    return AUGMENTATIONS[name](packets, np.random.default_rng(seed))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@given(seeds, kinds)
def test_input_stays_shape_stays_and_a_seed_repeats(name: str, seed: int, kind: str) -> None:
    packets = packets_of(seed, kind)
    before = packets.values.copy(), packets.times_s.copy(), packets.labels.copy()
    once, again = run(name, packets, seed), run(name, packets, seed)
    for array, kept in zip((packets.values, packets.times_s, packets.labels), before, strict=True):
        np.testing.assert_array_equal(array, kept)
    assert once.values.shape[1:] == packets.values.shape[1:]
    assert len(once.times_s) == len(once.values) == len(once.labels)
    assert len(once) == len(packets) or name == "late_start"  # which cuts off the beginning
    assert once.values.dtype == packets.values.dtype
    assert np.isfinite(once.values).all()
    assert kind == "iq" or (once.values >= 0).all()
    assert once.values.tobytes() == again.values.tobytes()
    assert (np.diff(once.times_s) >= 0).all()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_changes_something(name: str) -> None:
    packets = replace(packets_of(0, "iq"), labels=np.repeat([0, 1], 20))
    changed = [run(name, packets, seed) for seed in range(8)]
    assert any(
        not np.array_equal(one.values, packets.values) or not np.array_equal(one.times_s, packets.times_s)
        for one in changed
    )


@given(seeds)
def test_jitter_shifts_by_at_most_three_packets(seed: int) -> None:
    packets = packets_of(seed)
    shifted = run("temporal_jitter", packets, seed)
    index = np.arange(len(packets))
    assert any(
        np.array_equal(shifted.values, packets.values[np.clip(index + shift, 0, 39)])
        and np.array_equal(shifted.labels, packets.labels[np.clip(index + shift, 0, 39)])
        for shift in range(-3, 4)
    )


@given(seeds, kinds)
def test_masking_silences_5_to_20_percent_and_keeps_the_rest(seed: int, kind: str) -> None:
    packets = packets_of(seed, kind)
    masked = run("subcarrier_masking", packets, seed).values
    silent = (masked == 0).all(axis=(0, 1))
    assert 1 <= silent.sum() <= 4  # 5 to 20 % of 20
    np.testing.assert_array_equal(masked[:, :, ~silent], packets.values[:, :, ~silent])


@given(seeds, kinds)
def test_noise_is_1_to_5_percent_of_the_packet(seed: int, kind: str) -> None:
    packets = packets_of(seed, kind, count=200)
    added = run("gaussian_noise", packets, seed).values - packets.values
    power = np.sqrt((np.abs(packets.values) ** 2).mean(axis=(1, 2)))
    sigma = np.sqrt((np.abs(added) ** 2).mean(axis=(1, 2))) / power
    assert 0.009 < sigma.mean() < 0.055
    assert abs((added / power[:, None, None]).mean()) < 0.01


@given(seeds)
def test_rotation_keeps_amplitudes_and_differences_of_phase(seed: int) -> None:
    packets = packets_of(seed, "iq")
    turned = run("phase_rotation", packets, seed).values
    np.testing.assert_allclose(np.abs(turned), np.abs(packets.values), rtol=1e-5)
    pairs = [x[:, :, 1:] * x[:, :, :-1].conj() for x in (turned, packets.values)]
    np.testing.assert_allclose(pairs[0], pairs[1], atol=1e-3)


@given(seeds)
def test_features_do_not_see_rotation_and_scaling(seed: int) -> None:
    chain = FeatureConfig(parts=(FeaturePart("level", 4), FeaturePart("quadrature", 5, lag=2)), rate_hz=20)
    packets = packets_of(seed, "iq")
    for name in ("phase_rotation", "amplitude_scaling"):
        plain, changed = (frames_of(one, 20, chain)[0] for one in (packets, run(name, packets, seed)))
        np.testing.assert_allclose(changed, plain, atol=2e-5)


@given(seeds, kinds)
def test_scaling_is_one_gain_between_08_and_12(seed: int, kind: str) -> None:
    packets = packets_of(seed, kind)
    gain = run("amplitude_scaling", packets, seed).values / packets.values
    assert 0.8 - 1e-6 <= gain.real.min() <= gain.real.max() <= 1.2 + 1e-6
    assert np.ptp(gain.real) < 1e-6


@given(seeds)
def test_swapping_moves_a_subcarrier_by_one_place_at_most(seed: int) -> None:
    packets = packets_of(seed)
    marked = Packets(packets.times_s, np.tile(np.arange(20, dtype=np.float32), (40, 2, 1)), packets.labels)
    order = run("swap_subcarriers", marked, seed).values
    assert (order == order[0, 0]).all()
    assert sorted(order[0, 0]) == list(range(20))
    assert np.abs(order[0, 0] - np.arange(20)).max() <= 1


@given(seeds, kinds)
def test_lost_packets_lie_between_their_neighbours(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    packets = packets_of(seed, kind)
    slope = rng.normal(size=packets.values.shape[1:])  # packets that change linearly in time are filled in exactly
    values = (5 + packets.times_s[:, None, None] * slope).astype(packets.values.dtype)
    filled = run("drop_and_interpolate", Packets(packets.times_s, values, packets.labels), seed)
    np.testing.assert_allclose(filled.values, values, atol=1e-4)
    changed = (run("drop_and_interpolate", packets, seed).values != packets.values).any(axis=(1, 2))
    assert changed.mean() < 0.5
    assert not changed[[0, -1]].any()


@given(seeds)
def test_a_ripple_is_smooth_and_keeps_ratios_over_time(seed: int) -> None:
    packets = packets_of(seed)
    gain = run("gain_ripple", packets, seed).values / packets.values
    np.testing.assert_allclose(gain, np.broadcast_to(gain[0, 0], gain.shape), rtol=1e-5)
    # A tilt and three waves over the subcarriers, and nothing else.
    angle = np.linspace(-np.pi, np.pi, 20)
    waves = [angle, *(f(n * angle) for n in (1, 2, 3) for f in (np.cos, np.sin))]
    curve = np.log(gain[0, 0].astype(np.float64))
    fitted = np.stack(waves, 1) @ np.linalg.lstsq(np.stack(waves, 1), curve, rcond=None)[0]
    np.testing.assert_allclose(fitted, curve, atol=1e-5)


@given(seeds)
def test_a_warp_is_one_factor_for_each_activity(seed: int) -> None:
    packets = packets_of(seed)
    warped = run("time_warp", packets, seed)
    factor = np.diff(warped.times_s).sum() / np.diff(packets.times_s).sum()
    assert 1.25**-1.2 <= factor <= 1.25**1.2
    stretched = np.diff(warped.times_s) / np.diff(packets.times_s)
    same = packets.labels[1:-1] == packets.labels[2:]  # within an activity all intervals change alike
    np.testing.assert_allclose(stretched[1:][same], stretched[:-1][same], rtol=1e-6)
    np.testing.assert_array_equal(warped.values, packets.values)


@given(seeds)
def test_a_late_start_cuts_within_the_first_activity(seed: int) -> None:
    packets = packets_of(seed)
    late = run("late_start", packets, seed)
    cut = len(packets) - len(late)
    np.testing.assert_array_equal(late.values, packets.values[cut:])
    first = int(np.argmax(packets.labels != packets.labels[0])) or len(packets)
    assert cut <= 0.7 * first


@given(seeds, kinds)
def test_motion_scaling_keeps_what_stands_still(seed: int, kind: str) -> None:
    packets = packets_of(seed, kind)
    still = Packets(packets.times_s, np.repeat(packets.values[:1], 40, axis=0), packets.labels)
    np.testing.assert_allclose(run("motion_scaling", still, seed).values, still.values, rtol=1e-4)


@given(seeds, kinds)
def test_a_phase_turn_keeps_means_and_the_size_of_a_wave(seed: int, kind: str) -> None:
    angle = 6 * np.pi * (np.arange(40) + 0.5) / 40  # three whole waves
    still = np.abs(packets_of(seed).values[:1]) + 5
    phase = np.exp(0.5j) if kind == "iq" else 1
    values = ((still + np.cos(angle)[:, None, None]) * phase).astype(np.complex64 if kind == "iq" else np.float32)
    turned = run("phase_turn", replace(packets_of(seed), values=values), seed).values
    moving = np.abs(turned) - still
    np.testing.assert_allclose(moving.mean(axis=0), 0, atol=1e-4)
    parts = [(moving * wave[:, None, None]).mean(axis=0) * 2 for wave in (np.cos(angle), np.sin(angle))]
    np.testing.assert_allclose(np.hypot(*parts), 1, rtol=1e-4)
    np.testing.assert_allclose(np.angle(turned), np.angle(values), atol=1e-5)


@given(seeds, kinds)
def test_new_paths_stand_still(seed: int, kind: str) -> None:
    packets = packets_of(seed, kind)
    still = Packets(packets.times_s, np.repeat(packets.values[:1], 40, axis=0), packets.labels)
    amplitude = np.abs(run("new_paths", still, seed).values)
    np.testing.assert_allclose(amplitude, np.broadcast_to(amplitude[:1], amplitude.shape), rtol=1e-3, atol=1e-4)


@given(seeds)
def test_a_shift_moves_a_linear_spectrum_along_its_line(seed: int) -> None:
    packets = packets_of(seed)
    line = np.broadcast_to(np.arange(20, dtype=np.float32), (40, 2, 20)).copy()
    moved = run("subcarrier_shift", Packets(packets.times_s, line, packets.labels), seed).values[0, 0]
    inner = (moved > 0) & (moved < 19)  # beyond the ends the outermost is repeated
    assert (np.diff(moved) >= 0).all()
    assert np.ptp(np.diff(moved[inner])) < 1e-4
    assert 0.9 - 1e-4 <= np.diff(moved[inner]).mean() <= 1.1 + 1e-4


@given(seeds, st.integers(0, 4), st.integers(0, 4))
def test_as_many_are_drawn_as_asked_for_and_in_order(seed: int, least: int, most: int) -> None:
    drawn: list[str] = []

    def note(name: str) -> augment.Augmentation:
        return lambda packets, rng: drawn.append(name) or packets  # type: ignore[func-returns-value]

    names = tuple(AUGMENTATIONS)[:6]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(AUGMENTATIONS, name, note(name))  # type: ignore[arg-type]
        augment.augment(packets_of(0), names, np.random.default_rng(seed), min(least, most), max(least, most))
    assert min(least, most) <= len(drawn) <= max(least, most)
    assert drawn == sorted(set(drawn), key=names.index)
