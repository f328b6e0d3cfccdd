"""What docker-compose.yml, .env.example and the Dockerfiles promise, read from the files themselves."""

import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from api.access import given_key
from configs.settings import Settings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
STACK = yaml.safe_load(COMPOSE)
SERVICES = STACK["services"]
ONE_SHOTS = ("migrate", "roles", "recordings", "bootstrap", "first-key", "run")
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))


def test_env_example_explains_every_variable_and_no_other():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE))
    lines = (ROOT / ".env.example").read_text().splitlines()
    told = [match[1] for line in lines if (match := re.match(r"#?([A-Z_]+)=", line))]
    assert len(told) == len(set(told))
    assert set(told) == used | {"COMPOSE_PROFILES"}


def test_env_example_shows_the_defaults():
    defaults = dict(re.findall(r"\$\{(STACK_\w+):-([^}]*)\}", COMPOSE))
    shown = dict(re.findall(r"^#(STACK_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert shown == defaults


def test_no_password_has_a_default_and_no_secret_is_a_variable():
    assert "${STACK_SECRETS:?" in COMPOSE
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|KEY|_URL", variable) and "://serving" not in str(value):
                assert str(value).startswith("/run/secrets/"), (name, variable)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", COMPOSE)


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_closed(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == ("no" if name in ONE_SHOTS else "unless-stopped")
    if name not in ONE_SHOTS:
        assert {"memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    for port in service.get("ports", []):
        assert port.startswith(("${STACK_BIND:-127.0.0.1}:", "${STACK_BIND_MONITORING:-127.0.0.1}:"))


def test_images_and_bases_are_pinned():
    for name, service in SERVICES.items():
        assert re.search(r":(v?\d+\.\d+|\$\{STACK_VERSION)", service["image"]), name
    for dockerfile in DOCKERFILES:
        text = dockerfile.read_text()
        stages = set(re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE))
        bases = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages
        assert bases == {"python:3.13-slim-trixie"}, dockerfile.name
        assert text.count("--require-hashes") >= 2, dockerfile.name
        assert re.findall(r"^USER (\w+)$", text, re.MULTILINE)[-1] == "ecg", dockerfile.name


def test_environment_of_our_services_is_of_settings_that_exist():
    for name, service in SERVICES.items():
        for variable in service.get("environment") or {}:
            if variable.startswith("ECG_"):
                section, _, key = variable.removeprefix("ECG_").removesuffix("_FILE").lower().partition("__")
                field = Settings.model_fields[section]
                assert not key or key in field.annotation.model_fields, (name, variable)


def test_secrets_are_made_once_and_are_for_their_owner_only(tmp_path):
    made = tmp_path / "secrets"

    def run():
        done = subprocess.run([ROOT / "configs" / "new_secrets.sh", made], capture_output=True, text=True, check=True)
        return {path.name: path.read_text().strip() for path in made.iterdir()}, done.stdout

    env = ROOT / ".env"
    had_env = env.exists()
    first, said = run()
    again, said_again = run()
    if not had_env:
        env.unlink()
    assert set(first) >= set(STACK["secrets"])
    assert first == again
    assert ("made" in said, "made " in said_again) == (True, False)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert given_key(first["admin_key"]) is not None
    for database in ("warehouse", "results"):
        assert f":{first[f'{database}_password']}@{database}:5432/" in first[f"{database}_url"]
    assert all(value not in said for value in first.values())
    assert len({first["warehouse_password"], first["results_password"], first["pseudonym_key"]}) == 3
