"""Pushed versions on disk: where they are, whether they are what was pushed, and their cards. No TensorFlow."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.cards import write_documents
from configs.errors import ModelUnavailableError
from warehouse.store.records import ModelVersion
from warehouse.store.results import Results

#: The file that the Pusher copies last, and that model servers wait for.
LAST_FILE = "saved_model.pb"
#: What a version carries beside the SavedModel; it is no part of the version's digest.
EXTRA = "assets.extra"


def version_dir(models_dir: Path, model_name: str, model_version: int) -> Path:
    """Where a pushed version is.

    Raises:
        ModelUnavailableError: it is not there, or not all of it yet.
    """
    path = models_dir / model_name / str(model_version)
    if not (path / LAST_FILE).is_file():
        half = path.is_dir()
        raise ModelUnavailableError(
            f"model version {model_version}",
            f"is not whole in {path}: {LAST_FILE} is missing" if half else f"is not in {path}",
            "Train again, or put the version's folder back.",
        )
    return path


def verified_dir(models_dir: Path, model: ModelVersion) -> Path:
    """Where a version's SavedModel is, after checking that it is what was pushed.

    Raises:
        ModelUnavailableError: it is not there, or its files have changed.
    """
    directory = version_dir(models_dir, model.model_name, model.model_version)
    if model_digest(directory) != model.digest:
        raise ModelUnavailableError(
            f"model version {model.model_version}",
            f"files in {directory} are not those that were pushed",
            "Restore the folder from a backup, or train again.",
        )
    return directory


def model_digest(directory: Path) -> str:
    """sha256 of a SavedModel's files and their names; what is in assets.extra does not count."""
    digest = hashlib.sha256()
    for path in sorted(p for p in directory.rglob("*") if p.is_file() and EXTRA not in p.parts):
        digest.update(str(path.relative_to(directory)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write_card(directory: Path, model_name: str, model_version: int, card: Mapping[str, Any]) -> None:
    """Writes a version's model card beside its SavedModel, as JSON and to read."""
    write_documents(directory / EXTRA, "model_card", f"Model card of {model_name}, version {model_version}", card)


def amend_card(models_dir: Path, results: Results, model: ModelVersion, changes: Mapping[str, Any]) -> None:
    """Puts more into a version's model card: in the results database, and beside its files where they are here."""
    card = results.amend_card(model.model_version, changes)
    directory = models_dir / model.model_name / str(model.model_version)
    if directory.is_dir():
        write_card(directory, model.model_name, model.model_version, card)
