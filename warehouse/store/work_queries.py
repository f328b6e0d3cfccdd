"""SQL of the queue of blocks to score: planned once, taken by whoever is free, gone with the commit of their scores."""

import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from warehouse.store import tables as t
from warehouse.store.connection import Repository, array_literal, copy_out, retried
from warehouse.store.database import make_engine, translate_errors

_LOCK_CLASS = 0x656367  # first half of our advisory locks; the second is the holder's number


#: Blocks of `scoring_work w` that nobody who lives has.
_FREE = (
    "w.model_version = :v AND w.shadow = :shadow AND w.window_set_id = ANY(CAST(:sets AS bigint[])) "
    "AND (w.holder IS NULL OR NOT EXISTS (SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted "
    "AND l.classid = :class AND l.objid = CAST(w.holder AS oid)))"
)


_LEFT = sa.text(
    "SELECT DISTINCT window_set_id FROM scoring_work "
    "WHERE model_version = :v AND shadow = :shadow AND window_set_id = ANY(CAST(:sets AS bigint[]))"
)
_TAKE = sa.text(
    "UPDATE scoring_work SET holder = :holder WHERE (model_version, shadow, first_id) = ("
    f"SELECT model_version, shadow, first_id FROM scoring_work w WHERE {_FREE} "
    "ORDER BY first_id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING window_set_id, first_id, stop_id"
)


#: Windows of a range that a version has dealt with; `table` is where its scores are.
DONE = (
    "SELECT window_id FROM {table} WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s "
    "UNION SELECT window_id FROM score_failures "
    "WHERE model_version = %(v)s AND window_id >= %(a)s AND window_id < %(b)s"
)


@dataclass(frozen=True)
class Taken:
    """A block that is somebody's: windows of one set with ids in [first_id, stop_id).

    Attributes:
        done: int64 (n,), ascending: ids of those that have a score or a failure already.
    """

    window_set_id: int
    first_id: int
    stop_id: int
    done: npt.NDArray[np.int64]


class Holder:
    """Somebody who takes blocks: a number, and a connection whose advisory lock says that they live.

    When the process ends, however it does, PostgreSQL lets go of the lock, and its blocks are free at that moment: no
    lease has to run out. A context manager.
    """

    def __init__(self, url: str) -> None:
        self.number = secrets.randbelow(2**31 - 1) + 1
        self._engine = make_engine(url, pool_size=1)
        with translate_errors(self._engine.url):
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.execute(
                sa.text("SELECT pg_advisory_lock(:class, :number)"), {"class": _LOCK_CLASS, "number": self.number}
            )

    def close(self) -> None:
        """Frees the blocks that were not finished."""
        with suppress(sa.exc.DBAPIError):  # a connection that is gone holds nothing
            self._connection.close()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WorkQueries(Repository):
    """The queue. A block is scored twice at most when its holder dies after its scores were read; one score counts."""

    @retried
    def plan_work(self, model_version: int, *, shadow: bool, blocks: Iterable[tuple[int, int, int]]) -> None:
        """Adds (window_set_id, first_id, stop_id); what is in the queue already stays as it is."""
        rows = [
            {"model_version": model_version, "shadow": shadow, "window_set_id": s, "first_id": a, "stop_id": b}
            for s, a, b in blocks
        ]
        if rows:
            with self.transaction() as connection:
                connection.execute(insert(t.scoring_work).on_conflict_do_nothing(), rows)

    @retried
    def take_work(
        self, model_version: int, *, shadow: bool, holder: int, window_set_ids: Collection[int]
    ) -> Taken | None:
        """Takes the first block that nobody who lives has, or None."""
        values = {
            "holder": holder,
            "v": model_version,
            "shadow": shadow,
            "sets": array_literal(window_set_ids),
            "class": _LOCK_CLASS,
        }
        with self.transaction() as connection:
            row = connection.execute(_TAKE, values).one_or_none()
            if row is None:
                return None
            span = {"v": model_version, "a": row.first_id, "b": row.stop_id}
            done = copy_out(connection, DONE.format(table=score_table(shadow)), span, {"id": "int8"})["id"]
        return Taken(row.window_set_id, row.first_id, row.stop_id, np.sort(done))

    def work_left(self, model_version: int, *, shadow: bool, window_set_ids: Collection[int]) -> set[int]:
        """Window sets of these that have blocks in the queue, taken or not."""
        with self.transaction() as connection:
            values = {"v": model_version, "shadow": shadow, "sets": array_literal(window_set_ids)}
            found = connection.execute(_LEFT, values)
            return set(found.scalars())

    def work_free(self, model_version: int, *, shadow: bool, window_set_ids: Collection[int]) -> bool:
        """Whether there is a block of these window sets to take."""
        values = {"v": model_version, "shadow": shadow, "sets": array_literal(window_set_ids), "class": _LOCK_CLASS}
        with self.transaction() as connection:
            query = sa.text(f"SELECT EXISTS (SELECT 1 FROM scoring_work w WHERE {_FREE})")
            return bool(connection.execute(query, values).scalar_one())

    @retried
    def drop_work(self, model_version: int, *, shadow: bool | None = None) -> None:
        """Empties the queue of a version."""
        statement = t.scoring_work.delete().where(t.scoring_work.c.model_version == model_version)
        if shadow is not None:
            statement = statement.where(t.scoring_work.c.shadow == shadow)
        with self.transaction() as connection:
            connection.execute(statement)


def score_table(shadow: bool) -> str:
    """Where scores go: those of a version in shadow lie apart."""
    return "shadow_scores" if shadow else "scores"


def finish_work(connection: sa.Connection, model_version: int, *, shadow: bool, first_id: int) -> None:
    """Takes a block out of the queue, in the transaction that commits its scores."""
    connection.exec_driver_sql(
        "DELETE FROM scoring_work WHERE model_version = %s AND shadow = %s AND first_id = %s",
        (model_version, shadow, first_id),
    )
