"""SQL of reviews: what people said, what it comes to, and what of it is still to be told the warehouse."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs.errors import ConflictError, NotFoundError
from warehouse.store import tables as t
from warehouse.store.connection import Repository, retried
from warehouse.store.records import Beat, Opinion, Release
from warehouse.store.release_queries import served_by
from warehouse.store.review_state import UNREVIEWED, ReviewState, Said, state_of

_UNDONE = sa.alias(t.reviews, "undone")


class ReviewQueries(Repository):
    """What people said of beats. Reviews are only ever added; an undo is a row of its own."""

    @retried
    def add_reviews(self, site: str, beats: Sequence[Beat], opinion: Opinion) -> list[dict[str, Any]]:
        """Adds one review a beat, and what each beat's reviews now come to, in one transaction.

        Returns:
            The new rows, in the order of `beats`, which must not be empty.
        """
        windows = {beat.window_id: beat for beat in beats}
        with self.transaction() as connection:
            self._lock(connection, site, windows)
            earlier = self._said(connection, windows)
            rows = [
                {
                    "site": site,
                    "window_id": beat.window_id,
                    "recording_id": beat.recording_id,
                    "score": beat.score,
                    "flagged": beat.flagged,
                    "action": "review",
                    "supersedes": _last_of(earlier[beat.window_id], opinion.reviewer),
                    **vars(opinion),
                }
                for beat in windows.values()
            ]
            return self._add(connection, rows, sampled=opinion.sampled)

    @retried
    def undo(self, site: str, review_id: int, reviewer: str, role: str) -> list[dict[str, Any]]:
        """Takes back a review, with all that was said in the same breath (of an episode's other beats).

        Returns:
            The new rows.

        Raises:
            NotFoundError: there is no such review at this site.
            ConflictError: it was taken back already, or is an undo itself.
        """
        with self.transaction() as connection:
            wanted = self._one(connection, site, review_id)
            if wanted["action"] == "undo":
                raise ConflictError(f"review {review_id}", "is an undo", "Review the beat again instead.")
            of_batch = sa.select(t.reviews).where(
                t.reviews.c.batch_id == wanted["batch_id"], t.reviews.c.action == "review"
            )
            said = [dict(row) for row in connection.execute(of_batch.order_by(t.reviews.c.review_id)).mappings()]
            windows = {row["window_id"]: Beat(row["window_id"], row["recording_id"]) for row in said}
            self._lock(connection, site, windows)  # whoever undoes the same waits here, and then sees it
            taken = connection.execute(
                sa.select(t.reviews.c.undoes).where(t.reviews.c.undoes.in_([row["review_id"] for row in said]))
            )
            gone = set(taken.scalars())
            if review_id in gone:
                raise ConflictError(f"review {review_id}", "was taken back already", "Review the beat again.")
            copied = ("site", "window_id", "recording_id", "episode_id", "model_version", "score", "flagged", "sampled")
            rows = [
                {
                    **{name: row[name] for name in copied},
                    "reviewer": reviewer,
                    "role": role,
                    "action": "undo",
                    "undoes": row["review_id"],
                }
                for row in said
                if row["review_id"] not in gone
            ]
            return self._add(connection, rows, sampled=False)

    def review(self, site: str, review_id: int) -> dict[str, Any]:
        """One row.

        Raises:
            NotFoundError: there is none at this site.
        """
        with self.transaction() as connection:
            return self._one(connection, site, review_id)

    def reviews(
        self,
        site: str,
        *,
        window_id: int | None = None,
        recording_id: int | None = None,
        episode_id: int | None = None,
        reviewer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        before_id: int | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Rows, newest first, each with `undone_by` (review_id of its undo, or None).

        Args:
            before_id: only those with a smaller review_id: the last row's of the page before.
        """
        r = t.reviews.c
        joined = t.reviews.outerjoin(_UNDONE, _UNDONE.c.undoes == r.review_id)
        query = sa.select(t.reviews, _UNDONE.c.review_id.label("undone_by")).select_from(joined).where(r.site == site)
        equal = {"window_id": window_id, "recording_id": recording_id, "episode_id": episode_id, "reviewer": reviewer}
        for name, value in equal.items():
            if value is not None:
                query = query.where(r[name] == value)
        if start is not None:
            query = query.where(r.created_at >= start)
        if end is not None:
            query = query.where(r.created_at < end)
        if before_id is not None:
            query = query.where(r.review_id < before_id)
        with self.transaction() as connection:
            rows = connection.execute(query.order_by(r.review_id.desc()).limit(limit)).mappings()
            return [dict(row) for row in rows]

    def review_states(self, window_ids: Iterable[int]) -> dict[int, ReviewState]:
        """What reviews of beats come to; beats without any are unreviewed."""
        wanted = list(window_ids)
        query = sa.select(t.review_states).where(t.review_states.c.window_id.in_(wanted))
        with self.transaction() as connection:
            found = {row["window_id"]: _state(dict(row)) for row in connection.execute(query).mappings()}
        return {number: found.get(number, ReviewState()) for number in wanted}

    def review_counts(self, by: int | Release, site: str, recording_id: int | None = None) -> dict[str, int]:
        """How many anomalies have each review status; those of one recording, when it is given.

        Args:
            by: found by this version, or by the version that serves each recording.
        """
        s = t.recording_summaries.c
        anomalous = sa.select(sa.func.coalesce(sa.func.sum(s.anomalous), 0)).where(
            s.model_version == by if isinstance(by, int) else served_by(s, by), s.site == site
        )
        a, states = t.anomalies.c, t.review_states.c
        reviewed = (
            sa.select(states.status, sa.func.count())
            .select_from(t.review_states.join(t.anomalies, a.window_id == states.window_id))
            .where(states.site == site, states.status != UNREVIEWED)
            .where(a.model_version == by if isinstance(by, int) else served_by(a, by))
            .group_by(states.status)
        )
        if recording_id is not None:
            anomalous = anomalous.where(s.recording_id == recording_id)
            reviewed = reviewed.where(states.recording_id == recording_id)
        with self.transaction() as connection:
            total = int(connection.execute(anomalous).scalar_one())
            counts = {row[0]: int(row[1]) for row in connection.execute(reviewed)}
        return {UNREVIEWED: max(0, total - sum(counts.values())), **counts}

    def undelivered_labels(self, limit: int = 1000) -> list[dict[str, Any]]:
        """Review states whose newest revision the warehouse has not been told."""
        states = t.review_states
        query = sa.select(states).where(states.c.delivered < states.c.revision).order_by(states.c.window_id)
        with self.transaction() as connection:
            rows = connection.execute(query.limit(limit)).mappings().all()
        return [{**row, "state": _state(dict(row))} for row in rows]

    @retried
    def mark_delivered(self, delivered: Mapping[int, int]) -> None:
        """Notes which revision (by window) the warehouse was told."""
        states = t.review_states
        statement = (
            states.update()
            .where(states.c.window_id == sa.bindparam("w"), states.c.delivered < sa.bindparam("r"))
            .values(delivered=sa.bindparam("r"))
        )
        if delivered:
            with self.transaction() as connection:
                connection.execute(statement, [{"w": window, "r": revision} for window, revision in delivered.items()])

    def _one(self, connection: sa.Connection, site: str, review_id: int) -> dict[str, Any]:
        query = sa.select(t.reviews).where(t.reviews.c.review_id == review_id, t.reviews.c.site == site)
        row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"review {review_id}", "does not exist", "GET /reviews lists them.")
        return dict(row)

    def _lock(self, connection: sa.Connection, site: str, windows: Mapping[int, Beat]) -> None:
        """Lets one transaction at a time add to the reviews of a beat; always in the same order."""
        rows = [
            {
                "window_id": number,
                "site": site,
                "recording_id": windows[number].recording_id,
                "status": UNREVIEWED,
                "reviewers": [],
                "sampled": False,
                "revision": 0,
                "delivered": 0,
            }
            for number in sorted(windows)
        ]
        connection.execute(insert(t.review_states).on_conflict_do_nothing(), rows)
        states = t.review_states.c
        connection.execute(
            sa.select(states.window_id).where(states.window_id.in_(sorted(windows))).order_by(states.window_id)
            .with_for_update()
        ).all()  # fmt: skip

    def _said(self, connection: sa.Connection, windows: Iterable[int]) -> dict[int, list[Said]]:
        """Reviews of each window that were not taken back, in order."""
        r = t.reviews.c
        query = (
            sa.select(r.window_id, r.review_id, r.reviewer, r.role, r.verdict, r.label, r.cause)
            .select_from(t.reviews.outerjoin(_UNDONE, _UNDONE.c.undoes == r.review_id))
            .where(r.window_id.in_(list(windows)), r.action == "review", _UNDONE.c.review_id.is_(None))
            .order_by(r.review_id)
        )
        said: dict[int, list[Said]] = {number: [] for number in windows}
        for window_id, *values in connection.execute(query):
            said[window_id].append(Said(*values))
        return said

    def _add(
        self, connection: sa.Connection, rows: Sequence[Mapping[str, Any]], *, sampled: bool
    ) -> list[dict[str, Any]]:
        """Adds rows that belong together, and makes the states of their beats anew."""
        batch_id = connection.execute(
            sa.text("SELECT nextval(pg_get_serial_sequence('reviews', 'review_id'))")
        ).scalar()
        statement = insert(t.reviews).returning(t.reviews, sort_by_parameter_order=True)
        batch = [{**row, "batch_id": batch_id} for row in rows]
        added = [dict(row) for row in connection.execute(statement, batch).mappings()]
        said = self._said(connection, [row["window_id"] for row in added])
        update = t.review_states.update().where(t.review_states.c.window_id == sa.bindparam("w"))
        values = []
        for row in added:
            state = state_of(said[row["window_id"]])
            made = {name: getattr(state, name) for name in ("status", "verdict", "label", "cause")}
            made.update(reviewers=list(state.reviewers), revision=row["review_id"], updated_at=row["created_at"])
            values.append({"w": row["window_id"], "was_sampled": sampled, **made})
        named: dict[str, Any] = {name: sa.bindparam(name) for name in values[0] if name not in ("w", "was_sampled")}
        reached = sa.or_(t.review_states.c.sampled, sa.bindparam("was_sampled", type_=sa.Boolean))
        connection.execute(update.values(sampled=reached, **named), values)
        return added


def _state(row: Mapping[str, Any]) -> ReviewState:
    return ReviewState(row["status"], row["verdict"], row["label"], row["cause"], tuple(row["reviewers"]))


def _last_of(said: Sequence[Said], reviewer: str) -> int | None:
    """review_id of a reviewer's last word."""
    return next((one.review_id for one in reversed(said) if one.reviewer == reviewer), None)
