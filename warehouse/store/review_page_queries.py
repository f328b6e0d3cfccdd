"""SQL of the review page alone: many small rows of one recording at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from configs.contract import FeatureSpec
from warehouse.store import tables as t
from warehouse.store.binary_copy import Array
from warehouse.store.connection import Repository, copy_out
from warehouse.store.window_block import WindowBlock, block_from_columns, block_kinds


class ReviewPageWindows(Repository):
    """What the page asks of the warehouse."""

    def beat_times(self, first_id: int, stop_id: int) -> dict[str, Array]:
        """Windows with ids in [first_id, stop_id): window_id int64 (n,), recorded_at int64 (n,) µs since 2000.

        From the index alone: a day's hundred thousand beats take no look at their samples.
        """
        with self.transaction() as connection:
            return copy_out(
                connection,
                "SELECT window_id, recorded_at FROM windows WHERE window_id >= %(a)s AND window_id < %(b)s "
                "ORDER BY window_id",
                {"a": first_id, "b": stop_id},
                {"window_id": "int8", "recorded_at": "timestamptz"},
            )

    def read_windows(self, spec: FeatureSpec, window_ids: Sequence[int]) -> WindowBlock:
        """These windows, those that are there, by id."""
        kinds = block_kinds(spec)
        size = spec.window_samples * spec.n_leads * 2
        query = (
            f"SELECT {', '.join(kinds)} FROM windows WHERE window_id = ANY(%(ids)s) "
            "AND octet_length(samples) = %(size)s AND octet_length(template) = %(size)s ORDER BY window_id"
        )
        with self.transaction() as connection:
            columns = copy_out(connection, query, {"ids": [int(i) for i in window_ids], "size": size}, kinds)
        return block_from_columns(columns, spec)

    def lead_slots_of(self, window_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Lead names in the model input slots of each of these windows, "" for an empty one."""
        sets = {window_id >> t.BEAT_BITS for window_id in window_ids}
        w = t.window_sets.c
        query = sa.select(w.window_set_id, w.lead_slots).where(w.window_set_id.in_(sets))
        with self.transaction() as connection:
            slots = {row.window_set_id: tuple(row.lead_slots) for row in connection.execute(query)}
        return {i: slots[i >> t.BEAT_BITS] for i in window_ids if i >> t.BEAT_BITS in slots}


class ReviewPageResults(Repository):
    """What the page asks of the results."""

    def beat_scores(self, model_version: int, first_id: int, stop_id: int) -> dict[str, Array]:
        """Scored windows of an id range: window_id, recorded_at (as `beat_times`), score float32, verdict bool."""
        with self.transaction() as connection:
            return copy_out(
                connection,
                "SELECT window_id, recorded_at, score, verdict FROM scores WHERE model_version = %(v)s "
                "AND window_id >= %(a)s AND window_id < %(b)s ORDER BY window_id",
                {"v": model_version, "a": first_id, "b": stop_id},
                {"window_id": "int8", "recorded_at": "timestamptz", "score": "float4", "verdict": "bool"},
            )

    def episodes_of_recording(self, model_version: int, recording_id: int, limit: int) -> list[dict[str, Any]]:
        """Its episodes, highest peak first."""
        e = t.episodes.c
        query = (
            sa.select(t.episodes)
            .where(e.model_version == model_version, e.recording_id == recording_id)
            .order_by(e.peak_score.desc(), e.episode_id)
            .limit(limit)
        )
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def peaks_of_episodes(self, model_version: int, recording_id: int, episode_ids: Sequence[int]) -> dict[int, int]:
        """Episode to the window of its highest score, for episodes of one recording."""
        query = sa.text(
            "SELECT DISTINCT ON (episode_id) episode_id, window_id FROM anomalies "
            "WHERE model_version = :v AND recording_id = :recording AND episode_id = ANY(:ids) "
            "ORDER BY episode_id, score DESC, window_id"
        )
        with self.transaction() as connection:
            given = {"v": model_version, "recording": recording_id, "ids": [int(i) for i in episode_ids]}
            found = connection.execute(query, given)
            return {row.episode_id: row.window_id for row in found}

    def reviewed_scores(self, model_version: int, site: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Scores (n,) of the beats that readers decided on, and whether they were confirmed (n,)."""
        query = sa.text(
            "SELECT s.score, r.verdict = 'confirm' FROM review_states r "
            "JOIN scores s ON s.model_version = :v AND s.window_id = r.window_id "
            "WHERE r.site = :site AND r.verdict IS NOT NULL"
        )
        with self.transaction() as connection:
            rows = connection.execute(query, {"v": model_version, "site": site}).all()
        return np.array([row[0] for row in rows], np.float32), np.array([row[1] for row in rows], np.bool_)
