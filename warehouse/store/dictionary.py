"""`python -m warehouse.store.dictionary [--check]`: writes docs/data-dictionary.md from the tables' comments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from sqlalchemy.dialects import postgresql

from configs import cli
from configs.document import DOCS_DIR, table_row, write_or_check
from warehouse.store import tables

_INTRO = """\
# Data dictionary

<!-- Written by `python -m warehouse.store.dictionary` (`make docs`) from warehouse/store/tables.py. Edit that. -->

There are two databases, each with its own URL ([configuration.md](configuration.md)): the warehouse holds what was
recorded, the results what was found in it. Nothing in one refers to the other by a foreign key; where a column names
a column of the other database, its meaning says so. Each also has `alembic_version`, the number of its schema's last
migration ([migrations](../warehouse/store/migrations/)).

Window ids are `window_set_id * 2^24 + beat index`: one range of ids holds a recording's windows in order, and ids stay
below 2^53, so that JSON clients read them exactly.
"""


def document() -> dict[Path, str]:
    """What this module writes: path to content."""
    text = _INTRO
    for title, metadata in (("Warehouse", tables.warehouse), ("Results", tables.results)):
        named = sorted(metadata.tables.values(), key=lambda table: table.name)
        text += f"\n## {title}\n" + "".join(f"\n{_table(table)}" for table in named)
    return {DOCS_DIR / "data-dictionary.md": text}


def _table(table: sa.Table) -> str:
    text = f"### {table.name}\n\n{table.comment}\n\n"
    text += table_row("Column", "Type", "Null", "Key", "Meaning") + table_row(*["---"] * 5)
    for column in table.columns:
        null = "yes" if column.nullable else "no"
        text += table_row(f"`{column.name}`", _type(column), null, _keys(column), column.comment or "")
    rules = list(_rules(table))
    return text + ("\n" + "".join(f"- {rule}\n" for rule in rules) if rules else "")


def _type(column: sa.Column[object]) -> str:
    name = str(column.type.compile(dialect=postgresql.dialect())).lower()  # type: ignore[no-untyped-call,unused-ignore]
    return "double precision" if name == "float" else name


def _keys(column: sa.Column[object]) -> str:
    keys = ["primary"] if column.primary_key else []
    keys += [f"to `{key.target_fullname}`" for key in column.foreign_keys]
    keys += ["unique"] if column.unique else []
    keys += ["index"] if column.index else []
    return ", ".join(keys)


def _rules(table: sa.Table) -> Iterator[str]:
    """Constraints, indexes and partitions that are about more than one column, or no column's own, by name."""
    for constraint in sorted(table.constraints, key=lambda constraint: str(constraint.name)):
        if isinstance(constraint, sa.UniqueConstraint) and constraint.name:
            yield f"Unique: {_names(constraint.columns)}"
        elif isinstance(constraint, sa.CheckConstraint):
            yield f"Check: `{constraint.sqltext}`"
    for index in sorted(table.indexes, key=lambda index: str(index.name)):
        if len(index.columns) > 1:
            yield f"Index: {_names(index.columns)}"
    if partitions := table.dialect_options["postgresql"]["partition_by"]:
        yield f"Partitioned by `{partitions}`, a month each"


def _names(columns: sa.ColumnCollection[str, sa.Column[object]]) -> str:
    return ", ".join(f"`{column.name}`" for column in columns)


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when it is not up to date.")] = False,
) -> None:
    """Write docs/data-dictionary.md from the comments in warehouse/store/tables.py.

    Exit codes: 0 written, or up to date; 3 with --check: the file is not what the code says.
    """
    write_or_check(document(), check=check)


if __name__ == "__main__":
    cli.run(main)
