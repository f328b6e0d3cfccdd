"""SQL of reviewers' labels in the warehouse: told by the results database, read by training."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from warehouse.store import tables as t
from warehouse.store.connection import Repository, retried

REVIEWER = "reviewer"


class LabelQueries(Repository):
    """Labels that people gave to beats after they were ingested."""

    @retried
    def add_labels(self, labels: Sequence[Mapping[str, Any]]) -> None:
        """Adds labels; one that is in already, by window and revision, stays as it is.

        Args:
            labels: window_id, revision, aami_class (or None) and artefact of each.
        """
        if not labels:
            return
        rows = [{"source": REVIEWER, **label} for label in labels]
        with self.transaction() as connection:
            connection.execute(insert(t.labels).on_conflict_do_nothing(), rows)

    def labels_of(self, first_id: int, stop_id: int, until: int | None = None) -> dict[int, tuple[str | None, bool]]:
        """(AAMI class, artefact) by window, for ids in [first_id, stop_id); withdrawn labels are left out.

        Args:
            until: as if labels with a larger label_id were not there; None for all.
        """
        query = sa.text(
            "SELECT DISTINCT ON (window_id) window_id, aami_class, artefact FROM labels "
            "WHERE window_id >= :first AND window_id < :stop AND label_id <= coalesce(:until, label_id) "
            "ORDER BY window_id, revision DESC"
        )
        with self.transaction() as connection:
            rows = connection.execute(query, {"first": first_id, "stop": stop_id, "until": until}).all()
        return {r.window_id: (r.aami_class, r.artefact) for r in rows if r.artefact or r.aami_class is not None}

    def newest_label(self, window_set_ids: Sequence[int]) -> int:
        """The largest label_id in these window sets; 0 when there is none."""
        query = sa.text("SELECT max(label_id) FROM labels WHERE window_id >> :bits = ANY(:sets)")
        with self.transaction() as connection:
            found = connection.execute(query, {"bits": t.BEAT_BITS, "sets": list(window_set_ids)}).scalar()
        return int(found or 0)
