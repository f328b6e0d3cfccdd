"""Alembic's environment: runs on the connection that `warehouse.store.database.migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
