"""SQL of what follows a recording's scores: its episodes and its summary, in the caller's transaction."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs import contract
from warehouse.store import tables as t
from warehouse.store.binary_copy import Array
from warehouse.store.connection import array_literal, copy_out
from warehouse.store.records import BlockScores, WindowSet
from warehouse.store.window_block import WindowBlock

#: Microseconds since 2000 as a moment.
MOMENT = "timestamptz '2000-01-01 00:00:00+00' + {} * interval '1 microsecond'"

_INSERT_EPISODES = f"""
INSERT INTO episodes (model_version, episode_id, recording_id, recording, start_time, end_time, start_s, end_s,
                      peak_score, n_beats, site)
SELECT %(v)s, episode_id, %(recording_id)s, %(recording)s, {MOMENT.format("first")}, {MOMENT.format("last")},
       start_s, end_s, peak_score, n_beats, %(site)s
FROM unnest(%(c0)s::bigint[], %(c1)s::bigint[], %(c2)s::bigint[], %(c3)s::float8[], %(c4)s::float8[],
            %(c5)s::real[], %(c6)s::int[]) AS c (episode_id, first, last, start_s, end_s, peak_score, n_beats)
"""

BIN = 0.01
BINS = 1001


@dataclass(frozen=True)
class _Flagged:
    """Anomalous beats of a recording, by id: arrays (n,); `recorded_at_us` are microseconds since 2000."""

    window_id: npt.NDArray[np.int64]
    recorded_at_us: npt.NDArray[np.int64]
    r_peak_s: Array
    score: Array
    episode_of: npt.NDArray[np.int64]


def summarise_stored(
    connection: sa.Connection,
    model_version: int,
    window_set: WindowSet,
    mean_heart_rate_bpm: float | None,
    gap_beats: int,
) -> None:
    """Makes a recording's episodes and summary from what is stored of its scores, anew."""
    lock_summary(connection, model_version, window_set)
    span = _span(model_version, window_set)
    scored = copy_out(
        connection,
        "SELECT window_id, verdict, score FROM scores WHERE model_version = %(v)s AND window_id >= %(a)s "
        "AND window_id < %(b)s ORDER BY window_id",
        span,
        {"window_id": "int8", "verdict": "bool", "score": "float4"},
    )
    failed = connection.execute(
        sa.text(
            "SELECT count(*) FROM score_failures f WHERE model_version = :v AND window_id >= :a AND window_id < :b "
            "AND NOT EXISTS (SELECT 1 FROM scores s WHERE s.model_version = :v AND s.window_id = f.window_id)"
        ),
        span,
    ).scalar_one()
    flagged = _stored_anomalies(connection, span, scored["window_id"][scored["verdict"]], gap_beats)
    n_episodes = _replace_episodes(connection, model_version, window_set, flagged)
    _store_summary(
        connection, model_version, window_set, scored["score"], scored["verdict"], failed=int(failed),
        n_episodes=n_episodes, mean_heart_rate_bpm=mean_heart_rate_bpm,
    )  # fmt: skip


def summarise_block(
    connection: sa.Connection,
    model_version: int,
    window_set: WindowSet,
    block: WindowBlock,
    scored: BlockScores,
    gap_beats: int,
) -> None:
    """The same for a block that is a whole recording, in the transaction that stored its scores: nothing is read back.

    Its anomalies have their episodes already.
    """
    lock_summary(connection, model_version, window_set)
    chosen = scored.verdict
    flagged = _Flagged(
        block.window_id[chosen],
        block.recorded_at_us[chosen],
        block.r_peak_s[chosen],
        scored.score[chosen],
        group_episodes(block.window_id, chosen, gap_beats)[0],
    )
    n_episodes = _replace_episodes(connection, model_version, window_set, flagged)
    _store_summary(
        connection, model_version, window_set, scored.score, chosen, failed=0,
        n_episodes=n_episodes, mean_heart_rate_bpm=_mean_heart_rate_bpm(block),
    )  # fmt: skip


def lock_summary(connection: sa.Connection, model_version: int, window_set: WindowSet) -> None:
    """One transaction at a time makes what follows a recording's scores."""
    connection.exec_driver_sql(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
        (f"summarise {model_version} {window_set.recording_id}",),
    )


def _span(model_version: int, window_set: WindowSet) -> dict[str, int]:
    first, stop = window_set.id_range(0, t.MAX_BEATS)
    return {"v": model_version, "a": first, "b": stop}


def _stored_anomalies(
    connection: sa.Connection, span: dict[str, int], flagged: npt.NDArray[np.int64], gap_beats: int
) -> _Flagged:
    """A recording's anomalies, each with its episode, which is stored with it where it is another than before.

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
    episode_of, _ = group_episodes(found["window_id"], np.ones(here.sum(), np.bool_), gap_beats)
    moved = episode_of != found["now"]
    if moved.any():
        new = {"ids": array_literal(found["window_id"][moved]), "episodes": array_literal(episode_of[moved])}
        connection.exec_driver_sql(
            "UPDATE anomalies a SET episode_id = g.episode_id "
            "FROM unnest(%(ids)s::bigint[], %(episodes)s::bigint[]) AS g (window_id, episode_id) WHERE "
            "a.model_version = %(v)s AND a.window_id = g.window_id AND a.window_id >= %(a)s AND a.window_id < %(b)s",
            span | new,
        )
    return _Flagged(found["window_id"], found["recorded_at"], found["r_peak_s"], found["score"], episode_of)


def _replace_episodes(connection: sa.Connection, model_version: int, window_set: WindowSet, flagged: _Flagged) -> int:
    """Stores a recording's episodes in place of those before; returns how many these are."""
    span = _span(model_version, window_set)
    connection.exec_driver_sql(
        "DELETE FROM episodes WHERE model_version = %(v)s AND episode_id >= %(a)s AND episode_id < %(b)s", span
    )
    first = np.flatnonzero(np.diff(flagged.episode_of, prepend=-1))
    if len(first) == 0:
        return 0
    last = np.append(first[1:], len(flagged.episode_of)) - 1
    columns: tuple[Array, ...] = (
        flagged.episode_of[first],
        flagged.recorded_at_us[first],
        flagged.recorded_at_us[last],
        flagged.r_peak_s[first],
        flagged.r_peak_s[last],
        np.maximum.reduceat(flagged.score, first),
        last - first + 1,
    )
    connection.exec_driver_sql(
        _INSERT_EPISODES,
        {f"c{i}": array_literal(values) for i, values in enumerate(columns)}
        | {
            "v": model_version,
            "recording_id": window_set.recording_id,
            "recording": window_set.recording,
            "site": window_set.site,
        },
    )
    return len(first)


def _store_summary(
    connection: sa.Connection,
    model_version: int,
    window_set: WindowSet,
    score: Array,
    verdict: Array,
    *,
    failed: int,
    n_episodes: int,
    mean_heart_rate_bpm: float | None,
) -> None:
    n_scored, n_anomalous = len(score), int(np.count_nonzero(verdict))
    row: dict[str, Any] = {
        "model_version": model_version,
        "recording_id": window_set.recording_id,
        "window_set_id": window_set.window_set_id,
        "recording": window_set.recording,
        "beats": window_set.n_beats,
        "scored": n_scored,
        "failed": failed,
        "unusable": window_set.n_rejected,
        "anomalous": n_anomalous,
        "episodes": n_episodes,
        "burden_percent": 100.0 * n_anomalous / n_scored if n_scored else 0.0,
        "analysable_s": window_set.windowed_s,
        "duration_s": window_set.duration_s,
        "mean_heart_rate_bpm": mean_heart_rate_bpm,
        "site": window_set.site,
        "device": window_set.device,
        "histogram": array_literal(histogram_of(score)),
    }
    connection.execute(_upsert_summary(frozenset(row)), row)


@functools.cache
def _upsert_summary(columns: frozenset[str]) -> sa.Executable:
    """Stores a row of these columns in place of the one before. Making it takes longer than running it.

    The histogram is one literal: its thousand numbers one by one take the server longer than all else in the row.
    """
    literal = sa.cast(sa.bindparam("histogram", type_=sa.Text), t.recording_summaries.c.score_histogram.type)
    statement = insert(t.recording_summaries).values(score_histogram=literal)
    stored = columns - {"histogram", "model_version", "recording_id"} | {"score_histogram"}
    new = {name: statement.excluded[name] for name in sorted(stored)}
    return statement.on_conflict_do_update(
        index_elements=["model_version", "recording_id"], set_=new | {"updated_at": sa.func.now()}
    )


def _mean_heart_rate_bpm(block: WindowBlock) -> float | None:
    """As `WindowQueries.mean_heart_rate_bpm` says of the same windows."""
    rr_prev_s = block.rr[:, contract.RR_COLUMNS.index("rr_prev_s")].astype(np.float64)
    known = rr_prev_s > 0
    return float(60.0 / rr_prev_s[known].mean()) if known.any() else None


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
