"""SQL of erasure in the results database: what was found in recordings, and what must be trained again without them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from warehouse.store import tables as t
from warehouse.store.audit_queries import Act, note_acts
from warehouse.store.erasure_queries import ErasureQueries, Traces


class ErasedResults(ErasureQueries):
    """Scores, episodes, reviews, ... of recordings that are to go; erasures, and the marks they leave."""

    def start_erasure(self, subject: str, reason: str, traces: Traces) -> int:
        """Writes down what is going to be erased, so that it is finished whatever happens; returns its number."""
        row = {
            "subject": subject,
            "reason": reason,
            "recording_ids": list(traces.recording_ids),
            "window_set_ids": list(traces.window_set_ids),
        }
        with self.transaction() as connection:
            statement = insert(t.erasures).values(row).returning(t.erasures.c.erasure_id)
            return int(connection.execute(statement).scalar_one())

    def erasures(self, *, subject: str | None = None, unfinished: bool = False) -> list[dict[str, Any]]:
        """Erasures in order; of one subject, or those that stopped half way."""
        e = t.erasures.c
        query = sa.select(t.erasures).order_by(e.erasure_id)
        if subject is not None:
            query = query.where(e.subject == subject)
        if unfinished:
            query = query.where(e.finished_at.is_(None))
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def finish_erasure(self, erasure_id: int, deleted: Mapping[str, Any], act: Act) -> None:
        """Closes an erasure, and notes it in the audit log."""
        statement = t.erasures.update().where(t.erasures.c.erasure_id == erasure_id)
        with self.transaction() as connection:
            connection.execute(statement.values(finished_at=sa.func.now(), deleted=dict(deleted)))
            note_acts(connection, [act])

    def delete_results(self, traces: Traces) -> dict[str, int]:
        """Takes out what was found in recordings and said of them, in one transaction; returns rows by table."""
        deleted: dict[str, int] = {}
        versions = [model.model_version for model in self._versions()]
        with self.transaction() as connection:
            connection.execute(sa.text("SELECT set_config('ecg.erasing', 'on', true)"))  # reviews may be deleted
            for about in self.tables_about_recordings():
                deleted[about.table] = self._delete(connection, about, traces, versions)
        return deleted

    def forget_pseudonym(self, pseudonym: str) -> None:
        """Takes a pseudonym out of what devices may post."""
        statement = sa.text(
            "UPDATE api_keys SET patients = array_remove(patients, :pseudonym) WHERE :pseudonym = ANY(patients)"
        )
        with self.transaction() as connection:
            connection.execute(statement, {"pseudonym": pseudonym})

    def mark_for_retraining(self, data_spans: Sequence[int], reason: str = "erasure") -> None:
        """From now on every model trained on one of these spans is to be trained again, without what is gone."""
        rows = [{"data_span": span, "reason": reason} for span in data_spans]
        if rows:
            with self.transaction() as connection:
                connection.execute(insert(t.retraining_marks).on_conflict_do_nothing(), rows)

    def marked_models(self) -> dict[int, datetime]:
        """Model versions that were trained on data that is gone since, and when that was marked.

        A version stops to matter when it is released no more: `Release.versions` are those that serve.
        """
        query = (
            sa.select(t.model_versions.c.model_version, sa.func.min(t.retraining_marks.c.marked_at))
            .join(t.retraining_marks, t.retraining_marks.c.data_span == t.model_versions.c.data_span)
            .group_by(t.model_versions.c.model_version)
            .order_by(t.model_versions.c.model_version)
        )
        with self.transaction() as connection:
            return {int(version): at for version, at in connection.execute(query)}

    def trained_on(self, data_spans: Sequence[int]) -> list[dict[str, Any]]:
        """Pushed models that were trained on one of these spans: version, name, span and card."""
        m = t.model_versions.c
        query = sa.select(m.model_version, m.model_name, m.data_span, m.card).where(m.data_span.in_(data_spans))
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query.order_by(m.model_version)).mappings()]

    def replace_card(self, model_version: int, card: Mapping[str, Any]) -> None:
        """Puts another card in the place of a model's."""
        statement = t.model_versions.update().where(t.model_versions.c.model_version == model_version)
        with self.transaction() as connection:
            connection.execute(statement.values(card=dict(card)))

    def training_artifacts(self, data_spans: Sequence[int]) -> list[dict[str, Any]]:
        """Where training runs on these spans left their artifacts: run_id, data_span and artifacts."""
        r = t.training_runs.c
        query = sa.select(r.run_id, r.data_span, r.artifacts).where(r.data_span.in_(data_spans)).order_by(r.run_id)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _versions(self) -> list[Any]:
        with self.transaction() as connection:
            return list(connection.execute(sa.select(t.model_versions.c.model_version)).all())
