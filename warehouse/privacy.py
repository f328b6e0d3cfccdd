"""Patients are known by keyed pseudonyms only; the key lives apart from the data."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from configs.errors import StorageError

KEY_FILE = "pseudonym.key"

_AGE_BANDS = ((18, "0-17"), (40, "18-39"), (65, "40-64"), (80, "65-79"))


def load_key(data_dir: Path) -> bytes:
    """The installation's key from `data_dir/pseudonym.key`; makes one, readable by its owner only, the first time.

    Raises:
        StorageError: the file cannot be read or written.
    """
    path = data_dir / KEY_FILE
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return bytes.fromhex(path.read_text("ascii").strip())
        key = secrets.token_bytes(32)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key.hex() + "\n")
        return key
    except (OSError, ValueError) as error:
        raise StorageError(
            str(path), f"the pseudonym key cannot be used ({error})", "Restore it, or set ECG_PSEUDONYM_KEY."
        ) from error


def pseudonym(key: bytes, patient_key: str) -> str:
    """HMAC-SHA256 of what identifies the patient in the source, 32 hex digits (RFC 2104)."""
    return hmac.new(key, patient_key.encode(), hashlib.sha256).hexdigest()[:32]


def age_band(age_years: int | None) -> str:
    """The band that is stored in place of an age."""
    if age_years is None:
        return "unknown"
    return next((band for limit, band in _AGE_BANDS if age_years < limit), "80+")
