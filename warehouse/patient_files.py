"""Files that hold what patients' recordings hold, beside the databases: posted files, copies for training, warm-ups.

What users gave to `warehouse.ingest`, or took away by an export, is theirs: nothing here touches it.
"""

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from configs.cards import write_documents
from configs.errors import SourceError
from warehouse.pseudonyms import pseudonym
from warehouse.signal.readers import find_sources, open_source, read_ucr

#: Of a pushed version's assets.extra: windows of patients that a server replays when it loads the version.
WARMUP_FILE: Final = "tf_serving_warmup_requests"
CARD_FILE: Final = "model_card.json"
_EXTRA: Final = "assets.extra"
_EXAMPLES: Final = ("examples", "transformed_examples")  # outputs of training stages that hold windows


def uploads_of(data_dir: Path, key: bytes, alias: str) -> list[Path]:
    """Folders of posted files that are not ingested yet and hold a recording of a patient.

    Args:
        key: of the pseudonyms.
        alias: the patient's pseudonym.
    """
    folder = data_dir / "uploads"
    if not folder.is_dir():
        return []
    return [upload for upload in sorted(folder.iterdir()) if upload.is_dir() and alias in _patients_in(upload, key)]


def _patients_in(folder: Path, key: bytes) -> set[str]:
    found = set()
    for ref in find_sources([str(folder)])[0]:
        try:
            header = read_ucr(ref).header if ref.format == "ucr" else open_source(ref).header
        except SourceError:  # ingest will say why
            continue
        found.add(pseudonym(key, header.patient_key))
    return found


def training_copies(data_dir: Path) -> list[Path]:
    """Folders with windows that training runs wrote for themselves.

    They are caches: a run that needs them again makes them from the warehouse. Those of runs that failed are known to
    nobody, so all are given, whatever span they are of.
    """
    runs = data_dir / "tfx"
    return sorted(copy for name in _EXAMPLES for copy in runs.glob(f"*/runs/*/{name}/*") if copy.is_dir())


def warmups(data_dir: Path, models: Collection[Mapping[str, Any]]) -> list[Path]:
    """Warm-up requests of these versions, and of the copies that their training left."""
    pushed = [_version_dir(data_dir, model) / _EXTRA / WARMUP_FILE for model in models]
    names = sorted({model["model_name"] for model in models})
    trained = [path for name in names for path in (data_dir / "tfx" / name / "runs").rglob(WARMUP_FILE)]
    return [path for path in (*pushed, *trained) if path.is_file()]


def remove(paths: Collection[Path]) -> int:
    """Removes files and folders; returns how many files that were."""
    n_files = 0
    for path in paths:
        if path.is_dir():
            n_files += sum(1 for inner in path.rglob("*") if inner.is_file())
            shutil.rmtree(path)
        elif path.exists():
            n_files += 1
            path.unlink()
    return n_files


def without_recordings(card: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A model card that does not name these recordings: not in lists, not in slices or tables by recording."""
    removed: dict[str, Any] = _without(card, {*names, *(f"recording={name}" for name in names)})
    if removed != card:
        removed["data"]["erased_recordings"] = removed["data"].get("erased_recordings", 0) + len(names)
    return removed


def _without(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(inner, names) for key, inner in value.items() if key not in names}
    if isinstance(value, list | tuple):
        kept = [item for item in value if not (isinstance(item, str) and item in names)]
        named = [item for item in kept if isinstance(item, Mapping) and item.get("recording") in names]
        return [_without(item, names) for item in kept if item not in named]
    return value


def rewrite_card(data_dir: Path, model: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Puts a card in the place of the one beside a pushed version, if that is there."""
    extra = _version_dir(data_dir, model) / _EXTRA
    if (extra / CARD_FILE).is_file():
        title = f"Model card of {model['model_name']}, version {model['model_version']}"
        write_documents(extra, "model_card", title, card)


def cards_naming(data_dir: Path, models: Collection[Mapping[str, Any]], names: Collection[str]) -> list[Path]:
    """Cards beside pushed versions that name one of these recordings."""
    found = []
    for model in models:
        path = _version_dir(data_dir, model) / _EXTRA / CARD_FILE
        if path.is_file():
            card = json.loads(path.read_text("utf-8"))
            if without_recordings(card, names) != card:
                found.append(path)
    return found


def _version_dir(data_dir: Path, model: Mapping[str, Any]) -> Path:
    return data_dir / "models" / str(model["model_name"]) / str(model["model_version"])
