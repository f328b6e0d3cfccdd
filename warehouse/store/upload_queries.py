"""SQL of uploads: recordings posted to the API, and what became of them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from warehouse.store import tables as t
from warehouse.store.connection import Repository


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

    def update_upload(self, upload_id: str, values: Mapping[str, Any], *, finished_at: datetime | None = None) -> None:
        """Changes its status and what goes with it."""
        statement = t.uploads.update().where(t.uploads.c.upload_id == upload_id)
        with self.transaction() as connection:
            connection.execute(statement.values({**values, "finished_at": finished_at}))
