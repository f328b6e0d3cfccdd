"""Rules, runbooks, Alertmanager's configuration and dashboards: complete, and at one with each other."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = {
    rule["alert"]: rule
    for file in sorted((MONITORING / "prometheus" / "rules").glob("*.yml"))
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
}
BOARDS = {file.stem: json.loads(file.read_text()) for file in (MONITORING / "grafana" / "dashboards").glob("*.json")}
PANELS = [
    pytest.param(board, panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]


def run(*command, cwd=None):
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}: install Debian's prometheus and prometheus-alertmanager")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# --- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RULES)
def test_a_rule_says_how_bad_it_is_and_what_to_do(name):
    rule = RULES[name]
    assert rule["labels"].keys() == {"severity", "area"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url", "review_url", "dashboard"}
    assert rule["annotations"]["runbook_url"].endswith(f"/runbooks/{name}")
    assert rule["annotations"]["dashboard"] in BOARDS


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_a_runbook_that_starts_with_what_to_look_at(name):
    text = (RUNBOOKS / f"{name}.md").read_text("utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == [
        "Look at first", "What it means", "What to do", "When it rings",
    ]  # fmt: skip
    severity = RULES[name]["labels"]["severity"]
    assert f"Severity: {severity}." in text
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    assert f"| [{name}]({name}.md) | {severity} |" in index
    shown = re.search(r"```promql\n(.*?)\n```\n\nfor (\w+)\.", text, re.DOTALL)
    assert shown is not None
    assert shown.groups() == (" ".join(RULES[name]["expr"].split()), RULES[name]["for"]), "the rule was changed"


def test_there_is_no_runbook_without_a_rule():
    assert {file.stem for file in RUNBOOKS.glob("*.md")} - {"README"} == RULES.keys()


def test_panels_that_runbooks_name_exist():
    titles = {board["title"] for board in BOARDS.values()} | {
        panel["title"] for board in BOARDS.values() for panel in board["panels"]
    }
    for file in RUNBOOKS.glob("Ecg*.md"):
        for names in re.findall(
            r"(?:[Pp]anels?|[Dd]ashboard) (\*[^.:?]+?\*(?: and \*[^.:?]+?\*)?)", file.read_text("utf-8")
        ):
            for name in re.findall(r"\*([^*]+)\*", names):
                assert name in titles, f"{file.name} names {name}"


def test_each_rule_is_tested_to_ring_and_to_be_silent():
    run("promtool", "check", "rules", str(MONITORING / "prometheus" / "rules" / "ecg.yml"))
    tests = MONITORING / "prometheus" / "tests"
    files = sorted(tests.glob("*.yml"))
    said = run("promtool", "test", "rules", *(file.name for file in files), cwd=tests)
    assert said.count("SUCCESS") == len(files)
    names = [test["name"] for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    for rule in RULES:
        assert f"{rule} rings" in names
        assert any(name.startswith(f"{rule} silent: ") for name in names)


def test_the_configuration_of_prometheus_is_valid():
    run("promtool", "check", "config", str(MONITORING / "prometheus" / "prometheus.yml"))


def test_the_configuration_of_alertmanager_is_valid_and_names_rules_that_exist():
    file = MONITORING / "alertmanager" / "alertmanager.yml"
    assert "SUCCESS" in run("amtool", "check-config", str(file))
    for rule in yaml.safe_load(file.read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            if (found := re.match(r'alertname =~? "(.+)"', matcher)) is not None:
                assert set(found[1].split("|")) <= RULES.keys(), matcher


# --- dashboards ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_its_file_name_and_links(name):
    board = BOARDS[name]
    assert board["uid"] == name
    assert board["description"]
    urls = {link.get("url") for link in board["links"]}
    assert {"${platform}/ui", "${platform}/runbooks"} <= urls
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_has_a_unit_a_description_and_a_query(board, panel):
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert all(target["expr"] for target in panel["targets"])
    assert panel["targets"]
    assert panel["datasource"]["uid"] == "prometheus"
    for link in panel["links"]:
        assert link["url"].removeprefix("${platform}/runbooks/") in RULES


def test_panels_do_not_overlap():
    for name, board in BOARDS.items():
        taken = set()
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
            assert not cells & taken, f"{name}: {panel['title']}"
            taken |= cells


def test_what_is_provisioned_is_there():
    provisioning = MONITORING / "grafana" / "provisioning"
    (prometheus, _) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (prometheus["uid"], prometheus["type"]) == ("prometheus", "prometheus")
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "ecg.yml").read_text())["providers"]
    assert provider["options"]["path"]
    assert BOARDS.keys() == {"ecg-operations", "ecg-model", "ecg-clinical"}
