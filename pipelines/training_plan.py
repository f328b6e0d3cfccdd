"""What a training run is about to do, and what it is compared with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from components.lineage import code_digest
from configs.contract import SPLITS, FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import Settings
from warehouse.store import Stores
from warehouse.store.records import DataSpan, ModelVersion


@dataclass(frozen=True)
class Plan:
    """What a run is about to do."""

    settings: Settings
    span: DataSpan
    spec: FeatureSpec
    config: Mapping[str, Any]
    models: Sequence[ModelVersion]  # pushed before, of this geometry, newest first
    champion: ModelVersion | None
    push: bool
    force: bool

    @property
    def run_key(self) -> str:
        """Of data, code and configuration: same key, same model."""
        content = {"span": self.span.digest, "config": self.config, "code": code_digest()}
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def home(self) -> Path:
        """Where this model's runs, metadata, logs and schemas are."""
        return self.settings.data_dir.resolve() / "tfx" / self.settings.training.model_name

    @property
    def schema_dir(self) -> Path:
        """Where the versions v1, v2, ... of this geometry's curated schema are."""
        return self.home / "schemas" / self.spec.digest

    @property
    def curated_schema(self) -> Path | None:
        """The newest version; None before the first run."""
        versions = self.schema_dir.glob("v*/schema.pbtxt")
        return max(versions, key=lambda path: int(path.parent.name[1:]), default=None)

    @property
    def pushed_before(self) -> ModelVersion | None:
        """The newest version that came from this very plan and is still where it was pushed."""
        for model in self.models:
            pushed = self.settings.models_dir / model.model_name / str(model.model_version) / "saved_model.pb"
            if model.run_key == self.run_key and pushed.is_file():
                return model
        return None


def check_splits(span: DataSpan) -> None:
    counts = dict.fromkeys(SPLITS, 0)
    for entry in span.content["window_sets"]:
        counts[entry["split"]] += entry["n_windows"]
    empty = [split for split, n in counts.items() if n == 0]
    if empty:
        raise DataInvalidError(
            f"feature version {span.content['feature_version']}",
            f"has no windows of patients in the {' and '.join(empty)} split",
            "Ingest recordings of at least three patients: python -m warehouse.ingest SOURCE...",
        )


def find_champion(stores: Stores, models: Sequence[ModelVersion]) -> ModelVersion | None:
    """What a new model is compared with: the stable version, or for another geometry than its, the newest of that."""
    if not models:
        return None
    stable = stores.results.release().stable
    return next((model for model in models if model.model_version == stable), models[0])
