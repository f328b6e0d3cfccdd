"""`python -m warehouse.roles`: database roles that may do no more than they must, and rows that sites do not share."""

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import sqlalchemy as sa
import typer
from psycopg2 import errors as pg_errors
from psycopg2.extensions import encrypt_password
from rich.table import Table

from configs import cli
from configs.errors import ConfigurationError
from configs.settings import load_settings
from warehouse.store import open_stores
from warehouse.store.connection import Repository
from warehouse.store.grants import ROLES, Grants, Role

_POLICY: Final = "ecg_by_site"
_SITE: Final = "(SELECT current_setting('ecg.site', true)) IN (site, '*')"
#: Rows that say nothing of a site are those of their window set's recording, which has one.
_BY_SET: Final = "EXISTS (SELECT 1 FROM window_sets s WHERE s.window_set_id = {})"
_BY_SUMMARY: Final = (
    "EXISTS (SELECT 1 FROM recording_summaries m WHERE m.model_version = {0}.model_version "
    "AND m.recording_id = {0}.recording_id)"
)
_OF_ALL_SITES: Final = ("api_keys", "sessions", "model_recordings", "audit_log")  # asked before, or beyond, a site


def main(
    passwords: Annotated[
        Path | None,
        typer.Option(help="Folder with files ecg_api_password, ...: these roles may log in, with what the file holds."),
    ] = None,
    list_only: Annotated[bool, typer.Option("--list", help="Only say what each role is for.")] = False,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
) -> None:
    """Make a role for each process, ecg_api, ecg_scorer, ... (--list), and grant each what it needs.

    To be run as the tables' owner, who may create roles, after each migration: it grants anew, so that running it
    again changes nothing. Then give each process the URL of its own role. Without a password file a role cannot log
    in; grant it to logins of yours.

    The API's role sees rows of the site alone that each request is of: the database refuses what a forgotten condition
    in a query would show. The others serve all sites (BYPASSRLS). ecg_exporter is for Prometheus's postgres-exporter:
    it has PostgreSQL's pg_monitor, and reads no table.

    Exit codes: 0 done, 2 wrong options, or this user may not, 5 a database is not available.
    """
    if list_only:
        table = Table("Role", "For", "Sees")
        for name, role in ROLES.items():
            table.add_row(name, role.purpose, _sees(role))
        cli.show(table)
        return
    given = _passwords(passwords)
    settings = load_settings(profile)
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        for kind, database in (("warehouse", stores.warehouse), ("results", stores.results)):
            apply_roles(database, kind, given)
    logins = ", ".join(given) or "none"
    cli.note(f"Roles {', '.join(ROLES)} have what they need; they may log in: {logins}.")


def apply_roles(database: Repository, kind: str, passwords: Mapping[str, str]) -> None:
    """Makes the roles and grants them what they need in one database, in one transaction.

    Args:
        kind: warehouse or results.
        passwords: of the roles that may log in.

    Raises:
        ConfigurationError: the connection's user may not do this.
    """
    with database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(72674905)"))  # roles are the whole server's
        for name, role in ROLES.items():
            _ensure_role(connection, name, role, password=passwords.get(name))
            if role.member_of is None:
                _grant(connection, name, role.warehouse if kind == "warehouse" else role.results)
        by_site = [name for name, role in ROLES.items() if role.by_site]
        _policies(connection, by_site)


def _ensure_role(connection: sa.Connection, name: str, role: Role, *, password: str | None) -> None:
    bypass = not role.by_site and role.member_of is None
    known = connection.execute(
        sa.text("SELECT rolbypassrls, rolcanlogin FROM pg_roles WHERE rolname = :name"), {"name": name}
    ).one_or_none()
    try:
        if known is None:
            connection.execute(sa.text(f"CREATE ROLE {name} NOLOGIN {'BYPASSRLS' if bypass else 'NOBYPASSRLS'}"))
        elif known.rolbypassrls != bypass:
            connection.execute(sa.text(f"ALTER ROLE {name} {'BYPASSRLS' if bypass else 'NOBYPASSRLS'}"))
        if role.member_of is not None:
            connection.execute(sa.text(f"GRANT {role.member_of} TO {name}"))
        if password is not None:  # hashed here: neither the network nor the server's log has it
            driver: Any = connection.connection.dbapi_connection
            verifier = encrypt_password(password, name, driver, "scram-sha-256")
            connection.exec_driver_sql(f"ALTER ROLE {name} LOGIN PASSWORD %s", (verifier,))
    except sa.exc.DBAPIError as error:
        if isinstance(error.orig, pg_errors.InsufficientPrivilege):
            problem = f"this user may not make it ({str(error.orig).splitlines()[0]})"
            hint = "Run this as a superuser, or as a user with CREATEROLE, BYPASSRLS and pg_monitor WITH ADMIN OPTION."
            raise ConfigurationError(f"role {name}", problem, hint) from error
        raise


def _sees(role: Role) -> str:
    if role.member_of is not None:
        return "no table"
    return "its request's site" if role.by_site else "all sites"


def _grant(connection: sa.Connection, role: str, grants: Grants) -> None:
    schema = connection.execute(sa.text("SELECT current_schema()")).scalar_one()
    tables = _tables(connection)
    connection.execute(sa.text(f'GRANT USAGE ON SCHEMA "{schema}" TO {role}'))
    connection.execute(sa.text(f'REVOKE ALL ON ALL TABLES IN SCHEMA "{schema}" FROM {role}'))
    connection.execute(sa.text(f"GRANT SELECT ON alembic_version TO {role}"))  # every process looks at it on start
    for table, columns in tables.items():
        if table in grants.columns:  # REVOKE of the table's privileges took those of its columns too
            shown = ", ".join(f'"{column}"' for column in columns if column not in grants.columns[table])
            connection.execute(sa.text(f"GRANT SELECT ({shown}) ON {table} TO {role}"))
        elif grants.reads and table not in grants.hidden:
            connection.execute(sa.text(f"GRANT SELECT ON {table} TO {role}"))
        for pattern, privileges in grants.writes.items():
            if fnmatch.fnmatchcase(table, pattern):
                connection.execute(sa.text(f"GRANT {privileges} ON {table} TO {role}"))
    if any("INSERT" in privileges for privileges in grants.writes.values()):
        connection.execute(sa.text(f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "{schema}" TO {role}'))
    for function in grants.functions:
        connection.execute(sa.text(f"GRANT EXECUTE ON FUNCTION {function} TO {role}"))


def _policies(connection: sa.Connection, roles: list[str]) -> None:
    for table, columns in _tables(connection).items():
        condition = site_condition(table, columns)
        if condition is None:
            continue
        connection.execute(sa.text(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
        connection.execute(sa.text(f"DROP POLICY IF EXISTS {_POLICY} ON {table}"))
        connection.execute(
            sa.text(
                f"CREATE POLICY {_POLICY} ON {table} TO {', '.join(roles)} USING ({condition}) WITH CHECK ({condition})"
            )
        )


def site_condition(table: str, columns: tuple[str, ...]) -> str | None:
    """Which rows of a table are of the transaction's site; None for a table that knows no sites."""
    if table in _OF_ALL_SITES:
        return None
    if "site" in columns:
        return _SITE
    if table == "window_sets":
        return "EXISTS (SELECT 1 FROM recordings r WHERE r.recording_id = window_sets.recording_id)"
    if {"model_version", "recording_id"} <= set(columns):
        return _BY_SUMMARY.format(table)
    if "recording_id" in columns:
        return None
    if "window_set_id" in columns and "model_version" not in columns:
        return _BY_SET.format(f"{table}.window_set_id")
    if "window_id" in columns:
        return _BY_SET.format(f"{table}.window_id >> 24")
    return None


def _tables(connection: sa.Connection) -> dict[str, tuple[str, ...]]:
    """Tables, partitions of others left out, with their columns."""
    query = sa.text(
        "SELECT c.relname, array_agg(CAST(a.attname AS text) ORDER BY a.attnum) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname <> 'alembic_version' "
        "GROUP BY 1 ORDER BY 1"
    )
    return {row[0]: tuple(row[1]) for row in connection.execute(query)}


def _passwords(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    found = {}
    for name in ROLES:
        file = folder / f"{name}_password"
        if file.is_file():
            found[name] = file.read_text("utf-8").strip()
            if len(found[name]) < 12:
                raise ConfigurationError(str(file), "is shorter than 12 characters", "Put a random password into it.")
    if not found:
        raise ConfigurationError(f"--passwords {folder}", "has no password", f"Put files {', '.join(ROLES)}_password.")
    return found


if __name__ == "__main__":
    cli.run(main)
