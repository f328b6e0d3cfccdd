"""Recordings posted to the service: kept in a folder each, ingested one after the other in the background.

The row in `uploads` is written once all files are on disk, so what it speaks of is whole. A service that stops half way
goes on where it stopped: ingest itself adds a recording whole or not at all.
"""

import hashlib
import re
import secrets
import shutil
import threading
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from api.access import Principal
from api.limits import MB
from api.paging import Clock
from api.problems import RefusedError
from configs.errors import ConflictError, EcgError, NotFoundError, RequestError, StorageError, UnavailableError
from configs.logging import get_logger
from configs.settings import Settings
from warehouse.ingest import ingest
from warehouse.signal.readers import find_sources
from warehouse.store import Stores
from warehouse.store.connection import at_site
from warehouse.store.database import free_bytes

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.+()-]{0,127}")
_PART = 1 << 20
_RESERVE_BYTES = 128 * 2**20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0  # before what was not available is tried again


@dataclass(frozen=True)
class UploadedFile:
    """A file as it comes: its name as the sender gave it, and its bytes."""

    name: str
    stream: IO[bytes]


class Uploads:
    """Takes recordings and ingests them.

    Args:
        settings: where data is, how windows are cut, how much is taken.
    """

    def __init__(self, stores: Stores, settings: Settings, clock: Clock) -> None:
        self._stores = stores
        self._settings = settings
        self._clock = clock
        self._folder = settings.data_dir / "uploads"
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="uploads")
        self._closing = threading.Event()

    def accept(
        self, files: Iterable[UploadedFile], principal: Principal, idempotency_key: str | None
    ) -> tuple[dict[str, Any], bool]:
        """Keeps files and has them ingested.

        Returns:
            The upload's row; and whether it is new: with an idempotency key that was sent before, it is not.

        Raises:
            RequestError: a name, or an archive, cannot be taken.
            RefusedError: 413, too many files or bytes, or 415, nothing that can be read.
            ConflictError: the idempotency key was sent before, with other files.
            StorageError: the disk is full.
        """
        upload_id = secrets.token_hex(16)
        folder = self._folder / upload_id
        try:
            folder.mkdir(parents=True)
            names, size, digest = self._keep(files, folder)
            row = self._stores.warehouse.add_upload(
                {
                    "upload_id": upload_id,
                    "site": principal.site,
                    "created_by": principal.credential or principal.name,
                    "idempotency_key": idempotency_key,
                    "digest": digest,
                    "files": names,
                    "bytes": size,
                    "patients": None if principal.patients is None else list(principal.patients),
                    "status": "waiting",
                }
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageError(str(self._folder), error.strerror or "cannot be written", "Free space.") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if row["upload_id"] != upload_id:
            shutil.rmtree(folder, ignore_errors=True)
            if row["digest"] != digest:
                raise ConflictError(
                    "Idempotency-Key", "was sent before, with other files", "Send another key for other files."
                )
            return row, False
        self._worker.submit(self._ingest, row)
        return row, True

    def upload(self, upload_id: str, principal: Principal) -> dict[str, Any]:
        """One upload; a device sees its own only.

        Raises:
            NotFoundError: there is none.
        """
        row = self._stores.warehouse.upload(upload_id, principal.site)
        own = row is not None and row["created_by"] == (principal.credential or principal.name)
        if row is None or not (own or principal.role == "admin"):
            raise NotFoundError(f"upload {upload_id}", "does not exist", "POST /recordings gives an id.")
        return row

    def resume(self) -> None:
        """Goes on with what was not finished when the service stopped."""
        for row in self._stores.warehouse.unfinished_uploads():
            self._worker.submit(self._ingest, row)

    def close(self) -> None:
        """Waits for the upload that is being ingested; the others wait for the next start."""
        self._closing.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _keep(self, files: Iterable[UploadedFile], folder: Path) -> tuple[list[str], int, str]:
        """Writes files to a folder, unpacking archives; returns names, bytes, and a digest of all of it."""
        limit = self._settings.api.max_upload_mb * MB
        names: list[str] = []
        size = 0
        digest = hashlib.sha256()
        for given in _unpacked(files, folder, self._settings.api.max_upload_files):
            if len(names) == self._settings.api.max_upload_files:
                raise _too_many(self._settings.api.max_upload_files)
            if given.name in names:
                raise RequestError("file", f"{given.name} comes twice", "Send each file once.")
            digest.update(given.name.encode() + b"\0")
            path = folder / given.name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                while part := _read(given):
                    size += len(part)
                    if size > limit:
                        raise RefusedError(
                            "too-large", f"Unpacked, the files are larger than {limit / MB:g} MB. Send fewer at a time."
                        )
                    if free_bytes(folder) < _RESERVE_BYTES:
                        raise StorageError(str(folder), "the disk is full", "Free space, and send it again.")
                    digest.update(part)
                    file.write(part)
            names.append(given.name)
        if not names:
            raise RequestError("file", "is missing", "Send one or more files as multipart/form-data, part name file.")
        _check_headers(folder, names)
        return names, size, digest.hexdigest()

    def _ingest(self, row: dict[str, Any]) -> None:
        """Ingests an upload, however long a database or the disk is away; the next start goes on where this stops."""
        pause_s = _FIRST_PAUSE_S
        with at_site(row["site"]):
            while not self._try_to_ingest(row):
                if self._closing.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _try_to_ingest(self, row: dict[str, Any]) -> bool:
        """Whether that came to an end, good or bad; not when something was not available."""
        log = get_logger("api").bind(upload_id=row["upload_id"])
        folder = self._folder / row["upload_id"]
        try:
            self._stores.warehouse.update_upload(row["upload_id"], {"status": "ingesting"})
            values = self._ingest_folder(row, folder)
        except UnavailableError as error:
            log.warning("upload_waits", error=str(error))
            return False
        except EcgError as error:
            log.warning("upload_failed", error=str(error))
            values = {"status": "failed", "problem": f"{error.problem}. {error.hint}".strip()}
        except Exception:  # whatever it is, the poster must not wait for ever
            log.error("upload_crashed", exc_info=True)
            values = {"status": "failed", "problem": "Something failed that should not have; the log has it."}
        try:
            self._stores.warehouse.update_upload(row["upload_id"], values, finished_at=self._clock())
        except UnavailableError as error:  # it is ingested again, which adds nothing twice
            log.warning("upload_not_noted", error=str(error))
            return False
        log.info("upload_finished", status=values["status"])
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def _ingest_folder(self, row: dict[str, Any], folder: Path) -> dict[str, Any]:
        if not folder.is_dir():
            return {"status": "failed", "problem": "The files are gone. Send them again."}
        sources, failures = find_sources([str(folder)])
        one_process = self._settings.ingest.model_copy(update={"workers": 1})
        settings = self._settings.model_copy(update={"site": row["site"], "ingest": one_process})
        report = ingest(
            sources, settings, self._stores, failures=failures, now=row["created_at"], only_patients=row["patients"],
            origin=f"upload {row['created_by']}",
        )  # fmt: skip
        named = self._stores.warehouse.names_of(report.recording_ids)
        recordings = [{"recording_id": number, "name": name} for number, name in named.items()]
        problem = "; ".join(report.failures).replace(f"{folder}/", "").replace(str(folder), "upload") or None
        return {"status": "failed" if problem else "done", "problem": problem, "recordings": recordings}


def _unpacked(files: Iterable[UploadedFile], folder: Path, max_files: int) -> Iterator[UploadedFile]:
    """The files, and in place of each archive what is in it. Names are checked."""
    for given in files:
        if not given.name.lower().endswith(".zip"):
            yield UploadedFile(_checked(given.name), given.stream)
            continue
        try:
            with zipfile.ZipFile(given.stream) as archive:
                members = [member for member in archive.infolist() if not member.is_dir()]
                if len(members) > max_files:
                    raise _too_many(max_files)
                for member in members:
                    if member.flag_bits & 1:
                        raise RequestError("file", "is an encrypted archive", "Send it without a password.")
                    with archive.open(member) as stream:
                        yield UploadedFile(_checked(member.filename, in_archive=True), stream)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise RequestError("file", "is a damaged archive", "Make the .zip again.") from error


def _read(given: UploadedFile) -> bytes:
    try:
        return given.stream.read(_PART)
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise RequestError("file", f"{given.name} is damaged in its archive", "Make the .zip again.") from error


def _checked(name: str, *, in_archive: bool = False) -> str:
    """A name that stays in its folder."""
    parts = PurePosixPath(name).parts if in_archive else (name,)
    if not parts or len(parts) > 8 or not all(_NAME.fullmatch(part) for part in parts):
        shown = name.encode("ascii", "replace").decode()[:80]
        raise RequestError(
            "file",
            f"the name {shown!r} cannot be taken",
            "Send plain names of letters, digits, blanks and _ . + - ( ), without a path.",
        )
    return "/".join(parts)


def _check_headers(folder: Path, names: Iterable[str]) -> None:
    """WFDB headers name their signal files: those must be beside them."""
    for name in names:
        if not name.lower().endswith(".hea"):
            continue
        lines = (folder / name).read_bytes()[:_PART].decode("ascii", "replace").splitlines()
        for line in [line for line in lines if line.strip() and not line.startswith("#")][1:]:
            if "/" in line.split()[0] or "\\" in line.split()[0]:
                raise RequestError("file", f"{name} names a file elsewhere", "Send a header with plain file names.")


def _too_many(limit: int) -> RefusedError:
    return RefusedError("too-large", f"More than {limit} files. Send fewer at a time, or see api.max_upload_files.")
