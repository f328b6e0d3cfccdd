"""What the service puts on record: every read of a strip and every administrator's act, before it answers."""

import importlib
import pkgutil
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from api_world import Scored, World, check_problem, serving
from fastapi.routing import APIRoute

from api import audit, keys, ui
from api import routes as routes_of_api
from api.access import SCOPES_OF_ROLE, new_key
from api.ui import audited
from warehouse.audit import verify
from warehouse.store.erasure_queries import subject_digest

pytestmark = pytest.mark.integration

ON_RECORD = {
    "GET /anomalies/{anomaly_id}", "GET /windows/{window_id}", "GET /recordings/{recording_id}/signal",
    "GET /exports/anomalies", "GET /exports/reviews", "GET /exports/episodes/{episode_id}/fhir",
    "GET /ui", "GET /ui/anomalies/{anomaly_id}", "GET /ui/recordings/{recording_id}",
    "GET /ui/recordings/{recording_id}/timeline", "GET /ui/recordings/{recording_id}/strip",
    "GET /ui/recordings/{recording_id}/report", "GET /ui/recordings/{recording_id}/report.pdf",
}  # fmt: skip
OF_ADMINS = {
    "POST /reviews", "POST /reviews/{review_id}/undo", "POST /recordings", "POST /ui/anomalies/{anomaly_id}/review",
    "POST /ui/reviews/{review_id}/undo",
}  # fmt: skip


@pytest.fixture(scope="module")
def client(world: World, scored: Scored) -> Iterator[httpx.Client]:
    with serving(world.stores, world.clock) as client:
        yield client


def headers(world: World, role: str, name: str) -> dict[str, str]:
    key = new_key()
    world.stores.results.add_key(
        {"key_id": key.key_id, "secret_sha256": key.secret_sha256, "name": name, "role": role, "site": "main",
         "scopes": list(SCOPES_OF_ROLE[role]), "expires_at": world.clock() + timedelta(days=1)}
    )  # fmt: skip
    return {"Authorization": f"Bearer {key.text}"}


def acts_of(world: World, actor: str) -> list[tuple[Any, ...]]:
    shown = ("role", "site", "action", "subject", "detail")
    return [tuple(act[name] for name in shown) for act in world.stores.results.acts(equal={"actor": actor})]


def dependencies_of(route: APIRoute) -> set[Any]:
    return {dependency.dependency for dependency in route.dependencies}


def test_what_reads_a_strip_is_on_record_and_listings_are_not() -> None:
    modules = [importlib.import_module(f"{package.__name__}.{found.name}") for package in (routes_of_api, ui)
               for found in pkgutil.iter_modules(package.__path__)]  # fmt: skip
    routers = [module.router for module in modules if hasattr(module, "router")]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    names = {f"{method} {route.path}": dependencies_of(route) for route in routes for method in route.methods}
    reads = {audit.READS_STRIP.dependency, audit.EXPORTS.dependency, audited.READS_STRIP.dependency}
    admins = {audit.ADMIN_REVIEWS.dependency, audit.ADMIN_UPLOADS.dependency, audited.ADMIN_REVIEWS.dependency}
    assert {name for name, used in names.items() if used & reads} == ON_RECORD
    assert {name for name, used in names.items() if used & admins} == OF_ADMINS


def test_reads_are_on_record_with_who_and_what(world: World, scored: Scored, client: httpx.Client) -> None:
    vera = headers(world, "viewer", "vera")
    anomaly = scored.expected[0]["id"]
    window = anomaly.split("-")[1]
    paths = [f"/anomalies/{anomaly}", f"/windows/{window}", "/recordings/1/signal?start_s=1&end_s=2", "/ui",
             f"/ui/anomalies/{anomaly}", "/ui/recordings/1/strip?at_s=5", "/recordings/1/report.pdf",
             "/ui/recordings/1/report.pdf", "/exports/anomalies?format=csv&patient=pseudonym"]  # fmt: skip
    for path in ("/anomalies", "/recordings", "/recordings/1", "/reviews", "/models", "/health/ready"):
        assert client.get(path, headers=vera).status_code == 200
    assert acts_of(world, "vera") == []
    answers = [client.get(path, headers=vera).status_code for path in paths]
    assert answers == [200] * 6 + [404] + [200] * 2
    of_pseudonym = subject_digest("main", "pseudonym")
    assert acts_of(world, "vera") == [
        ("viewer", "main", "export" if "exports" in path else "read", path.partition("?")[0],
         path.partition("?")[2].replace("=pseudonym", f"={of_pseudonym}"))
        for path in paths if path != "/recordings/1/report.pdf"
    ]  # fmt: skip
    assert client.get("/windows/77", headers=vera).status_code == 404  # what was tried is on record too
    assert acts_of(world, "vera")[-1][3] == "/windows/77"
    device = headers(world, "device", "holter 7")
    check_problem(client.get(f"/windows/{window}", headers=device), 403, "forbidden")
    assert acts_of(world, "holter 7") == []


def test_reviews_are_on_record_when_an_administrator_gives_them(
    world: World, scored: Scored, client: httpx.Client
) -> None:
    body = {"anomaly_id": scored.expected[0]["id"], "verdict": "confirm"}
    for role, name in (("reviewer", "rita"), ("admin", "adam")):
        assert client.post("/reviews", json=body, headers=headers(world, role, name)).status_code == 201
    assert acts_of(world, "rita") == []
    assert acts_of(world, "adam") == [("admin", "main", "review", "/reviews", "")]


def test_who_read_at_the_same_time_are_all_in_the_chain(world: World, scored: Scored, client: httpx.Client) -> None:
    many = headers(world, "viewer", "many")
    window = scored.expected[0]["id"].split("-")[1]

    def read() -> None:
        for _ in range(10):
            assert client.get(f"/windows/{window}", headers=many).status_code == 200

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(acts_of(world, "many")) == 80
    assert verify(world.stores.results.all_acts()).faults == ()


def test_what_cannot_be_put_on_record_is_not_answered(world: World, scored: Scored, client: httpx.Client) -> None:
    otto = headers(world, "viewer", "otto")
    window = scored.expected[0]["id"].split("-")[1]
    with world.stores.results.transaction() as connection:
        connection.execute(
            sa.text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN RAISE insufficient_privilege; END'; CREATE TRIGGER refuse BEFORE INSERT ON audit_log "
                "FOR EACH ROW WHEN (NEW.actor = 'otto') EXECUTE FUNCTION refuse()"
            )
        )
    response = client.get(f"/windows/{window}", headers=otto)
    assert response.status_code >= 500
    assert "samples_mv" not in response.text
    with world.stores.results.transaction() as connection:
        connection.execute(sa.text("DROP TRIGGER refuse ON audit_log"))
    assert client.get(f"/windows/{window}", headers=otto).status_code == 200


def test_releases_and_keys_are_on_record(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    version = world.add_model()  # and promotes it
    assert acts_of(world, "test")[-1] == ("operator", "", "release_promote", f"model version {version}", "")
    monkeypatch.setenv("ECG_WAREHOUSE_URL", world.stores.warehouse.url)
    monkeypatch.setenv("ECG_RESULTS_URL", world.stores.results.url)
    keys.main("add", name="kim", role="viewer")
    key_id = capsys.readouterr().out.strip().split("_")[1]
    keys.main("revoke", key_id)
    acts = world.stores.results.acts(equal={"subject": f"key {key_id}"})
    assert [(act["action"], act["role"], act["detail"]) for act in acts] == [
        ("key_add", "command", "viewer kim"), ("key_revoke", "command", "")
    ]  # fmt: skip
