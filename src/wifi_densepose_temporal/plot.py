"""Pictures of a capture and of what a model makes of it: amplitude, motion, probabilities, decisions over time.

It needs matplotlib (`pip install 'wifi-densepose-temporal[plot]'`), which is imported only when a picture is made, and
draws without a display. Texts from files are drawn as they are, never as formulas. Stretches without data stay grey.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wifi_densepose_temporal.csi import Capture, FeatureConfig, Frames
from wifi_densepose_temporal.csi.bands import UNUSED, assign_bands, usable_subcarriers
from wifi_densepose_temporal.csi.features import silences
from wifi_densepose_temporal.csi.majority import main_chain
from wifi_densepose_temporal.errors import ConfigError, FileError, MissingExtraError
from wifi_densepose_temporal.files import write_whole
from wifi_densepose_temporal.timeline import Replay, some_frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
NEEDED = ("matplotlib",)  # modules
MAX_COLUMNS = 800  # of the waterfall: more than the picture has pixels for shows nothing more
MIN_COLUMN_S = 1e-3
MAX_POINTS = 2000  # of a curve
MAX_SHOWN_CLASSES = 7
MAX_LABEL_LETTERS = 28
MAX_NAME_LETTERS = 60

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common kind of colour blindness.
CLASS_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#D55E00")
OTHERS_COLOUR, NO_DATA_COLOUR, WARNING_COLOUR = "#999999", "#DDDDDD", "#B03A00"


def plot_capture(capture: Capture, name: str, path: str | os.PathLike[str]) -> None:
    """Draws amplitude over time and subcarrier, and the motion of the default feature chain below it.

    Args:
        capture: what to draw.
        name: of the recording, for the title.
        path: of the picture; its suffix is .png, .pdf or .svg. Written whole or not at all.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: another suffix, or fewer usable subcarriers than the chain has bands.
        FormatError: not one packet is a measurement.
        FileError: the picture cannot be written.
    """
    frames = some_frames(capture, FeatureConfig())

    def draw(figure: Figure) -> None:
        figure.set_size_inches(10, 6)
        amplitude, motion = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
        _draw_amplitude(figure, amplitude, capture)
        _draw_motion(motion, frames, FeatureConfig())
        _finish(figure, [amplitude, motion], f"{shortened(name, MAX_NAME_LETTERS)}  ({capture.source})", None)

    save_figure(draw, path)


def plot_replay(replay: Replay, name: str, path: str | os.PathLike[str]) -> None:
    """Draws a replay: amplitude, motion, probability of each class and the decisions, over a shared time axis.

    Args:
        replay: what to draw.
        name: of the recording, for the title.
        path: as for `plot_capture`.

    Raises:
        MissingExtraError, ConfigError, FileError: as `plot_capture`.
    """

    def draw(figure: Figure) -> None:
        figure.set_size_inches(10, 8.4)
        axes = figure.subplots(4, 1, sharex=True, height_ratios=(3, 1.2, 1.8, 0.35))
        amplitude, motion, probability, decision = axes
        _draw_amplitude(figure, amplitude, replay.capture)
        # A model's frames need not hold motion as such; that of the default chain is what a person can read.
        config = FeatureConfig() if replay.config.parts else replay.config
        frames = some_frames(replay.capture, config) if replay.config.parts else replay.frames
        _draw_motion(motion, frames, config)
        _draw_decisions(probability, decision, replay)
        title = f"{shortened(name, MAX_NAME_LETTERS)}  ({replay.prediction.source})"
        _finish(figure, list(axes), title, replay)

    save_figure(draw, path)


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuses a picture that could not be drawn or written: to be asked before long work, not after it.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: a suffix that is none of `FORMATS`.
        FileError: there is no such folder, or a folder is in the picture's place.
    """
    if _kind(path) not in FORMATS:
        raise ConfigError(f"{path}: a picture's name ends in {', '.join('.' + name for name in FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"a picture needs matplotlib ({error}): pip install 'wifi-densepose-temporal[plot]'"
        ) from None
    if not Path(path).parent.is_dir() or Path(path).is_dir():
        raise FileError(f"cannot write {path!s}: its folder is not there, or it is a folder; check the path")


def _kind(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def save_figure(draw: Callable[[Figure], None], path: str | os.PathLike[str]) -> None:
    """Draws on a new figure and writes it, whole or not at all; raises as `plot_capture`."""
    check_picture(path)
    import matplotlib
    from matplotlib.figure import Figure

    kind = _kind(path)
    content = io.BytesIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # a label that the font cannot write
        matplotlib.rcdefaults()  # whatever the user's settings, the same picture
        matplotlib.rcParams.update({"text.parse_math": False, "font.size": 9, "svg.fonttype": "path"})
        figure = Figure(dpi=120, layout="constrained")
        draw(figure)
        figure.savefig(content, format=kind)
    write_whole(path, content.getvalue())


def _finish(figure: Figure, axes: list[Axes], title: str, replay: Replay | None) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("time since the first packet (s)")
    if replay is None:
        figure.suptitle(title, weight="bold", size=11)
    elif replay.model.trained:
        figure.suptitle(f"{title}\nmodel {replay.model.sha256[:12]}, which states that it was trained", size=11)
    else:
        doubts = {
            False: "UNTRAINED MODEL: these labels mean nothing yet",
            None: "the model does not say if it is trained",
        }
        figure.suptitle(f"{title}\n{doubts[replay.model.trained]}", weight="bold", size=11, color=WARNING_COLOUR)


# ------------------------------------------------------------------------------------------------------- panels


def _draw_amplitude(figure: Figure, axes: Axes, capture: Capture) -> None:
    level_db, edges_s = _waterfall(capture)
    rows, index_name = _subcarrier_edges(capture)
    seen = level_db[np.isfinite(level_db)]
    low, high = np.percentile(seen, [2, 98]) if seen.size else (-1.0, 1.0)
    axes.set_facecolor(NO_DATA_COLOUR)
    mesh = axes.pcolormesh(
        edges_s, rows, level_db.T, cmap="viridis", vmin=low, vmax=max(high, low + 0.1), rasterized=True
    )
    axes.set_ylabel(index_name)
    axes.set_title("amplitude, relative to each packet's root mean square (grey: no data)", loc="left", size=9)
    axes.set_xlim(edges_s[0], edges_s[-1])
    figure.colorbar(mesh, cax=axes.inset_axes((1.012, 0, 0.016, 1)), label="dB", extend="both")


def _draw_motion(axes: Axes, frames: Frames, config: FeatureConfig) -> None:
    motion = frames.values[:, config.bands :].mean(axis=1, dtype=np.float64)
    times_s, curve = _curve(frames.times_s, motion, config)
    axes.plot(times_s, 100 * curve, color="#333333", lw=0.9)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("motion\n(% of RMS)")
    axes.set_title(
        f"motion: mean change of amplitude per {1e-3 * config.period_us:g} ms frame, "
        f"averaged over {config.motion_time_s:g} s and {config.bands} bands",
        loc="left",
        size=9,
    )
    axes.grid(axis="y", alpha=0.3)


def _draw_decisions(axes: Axes, strip: Axes, replay: Replay) -> None:
    order, names = _shown_classes(replay)
    colours = [*CLASS_COLOURS[: len(order)], OTHERS_COLOUR][: len(names)]
    times_s, probabilities = _curve(replay.frames.times_s, replay.probabilities.astype(np.float64), replay.config)
    shown = probabilities[:, order]
    tops = np.cumsum(np.column_stack([shown, 1 - shown.sum(axis=1)])[:, : len(names)], axis=1)
    tops[:, -1] = np.where(np.isnan(tops[:, -1]), np.nan, 1.0)  # the last band ends at 1, whatever the rounding
    bottoms = np.column_stack([np.zeros(len(tops)), tops[:, :-1]])
    for number, colour in enumerate(colours):
        axes.fill_between(times_s, bottoms[:, number], tops[:, number], color=colour, lw=0, step="pre")
    _draw_strip(strip, times_s, _winner(probabilities, order), colours)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability")
    axes.set_title("probability of each class (stacked, not calibrated)", loc="left", size=9)
    axes.set_facecolor(NO_DATA_COLOUR)
    _draw_legend(axes, names, colours)


def _draw_strip(axes: Axes, times_s: NDArray[np.float64], winner: NDArray[np.float64], colours: list[str]) -> None:
    """One bar, coloured by the decision over each stretch from one point of the curve to the next."""
    from matplotlib.colors import ListedColormap

    bars = np.where(np.isnan(winner[:-1]), np.nan, winner[1:])
    axes.pcolormesh(
        times_s,
        [0, 1],
        bars[np.newaxis],
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=len(colours) - 0.5,
        rasterized=True,
    )
    axes.set_facecolor(NO_DATA_COLOUR)
    axes.set_yticks([0.5], ["decision"])
    axes.tick_params(axis="y", length=0)


def _draw_legend(axes: Axes, names: list[str], colours: list[str]) -> None:
    from matplotlib.patches import Patch

    legend = axes.legend(
        [Patch(color=colour) for colour in colours],
        [str(number) for number in range(len(names))],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        reverse=True,  # as the bands are stacked
    )
    for text, name in zip(legend.get_texts(), reversed(names), strict=True):
        text.set_text(shortened(name, MAX_LABEL_LETTERS))  # set here: the legend would hide "_name"


# ------------------------------------------------------------------------------------------------- what they show


def _waterfall(capture: Capture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Amplitude in dB relative to the packet's root mean square, `[column, subcarrier]`, and column edges in seconds.

    A column is the mean over the antennas and packets of a short stretch of time; NaN where none arrived or the
    subcarrier was silent. Where a packet holds one receive chain, the most frequent is shown, as in the feature chain.
    """
    amplitude, times_s = capture.amplitude, capture.timestamps
    if capture.chain is not None:
        mine = main_chain(capture.chain)
        amplitude, times_s = amplitude[mine], times_s[mine]
    index = usable_subcarriers(capture)
    measured = np.full(amplitude.shape[2], True) if index is None else index != UNUSED
    reference = assign_bands(amplitude.shape[2] if index is None else index, bands=1) >= 0
    edges_s = _column_edges(times_s)
    in_order = np.argsort(times_s, kind="stable")
    ends = np.searchsorted(times_s[in_order], edges_s[1:], side="right")
    out = np.full((len(ends), amplitude.shape[2]), np.nan)
    for column, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        out[column, measured] = _level_db(amplitude[in_order[start:end]], reference)[measured]
    return out, edges_s


def _level_db(amplitude: NDArray[np.float32], reference: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of packets `[n, antenna, subcarrier]`: mean level, dB relative to the rms over the `reference` subcarriers."""
    exact = amplitude.astype(np.float64)
    with np.errstate(all="ignore"):  # a silent or non-finite packet gives NaN here, and counts for nothing
        relative = exact / np.sqrt(np.mean(exact[:, :, reference] ** 2, axis=2, keepdims=True))
        heard = np.isfinite(relative) & (relative > 0)
        total = np.where(heard, relative, 0).sum(axis=(0, 1))
        level_db: NDArray[np.float64] = 20 * np.log10(total / heard.sum(axis=(0, 1)))
    return np.where(np.isfinite(level_db), level_db, np.nan)


def _column_edges(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of equal stretches of time, seconds: at least two typical packet intervals long, so that few stay empty."""
    first, last = float(times_s.min()), float(times_s.max())
    interval_s = float(np.median(np.diff(np.sort(times_s)))) if len(times_s) > 1 else 0.0
    columns = int(np.clip((last - first) / max(2 * interval_s, MIN_COLUMN_S), 1, MAX_COLUMNS))
    return np.linspace(first, max(last, first + MIN_COLUMN_S), columns + 1)


def _subcarrier_edges(capture: Capture) -> tuple[NDArray[np.float64], str]:
    """Edges between the subcarriers, `[S + 1]`, halfway between neighbours; and what the axis counts."""
    if capture.subcarriers is None:
        return np.arange(capture.amplitude.shape[2] + 1) - 0.5, "subcarrier (column of the file)"
    index = capture.subcarriers.astype(np.float64)
    middles = (index[1:] + index[:-1]) / 2
    return np.concatenate([[index[0] - 0.5], middles, [index[-1] + 0.5]]), "subcarrier (OFDM index, 0 = carrier)"


def _curve(
    times_s: NDArray[np.float64], values: NDArray[np.float64], config: FeatureConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most about `MAX_POINTS` of the points, so laid out that no line bridges a silence.

    Each segment begins with a copy of its first point, where that frame's bin begins, and is followed by a NaN.
    """
    period_s = config.frame_period_s
    step = -(-len(times_s) // MAX_POINTS)
    ends = np.append(np.flatnonzero(silences(times_s, config)), len(times_s) - 1)
    pieces_s, pieces = [], []
    for start, end in zip([0, *(ends + 1)], ends, strict=False):
        kept = [start, *range(start, end, step), end]
        pieces_s += [times_s[kept], times_s[end:][:1]]
        pieces_s[-2][0] -= period_s
        pieces += [values[kept], np.full_like(values[:1], np.nan)]
    return np.concatenate(pieces_s), np.concatenate(pieces)


def _shown_classes(replay: Replay) -> tuple[list[int], list[str]]:
    """The likeliest classes in the model's order, and their names, with one more for the sum of the others."""
    count = len(replay.model.labels)
    if count <= MAX_SHOWN_CLASSES:
        return list(range(count)), list(replay.model.labels)
    likeliest = np.argsort(-replay.probabilities.mean(axis=0, dtype=np.float64), kind="stable")
    order = sorted(int(number) for number in likeliest[:MAX_SHOWN_CLASSES])
    return order, [*(replay.model.labels[number] for number in order), f"{count - MAX_SHOWN_CLASSES} others"]


def _winner(probabilities: NDArray[np.float64], order: list[int]) -> NDArray[np.float64]:
    """Place in `order` of the decided class, `[T]`; `len(order)` where it is another, NaN where there is none."""
    places = np.full(probabilities.shape[1], len(order), np.float64)
    places[order] = np.arange(len(order))
    winner = places[probabilities.argmax(axis=1)]
    return np.where(np.isnan(probabilities[:, 0]), np.nan, winner)


def shortened(text: str, letters: int) -> str:
    """The text without control characters, cut to so many letters."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= letters else clean[: letters - 1] + "…"
