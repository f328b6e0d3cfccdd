"""TFX Trainer's entry point: fits the autoencoders on normal beats, calibrates on held-out ones, exports the model."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_transform as tft
from tfx.components.trainer.fn_args_utils import FnArgs

from components import preprocessing as p
from components.encoder import encoder_of
from components.fitting import fit_model
from components.training_data import FEATURES, Batch, Features, Normals, read_normals
from configs import contract
from configs.contract import FeatureSpec
from configs.errors import DataInvalidError
from configs.settings import TrainingSettings
from monitoring.drift_encoder import ENCODER_FILE, save_encoder
from monitoring.drift_reference import EXTRA

#: Keys of Trainer's custom configuration.
SETTINGS = "training"
SPEC = "feature_spec"
CALIBRATION_FILE = "calibration.json"  # beside the SavedModel, in assets.extra


def run_fn(fn_args: FnArgs) -> None:
    """Trains and exports to `fn_args.serving_model_dir`.

    A search's hyper-parameters, where the Tuner ran one, stand in the place of the settings'.

    Raises:
        DataInvalidError: too few normal windows to train or calibrate on, or a loss that is not finite.
    """
    settings = TrainingSettings.model_validate(fn_args.custom_config[SETTINGS])
    searched = chosen_values(fn_args.hyperparameters["values"]) if fn_args.hyperparameters else {}
    settings = with_values(settings, searched)
    spec = FeatureSpec.model_validate(fn_args.custom_config[SPEC])
    transform_output = tft.TFTransformOutput(fn_args.transform_output)
    transform = transform_output.transform_features_layer()
    logs = Path(fn_args.model_run_dir)
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cache-", dir=logs) as cache:
        train, held_out = (
            load_normals(files, transform_output, settings, split, Path(cache))
            for files, split in ((fn_args.train_files, contract.TRAIN), (fn_args.eval_files, contract.CALIBRATION))
        )
        model, record = fit_model(train, held_out, transform, spec, settings, logs)
    model.save(fn_args.serving_model_dir)
    write_calibration_record(Path(fn_args.serving_model_dir), record | {"hyperparameters": searched})
    save_encoder(Path(fn_args.serving_model_dir) / EXTRA / ENCODER_FILE, encoder_of(model, transform, spec))


def load_normals(
    files: list[str], transform_output: tft.TFTransformOutput, settings: TrainingSettings, split: str, cache: Path
) -> Normals:
    """Transformed features of the windows labelled, or taken as, normal.

    Args:
        cache: folder for splits that do not fit into memory.

    Raises:
        DataInvalidError: fewer than `settings.min_normal_windows`.
    """

    def keep(batch: Batch) -> tf.Tensor:
        labelled = tf.reshape(batch[contract.LABEL_WEIGHT], (-1,)) > 0
        normal = tf.equal(tf.reshape(batch[contract.IS_ANOMALY], (-1,)), 0)
        return normal & (labelled | settings.treat_unlabelled_as_normal)

    folder = cache / split
    folder.mkdir(parents=True)
    normals = read_normals(
        sorted(path for pattern in files for path in tf.io.gfile.glob(pattern)),
        transform_output.transformed_feature_spec(), keep, folder,
        memory_windows=settings.memory_windows, shuffle_windows=settings.shuffle_windows,
    )  # fmt: skip
    if len(normals) < settings.min_normal_windows:
        raise DataInvalidError(
            f"{split} split",
            f"has {len(normals)} normal windows, at least {settings.min_normal_windows} are needed",
            "Ingest more recordings, or lower training.min_normal_windows.",
        )
    return normals


def load_windows(
    files: list[str], transform_output: tft.TFTransformOutput
) -> tuple[Features, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Transformed features of all windows, float32 (n, ...) each; which are anomalous (n,); which are labelled (n,)."""
    feature_spec = transform_output.transformed_feature_spec()
    paths = sorted(path for pattern in files for path in tf.io.gfile.glob(pattern))
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(4096)
    names = (*FEATURES, contract.IS_ANOMALY, contract.LABEL_WEIGHT)
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in names}
    for batch in records.map(lambda x: tf.io.parse_example(x, feature_spec), num_parallel_calls=2, deterministic=True):
        for name in names:
            parts[name].append(batch[name].numpy())
    if not parts[p.MASK]:
        return {}, np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    features = {name: np.concatenate(values) for name, values in parts.items()}
    # The files' order depends on how Beam wrote them; the seed must decide alone.
    order = np.lexsort(features[p.SIGNAL][:, :8].T)
    features = {name: values[order] for name, values in features.items()}
    anomalous, labelled = (features.pop(name).reshape(-1) > 0 for name in (contract.IS_ANOMALY, contract.LABEL_WEIGHT))
    return features, anomalous, labelled


def with_values(settings: TrainingSettings, values: Mapping[str, Any]) -> TrainingSettings:
    """Settings with some values in the place of theirs."""
    return TrainingSettings.model_validate(settings.model_dump() | dict(values))


def chosen_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a search as settings take them: KerasTuner knows no lists, so these are JSON texts there."""
    return {k: json.loads(v) if isinstance(v, str) and v.startswith("[") else v for k, v in values.items()}


def write_calibration_record(model_dir: Path, record: dict[str, Any]) -> None:
    """Keeps what the model card needs beside the model, where TensorFlow Serving ignores it."""
    extra = model_dir / "assets.extra"
    extra.mkdir(parents=True, exist_ok=True)
    (extra / CALIBRATION_FILE).write_text(json.dumps(record, indent=2), encoding="utf-8")
