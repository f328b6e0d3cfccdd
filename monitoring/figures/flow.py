"""What came in, what became of it, what waits and for how long. What is lost between input and output is a figure."""

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from monitoring.figures.base import FigureContext, Gauges
from warehouse.signal.ecg import Reason


def figures(context: FigureContext) -> Iterable[Metric]:
    """Gauges, not counters: retention deletes, and a counter that shrinks would look like a restart."""
    gauges = Gauges()
    for group in (_input, _output, _waiting, _runs, _databases):
        group(gauges, context)
    return gauges.families()


def _input(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_recordings", "Recordings in the warehouse, newest version of each.", "site")
    gauges.describe("ecg_windows_stored", "Beats with a usable window.", "site")
    gauges.describe("ecg_recorded_seconds", "Signal in the warehouse: in windows, or unusable.", "site", "state")
    gauges.describe("ecg_ingest_gap_seconds", "Since a recording was last committed.")
    gauges.describe("ecg_unusable_seconds", "Signal that no window covers, by reason.", "reason")
    gauges.describe("ecg_lead_unusable_seconds", "Signal of single leads that was left out, by reason.", "reason")
    gauges.describe("ecg_beats_rejected", "Beats that gave no window, by reason.", "reason")
    gauges.describe("ecg_files_failed", "Files that could not be ingested.")
    gauges.describe("ecg_uploads", "Uploads to the API.", "status")
    gauges.describe("ecg_upload_oldest_age_seconds", "Age of the oldest upload of a status.", "status")
    warehouse = context.stores.warehouse
    for row in warehouse.stored_totals():
        gauges.set("ecg_recordings", row["recordings"], row["site"])
        gauges.set("ecg_windows_stored", row["windows"], row["site"])
        gauges.set("ecg_recorded_seconds", row["windowed_s"], row["site"], "windowed")
        gauges.set("ecg_recorded_seconds", row["unusable_s"], row["site"], "unusable")
    gauges.set("ecg_ingest_gap_seconds", warehouse.ingest_gap_s())
    for reason in Reason:
        for name in ("ecg_unusable_seconds", "ecg_lead_unusable_seconds", "ecg_beats_rejected"):
            gauges.set(name, 0, reason)
    for row in warehouse.unusable_time():
        gauges.set(
            "ecg_unusable_seconds" if row["whole"] else "ecg_lead_unusable_seconds", row["seconds"], row["reason"]
        )
    rejected = {row["reason"]: row["n"] for row in warehouse.rejected()}
    gauges.set("ecg_files_failed", rejected.pop("source", 0))
    for reason, n in rejected.items():
        gauges.set("ecg_beats_rejected", n, reason)
    for status in ("waiting", "ingesting", "done", "failed"):
        gauges.set("ecg_uploads", 0, status)
    for row in warehouse.uploads_by_status():
        gauges.set("ecg_uploads", row["n"], row["status"])
        gauges.set("ecg_upload_oldest_age_seconds", row["age_s"], row["status"])


def _output(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_recordings_analysed", "Recordings with a summary.", "model_version", "site")
    gauges.describe(
        "ecg_windows_scored", "Windows with a score, in recordings with a summary.", "model_version", "site"
    )
    gauges.describe("ecg_windows_anomalous", "Of those, flagged.", "model_version", "site")
    gauges.describe("ecg_episodes", "Episodes of consecutive flagged beats.", "model_version", "site")
    gauges.describe("ecg_windows_failed", "Windows that could not be scored, by reason.", "model_version", "reason")
    gauges.describe(
        "ecg_windows_lost_ratio",
        "Share of the beats of summarised recordings that have no score, no failure and no reason to be unusable: 0.",
        "model_version",
    )
    gauges.describe("ecg_beats_unusable_ratio", "Share of beats without a window.", "model_version")
    gauges.describe("ecg_scoring_gap_seconds", "Since a recording was last summarised.")
    results = context.stores.results
    by_version: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in results.scored_totals(tuple(context.models)):
        labels = (row["model_version"], row["site"])
        gauges.set("ecg_recordings_analysed", row["recordings"], *labels)
        gauges.set("ecg_windows_scored", row["scored"], *labels)
        gauges.set("ecg_windows_anomalous", row["anomalous"], *labels)
        gauges.set("ecg_episodes", row["episodes"], *labels)
        for name in ("beats", "scored", "failed", "unusable"):
            by_version[row["model_version"]][name] += row[name]
    for version, n in by_version.items():
        if n["beats"]:
            lost = n["beats"] - n["scored"] - n["failed"] - n["unusable"]
            gauges.set("ecg_windows_lost_ratio", lost / n["beats"], version)
            gauges.set("ecg_beats_unusable_ratio", n["unusable"] / n["beats"], version)
    for row in results.failures_by_reason(tuple(context.models)):
        gauges.set("ecg_windows_failed", row["n"], row["model_version"], row["reason"])
    gauges.set("ecg_scoring_gap_seconds", results.scoring_gap_s())


def _waiting(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_windows_waiting", "Windows of recordings that the version that serves them has not finished.")
    gauges.describe("ecg_recordings_waiting", "Those recordings.")
    gauges.describe("ecg_queue_age_seconds", "Since the oldest of them was committed; 0 when none waits.")
    gauges.describe("ecg_scoring_blocks", "Blocks in the scoring queue.", "shadow", "state")
    release = context.release
    if release is not None and release.stable in context.models:
        arrivals = context.stores.warehouse.arrivals(context.models[release.stable].feature_version)
        finished = {v: context.stores.results.finished_window_sets(v) for v in context.serving}
        waiting = [
            one
            for one in arrivals
            if finished[release.version_for(one.recording)].get(one.window_set_id) != one.n_windows
        ]
        gauges.set("ecg_windows_waiting", sum(one.n_windows for one in waiting))
        gauges.set("ecg_recordings_waiting", len(waiting))
        gauges.set("ecg_queue_age_seconds", max((one.age_s for one in waiting), default=0.0))
    for shadow in ("false", "true"):
        for state in ("taken", "waiting"):
            gauges.set("ecg_scoring_blocks", 0, shadow, state)
    for row in context.stores.results.queued_blocks():
        shadow = str(row["shadow"]).lower()
        gauges.set("ecg_scoring_blocks", row["taken"], shadow, "taken")
        gauges.set("ecg_scoring_blocks", row["blocks"] - row["taken"], shadow, "waiting")


def _runs(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_runs", "Runs of training and scoring.", "kind", "status")
    gauges.describe("ecg_last_run_age_seconds", "Since the last run that ended so (or runs) began.", "kind", "status")
    for row in context.stores.results.runs_by_status():
        gauges.set("ecg_runs", row["n"], row["kind"], row["status"])
        gauges.set("ecg_last_run_age_seconds", row["age_s"], row["kind"], row["status"])


def _databases(gauges: Gauges, context: FigureContext) -> None:
    gauges.describe("ecg_database_size_bytes", "Size on disk.", "database")
    gauges.describe("ecg_database_connections", "Connections to it, of everybody.", "database")
    for database, store in (("warehouse", context.stores.warehouse), ("results", context.stores.results)):
        state = store.database_state()
        gauges.set("ecg_database_size_bytes", state["size_bytes"], database)
        gauges.set("ecg_database_connections", state["connections"], database)
