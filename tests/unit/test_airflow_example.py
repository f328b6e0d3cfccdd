"""The Airflow example, read and not run: Airflow itself is not among this platform's dependencies."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

pytestmark = pytest.mark.unit

FILE = Path(__file__).parents[2] / "examples" / "airflow" / "ecg_dag.py"


def lines() -> dict[str, str]:
    """Task to the command line that it runs, of calls of `command`."""
    found = {}
    for node in ast.walk(ast.parse(FILE.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "command":
            task, line = node.args
            assert isinstance(task, ast.Constant)
            parts = line.values if isinstance(line, ast.JoinedStr) else [line]
            found[task.value] = "".join(str(p.value) if isinstance(p, ast.Constant) else "1" for p in parts)
    return found


def test_every_task_runs_a_command_that_there_is_with_options_that_it_has() -> None:
    assert set(lines()) == {"ingest", "score", "train", "shadow", "score_with_both", "report"}
    for line in lines().values():
        module, _, rest = line.partition(" ")
        app = typer.Typer()
        app.command()(importlib.import_module(module).main)
        shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            assert option in shown, f"{module} has no {option}"


def test_tasks_run_in_their_order() -> None:
    chains = [
        [name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)]
        for node in ast.walk(ast.parse(FILE.read_text("utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.BinOp)
    ]
    assert sorted(map(sorted, chains)) == [["both", "report", "shadow", "train"], ["ingest", "score"]]


def test_its_own_variables_are_none_of_the_settings() -> None:
    """The platform refuses variables that begin with ECG_ and are no setting."""
    assert set(re.findall(r"os\.environ\W+(?:get\W+)?(\w+)", FILE.read_text("utf-8"))) == {
        "PLATFORM_HOME", "PLATFORM_INCOMING",
    }  # fmt: skip
