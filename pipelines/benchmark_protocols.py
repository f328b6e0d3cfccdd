"""The benchmark's protocols: what is trained on, what is tested, what is measured. See docs/benchmark.md."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from sklearn.metrics import average_precision_score, precision_recall_fscore_support, roc_auc_score

from components import preprocessing as p
from components.anomaly_model import AnomalyModel
from components.calibration import PRESETS, threshold_at
from components.fitting import fit_model
from components.training_data import Features
from configs import contract
from configs.contract import FeatureSpec
from configs.settings import TrainingSettings
from pipelines.benchmark_data import Dataset
from pipelines.benchmark_thresholds import threshold_figures
from warehouse.signal.ecg import FloatArray

_BATCH = 4096


@dataclass(frozen=True)
class Fitted:
    """A trained model, ready to score raw inputs in this process."""

    model: AnomalyModel
    card: Mapping[str, Any]

    def score(self, data: Dataset) -> tuple[FloatArray, float]:
        """Scores (n,), and windows a second with everything from raw millivolts to the score."""
        call = tf.function(
            lambda **raw: self.model.answer({k: tf.reshape(v, (tf.shape(v)[0], -1)) for k, v in raw.items()})[
                contract.SCORE
            ],
            reduce_retracing=True,
        )
        starts = range(0, len(data), _BATCH)
        call(**{k: tf.constant(v[:_BATCH]) for k, v in data.inputs.items()})  # traced before the clock runs
        started = time.monotonic()
        parts = [call(**{k: tf.constant(v[i : i + _BATCH]) for k, v in data.inputs.items()}).numpy() for i in starts]
        return np.concatenate(parts), len(data) / (time.monotonic() - started)

    def raw_measure(self, data: Dataset) -> FloatArray:
        """What scores are calibrated from (n,): the sum of the parts. For few windows: it takes them at once."""
        rows = {name: tf.reshape(tf.constant(values), (len(data), -1)) for name, values in data.inputs.items()}
        return np.asarray(self.model.answer(rows)[contract.PARTS].numpy().sum(axis=1), np.float32)


def fit(train: Dataset, held_out: Dataset, spec: FeatureSpec, settings: TrainingSettings) -> Fitted:
    """Trains on the normal windows of `train`, calibrates on those of `held_out`."""
    train, held_out = train.take(~train.anomalous), held_out.take(~held_out.anomalous)
    scale = lead_scale(train)

    def transform(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return p.transform(inputs, spec, tf.constant(scale))

    with tempfile.TemporaryDirectory() as logs:
        model, card = fit_model(
            features_of(train, transform), features_of(held_out, transform), transform, spec, settings, Path(logs)
        )
    return Fitted(model, card)


def lead_scale(train: Dataset) -> FloatArray:
    """Root mean square of each lead over the windows that have it, millivolts (L,): what tf.Transform computes."""
    mask = train.inputs[contract.LEAD_MASK]
    power = (np.square(train.inputs[contract.SAMPLES]).mean(axis=1) * mask).sum(axis=0)
    return np.asarray(np.maximum(np.sqrt(power / np.maximum(mask.sum(axis=0), 1)), 0.01), np.float32)


def features_of(data: Dataset, transform: Any) -> Features:
    """Transformed features of raw windows."""
    parts: dict[str, list[FloatArray]] = {}
    for start in range(0, len(data), _BATCH):
        batch = transform({k: tf.constant(v[start : start + _BATCH]) for k, v in data.inputs.items()})
        for name in (p.SIGNAL, p.REFERENCE, p.MASK, p.HAS_REFERENCE, p.RHYTHM):
            parts.setdefault(name, []).append(batch[name].numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}


def judge(data: Dataset, score: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Ranking and preset metrics, overall, by AAMI class and by recording.

    A reference beat without a window (missed by the detector) counts as a miss where it is anomalous and as a false
    alarm where it is normal.
    """
    missed = data.missed[1] != "N"
    truth = np.concatenate([data.anomalous, missed])
    value = np.concatenate([score, np.where(missed, -1.0, np.inf)])
    value = np.nan_to_num(value, posinf=float(np.max(score, initial=0)) + 1)
    result: dict[str, Any] = {
        "windows": len(truth),
        "anomalous": int(truth.sum()),
        "roc_auc": float(roc_auc_score(truth, value)),
        "average_precision": float(average_precision_score(truth, value)),
        "presets": {f"{rate:g}": _at(truth, value, threshold_at(rate)) for rate in PRESETS},
        "by_class": {
            name: {
                "beats": int((data.aami_class == name).sum()),
                "roc_auc": float(roc_auc_score(*_against_normals(data, score, name))),
                "sensitivity": {
                    f"{rate:g}": float((score[data.aami_class == name] >= threshold_at(rate)).mean())
                    for rate in PRESETS
                },
            }
            for name in "SVFQ"
            if (data.aami_class == name).any()
        },
        "by_recording": {
            str(name): _recording(data, score, data.recording == name) for name in np.unique(data.recording)
        },
    }
    rates = [r["false_alarm_rate"] for r in result["by_recording"].values()]
    result["recordings_within_half_and_twice"] = {
        key: float(np.mean([float(key) / 2 <= rate[key] <= float(key) * 2 for rate in rates]))
        for key in result["presets"]
    }
    result["own_thresholds"] = threshold_figures(data, score)
    return result


def _against_normals(data: Dataset, score: FloatArray, name: str) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    rows = (data.aami_class == name) | ~data.anomalous
    return data.anomalous[rows], score[rows]


def _at(truth: npt.NDArray[np.bool_], value: FloatArray, threshold: float) -> dict[str, float]:
    ppv, sensitivity, f1, _ = precision_recall_fscore_support(
        truth, value >= threshold, average="binary", zero_division=0
    )
    rate = float((value[~truth] >= threshold).mean()) if (~truth).any() else 0.0
    return {"sensitivity": float(sensitivity), "ppv": float(ppv), "f1": float(f1), "false_alarm_rate": rate}


def _recording(data: Dataset, score: FloatArray, rows: npt.NDArray[np.bool_]) -> dict[str, Any]:
    truth, value = data.anomalous[rows], score[rows]
    normal = value[~truth]
    return {
        "normal": int((~truth).sum()),
        "anomalous": int(truth.sum()),
        "roc_auc": float(roc_auc_score(truth, value)) if 0 < truth.sum() < len(truth) else None,
        "false_alarm_rate": {
            f"{rate:g}": float((normal >= threshold_at(rate)).mean()) if len(normal) else 0.0 for rate in PRESETS
        },
        "sensitivity": {
            f"{rate:g}": float((value[truth] >= threshold_at(rate)).mean()) if truth.any() else None for rate in PRESETS
        },
    }


def flops_a_window(autoencoder: keras.Model) -> int:
    """Multiplications and additions of an autoencoder's dense and convolutional layers for one window."""
    total = 0
    for layer in autoencoder.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        transposed = isinstance(layer, keras.layers.Conv1DTranspose)
        positions = 1 if len(kernel.shape) == 2 else (layer.input.shape[1] if transposed else layer.output.shape[1])
        total += 2 * int(np.prod(kernel.shape)) * int(positions)
    return total


def describe(fitted: Fitted, windows_per_second: float) -> dict[str, float]:
    """What the model costs."""
    autoencoders = fitted.model.autoencoders().values()
    return {
        "parameters": float(fitted.card["parameters"]),
        "flops_a_window": float(sum(flops_a_window(a) for a in autoencoders)),
        "training_seconds": float(fitted.card["training_seconds"]),
        "windows_per_second": round(windows_per_second),
    }
