"""What a gallery does for one caller: who is known, who is not, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from tests.reid.conftest import MODEL, Model, People, unit
from wifi_densepose_temporal.errors import (
    ConfigError,
    DtypeError,
    DuplicatePersonError,
    GalleryModelError,
    GalleryUnavailableError,
    NonFiniteError,
    ShapeError,
    UnknownPersonError,
)
from wifi_densepose_temporal.reid import Gallery


def enrol_all(gallery: Gallery, rows: np.ndarray, prefix: str = "p") -> list[str]:
    names = [f"{prefix}{number:03}" for number in range(len(rows))]
    for name, vectors in zip(names, rows, strict=True):
        gallery.enrol(name, vectors, source="synthetic")
    return names


def calibrated(gallery: Gallery, people: People) -> None:
    strangers = people(100, 1)
    gallery.calibrate(strangers[:, 0], [f"s{n}" for n in range(100)])


# ------------------------------------------------------------------------------------------------------- identifying


def test_persons_are_recognised_and_strangers_are_not(gallery: Gallery, people: People) -> None:
    rows = people(8, 6)
    names = enrol_all(gallery, rows[:, :3])
    calibrated(gallery, people)
    found = gallery.identify(rows[:, 3:].reshape(-1, 32), source="replay")
    assert [one.person for one in found] == [name for name in names for _ in range(3)]
    assert {one.decision for one in found} == {"known"}
    assert {(one.source, one.model_sha256, one.trained) for one in found} == {("replay", MODEL.sha256, True)}
    strangers = gallery.identify(people(3, 1)[:, 0])
    assert [(one.person, one.decision) for one in strangers] == [(None, "unknown")] * 3
    assert all(one.nearest in names and one.similarity < one.threshold for one in strangers)


def test_similarities_are_the_largest_cosine_of_each_person(gallery: Gallery, people: People) -> None:
    rows = people(5, 4, 0.5)
    names = enrol_all(gallery, rows[:, :3])
    probe = rows[2, 3]
    cosine = (rows[:, :3].astype(np.float64) @ probe).max(axis=1)
    order = np.argsort(-cosine)
    (found,) = gallery.identify(probe)
    assert (found.nearest, found.runner_up) == (names[order[0]], names[order[1]])
    assert found.similarity == pytest.approx(cosine[order[0]], abs=1e-6)
    assert found.margin == pytest.approx(cosine[order[0]] - cosine[order[1]], abs=2e-6)


def test_without_calibration_the_nearest_is_shown_and_nobody_is_known(gallery: Gallery, people: People) -> None:
    rows = people(2, 2)
    enrol_all(gallery, rows)
    (found,) = gallery.identify(rows[1, 0])
    assert (found.person, found.decision, found.nearest, found.threshold) == (None, "uncalibrated", "p001", None)


def test_what_cannot_be_answered_is_unavailable(gallery: Gallery, people: People) -> None:
    rows = people(1, 2)
    assert gallery.identify(rows[0, 0])[0].decision == "unavailable"  # nobody is enrolled
    assert gallery.identify(np.empty((0, 32), np.float32)) == []
    gallery.enrol("p", rows[0])
    directionless, other = gallery.identify(np.stack([np.zeros(32, np.float32), rows[0, 0]]))
    assert (directionless.decision, directionless.nearest, directionless.similarity) == ("unavailable", None, None)
    assert (other.nearest, other.runner_up, other.margin) == ("p", None, None)
    assert gallery.identify_pooled(np.zeros((2, 32), np.float32)).decision == "unavailable"


def test_a_pooled_probe_is_the_mean_of_each_persons_similarities(gallery: Gallery, people: People) -> None:
    rows = people(4, 5, 0.6)
    names = enrol_all(gallery, rows[:, :2])
    probes = rows[1, 2:]
    mean = (rows[:, :2].astype(np.float64) @ probes.T).max(axis=1).mean(axis=1)
    found = gallery.identify_pooled(np.concatenate([probes, np.zeros((1, 32), np.float32)]))
    assert found.nearest == names[int(mean.argmax())]
    assert found.similarity == pytest.approx(mean.max(), abs=1e-6)
    with pytest.raises(ShapeError):
        gallery.identify_pooled(np.empty((0, 32), np.float32))


def test_beyond_what_is_searched_exactly_the_answers_stay(
    gallery: Gallery, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = people(60, 4)
    enrol_all(gallery, rows[:, :3])
    calibrated(gallery, people)
    exact = gallery.identify(rows[:, 3])
    monkeypatch.setattr("wifi_densepose_temporal.reid.vectors.EXACT_VECTORS", 50)
    gallery.identify(rows[0, 3])
    assert gallery.wait_for_index() is not None
    for other in (gallery.identify(rows[:, 3]), [gallery.identify(row)[0] for row in rows[:, 3]]):
        assert [(one.person, one.nearest) for one in other] == [(one.person, one.nearest) for one in exact]
        np.testing.assert_allclose([one.similarity for one in other], [one.similarity for one in exact], atol=1e-6)
    gallery.enrol("new", people(1, 1)[0])
    gallery.forget("p007")
    found = gallery.identify(rows[7, 3])[0]
    assert found.person is None
    assert found.nearest != "p007"


# ------------------------------------------------------------------------------------------------------- calibrating


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_the_threshold_gives_the_rate_on_fresh_strangers(gallery: Gallery, people: People, rate: float) -> None:
    enrol_all(gallery, people(20, 3))
    made = gallery.calibrate(people(3000, 1)[:, 0], [str(n) for n in range(3000)], false_accept_rate=rate)
    assert (made.probes, made.persons, made.gallery_persons, made.method) == (3000, 3000, 20, "strangers")
    assert gallery.calibration == made
    fresh = gallery.identify(people(3000, 1)[:, 0])
    accepted = sum(one.decision == "known" for one in fresh)
    # Both the threshold and the count are of 3,000 draws: twice the variance, i.e. that of 1,500 draws, in rate.
    low, high = binom.interval(0.9999, 1500, rate)
    assert low / 1500 <= accepted / 3000 <= high / 1500


def test_calibration_from_within_takes_each_person_as_a_stranger(gallery: Gallery, people: People) -> None:
    rows = people(25, 4, 0.3)
    enrol_all(gallery, rows[:18])
    with pytest.raises(ConfigError, match="at least 19 persons"):
        gallery.calibrate_within(false_accept_rate=0.05)
    assert gallery.calibration is None
    enrol_all(gallery, rows[18:], "q")
    made = gallery.calibrate_within(false_accept_rate=0.05)
    flat = rows.reshape(-1, 32)
    cosine = flat.astype(np.float64) @ flat.T
    cosine[np.repeat(np.eye(25, dtype=bool), 4, 0).repeat(4, 1)] = -1
    reached = (cosine.max(axis=1).reshape(25, 4).max(axis=1) >= made.threshold).sum()
    assert (made.method, made.probes, made.persons) == ("within", 100, 25)
    assert reached == 0  # floor(0.05 * 26) is 1: the largest is not to be reached


def test_calibrations_that_show_nothing_are_refused(gallery: Gallery, people: People) -> None:
    strangers = people(98, 1)[:, 0]
    names = [str(n) for n in range(98)]
    with pytest.raises(ConfigError, match="persons enrolled: 0"):
        gallery.calibrate(strangers, names)
    gallery.enrol("p", people(1, 1)[0])
    with pytest.raises(ConfigError, match="at least 99"):
        gallery.calibrate(strangers, names)
    with pytest.raises(ConfigError, match="somebody who is enrolled"):
        gallery.calibrate(strangers, ["p", *names[1:]], false_accept_rate=0.5)
    with pytest.raises(ShapeError):
        gallery.calibrate(strangers, names[1:], false_accept_rate=0.5)
    for rate in (0.0, 1.0, float("nan"), 1):
        with pytest.raises(ConfigError, match="false_accept_rate"):
            gallery.calibrate(strangers, names, false_accept_rate=rate)
    assert gallery.calibration is None


def test_a_stranger_counts_once_however_many_windows(gallery: Gallery, people: People) -> None:
    enrol_all(gallery, people(10, 3))
    strangers, names = people(9, 50), [f"s{n}" for n in range(9) for _ in range(50)]
    with pytest.raises(ConfigError, match=r"at least 99 persons.*given: 9.*ask for 0.1,"):
        gallery.calibrate(strangers.reshape(-1, 32), names)
    made = gallery.calibrate(strangers.reshape(-1, 32), names, false_accept_rate=0.1)
    assert (made.probes, made.persons) == (450, 9)
    assert {one.decision for one in gallery.identify(strangers.reshape(-1, 32))} == {"unknown"}


def test_strangers_whose_recordings_are_enrolled_are_refused(gallery: Gallery, people: People) -> None:
    gallery.enrol("a", people(1, 2)[0], recording="a" * 64)
    strangers, names = people(2, 1)[:, 0], ["x", "y"]
    for recordings, why in ((["a" * 64, None], "enrolled from"), (["b" * 64] * 2, "two strangers")):
        with pytest.raises(ConfigError, match=why):
            gallery.calibrate(strangers, names, false_accept_rate=0.4, recordings=recordings)
    gallery.calibrate(strangers, names, false_accept_rate=0.4, recordings=["b" * 64, "c" * 64])


def test_a_threshold_that_nobody_can_reach_is_refused(gallery: Gallery, people: People) -> None:
    row = people(1, 1)[0]
    gallery.enrol("a", row)
    with pytest.raises(ConfigError, match="nobody could be known"):
        gallery.calibrate(np.sign(row) * 0 + row, ["b"], false_accept_rate=0.5)


def test_updates_do_not_widen_who_is_known(gallery: Gallery, people: People) -> None:
    rows = people(1, 1)[0]
    gallery.enrol("a", rows)
    gallery.calibrate(people(100, 1)[:, 0], [str(n) for n in range(100)])
    side = unit(np.random.default_rng(5).standard_normal(32))
    side = unit(side - (side @ rows[0]) * rows[0])
    at = lambda cosine: unit(cosine * rows[0] + np.sqrt(1 - cosine**2) * side)  # noqa: E731
    threshold = gallery.calibration.threshold
    assert gallery.update("a", at(threshold + 0.02)).accepted
    (found,) = gallery.identify(at(threshold - 0.02))
    assert found.similarity > 0.99
    assert found.enrolled_similarity == pytest.approx(threshold - 0.02, abs=1e-5)
    assert (found.person, found.decision) == (None, "unknown")


# ----------------------------------------------------------------------------------------------------- online updates


def test_a_walk_from_one_person_to_another_by_updates_is_stopped(gallery: Gallery, people: People) -> None:
    rows = people(2, 3, 0.05)
    enrol_all(gallery, rows)
    calibrated(gallery, people)
    a, b = rows.mean(axis=1)
    walk = unit(np.linspace(a, b, 80))
    answers = [gallery.update("p000", step) for step in walk]
    assert answers[0].accepted
    assert not any(one.accepted for one in answers[40:])
    threshold = gallery.calibration.threshold
    anchors = rows[0].astype(np.float64)
    for step, one in zip(walk, answers, strict=True):
        if one.accepted:
            assert (anchors @ step).max() >= threshold - 1e-6
        else:
            assert one.reason
    assert gallery.identify(walk[-1])[0].person == "p001"
    shown = gallery.show("p000")
    assert (shown.enrolled, shown.updated) == (3, min(16, sum(one.accepted for one in answers)))


def test_an_update_between_two_persons_is_refused(gallery: Gallery, people: People) -> None:
    row = people(1, 1)[0]
    gallery.enrol("a", row)
    gallery.enrol("b", unit(row + 0.01))
    calibrated(gallery, people)
    refused = gallery.update("a", row[0])
    assert not refused.accepted
    assert "somebody else is as near" in refused.reason
    assert gallery.audit()[-1].action == "calibrate"  # a refusal is not logged: the log would say who is there when


def test_updates_need_a_calibration_and_a_person(gallery: Gallery, people: People) -> None:
    row = people(1, 1)[0]
    gallery.enrol("a", row)
    assert "not calibrated" in gallery.update("a", row[0]).reason
    with pytest.raises(UnknownPersonError):
        gallery.update("b", row[0])


def test_the_oldest_updates_make_room(gallery: Gallery, people: People) -> None:
    rows = people(1, 40, 0.05)[0]
    gallery.enrol("a", rows[:2])
    calibrated(gallery, people)
    assert all(gallery.update("a", row).accepted for row in rows[2:22])
    shown = gallery.show("a")
    assert (shown.enrolled, shown.updated) == (2, 16)
    kept = np.concatenate([rows[:2], rows[6:22]])
    np.testing.assert_allclose([one.similarity for one in gallery.identify(kept)], 1, atol=1e-6)
    assert max(one.similarity for one in gallery.identify(rows[2:6])) < 0.99999


# -------------------------------------------------------------------------------------------------- persons as a whole


def test_a_person_is_shown_with_prototype_and_spread(gallery: Gallery, people: People) -> None:
    rows = people(1, 5, 0.3)[0]
    assert gallery.enrol("Frau Müller", rows[:3], source="live", recording="0" * 64) == 3
    assert gallery.enrol("Frau Müller", rows[3:], source="replay", if_exists="add") == 5
    shown = gallery.show("Frau Müller")
    mean = rows.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(shown.prototype, mean / np.linalg.norm(mean), atol=1e-6)
    assert shown.spread == pytest.approx(1 - (rows @ (mean / np.linalg.norm(mean))).mean(), abs=1e-6)
    assert (shown.sources, shown.recordings, shown.enrolled) == (("live", "replay"), ("0" * 64,), 5)
    assert gallery.persons() == ["Frau Müller"]


def test_a_forgotten_person_is_nobody_and_may_come_again(gallery: Gallery, people: People) -> None:
    rows = people(2, 3)
    enrol_all(gallery, rows)
    calibrated(gallery, people)
    gone = gallery.forget("p000")
    assert (gone.embeddings, gone.scrubbed) == (3, True)
    assert gallery.persons() == ["p001"]
    assert gallery.identify(rows[0, 0])[0].person is None
    for call in (gallery.forget, gallery.show):
        with pytest.raises(UnknownPersonError):
            call("p000")
    gallery.enrol("p000", rows[0])
    assert gallery.identify(rows[0, 0])[0].person == "p000"
    assert gallery.verify() == 6


def test_merged_persons_are_one(gallery: Gallery, people: People) -> None:
    rows = people(3, 3)
    enrol_all(gallery, rows)
    assert gallery.merge("p000", into="p002") == 6
    assert gallery.persons() == ["p001", "p002"]
    assert [gallery.identify(rows[n, 0])[0].nearest for n in (0, 2)] == ["p002", "p002"]
    with pytest.raises(ConfigError, match="two names"):
        gallery.merge("p001", into="p001")
    with pytest.raises(UnknownPersonError):
        gallery.merge("p000", into="p001")
    assert gallery.verify() == 9


def test_the_audit_log_names_keys_only(gallery: Gallery, people: People) -> None:
    gallery.enrol("Anna", people(1, 2)[0], recording="ab" * 32)
    key = gallery.show("Anna").key
    gallery.enrol("Berta", people(1, 1)[0])
    gallery.merge("Anna", into="Berta")
    other = gallery.show("Berta").key
    gallery.forget("Berta")
    log = gallery.audit()
    assert [(one.action, one.key) for one in log] == [
        ("merge", key),
        ("forget", other),
    ]
    text = repr(log)
    assert not any(word in text for word in ("Anna", "Berta", "ab" * 32))
    assert json.loads(log[0].detail) == {"into": other, "embeddings": 2}
    assert [one.sequence for one in gallery.audit(2)] == [log[0].sequence, log[1].sequence]


def test_a_gallery_reopened_is_the_same(gallery: Gallery, where: str, people: People) -> None:
    rows = people(3, 3)
    enrol_all(gallery, rows)
    calibrated(gallery, people)
    before = gallery.identify(rows[:, 0])
    gallery.close()
    with Gallery.open(where, MODEL, create=True) as again:
        assert again.identify(rows[:, 0]) == before
        assert (again.model_sha256, again.embedding_dim, again.trained) == (MODEL.sha256, 32, True)


# ----------------------------------------------------------------------------------------------------------- refusals


def test_refused_enrolments_change_nothing(gallery: Gallery, people: People) -> None:
    rows = people(1, 3)[0]
    gallery.enrol("a", rows)
    revision = gallery.audit()
    with pytest.raises(DuplicatePersonError, match="'a' is enrolled already"):
        gallery.enrol("a", rows)
    nan, zeros, half = rows.copy(), rows.copy(), rows.copy()
    nan[1, 2], zeros[1], half[1] = np.nan, 0, half[1] / 2
    for wrong, kind in [
        (nan, NonFiniteError),
        (zeros, ConfigError),
        (half, ConfigError),
        (rows[:, :31], ShapeError),
        (rows[:0], ShapeError),
        (rows.astype(np.float64), DtypeError),
    ]:
        with pytest.raises(kind):
            gallery.enrol("b", wrong)
    for name in ("", " a", "a\n", "a\0", "x" * 201, "\ud800", 7, None):
        with pytest.raises(ConfigError, match="printable"):
            gallery.enrol(name, rows)
    for wrong in ({"source": "dream"}, {"recording": "abc"}, {"if_exists": "maybe"}):
        with pytest.raises(ConfigError):
            gallery.enrol("b", rows, **wrong)
    assert gallery.audit() == revision
    assert gallery.persons() == ["a"]


def test_embeddings_of_another_model_are_refused(gallery: Gallery, where: str, people: People) -> None:
    with pytest.raises(GalleryModelError, match="cannot be compared"):
        Gallery.open(where, Model("cd" * 32))
    with pytest.raises(GalleryModelError, match="give the model"):
        Gallery.open(where, create=True)
    with Gallery.open(where) as unstated:
        assert unstated.persons() == []
        with pytest.raises(GalleryModelError, match="without a model"):
            unstated.enrol("a", people(1, 1)[0])
        with pytest.raises(GalleryModelError, match="without a model"):
            unstated.identify(people(1, 1)[0])


def test_a_place_without_a_gallery_is_refused(where: str) -> None:
    with pytest.raises(GalleryUnavailableError, match="there is no gallery"):
        Gallery.open(where, MODEL)
    with pytest.raises(ConfigError, match="expected postgresql"):
        Gallery.open("mysql://root@localhost/x", MODEL)


# ---------------------------------------------------------------------------------------------------------- as a file


def test_an_export_carries_everything_into_another_gallery(gallery: Gallery, people: People, tmp_path: Path) -> None:
    rows = people(3, 3, 0.05)
    enrol_all(gallery, rows[:, :2])
    calibrated(gallery, people)
    gallery.update("p001", rows[1, 2])
    assert gallery.export(tmp_path / "out") == 7
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with Gallery.open(tmp_path / "other.gallery", MODEL, create=True) as other:
        assert other.import_(tmp_path / "out") == 7
        assert other.identify(rows[:, 0]) == gallery.identify(rows[:, 0])
        assert other.calibration == gallery.calibration
        assert (other.show("p001").enrolled, other.show("p001").updated) == (2, 1)
        with pytest.raises(DuplicatePersonError, match="enrolled already: 3"):
            other.import_(tmp_path / "out")
        assert other.verify() == 7
    with (
        Gallery.open(tmp_path / "wrong.gallery", Model("cd" * 32), create=True) as wrong,
        pytest.raises(GalleryModelError),
    ):
        wrong.import_(tmp_path / "out")


def test_an_export_onto_the_gallery_itself_is_refused(tmp_path: Path, people: People) -> None:
    where = tmp_path / "persons.gallery"
    with Gallery.open(where, MODEL, create=True) as gallery:
        gallery.enrol("a", people(1, 2)[0])
        (tmp_path / "link").hardlink_to(where)
        for path in (where, f"{where}-wal", f"{where}-shm", tmp_path / "link"):
            with pytest.raises(ConfigError, match="a file of its own"):
                gallery.export(path)
        assert gallery.verify() == 2


def test_a_closed_gallery_refuses_use(gallery: Gallery) -> None:
    gallery.close()
    with pytest.raises(GalleryUnavailableError, match="was closed"):
        gallery.persons()
