"""SQL of lineage: what made a model, which model made a score, which models saw a patient."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from configs.errors import NotFoundError
from warehouse.store import tables as t
from warehouse.store.connection import Repository
from warehouse.store.records import DataSpan


class SpanQueries(Repository):
    """What the warehouse knows of a data span's recordings."""

    def span_sources(self, span: DataSpan) -> list[dict[str, Any]]:
        """Recording, patient and window set of each entry of a span, in the order of its window sets."""
        ids = [entry["window_set_id"] for entry in span.content["window_sets"]]
        r, p, w = t.recordings.c, t.patients.c, t.window_sets.c
        query = (
            sa.select(
                w.window_set_id, w.lead_slots, w.r_peak_source, w.n_windows, w.n_rejected, w.windowed_s, w.unusable_s,
                w.suspect_inverted, r.recording_id, r.name.label("recording"), r.version, r.checksum, r.source_format,
                r.device, r.start_time, r.start_time_known, r.sampling_rate_hz, r.leads, r.duration_s, r.annotated,
                r.simulated, r.ingested_at, r.site, p.pseudonym, p.sex, p.age_band, p.split,
            )
            .select_from(t.window_sets.join(t.recordings).join(t.patients))
            .where(w.window_set_id.in_(ids))
            .order_by(w.window_set_id)
        )  # fmt: skip
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def span_losses(self, span: DataSpan) -> dict[str, dict[str, float]]:
        """What of a span's recordings gave no window: beats by reason, and seconds by reason."""
        ids = [entry["window_set_id"] for entry in span.content["window_sets"]]
        d, u = t.dead_letters.c, t.unusable_spans.c
        beats = sa.select(d.reason, sa.func.count()).where(d.window_set_id.in_(ids)).group_by(d.reason)
        seconds = (
            sa.select(u.reason, sa.func.sum(u.end_s - u.start_s))
            .where(u.window_set_id.in_(ids), u.lead.is_(None))
            .group_by(u.reason)
        )
        with self.transaction() as connection:
            return {
                "beats": {reason: int(n) for reason, n in connection.execute(beats)},
                "seconds": {reason: round(float(n), 3) for reason, n in connection.execute(seconds)},
            }


class LineageQueries(Repository):
    """Each question is one query."""

    def model_lineage(self, model_version: int, site: str | None = None) -> dict[str, Any]:
        """What made a version: its row, the training run, its recordings, what it was released as.

        Args:
            site: names recordings of this site alone, and counts the others; None names all.

        Raises:
            NotFoundError: there is no such version.
        """
        query = sa.text(
            "SELECT m.*, "
            "(SELECT to_json(r) FROM training_runs r WHERE r.model_version = m.model_version "
            " ORDER BY r.run_id DESC LIMIT 1) AS run, "
            "(SELECT json_agg(to_json(s) ORDER BY s.window_set_id) FROM model_recordings s "
            " WHERE s.model_version = m.model_version AND s.site = coalesce(:site, s.site)) AS recordings, "
            "(SELECT json_agg(to_json(l) ORDER BY l.release_id) FROM releases l "
            " WHERE l.model_version = m.model_version) AS releases "
            "FROM model_versions m WHERE m.model_version = :version"
        )
        with self.transaction() as connection:
            row = connection.execute(query, {"version": model_version, "site": site}).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"model version {model_version}", "does not exist", "GET /models lists them.")
        here = len(row["recordings"] or ())
        total = ((row["datasheet"] or {}).get("composition") or {}).get("recordings", here)
        return {**row, "elsewhere": max(int(total) - here, 0)}  # rows of other sites may not be there to be counted

    def score_lineage(self, window_id: int, pseudonym: str, site: str) -> list[dict[str, Any]]:
        """Every score of a window with what made it, newest version first.

        `seen_in` is the split that the version had the window's patient in; None where it never saw them.
        """
        query = sa.text(
            "SELECT s.model_version, s.score, s.verdict, s.shadow, m.threshold, m.digest, m.data_span, m.run_key, "
            "m.registered_at, m.card -> 'model' ->> 'code_digest' AS code_digest, "
            "m.card -> 'model' ->> 'git_revision' AS git_revision, "
            "(SELECT min(r.split) FROM model_recordings r WHERE r.model_version = s.model_version "
            " AND r.site = :site AND r.pseudonym = :pseudonym) AS seen_in "
            "FROM (SELECT model_version, score, verdict, false AS shadow FROM scores WHERE window_id = :window_id "
            "UNION ALL SELECT model_version, score, verdict, true FROM shadow_scores WHERE window_id = :window_id) s "
            "JOIN model_versions m USING (model_version) ORDER BY s.model_version DESC, s.shadow"
        )
        values = {"window_id": window_id, "pseudonym": pseudonym, "site": site}
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query, values).mappings()]

    def models_of_patient(self, site: str, pseudonym: str) -> list[dict[str, Any]]:
        """Versions that saw a patient, newest first: in which split, how many recordings and windows."""
        query = sa.text(
            "SELECT r.model_version, min(r.split) AS split, count(*) AS recordings, "
            "CAST(sum(r.n_windows) AS bigint) AS windows, m.registered_at, m.data_span "
            "FROM model_recordings r JOIN model_versions m USING (model_version) "
            "WHERE r.site = :site AND r.pseudonym = :pseudonym "
            "GROUP BY r.model_version, m.registered_at, m.data_span ORDER BY r.model_version DESC"
        )
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query, {"site": site, "pseudonym": pseudonym}).mappings()]

    def recordings_here(self, site: str) -> Mapping[int, frozenset[str]]:
        """By version, names of this site's recordings that it was made from: those that may be named here."""
        query = sa.text(
            "SELECT model_version, array_agg(DISTINCT recording) AS names FROM model_recordings "
            "WHERE site = :site GROUP BY 1"
        )
        with self.transaction() as connection:
            return {row.model_version: frozenset(row.names) for row in connection.execute(query, {"site": site})}
