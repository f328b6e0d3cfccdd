"""SQL of drift: which recordings are live, and what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from warehouse.store import tables as t
from warehouse.store.connection import Repository
from warehouse.store.records import WindowSet
from warehouse.store.window_queries import window_set_rows

#: How a run compared.
BY_REFERENCE, BY_SKEW = "reference", "skew"


@dataclass(frozen=True)
class LiveRecording:
    """A recording that drift is looked for in.

    Attributes:
        patient: number of whose it is.
        arrived: when it was ingested: clocks of devices are not trusted.
    """

    window_set: WindowSet
    patient: int
    arrived: datetime


class DriftWarehouse(Repository):
    """What drift asks of the warehouse."""

    def live_recordings(
        self, feature_version: str, *, arrived_after: datetime | None = None, among: Sequence[int] | None = None
    ) -> list[LiveRecording]:
        """Current recordings of a geometry in order of arrival.

        Args:
            arrived_after: only those ingested since; None for all.
            among: only these window sets; None for all.
        """
        query = window_set_rows().add_columns(t.patients.c.patient_id, t.recordings.c.ingested_at)
        query = query.where(
            t.window_sets.c.feature_version == feature_version, t.recordings.c.superseded_by.is_(None)
        ).order_by(t.window_sets.c.window_set_id)
        if arrived_after is not None:
            query = query.where(t.recordings.c.ingested_at >= arrived_after)
        if among is not None:
            query = query.where(t.window_sets.c.window_set_id.in_(list(among)))
        found = []
        with self.transaction() as connection:
            for row in connection.execute(query).mappings():
                values = {**row, "lead_slots": tuple(row["lead_slots"])}
                patient, arrived = values.pop("patient_id"), values.pop("ingested_at")
                found.append(LiveRecording(WindowSet(**values), patient, arrived))
        return found


class DriftResults(Repository):
    """What drift writes into the results, and what is read of it."""

    def add_drift_run(self, run: Mapping[str, Any], findings: Sequence[Mapping[str, Any]]) -> int:
        """Stores a run with all its findings; returns its number."""
        with self.transaction() as connection:
            number = int(
                connection.execute(
                    t.drift_runs.insert().values(dict(run)).returning(t.drift_runs.c.drift_run_id)
                ).scalar_one()
            )
            if findings:
                own = {"drift_run_id": number, "site": run["site"], "model_version": run["model_version"]}
                connection.execute(t.drift_findings.insert(), [{**finding, **own} for finding in findings])
        return number

    def drift_runs(
        self, *, site: str, method: str | None = None, drift_run_id: int | None = None, limit: int = 1
    ) -> list[dict[str, Any]]:
        """Runs of a site, newest first; of one method, or only one when its number is given."""
        r = t.drift_runs.c
        query = sa.select(t.drift_runs).where(r.site == site).order_by(r.drift_run_id.desc()).limit(limit)
        if method is not None:
            query = query.where(r.method == method)
        if drift_run_id is not None:
            query = query.where(r.drift_run_id == drift_run_id)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def judged_beats(self, model_version: int, site: str) -> list[dict[str, Any]]:
        """Beats with a verdict of their reviewers and a score of this version, in the order of review.

        window_id, recording_id, device, verdict (confirm or reject), reviewed_at, score and flagged.
        """
        query = sa.text(
            "SELECT r.window_id, r.recording_id, coalesce(m.device, '') AS device, r.verdict, "
            "r.updated_at AS reviewed_at, s.score, s.verdict AS flagged FROM review_states r "
            "JOIN scores s ON s.model_version = :v AND s.window_id = r.window_id "
            "LEFT JOIN recording_summaries m ON m.model_version = :v AND m.recording_id = r.recording_id "
            "WHERE r.site = :site AND r.verdict IS NOT NULL ORDER BY r.updated_at, r.window_id"
        )
        with self.transaction() as connection:
            found = connection.execute(query, {"v": model_version, "site": site}).mappings()
            return [dict(row) for row in found]

    def latest_drift_runs(self) -> list[dict[str, Any]]:
        """The newest run of every site and method."""
        r = t.drift_runs.c
        newest = sa.select(sa.func.max(r.drift_run_id)).group_by(r.site, r.method)
        query = sa.select(t.drift_runs).where(r.drift_run_id.in_(newest)).order_by(r.site, r.method)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def drift_findings(self, drift_run_id: int) -> list[dict[str, Any]]:
        """What a run found, surest first."""
        f = t.drift_findings.c
        query = sa.select(t.drift_findings).where(f.drift_run_id == drift_run_id)
        with self.transaction() as connection:
            rows = connection.execute(query.order_by(f.adjusted.nulls_last(), f.drift_finding_id)).mappings()
            return [dict(row) for row in rows]
