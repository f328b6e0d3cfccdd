"""SQL of thresholds that follow a recording: its scores in order, what was reviewed, and verdicts decided anew."""

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from warehouse.store import tables as t
from warehouse.store.binary_copy import Array
from warehouse.store.connection import copy_in, copy_out, retried
from warehouse.store.records import WindowSet
from warehouse.store.score_queries import ScoreQueries, insert_anomalies, stored_scores
from warehouse.store.summary_queries import lock_summary
from warehouse.store.window_block import WindowBlock

_SCORES = """
SELECT s.window_id, s.score, s.verdict,
       CAST(CASE WHEN r.label = 'artefact' THEN 0 WHEN r.verdict = 'reject' THEN 1 WHEN r.verdict = 'confirm' THEN -1
            ELSE 0 END AS int2),
       coalesce(r.status <> 'unreviewed', false)
FROM scores s
LEFT JOIN review_states r ON r.window_id = s.window_id
WHERE s.model_version = %(v)s AND s.window_id >= %(a)s AND s.window_id < %(b)s
ORDER BY s.window_id
"""


class ThresholdQueries(ScoreQueries):
    """What deciding a recording's verdicts anew asks of the results, and writes into them."""

    def scores_in_order(self, model_version: int, window_set: WindowSet) -> dict[str, Array]:
        """A recording's scores by time: window_id int64, score float32, verdict, asked bool, reviewed int16, all (n,).

        `reviewed` is 1 where reviewers rejected the anomaly (the beat is normal), -1 where they confirmed it, else 0;
        `asked` is true where they said anything, also that they are unsure, disagree, or that it is no beat.
        """
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        kinds = {"window_id": "int8", "score": "float4", "verdict": "bool", "reviewed": "int2", "asked": "bool"}
        with self.transaction() as connection:
            return copy_out(
                connection,
                _SCORES,
                {"v": model_version, "a": first, "b": stop},
                kinds,
            )

    @retried
    def decide_anew(
        self,
        model_version: int,
        window_set: WindowSet,
        window_id: npt.NDArray[np.int64],
        threshold: npt.NDArray[np.float32],
        flagged_now: WindowBlock,
    ) -> None:
        """Makes verdicts of the thresholds, and anomalies of the verdicts, in one transaction; again changes nothing.

        Args:
            window_id: int64 (n,), of the recording's scores.
            threshold: float32 (n,), that applies to each.
            flagged_now: the windows that were not anomalies and become some.
        """
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        span = {"v": model_version, "a": first, "b": stop}
        with self.transaction() as connection:
            lock_summary(connection, model_version, window_set)
            connection.execute(
                sa.text("CREATE TEMP TABLE applied (window_id bigint PRIMARY KEY, threshold real) ON COMMIT DROP")
            )
            copy_in(connection, "applied", [("window_id", "int8", window_id), ("threshold", "float4", threshold)])
            connection.execute(
                sa.text(
                    "UPDATE scores s SET verdict = s.score >= p.threshold FROM applied p WHERE s.model_version = :v "
                    "AND s.window_id = p.window_id AND s.verdict <> (s.score >= p.threshold)"
                ),
                span,
            )
            connection.execute(
                sa.text(
                    "DELETE FROM anomalies a USING scores s WHERE a.model_version = :v AND a.window_id >= :a "
                    "AND a.window_id < :b AND s.model_version = :v AND s.window_id = a.window_id AND NOT s.verdict"
                ),
                span,
            )
            if len(flagged_now):
                stored = stored_scores(connection, model_version, flagged_now)
                insert_anomalies(connection, model_version, window_set, flagged_now, stored)
            connection.execute(
                sa.text(
                    "UPDATE anomalies a SET threshold = p.threshold FROM applied p WHERE a.model_version = :v "
                    "AND a.window_id = p.window_id AND a.threshold IS DISTINCT FROM p.threshold"
                ),
                span,
            )
