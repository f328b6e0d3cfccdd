"""`python -m configs.document [--check]`: writes what is generated from the settings.

`docs/configuration.md` describes every key; `configs/default.yaml` lists every key, commented out, with its default.
"""

import json
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from configs import cli
from configs.errors import EXIT_DATA
from configs.settings import PREFIX, PROFILES_DIR, Settings

DOCS_DIR = PROFILES_DIR.parent / "docs"

_KINDS: dict[object, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "text, secret",
}
_LIMITS = (
    ("ge", "at least {:g}"),
    ("gt", "above {:g}"),
    ("le", "at most {:g}"),
    ("lt", "below {:g}"),
    ("min_length", "length at least {:g}"),
    ("max_length", "length at most {:g}"),
)
_INTRO = """\
# Configuration

<!-- Written by `python -m configs.document` (`make docs`) from configs/settings.py and contract.py: edit those. -->

A value comes from the first of these that has one:

1. an option of the command (`--epochs 20`; `COMMAND --help` lists them),
2. the environment: `ECG_` and the key in capitals, with two underscores between section and key
   (`ECG_TRAINING__EPOCHS=20`); lists and tables are written as JSON
   (`ECG_SCORING__BEAM_ARGS='["--runner=FlinkRunner"]'`); an empty variable counts as unset;
   with `_FILE` after its name, a variable names a file that holds the value
   (`ECG_RESULTS_URL_FILE=/run/secrets/results_url`),
3. the profile: a YAML file. `--profile NAME`, else `ECG_PROFILE`, else `default`; a name is a file of
   [configs/](../configs/), anything that ends in `.yaml` or `.yml` a path,
4. the default below.

A key that does not exist, in the profile or in the environment, is an error that names it (exit code 2), and so is a
value beyond its limits. [configs/default.yaml](../configs/default.yaml) holds all keys to copy from.
"""
_PROFILE_INTRO = """\
# The profile that is used unless --profile or ECG_PROFILE names another.
# Written by `python -m configs.document` (`make docs`): copy this file to make a profile of your own.
#
# Every key is here, commented out, with its default. To change one, take away the "# " before it and before the
# section it is in. Lines with two "##" say what a key is; docs/configuration.md says the same, with the environment
# variables.
"""


@dataclass(frozen=True)
class Setting:
    """One key: where it is, and what may be in it."""

    path: tuple[str, ...]
    kind: str
    default: Any
    limits: str
    description: str

    @property
    def key(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return PREFIX + "__".join(self.path).upper()


@dataclass(frozen=True)
class Section:
    """Keys that belong together; the name is empty for those that are in no section."""

    name: str
    description: str
    settings: tuple[Setting, ...]


def sections() -> list[Section]:
    """All settings, in the order of the code; defaults are JSON values and owe nothing to the environment."""
    plain, nested = [], []
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            inner = field.annotation.model_fields.items()
            settings = tuple(_setting((name, key), inner_field) for key, inner_field in inner)
            nested.append(Section(name, _first_paragraph(field.annotation), settings))
        else:
            plain.append(_setting((name,), field))
    return [Section("", "Where things are, and what is logged.", tuple(plain)), *nested]


def documents() -> dict[Path, str]:
    """What this module writes: path to content."""
    found = sections()
    return {
        DOCS_DIR / "configuration.md": _INTRO + _profiles() + "".join(f"\n{_as_markdown(part)}" for part in found),
        PROFILES_DIR / "default.yaml": _PROFILE_INTRO + "".join(f"\n{_as_yaml(part)}" for part in found),
    }


def write_or_check(generated: Mapping[Path, str], *, check: bool) -> None:
    """Writes generated files, or with `check` only looks whether they are up to date.

    Raises:
        SystemExit: with `check`, a file is missing or not what the code says; names each of them.
    """
    stale = [path for path, text in generated.items() if not path.is_file() or path.read_text("utf-8") != text]
    if stale and check:
        cli.fail(f"{', '.join(map(str, stale))}: not what the code says. Run `make docs` and commit it.", EXIT_DATA)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated[path], encoding="utf-8")
    cli.note(f"{len(generated)} up to date" if not stale else f"Written: {', '.join(map(str, stale))}")


def table_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _setting(path: tuple[str, ...], field: FieldInfo) -> Setting:
    default = to_jsonable_python(field.get_default(call_default_factory=True))
    return Setting(path, _kind(field.annotation), default, _limits(field), field.description or "")


def _kind(annotation: Any) -> str:
    if annotation in _KINDS:
        return _KINDS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(argument) for argument in arguments if argument is not types.NoneType)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"list of {_kind(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)}: {', '.join(map(_kind, arguments))}"
    if origin is dict:
        return f"table of {_kind(arguments[0])} to {_kind(arguments[1])}"
    raise TypeError(f"configs.document has no words for {annotation}; add some to _kind")


def _limits(field: FieldInfo) -> str:
    words = []
    for constraint in field.metadata:
        bounds = ((getattr(constraint, name, None), text) for name, text in _LIMITS)
        words += [text.format(bound) for bound, text in bounds if bound is not None]
        if pattern := getattr(constraint, "pattern", None):
            words.append(f"`{pattern}`")
    return ", ".join(words)


def _profiles() -> str:
    text = "\n## Profiles\n\n" + table_row("Profile", "What it is for", "Sets") + table_row(*["---"] * 3)
    text += table_row("`default`", "What is used when no other is named.", "nothing: all defaults below hold")
    for path in sorted(PROFILES_DIR.glob("*.yaml")):
        if path.stem != "default":
            content = path.read_text(encoding="utf-8")
            keys = (f"`{key}: {json.dumps(value)}`" for key, value in _flat(yaml.safe_load(content) or {}, ""))
            text += table_row(f"`{path.stem}`", content.splitlines()[0].lstrip("# "), ", ".join(keys))
    return text


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").strip().split("\n\n")[0].split())


def _as_markdown(section: Section) -> str:
    text = f"## {section.name or 'General'}\n\n{section.description}\n\n"
    text += table_row("Key", "Environment", "Type", "Default", "Limits", "Meaning") + table_row(*["---"] * 6)
    for s in section.settings:
        default = "unset" if s.default is None else f"`{json.dumps(s.default)}`"
        text += table_row(f"`{s.key}`", f"`{s.variable}`", s.kind, default, s.limits, s.description)
    return text


def _as_yaml(section: Section) -> str:
    indent = "  " if section.name else ""
    lines = list(_comment(section.description, ""))
    if section.name:
        lines.append(f"# {section.name}:")
    for s in section.settings:
        limits = f" Limits: {s.limits}." if s.limits else ""
        lines += _comment(f"{s.description}{limits}", indent)
        lines += [f"# {indent}{line}" for line in _yaml_lines(s.path[-1], s.default)]
    return "\n".join(lines) + "\n"


def _yaml_lines(name: str, value: Any) -> list[str]:
    """A key and its value; JSON is YAML too, and a list of lists is easier to read a line each."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return [f"{name}:", *(f"  - {json.dumps(item)}" for item in value)]
    return [f"{name}: {json.dumps(value)}"]


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, 112, break_on_hyphens=False):
        yield f"## {indent}{line}"


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is not up to date.")] = False,
) -> None:
    """Write docs/configuration.md and configs/default.yaml from the settings.

    Exit codes: 0 written, or up to date; 3 with --check: a file is not what the code says.
    """
    write_or_check(documents(), check=check)


if __name__ == "__main__":
    cli.run(main)
