"""The services under a real Prometheus and Alertmanager: every dashboard query finds data, a cause rings once."""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import yaml
from conftest import PROJECT
from release_world import ReleaseWorld

from warehouse.store import tables as t
from warehouse.store.records import Beat, Opinion

pytestmark = pytest.mark.integration

MONITORING = PROJECT / "monitoring"


def program(*names):
    """Where one of these programs is; Debian and upstream call them differently."""
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"needs {names[0]}: install Debian's prometheus and prometheus-alertmanager")
    return found


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(condition, what, timeout_s=90, processes=()):
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if found := condition():
                return found
        except httpx.TransportError:
            pass
        for process in processes:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


@pytest.fixture
def start(tmp_path):
    """Starts a program of another project, which is ended after the test."""
    started = []

    def run(*command):
        with (tmp_path / f"{len(started)}.log").open("wb") as log:
            started.append(subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log))
        return started[-1]

    yield run
    for process in started:
        process.terminate()
        process.wait(20)


# --- dashboards ------------------------------------------------------------------------------------------------------


def prometheus_config(ports, tmp_path):
    """The project's own configuration, with this machine's addresses and a scrape every second; of others, nothing."""
    config = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(MONITORING / "prometheus" / "rules" / "*.yml")]
    del config["alerting"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert ports.keys() <= jobs.keys()
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in ports.items()
    ]
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def _review(world, window_set):
    """Some flagged beats confirmed and rejected, some of the random sample passed, a second after one another."""
    first, _ = window_set.id_range(0, window_set.n_beats)
    for i in range(12):
        beat = [Beat(first + i, window_set.recording_id, 2.0, True)]
        opinion = Opinion("ann", "reviewer", 1, "confirm" if i % 3 else "reject", sampled=i >= 9)
        world.stores.results.add_reviews("main", beat, opinion)


@pytest.fixture
def services(new_stores, tmp_path, start_cli):
    """API, scorer, exporter and drift monitor, over what is scored and reviewed; gives their ports."""
    world = ReleaseWorld(new_stores(), tmp_path / "data")
    world.push(1, scale=0.08)
    _complete_card(world)
    ports = {job: free_port() for job in ("ecg-api", "ecg-scorer", "ecg-exporter", "ecg-drift")}
    env = {
        **world.env, "ECG_MONITORING__SCORER_PORT": str(ports["ecg-scorer"]), "ECG_MONITORING__CACHE_S": "1",
        "ECG_MONITORING__EXPORTER_PORT": str(ports["ecg-exporter"]),
        "ECG_MONITORING__DRIFT_PORT": str(ports["ecg-drift"]),
    }  # fmt: skip
    processes = [
        start_cli("api", "--port", ports["ecg-api"], env=env),
        start_cli("pipelines.score", "--watch", env=env),
        start_cli("monitoring.exporter", env=env),
    ]
    window_sets = [world.add("first", 60), world.add("second", 100)]
    until(lambda: len(world.stores.results.finished_window_sets(1)) == 2, "the scorer scores", processes=processes)
    _unflag_some(world, window_sets[0])
    _review(world, window_sets[0])
    processes.append(start_cli("monitoring.drift", "--watch", env=env))
    until(world.stores.results.latest_drift_runs, "live windows are compared", processes=processes)
    with httpx.Client(base_url=f"http://127.0.0.1:{ports['ecg-api']}", timeout=60) as api:
        until(lambda: api.get("/health/ready").status_code == 200, "the API is ready", processes=processes)
        found = api.get("/anomalies").json()["items"]
        assert api.get(f"/anomalies/{found[0]['id']}").status_code == 200, "the model explains"
    return ports


@pytest.fixture
def ask(services, tmp_path, start):
    """Asks a Prometheus that has scraped the services some times."""
    at = free_port()
    start(
        program("prometheus"), f"--config.file={prometheus_config(services, tmp_path)}",
        f"--web.listen-address=127.0.0.1:{at}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
    )  # fmt: skip

    def get(path, **parameters):
        answer = httpx.get(f"http://127.0.0.1:{at}/api/v1/{path}", params=parameters, timeout=60).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    ready = f"http://127.0.0.1:{at}/-/ready"  # until then it answers 503, in words
    until(lambda: httpx.get(ready).status_code == 200, "Prometheus is ready")
    up = "sum(up) == 4 and min(count_over_time(up[1m])) >= 4"
    until(lambda: get("query", query=up)["result"], "all four are scraped, some times")
    return get


def test_every_query_of_every_dashboard_finds_series(ask, services):
    empty = []
    for file in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$__rate_interval", "20s")
                query = re.sub(r"\$(site|model_version)", ".*", query)
                assert "$" not in query
                if not _found(ask, query):
                    empty.append(f"{board['uid']}: {panel['title']}: {query}")
    assert not empty, "\n".join(empty)
    _names_and_units(ask("metadata"))
    _fifty_clients(services)
    with httpx.Client(base_url=f"http://127.0.0.1:{services['ecg-api']}") as api:
        assert api.get("/runbooks").status_code == 200
        assert api.get("/runbooks/EcgScoringStale").text.startswith("# EcgScoringStale\n")
        assert api.get("/runbooks/EcgNothing").status_code == 404


def _names_and_units(metadata):
    """Prometheus' conventions: only counters end in _total (OpenMetrics: without it), base units, help texts."""
    documented = (PROJECT / "docs" / "monitoring.md").read_text("utf-8")
    ours = {name: one[0] for name, one in metadata.items() if name.startswith("ecg_")}
    assert len(ours) > 80
    missing = sorted(name for name in ours if f"`{name}" not in documented)
    assert not missing, f"docs/monitoring.md does not know {', '.join(missing)}"
    for name, one in ours.items():
        assert one["help"], name
        assert one["type"] == "counter" or not name.endswith("_total"), name
        assert not re.search(r"_(ms|minutes|hours|percent|kb|mb)$", name), f"{name}: base units"


def _found(ask, query):
    """A query's series; a rate needs a second scrape of what is new."""
    deadline = time.monotonic() + 10
    while not (series := ask("query", query=query)["result"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    return series


def _fifty_clients(ports):
    """All at once, at each process: everybody is answered."""
    for port in ports.values():
        with ThreadPoolExecutor(50) as clients:
            answers = list(
                clients.map(lambda _, p=port: httpx.get(f"http://127.0.0.1:{p}/metrics", timeout=60), range(50))
            )
        assert {answer.status_code for answer in answers} == {200}
        assert all("ecg_build_info" in answer.text for answer in answers)


def _complete_card(world):
    """What training writes into the card, beside what `ReleaseWorld` does."""
    (model,) = world.stores.results.models(1)
    row = {name: value for name, value in vars(model).items() if name != "registered_at"}
    card = {**model.card, "model": {"parameters": 1234, "flops_per_window": 5678}}
    world.stores.results.register_model({**row, "card": card})


def _unflag_some(world, window_set):
    """The model of this test flags all beats alike: some unflagged ones are needed for recall."""
    first, stop = window_set.id_range(9, window_set.n_beats)
    with world.stores.results.transaction() as connection:
        connection.execute(t.anomalies.delete().where(t.anomalies.c.window_id.between(first, stop - 1)))
        within = t.scores.c.window_id.between(first, stop - 1)
        connection.execute(t.scores.update().where(within).values(verdict=False, score=0.5))


# --- alerts ----------------------------------------------------------------------------------------------------------


class Receiver:
    """A webhook that keeps which alerts each message was about."""

    def __init__(self):
        self.messages = messages = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages.append([alert["labels"]["alertname"] for alert in body["alerts"]])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def test_a_cause_rings_once(tmp_path, start, receiver):
    alertmanager = program("prometheus-alertmanager", "alertmanager")
    config = yaml.safe_load((MONITORING / "alertmanager" / "alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    for one in config["receivers"]:
        one["webhook_configs"] = [{"url": receiver.url}]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    port = free_port()
    start(
        alertmanager, f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
        f"--storage.path={tmp_path / 'alerts'}",
    )  # fmt: skip
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
    until(lambda: client.get("/-/ready").status_code == 200, "Alertmanager is ready")
    rules = yaml.safe_load((MONITORING / "prometheus" / "rules" / "ecg.yml").read_text())
    labels = {rule["alert"]: rule["labels"] for group in rules["groups"] for rule in group["rules"]}

    def ring(*names, **more):
        now = datetime.now(UTC)
        alerts = [
            {
                "labels": {"alertname": name, **labels[name], **more},
                "startsAt": now.isoformat(), "endsAt": (now + timedelta(minutes=5)).isoformat(),
            }
            for name in names
        ]  # fmt: skip
        assert client.post("/api/v2/alerts", json=alerts).status_code == 200

    ring("EcgModelServerDown", "EcgScoringStale", "EcgErrorRatioHigh", "EcgLatencyHigh")
    ring("EcgDriftSudden", "EcgDriftGradual", "EcgPrecisionFalling", "EcgAlarmFatigue", site="main")
    ring("EcgDriftGradual", site="other")
    until(lambda: len(receiver.messages) >= 3, "three causes", 20)
    time.sleep(3)  # what would follow had time to
    assert sorted(receiver.messages) == [["EcgDriftGradual"], ["EcgDriftSudden"], ["EcgModelServerDown"]]
    muted = client.get("/api/v2/alerts", params={"inhibited": "true", "active": "false"}).json()
    assert len(muted) == 6
