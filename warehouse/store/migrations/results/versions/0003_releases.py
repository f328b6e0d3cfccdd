"""Releases: which version serves what; shadow scores; seconds in the model."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute("DROP TABLE releases, shadow_scores, scoring_work")
    op.execute("ALTER TABLE scoring_runs DROP COLUMN model_seconds, DROP COLUMN shadow")
