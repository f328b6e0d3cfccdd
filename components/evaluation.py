"""What the Evaluator measures and when it gives its blessing."""

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import wrappers_pb2
from tensorflow_model_analysis.constants import TF_GENERIC
from tensorflow_model_analysis.proto import config_pb2

from configs import contract
from configs.settings import EvaluationSettings

#: Metric names as TFMA gives them.
ROC_AUC, AVERAGE_PRECISION, RECALL, PRECISION, FALSE_ALARM_RATE = (
    "roc_auc",
    "average_precision",
    "recall",
    "precision",
    "false_alarm_rate",
)
AT_THRESHOLD = 0.5  # RANK is 0.5 where the score is the model's threshold


def eval_config(gates: EvaluationSettings, *, has_baseline: bool) -> config_pb2.EvalConfig:
    """TFMA's configuration.

    Args:
        gates: bounds, and how much worse than the last blessed model a new one may be.
        has_baseline: there is a last blessed model.
    """
    least = {
        ROC_AUC: gates.min_roc_auc,
        AVERAGE_PRECISION: gates.min_average_precision,
        RECALL: gates.min_recall_at_threshold,
    }
    thresholds = {
        name: config_pb2.MetricThreshold(
            value_threshold=config_pb2.GenericValueThreshold(lower_bound=wrappers_pb2.DoubleValue(value=value))
        )
        for name, value in least.items()
    }
    thresholds[FALSE_ALARM_RATE] = config_pb2.MetricThreshold(
        value_threshold=config_pb2.GenericValueThreshold(
            upper_bound=wrappers_pb2.DoubleValue(value=gates.max_false_alarm_rate)
        )
    )
    if has_baseline:
        thresholds[ROC_AUC].change_threshold.CopyFrom(
            config_pb2.GenericChangeThreshold(
                direction=config_pb2.MetricDirection.HIGHER_IS_BETTER,
                absolute=wrappers_pb2.DoubleValue(value=-gates.max_roc_auc_drop),
            )
        )
    model_specs = [config_pb2.ModelSpec(name="candidate" if has_baseline else "", **_model())]
    if has_baseline:
        model_specs.append(config_pb2.ModelSpec(name="baseline", is_baseline=True, **_model()))
    return config_pb2.EvalConfig(
        model_specs=model_specs,
        slicing_specs=[config_pb2.SlicingSpec()]
        + [config_pb2.SlicingSpec(feature_keys=[feature]) for feature in contract.SLICE_FEATURES],
        metrics_specs=[
            config_pb2.MetricsSpec(
                metrics=_metrics(thresholds), example_weights=config_pb2.ExampleWeightOptions(weighted=True)
            )
        ],
        options=config_pb2.Options(min_slice_size=wrappers_pb2.Int32Value(value=1)),
    )


def _model() -> dict[str, Any]:
    return {
        "signature_name": contract.SIGNATURE_EXAMPLES,
        "prediction_key": contract.RANK,
        "label_key": contract.IS_ANOMALY,
        "example_weight_key": contract.LABEL_WEIGHT,
        "model_type": TF_GENERIC,
    }


def _metrics(thresholds: Mapping[str, config_pb2.MetricThreshold]) -> list[config_pb2.MetricConfig]:
    def metric(class_name: str, name: str, **options: Any) -> config_pb2.MetricConfig:
        config = config_pb2.MetricConfig(class_name=class_name, config=json.dumps({"name": name, **options}))
        if name in thresholds:  # gates look at all test windows together; slices are for people
            config.per_slice_thresholds.append(
                config_pb2.PerSliceMetricThreshold(slicing_specs=[config_pb2.SlicingSpec()], threshold=thresholds[name])
            )
        return config

    return [
        metric("ExampleCount", "example_count"),
        metric("WeightedExampleCount", "labelled_count"),
        metric("AUC", ROC_AUC, num_thresholds=10_000),
        metric("AUC", AVERAGE_PRECISION, num_thresholds=10_000, curve="PR"),
        metric("Recall", RECALL, thresholds=[AT_THRESHOLD]),
        metric("Precision", PRECISION, thresholds=[AT_THRESHOLD]),
        metric("FallOut", FALSE_ALARM_RATE, thresholds=[AT_THRESHOLD]),
    ]
