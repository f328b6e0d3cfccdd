"""Alertmanager's webhook, the listing of attempts, and their figures, over real PostgreSQL and a real socket."""

from collections.abc import Iterator

import httpx
import pytest
from api_world import World, serving

from configs.errors import ConflictError
from configs.settings import load_settings
from monitoring.figures import FigureContext
from monitoring.figures.retraining import figures

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[httpx.Client]:
    world.add_model()
    with serving(world.stores, world.clock) as client:
        yield client


def message(group: str, status: str = "firing") -> dict[str, object]:
    """As Alertmanager sends one."""
    alert = {
        "status": status, "labels": {"alertname": "EcgDriftGradual", "site": "main"},
        "annotations": {"summary": "Input drift on device H12", "runbook_url": "https://example/runbook"},
        "startsAt": "2026-03-01T10:00:00.123Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p/graph",
        "fingerprint": "a1b2",
    }  # fmt: skip
    return {
        "version": "4", "groupKey": group, "truncatedAlerts": 0, "status": status, "receiver": "retrain",
        "groupLabels": {"alertname": "EcgDriftGradual"}, "commonLabels": {"site": "main"}, "commonAnnotations": {},
        "externalURL": "http://alertmanager", "alerts": [alert],
    }  # fmt: skip


def values(world: World) -> dict[tuple[str, ...], float]:
    context = FigureContext.read(world.stores, load_settings())
    return {
        (sample.name, *sample.labels.values()): sample.value for family in figures(context) for sample in family.samples
    }


def test_alerts_become_one_request_a_group_until_an_attempt_takes_it_up(client: httpx.Client, world: World) -> None:
    first = client.post("/retraining/alerts", json=message("a"))
    assert first.status_code == 202, first.text
    request = first.json()["request"]
    assert request["reason"] == "alert EcgDriftGradual: Input drift on device H12"
    assert (request["requested_by"], request["retraining_id"]) == ("local", None)
    again = client.post("/retraining/alerts", json=message("a"))
    assert (again.status_code, again.json()["created"]) == (200, False)
    assert again.json()["request"]["request_id"] == request["request_id"]
    assert client.post("/retraining/alerts", json=message("b")).status_code == 202
    resolved = client.post("/retraining/alerts", json=message("c", "resolved"))
    assert (resolved.status_code, resolved.json()["request"]) == (200, None)
    assert len(client.get("/retraining").json()["requests"]) == 2
    assert values(world)["ecg_retraining_requests_open",] == 2

    results = world.stores.results
    number = results.start_retraining(1, [{"trigger": "request", "reason": "alert", "numbers": {}}])
    results.take_retraining_requests([request["request_id"]], number)
    assert [one["detail"]["labels"] for one in client.get("/retraining").json()["requests"]] == [{"site": "main"}]
    assert client.post("/retraining/alerts", json=message("a")).status_code == 202  # it still fires: a new request
    results.finish_retraining(number, "not_better", "no gain")


def test_attempts_are_listed_with_steps_and_measured(client: httpx.Client, world: World) -> None:
    results = world.stores.results
    number = results.start_retraining(1, [{"trigger": "drift", "reason": "noise", "numbers": {"findings": 2}}])
    part = {"normal": 90, "anomalous": 10, "champion": {"recall": 0.5}, "challenger": {"recall": 0.75}}
    results.add_retraining_step(number, "policy", passed=True, reason="noise", numbers={})
    results.add_retraining_step(number, "train", passed=True, reason="pushed", numbers={"model_version": 2})
    results.add_retraining_step(number, "evaluate", passed=False, reason="no gain", numbers={"new": part})
    results.finish_retraining(number, "not_better", "no gain", 2)
    newest = client.get("/retraining", params={"limit": 1}).json()["items"][0]
    assert (newest["status"], newest["champion"], newest["model_version"]) == ("not_better", 1, 2)
    assert [(step["step"], step["passed"]) for step in newest["steps"]] == [
        ("policy", True), ("train", True), ("evaluate", False),
    ]  # fmt: skip
    assert newest["steps"][0]["at"].endswith("Z")
    found = values(world)
    assert found["ecg_retrainings", "not_better"] == 2
    assert found["ecg_retrainings", "in_shadow"] == 0
    assert found["ecg_retraining_last_trigger", "drift"] == 1
    assert found["ecg_retraining_last_step_passed", "evaluate"] == 0
    assert found["ecg_retraining_slice_metric", "new", "challenger", "recall"] == 0.75
    assert found["ecg_retraining_slice_beats", "new", "normal"] == 90
    assert len(results.retrainings_that_trained(world.clock.now.replace(year=2000))) == 1


def test_only_one_attempt_at_a_time(world: World) -> None:
    results = world.stores.results
    with results.retraining_alone(), pytest.raises(ConflictError), results.retraining_alone():
        pass
    with results.retraining_alone():
        pass


@pytest.mark.parametrize(
    ("change", "field"), [({"groupKey": ""}, "groupKey"), ({"status": "odd"}, "status"), ({"alerts": {}}, "alerts")]
)
def test_what_is_no_message_is_refused(client: httpx.Client, change: dict[str, object], field: str) -> None:
    answer = client.post("/retraining/alerts", json={**message("d"), **change})
    assert answer.status_code == 422
    assert field in answer.text
