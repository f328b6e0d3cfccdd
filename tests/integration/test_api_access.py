"""Who may do what: keys, roles, sites, OIDC tokens, sessions, limits; over real PostgreSQL and a real socket."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import numpy as np
import pytest
from api_world import (
    Scored,
    World,
    check_problem,
    doc_examples,
    items,
    open_world,
    run_examples,
    serving,
    until,
)
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from api.access import SCOPES_OF_ROLE, new_key
from api.oidc import OidcVerifier
from api.uploads import Uploads
from configs.settings import ApiSettings, OidcSettings, load_settings
from warehouse.pseudonyms import pseudonym
from warehouse.store.database import DatabaseUrls

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def make_key(world: World) -> Callable[..., dict[str, str]]:
    """Makes a key and gives the headers that carry it."""

    def make(role: str, *, name: str = "ana", site: str = "main", days: float = 1, **more: Any) -> dict[str, str]:
        key = new_key()
        row = {"name": name, "role": role, "site": site, "scopes": list(SCOPES_OF_ROLE[role]), **more}
        world.stores.results.add_key(
            {
                "key_id": key.key_id,
                "secret_sha256": key.secret_sha256,
                "expires_at": world.clock() + timedelta(days=days),
                **row,
            }
        )
        return {"Authorization": f"Bearer {key.text}"}

    return make


@pytest.fixture(scope="module")
def viewer(make_key: Callable[..., dict[str, str]]) -> dict[str, str]:
    return make_key("viewer", name="vera")


@pytest.fixture(scope="module")
def client(world: World, scored: Scored, viewer: dict[str, str]) -> Iterator[httpx.Client]:
    with serving(world.stores, world.clock) as client:
        yield client


def test_requests_need_a_key_once_there_is_one(client: httpx.Client, viewer: dict[str, str]) -> None:
    response = client.get("/anomalies")
    check_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/anomalies", headers=viewer).status_code == 200
    assert client.get("/anomalies", headers={"X-API-Key": viewer["Authorization"][7:]}).status_code == 200
    assert client.get("/health/live").status_code == 200
    assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    "value", ["", "Basic YTpi", "Bearer", "Bearer ecg_x", "Bearer ecg_000000000000_" + "0" * 64, "Bearer a.b.c"]
)
def test_wrong_keys(client: httpx.Client, value: str) -> None:
    check_problem(client.get("/anomalies", headers={"Authorization": value}), 401, "unauthenticated")


def test_expired_and_revoked_keys(client: httpx.Client, world: World, make_key: Callable[..., dict[str, str]]) -> None:
    short, other = make_key("viewer", days=0.001), make_key("viewer")
    assert client.get("/models", headers=short).status_code == 200
    assert client.get("/models", headers=other).status_code == 200
    world.clock.now += timedelta(minutes=5)
    assert "has expired" in check_problem(client.get("/models", headers=short), 401, "unauthenticated")["detail"]
    world.stores.results.revoke_key(other["Authorization"].split("_")[1], world.clock())
    world.clock.now += timedelta(seconds=3)
    assert "was revoked" in check_problem(client.get("/models", headers=other), 401, "unauthenticated")["detail"]


def test_what_each_role_may_do(
    client: httpx.Client, scored: Scored, make_key: Callable[..., dict[str, str]], viewer: dict[str, str]
) -> None:
    review = {"anomaly_id": scored.expected[0]["id"], "verdict": "unsure"}
    check_problem(client.post("/reviews", headers=viewer, json=review), 403, "forbidden")
    reviewer, device = make_key("reviewer", name="rita"), make_key("device", name="holter", patients=["pseudonym"])
    assert client.post("/reviews", headers=reviewer, json=review).status_code == 201
    check_problem(client.post("/recordings", headers=reviewer, files={"file": ("a.csv", b"1")}), 403, "forbidden")
    for path in ("/anomalies", "/recordings", "/models", "/reviews", "/exports/reviews"):
        check_problem(client.get(path, headers=device), 403, "forbidden")
    check_problem(client.post("/score", headers=device, json={}), 403, "forbidden")
    narrow = make_key("viewer", scopes=["score"])
    check_problem(client.get("/anomalies", headers=narrow), 403, "forbidden")


def test_one_may_take_back_ones_own_reviews_and_an_admin_anybodys(
    client: httpx.Client, scored: Scored, make_key: Callable[..., dict[str, str]]
) -> None:
    rita, rob, admin = (
        make_key(role, name=name) for role, name in (("reviewer", "rita"), ("reviewer", "rob"), ("admin", "ada"))
    )
    body = {"anomaly_id": scored.expected[5]["id"], "verdict": "confirm", "label": "V", "comment": "<b>'; DROP--"}
    made = client.post("/reviews", headers=rita, json=body).json()
    assert made["states"][0]["status"] == "confirmed"
    assert made["reviews"][0]["comment"] == "<b>'; DROP--"
    url = f"/reviews/{made['reviews'][0]['review_id']}/undo"
    check_problem(client.post(url, headers=rob), 403, "forbidden")
    assert client.post(url, headers=admin).json()["states"][0]["status"] == "unreviewed"
    check_problem(client.post(url, headers=rita), 409, "conflict")


def test_sites_do_not_see_each_other(
    client: httpx.Client, world: World, scored: Scored, make_key: Callable[..., dict[str, str]], viewer: dict[str, str]
) -> None:
    north = make_key("admin", name="nora", site="north")
    one, version = scored.expected[0]["id"], scored.model_version
    recording_id = items(client, "/recordings", headers=viewer, name="200")[0]["recording_id"]
    episode = client.get("/episodes", headers=viewer).json()["items"][0]["id"]
    review = client.get("/reviews", headers=viewer).json()["items"][0]["review_id"]
    for path in (
        f"/anomalies/{one}", f"/windows/{one.split('-')[1]}", f"/recordings/{recording_id}", f"/episodes/{episode}",
        f"/recordings/{recording_id}/signal", f"/exports/episodes/{episode}/fhir",
    ):  # fmt: skip
        assert client.get(path, headers=viewer).status_code == 200, path
        check_problem(client.get(path, headers=north), 404, "not-found")
    for body in ({"anomaly_id": one}, {"episode": episode}, {"window_id": int(one.split("-")[1])}):
        check_problem(client.post("/reviews", headers=north, json={**body, "verdict": "unsure"}), 404, "not-found")
    check_problem(client.post(f"/reviews/{review}/undo", headers=north), 404, "not-found")
    for path in ("/anomalies", "/recordings", "/episodes", "/reviews"):
        assert client.get(path, headers=north).json()["items"] == []
    assert client.get("/reviews/counts", headers=north).json()["counts"] == {"unreviewed": 0}
    assert client.get("/feedback/sample", headers=north).json()["items"] == []
    assert client.get("/exports/anomalies", headers=north).text.count("\n") == 1
    found = client.get("/feedback/performance", headers=north).json()
    assert (found["flagged"], found["unflagged"]) == (0, 0)
    assert client.get(f"/models/{version}", headers=north).status_code == 200  # models are everybody's


def test_sessions_and_their_token(
    client: httpx.Client, world: World, scored: Scored, make_key: Callable[..., dict[str, str]]
) -> None:
    key = make_key("reviewer", name="sue")["Authorization"][7:]
    answer = client.post("/session", json={"key": key})
    assert answer.status_code == 201
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    value = cookie.split("=", 1)[1].split(";")[0]
    client.cookies.clear()
    browser = {"Cookie": f"ecg_session={value}"}
    who = client.get("/session", headers=browser).json()
    assert (who["name"], who["role"], who["csrf_token"]) == ("sue", "reviewer", answer.json()["csrf_token"])
    body = {"anomaly_id": scored.expected[7]["id"], "verdict": "reject"}
    for token in ({}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": value}):
        check_problem(client.post("/reviews", headers={**browser, **token}, json=body), 403, "forbidden")
    signed = {**browser, "X-CSRF-Token": who["csrf_token"]}
    assert client.post("/reviews", headers=signed, json=body).status_code == 201
    check_problem(client.delete("/session", headers=browser), 403, "forbidden")
    assert client.delete("/session", headers=signed).status_code == 204
    check_problem(client.get("/session", headers=browser), 401, "unauthenticated")
    client.cookies.clear()
    other = client.post("/session", json={"key": key}).headers["set-cookie"].split("=", 1)[1].split(";")[0]
    client.cookies.clear()
    world.stores.results.revoke_key(key.split("_")[1], world.clock())
    check_problem(client.get("/session", headers={"Cookie": f"ecg_session={other}"}), 401, "unauthenticated")


def test_rate_limit_is_each_keys_own(world: World, viewer: dict[str, str], make_key: Callable[..., Any]) -> None:
    with serving(world.stores, world.clock, settings=ApiSettings(requests_per_minute=30)) as client:
        statuses = [client.get("/session", headers=viewer).status_code for _ in range(40)]
        assert statuses[:30] == [200] * 30
        assert statuses[-1] == 429
        response = client.get("/session", headers=viewer)
        check_problem(response, 429, "rate-limited")
        assert 1 <= int(response.headers["retry-after"]) <= 3
        assert client.get("/session", headers=make_key("viewer")).status_code == 200


def test_without_sign_in_only_this_machine_is_answered(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        version = world.add_model()
        world.add_scores(version, world.add_recording("a", 3), np.full(3, 2, np.float32))
        with serving(world.stores, world.clock) as client:
            assert client.get("/session").json()["role"] == "admin"
            check_problem(client.get("/anomalies", headers={"Host": "evil.example"}), 403, "forbidden")
            evil = {"Origin": "https://evil.example"}
            body = {"anomaly_id": client.get("/anomalies").json()["items"][0]["id"], "verdict": "reject"}
            check_problem(client.post("/reviews", headers=evil, json=body), 403, "forbidden")
            assert client.post("/reviews", json=body).status_code == 201


# --- OpenID Connect --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Iterator[tuple[str, rsa.RSAPrivateKey]]:
    """An issuer with one key, on this machine."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": "one", "use": "sig", "alg": "RS256"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
            found = {"jwks_uri": f"{url}/keys"} if "well-known" in self.path else {"keys": [jwk]}
            body = json.dumps(found).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing is logged."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", key
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def token(issuer: tuple[str, rsa.RSAPrivateKey]) -> Callable[..., dict[str, str]]:
    """Makes a token; a claim that is None is left out."""
    url, key = issuer

    def make(signed_by: Any = None, algorithm: str = "RS256", **changed: Any) -> dict[str, str]:
        claims = {
            "iss": url, "aud": "ecg", "sub": "123", "exp": 4_000_000_000, "preferred_username": "olga",
            "ecg_role": ["staff", "reviewer"], "ecg_site": "main", **changed,
        }  # fmt: skip
        kept = {name: value for name, value in claims.items() if value is not None}
        text = jwt.encode(kept, signed_by or key, algorithm=algorithm, headers={"kid": "one"})
        return {"Authorization": f"Bearer {text}"}

    return make


@pytest.fixture(scope="module")
def oidc_client(world: World, scored: Scored, issuer: tuple[str, rsa.RSAPrivateKey]) -> Iterator[httpx.Client]:
    verifier = OidcVerifier(OidcSettings(issuer=issuer[0]), "main")
    with serving(world.stores, world.clock, oidc=verifier) as client:
        yield client


def test_tokens_of_the_issuer(oidc_client: httpx.Client, token: Callable[..., dict[str, str]]) -> None:
    who = oidc_client.get("/session", headers=token()).json()
    assert (who["name"], who["role"], who["site"]) == ("olga", "reviewer", "main")
    assert oidc_client.get("/anomalies", headers=token()).json()["items"]
    assert oidc_client.get("/anomalies", headers=token(ecg_site="north")).json()["items"] == []
    assert oidc_client.get("/session", headers=token(preferred_username=None)).json()["name"] == "123"
    check_problem(oidc_client.get("/anomalies"), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"iss": "https://elsewhere.example"}, 401),
        ({"aud": "another"}, 401),
        ({"exp": 1_000_000_000}, 401),
        ({"exp": None}, 401),
        ({"sub": None}, 401),
        ({"ecg_role": None}, 403),
        ({"ecg_role": "emperor"}, 403),
        ({"ecg_role": "device"}, 403),
        ({"ecg_site": None}, 403),
        ({"ecg_site": ["main"]}, 403),
        pytest.param({"signed_by": rsa.generate_private_key(65537, 2048)}, 401, id="another key"),
        ({"signed_by": "a secret that everybody could know", "algorithm": "HS256"}, 401),
    ],
    ids=str,
)
def test_tokens_that_are_not_accepted(
    oidc_client: httpx.Client, token: Callable[..., dict[str, str]], changed: dict[str, Any], status: int
) -> None:
    slug = "unauthenticated" if status == 401 else "forbidden"
    check_problem(oidc_client.get("/anomalies", headers=token(**changed)), status, slug)


def test_an_issuer_that_does_not_answer(world: World, token: Callable[..., dict[str, str]]) -> None:
    verifier = OidcVerifier(OidcSettings(issuer="http://127.0.0.1:1"), "main")
    with serving(world.stores, world.clock, oidc=verifier) as client:
        check_problem(client.get("/anomalies", headers=token()), 503, "unavailable")


@pytest.fixture
def keys_command(run_cli: Callable[..., Any], new_databases: Callable[[], DatabaseUrls]) -> Callable[..., Any]:
    """`python -m api.keys` on databases of its own."""
    urls = new_databases()
    env = {"ECG_WAREHOUSE_URL": urls.warehouse, "ECG_RESULTS_URL": urls.results}
    return lambda *arguments: run_cli("api.keys", *arguments, env=env)


def test_keys_by_command(keys_command: Callable[..., Any], tmp_path: Path) -> None:
    made = keys_command("add", "--name", "ana", "--role", "reviewer", "--days", 3, "--json", tmp_path / "k.json")
    assert made.code == 0, made.stderr
    key = json.loads((tmp_path / "k.json").read_text())
    assert made.stdout.strip() == key["key"]
    assert keys_command("revoke", key["key_id"]).code == 0
    listed = keys_command("list", "--json", tmp_path / "l.json")
    assert "revoked" in listed.stdout
    (row,) = json.loads((tmp_path / "l.json").read_text())
    assert (row["name"], row["role"], row["site"]) == ("ana", "reviewer", "main")
    assert key["key"].split("_")[2] not in (tmp_path / "l.json").read_text()
    assert keys_command("revoke", "nothing").code == 3
    wrong = keys_command("add", "--name", "h", "--role", "device")
    assert (wrong.code, "--patient: is missing" in wrong.stderr) == (2, True)


def test_a_key_that_was_made_elsewhere_is_taken_once(keys_command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "admin_key"
    file.write_text("ecg_0123456789ab_" + "c0" * 32 + "\n")
    add = ("add", "--key-file", file, "--name", "admin", "--role", "admin")
    made, again = keys_command(*add), keys_command(*add)
    assert (made.code, again.code, made.stdout, again.stdout) == (0, 0, "", "")
    assert "is there already" in again.stderr
    assert "0123456789ab" in keys_command("list").stdout
    file.write_text("ecg_0123456789ab_short")
    wrong = keys_command(*add)
    assert (wrong.code, "admin_key: holds no key" in wrong.stderr) == (2, True)


@pytest.mark.skipif(not shutil.which("curl"), reason="the example calls curl, which is not installed")
def test_signing_in_as_the_docs_say(
    client: httpx.Client, make_key: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    shell = [block for block in doc_examples() if "$ECG_KEY" in block]
    key = make_key("reviewer", name="ana")["Authorization"].removeprefix("Bearer ")
    answered = run_examples(shell, client, tmp_path, ECG_KEY=key)
    assert [(status, httpx.URL(url).path) for status, url in answered] == [
        ("201", "/session"), ("200", "/anomalies"), ("204", "/session"),
    ]  # fmt: skip
    cookie = (tmp_path / "cookies.txt").read_text().split()[-1]
    check_problem(client.get("/anomalies", headers={"Cookie": f"ecg_session={cookie}"}), 401, "unauthenticated")


def test_a_device_posts_recordings_of_its_own_patients_only(
    world: World, scored: Scored, make_key: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    settings = load_settings(overrides={"data_dir": tmp_path, "pseudonym_key": "a key", "ingest": {"workers": 1}})
    uploads = Uploads(world.stores, settings, world.clock)
    mine = make_key("device", name="holter", site="north", patients=[pseudonym(b"a key", "ward/1")])
    other = make_key("device", name="other", site="north", patients=[])

    def csv(patient: str) -> dict[str, tuple[str, bytes]]:
        beats = [f"{np.exp(-((((i / 250 % 0.8) - 0.3) / 0.012) ** 2)):.4f}" for i in range(250 * 20)]
        text = f"# sampling_rate_hz: 250\n# patient: {patient}\nII_mV\n" + "\n".join(beats) + "\n"
        return {"file": (f"{patient[-1]}.csv", text.encode())}

    with serving(world.stores, world.clock, uploads=uploads) as client:
        statuses = {}
        for patient in ("ward/1", "ward/2"):
            url = client.post("/recordings", headers=mine, files=csv(patient)).headers["location"]
            until(lambda url=url: client.get(url, headers=mine).json()["finished_at"] is not None, timeout_s=60)
            statuses[patient] = client.get(url, headers=mine).json()
            check_problem(client.get(url, headers=other), 404, "not-found")
        uploads.close()
        assert statuses["ward/1"]["status"] == "done"
        assert "may not post recordings of" in statuses["ward/2"]["problem"]
        assert statuses["ward/2"]["recordings"] == []
        north = make_key("viewer", site="north")
        assert [one["name"] for one in items(client, "/recordings", headers=north)] == ["1"]
        assert items(client, "/recordings", headers=make_key("viewer"), name="1") == []
