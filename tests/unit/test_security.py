"""What docs/security.md promises of the code as a whole."""

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import Settings

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "components", "configs", "monitoring", "pipelines", "serving", "warehouse")
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SECRETS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "our API key": r"\becg_[0-9a-f]{12}_[0-9a-f]{64}\b",
    "password in a URL": r"postgresql(?:\+psycopg2)?://\w+:[A-Za-z0-9_-]{20,}@",
}  # fmt: skip
UNSAFE_CALLS = ("eval", "exec", "yaml.load", "pd.read_pickle", "pandas.read_pickle", "torch.load", "os.system")
UNPICKLING = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle", "jsonpickle"}


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def unsafe(path: Path) -> Iterator[str]:
    """What in a file could run code that came as data."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from UNPICKLING & {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            yield from UNPICKLING & {(node.module or "").split(".")[0]}
    for name, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in UNSAFE_CALLS:
            yield name
        # safe_mode: Keras' own format may hold code
        for keyword, safe in {"allow_pickle": "False", "shell": "False", "safe_mode": "True"}.items():
            if keywords.get(keyword, safe) != safe:
                yield f"{name}({keyword}={keywords[keyword]})"


def test_nothing_is_unpickled() -> None:
    assert len(CODE) > 100
    assert {str(path.relative_to(ROOT)): found for path in CODE if (found := list(unsafe(path)))} == {}


def test_no_secret_is_in_the_repository() -> None:
    git = shutil.which("git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False) if git else None
    if listed is None or listed.returncode:
        pytest.skip("not a git checkout: there is no list of what would be published")
    found = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file() or path.suffix in (".png", ".txt"):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [(name, kind) for kind, pattern in SECRETS.items() if re.search(pattern, text)]
    assert found == []


def test_secrets_do_not_show_in_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECG_PSEUDONYM_KEY", "do not show this")
    assert "do not show this" not in repr(Settings())


def test_no_operation_takes_an_address() -> None:
    """No parameter or body property of the API is a URL or a host."""
    import importlib
    import pkgutil

    from fastapi import FastAPI

    from api import routes

    app = FastAPI()
    for found in pkgutil.iter_modules(routes.__path__):
        app.include_router(importlib.import_module(f"api.routes.{found.name}").router)
    document = app.openapi()
    names = {
        parameter["name"]
        for operations in document["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", [])
    }
    bodies = [schema for name, schema in document["components"]["schemas"].items() if name.endswith("Request")]
    assert bodies
    names |= {name for schema in bodies for name in schema.get("properties", {})}
    assert names >= {"recording", "verdict"}
    assert not {name for name in names if re.search(r"ur[il]\b|host|address|callback|webhook", name, re.IGNORECASE)}


def test_every_test_that_is_named_exists() -> None:
    docs = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("security.md", "reliability.md"))
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", docs))
    text = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 50
    assert {name for name in named if f"def {name}(" not in text} == set()
