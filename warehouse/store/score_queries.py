"""SQL of scoring: scores, failures, anomalies, runs."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from psycopg2 import errors as pg_errors
from sqlalchemy.dialects.postgresql import insert

from warehouse.signal.familiarity import familiarity
from warehouse.store import tables as t
from warehouse.store.binary_copy import Column
from warehouse.store.connection import Repository, copy_in, copy_out, retried
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.summary_queries import group_episodes, summarise_block, summarise_stored
from warehouse.store.window_block import WindowBlock
from warehouse.store.work_queries import DONE, finish_work, score_table


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
        """How many ids in [first_id, stop_id) have a score or a failure."""
        query = f"SELECT count(*) FROM ({DONE.format(table=score_table(shadow))}) AS done"
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
                in, and the summary has only those to change whose episode began in the block before. If the block is
                a whole recording, and all its scores are new, its summary is made in the same transaction.

        Returns:
            How many scores, and how many failures, were new.
        """
        n_scored = n_failed = 0
        with self.transaction() as connection:
            # Committed all the same; a server that crashes in the next moments loses the block whole, with its scores,
            # and it waits in the queue again.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            if len(block):
                n_scored = _store_block(connection, model_version, window_set, block, scored, gap_beats, shadow=shadow)
                if gap_beats is not None and not shadow and n_scored == window_set.n_windows:
                    summarise_block(connection, model_version, window_set, block, scored, gap_beats)
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

    @retried
    def summarise(
        self, model_version: int, window_set: WindowSet, mean_heart_rate_bpm: float | None, gap_beats: int
    ) -> None:
        """Makes a recording's episodes and summary from its scores, anew and in one transaction.

        Args:
            gap_beats: normal beats that may lie between anomalous beats of one episode.
        """
        with self.transaction() as connection:
            summarise_stored(connection, model_version, window_set, mean_heart_rate_bpm, gap_beats)

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


def _store_block(
    connection: sa.Connection,
    model_version: int,
    window_set: WindowSet,
    block: WindowBlock,
    scored: BlockScores,
    gap_beats: int | None,
    *,
    shadow: bool,
) -> int:
    """Stores a block's scores where there is none yet, and its anomalies unless it is the shadow's, and forgets
    failures of these windows; returns how many scores were new.
    """
    into, n = score_table(shadow), len(block)
    columns: list[Column] = [
        ("model_version", "int8", np.full(n, model_version)),
        ("window_id", "int8", block.window_id),
        ("recording_id", "int8", np.full(n, window_set.recording_id)),
        ("recorded_at", "timestamptz", block.recorded_at_us),
        ("score", "float4", scored.score),
        ("verdict", "bool", scored.verdict),
        ("lead_slot", "int2", scored.lead_slot),
    ]
    try:
        with connection.begin_nested():  # as a rule nobody was here before: straight into the tables
            copy_in(connection, into, columns)
            if not shadow:
                for rows in _anomaly_rows(model_version, window_set, block, scored, gap_beats):
                    copy_in(connection, "anomalies", rows)
    except pg_errors.UniqueViolation:
        n = _copy_missing(connection, into, [columns])
        if not shadow:  # where another process was first, its verdict counts
            stored = stored_scores(connection, model_version, block)
            insert_anomalies(connection, model_version, window_set, block, stored, gap_beats)
    connection.exec_driver_sql(
        "DELETE FROM score_failures f WHERE f.model_version = %(v)s AND f.window_id BETWEEN %(a)s AND %(b)s "
        f"AND EXISTS (SELECT 1 FROM {into} s WHERE s.model_version = f.model_version AND s.window_id = f.window_id)",
        {"v": model_version, "a": int(block.window_id[0]), "b": int(block.window_id[-1])},
    )
    return n


def _copy_missing(connection: sa.Connection, into: str, parts: Sequence[Sequence[Column]]) -> int:
    """Appends rows whose keys are not there yet, by way of a temporary table; returns how many these were."""
    connection.exec_driver_sql(f"CREATE TEMP TABLE staged_{into} (LIKE {into} INCLUDING DEFAULTS) ON COMMIT DROP")
    for columns in parts:
        copy_in(connection, f"staged_{into}", columns)
    done = connection.exec_driver_sql(f"INSERT INTO {into} SELECT * FROM staged_{into} ON CONFLICT DO NOTHING")
    return int(done.rowcount)


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
    """Lists the windows of a block whose verdict is true, unless they are listed; `scored` is what is stored of them.

    Args:
        gap_beats: see `write_scores`; None leaves their episodes to the summary.
    """
    _copy_missing(connection, "anomalies", list(_anomaly_rows(model_version, window_set, block, scored, gap_beats)))


def _anomaly_rows(
    model_version: int, window_set: WindowSet, block: WindowBlock, scored: BlockScores, gap_beats: int | None
) -> Iterator[list[Column]]:
    """The anomalies of a block, in parts with rows of one width: of a lead, and with familiarity or without."""
    verdict = scored.verdict
    anomalous, slot = block.select(verdict), scored.lead_slot[verdict]
    likeness = familiarity(anomalous)
    columns: list[Column] = [
        ("window_id", "int8", anomalous.window_id),
        ("recorded_at", "timestamptz", anomalous.recorded_at_us),
        ("r_peak_s", "float8", anomalous.r_peak_s),
        ("score", "float4", scored.score[verdict]),
        ("label", "bytes:1", anomalous.aami_class),
        ("quality", "float4", anomalous.quality),
        ("familiarity", "float4", likeness),
    ]
    if gap_beats is not None:
        columns.append(("episode_id", "int8", group_episodes(block.window_id, verdict, gap_beats)[0]))
    for number in np.unique(slot):
        lead = window_set.lead_slots[number] if number < len(window_set.lead_slots) else ""
        for known in (True, False):
            here = (slot == number) & (np.isnan(likeness) != known)
            n = int(np.count_nonzero(here))
            if n:
                same = {"model_version": model_version, "recording_id": window_set.recording_id}
                words = {"recording": window_set.recording, "site": window_set.site, "lead": lead}
                yield [
                    *((name, "int8", np.full(n, value)) for name, value in same.items()),
                    *(_text(name, value, n) for name, value in words.items()),
                    *((name, kind, values[here]) for name, kind, values in columns if known or name != "familiarity"),
                ]


def _text(name: str, value: str, n: int) -> Column:
    """The same text in n rows."""
    encoded = np.frombuffer(value.encode(), np.uint8)
    return name, f"bytes:{len(encoded)}", np.broadcast_to(encoded, (n, len(encoded)))
