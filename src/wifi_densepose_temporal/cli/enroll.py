"""`wdt enroll`: a person into the gallery. The work is in reid/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from wifi_densepose_temporal.cli.output import JsonOption, RateOption, note, print_json, print_line
from wifi_densepose_temporal.cli.persons import (
    DEFAULT_GALLERY,
    DEFAULT_REID_MODEL,
    Embedded,
    GalleryOption,
    ReidModelOption,
    WindowOption,
    counted,
    embed_different,
)
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.errors import ConfigError, DuplicatePersonError, GalleryUnavailableError
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS
from wifi_densepose_temporal.model import Source, TemporalModel
from wifi_densepose_temporal.models import load_model
from wifi_densepose_temporal.timeline import training_note


def enroll(
    captures: Annotated[list[Path], typer.Argument(metavar="CAPTURE...", help="CSI recordings of this one person.")],
    person: Annotated[str, typer.Option("--person", metavar="P", help="The person: a pseudonym, not a name.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    model: ReidModelOption = DEFAULT_REID_MODEL,
    window: WindowOption = DEFAULT_PACKETS,
    add: Annotated[bool, typer.Option("--add", help="Add to a person who is enrolled already.")] = False,
    rate: RateOption = DEFAULT_RATE_HZ,
    as_json: JsonOption = False,
) -> None:
    """Enrol a person in the gallery, from recordings of them alone.

    Each window becomes one embedding. All recordings are read before any is stored. The gallery is made where there is
    none, readable for its owner only: embeddings are personal data, see docs/privacy.md.
    """
    from wifi_densepose_temporal.reid import Gallery

    loaded = load_model(model)
    known = _recordings_of(person, gallery, loaded, add)
    made = embed_different(loaded, captures, window, rate)
    for one in made:
        if one.sha256 in known:
            raise ConfigError(f"{one.path} is enrolled of {person!r} already; leave it out")
    with Gallery.open(gallery, loaded, create=True) as opened:
        total = opened.enrol(
            person,
            np.concatenate([one.embedding for one in made]),
            source=_source(made),
            recording=[one.sha256 for one in made for _ in one.embedding],
            if_exists="add" if add else "refuse",
        )
    windows = sum(len(one.embedding) for one in made)
    note(training_note(loaded))
    if as_json:
        document = {
            "source": made[0].source,
            "model_sha256": loaded.sha256,
            "trained": loaded.trained,
            "person": person,
            "recordings": len(made),
            "embeddings": windows,
            "embeddings_of_person": total,
        }
        print_json(document)
        return
    print_line(
        f"{person}: {counted(windows, 'embedding')} of {counted(len(made), 'recording')} enrolled, {total} in all"
    )


def _recordings_of(person: str, gallery: str, model: TemporalModel, add: bool) -> set[str]:
    """SHA-256 of what is enrolled of a person, before anything is embedded."""
    from wifi_densepose_temporal.reid import Gallery

    try:
        with Gallery.open(gallery, model) as opened:
            if person not in opened.persons():
                return set()
            if not add:
                raise DuplicatePersonError(
                    f"{person!r} is enrolled already; --add adds to them, wdt gallery forget removes"
                )
            return set(opened.show(person).recordings)
    except GalleryUnavailableError:
        return set()  # there is none yet; where it is something else, enrolling says so


def _source(made: list[Embedded]) -> Source:
    sources = sorted({one.source for one in made})
    if len(sources) > 1:
        raise ConfigError(f"recordings of sources {' and '.join(sources)}; enrol those of one source at a time")
    return made[0].source
