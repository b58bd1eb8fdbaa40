"""Splits: what stands on which side, that nothing stands on two, and that the words say it."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datasets.conftest import csi_har, espectre, recording, stability, wiper81
from wifi_densepose_temporal.datasets import Manifest, Recording, check_leakage, make_folds, make_split, open_dataset
from wifi_densepose_temporal.datasets.recording import in_time
from wifi_densepose_temporal.datasets.split import Split
from wifi_densepose_temporal.errors import ConfigError, LeakageError


def names(recordings: tuple[Recording, ...]) -> list[str]:
    return [recording.name for recording in recordings]


def test_a_later_day_is_tested_and_the_last_recordings_of_the_first_validate(tmp_path: Path) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    split = make_split(
        manifest,
        held_out="session",
        train="session=D1",
        tests={"ten minutes later": "session=D2"},
        validation_fraction=0.3,
    )
    assert names(split.train) == [
        f"D1/e0{n}_{way}-x.npy" for n, way in [(1, "rx_tx"), (1, "tx_rx"), (2, "rx_tx"), (2, "tx_rx")]
    ]
    assert names(split.validation) == ["D1/e03_rx_tx-x.npy", "D1/e03_tx_rx-x.npy"]  # ceil(0.3 * 6)
    assert split.tests == {"ten minutes later": manifest.select("session=D2")}
    assert split.words == (
        "Held out by session, whole recordings only. Trained on 4 recordings of person 1; session D1; room 1. "
        "Validated, inside training, on the last by recording: 2 recordings of person 1; session D1; room 1. "
        "Test ten minutes later: 6 recordings of person 1; session D2; room 1."
    )


def test_a_day_or_person_that_this_data_set_lacks_is_unavailable_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    tests = {"D2": "session=D2", "an hour later": {"session": ["D4"]}}
    with caplog.at_level(logging.WARNING):
        split = make_split(manifest, held_out="session", train="session=D1", tests=tests)
    assert list(split.tests) == ["D2"]
    assert split.unavailable == {"an hour later": "session=D4"}
    assert "Test an hour later: unavailable, this data set has no session=D4." in split.words
    assert "an hour later" in caplog.text
    with pytest.raises(ConfigError, match="there is 'D1', 'D2'"):  # without training data there is nothing to report
        make_split(manifest, held_out="session", train="session=D4", tests=tests)


def test_a_test_of_which_part_is_there_is_that_part_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = open_dataset(csi_har(tmp_path / "data"))
    with caplog.at_level(logging.WARNING):
        split = make_split(manifest, held_out="person", train="person=1", tests={"others": "person=2|3"})
    assert {recording.person for recording in split.tests["others"]} == {"2"}
    assert "no recording has person '3'" in caplog.text


def test_the_rest_is_what_neither_training_nor_another_test_has(tmp_path: Path) -> None:
    manifest = open_dataset(wiper81(tmp_path / "data", people=5))
    split = make_split(
        manifest,
        held_out="person",
        train="person=p01|p02",
        tests={"others": "rest", "empty": "person=empty*"},
        validation_fraction=0.5,
        validation_by="person",
    )
    assert {r.person for r in split.train} == {"p01"}
    assert {r.person for r in split.validation} == {"p02"}
    assert {r.person for r in split.tests["others"]} == {"p03", "p04", "p05"}
    assert {r.person for r in split.tests["empty"]} == {"empty1"}
    assert "3 recordings" not in split.words
    assert "Test others: 6 recordings of person p03, p04, p05" in split.words


def test_starts_are_in_order_of_their_numbers(files: list[Path]) -> None:
    """A manifest made by hand has 2 and 10: the last one validates, which is 10."""
    starts = ("2", "10", "9", "100")
    manifest = Manifest(files[0].parent, tuple(recording(f, start=s) for f, s in zip(files[2:], starts, strict=False)))
    split = make_split(manifest, held_out="recording", train="all", tests={}, validation_fraction=0.5)
    assert {one.start for one in split.validation} == {"10", "100"}


def test_digits_after_a_point_of_a_start_are_a_fraction() -> None:
    starts = ["9:00:00", "9:00:00.25", "9:00:00.5", "9:00:01.125", "9:00:02", "9:00:10", "10:00:00"]
    path = Path("x.npy")
    ordered = in_time([recording(path, start=start) for start in reversed(starts)])
    assert [one.start for one in ordered] == starts
    ordered = in_time([dataclasses.replace(recording(path), name=name) for name in ("r.10.csv", "r.9.csv")])
    assert [one.name for one in ordered] == ["r.9.csv", "r.10.csv"]


def test_where_starts_are_alike_names_are_in_order_of_their_numbers(files: list[Path]) -> None:
    ordered = in_time([dataclasses.replace(recording(files[0]), name=name) for name in ("r10.csv", "r9.csv")])
    assert [one.name for one in ordered] == ["r9.csv", "r10.csv"]


@pytest.mark.parametrize("held_out", ["person", "session", "room"])
def test_values_that_differ_by_case_alone_are_refused(files: list[Path], held_out: Any) -> None:
    known, asked = recording(files[2], **{held_out: "P1"}), recording(files[3], **{held_out: "p1"})
    with pytest.raises(LeakageError, match=f"have one {held_out} but for upper and lower case, 'p1'"):
        check_leakage({"gallery": [known], "probe": [asked]}, held_out)
    check_leakage({"gallery": [known, asked]}, held_out)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"held_out": "window"}, "expected one of recording, session, person, room (never windows)"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"validation_fraction": float("nan")}, "validation_fraction is nan"),
        ({"validation_fraction": 0.2, "validation_by": "session"}, "takes all 1 values of session ('D1')"),
        ({"validation_by": "window"}, "expected one of"),
        ({"tests": {"later": "weekday=Monday"}}, "'weekday' is no property"),
    ],
)
def test_a_split_that_cannot_be_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    with pytest.raises(ConfigError, match=re.escape(said)):
        make_split(manifest, **({"held_out": "session", "train": "session=D1", "tests": {}} | options))


def test_the_same_person_on_two_sides_is_refused_and_named(tmp_path: Path) -> None:
    manifest = open_dataset(csi_har(tmp_path / "data"))
    said = r"'fall/user_1_sample_1\.csv' in training.*'walk/user_1_.*the same person, '1'"
    with pytest.raises(LeakageError, match=said):
        make_split(manifest, held_out="person", train="person=1,label=fall", tests={"walks": "label=walk"})
    make_split(manifest, held_out="recording", train="person=1,label=fall", tests={"walks": "label=walk"})


def test_one_recording_on_two_sides_is_refused_whatever_is_held_out(tmp_path: Path) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    with pytest.raises(LeakageError, match=r"'D1/e03_rx_tx-x.npy' in training and .* in test 'third' are the file"):
        make_split(manifest, held_out="recording", train="session=D1", tests={"third": "recording=*/e03_rx_tx*"})


def test_a_copy_under_another_name_is_refused_in_splits_and_folds_and_validation(tmp_path: Path) -> None:
    folder = stability(tmp_path / "data")
    shutil.copyfile(folder / "D1" / "e01_rx_tx-x.npy", folder / "D2" / "e01_rx_tx-x.npy")
    manifest = open_dataset(folder)
    said = "'D1/e01_rx_tx-x.npy' in .* and 'D2/e01_rx_tx-x.npy' in .* have the same bytes"
    with pytest.raises(LeakageError, match=said):
        make_split(manifest, held_out="session", train="session=D1", tests={"later": "session=D2"})
    with pytest.raises(LeakageError, match="have the same bytes"):
        make_folds(manifest, held_out="session")
    with pytest.raises(LeakageError, match=said):
        make_split(
            manifest, held_out="session", train="all", tests={}, validation_fraction=0.5, validation_by="session"
        )


def test_what_is_not_known_is_not_held_out(tmp_path: Path) -> None:
    manifest = open_dataset(espectre(tmp_path / "data"))
    assert make_folds(manifest, held_out="session")
    with pytest.raises(LeakageError, match="has no known person"):
        make_split(manifest, held_out="person", train="session=20260214", tests={"later": "session=20260329"})


def test_two_tests_may_share_recordings(tmp_path: Path) -> None:
    manifest = open_dataset(stability(tmp_path / "data"))
    tests = {"D2": "session=D2", "D2, one way": "session=D2,recording=*rx_tx*"}
    assert len(make_split(manifest, held_out="session", train="session=D1", tests=tests).tests) == 2


def sides(split: Split) -> list[tuple[Recording, ...]]:
    return [split.train, split.validation, *split.tests.values()]


def test_folds_are_consecutive_equal_groups_that_test_each_value_once(tmp_path: Path) -> None:
    manifest = open_dataset(wiper81(tmp_path / "data", people=7))
    people = Manifest(manifest.root, manifest.select("person=p*"))
    splits = make_folds(people, held_out="person", count=3, validation_fraction=0.2, validation_by="person")
    tested = [list(dict.fromkeys(r.person for r in split.tests["test"])) for split in splits]
    assert tested == [["p01", "p02", "p03"], ["p04", "p05"], ["p06", "p07"]]
    for split in splits:
        assert sorted(r.name for side in sides(split) for r in side) == sorted(r.name for r in people.recordings)
        persons = [{r.person for r in side} for side in sides(split)]
        assert sum(map(len, persons)) == 7
        assert len(persons[1]) == 1


def test_each_leaves_one_value_out_at_a_time(tmp_path: Path) -> None:
    manifest = open_dataset(csi_har(tmp_path / "data", people=3))
    splits = make_folds(manifest, held_out="person", count="each")
    assert [{r.person for r in split.tests["test"]} for split in splits] == [{"1"}, {"2"}, {"3"}]


@pytest.mark.parametrize("count", [0, 1, 3, True, 1.5, "all"])
def test_folds_that_cannot_be_are_refused(tmp_path: Path, count: Any) -> None:
    manifest = open_dataset(csi_har(tmp_path / "data"))
    with pytest.raises(ConfigError, match="folds by person, of which this data set has 2 "):
        make_folds(manifest, held_out="person", count=count)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight files, of which the first two have the same bytes."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(8):
        (folder / f"{number}.csv").write_text(f"{max(1, number)},2\n")
    return sorted(folder.iterdir())


described = st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("12"))


@given(
    st.lists(described, min_size=8, max_size=8), st.sampled_from(["recording", "session", "person", "room"]), st.data()
)
def test_a_split_shares_nothing_that_is_held_out_or_it_is_refused(
    files: list[Path], about: list[tuple[str, str, str]], held_out: Any, data: st.DataObject
) -> None:
    every = tuple(
        recording(path, person=person, session=session, room=room, start=path.stem)
        for path, (person, session, room) in zip(files, about, strict=True)
    )
    manifest = Manifest(files[0].parent, every)
    chosen = st.lists(st.sampled_from([path.name for path in files]), min_size=1, unique=True)
    train, test = data.draw(chosen), data.draw(chosen)
    by = data.draw(st.sampled_from(["recording", "session", "person", "room"]))
    leaks = any(
        a.path == b.path or a.sha256 == b.sha256 or a.value(held_out) == b.value(held_out)
        for a in manifest.select({"recording": train})
        for b in manifest.select({"recording": test})
    )
    try:
        split = make_split(
            manifest,
            held_out=held_out,
            train={"recording": train},
            tests={"test": {"recording": test}},
            validation_fraction=data.draw(st.sampled_from([0.0, 0.3])),
            validation_by=by,
        )
    except ConfigError:  # validation would take all there is
        return
    except LeakageError as refused:
        if "validation" not in str(refused) and not leaks:
            raise
        return
    assert not leaks
    assert sorted(names(split.train + split.validation)) == sorted(train)
    assert not {r.value(by) for r in split.train} & {r.value(by) for r in split.validation}
    assert not {r.sha256 for r in split.train} & {r.sha256 for r in split.validation}


def test_check_leakage_takes_any_sides(files: list[Path]) -> None:
    gallery, probe = recording(files[2], person="p01", session="A"), recording(files[3], person="p01", session="B")
    check_leakage({"gallery": [gallery], "probe": [probe]}, "session")
    check_leakage({"gallery": [gallery, gallery]}, "person")  # twice on one side is no leak
    with pytest.raises(LeakageError, match=r"in gallery and .* in probe have the same person, 'p01'"):
        check_leakage({"gallery": [gallery], "probe": [probe]}, "person")


@pytest.mark.parametrize(
    ("name", "held_out"), [("csi-har", "person"), ("esp32-stability", "session"), ("wiper81", "person")]
)
def test_the_published_data_can_be_held_out(shared: Path, name: str, held_out: Any) -> None:
    manifest = open_dataset(shared / "data" / name)
    for split in make_folds(manifest, held_out=held_out, count=2):
        assert sum(map(len, sides(split))) == len(manifest.recordings)
