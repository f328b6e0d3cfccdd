"""SQL of the figures that `python -m monitoring.exporter` gives to Prometheus: totals, ages and shares, few rows each.

Ages are told by the database's own clock, from when things arrived, never from when they were recorded: a client whose
clock jumps, or a device that sends yesterday's data, changes none of them. An age is never negative.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from warehouse.store.connection import Repository

Rows = list[Mapping[str, Any]]


class _Figures(Repository):
    def _rows(self, query: str, **parameters: Any) -> Rows:
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(sa.text(query), parameters).mappings()]

    def _age_s(self, table: str, column: str) -> float | None:
        """Seconds since the newest of a column of times; None when there is none."""
        (row,) = self._rows(f"SELECT CAST(extract(epoch FROM now() - max({column})) AS float) AS age FROM {table}")
        return None if row["age"] is None else max(float(row["age"]), 0.0)

    def database_state(self) -> Mapping[str, Any]:
        """`size_bytes`, and `connections` to this database, of everybody."""
        return self._rows(
            "SELECT pg_database_size(current_database()) AS size_bytes, "
            "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections"
        )[0]


@dataclass(frozen=True)
class Arrival:
    """A recording's windows, and how many seconds ago they came."""

    window_set_id: int
    recording: str
    n_windows: int
    age_s: float


class MonitoringWarehouse(_Figures):
    """What came in."""

    def arrivals(self, feature_version: str) -> list[Arrival]:
        """Window sets of the current version of every recording, in one geometry, oldest first."""
        rows = self._rows(
            "SELECT s.window_set_id, r.name AS recording, s.n_windows, "
            "CAST(greatest(extract(epoch FROM now() - s.created_at), 0) AS float) AS age_s "
            "FROM window_sets s JOIN recordings r USING (recording_id) "
            "WHERE s.feature_version = :feature_version AND r.superseded_by IS NULL ORDER BY s.created_at",
            feature_version=feature_version,
        )
        return [Arrival(**row) for row in rows]

    def stored_totals(self) -> Rows:
        """By site: current `recordings`, and their `windows`, `windowed_s`, `unusable_s`."""
        return self._rows(
            "SELECT r.site, count(DISTINCT r.recording_id) AS recordings, "
            "CAST(coalesce(sum(s.n_windows), 0) AS bigint) AS windows, "
            "coalesce(sum(s.windowed_s), 0) AS windowed_s, coalesce(sum(s.unusable_s), 0) AS unusable_s "
            "FROM recordings r LEFT JOIN window_sets s USING (recording_id) "
            "WHERE r.superseded_by IS NULL GROUP BY r.site"
        )

    def ingest_gap_s(self) -> float | None:
        """Seconds since a recording was last committed; None when none ever was."""
        return self._age_s("recordings", "ingested_at")

    def unusable_time(self) -> Rows:
        """By `reason` and `whole` (all leads, or one): `seconds` of spans without a window, and of leads left out."""
        return self._rows(
            "SELECT reason, lead IS NULL AS whole, sum(end_s - start_s) AS seconds FROM unusable_spans GROUP BY 1, 2"
        )

    def rejected(self) -> Rows:
        """By `reason`: `n` beats without a window; reason `source`: files that could not be read."""
        return self._rows("SELECT reason, count(*) AS n FROM dead_letters GROUP BY reason")

    def uploads_by_status(self) -> Rows:
        """By `status`: `n` uploads, and `age_s` of the oldest."""
        return self._rows(
            "SELECT status, count(*) AS n, "
            "CAST(greatest(extract(epoch FROM now() - min(created_at)), 0) AS float) AS age_s "
            "FROM uploads GROUP BY status"
        )

    def recent_arrivals(self, recent: timedelta) -> Rows:
        """Recordings committed lately: `recording_id`, `site`, `arrived_at` (upload's or ingest's), and `delay_s` from
        the recording's end to its ingest, null where its start is unknown.
        """
        return self._rows(
            "WITH uploaded AS (SELECT CAST(entry ->> 'recording_id' AS bigint) AS recording_id, "
            "  min(u.created_at) AS created_at FROM uploads u, jsonb_array_elements(u.recordings) entry "
            "  WHERE u.finished_at >= now() - CAST(:recent AS interval) "
            "  AND jsonb_typeof(u.recordings) = 'array' GROUP BY 1) "
            "SELECT r.recording_id, r.site, least(u.created_at, r.ingested_at) AS arrived_at, "
            "CAST(CASE WHEN r.start_time_known THEN greatest(extract(epoch FROM r.ingested_at - r.start_time) "
            "  - r.duration_s, 0) END AS float) AS delay_s "
            "FROM recordings r LEFT JOIN uploaded u USING (recording_id) "
            "WHERE r.ingested_at >= now() - CAST(:recent AS interval)",
            recent=recent,
        )


class MonitoringResults(_Figures):
    """What came of it. `versions` are those of the release: few."""

    def scored_totals(self, versions: Sequence[int]) -> Rows:
        """By `model_version` and `site`, over summarised recordings: `recordings`, `beats`, `scored`, `failed`,
        `unusable`, `anomalous`, `episodes`, `analysable_s`.
        """
        return self._rows(
            "SELECT model_version, site, count(*) AS recordings, "
            + ", ".join(
                f"CAST(sum({name}) AS bigint) AS {name}"
                for name in ("beats", "scored", "failed", "unusable", "anomalous", "episodes")
            )
            + ", sum(analysable_s) AS analysable_s FROM recording_summaries "
            "WHERE model_version = ANY(:versions) GROUP BY 1, 2",
            versions=list(versions),
        )

    def failures_by_reason(self, versions: Sequence[int]) -> Rows:
        """By `model_version` and `reason` (not_finite or unreadable): `n` windows that could not be scored."""
        return self._rows(
            "SELECT model_version, CASE WHEN reason LIKE '%not finite' THEN 'not_finite' ELSE 'unreadable' END "
            "AS reason, count(*) AS n FROM score_failures WHERE model_version = ANY(:versions) GROUP BY 1, 2",
            versions=list(versions),
        )

    def scoring_gap_s(self) -> float | None:
        """Seconds since a recording was last summarised; None when none ever was."""
        return self._age_s("recording_summaries", "updated_at")

    def queued_blocks(self) -> Rows:
        """By `shadow`: `blocks` in the scoring queue, and how many of them are `taken`."""
        return self._rows("SELECT shadow, count(*) AS blocks, count(holder) AS taken FROM scoring_work GROUP BY shadow")

    def runs_by_status(self) -> Rows:
        """By `kind` (training, scoring) and `status`: `n` runs, and `age_s` since the last began."""
        return self._rows(
            " UNION ALL ".join(
                f"SELECT '{kind}' AS kind, status, count(*) AS n, "
                "CAST(greatest(extract(epoch FROM now() - max(started_at)), 0) AS float) AS age_s "
                f"FROM {kind}_runs GROUP BY status"
                for kind in ("training", "scoring")
            )
        )

    def scored_sites(self) -> list[str]:
        """Sites that have results."""
        return [row["site"] for row in self._rows("SELECT DISTINCT site FROM recording_summaries ORDER BY site")]

    def recent_burden(self, versions: Sequence[int], recent: timedelta) -> Rows:
        """By `site`, over recordings summarised lately, each once (its newest summary): `recordings`, `scored`,
        `anomalous`, `episodes`, `analysable_s`, and `burden_p50`, `burden_p90`: shares of anomalous beats a recording.
        """
        return self._rows(
            "WITH latest AS (SELECT DISTINCT ON (recording_id) * FROM recording_summaries "
            "  WHERE model_version = ANY(:versions) AND updated_at >= now() - CAST(:recent AS interval) "
            "  ORDER BY recording_id, updated_at DESC) "
            "SELECT site, count(*) AS recordings, CAST(sum(scored) AS bigint) AS scored, "
            "CAST(sum(anomalous) AS bigint) AS anomalous, CAST(sum(episodes) AS bigint) AS episodes, "
            "sum(analysable_s) AS analysable_s, "
            "percentile_cont(0.5) WITHIN GROUP (ORDER BY burden_percent) / 100 AS burden_p50, "
            "percentile_cont(0.9) WITHIN GROUP (ORDER BY burden_percent) / 100 AS burden_p90 "
            "FROM latest GROUP BY site",
            versions=list(versions),
            recent=recent,
        )

    def first_results(self, recording_ids: Sequence[int]) -> Rows:
        """`recording_id` and `at`: when its first summary by any version was made."""
        return self._rows(
            "SELECT recording_id, min(updated_at) AS at FROM recording_summaries "
            "WHERE recording_id = ANY(:ids) GROUP BY 1",
            ids=list(recording_ids),
        )

    def deferred(
        self,
        model_version: int,
        recent: timedelta,
        *,
        threshold: float,
        review_band: float,
        min_familiarity: float,
        min_quality: float,
    ) -> Rows:
        """By `site`, of anomalies in recordings summarised lately: `flagged`, and how many of them need a human for
        being `near_threshold`, `unfamiliar` (or without a typical beat), of `poor_signal`, and for `any` of these.

        The rule is `api.deferral`'s.
        """
        return self._rows(
            "WITH judged AS (SELECT a.site, :band > 0 AND abs(a.score - :threshold) <= :band AS near_threshold, "
            "  :familiarity > 0 AND a.quality IS NOT NULL AND coalesce(a.familiarity, -1) < :familiarity "
            "  AS unfamiliar, "
            "  coalesce(a.quality < :quality, false) AS poor_signal "
            "  FROM anomalies a JOIN recording_summaries m USING (model_version, recording_id) "
            "  WHERE a.model_version = :v AND m.updated_at >= now() - CAST(:recent AS interval)) "
            "SELECT site, count(*) AS flagged, count(*) FILTER (WHERE near_threshold) AS near_threshold, "
            "count(*) FILTER (WHERE unfamiliar) AS unfamiliar, count(*) FILTER (WHERE poor_signal) AS poor_signal, "
            "count(*) FILTER (WHERE near_threshold OR unfamiliar OR poor_signal) AS any FROM judged GROUP BY site",
            v=model_version,
            recent=recent,
            band=review_band,
            threshold=threshold,
            familiarity=min_familiarity,
            quality=min_quality,
        )

    def recently_judged(self, model_version: int, since: timedelta) -> Rows:
        """By `site`: flagged beats reviewed since then, `confirmed` and `rejected`."""
        return self._rows(
            "SELECT r.site, count(*) FILTER (WHERE r.verdict = 'confirm') AS confirmed, "
            "count(*) FILTER (WHERE r.verdict = 'reject') AS rejected "
            "FROM review_states r JOIN anomalies a ON a.model_version = :v AND a.window_id = r.window_id "
            "WHERE r.verdict IS NOT NULL AND r.updated_at >= now() - CAST(:since AS interval) GROUP BY r.site",
            v=model_version,
            since=since,
        )

    def reviewed_of(self, versions: Sequence[int]) -> Rows:
        """By `model_version` and `site`: `beats` and `episodes` flagged by a version that have a review's decision."""
        return self._rows(
            "SELECT a.model_version, a.site, count(*) AS beats, count(DISTINCT a.episode_id) AS episodes "
            "FROM review_states r JOIN anomalies a ON a.model_version = ANY(:versions) "
            "AND a.window_id = r.window_id WHERE r.verdict IS NOT NULL GROUP BY 1, 2",
            versions=list(versions),
        )

    def reviews_by_status(self) -> Rows:
        """By `site` and `status`: `n` beats."""
        return self._rows("SELECT site, status, count(*) AS n FROM review_states GROUP BY 1, 2")

    def reviewing_time(self, recent: timedelta, pause: timedelta) -> Rows:
        """By `site`, of reviews made lately: `reviews`, `recordings` they are of, and `seconds` spent on them.

        A reviewer's time is that between one review and the next; a gap longer than `pause` was no reviewing.
        """
        return self._rows(
            "WITH said AS (SELECT site, recording_id, created_at - lag(created_at) "
            "  OVER (PARTITION BY site, reviewer ORDER BY created_at, review_id) AS gap FROM reviews "
            "  WHERE action = 'review' AND created_at >= now() - CAST(:recent AS interval)) "
            "SELECT site, count(*) AS reviews, count(DISTINCT recording_id) AS recordings, "
            "CAST(coalesce(sum(extract(epoch FROM gap)) FILTER (WHERE gap <= CAST(:pause AS interval)), 0) AS float) "
            "AS seconds FROM said GROUP BY site",
            recent=recent,
            pause=pause,
        )

    def key_expiry(self) -> Rows:
        """By `role`, of API keys that are not revoked: `valid` ones, `expired` ones, and `next_expiry` (epoch seconds)
        of the valid one that runs out first; null when none is valid.
        """
        return self._rows(
            "SELECT role, count(*) FILTER (WHERE expires_at > now()) AS valid, "
            "count(*) FILTER (WHERE expires_at <= now()) AS expired, "
            "CAST(extract(epoch FROM min(expires_at) FILTER (WHERE expires_at > now())) AS float) AS next_expiry "
            "FROM api_keys WHERE revoked_at IS NULL GROUP BY role"
        )
