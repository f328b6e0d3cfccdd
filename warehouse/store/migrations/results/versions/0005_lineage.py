"""Lineage: which recordings made a model, and the data sheet."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute("DROP TABLE model_recordings")
    op.execute("ALTER TABLE model_versions DROP COLUMN datasheet")
