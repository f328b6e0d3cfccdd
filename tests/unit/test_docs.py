"""The documentation is true: generated files are up to date, links resolve, and what it names exists."""

import importlib
import json
import os
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from api import routes
from configs import document
from configs.contract import FeatureSpec
from configs.errors import EXIT_DATA
from configs.settings import PROFILES_DIR, Settings, load_settings
from warehouse.signal.ecg import Reason
from warehouse.signal.r_peaks import DETECTORS
from warehouse.signal.readers import SourceRef, open_source
from warehouse.store import dictionary, tables

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"python -m ([a-z0-9_.]+)")
OPTION = re.compile(r"(?<![\w=-])--[a-z][a-z-]*")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("ECG_")]:
        monkeypatch.delenv(name)


def relative(path):
    return str(path.relative_to(ROOT))


def settings_keys(model=Settings, prefix=()):
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings_keys(inner, (*prefix, name))
        else:
            yield (*prefix, name)


def as_json(settings):
    return json.loads(settings.model_dump_json())


def defaults():
    return as_json(Settings())


def leaves(values, prefix=()):
    """Values of nested sections by path; a table that is a setting of its own is one value."""
    known = set(settings_keys())
    for key, value in values.items():
        path = (*prefix, key)
        if path in known:
            yield path, value
        else:
            yield from leaves(value, path)


# --- generated files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("generated", [document.documents, dictionary.document], ids=["configs", "store"])
def test_generated_files_are_what_the_code_says(generated):
    document.write_or_check(generated(), check=True)


def test_check_names_each_file_that_is_not_up_to_date_and_writes_nothing(tmp_path, capsys):
    changed, missing, good = tmp_path / "changed.md", tmp_path / "new" / "missing.md", tmp_path / "good.md"
    changed.write_text("old\n")
    good.write_text("text\n")
    generated = dict.fromkeys((changed, missing, good), "text\n")
    with pytest.raises(SystemExit) as stopped:
        document.write_or_check(generated, check=True)
    assert stopped.value.code == EXIT_DATA
    message = capsys.readouterr().err
    assert "changed.md" in message
    assert "missing.md" in message
    assert "good.md" not in message
    assert changed.read_text() == "old\n"
    assert not missing.exists()
    document.write_or_check(generated, check=False)
    document.write_or_check(generated, check=True)
    assert missing.read_text() == "text\n"


def test_configuration_lists_every_setting_with_its_variable():
    lines = (ROOT / "docs" / "configuration.md").read_text("utf-8").splitlines()
    for path in settings_keys():
        start = f"| `{'.'.join(path)}` | `ECG_{'__'.join(path).upper()}` |"
        assert [line for line in lines if line.startswith(start)], f"{start} is not in docs/configuration.md"


def test_every_setting_and_every_profile_is_explained():
    for section in document.sections():
        assert section.description
        for setting in section.settings:
            assert setting.description.endswith("."), setting.key
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    for profile in PROFILES_DIR.glob("*.yaml"):
        assert f"| `{profile.stem}` |" in text


def test_every_variable_takes_its_default_as_documented(monkeypatch):
    expected = defaults()
    written = {s.variable: s.default for section in document.sections() for s in section.settings}
    for variable, value in written.items():
        if value is not None:
            monkeypatch.setenv(variable, value if isinstance(value, str) else json.dumps(value))
    assert as_json(load_settings()) == expected


def test_the_default_profile_changes_nothing():
    settings = load_settings(PROFILES_DIR / "default.yaml")
    assert as_json(settings) == defaults()
    assert settings.model_fields_set == set()  # the demo asks whether data_dir was set
    assert settings.features == FeatureSpec()


def test_the_default_profile_holds_every_key_with_its_default(tmp_path):
    lines = (PROFILES_DIR / "default.yaml").read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("##"))
    profile = tmp_path / "all.yaml"
    profile.write_text("\n".join(line.removeprefix("# ") for line in lines[start:]) + "\n")
    values = dict(leaves(yaml.safe_load(profile.read_text())))
    assert set(values) == set(settings_keys())
    assert values == dict(leaves(defaults()))
    assert as_json(load_settings(profile)) == defaults()


def test_a_new_kind_of_setting_must_be_given_words():
    class Strange(BaseModel):
        value: complex = 0j

    with pytest.raises(TypeError, match="complex"):
        document._kind(Strange.model_fields["value"].annotation)


def test_the_dictionary_explains_every_table_and_column():
    text = (ROOT / "docs" / "data-dictionary.md").read_text("utf-8")
    for metadata in (tables.warehouse, tables.results):
        for table in metadata.tables.values():
            assert table.comment
            _, _, part = text.partition(f"### {table.name}\n\n{table.comment}\n")
            rows = [line.split(" | ") for line in part.split("\n#")[0].splitlines() if line.startswith("| `")]
            assert [row[0] for row in rows] == [f"| `{column.name}`" for column in table.columns]
            assert [row[2] for row in rows] == ["yes" if column.nullable else "no" for column in table.columns]
            assert all(column.comment for column in table.columns)


# --- links and names ---------------------------------------------------------------------------------


def anchors(path):
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=relative)
def test_relative_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{relative(page)} links to {link}"
        assert not anchor or anchor in anchors(file), f"{relative(page)} links to {link}"


def command_of(module):
    """The command line of `python -m module`."""
    spec = find_spec(module)
    assert spec is not None, f"there is no module {module}"
    is_package = spec.submodule_search_locations is not None
    app = typer.Typer(add_completion=False)
    app.command()(importlib.import_module(f"{module}.__main__" if is_package else module).main)
    return app


def options_of(module):
    return {name for parameter in typer.main.get_command(command_of(module)).params for name in parameter.opts}


MODULES = sorted({module for page in DOCS for module in COMMAND.findall(page.read_text("utf-8"))})


#: What `make bench` runs, and what those run.
BENCHMARKS = {"pipelines.benchmark_speed", "pipelines.peers", "api.benchmark", "api.load_generator"}


def test_all_commands_are_in_the_readme():
    files = [file for name in ("api", "configs", "monitoring", "pipelines", "serving", "warehouse")
             for file in (ROOT / name).rglob("*.py")]  # fmt: skip
    commands = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for file in files
        if "\n    cli.run(main)" in file.read_text("utf-8")
    }
    assert len(commands) > 20
    assert commands - BENCHMARKS <= set(COMMAND.findall(README.read_text("utf-8")))


@pytest.mark.parametrize("module", MODULES)
def test_commands_that_are_named_exist_and_explain_themselves(module):
    answer = CliRunner().invoke(command_of(module), ["--help"])
    assert answer.exit_code == 0
    assert "Usage" in answer.output


@pytest.mark.parametrize("page", DOCS, ids=relative)
def test_options_that_are_named_exist(page):
    for line in page.read_text("utf-8").splitlines():
        if modules := COMMAND.findall(line):
            known = set().union(*map(options_of, modules)) | {"--help", "--debug", "--profile"}
            assert set(OPTION.findall(line)) <= known, line


@pytest.mark.parametrize(("page", "module"), [("ingest.md", "warehouse.ingest"), ("training.md", "pipelines.train")])
def test_a_page_on_a_command_has_all_its_options(page, module):
    rows = [line for line in (ROOT / "docs" / page).read_text("utf-8").splitlines() if line.startswith("| `--")]
    named = {option for row in rows for option in OPTION.findall(row.split(" | ")[0])}
    assert named == {name for name in options_of(module) if name.startswith("--")} - {"--help"}


def test_make_targets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)) - {"help"}
    assert set(re.findall(r"`make ([a-z-]+)", README.read_text("utf-8"))) == targets


def test_operations_in_the_readme_are_those_of_the_service():
    modules = [importlib.import_module(f"api.routes.{found.name}") for found in pkgutil.iter_modules(routes.__path__)]
    served = {
        method + " " + re.sub(r"\{\w+\}", "{}", route.path)
        for module in modules
        for route in module.router.routes
        for method in route.methods
    }
    named = re.findall(r"`((?:GET|POST|DELETE) /[^`]*)`", README.read_text("utf-8"))
    assert {re.sub(r"\{\w+\}", "{}", operation) for operation in named} == served


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text("utf-8")
    for path in folder.glob("0*.md"):
        title = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
        assert f"[{title[:4]}]({path.name}) | {title[6:]} |" in index


# --- what the pages say of the code ------------------------------------------------------------------


def test_ingest_names_every_reason_and_detector():
    text = (ROOT / "docs" / "ingest.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", text.partition("| Reason | When |")[2].partition("\n\n")[0], re.MULTILINE)
    assert sorted(rows) == sorted(Reason)
    assert all(f"`{name}`" in text for name in DETECTORS)


@pytest.mark.parametrize(
    ("page", "rate_hz", "n_samples"),
    [(README, 360.0, 2), (ROOT / "docs" / "ingest.md", 250.0, 4)],
    ids=["readme", "ingest"],
)
def test_the_csv_example_can_be_read(tmp_path, page, rate_hz, n_samples):
    (example,) = re.findall(r"```csv\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "example.csv"
    file.write_text(example)
    source = open_source(SourceRef("csv", file, "example"))
    assert source.header.leads == ("II", "V1")
    assert source.header.sampling_rate_hz == rate_hz
    assert source.header.patient_key == "ward-7/0017"
    assert source.read(0, n_samples)[:2].tolist() == [
        [pytest.approx(-0.145), pytest.approx(-0.065)],
        [pytest.approx(-0.150), pytest.approx(-0.070)],
    ]


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text("ascii")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
