"""Patients are known by keyed pseudonyms only; the key lives apart from the data."""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from pydantic import SecretStr

from configs.errors import StorageError

KEY_FILE = "pseudonym.key"
_KEY_BYTES = 32

_AGE_BANDS = ((18, "0-17"), (40, "18-39"), (65, "40-64"), (80, "65-79"))


def load_key(data_dir: Path) -> bytes:
    """The installation's key from `data_dir/pseudonym.key`; makes one, readable by its owner only, the first time.

    Raises:
        StorageError: the file cannot be read or written, or does not hold a key.
    """
    path = data_dir / KEY_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _create_key(path)
        key = bytes.fromhex(path.read_text("ascii").strip())
        if len(key) < _KEY_BYTES:  # an empty key would work, and hide nothing
            raise ValueError(f"{len(key)} bytes, not {_KEY_BYTES}")
    except (OSError, ValueError) as error:
        raise StorageError(
            str(path), f"the pseudonym key cannot be used ({error})", "Restore it, or set ECG_PSEUDONYM_KEY."
        ) from error
    return key


def key_of(given: SecretStr | None, data_dir: Path) -> bytes:
    """The key that is set, else the installation's own; set to nothing is not set.

    Raises:
        StorageError: as `load_key`.
    """
    return (given.get_secret_value().encode() if given is not None else b"") or load_key(data_dir)


def _create_key(path: Path) -> None:
    """Makes the file whole or not at all: a key that is cut off, or that two processes make twice, splits patients."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: its key is the key
            os.link(name, path)
    finally:
        os.unlink(name)


def pseudonym(key: bytes, patient_key: str) -> str:
    """HMAC-SHA256 of what identifies the patient in the source, 32 hex digits (RFC 2104)."""
    return hmac.new(key, patient_key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()[:32]


def age_band(age_years: int | None) -> str:
    """The band that is stored in place of an age."""
    if age_years is None:
        return "unknown"
    return next((band for limit, band in _AGE_BANDS if age_years < limit), "80+")
