"""SQL of what reviews say of a model: how right it was, where it errs, what another threshold would flag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from warehouse.store import tables as t
from warehouse.store.connection import Repository
from warehouse.store.records import Release
from warehouse.store.release_queries import served_by
from warehouse.store.summary_queries import BIN, BINS, histogram_of

_DECIDED = "r.verdict IS NOT NULL"


@dataclass(frozen=True)
class Judged:
    """Counts of reviewed beats of a model version. Open conflicts and unsure ones are in neither.

    Attributes:
        flagged: beats the version flagged, reviewed or not; unflagged: beats it scored and did not flag.
        confirmed, rejected: of the flagged.
        missed, passed: of unflagged beats from the random sample: anomalous, and normal, to the reviewers.
    """

    flagged: int
    unflagged: int
    confirmed: int
    rejected: int
    missed: int
    passed: int


class FeedbackQueries(Repository):
    """Reviews over scores."""

    def judged(self, model_version: int, site: str) -> Judged:
        """How a version's results were judged at a site."""
        totals = sa.text(
            "SELECT coalesce(sum(anomalous), 0) AS flagged, coalesce(sum(scored - anomalous), 0) AS unflagged "
            "FROM recording_summaries WHERE model_version = :v AND site = :site"
        )
        counts = sa.text(
            "SELECT count(*) FILTER (WHERE s.verdict AND r.verdict = 'confirm') AS confirmed, "
            "count(*) FILTER (WHERE s.verdict AND r.verdict = 'reject') AS rejected, "
            "count(*) FILTER (WHERE NOT s.verdict AND r.sampled AND r.verdict = 'confirm') AS missed, "
            "count(*) FILTER (WHERE NOT s.verdict AND r.sampled AND r.verdict = 'reject') AS passed "
            "FROM review_states r JOIN scores s ON s.model_version = :v AND s.window_id = r.window_id "
            f"WHERE r.site = :site AND {_DECIDED}"
        )
        given = {"v": model_version, "site": site}
        with self.transaction() as connection:
            all_beats = connection.execute(totals, given).mappings().one()
            reviewed = connection.execute(counts, given).mappings().one()
        return Judged(**{name: int(value) for name, value in {**all_beats, **reviewed}.items()})

    def error_counts(self, model_version: int, site: str) -> dict[str, list[dict[str, Any]]]:
        """Reviewed flagged beats, confirmed and rejected, by cause, class, lead, recording and device.

        A beat's class is the reviewers' label, else the reference's.
        """
        of = {
            "cause": "coalesce(r.cause, '')",
            "label": "coalesce(r.label, nullif(a.label, 'U'), '')",
            "lead": "a.lead",
            "recording": "a.recording",
            "device": "coalesce(m.device, '')",
        }
        found: dict[str, list[dict[str, Any]]] = {}
        with self.transaction() as connection:
            for name, expression in of.items():
                query = sa.text(
                    f"SELECT {expression} AS value, count(*) FILTER (WHERE r.verdict = 'confirm') AS confirmed, "
                    "count(*) FILTER (WHERE r.verdict = 'reject') AS rejected FROM review_states r "
                    "JOIN anomalies a ON a.model_version = :v AND a.window_id = r.window_id "
                    "LEFT JOIN recording_summaries m ON m.model_version = :v AND m.recording_id = a.recording_id "
                    f"WHERE r.site = :site AND {_DECIDED} GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1000"
                )
                rows = connection.execute(query, {"v": model_version, "site": site}).mappings()
                found[name] = [{**row, "value": row["value"] or None} for row in rows]
        return found

    def would_flag(self, model_version: int, site: str, threshold: float) -> dict[str, int]:
        """What a threshold would flag: `flagged` and `scored` beats, and of reviewed ones `confirmed`, `rejected`.

        Args:
            threshold: a multiple of the histogram's `BIN`.
        """
        reviewed = sa.text(
            "SELECT count(*) FILTER (WHERE r.verdict = 'confirm') AS confirmed, "
            "count(*) FILTER (WHERE r.verdict = 'reject') AS rejected "
            "FROM review_states r JOIN scores s ON s.model_version = :v AND s.window_id = r.window_id "
            f"WHERE r.site = :site AND {_DECIDED} AND s.score >= CAST(:threshold AS real)"
        )
        histogram = self.score_histogram(model_version, site)
        first = round(threshold / BIN)
        with self.transaction() as connection:
            counts = connection.execute(
                reviewed, {"v": model_version, "site": site, "threshold": threshold}
            ).mappings().one()  # fmt: skip
        return {"flagged": int(histogram[first:].sum()), "scored": int(histogram.sum()), **dict(counts)}

    def score_histogram(self, model_version: int, site: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Scores of a site in bins of `BIN`: int64 (`BINS`,)."""
        s = t.recording_summaries.c
        query = sa.select(s.recording_id, s.score_histogram).where(s.model_version == model_version, s.site == site)
        total = np.zeros(BINS, np.int64)
        with self.transaction() as connection:
            for recording_id, histogram in connection.execute(query):
                if histogram is None:  # summarised by an older version
                    scores = sa.select(t.scores.c.score).where(
                        t.scores.c.model_version == model_version, t.scores.c.recording_id == recording_id
                    )
                    histogram = histogram_of(np.array(connection.execute(scores).scalars().all(), np.float32))
                total += np.asarray(histogram, np.int64)
        return total

    def random_beats(
        self, model_version: int, site: str, n: int, *, flagged: bool, seed: int
    ) -> list[Mapping[str, Any]]:
        """Up to n beats without a review, each as likely as any other: rows of `scores`.

        Beats are drawn by number from the recordings' ranges of ids, and drawn again where the number is of no beat
        that is wanted: every wanted beat is as likely, and no table is read whole.
        """
        query = sa.text(
            "SELECT window_set_id, beats FROM recording_summaries "
            "WHERE model_version = :v AND site = :site "
            "AND CASE WHEN :flagged THEN anomalous ELSE scored - anomalous END > 0 "
            "ORDER BY window_set_id"
        )
        wanted = sa.text(
            "SELECT s.* FROM scores s LEFT JOIN review_states r ON r.window_id = s.window_id "
            "WHERE s.model_version = :v AND s.window_id = ANY(:ids) AND s.verdict = :flagged "
            "AND (r.window_id IS NULL OR r.status = 'unreviewed')"
        )
        random = np.random.default_rng(seed)
        found: dict[int, Mapping[str, Any]] = {}
        with self.transaction() as connection:
            sets = connection.execute(query, {"v": model_version, "site": site, "flagged": flagged}).all()
            if not sets:
                return []
            beats = np.array([row.beats for row in sets], np.int64)
            ends = np.cumsum(beats)
            for _ in range(40):
                numbers = random.integers(0, ends[-1], size=max(200, 8 * n))
                which = np.searchsorted(ends, numbers, side="right")
                base = np.array([row.window_set_id for row in sets], np.int64)[which] << t.BEAT_BITS
                drawn = list(dict.fromkeys((base + numbers - (ends - beats)[which]).tolist()))
                rows = connection.execute(wanted, {"v": model_version, "ids": drawn, "flagged": flagged}).mappings()
                by_id = {row["window_id"]: dict(row) for row in rows}
                found |= {number: by_id[number] for number in drawn if number in by_id and number not in found}
                if len(found) >= n:
                    break
        return list(found.values())[:n]

    def buckets(
        self,
        by: int | Release,
        site: str,
        start: datetime,
        end: datetime,
        width: str,
        recordings: Sequence[int] | None,
    ) -> list[dict[str, Any]]:
        """Anomalies and their review status a bucket of time, those with any, in order.

        Args:
            by: found by this version, or by the version that serves each recording.
            width: minute, hour, day, week or month: PostgreSQL's date_trunc, in UTC.
            recordings: only of these; None for all.
        """
        a, r = t.anomalies.c, t.review_states.c
        decided = sa.and_(r.status.in_(["confirmed", "settled"]), r.verdict == "confirm")
        query = (
            sa.select(
                sa.func.date_trunc(sa.cast(width, sa.Text), a.recorded_at, "UTC").label("start"),
                sa.func.count().label("anomalies"),
                sa.func.count(a.recording_id.distinct()).label("recordings"),
                sa.func.max(a.score).label("max_score"),
                sa.func.count().filter(decided).label("confirmed"),
                sa.func.count().filter(r.verdict == "reject").label("rejected"),
            )
            .select_from(t.anomalies.outerjoin(t.review_states, r.window_id == a.window_id))
            .where(_of(a, by), a.site == site, a.recorded_at >= start, a.recorded_at < end)
            .group_by(sa.text("1"))
            .order_by(sa.text("1"))
        )
        if recordings is not None:
            query = query.where(a.recording_id.in_(recordings))
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def site_totals(self, by: int | Release, site: str) -> dict[str, Any]:
        """Recordings, beats, anomalies and hours of a site, over its summaries by a version, or by those that serve."""
        s = t.recording_summaries.c
        counts = (s.beats, s.scored, s.anomalous, s.episodes)
        query = sa.select(
            sa.func.count().label("recordings"),
            *(sa.cast(sa.func.coalesce(sa.func.sum(one), 0), sa.BigInteger).label(one.name) for one in counts),
            *(sa.func.coalesce(sa.func.sum(one), 0.0).label(one.name) for one in (s.analysable_s, s.duration_s)),
        ).where(_of(s, by), s.site == site)
        with self.transaction() as connection:
            return dict(connection.execute(query).mappings().one())


def _of(table: Any, by: int | Release) -> sa.ColumnElement[bool]:
    """Rows of a version, or of the version that serves their recording."""
    found: sa.ColumnElement[bool] = table.model_version == by if isinstance(by, int) else served_by(table, by)
    return found
