"""SQL of erasure and retention in the warehouse: whose recordings are whose, and taking them out."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from warehouse.store import tables as t
from warehouse.store.erasure_queries import ErasureQueries, Traces

_ERASED: Final = '{"recording": "", "n_windows": 0, "labels": {}, "labels_md5": null, "erased": true}'
_RECORDINGS: Final = "CASE jsonb_typeof(recordings) WHEN 'array' THEN recordings ELSE '[]' END"


class ErasedWarehouse(ErasureQueries):
    """Recordings of a patient, or of long ago."""

    def traces_of(self, site: str, pseudonym: str) -> Traces:
        """All recordings of a patient, superseded versions too."""
        query = sa.text(
            "SELECT r.recording_id FROM recordings r JOIN patients p USING (patient_id) "
            "WHERE p.site = :site AND p.pseudonym = :pseudonym ORDER BY 1"
        )
        with self.transaction() as connection:
            ids = connection.execute(query, {"site": site, "pseudonym": pseudonym}).scalars().all()
        return self.traces(ids)

    def traces_until(self, moment: datetime) -> Traces:
        """All recordings that ended before a moment."""
        query = sa.text(
            "SELECT recording_id FROM recordings WHERE start_time + make_interval(secs => duration_s) < :moment "
            "ORDER BY 1"
        )
        with self.transaction() as connection:
            ids = connection.execute(query, {"moment": moment}).scalars().all()
        return self.traces(ids)

    def traces(self, recording_ids: Sequence[int]) -> Traces:
        """These recordings with their window sets."""
        query = sa.text("SELECT window_set_id FROM window_sets WHERE recording_id = ANY(:ids) ORDER BY 1")
        with self.transaction() as connection:
            sets = connection.execute(query, {"ids": list(recording_ids)}).scalars().all()
        return Traces(tuple(recording_ids), tuple(sets))

    def patient(self, site: str, pseudonym: str) -> dict[str, Any] | None:
        """A patient's row; None when there is none."""
        query = sa.select(t.patients).where(t.patients.c.site == site, t.patients.c.pseudonym == pseudonym)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def patients(self) -> list[dict[str, Any]]:
        """Every patient's site and pseudonym."""
        with self.transaction() as connection:
            query = sa.select(t.patients.c.site, t.patients.c.pseudonym).order_by(t.patients.c.patient_id)
            return [dict(row) for row in connection.execute(query).mappings()]

    def spans_with(self, traces: Traces) -> list[int]:
        """Data spans that hold one of these window sets: what was trained on them."""
        query = sa.text(
            "SELECT span FROM data_spans WHERE EXISTS (SELECT 1 FROM jsonb_array_elements(content->'window_sets') e "
            "WHERE CAST(e->>'window_set_id' AS bigint) = ANY(:sets)) ORDER BY 1"
        )
        with self.transaction() as connection:
            return list(connection.execute(query, {"sets": list(traces.window_set_ids)}).scalars())

    def named_in_spans(self, traces: Traces) -> int:
        """How many entries of data spans still say something of these window sets."""
        query = sa.text(
            "SELECT count(*) FROM data_spans, jsonb_array_elements(content->'window_sets') e "
            "WHERE CAST(e->>'window_set_id' AS bigint) = ANY(:sets) AND e->>'recording' <> ''"
        )
        with self.transaction() as connection:
            return int(connection.execute(query, {"sets": list(traces.window_set_ids)}).scalar_one())

    def names_in_use(self, names: Sequence[str]) -> list[str]:
        """Which of these names recordings have."""
        query = sa.text("SELECT DISTINCT name FROM recordings WHERE name = ANY(:names)")
        with self.transaction() as connection:
            return list(connection.execute(query, {"names": list(names)}).scalars())

    def uploads_about(self, site: str, pseudonym: str, traces: Traces) -> list[dict[str, Any]]:
        """Posted files that became one of these recordings, or that a device of this patient posted."""
        query = sa.text(
            "SELECT upload_id, status, files, bytes, created_at, finished_at FROM uploads WHERE site = :site AND ("
            f"patients = ARRAY[:pseudonym] OR EXISTS (SELECT 1 FROM jsonb_array_elements({_RECORDINGS}) e "
            "WHERE CAST(e->>'recording_id' AS bigint) = ANY(:ids))) ORDER BY created_at"
        )
        bound = {"site": site, "pseudonym": pseudonym, "ids": list(traces.recording_ids)}
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query, bound).mappings()]

    def delete_recordings(
        self, traces: Traces, *, names: Sequence[str] = (), months_before: datetime | None = None
    ) -> dict[str, int]:
        """Takes recordings out, in one transaction; returns rows deleted by table.

        Args:
            names: of these recordings: files of such a name that could not be read are forgotten too.
            months_before: monthly partitions that end before this are dropped whole, where no other recording needs
                them; None deletes row by row.
        """
        deleted: dict[str, int] = {}
        ids = {"recordings": list(traces.recording_ids)}
        with self.transaction() as connection:
            if months_before is not None:
                deleted |= _drop_months(connection, traces, months_before)
            superseded = "UPDATE recordings SET superseded_by = NULL WHERE superseded_by = ANY(:recordings)"
            for about in self.tables_about_recordings():
                if about.table == "recordings":
                    connection.execute(sa.text(superseded), ids)
                gone = self._delete(connection, about, traces)
                deleted[about.table] = deleted.get(about.table, 0) + gone
            files = sa.text(
                "DELETE FROM dead_letters WHERE regexp_replace(source, '[.][^.]*$', '') = ANY(:names) AND NOT EXISTS "
                "(SELECT 1 FROM recordings r WHERE r.name = regexp_replace(source, '[.][^.]*$', ''))"
            )
            deleted["dead_letters"] += int(connection.execute(files, {"names": list(names)}).rowcount)
            deleted["uploads"] = _forget_in_uploads(connection, traces)
            _forget_in_spans(connection, traces)
        return deleted

    def delete_patient(self, site: str, pseudonym: str) -> int:
        """Takes out a patient's row, and the pseudonym out of what devices may post; returns rows deleted."""
        bound = {"site": site, "pseudonym": pseudonym}
        with self.transaction() as connection:
            own = sa.text("DELETE FROM uploads WHERE site = :site AND patients = ARRAY[:pseudonym]")
            others = sa.text(
                "UPDATE uploads SET patients = array_remove(patients, :pseudonym) "
                "WHERE site = :site AND :pseudonym = ANY(patients)"
            )
            patient = sa.text("DELETE FROM patients WHERE site = :site AND pseudonym = :pseudonym")
            gone = int(connection.execute(own, bound).rowcount)
            connection.execute(others, bound)
            return gone + int(connection.execute(patient, bound).rowcount)

    def delete_patients_without_recordings(self) -> int:
        """Takes out patients of whom nothing is left; returns how many."""
        query = "DELETE FROM patients p WHERE NOT EXISTS (SELECT 1 FROM recordings r WHERE r.patient_id = p.patient_id)"
        with self.transaction() as connection:
            return int(connection.execute(sa.text(query)).rowcount)

    def delete_old_notes(self, moment: datetime) -> dict[str, int]:
        """Takes out files that could not be read, and finished uploads, of before a moment; returns rows by table."""
        files = sa.text("DELETE FROM dead_letters WHERE source IS NOT NULL AND created_at < :moment")
        uploads = sa.text("DELETE FROM uploads WHERE finished_at < :moment")
        with self.transaction() as connection:
            return {
                "dead_letters": int(connection.execute(files, {"moment": moment}).rowcount),
                "uploads": int(connection.execute(uploads, {"moment": moment}).rowcount),
            }

    def droppable_months(self, traces: Traces, moment: datetime) -> list[str]:
        """Monthly partitions that end before a moment, and that only these recordings need."""
        with self.transaction() as connection:
            return _droppable(connection, traces, moment)


def _droppable(connection: sa.Connection, traces: Traces, moment: datetime) -> list[str]:
    partitions = sa.text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent IN ('windows'::regclass, 'signal_chunks'::regclass) ORDER BY 1"
    )
    needed = sa.text(
        "SELECT EXISTS (SELECT 1 FROM recordings WHERE recording_id <> ALL(:ids) AND start_time < :following "
        "AND start_time + make_interval(secs => duration_s + 1) >= :first)"
    )
    found = []
    for name in connection.execute(partitions).scalars().all():
        first = datetime.strptime(name.rpartition("_y")[2], "%Ym%m").replace(tzinfo=UTC)
        following = (first + timedelta(days=32)).replace(day=1)
        bound = {"ids": list(traces.recording_ids), "first": first, "following": following}
        if following <= moment and not connection.execute(needed, bound).scalar_one():
            found.append(name)
    return found


def _drop_months(connection: sa.Connection, traces: Traces, moment: datetime) -> dict[str, int]:
    """Drops whole partitions; returns how many rows were in them, by table."""
    dropped: dict[str, int] = {}
    for name in _droppable(connection, traces, moment):
        table = name.rpartition("_y")[0]
        rows = int(connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one())
        connection.execute(sa.text(f"DROP TABLE {name}"))
        dropped[table] = dropped.get(table, 0) + rows
    return dropped


def _forget_in_spans(connection: sa.Connection, traces: Traces) -> None:
    """Data spans keep their digests, and that something was there; not what, nor whose."""
    statement = sa.text(
        "UPDATE data_spans SET content = jsonb_set(content, '{window_sets}', (SELECT jsonb_agg(CASE WHEN "
        "CAST(e->>'window_set_id' AS bigint) = ANY(:sets) THEN e || CAST(:erased AS jsonb) ELSE e END ORDER BY n) "
        "FROM jsonb_array_elements(content->'window_sets') WITH ORDINALITY AS x(e, n))) "
        "WHERE EXISTS (SELECT 1 FROM jsonb_array_elements(content->'window_sets') e "
        "WHERE CAST(e->>'window_set_id' AS bigint) = ANY(:sets))"
    )
    connection.execute(statement, {"sets": list(traces.window_set_ids), "erased": _ERASED})


def _forget_in_uploads(connection: sa.Connection, traces: Traces) -> int:
    """Takes recordings out of what uploads became, and uploads that became nothing else; returns how many."""
    ids = {"ids": list(traces.recording_ids)}
    about = f"EXISTS (SELECT 1 FROM jsonb_array_elements({_RECORDINGS}) e "
    about += "WHERE CAST(e->>'recording_id' AS bigint) = ANY(:ids))"
    left = f"(SELECT jsonb_agg(e) FROM jsonb_array_elements({_RECORDINGS}) e "
    left += "WHERE CAST(e->>'recording_id' AS bigint) <> ALL(:ids))"
    gone = connection.execute(sa.text(f"DELETE FROM uploads WHERE {about} AND {left} IS NULL"), ids).rowcount
    connection.execute(sa.text(f"UPDATE uploads SET recordings = {left}, files = '{{}}' WHERE {about}"), ids)
    return int(gone)
