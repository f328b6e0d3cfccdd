"""SQL of model versions and training runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import insert

from configs.errors import ModelUnavailableError, NotFoundError
from warehouse.store import tables as t
from warehouse.store.connection import Repository
from warehouse.store.records import ModelVersion


class ModelQueries(Repository):
    """Which models there are, and how they came about."""

    def register_model(self, model: Mapping[str, Any], recordings: Sequence[Mapping[str, Any]] = ()) -> None:
        """Adds a pushed model; adding the same version again updates its card.

        The first one of all is stable from then on; later ones wait until they are promoted.

        Args:
            recordings: what it was made from, a mapping of `model_recordings` without the version each.
        """
        statement = insert(t.model_versions).values(dict(model))
        first = {
            "follows": 0,
            "operator": "platform",
            "action": "promote",
            "model_version": model["model_version"],
            "stable": model["model_version"],
            "reason": "first version",
        }
        with self.transaction() as connection:
            connection.execute(insert(t.releases).values(first).on_conflict_do_nothing())
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["model_version"], set_={"card": statement.excluded.card}
                )
            )
            if recordings:
                rows = [{"model_version": model["model_version"], **row} for row in recordings]
                connection.execute(insert(t.model_recordings).on_conflict_do_nothing(), rows)

    def amend_card(self, model_version: int, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Sets keys of a version's model card; returns the card.

        Raises:
            NotFoundError: that version was never registered.
        """
        plain = json.loads(json.dumps(dict(changes), default=str))
        m = t.model_versions.c
        statement = (
            t.model_versions.update()
            .where(m.model_version == model_version)
            .values(card=m.card.op("||")(sa.cast(plain, pg.JSONB)))
            .returning(m.card)
        )
        with self.transaction() as connection:
            card = connection.execute(statement).scalar()
        if card is None:
            raise NotFoundError(f"model version {model_version}", "does not exist", "GET /models lists them.")
        return dict(card)

    def models(self, model_version: int | None = None) -> list[ModelVersion]:
        """Pushed models, newest first; only one when `model_version` is given.

        Raises:
            NotFoundError: that version was never registered.
        """
        query = sa.select(t.model_versions).order_by(t.model_versions.c.model_version.desc())
        if model_version is not None:
            query = query.where(t.model_versions.c.model_version == model_version)
        with self.transaction() as connection:
            found = [ModelVersion(**row) for row in connection.execute(query).mappings()]
        if model_version is not None and not found:
            raise NotFoundError(f"model version {model_version}", "does not exist", "GET /models lists them.")
        return found

    def latest_model(self, feature_version: str | None = None) -> ModelVersion:
        """The newest pushed model; of those that take windows of `feature_version`, when it is given.

        Raises:
            ModelUnavailableError: none was ever pushed.
        """
        found = [m for m in self.models() if feature_version in (None, m.feature_version)]
        if not found:
            raise ModelUnavailableError("model", "no version was pushed yet", "Run `python -m pipelines.train` first.")
        return found[0]

    def start_training_run(self, run: Mapping[str, Any]) -> int:
        """Opens a training run; returns its number."""
        statement = insert(t.training_runs).values({**run, "status": "running"}).returning(t.training_runs.c.run_id)
        with self.transaction() as connection:
            return int(connection.execute(statement).scalar_one())

    def finish_training_run(self, run_id: int, values: Mapping[str, Any]) -> None:
        """Closes a training run with its status and what came of it."""
        statement = t.training_runs.update().where(t.training_runs.c.run_id == run_id)
        with self.transaction() as connection:
            connection.execute(statement.values({**values, "finished_at": sa.func.now()}))

    def training_runs(self, limit: int | None = 50) -> list[dict[str, Any]]:
        """Training runs, newest first."""
        query = sa.select(t.training_runs).order_by(t.training_runs.c.run_id.desc()).limit(limit)
        with self.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
