"""Which recordings train, validate and test; split by recording, session, person or room, never by window.

Two windows of one recording share the walls, the furniture and often the very packets: a figure from such a split says
how well a model remembers. So a split is made of whole recordings, and every split that this file returns has passed
`check_leakage`. A copy that was cut or written anew has other bytes, and is not noticed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from wifi_densepose_temporal.datasets.manifest import Manifest, Selector, listed, selector_text
from wifi_densepose_temporal.datasets.recording import HELD_OUT, HeldOut, Recording, in_time
from wifi_densepose_temporal.errors import ConfigError, LeakageError

logger = logging.getLogger(__name__)

REST = "rest"


@dataclass(frozen=True)
class Split:
    """Recordings by what they are for; made by `make_split` and `make_folds`.

    Attributes:
        train: at least one.
        validation: for decisions inside training, such as when to stop; may be empty.
        tests: recordings by the test's name, in the order asked for; none of them is empty.
        held_out: what train and validation share no value of with any test.
        words: all of this in sentences, for a report.
        unavailable: tests that were asked for and of which this data set has no recording: name to selector.
    """

    train: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    tests: Mapping[str, tuple[Recording, ...]]
    held_out: HeldOut
    words: str
    unavailable: Mapping[str, str]


def make_split(
    manifest: Manifest,
    *,
    held_out: HeldOut,
    train: Selector | str,
    tests: Mapping[str, Selector | str],
    validation_fraction: float = 0.0,
    validation_by: HeldOut = "recording",
) -> Split:
    """A split by selectors.

    Args:
        manifest: the data set.
        held_out: what no test may share with train or validation.
        train: which recordings train and validate.
        tests: name to selector, or to ``"rest"``: all that neither train nor another test has. What a selector asks
            for and the data set lacks is warned about and left out; a test of which nothing is left is `unavailable`.
        validation_fraction: of the distinct values of `validation_by` among the training recordings, in order of their
            first start, the last ``ceil(fraction * n)`` validate; 0 up to, not including, 1.
        validation_by: what train and validation share no value of.

    Raises:
        ConfigError: an unknown property, nothing to train on, or validation would take all of it.
        LeakageError: as `check_leakage`.
        FileError: a recording's file cannot be read.
    """
    _check_held_out(held_out)
    learning = manifest.select(train)
    found = _tests(manifest, learning, tests)
    chosen = {name: some for name, some in found.items() if some}
    absent = {name: _text(tests[name]) for name, some in found.items() if not some}
    for name, selector in absent.items():
        logger.warning("test %r (%s) selects no recording of this data set: unavailable", name, selector)
    return _split(learning, chosen, held_out, validation_fraction, validation_by, absent)


def make_folds(
    manifest: Manifest,
    *,
    held_out: HeldOut,
    count: int | Literal["each"] = "each",
    validation_fraction: float = 0.0,
    validation_by: HeldOut = "recording",
) -> list[Split]:
    """Cross-validation: every value of `held_out` is tested once, in a test named ``"test"``.

    Args:
        manifest: the data set; `Manifest(manifest.root, manifest.select(...))` is a part of one.
        held_out: what no test may share with train or validation.
        count: groups of consecutive values in the manifest's order, their sizes as equal as can be, the longer ones
            first; ``"each"`` leaves one value out at a time.
        validation_fraction: as for `make_split`.
        validation_by: as for `make_split`.

    Raises:
        ConfigError, LeakageError, FileError: as `make_split`; fewer values than folds.
    """
    _check_held_out(held_out)
    values = manifest.values(held_out)
    folds = len(values) if count == "each" else count
    if isinstance(folds, bool) or not isinstance(folds, int) or not 2 <= folds <= len(values):
        raise ConfigError(
            f"{folds!r} folds by {held_out}, of which this data set has {len(values)} ({listed(values)}); expected at "
            "least 2 folds, and at most as many as that"
        )
    size, longer = divmod(len(values), folds)
    splits, begin = [], 0
    for fold in range(folds):
        end = begin + size + (fold < longer)
        tested = set(values[begin:end])
        begin = end
        test = tuple(recording for recording in manifest.recordings if recording.value(held_out) in tested)
        learning = tuple(recording for recording in manifest.recordings if recording.value(held_out) not in tested)
        splits.append(_split(learning, {"test": test}, held_out, validation_fraction, validation_by, {}))
    return splits


def check_leakage(sides: Mapping[str, Sequence[Recording]], held_out: HeldOut) -> None:
    """Refuses sides that share something that a model could remember.

    Args:
        sides: recordings by the name of their side.
        held_out: the property of which no value may be on two sides. A value that is not known is refused too, for it
            could be any.

    Raises:
        LeakageError: one file on two sides, under one name or two; a copy of it; or a value of `held_out`, also where
            it is written once in upper and once in lower case.
        ConfigError: a `held_out` that is none of `HELD_OUT`.
        FileError: a file cannot be read.
    """
    _check_held_out(held_out)
    _refuse_shared(sides, lambda recording: str(recording.path), "are the file {!r}")
    _refuse_shared(sides, lambda recording: recording.sha256, "have the same bytes, sha256 {}")
    if held_out == "recording":
        return
    for side, recordings in sides.items():
        for recording in recordings:
            if not recording.value(held_out) and len(sides) > 1:
                raise LeakageError(
                    f"{recording.name!r} in {side} has no known {held_out}, so that nothing shows it is held out; "
                    f"state it in the manifest, or hold out another of {', '.join(HELD_OUT)}"
                )
    _refuse_shared(sides, lambda recording: recording.value(held_out), f"have the same {held_out}, {{!r}}")
    alike = f"have one {held_out} but for upper and lower case, {{!r}} (write it alike, or give two names)"
    _refuse_shared(sides, lambda recording: recording.value(held_out).casefold(), alike)


def _check_held_out(name: str) -> None:
    if name not in HELD_OUT:
        raise ConfigError(f"held out is {name!r}; expected one of {', '.join(HELD_OUT)} (never windows)")


def _refuse_shared(sides: Mapping[str, Sequence[Recording]], key: Callable[[Recording], str], what: str) -> None:
    """Refuses a value of `key` on two sides; `what` says what the two recordings are then, with a place for it."""
    seen: dict[str, tuple[str, Recording]] = {}
    for side, recordings in sides.items():
        for recording in recordings:
            value = key(recording)
            other_side, other = seen.setdefault(value, (side, recording))
            if other_side != side:
                raise LeakageError(
                    f"{other.name!r} in {other_side} and {recording.name!r} in {side} {what.format(value)}: the result "
                    "would be what the model remembers; put both on one side, or leave one out"
                )


def _tests(
    manifest: Manifest, learning: tuple[Recording, ...], tests: Mapping[str, Selector | str]
) -> dict[str, tuple[Recording, ...]]:
    """The recordings of each test, as far as the data set has them."""
    found = {}
    for name, selector in tests.items():
        if selector != REST:
            for of, values in manifest.missing(selector).items():
                logger.warning("test %r: no recording has %s %s", name, of, listed(values))
            found[name] = manifest.matching(selector)
    taken = {recording.path for some in (learning, *found.values()) for recording in some}
    rest = tuple(recording for recording in manifest.recordings if recording.path not in taken)
    return {name: found.get(name, rest) for name in tests}


def _split(
    learning: tuple[Recording, ...],
    tests: dict[str, tuple[Recording, ...]],
    held_out: HeldOut,
    validation_fraction: float,
    validation_by: HeldOut,
    unavailable: dict[str, str],
) -> Split:
    for name, test in tests.items():
        check_leakage({"training": learning, f"test {name!r}": test}, held_out)  # two tests may share recordings
    train, validation = _validation(learning, validation_fraction, validation_by)
    words = _words(train, validation, tests, held_out, validation_by, unavailable)
    return Split(train, validation, tests, held_out, words, unavailable)


def _validation(
    learning: tuple[Recording, ...], fraction: float, by: HeldOut
) -> tuple[tuple[Recording, ...], tuple[Recording, ...]]:
    """Train and validation; they are checked against each other by recording and by `by`."""
    _check_held_out(by)
    if not 0 <= fraction < 1:
        raise ConfigError(f"validation_fraction is {fraction}; expected 0 up to, not including, 1")
    values = list(dict.fromkeys(recording.value(by) for recording in in_time(learning)))
    count = math.ceil(round(fraction * len(values), 9))  # 0.1 of 30 is 3, and 3.0000000000000004 in floating point
    if count == len(values):
        raise ConfigError(
            f"validation_fraction {fraction} takes all {len(values)} values of {by} ({listed(values)}); expected some "
            "left to train on: validate by another property, or take a smaller fraction"
        )
    last = set(values[len(values) - count :])
    train = tuple(recording for recording in learning if recording.value(by) not in last)
    validation = tuple(recording for recording in learning if recording.value(by) in last)
    if validation:
        check_leakage({"training": train, "validation": validation}, by)
    return train, validation


def _words(
    train: tuple[Recording, ...],
    validation: tuple[Recording, ...],
    tests: Mapping[str, tuple[Recording, ...]],
    held_out: HeldOut,
    validation_by: HeldOut,
    unavailable: Mapping[str, str],
) -> str:
    """The split in sentences."""
    said = [f"Held out by {held_out}, whole recordings only. Trained on {_described(train)}."]
    if validation:
        said.append(f"Validated, inside training, on the last by {validation_by}: {_described(validation)}.")
    said += [f"Test {name}: {_described(test)}." for name, test in tests.items()]
    said += [f"Test {name}: unavailable, this data set has no {selector}." for name, selector in unavailable.items()]
    return " ".join(said)


def _described(recordings: tuple[Recording, ...]) -> str:
    """How many recordings, and of whom and when."""
    parts = [f"{len(recordings)} recording{'s' if len(recordings) > 1 else ''}"]
    for name in ("person", "session", "room"):
        values = list(dict.fromkeys(recording.value(name) for recording in recordings if recording.value(name)))
        if values:
            parts.append(
                f"{name} {', '.join(values)}" if len(values) <= 4 else f"{len(values)} {name}s {_ends(values)}"
            )
    return " of ".join([parts[0], "; ".join(parts[1:])]) if parts[1:] else parts[0]


def _ends(values: list[str]) -> str:
    return f"({values[0]} to {values[-1]})"


def _text(selector: Selector | str) -> str:
    return REST if selector == REST else selector_text(selector)
