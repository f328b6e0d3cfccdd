"""Initial tables of the warehouse database."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        "DROP TABLE unusable_spans, dead_letters, window_sets, recordings, "
        "data_spans, windows, patients, feature_versions"
    )
