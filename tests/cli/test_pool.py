"""`wdt pool replay` and `wdt soak`: recordings as live tracks, interrupted and resumed; a pool under load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.conftest import Wdt
from wifi_densepose_temporal import StreamPool, load_model

SHIPPED = Path(__file__).parents[2] / "src" / "wifi_densepose_temporal" / "data"
RECORDING = SHIPPED / "esp32_stability_D2_e01_rx_tx-x.npy"
TWO = (SHIPPED / "wiper81_p01_A.npz", SHIPPED / "wiper81_p02_A.npz")


def test_recordings_are_tracks_that_decide_as_each_alone(wdt: Wdt) -> None:
    document = wdt("pool", "replay", RECORDING, "--speed", "0", "--tracks", "2", "--json").document
    assert (document["source"], document["trained"], document["interrupted"]) == ("replay", True, False)
    assert document["model_sha256"] == load_model("activity").sha256
    assert "Trained" in document["note"]
    first, second = document["tracks"]
    assert (first["track"], second["track"]) == (RECORDING.name, f"{RECORDING.name}#2")
    alone = wdt("run", RECORDING, "--json").document
    assert first["frames"] == second["frames"] == alone["features"]["frames"]
    assert first["raw_label"] == alone["timeline"][-1]["label"]
    assert first["refused"] == second["refused"] == first["resets"] == 0


def test_a_table_names_every_track_and_says_what_the_model_is_worth(wdt: Wdt) -> None:
    shown = wdt("pool", "replay", *TWO, "--model", "reid", "--speed", "0").out
    assert "wiper81_p01_A.npz" in shown
    assert "wiper81_p02_A.npz" in shown
    assert "Trained: model" in shown


def interrupted(*args: object, before: str = "") -> tuple[int, str, str]:
    """Runs a command until a second after it says that it has begun, then Ctrl-C; exit code, stdout, stderr."""
    code = f"{before}\nfrom wifi_densepose_temporal.cli import main; main()"
    command = [sys.executable, "-c", code, "--verbose", *map(str, args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        begun = next((line for line in running.stderr if "tracks at once" in line), None)
        assert begun is not None, running.communicate(timeout=60)
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    return running.returncode, out, err


def test_ctrl_c_does_not_wait_for_a_slow_replay(tmp_path: Path) -> None:
    snapshot = tmp_path / "pool.snapshot"
    code, _, err = interrupted("pool", "replay", RECORDING, "--speed", "0.001", "--snapshot", snapshot, "--json")
    assert code == 130, err
    assert snapshot.exists()


def test_what_is_resumed_has_to_be_what_was_saved(wdt: Wdt, tmp_path: Path) -> None:
    snapshot = tmp_path / "pool.snapshot"
    command = ("pool", "replay", RECORDING, "--snapshot", snapshot, "--resume", "--speed", "0")
    pool = StreamPool(load_model("activity"), source="live")
    pool.open(RECORDING.name)
    pool.save(snapshot)
    assert "source live" in wdt(*command).error_line()
    pool = StreamPool(load_model("activity"), source="replay", smoothing=None)
    pool.open(RECORDING.name)
    pool.save(snapshot)
    assert "without smoothing" in wdt(*command).error_line()
    StreamPool(load_model("activity"), source="replay").save(snapshot)
    assert "other tracks" in wdt(*command).error_line()


def test_ctrl_c_saves_and_the_rest_goes_on_from_there(wdt: Wdt, tmp_path: Path) -> None:
    snapshot = tmp_path / "pool.snapshot"
    command = ("pool", "replay", *TWO, "--model", "reid", "--snapshot", snapshot, "--json")
    whole = wdt(*command, "--speed", "0").document
    assert not snapshot.exists()
    code, out, err = interrupted(*command)
    assert code == 130, err
    halted = json.loads(out)
    assert (halted["interrupted"], halted["snapshot"]) == (True, str(snapshot))
    assert all(0 < track["frames"] < 900 for track in halted["tracks"])
    resumed = wdt(*command, "--speed", "0", "--resume").document
    assert resumed["tracks"] == whole["tracks"]
    assert 0 < resumed["ticks"] < whole["ticks"]


def test_each_mistake_is_one_line(wdt: Wdt, tmp_path: Path) -> None:
    assert "none.csv" in wdt("pool", "replay", tmp_path / "none.csv").error_line()
    assert "--speed" in wdt("pool", "replay", RECORDING, "--speed", "-1").error_line()
    assert "rename" in wdt("pool", "replay", RECORDING, RECORDING).error_line()
    missing = tmp_path / "missing"
    assert "missing" in wdt("pool", "replay", RECORDING, "--resume", "--snapshot", missing).error_line()
    missing.write_bytes(b"no snapshot")
    assert wdt("pool", "replay", RECORDING, "--resume", "--snapshot", missing).code == 1
    assert "rate" in wdt("soak", "--rate", "0").error_line()


def test_a_soak_counts_every_frame(wdt: Wdt) -> None:
    document = wdt("soak", "--tracks", "20", "--minutes", "0.02", "--rate", "50", "--json").document
    assert document["ticks"] * 20 + document["dropped"] == 60 * 20
    assert (document["refused"], document["source"], document["tracks"]) == (0, "replay", 20)
    assert 0 < document["p50_ms"] <= document["p99_ms"] <= document["max_ms"]
    assert document["memory_growth_percent"] is not None
    assert document["late_p99_ms"] >= document["p50_ms"]
    assert 0 < document["warm_up_s"] < document["seconds"]
    assert document["us_per_track"] > 0


def test_a_soak_that_is_interrupted_says_what_it_has_seen() -> None:
    code, out, err = interrupted("soak", "--tracks", "5", "--minutes", "5", "--json")
    assert code == 0, err
    assert 0 < json.loads(out)["seconds"] < 60


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
"""


def test_a_pool_that_cannot_be_saved_is_an_error(tmp_path: Path) -> None:
    snapshot = tmp_path / "pool.snapshot"
    command = ("pool", "replay", *TWO, "--model", "reid", "--snapshot", snapshot)
    code, _, err = interrupted(*command, before=FULL_DISK)
    assert code == 1, err
    assert "cannot write" in err
    assert list(tmp_path.iterdir()) == []
