"""The versions that are released: which serves, how large it is, how good it was when it was pushed."""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from monitoring.figures.base import FigureContext, Gauges

#: Of the model card's metrics, those that say most.
_METRICS = ("roc_auc", "average_precision", "recall_at_threshold", "false_alarm_rate")


def figures(context: FigureContext) -> Iterable[Metric]:
    """Nothing but names before the first version is pushed."""
    gauges = Gauges()
    gauges.describe(
        "ecg_release_info", "1 for each version that is released, by what it does.", "role", "model_version"
    )
    gauges.describe("ecg_model_parameters", "Weights that training fitted.", "model_version")
    gauges.describe(
        "ecg_model_flops",
        "Floating-point operations of its networks for one window; older cards: none.",
        "model_version",
    )
    gauges.describe("ecg_model_threshold_score", "Score from which a beat is flagged.", "model_version")
    gauges.describe("ecg_model_registered_timestamp_seconds", "When it was pushed.", "model_version")
    gauges.describe("ecg_model_test_metric", "From the model card: on the test split.", "model_version", "metric")
    if context.release is None:
        return gauges.families()
    for role in ("stable", "canary", "shadow", "previous"):
        if (version := getattr(context.release, role)) is not None:
            gauges.set("ecg_release_info", 1, role, version)
    for version, model in context.models.items():
        card = model.card.get("model", {})
        gauges.set("ecg_model_parameters", card.get("parameters"), version)
        gauges.set("ecg_model_flops", card.get("flops_per_window"), version)
        gauges.set("ecg_model_threshold_score", model.threshold, version)
        gauges.set("ecg_model_registered_timestamp_seconds", model.registered_at.timestamp(), version)
        for metric in _METRICS:
            gauges.set("ecg_model_test_metric", model.card.get("metrics", {}).get(metric), version, metric)
    return gauges.families()
