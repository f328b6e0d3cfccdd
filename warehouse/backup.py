"""`python -m warehouse.backup FOLDER`: both databases, models and schemas, checked and whole; the key apart."""

import hashlib
import hmac
import json
import os
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import sqlalchemy as sa
import typer

from configs import cli
from configs.errors import ConfigurationError, ConflictError, StorageError
from configs.settings import Settings, load_settings
from warehouse.audit import command_act
from warehouse.erasure_log import LOG_FILE, log_of, note, read_log
from warehouse.pseudonyms import key_of
from warehouse.store import Stores, open_stores
from warehouse.store.base_backup import base_backup, check_base_backup, server_of
from warehouse.store.dumps import counts, dump, snapshot

MANIFEST: Final = "manifest.json"
FILES: Final = "files.tar"
_KEPT: Final = ("models", "uploads", "tfx/*/schemas")  # of the data directory; the rest is in the databases, or a cache


def main(
    folder: Annotated[Path, typer.Argument(help="Where backups are kept; this one gets a folder of its own in it.")],
    key_file: Annotated[
        Path | None, typer.Option(help="Also write the pseudonym key here; not in FOLDER: keep it apart.")
    ] = None,
    physical: Annotated[
        bool, typer.Option("--physical", help="Copy the servers' files (pg_basebackup) instead: faster, and larger.")
    ] = False,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the manifest here too.")] = None,
) -> None:
    """Back up both databases (pg_dump), models, curated schemas and posted files, while everything runs.

    Each database is dumped as one snapshot sees it, the results before the warehouse, so that no result lacks what it
    is about; rows are counted in that snapshot, and the manifest has sha256 of each file. `python -m warehouse.restore`
    checks all of it. The folder appears under its name when it is whole. Beside it lies erasures.jsonl, who was erased
    until now: a restore leaves them out.

    With --physical a server's files are copied as they are, both databases at the same moment, with whatever else is on
    that server; the same version of PostgreSQL on the same kind of machine can start from them.

    The pseudonym key is not in it: who has both knows who the patients are. Keep it elsewhere (--key-file), and do keep
    it: without it, a patient's next recording is another patient's.

    Exit codes: 0 done, 2 wrong options, 5 a database or the disk is not available.
    """
    settings = load_settings(profile)
    if key_file is not None and folder.resolve() in key_file.resolve().parents:
        raise ConfigurationError("--key-file", "is in the backup's folder", "Name a place apart from the data.")
    with open_stores(settings.warehouse_url, settings.results_url, settings.data_dir) as stores:
        made = back_up(stores, settings, folder, now=datetime.now(UTC), physical=physical)
    if key_file is not None:
        write_key(key_of(settings.pseudonym_key, settings.data_dir), key_file)
    cli.write_json(json_file, json.loads((made / MANIFEST).read_text("utf-8")))
    cli.note(f"Backup {made} is whole. Try it: python -m warehouse.restore {made}, with ECG_DATA_DIR at a new folder.")


def back_up(stores: Stores, settings: Settings, folder: Path, *, now: datetime, physical: bool = False) -> Path:
    """Makes a backup; returns its folder.

    Args:
        physical: of the servers' files, by pg_basebackup.

    Raises:
        ConflictError: there is one of this moment.
        UnavailableError: a database does not answer, or a disk is full; nothing half is left under the name.
    """
    name = f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    partial, whole = folder / f".{name}.partial", folder / name
    if whole.exists() or partial.exists():
        raise ConflictError(str(whole), "is there already", "Wait a second, or remove what was left.")
    stores.results.add_acts([command_act("backup", name)])
    try:
        partial.mkdir(parents=True, mode=0o700)
        _write(stores, settings, partial, now=now, physical=physical)
        note(folder / LOG_FILE, read_log(log_of(settings)))
        partial.rename(whole)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise StorageError(str(folder), error.strerror or "cannot be written", "Free space, and run again.") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return whole


def _write(stores: Stores, settings: Settings, partial: Path, *, now: datetime, physical: bool) -> None:
    databases = _copy_servers(stores, partial) if physical else _dump(stores, partial)
    with tarfile.open(partial / FILES, "w") as archive:
        for pattern in _KEPT:
            for path in sorted(settings.data_dir.glob(pattern)):
                archive.add(path, arcname=str(path.relative_to(settings.data_dir)))
    head = stores.results.acts(limit=1, newest=True)[0]
    manifest = {
        "made_at": now.isoformat(),
        "physical": physical,
        "databases": databases,
        "audit_head": f"{head['audit_id']}:{bytes(head['hash']).hex()}",
        "key_check": key_check(key_of(settings.pseudonym_key, settings.data_dir)),
        "sha256": {path.name: sha256_of(path) for path in sorted(partial.iterdir()) if path.is_file()},
    }
    cli.write_json(partial / MANIFEST, manifest)


def _dump(stores: Stores, folder: Path) -> dict[str, Any]:
    databases = {}
    for kind, store in (("results", stores.results), ("warehouse", stores.warehouse)):
        with snapshot(store.url) as (connection, taken):
            databases[kind] = {"rows": counts(connection)}
            dump(store.url, taken, folder / f"{kind}.dump")
    return databases


def _copy_servers(stores: Stores, folder: Path) -> dict[str, Any]:
    """A copy a server, and for each database the copy it is in, its name there, and rows before and after."""
    databases: dict[str, Any] = {}
    copies: dict[int, str] = {}
    for kind, store in (("results", stores.results), ("warehouse", stores.warehouse)):
        databases[kind] = {"name": sa.make_url(store.url).database, "rows": _rows(store.url)}
    for kind, store in (("results", stores.results), ("warehouse", stores.warehouse)):
        server = server_of(store.url)
        if server not in copies:
            copies[server] = f"server-{kind}"
            base_backup(store.url, folder / copies[server])
            check_base_backup(folder / copies[server])
        databases[kind]["copy"] = copies[server]
    for kind, store in (("results", stores.results), ("warehouse", stores.warehouse)):
        databases[kind]["rows_after"] = _rows(store.url)
    return databases


def _rows(url: str) -> dict[str, int]:
    with snapshot(url) as (connection, _):
        return counts(connection)


def key_check(key: bytes) -> str:
    """Tells whether a key is the same, and nothing of it."""
    return hmac.new(key, b"backup", hashlib.sha256).hexdigest()[:16]


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_key(key: bytes, path: Path) -> None:
    """Writes the key as `data_dir/pseudonym.key` holds it, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.hex() + "\n")


if __name__ == "__main__":
    cli.run(main)
