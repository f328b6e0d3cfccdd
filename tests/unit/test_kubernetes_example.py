"""The Kubernetes example is what Kubernetes takes, closed, and names what exists here."""

from importlib.util import find_spec
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from configs.settings import Settings
from warehouse.store.grants import ROLES

pytestmark = pytest.mark.unit

FOLDER = Path(__file__).parents[2] / "examples" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    (path.name, one)
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for one in yaml.safe_load_all(path.read_text())
]


def pods():
    """Every pod's specification, by what makes it."""
    for file, one in OBJECTS:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield f"{file} {one['metadata']['name']}", spec["template"]["spec"]


PODS = dict(pods())


def containers():
    for name, pod in PODS.items():
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{name} {container['name']}", pod, container


@pytest.mark.parametrize(("file", "one"), OBJECTS, ids=[f"{file}-{one['kind']}" for file, one in OBJECTS])
def test_kubernetes_takes_every_manifest(file, one):
    kubernetes_validate.validate(one, "1.31", strict=True)


def test_the_kustomization_names_every_file():
    assert set(KUSTOMIZATION["resources"]) == {file for file, _ in OBJECTS}


def test_what_the_issue_asks_for_is_there():
    kinds = {(one["kind"], one["metadata"]["name"]) for _, one in OBJECTS}
    assert {
        ("CronJob", "train"),
        ("CronJob", "drift"),
        ("HorizontalPodAutoscaler", "scorer"),
        ("Deployment", "serving"),
    } <= kinds
    (scaler,) = [one for _, one in OBJECTS if one["kind"] == "HorizontalPodAutoscaler"]
    metric = scaler["spec"]["metrics"][0]["external"]["metric"]["name"]
    assert f'"{metric}"' in (FOLDER.parents[1] / "monitoring" / "figures" / "flow.py").read_text()


def test_every_container_is_of_the_restricted_standard():
    for name, pod, container in containers():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        closed = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == closed, name
        assert "memory" in container["resources"]["limits"], name
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}, name


def test_commands_and_settings_exist():
    config = {one["metadata"]["name"]: one["data"] for _, one in OBJECTS if one["kind"] == "ConfigMap"}
    variables = set(config["ecg"])
    for name, _, container in containers():
        variables |= {item["name"] for item in container.get("env", [])}
        command = container.get("command", [])
        if command[:2] == ["python", "-m"]:
            assert find_spec(command[2]), name
    for variable in variables:
        section, _, key = variable.removeprefix("ECG_").removesuffix("_FILE").lower().partition("__")
        field = Settings.model_fields[section]
        assert not key or key in field.annotation.model_fields, variable


def test_every_pod_has_the_database_user_of_its_own_process_alone():
    owners = {name for name, pod in PODS.items() if mounted_secrets(pod) is None}
    assert owners == {"bootstrap.yaml bootstrap"}
    for name, pod in PODS.items():
        if (keys := mounted_secrets(pod)) and name not in owners:
            urls = {key for key in keys if key.endswith("_url")}
            roles = {key.split("_")[0] for key in urls}
            assert len(roles) == 1, name
            assert f"ecg_{roles.pop()}" in ROLES, name
            assert ("pseudonym_key" in keys) == ("ingester" in name), name


def mounted_secrets(pod):
    """Keys of the secret that a pod sees; None for all."""
    sources = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    if any("items" not in source for source in sources):
        return None
    return {item["key"] for source in sources for item in source["items"]}
