"""SQL of releases: which version serves, shadow scores, and what the comparison of two versions reads."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from configs.errors import ConflictError, ModelUnavailableError, NotFoundError
from warehouse.store import tables as t
from warehouse.store.audit_queries import Act, note_acts
from warehouse.store.binary_copy import Array
from warehouse.store.connection import Repository, copy_out
from warehouse.store.notifications import RELEASES_CHANNEL
from warehouse.store.records import Release, WindowSet

#: What of a score a comparison reads: column to its kind on the wire.
_COMPARED = {"window_id": "int8", "recording_id": "int8", "score": "float4", "verdict": "bool", "lead_slot": "int2"}


class ReleaseQueries(Repository):
    """The log of releases, whose last row is the state, and the scores of the version in shadow."""

    def release(self, release_id: int | None = None) -> Release:
        """The state now, or that after an earlier release.

        Raises:
            ModelUnavailableError: no version was ever released.
            NotFoundError: there is no release with this number.
        """
        query = sa.select(t.releases).order_by(t.releases.c.release_id.desc()).limit(1)
        if release_id is not None:
            query = query.where(t.releases.c.release_id == release_id)
        with self.transaction() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is not None:
            return Release(**row)
        if release_id is not None:
            raise NotFoundError(
                f"release {release_id}", "does not exist", "`python -m serving.release list` lists them."
            )
        raise ModelUnavailableError("model", "no version was pushed yet", "Run `python -m pipelines.train` first.")

    def releases(self, limit: int = 20) -> list[Release]:
        """The log, newest first."""
        query = sa.select(t.releases).order_by(t.releases.c.release_id.desc()).limit(limit)
        with self.transaction() as connection:
            return [Release(**row) for row in connection.execute(query).mappings()]

    def add_release(self, follows: Release, values: Mapping[str, Any]) -> Release:
        """Appends to the log: the state is `follows` with `values` instead.

        Args:
            follows: the state that whoever decided this saw.

        Raises:
            ConflictError: somebody else changed the state since; nothing was done.
        """
        state = {name: getattr(follows, name) for name in ("stable", "previous", "canary", "canary_percent", "shadow")}
        row = {**state, **values, "follows": follows.release_id}
        statement = insert(t.releases).values(row).on_conflict_do_nothing().returning(t.releases)
        with self.transaction() as connection:
            added = connection.execute(statement).mappings().one_or_none()
            if added is not None:
                connection.execute(sa.text(f"NOTIFY {RELEASES_CHANNEL}"))
                subject = f"model version {added['model_version']}" if added["model_version"] else "releases"
                act = Act(added["operator"], "operator", "", f"release_{added['action']}", subject, added["reason"])
                note_acts(connection, [act])
                return Release(**added)
        now = self.release()
        raise ConflictError(
            f"release {values['action']} {values['model_version']}",
            f"{now.operator} was faster: {now.action} {now.model_version} at {now.at.astimezone(UTC):%H:%M:%S} UTC",
            "Nothing was done. Look at `python -m serving.release list`, then decide again.",
        )

    def previous_of(self, model_version: int) -> int | None:
        """What was stable before a version, when that was promoted last."""
        r = t.releases.c
        query = (
            sa.select(r.previous)
            .where(r.action == "promote", r.stable == model_version, r.model_version == model_version)
            .order_by(r.release_id.desc())
            .limit(1)
        )
        with self.transaction() as connection:
            return connection.execute(query).scalar()

    # --- shadow ------------------------------------------------------------------------------------------------------

    def shadow_scores(self, model_version: int, window_set: WindowSet) -> dict[str, Array]:
        """What a version said of a window set in shadow: window_id, score, verdict, lead_slot, by window_id."""
        first, stop = window_set.id_range(0, t.MAX_BEATS)
        kinds = {name: _COMPARED[name] for name in ("window_id", "score", "verdict", "lead_slot")}
        query = (
            f"SELECT {', '.join(kinds)} FROM shadow_scores WHERE model_version = %(v)s AND window_id >= %(a)s "
            "AND window_id < %(b)s ORDER BY window_id"
        )
        with self.transaction() as connection:
            return copy_out(connection, query, {"v": model_version, "a": first, "b": stop}, kinds)

    def forget_shadow_scores(self, model_version: int) -> int:
        """Deletes what a version said in shadow; returns how many scores that were."""
        statement = t.shadow_scores.delete().where(t.shadow_scores.c.model_version == model_version)
        with self.transaction() as connection:
            return int(connection.execute(statement).rowcount)

    # --- comparison --------------------------------------------------------------------------------------------------

    def all_scores(self, model_version: int) -> dict[str, Array]:
        """All a version said, in shadow or not: window_id, recording_id, score, verdict, lead_slot, by window_id."""
        columns = ", ".join(_COMPARED)
        query = (
            f"SELECT {columns} FROM scores WHERE model_version = %(v)s "
            f"UNION ALL SELECT {columns} FROM shadow_scores s WHERE model_version = %(v)s AND NOT EXISTS "
            "(SELECT 1 FROM scores o WHERE o.model_version = s.model_version AND o.window_id = s.window_id) "
            "ORDER BY window_id"
        )
        with self.transaction() as connection:
            return copy_out(connection, query, {"v": model_version}, _COMPARED)

    def reviewed(self) -> dict[int, bool]:
        """Windows that reviewers judged: anomalous or not, by window id."""
        states = t.review_states.c
        query = sa.select(states.window_id, states.verdict == "confirm").where(
            states.verdict.in_(["confirm", "reject"])
        )
        with self.transaction() as connection:
            return {int(window_id): bool(anomalous) for window_id, anomalous in connection.execute(query)}

    def score_counts(self) -> dict[int, tuple[int, int]]:
        """Scores and shadow scores by version."""
        query = sa.text(
            "SELECT model_version, sum(a), sum(b) FROM ("
            "SELECT model_version, count(*) AS a, 0 AS b FROM scores GROUP BY 1 UNION ALL "
            "SELECT model_version, 0, count(*) FROM shadow_scores GROUP BY 1) AS counted GROUP BY 1"
        )
        with self.transaction() as connection:
            return {int(version): (int(a), int(b)) for version, a, b in connection.execute(query)}

    def model_seconds_per_window(self, model_version: int) -> float | None:
        """What the model itself took a window, in all runs of a version; None when nothing was measured."""
        r = t.scoring_runs.c
        query = sa.select(sa.func.sum(r.model_seconds), sa.func.sum(r.scored)).where(
            r.model_version == model_version, r.model_seconds > 0
        )
        with self.transaction() as connection:
            seconds, windows = connection.execute(query).one()
        return float(seconds) / float(windows) if seconds and windows else None


def in_canary(recording: Any, release: Release) -> sa.ColumnElement[bool]:
    """`Release.in_canary` in SQL, of a column of recordings' names."""
    digest = sa.func.decode(sa.func.md5(sa.literal(f"{release.canary} ") + recording), "hex")
    high, middle, low = (sa.func.get_byte(digest, i, type_=sa.Integer) for i in range(3))
    bucket: sa.ColumnElement[bool] = (high * 65536 + middle * 256 + low) % 10_000 < release.canary_buckets
    return bucket


def served_by(table: Any, release: Release) -> sa.ColumnElement[bool]:
    """Rows of a table with model_version and recording that are of the version which serves their recording."""
    stable: sa.ColumnElement[bool] = table.model_version == release.stable
    if release.canary is None:
        return stable
    chosen = in_canary(table.recording, release)
    return sa.or_(sa.and_(stable, sa.not_(chosen)), sa.and_(table.model_version == release.canary, chosen))
