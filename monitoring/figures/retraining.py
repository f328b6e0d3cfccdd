"""Attempts to train a successor: how many ended how, what waits, and what the last comparison said."""

from collections.abc import Iterable
from typing import Final

from prometheus_client.metrics_core import Metric

from monitoring.figures.base import FigureContext, Gauges

_STATUSES: Final = (
    "running", "held", "data_refused", "unchanged", "not_blessed", "not_better", "in_shadow", "failed",
)  # fmt: skip
_STEPS: Final = ("policy", "data", "train", "evaluate", "release")
_MEASURES: Final = ("roc_auc", "average_precision", "balanced_accuracy", "recall", "false_alarm_rate")


def figures(context: FigureContext) -> Iterable[Metric]:
    """Of all attempts, and of the newest one that trained."""
    gauges = Gauges()
    gauges.describe("ecg_retrainings", "Attempts to train a successor, by how they ended.", "status")
    gauges.describe("ecg_retraining_requests_open", "Alerts' requests that no attempt has taken up.")
    gauges.describe("ecg_retraining_last_timestamp_seconds", "When the last attempt began.")
    gauges.describe("ecg_retraining_last_duration_seconds", "How long the last attempt that ended took.")
    gauges.describe("ecg_retraining_last_trigger", "1 for each reason of the last attempt.", "trigger")
    gauges.describe("ecg_retraining_last_step_passed", "1 or 0 for each step the last attempt got to.", "step")
    gauges.describe(
        "ecg_retraining_slice_metric",
        "What the last comparison measured of champion and challenger on the old and the new slice.",
        "slice", "role", "metric",
    )  # fmt: skip
    gauges.describe("ecg_retraining_slice_beats", "Labelled beats of that slice.", "slice", "kind")
    results = context.stores.results
    counts = results.retraining_counts()
    for status in _STATUSES:
        gauges.set("ecg_retrainings", counts.get(status, 0), status)
    gauges.set("ecg_retraining_requests_open", len(results.retraining_requests(only_open=True, limit=1000)))
    attempts = results.retrainings(20)
    if attempts:
        last = attempts[0]
        gauges.set("ecg_retraining_last_timestamp_seconds", last["started_at"].timestamp())
        for trigger in last["triggers"]:
            gauges.set("ecg_retraining_last_trigger", 1, trigger["trigger"])
        for step in last["steps"]:
            if step["step"] in _STEPS:
                gauges.set("ecg_retraining_last_step_passed", step["passed"], step["step"])
    for attempt in attempts:
        if attempt["finished_at"] is not None:
            took = (attempt["finished_at"] - attempt["started_at"]).total_seconds()
            gauges.set("ecg_retraining_last_duration_seconds", took)
            break
    compared = [step["numbers"] for attempt in attempts for step in attempt["steps"] if step["step"] == "evaluate"]
    for name, part in (compared[0] if compared else {}).items():
        for kind in ("normal", "anomalous"):
            gauges.set("ecg_retraining_slice_beats", part.get(kind), name, kind)
        for role in ("champion", "challenger"):
            for measure in _MEASURES:
                gauges.set("ecg_retraining_slice_metric", part.get(role, {}).get(measure), name, role, measure)
    return gauges.families()
