"""Reads what a training run left behind: metrics, blessing, pushed version."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluation import AVERAGE_PRECISION, FALSE_ALARM_RATE, RECALL, ROC_AUC
from components.infra_validation import OUTPUT_FILE, REPORT_FILE
from components.trainer import CALIBRATION_FILE

Metrics = dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        blessed: all gates were passed.
        failures: what was not passed, a line each.
        metrics: on the whole test split.
        slices: "feature=value" to metrics.
        pushed_version: None when nothing was pushed.
        calibration: what the Trainer wrote beside the model.
        artifacts: "Stage.output" to its path.
    """

    blessed: bool
    failures: list[str]
    metrics: Metrics
    slices: dict[str, Metrics]
    pushed_version: int | None
    calibration: Mapping[str, Any]
    artifacts: dict[str, str]


def read_outcome(outputs: Mapping[tuple[str, str], Any]) -> Outcome:
    """Reads the artifacts of `pipelines.stages.outputs_of_last_run`."""
    evaluation = outputs["Evaluator", "evaluation"].uri
    blessings = outputs["Evaluator", "blessing"], outputs["ServingCheck", "blessing"]
    model_uri = Path(outputs["Trainer", "model"].uri)
    overall, slices = _read_metrics(evaluation)
    pushed = outputs.get(("Pusher", "pushed_model"))
    version = pushed.get_string_custom_property("pushed_version") if pushed is not None else ""
    calibration = json.loads((model_uri / "Format-Serving" / "assets.extra" / CALIBRATION_FILE).read_text("utf-8"))
    return Outcome(
        blessed=all(blessing.get_int_custom_property("blessed") == 1 for blessing in blessings),
        failures=_read_failures(evaluation) + _cannot_be_served(blessings[1]),
        metrics=overall,
        slices=slices,
        pushed_version=int(version) if version else None,
        calibration=calibration,
        artifacts={f"{stage}.{key}": artifact.uri for (stage, key), artifact in sorted(outputs.items())},
    )


def _read_metrics(evaluation_uri: str) -> tuple[Metrics, dict[str, Metrics]]:
    import tensorflow_model_analysis as tfma

    result = tfma.load_eval_result(evaluation_uri, model_name=_candidate_name(evaluation_uri))
    by_slice: dict[str, Metrics] = {}
    for key, metrics in result.slicing_metrics:
        values = {name: float(value.get("doubleValue", "nan")) for name, value in metrics[""][""].items()}
        values = {name: value for name, value in values.items() if math.isfinite(value)}
        if not {RECALL, FALSE_ALARM_RATE} <= values.keys():  # one class only: TFMA's 0.0 would be read as a result
            values = {
                name: value for name, value in values.items() if not name.startswith((ROC_AUC, AVERAGE_PRECISION))
            }
        by_slice[",".join(f"{feature}={value}" for feature, value in key)] = values
    return by_slice.pop("", {}), by_slice


def _candidate_name(evaluation_uri: str) -> str | None:
    from google.protobuf import json_format
    from tensorflow_model_analysis.proto import config_pb2

    config = config_pb2.EvalConfig()
    content = json.loads((Path(evaluation_uri) / "eval_config.json").read_text("utf-8"))
    json_format.ParseDict(content["evalConfig"], config)
    names = [spec.name for spec in config.model_specs if not spec.is_baseline]
    return names[0] if len(config.model_specs) > 1 else None


def _read_failures(evaluation_uri: str) -> list[str]:
    import tensorflow_model_analysis as tfma

    result = tfma.load_validation_result(evaluation_uri)
    if result.validation_ok:
        return []
    lines = [
        f"{_slice_name(s.slice_key)}: {f.metric_key.name} is {f.metric_value.double_value.value:.4f}, "
        f"{_bound(f.metric_threshold)}{f' ({f.message})' if f.message else ''}"
        for s in result.metric_validations_per_slice
        for f in s.failures
    ]
    lines += [f"slice {s} was not found in the data" for s in result.missing_slices]
    return lines or ["the Evaluator gave no reason"]


def _cannot_be_served(blessing: Any) -> list[str]:
    if blessing.get_int_custom_property("blessed") == 1:
        return []
    report, output = Path(blessing.uri) / REPORT_FILE, Path(blessing.uri) / OUTPUT_FILE
    lines = json.loads(report.read_text("utf-8"))["failures"] if report.is_file() else []
    if not lines:  # it crashed, or did not end
        lines = output.read_text("utf-8").strip().splitlines()[-1:] or ["the process that loaded it ended at once"]
    return [f"cannot be served: {line}" for line in lines]


def _slice_name(key: Any) -> str:
    parts = [f"{k.column}={k.bytes_value.decode() if k.bytes_value else k.int64_value}" for k in key.single_slice_keys]
    return ", ".join(parts) or "all test windows"


def _bound(threshold: Any) -> str:
    if threshold.HasField("value_threshold"):
        bounds = threshold.value_threshold
        if bounds.HasField("upper_bound"):
            return f"at most {bounds.upper_bound.value:g} is allowed"
        return f"at least {bounds.lower_bound.value:g} is needed"
    return f"it may fall by at most {-threshold.change_threshold.absolute.value:g} against the last blessed model"
