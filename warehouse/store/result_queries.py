"""SQL of whoever reads results: the API, the demo."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from configs.errors import NotFoundError
from warehouse.store import tables as t
from warehouse.store.connection import Repository, copy_out
from warehouse.store.records import AnomalyFilter, WindowSet


class ResultQueries(Repository):
    """What was found."""

    def anomalies(
        self, where: AnomalyFilter, *, after: tuple[datetime, int] | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Anomalies by time, then window id; `after` is the last row's (recorded_at, window_id) of the page before."""
        a = t.anomalies.c
        query = sa.select(t.anomalies).where(a.model_version == where.model_version)
        if where.start is not None:
            query = query.where(a.recorded_at >= where.start)
        if where.end is not None:
            query = query.where(a.recorded_at < where.end)
        if where.recording is not None:
            query = query.where(a.recording == where.recording)
        if where.lead is not None:
            query = query.where(a.lead == where.lead)
        if where.min_score is not None:
            query = query.where(a.score >= where.min_score)
        if after is not None:
            query = query.where(sa.tuple_(a.recorded_at, a.window_id) > sa.tuple_(*map(sa.literal, after)))
        query = query.order_by(a.recorded_at, a.window_id).limit(limit)
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

    def anomaly(self, model_version: int, window_id: int) -> dict[str, Any]:
        """One anomaly.

        Raises:
            NotFoundError: this window is not anomalous to this version, or does not exist.
        """
        a = t.anomalies.c
        query = sa.select(t.anomalies).where(a.model_version == model_version, a.window_id == window_id)
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

    def summaries(self, recording_id: int | None = None) -> list[dict[str, Any]]:
        """Summaries, newest model version first."""
        query = sa.select(t.recording_summaries).order_by(t.recording_summaries.c.model_version.desc())
        if recording_id is not None:
            query = query.where(t.recording_summaries.c.recording_id == recording_id)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def episode(self, model_version: int, episode_id: int) -> dict[str, Any] | None:
        """One episode; None when a summary that is being made anew has just taken it away."""
        e = t.episodes.c
        query = sa.select(t.episodes).where(e.model_version == model_version, e.episode_id == episode_id)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else None
