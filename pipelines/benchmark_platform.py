"""The inter-patient protocol through the platform: warehouse, TFX pipeline, Evaluator, scoring, results database.

The benchmark trains by the pipeline's code but leaves TFX and the databases out. This shows that nothing is lost on the
way: the same recordings are ingested into a warehouse of their own, the pipeline trains, evaluates and pushes a model,
and the pushed model's scores are read back from the results database and asked of it in this process.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from configs.contract import CALIBRATION, TEST, TRAIN
from configs.settings import Settings
from pipelines.benchmark_data import DS1, DS1_CALIBRATION, DS2
from pipelines.score import score
from pipelines.training_run import train
from serving.in_process import InProcessModelClient
from warehouse.ingest import ingest
from warehouse.signal.readers import find_sources
from warehouse.store import Stores, open_stores

#: Of the patient of 202, which DS2 holds; here a patient is in one split only.
SHARED_PATIENT = 201


def through_platform(folder: Path, settings: Settings) -> dict[str, Any]:
    """Trains on DS1 and tests on DS2 by the platform, in databases and folders that go when it is done.

    Returns:
        `ranking` (ROC-AUC and average precision by "evaluator", "in process" and "results database"),
        `largest_difference` between a stored score and the model's in this process, `windows`.

    Raises:
        ConfigurationError: a record is not there.
        NotBlessedError: the model missed a gate.
    """
    splits = {str(record): TRAIN for record in DS1 if record != SHARED_PATIENT}
    splits |= {str(record): CALIBRATION for record in DS1_CALIBRATION} | {str(record): TEST for record in DS2}
    sources, failures = find_sources([str(folder / name) for name in splits])
    if failures:
        raise failures[0]
    with tempfile.TemporaryDirectory() as home:
        own = settings.model_copy(update={"data_dir": Path(home), "warehouse_url": None, "results_url": None})
        with open_stores(None, None, own.data_dir) as stores:
            ingest(sources, own, stores, splits_by_name=splits)
            trained = train(own, stores)
            version = trained.model_version
            assert version is not None, "only a smoke run gives none"
            score(own, stores, model_version=version, splits=[TEST])
            return _compare(own, stores, version)


def _compare(settings: Settings, stores: Stores, version: int) -> dict[str, Any]:
    (model,) = stores.results.models(version)
    client = InProcessModelClient(settings.models_dir / model.model_name / str(version))
    spec = stores.warehouse.feature_spec(model.feature_version)
    truth, stored, asked = [], [], []
    for window_set in stores.warehouse.window_sets(model.feature_version, splits=[TEST]):
        block = stores.warehouse.read_block(spec, *window_set.id_range(0, window_set.n_beats))
        window_id, score_of = stores.results.scores_of(version, window_set)
        assert np.array_equal(window_id, block.window_id), "every window has exactly one score"
        truth.append(block.aami_class != b"N")
        stored.append(score_of)
        asked.append(client.score(block.model_inputs()).score)
    y, by_database, by_model = np.concatenate(truth), np.concatenate(stored), np.concatenate(asked)
    metrics: Mapping[str, float] = model.card["metrics"]
    return {
        "windows": len(y),
        "ranking": {
            "evaluator": {key: float(metrics[key]) for key in ("roc_auc", "average_precision")},
            "in process": _ranking(y, by_model),
            "results database": _ranking(y, by_database),
        },
        "largest_difference": float(np.abs(by_database - by_model).max()),
    }


def _ranking(truth: Any, score: Any) -> dict[str, float]:
    return {
        "roc_auc": float(roc_auc_score(truth, score)),
        "average_precision": float(average_precision_score(truth, score)),
    }
