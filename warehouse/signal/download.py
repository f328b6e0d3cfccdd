"""Downloads records of the MIT-BIH Arrhythmia Database from PhysioNet, and knows them again.

Moody GB, Mark RG (2001), The impact of the MIT-BIH Arrhythmia Database, IEEE Eng Med Biol 20(3):45-50.
Goldberger AL et al. (2000), PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101(23):e215-e220.
Licence of the data: Open Data Commons Attribution 1.0.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx

from configs.errors import SourceError, StorageError, UnavailableError

MITDB_URL = "https://physionet.org/files/mitdb/1.0.0/"
MITDB_DAT_BYTES = 1_950_000  # every record: 650,000 samples of two leads in format 212
_PINS = Path(__file__).with_name("mitdb.csv")
_EXTENSIONS = ("hea", "dat", "atr")
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)  # a machine without network must notice quickly
_ATTEMPTS = 3
_LOCAL_HINT = "or set ECG_MITDB_DIR to a folder that has the records."


@dataclass(frozen=True)
class Pin:
    """What is known about a record: whose it is, and the sha256 (hex) of its files by extension."""

    record: str
    patient: str
    sha256: dict[str, str]


@cache
def mitdb_pins() -> dict[str, Pin]:
    """Returns what `mitdb.csv` knows, by record name, ascending."""
    with _PINS.open(encoding="ascii", newline="") as file:
        return {
            row["record"]: Pin(row["record"], row["patient"], {ext: row[f"sha256_{ext}"] for ext in _EXTENSIONS})
            for row in csv.DictReader(file)
        }


def mitdb_records() -> tuple[str, ...]:
    """Returns the names of all 48 records, ascending."""
    return tuple(mitdb_pins())


@cache
def _patients_by_dat() -> dict[str, str]:
    return {pin.sha256["dat"]: pin.patient for pin in mitdb_pins().values()}


def mitdb_patient_of(sha256_dat: str) -> str | None:
    """Returns whose record a signal file is, by its sha256 (hex), or None when it is not of this database.

    Records 201 and 202 are the same patient; each other record is one of its own.
    """
    return _patients_by_dat().get(sha256_dat)


def fetch_mitdb(
    records: Sequence[str],
    cache_dir: Path,
    *,
    client: httpx.Client,
    report: Callable[[str], None],
    pins: Mapping[str, Pin] | None = None,
) -> Path:
    """Downloads header, signals and annotations of `records`; what is there already, and right, is kept.

    A file is written as `<name>.partial`, continued where it was cut, and takes its name only when its sha256 is the
    one pinned in `mitdb.csv`.

    Args:
        records: names such as "100".
        cache_dir: where the files go; made when missing.
        client: makes the requests; its timeouts are not used (5 s to connect, 30 s between bytes).
        report: is told, in one line each, what is downloaded.
        pins: what the files must be; `mitdb_pins()` when None.

    Returns:
        `cache_dir`.

    Raises:
        SourceError: a record that the database does not have, or a file whose checksum is wrong; it is deleted.
        UnavailableError: PhysioNet cannot be reached, refuses, or stops in the middle again and again.
        StorageError: `cache_dir` cannot be written, or the disk is full.
    """
    known = mitdb_pins() if pins is None else pins
    for record in records:
        if record not in known:
            hint = f"There are {len(known)}: {', '.join(known)}."
            raise SourceError(f"MIT-BIH record {record}", "does not exist", hint)
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        for record in records:
            for extension, sha256 in known[record].sha256.items():
                _fetch(f"{record}.{extension}", sha256, cache_dir, client, report)
    except OSError as error:
        raise StorageError(
            str(error.filename or cache_dir), error.strerror or str(error), "Free space or choose another folder."
        ) from error
    return cache_dir


def _fetch(name: str, sha256: str, cache_dir: Path, client: httpx.Client, report: Callable[[str], None]) -> None:
    target = cache_dir / name
    if target.is_file():
        if _sha256(target) == sha256:
            return
        report(f"{name}: the copy in {cache_dir} is damaged and downloaded again")
        target.unlink()
    partial = cache_dir / f"{name}.partial"
    was_begun = partial.is_file()
    _download(MITDB_URL + name, partial, client, report)
    if was_begun and _sha256(partial) != sha256:  # what was there may have been wrong, not what came now
        partial.unlink()
        _download(MITDB_URL + name, partial, client, report)
    if _sha256(partial) != sha256:
        partial.unlink()
        raise SourceError(
            MITDB_URL + name,
            "does not have the checksum of the published file; it was deleted",
            f"Run again; if it happens again, something on the way changes files: download it elsewhere, {_LOCAL_HINT}",
        )
    partial.replace(target)


def _download(url: str, partial: Path, client: httpx.Client, report: Callable[[str], None]) -> None:
    """Downloads `url` to `partial`, continuing it; a connection that breaks is taken up again a few times."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue(url, partial, client, report)
            return
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise UnavailableError(url, f"cannot be reached ({error})", f"Check the network, {_LOCAL_HINT}") from error
        except httpx.RequestError as error:
            if attempt == _ATTEMPTS:
                raise UnavailableError(
                    url, f"broke off {_ATTEMPTS} times ({error})", "Run again: it goes on where it stopped."
                ) from error


def _continue(url: str, partial: Path, client: httpx.Client, report: Callable[[str], None]) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    headers = {"Accept-Encoding": "identity"}  # ranges count the bytes of the file, not of a compressed one
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to download; the checksum will tell whether that is so
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise UnavailableError(url, f"PhysioNet answers {response.status_code}", f"Try again later, {_LOCAL_HINT}")
        goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
        report(f"{'continuing' if goes_on else 'downloading'} {url}")
        with partial.open("ab" if goes_on else "wb") as file:
            for block in response.iter_bytes():
                file.write(block)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
