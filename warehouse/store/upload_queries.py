"""SQL of uploads: recordings posted to the API, and what became of them."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from warehouse.store import tables as t
from warehouse.store.connection import Repository
from warehouse.store.database import translate_errors

_LOCK_CLASS: Final = 0x75706C  # first half of our advisory locks; the second is made of the upload's id


class UploadQueries(Repository):
    """Uploads and their states: waiting, ingesting, done, failed."""

    def add_upload(self, upload: Mapping[str, Any]) -> dict[str, Any]:
        """Adds an upload; gives the one that is there already with the same site, poster and idempotency key."""
        u = t.uploads.c
        statement = insert(t.uploads).values(dict(upload)).on_conflict_do_nothing(constraint="uploads_idempotency")
        same = sa.select(t.uploads).where(
            u.site == upload["site"],
            u.created_by == upload["created_by"],
            u.idempotency_key == upload["idempotency_key"],
        )
        with self.transaction() as connection:
            row = connection.execute(statement.returning(t.uploads)).mappings().one_or_none()
            return dict(row if row is not None else connection.execute(same).mappings().one())

    def upload(self, upload_id: str, site: str) -> dict[str, Any] | None:
        """One upload; None when there is none at this site."""
        query = sa.select(t.uploads).where(t.uploads.c.upload_id == upload_id, t.uploads.c.site == site)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else None

    def unfinished_uploads(self) -> list[dict[str, Any]]:
        """Uploads that wait, or were under way when their process ended; oldest first."""
        u = t.uploads.c
        query = sa.select(t.uploads).where(u.status.in_(["waiting", "ingesting"])).order_by(u.created_at)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    @contextlib.contextmanager
    def claimed_upload(self) -> Iterator[dict[str, Any] | None]:
        """The oldest unfinished upload that no process has, and nobody else's as long as this lasts; None for none.

        A lock of a connection says who has it: it goes with its process, however that ends, and with the database.

        Raises:
            DatabaseUnavailableError: the database does not answer.
        """
        unfinished = self.unfinished_uploads()
        if not unfinished:
            yield None
            return
        with translate_errors(self._engine.url):
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            yield self._claim(connection, [row["upload_id"] for row in unfinished])
        finally:
            connection.invalidate()  # closes it, and so lets go of the lock, whatever has become of it
            connection.close()

    def _claim(self, connection: sa.Connection, upload_ids: list[str]) -> dict[str, Any] | None:
        u = t.uploads.c
        for upload_id in upload_ids:
            lock = sa.select(sa.func.pg_try_advisory_lock(_LOCK_CLASS, sa.func.hashtext(upload_id)))
            still = sa.select(t.uploads).where(u.upload_id == upload_id, u.status.in_(["waiting", "ingesting"]))
            with translate_errors(self._engine.url):
                taken = connection.execute(lock).scalar_one()
            if taken:
                with self.transaction() as own:  # who had it may have finished since it was listed
                    row = own.execute(still).mappings().one_or_none()
                if row is not None:
                    return dict(row)
        return None

    def update_upload(self, upload_id: str, values: Mapping[str, Any], *, finished_at: datetime | None = None) -> None:
        """Changes its status and what goes with it."""
        statement = t.uploads.update().where(t.uploads.c.upload_id == upload_id)
        with self.transaction() as connection:
            connection.execute(statement.values({**values, "finished_at": finished_at}))
