"""`python -m warehouse.restore FOLDER`: a backup into empty databases and a new data directory, counted and checked."""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from configs import cli
from configs.errors import EXIT_DATA, ConfigurationError, ConflictError, SourceError
from configs.settings import Settings, load_settings
from warehouse.audit import command_act, verify
from warehouse.backup import FILES, MANIFEST, key_check, sha256_of
from warehouse.erasure import erase_again
from warehouse.erasure_log import LOG_FILE, Noted, log_of, note, read_log
from warehouse.pseudonyms import key_of
from warehouse.store import Stores
from warehouse.store.audit_queries import ChainHead
from warehouse.store.base_backup import check_base_backup, place
from warehouse.store.database import KINDS, migrate, resolve_urls
from warehouse.store.dumps import counts, restore, snapshot
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse


def main(
    folder: Annotated[Path, typer.Argument(help="A backup that `python -m warehouse.backup` made.")],
    erasures: Annotated[
        Path | None, typer.Option(help="Log of erasures, besides those beside the backup and of privacy.erasure_log.")
    ] = None,
    check_only: Annotated[bool, typer.Option("--check", help="Only check the backup's files.")] = False,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was restored here.")] = None,
) -> None:
    """Restore a backup where nothing is yet: empty databases, a data directory without models.

    Files are checked by sha256 before anything is written, rows are counted afterwards, and the audit log is verified
    up to the backup's last row. A backup of an older release is migrated. Put the pseudonym key in place first
    (ECG_PSEUDONYM_KEY, or pseudonym.key in the data directory); afterwards run `python -m warehouse.roles`, if you use
    roles.

    Who was erased after the backup was made is erased again before this ends: erasures.jsonl beside the backup, and
    privacy.erasure_log, say who. Without such a log nothing is restored; --erasures names one that lies elsewhere.

    A physical backup is put back as the embedded server of a new ECG_DATA_DIR; docs/operations.md says how into a
    server of yours.

    Exit codes: 0 all of it is back, 3 damaged, or there is something in the way, 5 a database or the disk is not
    available.
    """
    manifest = check(folder)
    if check_only:
        cli.note(f"{folder} is whole.")
        return
    settings = load_settings(profile)
    noted = erased_since(folder, settings, erasures)
    restored = bring_back(folder, manifest, settings, noted)
    cli.write_json(json_file, restored)
    if restored["differences"]:
        cli.fail("not all is as it was backed up:\n  " + "\n  ".join(restored["differences"]), EXIT_DATA)
    rows = sum(sum(database["rows"].values()) for database in manifest["databases"].values())
    cli.note(f"{rows} rows and the files of {manifest['made_at']} are back, and as they were.")
    if restored["erased_again"]:
        cli.note(f"{restored['erased_again']} patients who were erased since are erased again.")
    if not restored["key_matches"]:
        cli.note("The pseudonym key here is another: put the right one in place before you ingest anything.")


def check(folder: Path) -> dict[str, Any]:
    """A backup's manifest, after checking its files.

    Raises:
        SourceError: it is not whole.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        for copy in {database["copy"] for database in manifest["databases"].values() if "copy" in database}:
            check_base_backup(folder / copy)
        wrong = [name for name, digest in manifest["sha256"].items() if sha256_of(folder / name) != digest]
    except (OSError, ValueError, LookupError) as error:
        raise SourceError(str(folder), f"is no whole backup ({error})", "Take another one.") from error
    if wrong:
        raise SourceError(str(folder / wrong[0]), "was changed since the backup", "Take another backup.")
    return manifest


def erased_since(folder: Path, settings: Settings, named: Path | None) -> list[Noted]:
    """What all logs of erasures that can be found say.

    Raises:
        SourceError: there is none: nobody could say whom the backup must not bring back.
    """
    logs = [path for path in (named, folder.parent / LOG_FILE, log_of(settings)) if path is not None]
    if not any(path.is_file() for path in logs):
        raise SourceError(
            str(logs[0]), "is not there: nobody can say who was erased since the backup",
            "Put the log beside the backup, or name it by --erasures; an empty file says that nobody was.",
        )  # fmt: skip
    return [one for path in logs for one in read_log(path)]


def bring_back(
    folder: Path, manifest: dict[str, Any], settings: Settings, noted: Sequence[Noted] = ()
) -> dict[str, Any]:
    """Restores a checked backup; says what differs from its manifest, and how many patients were erased again.

    Args:
        noted: all erasures that are known of; see `erased_since`.

    Raises:
        ConflictError: there are models, or tables, already.
        ConfigurationError: a physical backup cannot be put into a server that runs.
    """
    if any(settings.models_dir.glob("*/*")):
        raise ConflictError(str(settings.models_dir), "has models already", "Set ECG_DATA_DIR to a new folder.")
    if manifest.get("physical"):
        _place_server(folder, manifest, settings)
    urls = resolve_urls(settings.warehouse_url, settings.results_url, settings.data_dir)
    differences = []
    for kind, url in (("warehouse", urls.warehouse), ("results", urls.results)):
        wanted = manifest["databases"][kind]
        if not manifest.get("physical"):
            restore(url, folder / f"{kind}.dump")
        with snapshot(url) as (connection, _):
            differences += _differences(kind, counts(connection), wanted["rows"], wanted.get("rows_after"))
        migrate(url, kind)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / FILES) as archive:
        archive.extractall(settings.data_dir, filter="data")
    stores = Stores(Warehouse.open(urls.warehouse), Results.open(urls.results))
    key = key_of(settings.pseudonym_key, settings.data_dir)
    try:
        number, _, digest = manifest["audit_head"].partition(":")
        rows = list(stores.results.all_acts())
        differences += [f"audit log: {fault}" for fault in verify(rows, _anchor(rows, int(number), digest)).faults]
        stores.results.add_acts([command_act("restore", folder.name)])
        if noted:
            note(log_of(settings), noted)
        erased = erase_again(stores, settings.data_dir, key, noted, log=log_of(settings))
        differences += [f"erased again, and not gone: {one.left}" for one in erased if one.left]
    finally:
        stores.warehouse.close()
        stores.results.close()
    matches = key_check(key) == manifest["key_check"]
    return {"differences": differences, "key_matches": matches, "erased_again": len(erased)}


def _place_server(folder: Path, manifest: dict[str, Any], settings: Settings) -> None:
    copies = {database["copy"] for database in manifest["databases"].values()}
    names = {kind: database["name"] for kind, database in manifest["databases"].items()}
    if settings.warehouse_url or settings.results_url or names != {kind: f"ecg_{kind}" for kind in KINDS}:
        raise ConfigurationError(
            str(folder), "is of a server's files: only an embedded server's can be put back by this command",
            "docs/operations.md says how to start a server of yours from it.",
        )  # fmt: skip
    place(folder / copies.pop(), settings.data_dir)


def _differences(kind: str, found: dict[str, int], wanted: dict[str, int], after: dict[str, int] | None) -> list[str]:
    """Tables with other numbers of rows; of a physical backup, less than before it or more than after it."""
    after = after or wanted
    faults = []
    for name in sorted({*found, *wanted}):
        low, high = sorted((wanted.get(name, -1), after.get(name, -1)))
        if not low <= found.get(name, -2) <= high:
            faults.append(f"{kind}.{name}: {found.get(name)} rows, not {wanted.get(name)}")
    return faults


def _anchor(rows: list[dict[str, Any]], number: int, digest: str) -> list[ChainHead]:
    """The manifest's head, which may be newer than the dump: somebody read a strip in between."""
    return [ChainHead(number, digest)] if rows and rows[-1]["audit_id"] >= number else []


if __name__ == "__main__":
    cli.run(main)
