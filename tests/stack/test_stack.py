"""`make compose-test`: the stack of docker-compose.yml as it is installed, used, hurt, and started again.

The tests go in this order, on one stack. What a fault did goes to build/compose-test/faults.json.
"""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from load import offered
from stack import REPORT, Stack, run, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(1500)]

ENDED = ("migrate", "roles", "recordings", "bootstrap", "first-key")
DATABASES = ("warehouse", "results")
TEST_IMAGE = "ecg-pipeline-test"  # of `make test-reference`
ALLOWED_PER_S = 4  # as conftest.py sets it, requests a key
COLD_START_S = 10 * 60  # promised on 2 cores
OVERLOAD_S = float(os.environ.get("STACK_OVERLOAD_S", "20"))


def settled(stack: Stack) -> dict[str, int] | None:
    """The counts, when every window has been scored."""
    counts = stack.counts()
    return counts if counts["scored_windows"] == counts["windows"] > 0 else None


def ready(stack: Stack) -> bool:
    return stack.api.get("/health/ready").status_code == 200


def upload_state(stack: Stack, upload_id: str) -> dict[str, Any] | None:
    found = stack.api.get(f"/uploads/{upload_id}").json()
    return dict(found) if found["status"] in ("done", "failed") else None


def post_review(stack: Stack) -> int:
    """Reviews the most anomalous beat; the review's number, once it is acknowledged."""
    found = stack.api.get("/anomalies", params={"sort": "score", "page_size": 1}).json()["items"][0]
    said = {"anomaly_id": found["id"], "verdict": "confirm", "label": "V", "cause": "ectopy"}
    response = stack.api.post("/reviews", json=said)
    assert response.status_code == 201, response.text
    return int(response.json()["reviews"][0]["review_id"])


# --- it comes up -----------------------------------------------------------------------------------------------------


def test_every_service_is_healthy_or_has_done_its_work(stack: Stack) -> None:
    for service in stack.services():
        wanted = ("ended 0",) if service in ENDED else ("healthy", "running")
        wait_for(f"{service} is {wanted[0]}", lambda s=service, w=wanted: stack.state(s) in w, 600)


def test_from_nothing_to_results_within_ten_minutes(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n[compose-test] from `docker compose up` to results in /anomalies: {stack.cold_start_s:.0f} s")
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "cold_start.json").write_text(json.dumps({"seconds": round(stack.cold_start_s, 1)}) + "\n")
    assert stack.cold_start_s < COLD_START_S


def test_the_first_model_took_no_more_than_the_trainers_database_user(stack: Stack) -> None:
    given = {mount["Destination"] for mount in stack.inspect("bootstrap")["Mounts"]}
    secrets = {name.removeprefix("/run/secrets/") for name in given if name.startswith("/run/secrets/")}
    assert secrets == {"trainer_warehouse_url", "trainer_results_url"}
    for database in DATABASES:
        mighty = "rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication"
        assert stack.sql(database, f"SELECT rolname FROM pg_roles WHERE rolname LIKE 'ecg_%' AND ({mighty})") == ""
    assert stack.sql("results", "SELECT status FROM training_runs") == "pushed"


def test_anomalies_answers_with_results_of_the_first_model(stack: Stack) -> None:
    wait_for("the service is ready", lambda: ready(stack), 300)
    counts = wait_for("all windows are scored", lambda: settled(stack), 300)
    assert counts["recordings"] == 6
    assert counts["scores"] == counts["windows"]
    found = stack.api.get("/anomalies").json()["items"]
    assert found
    detail = stack.api.get(f"/anomalies/{found[0]['id']}").json()  # asks the model server, over REST
    assert detail["score"] >= detail["threshold"]
    page = stack.api.get("/ui", headers={"Accept": "text/html"}, follow_redirects=True)
    assert page.status_code == 200
    assert "<html" in page.text


def test_nobody_reads_anything_without_a_key(stack: Stack) -> None:
    bare = httpx.get(f"{stack.api.base_url}/anomalies")
    assert (bare.status_code, bare.json()["status"]) == (401, 401)


# --- it is closed ----------------------------------------------------------------------------------------------------


def test_containers_have_a_read_only_root_no_capabilities_and_limits(stack: Stack) -> None:
    for service in stack.services():
        container = stack.inspect(service)
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), service
        assert not host["Privileged"], service
        if service not in ENDED:
            assert host["Memory"] > 0, service
            assert host["RestartPolicy"]["Name"] == "unless-stopped", service
        if service not in DATABASES:  # whose entrypoint goes on as postgres
            assert not host["CapAdd"], service
        for bindings in (host["PortBindings"] or {}).values():
            assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}, service


@pytest.mark.parametrize("service", ["scorer", "api"])
def test_our_processes_are_not_root_and_can_write_nowhere_but_where_they_should(stack: Stack, service: str) -> None:
    code = "import os; print(os.getuid()); open('/app/x', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.compose("exec", "--no-TTY", service, "python", "-c", code)
    assert stack.compose("exec", "--no-TTY", service, "id", "-u").strip() == "10001"


def test_secrets_are_in_no_environment_and_in_no_log(stack: Stack) -> None:
    secrets = [
        stack.key.split("_")[2],
        *(run("cat", str(path)).strip() for path in stack.secret_files("password", "key")),
    ]
    for service in stack.services():
        told = json.dumps(stack.inspect(service)) + stack.compose("logs", "--no-color", service)
        assert not [secret for secret in secrets if secret in told], service


def test_with_a_gpu_the_model_servers_image_for_it_is_taken(stack: Stack) -> None:
    services = stack.compose("--profile", "gpu", "config", "--services").split()
    assert "serving-gpu" in services
    assert "serving" not in services


def test_without_secrets_nothing_starts(tmp_path: Any) -> None:
    (tmp_path / "env").write_text("")
    with pytest.raises(AssertionError, match=r"STACK_SECRETS.*make secrets"):
        run("docker", "compose", "--env-file", str(tmp_path / "env"), "config")


def test_each_process_is_a_database_user_of_its_own(stack: Stack) -> None:
    users = (
        "SELECT string_agg(DISTINCT usename, ' ' ORDER BY usename) FROM pg_stat_activity WHERE client_addr IS NOT NULL"
    )
    assert {"ecg_api", "ecg_monitor", "ecg_scorer"} <= set(stack.sql("results", users).split())
    for role, statement in (
        ("ecg_api", "INSERT INTO scores SELECT * FROM scores LIMIT 1"),
        ("ecg_scorer", "SELECT comment FROM reviews"),
        ("ecg_trainer", "SELECT comment FROM reviews"),
        ("ecg_trainer", "DELETE FROM scores"),
        ("ecg_exporter", "SELECT * FROM recording_summaries"),
    ):
        with pytest.raises(AssertionError, match="permission denied for table"):
            stack.sql("results", f"SET ROLE {role}; {statement}")


# --- images ----------------------------------------------------------------------------------------------------------


def test_the_image_of_the_api_has_no_tensorflow(stack: Stack) -> None:
    look = (
        "import importlib.util as u; print([n for n in ('tensorflow', 'tfx', 'apache_beam', 'grpc') if u.find_spec(n)])"
    )
    assert stack.compose("exec", "--no-TTY", "api", "python", "-c", look).strip() == "[]"
    image, base = json.loads(
        run("docker", "image", "inspect", stack.inspect("api")["Config"]["Image"], "python:3.13-slim-trixie")
    )
    assert image["Config"]["User"] == "ecg"
    assert image["Config"]["Healthcheck"]
    assert image["Size"] - base["Size"] < 260e6, "with the public base, of 118 MB, it is well under 400 MB"


# --- it is used ------------------------------------------------------------------------------------------------------


def test_an_upload_is_ingested_scored_and_reviewed(stack: Stack) -> None:
    before = stack.counts()
    upload_id = stack.upload()
    done = wait_for("the upload is ingested", lambda: upload_state(stack, upload_id), 180)
    assert (done["status"], done["problem"]) == ("done", None)
    after = wait_for("its windows are scored", lambda: settled(stack), 180)
    assert after["recordings"] == before["recordings"] + 1
    assert after["windows"] > before["windows"] + 40
    assert after["scores"] == after["windows"]
    recording = done["recordings"][0]["recording_id"]
    assert stack.api.get("/anomalies", params={"recording_id": recording}).json()["items"]
    post_review(stack)
    assert stack.counts()["reviews"] == before["reviews"] + 1


def test_the_clients_tests_pass_against_this_model_server(stack: Stack) -> None:
    """Those of tests/integration/test_model_server.py that need no faults, run in the reference image."""
    if subprocess.run(["docker", "image", "inspect", TEST_IMAGE], capture_output=True).returncode:
        pytest.skip(f"there is no image {TEST_IMAGE}: `make test-reference` builds it")
    version = stack.sql("results", "SELECT stable FROM releases ORDER BY release_id DESC LIMIT 1")
    printed = run(
        "docker", "run", "--rm", "--network", f"{stack.name}_model", "--volume", f"{stack.name}_models:/models:ro",
        TEST_IMAGE,
        "python", "-m", "pytest", "-q", "-m", "model_server", "tests/integration/test_model_server.py",
        "--model-server-grpc=grpc://serving:8500", "--model-server-rest=http://serving:8501",
        f"--model-server-model=/models/ecg_autoencoder/{version}", timeout_s=600,
    )  # fmt: skip
    assert " passed" in printed
    assert " failed" not in printed


# --- it is watched ---------------------------------------------------------------------------------------------------


def test_prometheus_reads_every_service(stack: Stack) -> None:
    prometheus = f"http://127.0.0.1:{stack.ports['PROMETHEUS']}/api/v1"

    def all_up() -> list[dict[str, Any]]:
        targets: list[dict[str, Any]] = httpx.get(f"{prometheus}/targets").json()["data"]["activeTargets"]
        down = [f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["health"] != "up"]
        assert not down
        return targets

    jobs = {target["labels"]["job"] for target in wait_for("every target is read", all_up, 180)}
    assert {"ecg-api", "ecg-scorer", "ecg-exporter", "ecg-model-server", "node", "postgres", "prometheus"} <= jobs
    rules = httpx.get(f"{prometheus}/rules").json()["data"]["groups"]
    assert rules
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
    for metric in (
        "ecg_api_requests_total",
        "ecg_windows_waiting",
        "pg_up",
        "node_load1",
        "ecg_scorer_windows_total",
    ):
        wait_for(f"{metric} is there", lambda m=metric: result(prometheus, m), 120)


def result(prometheus: str, query: str) -> list[Any]:
    found: list[Any] = httpx.get(f"{prometheus}/query", params={"query": query}).json()["data"]["result"]
    return found


def test_every_dashboard_query_is_answered(stack: Stack) -> None:
    grafana = f"http://127.0.0.1:{stack.ports['GRAFANA']}/api"
    assert httpx.get(f"{grafana}/health").status_code == 200
    found = httpx.get(f"{grafana}/check", timeout=120)
    if found.status_code != 200:
        pytest.skip("this is Grafana itself: only its stand-in on machines that can pull no image has /api/check")
    checked = found.json()
    assert checked["problems"] == []
    assert [row["expr"] for row in checked["queries"] if row["series"] is None] == []
    REPORT.mkdir(parents=True, exist_ok=True)
    (REPORT / "dashboards.json").write_text(json.dumps(checked["queries"], indent=1) + "\n")
    assert sum(row["series"] > 0 for row in checked["queries"]) > len(checked["queries"]) / 2


# --- it is hurt ------------------------------------------------------------------------------------------------------


def hurt(stack: Stack, fault: str, do: Any, undo: Any = None) -> None:
    """Posts a recording and a review, breaks something at once, and finds both again."""
    wait_for("the service is ready", lambda: ready(stack), 300)
    before = wait_for("nothing is left to do", lambda: settled(stack), 300)
    review = post_review(stack)
    upload_id = stack.upload()
    do()
    started = time.monotonic()
    if undo is not None:
        time.sleep(15)
        undo()
    wait_for(f"after {fault}, the service is ready", lambda: ready(stack), 300)
    done = wait_for(f"after {fault}, the upload is ingested", lambda: upload_state(stack, upload_id), 300)
    assert done["status"] == "done", done
    after = wait_for(f"after {fault}, its windows are scored", lambda: settled(stack), 300)
    seconds = time.monotonic() - started
    assert after["recordings"] == before["recordings"] + 1
    assert after["scores"] == after["windows"], "every window has one score"
    assert after["reviews"] == before["reviews"] + 1
    assert stack.sql("results", f"SELECT verdict FROM reviews WHERE review_id = {review}") == "confirm"
    write_down(fault, "1 recording, 1 review", before, after, seconds)


def write_down(fault: str, acknowledged: str, before: Any, after: Any, seconds: float, **more: Any) -> None:
    """Adds a fault to build/compose-test/faults.json."""
    REPORT.mkdir(parents=True, exist_ok=True)
    path = REPORT / "faults.json"
    faults = json.loads(path.read_text()) if path.exists() else []
    row = {"fault": fault, "acknowledged": acknowledged, "before": before, "after": after, "seconds": round(seconds, 1)}
    path.write_text(json.dumps([*faults, row | more], indent=2) + "\n")


@pytest.mark.parametrize("service", ["results", "warehouse", "scorer", "serving", "api", "ingester"])
def test_kill_9_loses_nothing_that_was_acknowledged(stack: Stack, service: str) -> None:
    restarts = stack.inspect(service)["RestartCount"]
    hurt(stack, f"kill -9 of {service}", lambda: stack.kill_9(service))
    assert stack.inspect(service)["RestartCount"] == restarts + 1


# A database that is cut off is so from all that use it: api, scorer, ingester, drift, exporters.
@pytest.mark.parametrize(
    ("service", "network"),
    [
        ("api", "data"), ("scorer", "data"), ("ingester", "data"), ("results", "data"), ("warehouse", "data"),
        ("api", "model"), ("scorer", "model"), ("serving", "model"),
    ],
)  # fmt: skip
def test_a_network_that_is_cut_for_a_while_loses_nothing(stack: Stack, service: str, network: str) -> None:
    hurt(
        stack, f"{service} cut from the network {network} for 15 s",
        lambda: stack.cut(service, network), lambda: stack.mend(service, network),
    )  # fmt: skip
    for one in stack.services():
        if one not in ENDED:
            wait_for(f"{one} is well again", lambda s=one: stack.state(s) in ("healthy", "running"), 120)


def test_a_trainer_that_is_killed_leaves_nothing_half_made(stack: Stack) -> None:
    versions = "SELECT count(*) FROM model_versions"
    listed = ("exec", "--no-TTY", "scorer", "find", "/data/models", "-maxdepth", "2")
    there = stack.sql("results", versions), sorted(stack.compose(*listed).split())
    name = f"{stack.name}-trainer"
    train = ("python", "-m", "pipelines.train", "--seed", "7")
    small = ("--env", "ECG_TRAINING__MAX_WINDOWS=1500")  # a split: it comes to the Trainer sooner
    stack.compose("run", "--detach", "--no-deps", *small, "--name", name, "retrainer", *train)

    def trains() -> bool:
        state = run("docker", "inspect", "--format", "{{.State.Status}}", name).strip()
        assert state == "running", run("docker", "logs", name)[-2000:]
        return "Transform" in run("sh", "-c", f"docker logs {name} 2>&1")  # a step is told when it has ended

    try:
        wait_for("it trains", trains, 600)
        hurt(stack, "kill -9 of a trainer", lambda: run("docker", "kill", "--signal", "KILL", name))
    finally:
        run("docker", "rm", "--force", name)
    assert (stack.sql("results", versions), sorted(stack.compose(*listed).split())) == there


def test_duplicates_and_what_comes_out_of_order_are_there_once(stack: Stack) -> None:
    before = wait_for("nothing is left to do", lambda: settled(stack), 300)
    started = time.monotonic()
    head = "# patient: compose-late\n# start_time: 2026-03-01T{}:00:00+00:00\n"
    late, early = (stack.recording(head=head.format(hour)) for hour in ("18", "06"))
    first = stack.upload(late, idempotency_key="the-same")
    assert stack.upload(late, idempotency_key="the-same") == first
    uploads = {first, stack.upload(late), stack.upload(early), stack.upload(late), stack.upload(early)}
    assert len(uploads) == 5
    for upload_id in uploads:
        done = wait_for("the upload is ingested", lambda u=upload_id: upload_state(stack, u), 180)
        assert done["status"] == "done", done
    after = wait_for("all is scored", lambda: settled(stack), 180)
    assert after["recordings"] == before["recordings"] + 2
    assert after["scores"] == after["windows"]
    assert 0 < after["windows"] - before["windows"] <= 120, "of 60 beats each"
    acknowledged = "6 uploads of 2 recordings, the later one first"
    write_down("duplicate and out-of-order delivery", acknowledged, before, after, time.monotonic() - started)


def test_a_corrupt_file_is_named_and_takes_nothing_with_it(stack: Stack) -> None:
    before = wait_for("nothing is left to do", lambda: settled(stack), 300)
    started = time.monotonic()
    good, cut = stack.recording(), b"0       " + b"X" * 400
    header = b"hurt 1 250 5000\nhurt.dat 16 200 16 0 0 0 0 II\n"  # promises 5000 samples
    upload_id = stack.upload(("cut.edf", cut), good, ("hurt.hea", header), ("hurt.dat", b"\1\2\3"))
    done = wait_for("the upload is looked at", lambda: upload_state(stack, upload_id), 180)
    assert done["status"] == "failed"
    assert "cut.edf" in done["problem"]
    assert "hurt" in done["problem"]
    assert [one["name"] for one in done["recordings"]] == [good[0].removesuffix(".csv")]
    after = wait_for("all is scored", lambda: settled(stack), 180)
    assert after["recordings"] == before["recordings"] + 1
    acknowledged = "1 upload: 1 recording, a cut EDF file, a WFDB record without its samples"
    write_down("a corrupt part of the input", acknowledged, before, after, time.monotonic() - started)


def test_ten_times_the_load_is_shed_and_nothing_is_lost(stack: Stack) -> None:
    """For 20 s; with STACK_OVERLOAD_S=300 in the environment for as long as docs/reliability.md says."""
    before = wait_for("nothing is left to do", lambda: settled(stack), 300)
    usual = offered(stack, per_second=ALLOWED_PER_S, seconds=5)
    assert set(usual.statuses) <= {200, 202}, usual.statuses
    found = offered(stack, per_second=10 * ALLOWED_PER_S, seconds=OVERLOAD_S)
    started = time.monotonic()
    assert set(found.statuses) <= {200, 202, 429, 503}, found.statuses
    assert found.statuses[429] + found.statuses[503] > 0, "it was no overload"
    assert found.without_retry_after == 0
    wait_for("it answers again", lambda: stack.api.get("/anomalies").status_code == 200, 120)
    for upload_id in found.uploads:
        done = wait_for("an upload is ingested", lambda u=upload_id: upload_state(stack, u), 600)
        assert done["status"] == "done", done
    after = wait_for("all is scored", lambda: settled(stack), 600)
    assert after["recordings"] == before["recordings"] + len(usual.uploads) + len(found.uploads)
    assert after["scores"] == after["windows"]
    assert {stack.state(service) for service in ("api", "scorer", "serving")} == {"healthy"}
    write_down(
        f"10 times the load for {OVERLOAD_S:.0f} s", f"{len(found.uploads)} recordings", before, after,
        time.monotonic() - started, usual=vars(usual), overload=vars(found),
    )  # fmt: skip


def test_while_a_database_is_away_the_service_says_so(stack: Stack) -> None:
    stack.compose("stop", "--timeout", "20", "results")
    try:
        response = wait_for(
            "listings are refused", lambda: (r := stack.api.get("/anomalies")).status_code == 503 and r, 60
        )
        assert response.headers["Retry-After"]
        assert "password" not in response.text
        assert stack.api.get("/health/live").status_code == 200
    finally:
        stack.compose("start", "results")
    wait_for("the service is ready again", lambda: ready(stack), 180)


# --- it starts again -------------------------------------------------------------------------------------------------


def state_of(stack: Stack) -> tuple[Any, ...]:
    """What a stack that was started again must have: counts, models, the first page of anomalies."""
    wait_for("the service is ready", lambda: ready(stack), 300)
    return stack.counts(), stack.api.get("/models").json(), stack.api.get("/anomalies").json()["items"]


def test_after_it_was_taken_down_everything_is_there_again(stack: Stack) -> None:
    before = wait_for("nothing is left to do", lambda: settled(stack), 300) and state_of(stack)
    stack.down(with_data=False)
    started = time.monotonic()
    stack.up(600, "--scale", "scorer=2")
    after = state_of(stack)
    assert after == before
    write_down("docker compose down, then up", "all", before[0], after[0], time.monotonic() - started)


def test_two_scorers_share_the_queue_and_score_nothing_twice(stack: Stack) -> None:
    read = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9101/metrics').read().decode())"

    def scored_by(scorer: str) -> float:
        lines = stack.compose("exec", "--no-TTY", "--index", scorer, "scorer", "python", "-c", read).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("ecg_scorer_windows_total{"))

    before = wait_for("nothing is left to do", lambda: settled(stack), 300)
    earlier = wait_for("both scorers are there", lambda: [scored_by(scorer) for scorer in "12"], 180)
    for upload_id in [stack.upload() for _ in range(8)]:
        wait_for("the upload is ingested", lambda u=upload_id: upload_state(stack, u), 180)
    after = wait_for("all is scored", lambda: settled(stack), 180)
    new = after["windows"] - before["windows"]
    assert after["recordings"] == before["recordings"] + 8
    assert after["scores"] == after["windows"]
    assert sum(scored_by(scorer) for scorer in "12") - sum(earlier) == new


def test_a_backup_goes_into_a_stack_that_has_nothing(stack: Stack, tmp_path: Path) -> None:
    """By the words of docs/operations.md; the secrets stay, everything else goes."""
    before = wait_for("nothing is left to do", lambda: settled(stack), 300) and state_of(stack)
    kept = tmp_path / "backups.tar"
    stack.command("python", "-m", "warehouse.backup", "/backups")
    stack.command("tar", "-C", "/backups", "-c", ".", redirect=f"> {kept}")
    stack.down(with_data=True)
    started = time.monotonic()
    stack.compose("up", "--detach", "--wait", "--no-build", *DATABASES, timeout_s=300)
    stack.command("tar", "-C", "/backups", "-x", redirect=f"< {kept}")
    (made,) = [name for name in stack.command("ls", "/backups").split() if name.endswith("Z")]
    stack.command("python", "-m", "warehouse.restore", f"/backups/{made}")
    stack.up(600)
    after = state_of(stack)
    assert after == before
    assert "each of which follows from the one before" in stack.command(
        "python", "-m", "warehouse.audit", "verify", redirect="2>&1"
    )
    write_down("all volumes lost", "all before the backup", before[0], after[0], time.monotonic() - started)


def test_sigterm_ends_our_processes_with_0(stack: Stack) -> None:
    for service in ("api", "scorer"):  # a process that is still loading has nothing to finish, and just ends
        wait_for(f"{service} is healthy", lambda s=service: stack.state(s) == "healthy", 300)
    stack.compose("stop", "--timeout", "60", "api", "scorer")
    assert [stack.state(service) for service in ("api", "scorer")] == ["ended 0", "ended 0"]
