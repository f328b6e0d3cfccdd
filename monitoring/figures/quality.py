"""What reviews say of the versions that serve: precision, recall, and how much a human has to look at anyway."""

from collections.abc import Iterable
from datetime import timedelta

from prometheus_client.metrics_core import Metric

from monitoring.estimates import Estimate, precision_of, recall_of
from monitoring.figures.base import FigureContext, Gauges


def figures(context: FigureContext) -> Iterable[Metric]:
    """By version and site. Without reviews there is no estimate, and no series: nothing is made up."""
    gauges = Gauges()
    gauges.describe(
        "ecg_reviewed_beats", "Reviewed beats that have a score of the version.", "model_version", "site", "judged"
    )
    of = ("model_version", "site", "bound")
    gauges.describe("ecg_precision_ratio", "Share of reviewed flagged beats that were confirmed; 95 % bounds.", *of)
    gauges.describe(
        "ecg_recent_precision_ratio", "The same, of reviews of the last days (monitoring.review_days).", *of
    )
    gauges.describe("ecg_recent_reviewed_beats", "Reviews that it is of.", "model_version", "site")
    gauges.describe("ecg_recall_ratio", "Estimate of the share of anomalous beats that were flagged; 95 % bounds.", *of)
    gauges.describe(
        "ecg_deferred_ratio",
        "Share of recently flagged beats that need a human, by why; any: for whatever reason.",
        "model_version",
        "site",
        "reason",
    )
    for version in context.serving:
        _reviewed(gauges, context, version)
        _deferred(gauges, context, version)
    return gauges.families()


def _reviewed(gauges: Gauges, context: FigureContext, version: int) -> None:
    results = context.stores.results
    for site in results.scored_sites():
        judged = results.judged(version, site)
        for name in ("confirmed", "rejected", "missed", "passed"):
            gauges.set("ecg_reviewed_beats", getattr(judged, name), version, site, name)
        _bounds(gauges, "ecg_precision_ratio", precision_of(judged.confirmed, judged.rejected), version, site)
        _bounds(gauges, "ecg_recall_ratio", recall_of(judged), version, site)
    since = timedelta(days=context.settings.monitoring.review_days)
    for row in results.recently_judged(version, since):
        gauges.set("ecg_recent_reviewed_beats", row["confirmed"] + row["rejected"], version, row["site"])
        recent = precision_of(row["confirmed"], row["rejected"])
        _bounds(gauges, "ecg_recent_precision_ratio", recent, version, row["site"])


def _deferred(gauges: Gauges, context: FigureContext, version: int) -> None:
    rule = context.settings.api
    if version not in context.models:
        return
    rows = context.stores.results.deferred(
        version, context.recent, threshold=context.models[version].threshold, review_band=rule.review_band,
        min_familiarity=rule.min_familiarity, min_quality=rule.min_quality,
    )  # fmt: skip
    for row in rows:
        for reason in ("near_threshold", "unfamiliar", "poor_signal", "any"):
            gauges.set("ecg_deferred_ratio", row[reason] / row["flagged"], version, row["site"], reason)


def _bounds(gauges: Gauges, name: str, estimate: Estimate, version: int, site: str) -> None:
    for bound in ("value", "low", "high"):
        gauges.set(name, getattr(estimate, bound), version, site, bound)
