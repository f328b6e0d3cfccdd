"""Sites; reviews and what they come to; API keys and sessions."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        "DROP TABLE reviews, review_states, api_keys, sessions; DROP FUNCTION reviews_are_only_added;"
        "DROP INDEX anomalies_by_time, anomalies_by_score, anomalies_by_recording, episodes_by_time, episodes_by_score,"
        " recording_summaries_by_site;"
        "ALTER TABLE anomalies DROP COLUMN site, DROP COLUMN quality, DROP COLUMN familiarity;"
        "ALTER TABLE episodes DROP COLUMN site;"
        "ALTER TABLE recording_summaries DROP COLUMN site, DROP COLUMN device, DROP COLUMN score_histogram;"
        "CREATE INDEX anomalies_by_time ON anomalies (model_version, recorded_at, window_id);"
        "CREATE INDEX anomalies_by_score ON anomalies (model_version, score, window_id);"
        "CREATE INDEX anomalies_by_recording ON anomalies (model_version, recording, recorded_at, window_id);"
    )
