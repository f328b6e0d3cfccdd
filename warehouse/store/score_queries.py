"""SQL of scoring: scores, failures, anomalies, episodes, summaries, runs."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from psycopg2 import errors as pg_errors
from sqlalchemy.dialects.postgresql import insert

from warehouse.signal.familiarity import familiarity
from warehouse.store import tables as t
from warehouse.store.binary_copy import Array
from warehouse.store.connection import Repository, array_literal, copy_in, copy_out, retried
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.window_block import WindowBlock
from warehouse.store.work_queries import finish_work

#: Windows of a range that a version has dealt with; `table` is where its scores are.
_DONE = (
    "SELECT window_id FROM {table} WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s "
    "UNION SELECT window_id FROM score_failures "
    "WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s"
)

_MOMENT = "timestamptz '2000-01-01 00:00:00+00' + {} * interval '1 microsecond'"

_INSERT_ANOMALIES = f"""
INSERT INTO anomalies (model_version, window_id, recording_id, recording, recorded_at, r_peak_s, score, lead, label,
                       site, quality, familiarity, episode_id)
SELECT %(version)s, window_id, %(recording_id)s, %(recording)s, {_MOMENT.format("moment")}, r_peak_s, score,
       coalesce((%(slots)s::text[])[lead_slot + 1], ''), label, %(site)s, quality, nullif(familiarity, 'NaN'),
       nullif(episode_id, -1)
FROM unnest(%(c0)s::bigint[], %(c1)s::bigint[], %(c2)s::float8[], %(c3)s::real[], %(c4)s::smallint[], %(c5)s::char[],
            %(c6)s::real[], %(c7)s::real[], %(c8)s::bigint[])
     AS c (window_id, moment, r_peak_s, score, lead_slot, label, quality, familiarity, episode_id)
ON CONFLICT DO NOTHING
"""

_INSERT_EPISODES = f"""
INSERT INTO episodes (model_version, episode_id, recording_id, recording, start_time, end_time, start_s, end_s,
                      peak_score, n_beats, site)
SELECT %(v)s, episode_id, %(recording_id)s, %(recording)s, {_MOMENT.format("first")}, {_MOMENT.format("last")},
       start_s, end_s, peak_score, n_beats, %(site)s
FROM unnest(%(c0)s::bigint[], %(c1)s::bigint[], %(c2)s::bigint[], %(c3)s::float8[], %(c4)s::float8[],
            %(c5)s::real[], %(c6)s::int[]) AS c (episode_id, first, last, start_s, end_s, peak_score, n_beats)
"""


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
        gap_beats: int | None = None,
    ) -> tuple[int, int]:
        """Stores a block's scores, its anomalies and failures in one transaction.

        A window that has a score keeps it: writing a block again, or from two processes, changes nothing. A failure
        gives way to a score, whichever comes first, so that a window has one or the other.

        Args:
            failures: (window_id, reason) of windows the model could not score.
            shadow: into shadow_scores, apart from all verdicts.
            work: first id of the block in the queue, which is taken out of it in the same transaction.
            model_seconds: what the model took.
            gap_beats: as `summarise` is given it: the anomalies then say already which episode of this block they are
                in, and the summary has only those to change whose episode began in the block before.

        Returns:
            How many scores, and how many failures, were new.
        """
        n_scored = n_failed = 0
        with self.transaction() as connection:
            # Committed all the same; a server that crashes in the next moments loses the block whole, with its scores,
            # and it waits in the queue again.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            if len(block):
                into = _score_table(shadow)
                n_scored = _insert_scores(connection, into, model_version, window_set, block, scored)
                if not shadow:
                    if n_scored < len(block):  # where another process was first, its verdict counts
                        scored = stored_scores(connection, model_version, block)
                    insert_anomalies(connection, model_version, window_set, block, scored, gap_beats)
            if failures:
                n_failed = self._insert_failures(connection, model_version, window_set, failures)
            if work is not None:
                finish_work(connection, model_version, shadow=shadow, first_id=work)
            if n_scored or n_failed:
                connection.exec_driver_sql(
                    "UPDATE scoring_runs SET scored = scored + %s, failed = failed + %s, "
                    "model_seconds = model_seconds + %s WHERE run_id = %s",
                    (n_scored, n_failed, model_seconds, run_id),
                )
        return n_scored, n_failed

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
            flagged = scored["window_id"][scored["verdict"]]
            n_episodes = _store_episodes(connection, span, window_set, flagged, gap_beats)
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
            }
            connection.execute(_upsert_summary(frozenset(row)), row)


@functools.cache
def _upsert_summary(columns: frozenset[str]) -> sa.Executable:
    """Stores a row of these columns in place of the one before. Making it takes longer than running it."""
    statement = insert(t.recording_summaries)
    new = {name: statement.excluded[name] for name in sorted(columns - {"model_version", "recording_id"})}
    return statement.on_conflict_do_update(
        index_elements=["model_version", "recording_id"], set_=new | {"updated_at": sa.func.now()}
    )


def _insert_scores(
    connection: sa.Connection,
    into: str,
    model_version: int,
    window_set: WindowSet,
    block: WindowBlock,
    scored: BlockScores,
) -> int:
    """Stores a block's scores where there is none yet, and forgets failures of these windows; returns how many."""
    n = len(block)
    columns: list[tuple[str, str, Array]] = [
        ("model_version", "int8", np.full(n, model_version)),
        ("window_id", "int8", block.window_id),
        ("recording_id", "int8", np.full(n, window_set.recording_id)),
        ("recorded_at", "timestamptz", block.recorded_at_us),
        ("score", "float4", scored.score),
        ("verdict", "bool", scored.verdict),
        ("lead_slot", "int2", scored.lead_slot),
    ]
    try:
        with connection.begin_nested():  # as a rule nobody was here before: straight into the table
            copy_in(connection, into, columns)
    except pg_errors.UniqueViolation:
        connection.execute(sa.text("CREATE TEMP TABLE staging (LIKE scores) ON COMMIT DROP"))
        copy_in(connection, "staging", columns)
        names = ", ".join(name for name, _, _ in columns)
        done = connection.execute(
            sa.text(f"INSERT INTO {into} ({names}) SELECT {names} FROM staging ON CONFLICT DO NOTHING")
        )
        n = int(done.rowcount)
    connection.exec_driver_sql(
        "DELETE FROM score_failures f WHERE f.model_version = %(v)s AND f.window_id BETWEEN %(a)s AND %(b)s "
        f"AND EXISTS (SELECT 1 FROM {into} s WHERE s.model_version = f.model_version AND s.window_id = f.window_id)",
        {"v": model_version, "a": int(block.window_id[0]), "b": int(block.window_id[-1])},
    )
    return n


def stored_scores(connection: sa.Connection, model_version: int, block: WindowBlock) -> BlockScores:
    """What is stored of a block's windows, each of which has a score."""
    found = copy_out(
        connection,
        "SELECT window_id, score, verdict, lead_slot FROM scores WHERE model_version = %(v)s "
        "AND window_id BETWEEN %(a)s AND %(b)s ORDER BY window_id",
        {"v": model_version, "a": int(block.window_id[0]), "b": int(block.window_id[-1])},
        {"window_id": "int8", "score": "float4", "verdict": "bool", "lead_slot": "int2"},
    )
    here = np.isin(found["window_id"], block.window_id, assume_unique=True)
    return BlockScores(found["score"][here], found["verdict"][here], found["lead_slot"][here])


def insert_anomalies(
    connection: sa.Connection,
    model_version: int,
    window_set: WindowSet,
    block: WindowBlock,
    scored: BlockScores,
    gap_beats: int | None = None,
) -> None:
    """Lists the windows of a block whose verdict is true; `scored` is what is stored of them.

    Args:
        gap_beats: see `write_scores`; None leaves their episodes to the summary.
    """
    anomalous = block.select(scored.verdict)
    if len(anomalous) == 0:
        return
    if gap_beats is None:
        episode_of = np.full(len(anomalous), -1)
    else:
        episode_of, _ = group_episodes(block.window_id, scored.verdict, gap_beats)
    columns: tuple[Array, ...] = (
        anomalous.window_id,
        anomalous.recorded_at_us,
        anomalous.r_peak_s,
        scored.score[scored.verdict],
        scored.lead_slot[scored.verdict],
        anomalous.aami_class.astype("U1"),
        anomalous.quality,
        familiarity(anomalous),
        episode_of,
    )
    connection.exec_driver_sql(
        _INSERT_ANOMALIES,
        {f"c{i}": array_literal(values) for i, values in enumerate(columns)}
        | {
            "version": model_version,
            "recording_id": window_set.recording_id,
            "recording": window_set.recording,
            "slots": list(window_set.lead_slots),
            "site": window_set.site,
        },
    )


def _store_episodes(
    connection: sa.Connection,
    span: Mapping[str, int],
    window_set: WindowSet,
    flagged: npt.NDArray[np.int64],
    gap_beats: int,
) -> int:
    """Makes a recording's episodes of its anomalies anew; returns how many these are.

    Args:
        flagged: int64 (n,), ascending: ids of windows with verdict true. An anomaly that is not among them was written
            by another scorer since the scores were read; its summary comes after this one.
    """
    kinds = {"window_id": "int8", "recorded_at": "timestamptz", "r_peak_s": "float8", "score": "float4", "now": "int8"}
    found = copy_out(
        connection,
        "SELECT window_id, recorded_at, r_peak_s, score, coalesce(episode_id, -1) FROM anomalies "
        "WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s ORDER BY window_id",
        span,
        kinds,
    )
    here = np.isin(found["window_id"], flagged, assume_unique=True)
    found = {name: values[here] for name, values in found.items()}
    episode_of, n_episodes = group_episodes(found["window_id"], np.ones(here.sum(), np.bool_), gap_beats)
    connection.exec_driver_sql(
        "DELETE FROM episodes WHERE model_version = %(v)s AND episode_id >= %(a)s AND episode_id < %(b)s", span
    )
    if n_episodes == 0:
        return 0
    moved = episode_of != found["now"]
    if moved.any():
        new = {"ids": array_literal(found["window_id"][moved]), "episodes": array_literal(episode_of[moved])}
        connection.exec_driver_sql(
            "UPDATE anomalies a SET episode_id = g.episode_id "
            "FROM unnest(%(ids)s::bigint[], %(episodes)s::bigint[]) AS g (window_id, episode_id) WHERE "
            "a.model_version = %(v)s AND a.window_id = g.window_id AND a.window_id >= %(a)s AND a.window_id < %(b)s",
            dict(span) | new,
        )
    first = np.flatnonzero(np.diff(episode_of, prepend=-1))
    last = np.append(first[1:], len(episode_of)) - 1
    columns = (
        episode_of[first],
        found["recorded_at"][first],
        found["recorded_at"][last],
        found["r_peak_s"][first],
        found["r_peak_s"][last],
        np.maximum.reduceat(found["score"], first),
        last - first + 1,
    )
    connection.exec_driver_sql(
        _INSERT_EPISODES,
        {f"c{i}": array_literal(values) for i, values in enumerate(columns)}
        | {
            "v": span["v"],
            "recording_id": window_set.recording_id,
            "recording": window_set.recording,
            "site": window_set.site,
        },
    )
    return n_episodes


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
