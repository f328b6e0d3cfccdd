"""`make demo` as a user runs it: on real records, and on a machine without data and network; killed half way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
KEYS = {
    "data_source", "recordings", "windows", "unusable_windows", "model_version", "blessed", "roc_auc",
    "average_precision", "threshold", "anomalies", "seconds",
}  # fmt: skip


def start_demo(folder: Path, **environment: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ECG_")}
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.demo", "--no-serve"],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(demo: subprocess.Popen[str], folder: Path) -> tuple[dict, str, str]:
    out, err = demo.communicate(timeout=540)
    assert demo.returncode == 0, err
    summary = json.loads((folder / "build" / "demo" / "summary.json").read_text())
    assert set(summary) >= KEYS
    return summary, out, err


def test_on_mit_bih_records_none_of_which_was_trained_on(tmp_path, mitdb_dir):
    summary, out, err = finish(start_demo(tmp_path, ECG_MITDB_DIR=str(mitdb_dir)), tmp_path)
    assert summary["data_source"] == "mitdb-local"
    assert (summary["recordings"], summary["blessed"]) == (6, True)
    # The six records have 13,195 reference beats.
    assert summary["windows"] + summary["unusable_windows"] == 13_195
    assert summary["roc_auc"] > 0.95
    assert summary["average_precision"] > 0.70
    assert summary["threshold"] == pytest.approx(1.5229, abs=1e-4)
    assert {"data", "ingest", "train", "score"} <= set(summary["seconds"])
    assert sum(summary["seconds"][stage] for stage in ("data", "ingest", "train", "score")) < 300
    assert set(summary["held_out"]) == {"100", "200"}
    card = json.loads(next(tmp_path.glob("build/demo/data/models/*/*/assets.extra/model_card.json")).read_text())
    assert not set(card["data"]["recordings"]["train"]) & {"100", "200"}
    assert "Ten most anomalous held-out beats" in out
    assert "Data: mitdb-local" in err
    assert "Traceback" not in err
    again, _, err = finish(start_demo(tmp_path, ECG_MITDB_DIR=str(mitdb_dir)), tmp_path)
    assert "0 recordings added, 6 unchanged" in err
    assert "Nothing has changed since model version" in err
    assert "Scored 0 of 0 new windows" in err
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in summary.items() if k != "seconds"}


def test_without_data_and_network_and_killed_while_it_trains(tmp_path):
    # A proxy that refuses every connection stands for a machine without network.
    offline = {"HTTPS_PROXY": "http://127.0.0.1:9", "ECG_TRAINING__EPOCHS": "2", "ECG_TRAINING__FILTERS": "[8, 16]"}
    demo = start_demo(tmp_path, **offline)
    assert demo.stderr is not None
    deadline = time.monotonic() + 300
    for line in demo.stderr:
        assert time.monotonic() < deadline
        if line.strip().startswith("Transform"):
            break
    time.sleep(2)  # the Trainer is at work
    assert demo.poll() is None
    os.killpg(demo.pid, signal.SIGKILL)
    demo.communicate()
    assert not list(tmp_path.glob("build/demo/data/models/*/*"))
    summary, _, err = finish(start_demo(tmp_path, **offline), tmp_path)
    assert summary["data_source"] == "simulator"
    assert "Data: simulator (ECG_MITDB_DIR is not set and" in err
    assert "0 recordings added, 6 unchanged" in err
    assert (summary["recordings"], summary["blessed"]) == (6, True)
    assert len(list(tmp_path.glob("build/demo/data/models/*/*/saved_model.pb"))) == 1
    assert sum(r["scored"] + r["unusable"] for r in summary["held_out"].values()) == sum(
        r["beats"] for r in summary["held_out"].values()
    )
