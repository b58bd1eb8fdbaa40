"""What a report says of the split, of what the model saw in training, and of what the figures cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.recordings import make_model, write_labelled, write_persons, write_whole_labels
from wifi_densepose_temporal.evaluation import (
    Windowing,
    activity_document,
    evaluate_activity,
    evaluate_identity,
    identity_document,
    leak_warning,
    seen_in_training,
    split_words,
)

KEYS = {
    *("task", "window_accuracy", "frame_accuracy", "recording_accuracy", "macro_f1", "rank1", "rank5", "rank10"),
    *(
        "map",
        "auc",
        "eer",
        "tpir_fpir10",
        "tpir_fpir1",
        "split",
        "seeds",
        "source",
        "model_sha256",
        "trained",
        "per_class",
        "confusion",
        "intervals",
    ),
    *("window", "context_s", "gallery", "probe", "recordings", "cmc", "notes"),
}


def test_a_recording_is_known_again_by_its_bytes(tmp_path: Path) -> None:
    recordings = write_labelled(tmp_path).recordings
    digests = [recordings[1].sha256[:16], "0" * 16]
    model = make_model(provenance={"trained": True, "data": {"sha256": digests}, "split": "Trained on the hall."})
    seen = seen_in_training(model, recordings)
    assert seen == ("r1-x.npy",)
    words = split_words(model, recordings, seen, "home: all")
    assert words.startswith("Evaluated on 3 recordings (home: all): 2 persons (0, 1), 3 sessions (s0, s1, s2), 1 room")
    assert "WARNING: the model was trained on 1 of these 3 recordings (r1-x.npy)" in words
    assert words.endswith("Its blob says of its training: Trained on the hall.")
    document = activity_document(model, evaluate_activity(model, recordings), words)
    assert [one["seen_in_training"] for one in document["recordings"]] == [False, True, False]


def test_unseen_recordings_are_said_to_be_unseen(tmp_path: Path) -> None:
    recordings = write_labelled(tmp_path).recordings
    model = make_model(provenance={"trained": True, "data": {"sha256": ["0" * 16]}})
    assert seen_in_training(model, recordings) == ()
    words = split_words(model, recordings, (), "home: all")
    assert "trained on none of them" in words
    assert "WARNING" not in words
    assert leak_warning((), 3) is None


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"trained": True}, "unavailable: its blob does not list them"),
        ({"trained": True, "data": {"sha256": []}}, "unavailable"),
        ({"trained": True, "data": "D1"}, "unavailable"),
        ({"trained": True, "data": {"sha256": "abc"}}, "unavailable"),
        ({"trained": False}, "untrained"),
        ({}, "does not state that it was trained"),
    ],
)
def test_what_the_blob_does_not_say_is_not_made_up(tmp_path: Path, provenance: dict[str, Any], said: str) -> None:
    recordings = write_labelled(tmp_path).recordings
    model = make_model(provenance=provenance)
    seen = seen_in_training(model, recordings)
    assert seen is None
    assert said in split_words(model, recordings, seen, "home: all")
    assert "none of them" not in split_words(model, recordings, seen, "home: all")


def test_documents_of_both_tasks_have_the_same_keys_with_null_where_there_is_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    model = make_model(provenance={"trained": True, "seeds": [4, 5]})
    activity = activity_document(model, evaluate_activity(model, write_labelled(tmp_path / "a").recordings), "words")
    persons = write_persons(tmp_path / "b", ["ann", "bo"])
    result = evaluate_identity(model, persons.select("session=A"), persons.select("session=B"))
    identity = identity_document(model, result, "words")
    assert set(activity) == set(identity) == KEYS
    for document in (activity, identity):
        assert (document["split"], document["seeds"], document["trained"]) == ("words", [4, 5], True)
        assert (document["source"], document["model_sha256"]) == ("replay", model.sha256)
    assert {name for name in KEYS if activity[name] is None} == {
        *("recording_accuracy", "rank1", "rank5", "rank10", "map", "auc", "eer", "tpir_fpir10", "tpir_fpir1"),
        *("context_s", "gallery", "probe", "cmc"),
    }
    assert {name for name in KEYS if identity[name] is None} == {
        *("window_accuracy", "frame_accuracy", "recording_accuracy", "macro_f1", "per_class", "confusion", "context_s"),
        *("tpir_fpir10", "tpir_fpir1"),
    }
    assert identity["gallery"] == {
        "sessions": ["A"],
        "persons": 2,
        "recordings": 2,
        "windows": 2,
        "windows_unavailable": 0,
    }
    assert [one["side"] for one in identity["recordings"]] == ["gallery", "gallery", "probe", "probe"]


def test_notes_of_activities_say_how_it_was_counted_and_what_does_not_fit(tmp_path: Path) -> None:
    model = make_model()
    recordings = write_labelled(tmp_path, lengths=(230, 40), labels=("sit", "jump")).recordings
    notes = " ".join(activity_document(model, evaluate_activity(model, recordings), "")["notes"])
    for said in (
        "windows of 50 packets, 25 apart",
        "up to that packet and no further",
        "Counted as wrong: 2 packets before the first frame",
        "1 recording shorter than one window, counted by packets only: r1-x.npy",
        "labels of the data that the model does not have: jump",
        "Classes of the model that no window here has: walk, fall",
        "bootstrap over recordings (2)",
        "Unknown training",
    ):
        assert said in notes
    limited = evaluate_activity(model, recordings, Windowing(context_s=2))
    assert "the frames of the last 2 s alone" in " ".join(activity_document(model, limited, "")["notes"])


def test_notes_of_single_labels_say_that_the_window_is_the_recording(tmp_path: Path) -> None:
    model = make_model()
    result = evaluate_activity(model, write_whole_labels(tmp_path, ["sit"]).recordings)
    notes = " ".join(activity_document(model, result, "")["notes"])
    assert "with a single label (1): one window each, the whole recording, decided at its end" in notes
    assert "Intervals are unavailable" in notes


def test_notes_of_persons_state_gallery_and_probe_and_what_rank_10_is_worth(tmp_path: Path) -> None:
    model = make_model()
    persons = write_persons(tmp_path, ["ann", "bo", "cy"])
    result = evaluate_identity(model, persons.select("session=A,person=ann|bo"), persons.select("session=B"), 50)
    notes = " ".join(identity_document(model, result, "")["notes"])
    for said in (
        "Gallery: 2 recordings, 2 persons, 4 windows of 50 packets, session A.",
        "Probe: 3 recordings, 3 persons, 6 windows of 50 packets, session B. No recording is in both.",
        "rank10 says nothing: the gallery holds 2 persons",
        "not in the gallery count for AUC, EER and FPIR only, not for rank and mAP: cy",
        "bootstrap over persons of the probe (3)",
    ):
        assert said in notes
