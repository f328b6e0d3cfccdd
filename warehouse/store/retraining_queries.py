"""SQL of retraining: attempts and their steps, and requests that alerts made."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs.errors import ConflictError
from warehouse.store import tables as t
from warehouse.store.connection import Repository

_LOCK = 72674912  # one attempt at a time


class RetrainingQueries(Repository):
    """What was tried to put something better in a version's place, why, and what came of it."""

    @contextlib.contextmanager
    def retraining_alone(self) -> Iterator[None]:
        """Nobody else retrains meanwhile; ends with this process at the latest.

        Raises:
            ConflictError: somebody does already.
        """
        with self._engine.connect() as connection:
            taken = connection.execute(sa.text("SELECT pg_try_advisory_lock(:n)"), {"n": _LOCK}).scalar_one()
            connection.commit()
            if not taken:
                raise ConflictError("retraining", "is under way already", "Wait until it has ended.")
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT pg_advisory_unlock(:n)"), {"n": _LOCK})
                connection.commit()

    def start_retraining(self, champion: int, triggers: Sequence[Mapping[str, Any]]) -> int:
        """Opens an attempt; returns its number."""
        row = {"status": "running", "champion": champion, "triggers": _plain(list(triggers))}
        with self.transaction() as connection:
            statement = insert(t.retrainings).values(row).returning(t.retrainings.c.retraining_id)
            return int(connection.execute(statement).scalar_one())

    def add_retraining_step(
        self, retraining_id: int, step: str, *, passed: bool, reason: str, numbers: Mapping[str, Any]
    ) -> None:
        """Writes down a step that has ended."""
        statement = sa.text(
            "INSERT INTO retraining_steps (retraining_id, ordinal, step, passed, reason, numbers) "
            "SELECT :id, coalesce(max(ordinal), 0) + 1, :step, :passed, :reason, CAST(:numbers AS jsonb) "
            "FROM retraining_steps WHERE retraining_id = :id"
        )
        values = {"id": retraining_id, "step": step, "passed": passed, "reason": reason}
        with self.transaction() as connection:
            connection.execute(statement, {**values, "numbers": json.dumps(_plain(dict(numbers)))})

    def finish_retraining(self, retraining_id: int, status: str, reason: str, model_version: int | None = None) -> None:
        """Closes an attempt."""
        statement = t.retrainings.update().where(t.retrainings.c.retraining_id == retraining_id)
        values = {"status": status, "reason": reason, "model_version": model_version, "finished_at": sa.func.now()}
        with self.transaction() as connection:
            connection.execute(statement.values(values))

    def retrainings(self, limit: int = 50) -> list[dict[str, Any]]:
        """Attempts, newest first, each with its `steps`."""
        query = sa.text(
            "SELECT r.*, coalesce((SELECT json_agg(to_json(s) ORDER BY s.ordinal) FROM retraining_steps s "
            "WHERE s.retraining_id = r.retraining_id), '[]') AS steps "
            "FROM retrainings r ORDER BY r.retraining_id DESC LIMIT :limit"
        )
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query, {"limit": limit}).mappings()]

    def retrainings_that_trained(self, since: datetime) -> list[datetime]:
        """When attempts that got as far as training began, newest first."""
        query = sa.text(
            "SELECT r.started_at FROM retrainings r WHERE r.started_at >= :since AND EXISTS "
            "(SELECT 1 FROM retraining_steps s WHERE s.retraining_id = r.retraining_id AND s.step = 'train') "
            "ORDER BY r.started_at DESC"
        )
        with self.transaction() as connection:
            return list(connection.execute(query, {"since": since}).scalars())

    def retraining_counts(self) -> dict[str, int]:
        """Attempts by status."""
        r = t.retrainings.c
        query = sa.select(r.status, sa.func.count()).group_by(r.status)
        with self.transaction() as connection:
            return {status: int(n) for status, n in connection.execute(query)}

    # --- requests ----------------------------------------------------------------------------------------------------

    def request_retraining(
        self, source: str, fingerprint: str, requested_by: str, reason: str, detail: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """Adds a request, and whether it is new: one with the same fingerprint that is open stays as it is."""
        r = t.retraining_requests
        row = {
            "source": source, "fingerprint": fingerprint, "requested_by": requested_by, "reason": reason,
            "detail": _plain(dict(detail)),
        }  # fmt: skip
        added = insert(r).values(row).on_conflict_do_nothing(
            index_elements=["fingerprint"], index_where=sa.text("retraining_id IS NULL")
        ).returning(r)  # fmt: skip
        open_one = sa.select(r).where(r.c.fingerprint == fingerprint, r.c.retraining_id.is_(None))
        with self.transaction() as connection:
            found = connection.execute(added).mappings().one_or_none()
            if found is not None:
                return dict(found), True
            return dict(connection.execute(open_one).mappings().one()), False

    def retraining_requests(self, *, only_open: bool = False, limit: int = 50) -> list[dict[str, Any]]:
        """Requests, newest first."""
        r = t.retraining_requests
        query = sa.select(r).order_by(r.c.request_id.desc()).limit(limit)
        if only_open:
            query = query.where(r.c.retraining_id.is_(None))
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def take_retraining_requests(self, request_ids: Sequence[int], retraining_id: int) -> None:
        """Says which attempt took requests up."""
        r = t.retraining_requests
        statement = r.update().where(r.c.request_id.in_(request_ids), r.c.retraining_id.is_(None))
        with self.transaction() as connection:
            connection.execute(statement.values(retraining_id=retraining_id))


class RetrainingWarehouse(Repository):
    """What the choice of training data asks of the warehouse."""

    def sites(self) -> list[str]:
        """Every site that has a patient."""
        query = sa.select(t.patients.c.site).distinct().order_by(t.patients.c.site)
        with self.transaction() as connection:
            return list(connection.execute(query).scalars())

    def ingested_since(self, moment: datetime) -> set[int]:
        """Ids of recordings that came since."""
        query = sa.select(t.recordings.c.recording_id).where(t.recordings.c.ingested_at >= moment)
        with self.transaction() as connection:
            return set(connection.execute(query).scalars())

    def labels_since(self, label_id: int) -> int:
        """Beats whose reviewers' labels came after a label."""
        query = sa.select(sa.func.count(sa.distinct(t.labels.c.window_id))).where(t.labels.c.label_id > label_id)
        with self.transaction() as connection:
            return int(connection.execute(query).scalar_one())

    def duplicate_share(self, window_set_ids: Sequence[int]) -> float:
        """Share of the windows of these sets whose samples are, bit for bit, those of a window of another of them."""
        query = sa.text(
            "SELECT coalesce(sum(n) FILTER (WHERE sets > 1), 0) / greatest(sum(n), 1) FROM ("
            "SELECT count(*) AS n, count(DISTINCT w.window_id >> :bits) AS sets "
            "FROM unnest(CAST(:sets AS bigint[])) AS s(id) JOIN windows w "
            "ON w.window_id >= s.id << :bits AND w.window_id < (s.id + 1) << :bits GROUP BY md5(w.samples)) AS counted"
        )
        with self.transaction() as connection:
            found = connection.execute(query, {"bits": t.BEAT_BITS, "sets": list(window_set_ids)}).scalar()
        return float(found or 0)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
