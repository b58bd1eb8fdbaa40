"""The feature chain as plain NumPy in float64: slow, whole recordings only, written to read like docs/features.md.

Nothing here comes from the package. Axes: T packets or frames, A antennas, K columns, B bands.
"""

import numpy as np

UNUSED = -(2**15)
TABLES = {32: (1, 26, {7, 21}), 64: (2, 58, {11, 25, 53}), 128: (2, 122, {11, 39, 75, 103})}


def usable_columns(subcarriers):
    """Columns in the order of the spectrum, without guard, carrier and pilots."""
    if isinstance(subcarriers, int):
        return list(range(subcarriers))
    used = [k for k in subcarriers if k != UNUSED]
    widest = max((abs(k) for k in used), default=0)
    span = next((span for span in TABLES if widest <= span), None)
    low, high, pilots = TABLES[span] if span else (1, widest, set())
    kept = [
        (k, column)
        for column, k in enumerate(subcarriers)
        if k != UNUSED and low <= abs(k) <= high and abs(k) not in pilots
    ]
    return [column for _, column in sorted(kept)]


def normalised(amplitude, columns):
    """x = a / g, g = sqrt(mean of a^2 over the usable columns), [A, kept]; None if that is no measurement."""
    a = amplitude[:, columns].astype(np.float64)
    if not np.isfinite(a).all() or (a < 0).any():
        return None
    g = np.sqrt((a**2).mean(axis=1, keepdims=True))
    return None if ((g < 1e-15) | (g > 1e15)).any() else a / g


def segments(t_us, amplitude, columns, max_gap_us):
    """Lists of (t_us, x [A, kept]) without a silence above max_gap_us; then how many were skipped and late."""
    found, newest, skipped, late = [], None, 0, 0
    for t, packet in zip(t_us, amplitude, strict=True):
        x = normalised(packet, columns)
        if abs(t) > 2**61:
            skipped += 1
        elif newest is not None and t < newest:
            late += 1
        elif x is None:
            skipped += 1
        else:
            if newest is None or t - newest > max_gap_us:
                found.append([])
            found[-1].append((t, x))
            newest = t
    return found, skipped, late


def reference(t_us, amplitude, subcarriers, words):
    """Frames [T, 2B], their times in microseconds [T], held [T], and the packets skipped and late."""
    columns = usable_columns(subcarriers)
    bands = np.array_split(np.arange(len(columns)), words["bands"])
    period = words["period_us"]
    alpha = 1 - np.exp(-period / words["motion_time_us"])
    found, skipped, late = segments(t_us, amplitude, columns, words["max_gap_us"])
    frames, times, held = [], [], []
    for segment in found:
        t0 = segment[0][0]
        last_bin = (segment[-1][0] - t0) // period
        before, motion = None, np.zeros(len(bands))
        for n in range(last_bin + 1):
            inside = [x for t, x in segment if (t - t0) // period == n]
            now = np.mean(inside, axis=0) if inside else before
            if n > 0:
                step = np.array([np.abs(now - before)[:, b].mean() for b in bands])
                motion = (1 - alpha) * motion + alpha * step
            level = np.array([now[:, b].mean() for b in bands])
            frames.append(np.concatenate([level, motion]))
            times.append(t0 + (n + 1) * period)
            held.append(not inside)
            before = now
    values = np.array(frames).reshape(len(frames), 2 * len(bands))
    return values, np.array(times, np.int64), np.array(held, bool), skipped, late


def part_values(part, X, phases, bands, period_s):
    """[bins, features] of one part, of X [bins, A, kept] and, for a quadrature, of its pairs of bands in each bin."""

    def follow(values, time_s):
        average = [values[0]]
        for n, value in enumerate(values[1:], 2):
            alpha = 1 / n if time_s == np.inf else 1 - np.exp(-period_s / time_s) if time_s else 1
            average.append(average[-1] + alpha * (value - average[-1]))
        return np.array(average)

    def over_bands(values):
        return np.stack([values[:, :, band].mean(axis=(1, 2)) for band in bands], axis=1)

    if part.kind == "quadrature":
        values = phases
    elif part.kind == "motion":
        values = over_bands(np.abs(X - X[np.maximum(np.arange(len(X)) - part.lag, 0)]))
    else:
        values = over_bands(X)
    values = follow(values, part.time_s)
    if part.log_floor:
        values = np.log(values + part.log_floor)
    if part.slow_s:
        values = values - follow(values, part.slow_s)
    if not part.size_s:
        return values
    size = follow(np.sqrt((values**2).mean(axis=1, keepdims=True)), part.size_s) + part.size_floor
    return np.concatenate([values / size, np.log(size)], axis=1)


def reference_parts(t_us, iq, subcarriers, config):
    """Frames [T, F] of a chain that lists its parts, one segment without skipped packets, and their times [T]."""
    columns = usable_columns(subcarriers)
    amplitude = np.abs(iq[:, :, columns])
    gain = np.sqrt((amplitude**2).mean(axis=2, keepdims=True))
    x, c = amplitude / gain, iq[:, :, columns] / gain
    number = (t_us - t_us[0]) // config.period_us
    bins = np.arange(number[-1] + 1) if config.hold else np.unique(number)
    newest = [number[number <= n].max() for n in bins]  # an empty bin is held
    X = np.array([x[number == n].mean(axis=0) for n in newest])
    parts = []
    for part in config.parts:
        bands = np.array_split(np.arange(len(columns)), part.bands)
        C = np.stack([c[:, :, band].mean(axis=2) for band in bands], axis=2)
        apart = part.lag if part.kind == "quadrature" else 0
        pairs = (C[:, :, apart:] * C[:, :, : part.bands - apart].conj()).imag.mean(axis=1)
        phases = np.array([pairs[number == n].mean(axis=0) for n in newest])
        parts.append(part_values(part, X, phases, bands, config.period_us / 1e6))
    shown = [*range(len(bins))[config.frame_bins - 1 :: config.frame_bins]]
    if len(bins) % config.frame_bins:  # the segment's end completes the last frame
        shown.append(len(bins) - 1)
    values = np.concatenate(parts, axis=1)[shown]
    return values, t_us[0] + (bins[shown] + 1) * config.period_us


def tolerance(columns, antennas, packets_in_a_bin, words):
    """Largest difference that float32 explains, absolute; u is half a unit in the last place.

    x = a / g: a sum of K squares, a root, a reciprocal, a product: (K/2 + 4) u relative, and x <= sqrt(K).
    X: the running mean rounds four times a packet. A band's mean adds at most A K terms. A step is a difference of
    two X. The motion rounds three times a frame and has a relative error of 4 u in alpha, remembered 1 / alpha
    frames long.
    """
    u = 2.0**-24
    alpha = 1 - np.exp(-words["period_us"] / words["motion_time_us"])
    one_x = columns / 2 + 4 + 4 * packets_in_a_bin
    return np.sqrt(columns) * u * (2 * one_x + antennas * columns + 2 + 7 / alpha)
