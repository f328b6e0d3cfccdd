"""SQL of whoever reads results: the API, the demo."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from configs.errors import NotFoundError
from warehouse.store import tables as t
from warehouse.store.connection import Repository, copy_out
from warehouse.store.records import AnomalyFilter, Release, WindowSet
from warehouse.store.release_queries import served_by
from warehouse.store.review_state import UNREVIEWED

_STATUS = sa.func.coalesce(t.review_states.c.status, UNREVIEWED)


class ResultQueries(Repository):
    """What was found."""

    def anomalies(
        self,
        where: AnomalyFilter,
        *,
        sort: str = "time",
        after: tuple[datetime | float, int] | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Anomalies with what reviews of them come to (`review_status`, `verdict`, `review_label`, `cause`).

        Args:
            sort: time or score, with - before it for the last or highest first; then window id, likewise.
            after: the last row's (recorded_at or score, window_id) of the page before.
        """
        a = t.anomalies.c
        key = a.score if sort.endswith("score") else a.recorded_at
        query = _with_reviews(t.anomalies).where(*_conditions(where))
        descending = sort.startswith("-")
        if after is not None:
            here, last = sa.tuple_(key, a.window_id), sa.tuple_(sa.cast(after[0], key.type), sa.literal(after[1]))
            query = query.where(here < last if descending else here > last)
        order = (key.desc(), a.window_id.desc()) if descending else (key, a.window_id)
        query = query.order_by(*order).limit(limit)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def most_anomalous(self, model_version: int, window_sets: Sequence[WindowSet], limit: int) -> list[dict[str, Any]]:
        """The anomalies with the highest scores in these window sets."""
        a = t.anomalies.c
        ids = [s.recording_id for s in window_sets]
        query = (
            sa.select(t.anomalies)
            .where(a.model_version == model_version, a.recording_id.in_(ids))
            .order_by(a.score.desc(), a.window_id)
            .limit(limit)
        )
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def anomaly(self, model_version: int, window_id: int, *, site: str | None = None) -> dict[str, Any]:
        """One anomaly, with what reviews of it come to.

        Raises:
            NotFoundError: this window is not anomalous to this version, does not exist, or belongs to another site.
        """
        a = t.anomalies.c
        query = _with_reviews(t.anomalies).where(a.model_version == model_version, a.window_id == window_id)
        if site is not None:
            query = query.where(a.site == site)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"anomaly {model_version}-{window_id}", "does not exist", "GET /anomalies lists them.")
        return dict(row)

    def scores_of(
        self, model_version: int, window_set: WindowSet
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Window ids (n,) and scores (n,) of a window set, by id."""
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        with self.transaction() as connection:
            found = copy_out(
                connection,
                "SELECT window_id, score FROM scores WHERE model_version = %(v)s AND window_id >= %(a)s "
                "AND window_id < %(b)s ORDER BY window_id",
                {"v": model_version, "a": first, "b": stop},
                {"window_id": "int8", "score": "float4"},
            )
        return found["window_id"], found["score"]

    def summaries(self, recording_ids: Collection[int], by: int | Release | None = None) -> list[dict[str, Any]]:
        """Summaries of these recordings, newest model version first.

        Args:
            by: only of this version, or of the version that serves each recording; None: of every version.
        """
        s = t.recording_summaries.c
        query = sa.select(t.recording_summaries).where(s.recording_id.in_(recording_ids))
        if by is not None:
            query = query.where(s.model_version == by if isinstance(by, int) else served_by(s, by))
        query = query.order_by(s.model_version.desc(), s.recording_id)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def score_of(self, model_version: int, window_id: int) -> dict[str, Any] | None:
        """Score, verdict, recording and lead slot of a window; None when this version has not scored it."""
        query = sa.select(t.scores).where(t.scores.c.model_version == model_version, t.scores.c.window_id == window_id)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else None

    def episodes(
        self,
        by: int | Release,
        *,
        site: str | None = None,
        recording: str | None = None,
        recordings: Sequence[tuple[int, str]] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        min_score: float | None = None,
        sort: str = "time",
        after: tuple[datetime | float, int] | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Episodes; sorting and `after` as in `anomalies`, by start or peak score, then episode id.

        Args:
            by: found by this version, or by the version that serves each recording.
        """
        e = t.episodes.c
        query = sa.select(t.episodes).where(e.model_version == by if isinstance(by, int) else served_by(e, by))
        if site is not None:
            query = query.where(e.site == site)
        if recording is not None:
            query = query.where(e.recording == recording)
        if recordings is not None:
            query = query.where(e.recording_id.in_([number for number, _ in recordings]))
        if start is not None:
            query = query.where(e.start_time >= start)
        if end is not None:
            query = query.where(e.start_time < end)
        if min_score is not None:
            query = query.where(e.peak_score >= min_score)
        key = e.peak_score if sort.endswith("score") else e.start_time
        descending = sort.startswith("-")
        if after is not None:
            here, last = sa.tuple_(key, e.episode_id), sa.tuple_(sa.cast(after[0], key.type), sa.literal(after[1]))
            query = query.where(here < last if descending else here > last)
        order = (key.desc(), e.episode_id.desc()) if descending else (key, e.episode_id)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query.order_by(*order).limit(limit)).mappings()]

    def episode(self, model_version: int, episode_id: int, *, site: str | None = None) -> dict[str, Any] | None:
        """One episode; None when there is none: a summary that is being made anew has just taken it away."""
        e = t.episodes.c
        query = sa.select(t.episodes).where(e.model_version == model_version, e.episode_id == episode_id)
        if site is not None:
            query = query.where(e.site == site)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else None


def _with_reviews(anomalies: sa.Table) -> sa.Select[Any]:
    states = t.review_states
    joined = anomalies.outerjoin(states, states.c.window_id == anomalies.c.window_id)
    return sa.select(
        anomalies,
        _STATUS.label("review_status"),
        states.c.verdict,
        states.c.label.label("review_label"),
        states.c.cause,
        states.c.reviewers,
    ).select_from(joined)


def _conditions(where: AnomalyFilter) -> Iterator[sa.ColumnElement[bool]]:
    a, states = t.anomalies.c, t.review_states.c
    yield a.model_version == where.model_version if where.release is None else served_by(a, where.release)
    if where.site is not None:
        yield a.site == where.site
    if where.start is not None:
        yield a.recorded_at >= where.start
    if where.end is not None:
        yield a.recorded_at < where.end
    if where.recording is not None:
        yield a.recording == where.recording
    if where.recordings is not None:
        yield a.recording.in_([name for _, name in where.recordings])  # as the index is
        yield a.recording_id.in_([number for number, _ in where.recordings])
    if where.lead is not None:
        yield a.lead == where.lead
    if where.min_score is not None:
        yield a.score >= where.min_score
    if where.max_score is not None:
        yield a.score < where.max_score
    if where.review_status is not None:
        yield _STATUS.in_(list(where.review_status))
    if where.label is not None:
        yield sa.func.coalesce(states.label, sa.cast(a.label, sa.Text)) == where.label
    if where.episode_id is not None:
        yield a.episode_id == where.episode_id
