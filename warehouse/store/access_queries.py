"""SQL of sign-in: API keys and the page's sessions. Secrets are never stored, only their sha256."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs.errors import NotFoundError
from warehouse.store import tables as t
from warehouse.store.audit_queries import Act, note_acts
from warehouse.store.connection import Repository


class AccessQueries(Repository):
    """Who may do what, and where."""

    def add_key(self, key: Mapping[str, Any], act: Act | None = None) -> None:
        """Adds an API key: all columns of `api_keys` that have no default; with who did it, for the audit log."""
        with self.transaction() as connection:
            connection.execute(insert(t.api_keys).values(dict(key)))
            note_acts(connection, [act] if act else [])

    def key(self, key_id: str) -> dict[str, Any] | None:
        """One API key, whatever its state; None when there is none."""
        query = sa.select(t.api_keys).where(t.api_keys.c.key_id == key_id)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else None

    def keys(self, site: str | None = None) -> list[dict[str, Any]]:
        """API keys, newest first."""
        query = sa.select(t.api_keys).order_by(t.api_keys.c.created_at.desc(), t.api_keys.c.key_id)
        if site is not None:
            query = query.where(t.api_keys.c.site == site)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def has_keys(self, *, valid_at: datetime | None = None) -> bool:
        """Whether a key was ever made; with `valid_at`, whether one is accepted at that moment."""
        k = t.api_keys.c
        query = sa.select(sa.literal(True)).select_from(t.api_keys).limit(1)
        if valid_at is not None:
            query = query.where(k.revoked_at.is_(None), k.expires_at > valid_at)
        with self.transaction() as connection:
            return bool(connection.execute(query).scalar())

    def revoke_key(self, key_id: str, now: datetime, act: Act | None = None) -> dict[str, Any]:
        """Takes a key out of use, with the sessions it opened; one that was revoked before keeps its moment.

        Raises:
            NotFoundError: there is no such key.
        """
        k = t.api_keys.c
        statement = t.api_keys.update().where(k.key_id == key_id)
        with self.transaction() as connection:
            revoked = sa.func.coalesce(k.revoked_at, now)
            row = (
                connection.execute(statement.values(revoked_at=revoked).returning(t.api_keys)).mappings().one_or_none()
            )
            if row is None:
                raise NotFoundError(f"API key {key_id}", "does not exist", "`python -m api.keys list` shows them.")
            connection.execute(t.sessions.delete().where(t.sessions.c.key_id == key_id))
            note_acts(connection, [act] if act else [])
            return dict(row)

    def note_key_used(self, key_id: str, now: datetime) -> None:
        """Remembers, to the minute, when a key was last used."""
        k = t.api_keys.c
        minute = now.replace(second=0, microsecond=0)
        stale = sa.or_(k.last_used_at.is_(None), k.last_used_at < minute)
        with self.transaction() as connection:
            connection.execute(t.api_keys.update().where(k.key_id == key_id, stale).values(last_used_at=minute))

    def add_session(self, session: Mapping[str, Any], now: datetime) -> None:
        """Opens a session, and clears away those that have expired."""
        with self.transaction() as connection:
            connection.execute(t.sessions.delete().where(t.sessions.c.expires_at <= now))
            connection.execute(insert(t.sessions).values(dict(session)))

    def session(self, secret_sha256: str, now: datetime) -> dict[str, Any] | None:
        """A session that is accepted now; None when there is none, or its key is not accepted any more."""
        s, k = t.sessions.c, t.api_keys.c
        query = (
            sa.select(t.sessions)
            .select_from(t.sessions.outerjoin(t.api_keys, k.key_id == s.key_id))
            .where(
                s.secret_sha256 == secret_sha256,
                s.expires_at > now,
                sa.or_(s.key_id.is_(None), sa.and_(k.revoked_at.is_(None), k.expires_at > now)),
            )
        )
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return dict(row) if row is not None else None

    def end_session(self, secret_sha256: str) -> None:
        """Signs out."""
        with self.transaction() as connection:
            connection.execute(t.sessions.delete().where(t.sessions.c.secret_sha256 == secret_sha256))
