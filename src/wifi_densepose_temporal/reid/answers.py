"""What a gallery says of an embedding: whose it is, and whether it may update a person."""

from __future__ import annotations

from wifi_densepose_temporal.arrays import Floats
from wifi_densepose_temporal.model import Source
from wifi_densepose_temporal.reid.results import Identification, Update
from wifi_densepose_temporal.reid.tables import Meta
from wifi_densepose_temporal.reid.vectors import Nearest, Vectors

#: How much nearer to the person than to anybody else an update has to be, in cosine.
UPDATE_MARGIN = 0.05


def identified(meta: Meta, source: Source, vectors: Vectors, nearest: Nearest, probes: Floats) -> Identification:
    """The answer for a probe, `[n, E]`, with these nearest persons.

    Updates decide who is nearest, never whether that is near enough: the threshold was found with enrolled vectors.
    """
    (first, second), (similarity, next_similarity) = nearest
    threshold = None if meta.calibration is None else meta.calibration.threshold
    enrolled = float(vectors.enrolled_similarity(probes, int(first)).mean())
    known = threshold is not None and enrolled >= threshold
    return Identification(
        person=vectors.names[first] if known else None,
        decision="uncalibrated" if threshold is None else "known" if known else "unknown",
        nearest=vectors.names[first],
        similarity=float(similarity),
        enrolled_similarity=enrolled,
        runner_up=vectors.names[second] if second >= 0 else None,
        runner_up_similarity=float(next_similarity) if second >= 0 else None,
        threshold=threshold,
        source=source,
        model_sha256=meta.model_sha256,
        trained=meta.trained,
    )


def unavailable(meta: Meta, source: Source) -> Identification:
    """The answer where there is nobody to compare with, or nothing to compare."""
    threshold = None if meta.calibration is None else meta.calibration.threshold
    return Identification(
        None, "unavailable", None, None, None, None, None, threshold, source, meta.model_sha256, meta.trained
    )


def judged(meta: Meta, vectors: Vectors, key: str, row: Floats) -> Update:
    """Whether an embedding `[1, E]` may update the person of that key; see `Gallery.update`."""
    number = vectors.keys.index(key)
    own = float((vectors.rows[vectors.anchors(number)] @ row[0]).max())
    scores = vectors.scores(row)[0]
    scores[number] = -2
    other = float(scores.max()) if len(scores) > 1 else None
    if meta.calibration is None:
        reason = "the gallery is not calibrated, so that nothing says how near is near enough"
    elif own < meta.calibration.threshold:
        reason = f"similarity {own:.3f} to the enrolled vectors is below the threshold {meta.calibration.threshold:.3f}"
    elif other is not None and own - other < UPDATE_MARGIN:
        reason = f"somebody else is as near: {other:.3f} against {own:.3f}, expected {UPDATE_MARGIN} between them"
    else:
        reason = ""
    return Update(not reason, reason, own, other)
