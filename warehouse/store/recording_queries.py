"""SQL of the API on the warehouse: recordings and what is known of them."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from configs.errors import NotFoundError
from warehouse.store import tables as t
from warehouse.store.connection import Repository


class RecordingQueries(Repository):
    """What the API asks of the warehouse."""

    def recordings(
        self,
        *,
        after_id: int = 0,
        limit: int = 100,
        name: str | None = None,
        site: str | None = None,
        pseudonym: str | None = None,
        device: str | None = None,
    ) -> list[dict[str, Any]]:
        """Current recordings with id above `after_id`, by id; None does not filter."""
        query = (
            sa.select(t.recordings, t.patients.c.pseudonym, t.patients.c.sex, t.patients.c.age_band, t.patients.c.split)
            .select_from(t.recordings.join(t.patients))
            .where(t.recordings.c.recording_id > after_id, t.recordings.c.superseded_by.is_(None))
            .order_by(t.recordings.c.recording_id)
            .limit(limit)
        )
        equal = {
            t.recordings.c.name: name,
            t.recordings.c.site: site,
            t.recordings.c.device: device,
            t.patients.c.pseudonym: pseudonym,
        }
        query = query.where(*(column == value for column, value in equal.items() if value is not None))
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def named_recordings(
        self, site: str, *, recording_id: int | None = None, pseudonym: str | None = None, device: str | None = None
    ) -> list[tuple[int, str]]:
        """(recording_id, name) of all recordings of a site, superseded ones too; None does not filter."""
        r = t.recordings.c
        query = sa.select(r.recording_id, r.name).select_from(t.recordings.join(t.patients)).where(r.site == site)
        equal = {r.recording_id: recording_id, t.patients.c.pseudonym: pseudonym, r.device: device}
        query = query.where(*(column == value for column, value in equal.items() if value is not None))
        with self.transaction() as connection:
            return [(row.recording_id, row.name) for row in connection.execute(query)]

    def recording(self, recording_id: int, *, site: str | None = None) -> dict[str, Any]:
        """One recording, with its window sets and unusable stretches.

        Raises:
            NotFoundError: there is none with this id, or it is another site's.
        """
        head = (
            sa.select(t.recordings, t.patients.c.pseudonym, t.patients.c.sex, t.patients.c.age_band, t.patients.c.split)
            .select_from(t.recordings.join(t.patients))
            .where(t.recordings.c.recording_id == recording_id)
        )
        if site is not None:
            head = head.where(t.recordings.c.site == site)
        sets = sa.select(t.window_sets).where(t.window_sets.c.recording_id == recording_id)
        spans = (
            sa.select(t.unusable_spans, t.window_sets.c.feature_version)
            .select_from(t.unusable_spans.join(t.window_sets))
            .where(t.window_sets.c.recording_id == recording_id)
            .order_by(t.unusable_spans.c.window_set_id, t.unusable_spans.c.ordinal)
        )
        with self.transaction() as connection:
            found = connection.execute(head).mappings().one_or_none()
            if found is None:
                raise NotFoundError(f"recording {recording_id}", "does not exist", "GET /recordings lists them.")
            return {
                **found,
                "window_sets": [dict(row) for row in connection.execute(sets).mappings()],
                "unusable_spans": [dict(row) for row in connection.execute(spans).mappings()],
            }

    def names_of(self, recording_ids: Sequence[int]) -> dict[int, str]:
        """Names of recordings by id, in order of id."""
        r = t.recordings.c
        query = sa.select(r.recording_id, r.name).where(r.recording_id.in_(recording_ids)).order_by(r.recording_id)
        with self.transaction() as connection:
            return {row.recording_id: row.name for row in connection.execute(query)}

    def has_window(self, window_id: int) -> bool:
        """Whether a window is still there."""
        query = sa.select(sa.literal(True)).where(t.windows.c.window_id == window_id)
        with self.transaction() as connection:
            return bool(connection.execute(query).scalar())

    def lead_slots(self, window_id: int) -> tuple[str, ...]:
        """Lead names in a window's model input slots, "" for an empty one.

        Raises:
            NotFoundError: there is no window set this window could be of.
        """
        query = sa.select(t.window_sets.c.lead_slots).where(t.window_sets.c.window_set_id == window_id >> t.BEAT_BITS)
        with self.transaction() as connection:
            slots = connection.execute(query).scalar()
        if slots is None:
            raise NotFoundError(
                f"window {window_id}", "is not in the warehouse", "It may have been dropped with old data."
            )
        return tuple(slots)
