"""`python -m warehouse.restore FOLDER`: a backup into empty databases and a new data directory, counted and checked."""

import json
import tarfile
from pathlib import Path
from typing import Annotated, Any

import typer

from configs import cli
from configs.errors import EXIT_DATA, ConflictError, SourceError
from configs.settings import Settings, load_settings
from warehouse.audit import command_act, verify
from warehouse.backup import FILES, MANIFEST, key_check, sha256_of
from warehouse.pseudonyms import key_of
from warehouse.store import Stores
from warehouse.store.audit_queries import ChainHead
from warehouse.store.database import migrate, resolve_urls
from warehouse.store.dumps import counts, restore, snapshot
from warehouse.store.results import Results
from warehouse.store.warehouse import Warehouse


def main(
    folder: Annotated[Path, typer.Argument(help="A backup that `python -m warehouse.backup` made.")],
    check_only: Annotated[bool, typer.Option("--check", help="Only check the backup's files.")] = False,
    profile: Annotated[str | None, typer.Option(help="Profile name or YAML file.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was restored here.")] = None,
) -> None:
    """Restore a backup where nothing is yet: empty databases, a data directory without models.

    Files are checked by sha256 before anything is written, rows are counted afterwards, and the audit log is verified
    up to the backup's last row. A backup of an older release is migrated. Put the pseudonym key in place first
    (ECG_PSEUDONYM_KEY, or pseudonym.key in the data directory); afterwards run `python -m warehouse.roles`, if you use
    roles, and erase again who was erased since.

    Exit codes: 0 all of it is back, 3 damaged, or there is something in the way, 5 a database or the disk is not
    available.
    """
    manifest = check(folder)
    if check_only:
        cli.note(f"{folder} is whole.")
        return
    settings = load_settings(profile)
    restored = bring_back(folder, manifest, settings)
    cli.write_json(json_file, restored)
    if restored["differences"]:
        cli.fail("not all is as it was backed up:\n  " + "\n  ".join(restored["differences"]), EXIT_DATA)
    rows = sum(sum(database["rows"].values()) for database in manifest["databases"].values())
    cli.note(f"{rows} rows and the files of {manifest['made_at']} are back, and as they were.")
    if not restored["key_matches"]:
        cli.note("The pseudonym key here is another: put the right one in place before you ingest anything.")


def check(folder: Path) -> dict[str, Any]:
    """A backup's manifest, after checking its files.

    Raises:
        SourceError: it is not whole.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        wrong = [name for name, digest in manifest["sha256"].items() if sha256_of(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(str(folder), f"is no whole backup ({error})", "Take another one.") from error
    if wrong:
        raise SourceError(str(folder / wrong[0]), "was changed since the backup", "Take another backup.")
    return manifest


def bring_back(folder: Path, manifest: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Restores a checked backup; says what differs from its manifest.

    Raises:
        ConflictError: there are models, or tables, already.
    """
    if any(settings.models_dir.glob("*/*")):
        raise ConflictError(str(settings.models_dir), "has models already", "Set ECG_DATA_DIR to a new folder.")
    urls = resolve_urls(settings.warehouse_url, settings.results_url, settings.data_dir)
    differences = []
    for kind, url in (("warehouse", urls.warehouse), ("results", urls.results)):
        restore(url, folder / f"{kind}.dump")
        with snapshot(url) as (connection, _):
            found, wanted = counts(connection), manifest["databases"][kind]["rows"]
        differences += [
            f"{kind}.{name}: {found.get(name)} rows, not {wanted.get(name)}"
            for name in sorted({*found, *wanted})
            if found.get(name) != wanted.get(name)
        ]
        migrate(url, kind)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / FILES) as archive:
        archive.extractall(settings.data_dir, filter="data")
    stores = Stores(Warehouse.open(urls.warehouse), Results.open(urls.results))
    try:
        number, _, digest = manifest["audit_head"].partition(":")
        rows = list(stores.results.all_acts())
        differences += [f"audit log: {fault}" for fault in verify(rows, _anchor(rows, int(number), digest)).faults]
        stores.results.add_acts([command_act("restore", folder.name)])
    finally:
        stores.warehouse.close()
        stores.results.close()
    here = key_check(key_of(settings.pseudonym_key, settings.data_dir))
    return {"differences": differences, "key_matches": here == manifest["key_check"]}


def _anchor(rows: list[dict[str, Any]], number: int, digest: str) -> list[ChainHead]:
    """The manifest's head, which may be newer than the dump: somebody read a strip in between."""
    return [ChainHead(number, digest)] if rows and rows[-1]["audit_id"] >= number else []


if __name__ == "__main__":
    cli.run(main)
