"""What the newest comparison with the reference found, by site; and what it could not compare."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.metrics_core import Metric

from monitoring.figures.base import FigureContext, Gauges
from warehouse.store.drift_queries import BY_REFERENCE

_KINDS: Final = ("gradual", "sudden")
_DRIFTS: Final = ("input", "prediction", "concept", "skew")
_GAPS: Final = ("no_reference_of_feature", "too_few_windows", "too_few_reviews", "clock_ahead", "late")
_MOST_DEVICES: Final = 50  # named; the findings of all are counted


def figures(context: FigureContext) -> Iterable[Metric]:
    """Of the newest comparison of every site; nothing before the first one."""
    gauges = Gauges()
    gauges.describe("ecg_drift_comparison_timestamp_seconds", "When live windows were last compared.", "site")
    gauges.describe(
        "ecg_drift_reference_missing", "1 if the version that serves has no reference: nothing was compared.", "site"
    )
    gauges.describe("ecg_drift_recordings", "Live recordings that were compared.", "site")
    gauges.describe("ecg_drift_windows", "Live windows that were compared.", "site")
    gauges.describe("ecg_drift_tests", "Questions asked; findings account for all of them.", "site")
    gauges.describe("ecg_drift_findings", "What moved.", "site", "kind", "drift")
    gauges.describe("ecg_drift_gaps", "What could not be compared, or has a clock that is wrong.", "site", "reason")
    gauges.describe(
        "ecg_drift_effect_ratio",
        "Largest difference of a feature that moved, in spreads of single windows; negative: it fell.",
        "site", "feature", "lead",
    )  # fmt: skip
    gauges.describe(
        "ecg_drift_device_findings", "What moved on a device, against the reference.", "site", "device", "lead"
    )
    newest: dict[str, list[int]] = {}
    for run in context.stores.results.latest_drift_runs():
        site = run["site"]
        newest.setdefault(site, []).append(run["drift_run_id"])
        if run["method"] != BY_REFERENCE:
            continue
        gauges.set("ecg_drift_comparison_timestamp_seconds", run["at"].timestamp(), site)
        gauges.set("ecg_drift_reference_missing", run["status"] == "no_reference", site)
        for name in ("recordings", "windows", "tests"):
            gauges.set(f"ecg_drift_{name}", run[name], site)
        for reason in _GAPS:
            gauges.set("ecg_drift_gaps", run["gaps"].get(reason, 0), site, reason)
    for site, runs in newest.items():
        _findings(gauges, context, runs, site)
    return gauges.families()


def _findings(gauges: Gauges, context: FigureContext, runs: Sequence[int], site: str) -> None:
    found = [row for run in runs for row in context.stores.results.drift_findings(run)]
    for kind in _KINDS:
        for drift in _DRIFTS:
            n = sum(row["kind"] == kind and row["drift"] == drift for row in found)
            gauges.set("ecg_drift_findings", n, site, kind, drift)
    largest: dict[tuple[str, str], float] = {}
    devices: dict[tuple[str, str], int] = {}
    for row in found:
        what = (row["feature"], row["lead"])
        if row["drift"] == "skew":  # its effect is no number of spreads
            continue
        largest[what] = max(largest.get(what, 0.0), row["effect"], key=abs)
        if row["scope"] == "device":
            on = (row["subject"], row["lead"])
            devices[on] = devices.get(on, 0) + 1
    for (feature, lead), effect in largest.items():
        gauges.set("ecg_drift_effect_ratio", effect, site, feature, lead)
    for (device, lead), n in sorted(devices.items(), key=lambda item: -item[1])[:_MOST_DEVICES]:
        gauges.set("ecg_drift_device_findings", n, site, device, lead)
