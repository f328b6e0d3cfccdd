"""Model cards and data sheets as people read them: Markdown of what is stored as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def as_markdown(title: str, content: Mapping[str, Any]) -> str:
    """A page with a section for each key, tables for tables, lists for lists."""
    lines = [f"# {title}", ""]
    for key, value in content.items():
        lines += [f"## {_words(key)}", "", *_section(value), ""]
    return "\n".join(lines).rstrip() + "\n"


def write_documents(directory: Path, name: str, title: str, content: Mapping[str, Any]) -> None:
    """Writes NAME.json and NAME.md into a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
    (directory / f"{name}.md").write_text(as_markdown(title, json.loads(json.dumps(content, default=str))), "utf-8")


def _section(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        if value and all(isinstance(row, Mapping) for row in value.values()):
            return _table(value)
        return [f"- **{_words(key)}**: {_inline(item)}" for key, item in value.items()] or ["None."]
    if isinstance(value, list | tuple):
        return [f"- {_inline(item)}" for item in value] or ["None."]
    return [_inline(value)]


def _table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    head = f"|  | {' | '.join(_words(name) for name in columns)} |"
    body = [
        f"| {_cell(key)} | {' | '.join(_cell(_inline(row[name])) if name in row else '' for name in columns)} |"
        for key, row in rows.items()
    ]
    return [head, "| --- " * (len(columns) + 1) + "|", *body]


def _inline(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{_words(k)} {_inline(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_inline, value)) or "none"
    return str(value)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _words(key: str) -> str:
    return str(key).replace("_", " ")
