"""`wdt enroll`: a person into the gallery. The work is in reid/."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from wifi_densepose_temporal.cli.evaluate import watched
from wifi_densepose_temporal.cli.output import JsonOption, RateOption, note, print_json, print_line
from wifi_densepose_temporal.cli.persons import (
    DEFAULT_GALLERY,
    DEFAULT_REID_MODEL,
    Embedded,
    GalleryOption,
    ReidModelOption,
    WindowOption,
    embed_recording,
)
from wifi_densepose_temporal.csi.clock import DEFAULT_RATE_HZ
from wifi_densepose_temporal.errors import ConfigError, DuplicatePersonError
from wifi_densepose_temporal.evaluation.identity import DEFAULT_PACKETS
from wifi_densepose_temporal.model import Source
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
    with Gallery.open(gallery, loaded, create=True) as opened:
        if not add and person in opened.persons():
            raise DuplicatePersonError(
                f"{person!r} is enrolled already; --add adds to them, wdt gallery forget removes"
            )
        with watched(len(captures), "embedding") as advance:
            made = []
            for path in captures:
                made.append(embed_recording(loaded, path, window, rate))
                advance()
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
    print_line(f"{person}: {windows} embeddings of {len(made)} recordings enrolled, {total} in all")


def _source(made: list[Embedded]) -> Source:
    sources = sorted({one.source for one in made})
    if len(sources) > 1:
        raise ConfigError(f"recordings of sources {' and '.join(sources)}; enrol those of one source at a time")
    return made[0].source
