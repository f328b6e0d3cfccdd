"""examples/reverse-proxy/Caddyfile in a real Caddy before the service, with a certificate of Caddy's own authority."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from api_world import World, open_world, serving, until

from api.access import SCOPES_OF_ROLE, new_key
from api.uploads import Uploads
from configs.settings import load_settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("caddy") is None, reason="there is no caddy (Debian's package has it)"),
]

CADDYFILE = Path(__file__).parents[2] / "examples" / "reverse-proxy" / "Caddyfile"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("proxied")) as world:
        yield world


@pytest.fixture(scope="module")
def proxied(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str, Path]]:
    """A client that speaks to Caddy over TLS, an administrator's key, and what Caddy logged."""
    folder = tmp_path_factory.mktemp("caddy")
    overrides = {"data_dir": folder / "data", "api": {"ingest_uploads": False}}
    settings = load_settings(overrides=overrides)
    key = new_key()
    row = {"name": "ana", "role": "admin", "site": "main", "scopes": list(SCOPES_OF_ROLE["admin"])}
    about = {"key_id": key.key_id, "secret_sha256": key.secret_sha256, "expires_at": world.clock() + timedelta(days=1)}
    world.stores.results.add_key({**about, **row})
    uploads = Uploads(world.stores, settings, world.clock)
    with serving(world.stores, world.clock, settings=settings.api, uploads=uploads) as direct:
        port, log = free_port(), folder / "caddy.log"
        text = CADDYFILE.read_text().replace("ecg.example.org {", f"https://localhost:{port} {{\n\ttls internal\n", 1)
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{direct.base_url.port}")
        options = "{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n"
        (folder / "Caddyfile").write_text(options + text)
        env = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
        command = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
        with log.open("wb") as out, subprocess.Popen(command, env=env, stdout=out, stderr=out) as caddy:
            try:
                root = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
                until(lambda: caddy.poll() is not None or (root.exists() and _listens(port)), timeout_s=30)
                assert caddy.poll() is None, log.read_text()
                trust = ssl.create_default_context(cafile=str(root))
                with httpx.Client(base_url=f"https://localhost:{port}", verify=trust, timeout=30) as client:
                    until(lambda: _answers(client))
                    yield client, key.text, log
            finally:
                caddy.terminate()
        uploads.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False  # the certificate is being made


def test_it_speaks_tls_and_shows_nothing_of_the_inside(proxied: tuple[httpx.Client, str, Path]) -> None:
    client, _, _ = proxied
    live = client.get("/health/live")
    assert "max-age=31536000" in live.headers["strict-transport-security"]
    assert "server" not in live.headers
    assert [client.get(path).status_code for path in ("/metrics", "/health/ready")] == [404, 404]
    assert client.get("/anomalies").status_code == 401


def test_sign_in_cookies_go_over_https_only(proxied: tuple[httpx.Client, str, Path]) -> None:
    client, key, log = proxied
    response = client.post("/session", json={"key": key})
    cookie = response.headers["set-cookie"].lower()
    assert all(word in cookie for word in ("secure", "httponly", "samesite"))
    assert client.get("/session").json()["name"] == "ana"
    client.cookies.clear()
    client.get("/anomalies?patient=a-pseudonym", headers={"Authorization": f"Bearer {key}"})
    until(lambda: '"/anomalies"' in log.read_text())
    assert not [word for word in (key, "a-pseudonym") if word in log.read_text()]


def test_large_recordings_pass(proxied: tuple[httpx.Client, str, Path]) -> None:
    client, key, _ = proxied
    file = {"file": ("large.csv", b"0.1\n" * 10_000_000)}  # 40 MB: beyond any default limit of a proxy
    response = client.post("/recordings", files=file, headers={"Authorization": f"Bearer {key}"})
    assert (response.status_code, response.json()["status"]) == (202, "waiting")
