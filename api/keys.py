"""`python -m api.keys`: makes, lists and revokes API keys."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from api.access import SCOPES_OF_ROLE, NewKey, given_key, new_key
from configs import cli
from configs.errors import ConfigurationError
from configs.settings import Settings, load_settings
from warehouse.audit import command_act
from warehouse.pseudonyms import key_of, pseudonym
from warehouse.store import open_stores
from warehouse.store.results import Results

_VERBS = ("add", "list", "revoke")


def main(
    verb: Annotated[str, typer.Argument(help="add, list or revoke.")],
    key_id: Annotated[str | None, typer.Argument(help="revoke: the key's id, as `list` shows it.")] = None,
    name: Annotated[str | None, typer.Option(help="add: who or what it is for; reviews carry it.")] = None,
    role: Annotated[str, typer.Option(help="add: viewer, reviewer, admin or device.")] = "viewer",
    scope: Annotated[
        list[str] | None, typer.Option(help="add: only this of what the role may do; may be given again.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="add, list: hospital; default: the setting site.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="add: days until it expires.")] = 365,
    patient: Annotated[
        list[str] | None,
        typer.Option(help="add, device: patient id, as in its files, it may post recordings of; may be given again."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="add: take the key in this file, such as a secret of a stack; changes nothing a second time."
        ),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the key, or the list, here.")] = None,
) -> None:
    """Make, list and revoke API keys of the REST service.

    - `python -m api.keys add --name ana --role reviewer` prints a new key, once: only its hash is stored.

    - `python -m api.keys add --key-file secrets/admin_key --name admin --role admin` takes a key that was made before.

    - `python -m api.keys list` shows ids, names, roles, sites, and when each expires or was last used.

    - `python -m api.keys revoke ID` ends a key, and the sessions opened with it.

    Roles: a viewer reads, scores and exports; a reviewer also reviews; an admin also posts recordings, and settles
    reviews; a device posts recordings of its own patients, and reads nothing else. Once a key was made, every request
    needs one.

    Exit codes: 0 done, 2 wrong options, 3 no such key, 5 the database is not available.
    """
    if verb not in _VERBS:
        raise ConfigurationError(verb, "is not known here", f"One of {', '.join(_VERBS)}.")
    settings = load_settings(profile, {"site": site})
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        if verb == "add":
            key = new_key() if key_file is None else _read_key(key_file)
            if key_file is not None and stores.results.key(key.key_id) is not None:
                cli.note(f"Key {key.key_id} is there already; nothing was changed.")
                return
            _add(stores.results, settings, key, name, role, scope, days, patient, json_file)
            if key_file is None:
                typer.echo(key.text)
        elif verb == "list":
            _list(stores.results, site, json_file)
        else:
            if key_id is None:
                raise ConfigurationError("revoke", "needs a key's id", "`python -m api.keys list` shows them.")
            stores.results.revoke_key(key_id, _now(), command_act("key_revoke", f"key {key_id}"))
            cli.note(f"Revoked {key_id}; a running service stops accepting it within seconds.")


def _add(
    results: Results,
    settings: Settings,
    key: NewKey,
    name: str | None,
    role: str,
    scopes: list[str] | None,
    days: int,
    patients: list[str] | None,
    json_file: Path | None,
) -> None:
    if not name or len(name) > 200 or not name.isprintable():
        raise ConfigurationError("--name", "is missing or cannot be used", "Say who or what the key is for.")
    if role not in SCOPES_OF_ROLE:
        raise ConfigurationError("--role", f"{role} is not a role", f"One of {', '.join(SCOPES_OF_ROLE)}.")
    may = SCOPES_OF_ROLE[role]
    wrong = sorted(set(scopes or ()) - set(may))
    if wrong:
        raise ConfigurationError("--scope", f"a {role} has no scope {wrong[0]}", f"Some of {', '.join(may)}.")
    if (role == "device") != bool(patients):
        problem = "is missing" if role == "device" else "is for devices only"
        raise ConfigurationError("--patient", problem, "A device posts recordings of its own patients.")
    allowed = None
    if patients:
        hmac_key = key_of(settings.pseudonym_key, settings.data_dir)
        allowed = sorted({pseudonym(hmac_key, one) for one in patients})
    expires_at = _now() + timedelta(days=days)
    results.add_key(
        {
            "key_id": key.key_id,
            "site": settings.site,
            "secret_sha256": key.secret_sha256,
            "name": name,
            "role": role,
            "scopes": sorted(set(scopes or may)),
            "patients": allowed,
            "expires_at": expires_at,
        },
        command_act("key_add", f"key {key.key_id}", f"{role} {name}", site=settings.site),
    )
    cli.write_json(json_file, {"key": key.text, "key_id": key.key_id, "expires_at": expires_at.isoformat()})
    cli.note(
        f"Key {key.key_id} for {name}: {role} at {settings.site} until {expires_at:%Y-%m-%d}. Only its hash is stored."
    )


def _read_key(file: Path) -> NewKey:
    try:
        key = given_key(file.read_text("ascii").strip())
    except (OSError, UnicodeError):
        key = None
    if key is None:
        raise ConfigurationError(
            f"--key-file {file}", "holds no key", "One is ecg_, 12 hexadecimal digits, _ and 64 more: `make secrets`."
        )
    return key


def _list(results: Results, site: str | None, json_file: Path | None) -> None:
    rows = results.keys(site)
    now = _now()
    shown = ("key_id", "name", "role", "site", "scopes", "expires_at", "revoked_at", "last_used_at", "created_at")
    cli.write_json(json_file, [{name: row[name] for name in shown} for row in rows])
    table = Table("Id", "Name", "Role", "Site", "Scopes", "State", "Expires", "Last used")
    for row in rows:
        state = "revoked" if row["revoked_at"] else "expired" if row["expires_at"] <= now else "valid"
        used = f"{row['last_used_at'].astimezone(UTC):%Y-%m-%d %H:%M}" if row["last_used_at"] else "never"
        expires = f"{row['expires_at'].astimezone(UTC):%Y-%m-%d}"
        table.add_row(
            row["key_id"], row["name"], row["role"], row["site"], " ".join(row["scopes"]), state, expires, used
        )
    cli.show(table)


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    cli.run(main)
