"""SQL of scoring: scores, failures, anomalies, episodes, summaries, runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from warehouse.signal.familiarity import familiarity
from warehouse.store import tables as t
from warehouse.store.binary_copy import Array
from warehouse.store.connection import Repository, copy_in, copy_out, retried
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.window_block import WindowBlock
from warehouse.store.work_queries import finish_work

#: Windows of a range that a version has dealt with; `table` is where its scores are.
_DONE = (
    "SELECT window_id FROM {table} WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s "
    "UNION SELECT window_id FROM score_failures "
    "WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s"
)


def _score_table(shadow: bool) -> str:
    return "shadow_scores" if shadow else "scores"


BIN = 0.01
BINS = 1001


class ScoreQueries(Repository):
    """What scoring asks of the results, and writes into them."""

    def start_run(self, model_version: int, windows_in: int, unusable: int, *, shadow: bool = False) -> int:
        """Opens a scoring run; returns its number."""
        row = {
            "model_version": model_version,
            "status": "running",
            "windows_in": windows_in,
            "unusable": unusable,
            "shadow": shadow,
        }
        with self.transaction() as connection:
            return int(
                connection.execute(insert(t.scoring_runs).values(row).returning(t.scoring_runs.c.run_id)).scalar_one()
            )

    def finish_run(self, run_id: int, *, seconds: float, error: str | None = None) -> None:
        """Closes a scoring run: succeeded, or failed with `error`."""
        values = {
            "status": "failed" if error else "succeeded",
            "error": error,
            "seconds": seconds,
            "finished_at": sa.func.now(),
        }
        with self.transaction() as connection:
            connection.execute(t.scoring_runs.update().where(t.scoring_runs.c.run_id == run_id).values(values))

    def run(self, run_id: int) -> dict[str, Any]:
        """One scoring run."""
        with self.transaction() as connection:
            query = sa.select(t.scoring_runs).where(t.scoring_runs.c.run_id == run_id)
            return dict(connection.execute(query).mappings().one())

    def finished_window_sets(self, model_version: int, among: Sequence[int] | None = None) -> dict[int, int]:
        """Window sets (of these, when given) with a summary, to the number of windows scored or failed in it."""
        s = t.recording_summaries.c
        query = sa.select(s.window_set_id, s.scored + s.failed).where(s.model_version == model_version)
        if among is not None:
            query = query.where(s.window_set_id.in_(among))
        with self.transaction() as connection:
            return {int(set_id): int(done) for set_id, done in connection.execute(query)}

    def done_ids(
        self, model_version: int, first_id: int, stop_id: int, *, shadow: bool = False
    ) -> npt.NDArray[np.int64]:
        """Ids in [first_id, stop_id) that have a score or a failure: int64 (n,), ascending."""
        parameters = {"v": model_version, "a": first_id, "b": stop_id}
        with self.transaction() as connection:
            ids = copy_out(connection, _DONE.format(table=_score_table(shadow)), parameters, {"id": "int8"})["id"]
        return np.sort(ids)

    @retried
    def forget_failures(self, model_version: int, window_sets: Sequence[WindowSet]) -> None:
        """Makes windows that could not be scored, and the summaries that count them, pending again."""
        recordings = [s.recording_id for s in window_sets]
        failures, summaries = t.score_failures.c, t.recording_summaries.c
        with self.transaction() as connection:
            failed = connection.execute(
                t.score_failures.delete()
                .where(failures.model_version == model_version, failures.recording_id.in_(recordings))
                .returning(failures.recording_id)
            )
            touched = set(failed.scalars())
            connection.execute(
                t.recording_summaries.delete().where(
                    summaries.model_version == model_version, summaries.recording_id.in_(touched)
                )
            )

    def done_count(self, model_version: int, first_id: int, stop_id: int, *, shadow: bool = False) -> int:
        """How many ids `done_ids` would give."""
        query = f"SELECT count(*) FROM ({_DONE.format(table=_score_table(shadow))}) AS done"
        query = query.replace("%(v)s", ":v").replace("%(a)s", ":a").replace("%(b)s", ":b")
        with self.transaction() as connection:
            found = connection.execute(sa.text(query), {"v": model_version, "a": first_id, "b": stop_id})
            return int(found.scalar_one())

    @retried
    def write_scores(
        self,
        run_id: int,
        model_version: int,
        window_set: WindowSet,
        block: WindowBlock,
        scored: BlockScores,
        failures: Sequence[tuple[int, str]] = (),
        *,
        shadow: bool = False,
        work: int | None = None,
        model_seconds: float = 0.0,
    ) -> tuple[int, int]:
        """Stores a block's scores, its anomalies and failures in one transaction: COPY to staging, then one upsert.

        A window that has a score keeps it: writing a block again, or from two processes, changes nothing. A failure
        gives way to a score, whichever comes first, so that a window has one or the other.

        Args:
            failures: (window_id, reason) of windows the model could not score.
            shadow: into shadow_scores, apart from all verdicts.
            work: first id of the block in the queue, which is taken out of it in the same transaction.
            model_seconds: what the model took.

        Returns:
            How many scores, and how many failures, were new.
        """
        n_scored = n_failed = 0
        with self.transaction() as connection:
            if len(block):
                into = _score_table(shadow)
                n_scored = self._upsert_scores(connection, into, model_version, window_set, block, scored)
                if not shadow:
                    self._upsert_anomalies(connection, model_version, window_set, block, scored)
            if failures:
                n_failed = self._insert_failures(connection, model_version, window_set, failures)
            if work is not None:
                finish_work(connection, model_version, shadow=shadow, first_id=work)
            if n_scored or n_failed:
                connection.execute(
                    t.scoring_runs.update()
                    .where(t.scoring_runs.c.run_id == run_id)
                    .values(
                        scored=t.scoring_runs.c.scored + n_scored,
                        failed=t.scoring_runs.c.failed + n_failed,
                        model_seconds=t.scoring_runs.c.model_seconds + model_seconds,
                    )
                )
        return n_scored, n_failed

    def _upsert_scores(
        self,
        connection: sa.Connection,
        into: str,
        model_version: int,
        window_set: WindowSet,
        block: WindowBlock,
        scored: BlockScores,
    ) -> int:
        n = len(block)
        connection.execute(sa.text("CREATE TEMP TABLE staging (LIKE scores) ON COMMIT DROP"))
        columns: list[tuple[str, str, Array]] = [
            ("model_version", "int8", np.full(n, model_version)),
            ("window_id", "int8", block.window_id),
            ("recording_id", "int8", np.full(n, window_set.recording_id)),
            ("recorded_at", "timestamptz", block.recorded_at_us),
            ("score", "float4", scored.score),
            ("verdict", "bool", scored.verdict),
            ("lead_slot", "int2", scored.lead_slot),
        ]
        copy_in(connection, "staging", columns)
        names = ", ".join(name for name, _, _ in columns)
        done = connection.execute(
            sa.text(f"INSERT INTO {into} ({names}) SELECT {names} FROM staging ON CONFLICT DO NOTHING")
        )
        connection.execute(
            sa.text(
                "DELETE FROM score_failures f USING staging s "
                "WHERE f.model_version = s.model_version AND f.window_id = s.window_id"
            )
        )
        return int(done.rowcount)

    def _insert_failures(
        self, connection: sa.Connection, model_version: int, window_set: WindowSet, failures: Sequence[tuple[int, str]]
    ) -> int:
        reasons = dict(failures)
        query = sa.select(t.scores.c.window_id).where(
            t.scores.c.model_version == model_version, t.scores.c.window_id.in_(reasons)
        )
        scored = set(connection.execute(query).scalars())
        rows = [
            {"model_version": model_version, "window_id": i, "recording_id": window_set.recording_id, "reason": reason}
            for i, reason in reasons.items()
            if i not in scored
        ]
        if not rows:
            return 0
        statement = insert(t.score_failures).values(rows).on_conflict_do_nothing()
        return len(connection.execute(statement.returning(t.score_failures.c.window_id)).all())

    def _upsert_anomalies(
        self,
        connection: sa.Connection,
        model_version: int,
        window_set: WindowSet,
        block: WindowBlock,
        scored: BlockScores,
    ) -> None:
        # From the stored scores, not from this block's: where another process was first, its verdict counts.
        connection.execute(
            sa.text(
                "CREATE TEMP TABLE context (window_id bigint, r_peak_s float8, label char(1), quality real, "
                "familiarity real) ON COMMIT DROP"
            )
        )
        anomalous = block.select(scored.verdict)
        if len(anomalous) == 0:
            return
        copy_in(
            connection,
            "context",
            [
                ("window_id", "int8", anomalous.window_id),
                ("r_peak_s", "float8", anomalous.r_peak_s),
                ("label", "bytes:1", anomalous.aami_class),
                ("quality", "float4", anomalous.quality),
                ("familiarity", "float4", familiarity(anomalous)),
            ],
        )
        connection.execute(
            sa.text(
                "INSERT INTO anomalies (model_version, window_id, recording_id, recording, recorded_at, r_peak_s, "
                "score, lead, label, site, quality, familiarity) "
                "SELECT s.model_version, s.window_id, s.recording_id, :recording, s.recorded_at, c.r_peak_s, "
                "s.score, coalesce((CAST(:slots AS text[]))[s.lead_slot + 1], ''), c.label, :site, c.quality, "
                "nullif(c.familiarity, 'NaN') "
                "FROM scores s JOIN context c ON c.window_id = s.window_id "
                "WHERE s.model_version = :version AND s.verdict ON CONFLICT DO NOTHING"
            ),
            {
                "recording": window_set.recording,
                "slots": list(window_set.lead_slots),
                "version": model_version,
                "site": window_set.site,
            },
        )

    @retried
    def summarise(
        self, model_version: int, window_set: WindowSet, mean_heart_rate_bpm: float | None, gap_beats: int
    ) -> None:
        """Makes a recording's episodes and summary from its scores, anew and in one transaction.

        Args:
            gap_beats: normal beats that may lie between anomalous beats of one episode.
        """
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        span = {"v": model_version, "a": first, "b": stop}
        with self.transaction() as connection:
            connection.execute(
                sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"),
                {"key": f"summarise {model_version} {window_set.recording_id}"},
            )
            kinds = {"window_id": "int8", "verdict": "bool", "score": "float4"}
            scored = copy_out(
                connection,
                "SELECT window_id, verdict, score FROM scores WHERE model_version = %(v)s AND window_id >= %(a)s "
                "AND window_id < %(b)s ORDER BY window_id",
                span,
                kinds,
            )
            failed = connection.execute(
                sa.text(
                    "SELECT count(*) FROM score_failures f "
                    "WHERE model_version = :v AND window_id >= :a AND window_id < :b "
                    "AND NOT EXISTS (SELECT 1 FROM scores s WHERE s.model_version = :v AND s.window_id = f.window_id)"
                ),
                span,
            ).scalar_one()
            episode_of, n_episodes = group_episodes(scored["window_id"], scored["verdict"], gap_beats)
            self._store_episodes(connection, span, scored["window_id"][scored["verdict"]], episode_of, window_set.site)
            n_scored, n_anomalous = len(scored["window_id"]), int(scored["verdict"].sum())
            row = {
                "model_version": model_version,
                "recording_id": window_set.recording_id,
                "window_set_id": window_set.window_set_id,
                "recording": window_set.recording,
                "beats": window_set.n_beats,
                "scored": n_scored,
                "failed": int(failed),
                "unusable": window_set.n_rejected,
                "anomalous": n_anomalous,
                "episodes": n_episodes,
                "burden_percent": 100.0 * n_anomalous / n_scored if n_scored else 0.0,
                "analysable_s": window_set.windowed_s,
                "duration_s": window_set.duration_s,
                "mean_heart_rate_bpm": mean_heart_rate_bpm,
                "site": window_set.site,
                "device": window_set.device,
                "score_histogram": histogram_of(scored["score"]).tolist(),
                "updated_at": sa.func.now(),
            }
            statement = insert(t.recording_summaries).values(row)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["model_version", "recording_id"],
                    set_={key: value for key, value in row.items() if key not in ("model_version", "recording_id")},
                )
            )

    def _store_episodes(
        self,
        connection: sa.Connection,
        span: Mapping[str, int],
        window_id: npt.NDArray[np.int64],
        episode_of: npt.NDArray[np.int64],
        site: str,
    ) -> None:
        connection.execute(
            sa.text("DELETE FROM episodes WHERE model_version = :v AND episode_id >= :a AND episode_id < :b"), span
        )
        if len(window_id) == 0:
            return
        connection.execute(sa.text("CREATE TEMP TABLE grouping (window_id bigint, episode_id bigint) ON COMMIT DROP"))
        copy_in(connection, "grouping", [("window_id", "int8", window_id), ("episode_id", "int8", episode_of)])
        connection.execute(
            sa.text(
                "UPDATE anomalies a SET episode_id = g.episode_id FROM grouping g "
                "WHERE a.model_version = :v AND a.window_id = g.window_id"
            ),
            span,
        )
        connection.execute(
            sa.text(
                "INSERT INTO episodes (model_version, episode_id, recording_id, recording, start_time, end_time, "
                "start_s, end_s, peak_score, n_beats, site) "
                "SELECT model_version, episode_id, recording_id, recording, min(recorded_at), "
                "max(recorded_at), min(r_peak_s), max(r_peak_s), max(score), count(*), :site FROM anomalies "
                # without one: written by another scorer since the scores were read; its summary comes after this one
                "WHERE model_version = :v AND window_id >= :a AND window_id < :b AND episode_id IS NOT NULL "
                "GROUP BY model_version, episode_id, recording_id, recording"
            ),
            {**span, "site": site},
        )


def histogram_of(score: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Scores (n,) counted in bins of `BIN` from 0 on; the last of `BINS` takes all above. A bin's lower edge is in it.

    Scores are compared as single-precision numbers, as thresholds are.
    """
    edges = (np.arange(1, BINS) * BIN).astype(np.float32)
    return np.bincount(np.searchsorted(edges, score.astype(np.float32), side="right"), minlength=BINS)


def group_episodes(
    window_id: npt.NDArray[np.int64], verdict: npt.NDArray[np.bool_], gap_beats: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Groups a recording's anomalous beats into episodes.

    Args:
        window_id: int64 (n,), ascending; neighbours in the recording are neighbours here, rejected beats count as gaps.
        verdict: bool (n,).
        gap_beats: beats that may lie between anomalous beats of one episode.

    Returns:
        The episode id (its first window's id) of each anomalous beat, int64 (verdict.sum(),); and how many there are.
    """
    anomalous = window_id[verdict]
    if len(anomalous) == 0:
        return anomalous, 0
    starts = np.concatenate([[True], np.diff(anomalous) > gap_beats + 1])
    firsts = anomalous[starts]
    return firsts[np.cumsum(starts) - 1], len(firsts)
