"""Anomalies are stored with their episode: what the column's comment says."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute(
        "COMMENT ON COLUMN anomalies.episode_id IS "
        "'episodes.episode_id, once the recording is summarised; null: not known yet.'"
    )


def downgrade() -> None:
    op.execute(
        "COMMENT ON COLUMN anomalies.episode_id IS 'episodes.episode_id; null until the recording is summarised.'"
    )
