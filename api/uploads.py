"""Recordings posted to the service: kept in a folder each, for `warehouse.uploads` to ingest in the background.

The row in `uploads` is written once all files are on disk, so what it speaks of is whole.
"""

import hashlib
import re
import secrets
import shutil
import threading
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from api.access import Principal
from api.limits import MB
from api.paging import Clock
from api.problems import RefusedError
from configs.errors import ConflictError, NotFoundError, RequestError, StorageError
from configs.settings import Settings
from warehouse.store import Stores
from warehouse.store.database import free_bytes
from warehouse.uploads import UploadIngester

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 _.+()-]{0,127}")
_PART = 1 << 20
_RESERVE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class UploadedFile:
    """A file as it comes: its name as the sender gave it, and its bytes."""

    name: str
    stream: IO[bytes]


class Uploads:
    """Takes recordings; ingests them in a thread of its own, or leaves that to `python -m warehouse.uploads`.

    Args:
        settings: where data is, how much is taken, whether to ingest.

    Raises:
        ConfigurationError: it is to ingest, and cannot.
    """

    def __init__(self, stores: Stores, settings: Settings, clock: Clock) -> None:
        self._stores = stores
        self._settings = settings
        self._folder = settings.data_dir / "uploads"
        self._ingester = UploadIngester(stores, settings, clock) if settings.api.ingest_uploads else None
        self._thread: threading.Thread | None = None

    def accept(
        self, files: Iterable[UploadedFile], principal: Principal, idempotency_key: str | None
    ) -> tuple[dict[str, Any], bool]:
        """Keeps files, to be ingested.

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
        if self._ingester is not None:
            self._ingester.wake()
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

    def start(self) -> None:
        """Ingests from here on, what an earlier service left first."""
        if self._ingester is not None:
            self._thread = threading.Thread(target=self._ingester.follow, name="uploads", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Waits for the upload that is being ingested; the others wait for the next start."""
        if self._ingester is not None:
            self._ingester.close()
        if self._thread is not None:
            self._thread.join()

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
        except (zipfile.BadZipFile, NotImplementedError) as error:  # the second: a compression zipfile does not know
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
