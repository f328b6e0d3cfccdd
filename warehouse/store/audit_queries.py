"""SQL of the audit log: a chain of hashes that the database makes, and that anybody who can read it can check."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from warehouse.store import tables as t
from warehouse.store.connection import Repository, retried

FIRST_PREVIOUS: Final = bytes(32)
_PAGE = 10_000
_LONGEST = 500  # characters of a subject or detail: a query string may be long


@dataclass(frozen=True)
class Act:
    """Something somebody did; the columns of `audit_log` that are not the database's."""

    actor: str
    role: str
    site: str
    action: str
    subject: str
    detail: str = ""


@dataclass(frozen=True)
class ChainHead:
    """The last row of the log. Kept elsewhere, it shows later that nothing before it was changed or cut off."""

    audit_id: int
    hash: str

    def __str__(self) -> str:
        return f"{self.audit_id}:{self.hash}"


class AuditQueries(Repository):
    """Adding to the log, and reading it."""

    @retried
    def add_acts(self, acts: Sequence[Act]) -> None:
        """Adds rows, in order, all or none."""
        with self.transaction() as connection:
            note_acts(connection, acts)

    def acts(
        self, *, after_id: int = 0, limit: int = _PAGE, newest: bool = False, equal: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of the log in order.

        Args:
            after_id: only rows after this one.
            newest: the last `limit` rows instead of the first.
            equal: column to the value it must have.
        """
        a = t.audit_log.c
        query = sa.select(t.audit_log).where(a.audit_id > after_id, *(a[k] == v for k, v in (equal or {}).items()))
        query = query.order_by(a.audit_id.desc() if newest else a.audit_id).limit(limit)
        with self.transaction() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return rows[::-1] if newest else rows

    def all_acts(self) -> Iterator[dict[str, Any]]:
        """The whole log, in order, a page at a time."""
        after = 0
        while rows := self.acts(after_id=after):
            yield from rows
            after = rows[-1]["audit_id"]


def note_acts(connection: sa.Connection, acts: Sequence[Act]) -> None:
    """Adds rows in the transaction of what they speak of. Others wait for its end: do it last."""
    rows = [{**asdict(act), "subject": _storable(act.subject), "detail": _storable(act.detail)} for act in acts]
    if rows:
        columns = "actor, role, site, action, subject, detail"
        values = ", ".join(f":{name.strip()}" for name in columns.split(","))
        connection.execute(sa.text(f"INSERT INTO audit_log ({columns}) VALUES ({values})"), rows)


def row_hash(row: Mapping[str, Any], previous: bytes) -> bytes:
    """What the hash of a row must be, after one with the hash `previous`."""
    at: datetime = row["at"].astimezone(UTC)
    fields = [str(row["audit_id"]), f"{at:%Y-%m-%dT%H:%M:%S.%f}"]
    fields += [row[name] for name in ("actor", "role", "site", "action", "subject", "detail")]
    encoded = [field.encode() for field in fields]
    return hashlib.sha256(previous + b"".join(b"%d:%b" % (len(field), field) for field in encoded)).digest()


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")[:_LONGEST]
