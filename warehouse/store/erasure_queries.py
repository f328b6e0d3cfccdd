"""SQL of erasure: what both databases hold of some recordings, found by the databases' own catalogs.

A table of either database that has a column window_id, window_set_id or recording_id is about recordings, whoever made
it: it is counted, exported and emptied of them without being named here.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from warehouse.store import tables as t
from warehouse.store.connection import Repository

_OWN_ORDER: Final = ("window_sets", "recordings", "patients")  # what others refer to, last
_COLUMNS = sa.text(
    "SELECT c.relname AS table, array_agg(a.attname::text) AS columns FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema() "
    "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
    "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition GROUP BY 1 ORDER BY 1"
)


@dataclass(frozen=True)
class Traces:
    """Recordings, by the numbers that rows about them carry."""

    recording_ids: tuple[int, ...]
    window_set_ids: tuple[int, ...]


@dataclass(frozen=True)
class About:
    """How a table says which recordings its rows are about."""

    table: str
    columns: frozenset[str]

    @property
    def condition(self) -> str:
        """Rows about the recordings bound to `sets` and `recordings`; reads the whole table where no index helps."""
        if "window_id" in self.columns:
            return f"window_id >> {t.BEAT_BITS} = ANY(:sets)"
        if "window_set_id" in self.columns:
            return "window_set_id = ANY(:sets)"
        return "recording_id = ANY(:recordings)"


def subject_digest(site: str, pseudonym: str) -> str:
    """What stands for a patient where something must be kept after they were erased: nobody can turn it back."""
    return hashlib.sha256(f"{site}:{pseudonym}".encode()).hexdigest()


class ErasureQueries(Repository):
    """What the two databases have in common."""

    def tables_about_recordings(self) -> list[About]:
        """All tables whose rows are about recordings, in an order in which they can be emptied."""
        wanted = {"window_id", "window_set_id", "recording_id"}
        with self.transaction() as connection:
            rows = connection.execute(_COLUMNS).all()
        found = [About(row[0], frozenset(row[1])) for row in rows if wanted & set(row[1])]
        return sorted(found, key=lambda one: _OWN_ORDER.index(one.table) if one.table in _OWN_ORDER else -1)

    def count_traces(self, traces: Traces) -> dict[str, int]:
        """Rows about these recordings, by table; every table is asked, whole."""
        counts = {}
        for about in self.tables_about_recordings():
            query = sa.text(f"SELECT count(*) FROM {about.table} WHERE {about.condition}")
            with self.transaction() as connection:
                counts[about.table] = int(connection.execute(query, _bound(about, traces)).scalar_one())
        return counts

    def count_mentions(self, text: str) -> dict[str, int]:
        """Rows that have a text somewhere, by `table.column`; every column that could hold it is asked, whole."""
        counts = {}
        with self.transaction() as connection:
            rows = connection.execute(_COLUMNS).all()
            for table, _ in rows:
                for column in sa.inspect(connection).get_columns(table):
                    if isinstance(column["type"], sa.Text | pg.ARRAY | pg.JSONB):
                        query = (
                            f'SELECT count(*) FROM {table} WHERE strpos(CAST("{column["name"]}" AS text), :text) > 0'
                        )
                        n = connection.execute(sa.text(query), {"text": text}).scalar_one()
                        counts[f"{table}.{column['name']}"] = int(n)
        return counts

    def rows_about(self, about: About, traces: Traces) -> Iterator[dict[str, Any]]:
        """Rows of one table about these recordings, without samples."""
        with self.transaction() as connection:
            kinds = {c["name"]: c["type"] for c in sa.inspect(connection).get_columns(about.table)}
            names = [name for name, kind in kinds.items() if not isinstance(kind, sa.LargeBinary)]
            query = sa.text(f"SELECT {', '.join(names)} FROM {about.table} WHERE {about.condition}")
            streamed = connection.execution_options(yield_per=5000).execute(query, _bound(about, traces))
            for row in streamed.mappings():
                yield dict(row)

    def _delete(self, connection: sa.Connection, about: About, traces: Traces, versions: Sequence[int] = ()) -> int:
        if "window_id" not in about.columns:
            query = sa.text(f"DELETE FROM {about.table} WHERE {about.condition}")
            return int(connection.execute(query, _bound(about, traces)).rowcount)
        # By ranges of ids, which indexes know; those of results begin with the model version.
        by_version = " AND model_version = ANY(:versions)" if "model_version" in about.columns else ""
        query = sa.text(f"DELETE FROM {about.table} WHERE window_id >= :first AND window_id < :stop{by_version}")
        gone = 0
        for number in traces.window_set_ids:
            first = number << t.BEAT_BITS
            bound: dict[str, Any] = {"first": first, "stop": first + t.MAX_BEATS}
            if by_version:
                bound["versions"] = list(versions)
            gone += int(connection.execute(query, bound).rowcount)
        return gone


def _bound(about: About, traces: Traces) -> dict[str, Any]:
    if about.condition.endswith("ANY(:sets)"):
        return {"sets": list(traces.window_set_ids)}
    return {"recordings": list(traces.recording_ids)}
