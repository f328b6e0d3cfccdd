"""Initial tables of the results database."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        "DROP TABLE training_runs, scoring_runs, scores, score_failures, "
        "recording_summaries, model_versions, episodes, anomalies"
    )
