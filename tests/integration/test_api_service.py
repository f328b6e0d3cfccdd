"""Recordings, models, health, metrics and the command, over real PostgreSQL and a real socket."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa
from api_world import (
    ROOT,
    START,
    THRESHOLD,
    HalvingModel,
    Scored,
    World,
    check_problem,
    doc_examples,
    items,
    run_examples,
    serving,
    serving_uploads,
    until,
)

from api.server import listen
from configs.settings import load_settings
from serving.model_client import ModelClient
from warehouse.store import Stores
from warehouse.store.records import ModelVersion
from warehouse.store.results import Results

pytestmark = pytest.mark.integration


def test_model_that_still_loads_or_cannot_be_loaded(world: World, scored: Scored) -> None:
    may_load, broken = threading.Event(), threading.Event()

    def load(model: ModelVersion) -> ModelClient:
        may_load.wait(10)
        if broken.is_set():
            raise RuntimeError("no such file")
        return HalvingModel(model.model_version)

    url = f"/anomalies/{scored.expected[0]['id']}"
    with serving(world.stores, world.clock, load) as client:
        assert client.get("/anomalies").status_code == 200  # listing needs no model
        for path, slug in ((url, "model-unavailable"), ("/health/ready", "not-ready")):
            response = client.get(path)
            assert "is still loading" in check_problem(response, 503, slug)["detail"]
            assert response.headers["retry-after"] == "5"
        broken.set()
        may_load.set()
        until(lambda: "cannot be loaded" in client.get("/health/ready").text)
        assert "no such file" not in client.get(url).text


def test_recordings_page_by_page(client: httpx.Client, world: World) -> None:
    for number in range(3):
        world.add_recording("same name", 2, START + timedelta(days=number), source=f"source {number}")
    newest = world.add_recording("same name", 3, START + timedelta(days=2), source="source 2")  # replaces the third
    found = items(client, "/recordings", name="same name", page_size=2)
    assert [one["start_time"] for one in found] == [f"2026-0{m}T08:00:00Z" for m in ("1-31", "2-01", "2-02")]
    assert (found[-1]["recording_id"], found[-1]["version"]) == (newest.recording_id, 2)
    everything = [one["recording_id"] for one in items(client, "/recordings", page_size=3)]
    assert everything == sorted(set(everything))
    assert len(everything) >= 3
    token = client.get("/recordings", params={"name": "same name", "page_size": 1}).json()["next_page_token"]
    check_problem(client.get("/recordings", params={"name": "200", "page_token": token}), 422, "invalid-request")


def test_one_recording(client: httpx.Client, scored: Scored) -> None:
    (listed,) = items(client, "/recordings", name="200")
    detail = client.get(f"/recordings/{listed['recording_id']}").json()
    assert {key: detail[key] for key in listed} == listed
    assert (detail["pseudonym"], detail["sex"], detail["age_band"]) == ("pseudonym", "male", "65-79")
    assert (detail["sampling_rate_hz"], detail["leads"], detail["duration_s"]) == (360.0, ["MLII", "V1"], 97.6)
    (window_set,) = detail["window_sets"]
    assert (window_set["n_windows"], window_set["n_rejected"], window_set["lead_slots"]) == (120, 1, ["MLII", "V1"])
    assert window_set["windowed_s"] + window_set["unusable_s"] == pytest.approx(97.6)
    assert [(s["start_s"], s["end_s"], s["lead"], s["reason"]) for s in detail["unusable_spans"]] == [
        (0.0, 0.5, None, "edge"),
        (2.0, 3.0, "V1", "noise"),
    ]
    (summary,) = detail["summaries"]
    assert (summary["model_version"], summary["scored"], summary["anomalous"]) == (scored.model_version, 120, 60)
    assert (summary["episodes"], summary["burden_percent"], summary["mean_heart_rate_bpm"]) == (4, 50.0, 75.0)


def test_models_newest_first(client: httpx.Client, world: World) -> None:
    world.add_model()
    newest = world.add_model()
    found = items_of(client.get("/models"))
    versions = [one["model_version"] for one in found]
    assert versions == sorted(versions, reverse=True)
    assert versions[0] == newest
    assert found[0] == client.get(f"/models/{newest}").json()
    assert (found[0]["name"], found[0]["threshold"], found[0]["data_span"]) == ("ecg_autoencoder", THRESHOLD, 1)
    assert found[0]["card"] == {"metrics": {"roc_auc": 0.97}}


def items_of(response: httpx.Response) -> list[dict[str, Any]]:
    return list(response.json()["items"])


def test_ready(client: httpx.Client, scored: Scored) -> None:
    until(lambda: client.get("/health/ready").status_code == 200)
    body = client.get("/health/ready").json()
    assert body["status"] == "ready"
    assert {name: part["state"] for name, part in body["parts"].items()} == {
        "warehouse": "ok", "results": "ok", "model": "ok",
    }  # fmt: skip


def test_not_ready_when_a_database_goes_away(world: World, scored: Scored) -> None:
    closed = sa.make_url(world.stores.results.url).set(host="127.0.0.1", port=1, query={})
    gone = Results.open(closed.render_as_string(hide_password=False))
    with serving(Stores(world.stores.warehouse, gone), world.clock) as client:
        response = client.get("/health/ready")
        parts = check_problem(response, 503, "not-ready")["parts"]
        assert {name: part["state"] for name, part in parts.items()} == {
            "warehouse": "ok", "results": "missing", "model": "missing",
        }  # fmt: skip
        assert response.headers["retry-after"] == "5"
        check_problem(client.get("/anomalies"), 503, "database-unavailable")
        check_problem(client.get("/recordings"), 503, "database-unavailable")  # nobody can be told from anybody
        assert client.get("/health/live").status_code == 200


def test_metrics_after_requests(world: World, scored: Scored) -> None:
    with serving(world.stores, world.clock) as client:
        for _ in range(3):
            client.get("/anomalies", params={"recording": "200"})
        client.get("/anomalies", params={"min_score": "nan"})
        client.get(f"/anomalies/{scored.expected[0]['id']}")
        client.get("/recordings/999999")
        client.get("/nowhere/200")
        response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    for line in (
        'ecg_api_requests_total{method="GET",route="/anomalies",status="2xx"} 3.0',
        'ecg_api_requests_total{method="GET",route="/anomalies",status="4xx"} 1.0',
        'ecg_api_requests_total{method="GET",route="/anomalies/{anomaly_id}",status="2xx"} 1.0',
        'ecg_api_requests_total{method="GET",route="/recordings/{recording_id}",status="4xx"} 1.0',
        'ecg_api_requests_total{method="GET",route="unmatched",status="4xx"} 1.0',
        'ecg_api_request_duration_seconds_count{method="GET",route="/anomalies",status="2xx"} 3.0',
        "ecg_api_requests_in_progress 1.0",  # this one
    ):
        assert line in lines
    assert "200" not in "".join(line.split("}")[0] for line in lines if "{" in line and "le=" not in line)
    assert any(line.startswith("ecg_build_info{") for line in lines)


def test_many_requests_at_once(client: httpx.Client, scored: Scored) -> None:
    statuses: list[int] = []

    def ask(number: int) -> None:
        one = scored.expected[number % len(scored.expected)]
        for url in (f"/anomalies/{one['id']}", f"/anomalies?model_version={scored.model_version}"):
            statuses.append(client.get(url).status_code)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 120


@pytest.mark.skipif(not shutil.which("curl"), reason="the examples call curl, which is not installed")
def test_examples_of_the_docs(world: World, scored: Scored, tmp_path: Path) -> None:
    version, window_set = world.add_model(), world.add_recording("docs", 3)
    world.add_scores(version, window_set, np.full(3, 2, np.float32))
    world.stores.results.summarise(version, window_set, 75.0, gap_beats=1)
    world.clock.now += timedelta(minutes=1)
    shell = [block for block in doc_examples() if "$ECG_KEY" not in block]  # that one is test_api_access.py's
    settings = load_settings(overrides={"data_dir": tmp_path, "pseudonym_key": "a key"})
    with serving_uploads(world, settings) as client:
        answered = run_examples(shell, client, tmp_path)
    expected = {
        "/session": ("200", "204"), "/recordings": ("200", "202"), "/reviews": ("200", "201"),
        "/retraining/alerts": ("202",),
    }  # fmt: skip
    for status, url in answered:
        path = httpx.URL(url).path
        allowed = ("201",) if path.endswith("/undo") else expected.get(path, ("200",))
        assert status in (("422",) if "min_score=nan" in url else allowed), f"{status} {url}"
    assert len(answered) == sum(block.count("curl -s") for block in shell)
    rows = world.stores.warehouse.recordings(name="example")
    assert [round(row["duration_s"]) for row in rows] == [30]


def test_command_serves_until_sigterm(world: World, scored: Scored, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    urls = {"ECG_WAREHOUSE_URL": world.stores.warehouse.url, "ECG_RESULTS_URL": world.stores.results.url}
    environment = {**os.environ, **urls, "ECG_DATA_DIR": str(tmp_path), "ECG_LOG_LEVEL": "INFO"}
    command = [sys.executable, "-m", "api", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                until(lambda: _answers(client), timeout_s=60)
                found = items(client, "/anomalies", model_version=scored.model_version)
                # No model was ever saved: what needs it says so, and the rest works.
                until(lambda: "cannot be loaded" in client.get("/health/ready").text)
        finally:
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert len(found) == len(scored.expected)
    first, *lines, last = stderr.splitlines()
    assert first.startswith(f"http://127.0.0.1:{port} - ")
    assert last.startswith("stopping")
    logged = [json.loads(line) for line in lines]
    assert {"request", "model_load_failed"} <= {line["event"] for line in logged}


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False
