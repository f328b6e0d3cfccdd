"""What it means for people: recordings analysed, how long a result takes, alarms a patient-day, reviewers' time."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

import numpy as np
from prometheus_client.metrics_core import Metric

from monitoring.figures.base import FigureContext, Gauges

_DAY_S = 86_400.0
_QUANTILES = (0.5, 0.95)


def figures(context: FigureContext) -> Iterable[Metric]:
    """By site, of the last hours (`monitoring.recent_hours`). Without recordings: counts of 0, no ratio."""
    gauges = Gauges()
    for group in (_alarms, _waits, _reviews):
        group(gauges, context)
    return gauges.families()


def _alarms(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_recent_recordings_analysed", "Recordings analysed lately.", "site")
    gauges.describe("ecg_alarms_per_patient_day", "Episodes a day of analysable signal: what fatigues.", "site")
    gauges.describe("ecg_flagged_ratio", "Share of lately scored beats that were flagged.", "site")
    gauges.describe(
        "ecg_burden_ratio", "Share of flagged beats in a recording: median, 90th percentile.", "site", "quantile"
    )
    for site in context.stores.results.scored_sites():
        gauges.set("ecg_recent_recordings_analysed", 0, site)
    recent = context.stores.results.recent_burden(context.serving, context.recent)
    for row in recent:
        site = row["site"]
        gauges.set("ecg_recent_recordings_analysed", row["recordings"], site)
        if row["analysable_s"]:
            gauges.set("ecg_alarms_per_patient_day", row["episodes"] * _DAY_S / row["analysable_s"], site)
        if row["scored"]:
            gauges.set("ecg_flagged_ratio", row["anomalous"] / row["scored"], site)
            gauges.set("ecg_burden_ratio", row["burden_p50"], site, "0.5")
            gauges.set("ecg_burden_ratio", row["burden_p90"], site, "0.9")


def _waits(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe(
        "ecg_time_to_result_seconds",
        "From upload (or ingest) to the first result, of late recordings.",
        "site",
        "quantile",
    )
    gauges.describe(
        "ecg_recording_delay_seconds", "From a recording's end to its ingest, of late recordings.", "site", "quantile"
    )
    arrived = context.stores.warehouse.recent_arrivals(context.recent)
    first = {
        row["recording_id"]: row["at"]
        for row in context.stores.results.first_results([row["recording_id"] for row in arrived])
    }
    waits: dict[str, list[float]] = defaultdict(list)
    delays: dict[str, list[float]] = defaultdict(list)
    for row in arrived:
        if row["recording_id"] in first:  # two databases, two clocks
            waits[row["site"]].append(max((first[row["recording_id"]] - row["arrived_at"]).total_seconds(), 0.0))
        if row["delay_s"] is not None:
            delays[row["site"]].append(row["delay_s"])
    for name, by_site in (("ecg_time_to_result_seconds", waits), ("ecg_recording_delay_seconds", delays)):
        for site, values in by_site.items():
            for quantile in _QUANTILES:
                gauges.set(name, np.quantile(values, quantile), site, quantile)


def _reviews(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_reviews", "Beats that somebody said something of.", "site", "status")
    gauges.describe("ecg_review_backlog_beats", "Flagged beats without a decision.", "site")
    gauges.describe("ecg_review_backlog_episodes", "Episodes of which no beat has a decision.", "site")
    gauges.describe("ecg_recent_reviews", "Beats reviewed lately.", "site")
    gauges.describe(
        "ecg_review_seconds_per_recording", "Reviewers' time a recording, of late reviews; breaks left out.", "site"
    )
    results = context.stores.results
    for row in results.reviews_by_status():
        gauges.set("ecg_reviews", row["n"], row["site"], row["status"])
    stable = context.serving[:1]
    decided = {row["site"]: row for row in results.reviewed_of(stable)}
    for row in results.scored_totals(stable):
        site, done = row["site"], decided.get(row["site"], {"beats": 0, "episodes": 0})
        gauges.set("ecg_review_backlog_beats", max(row["anomalous"] - done["beats"], 0), site)
        gauges.set("ecg_review_backlog_episodes", max(row["episodes"] - done["episodes"], 0), site)
    pause = timedelta(seconds=context.settings.monitoring.review_pause_s)
    for row in results.reviewing_time(context.recent, pause):
        gauges.set("ecg_recent_reviews", row["reviews"], row["site"])
        gauges.set("ecg_review_seconds_per_recording", row["seconds"] / row["recordings"], row["site"])
