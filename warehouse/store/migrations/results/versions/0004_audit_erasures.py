"""The audit log; erasures, and the data spans they leave to be trained again; reviews go with an erasure only."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        "DROP TABLE audit_log, erasures, retraining_marks;"
        "DROP FUNCTION audit_log_chained, audit_log_is_only_added;"
        "CREATE OR REPLACE FUNCTION reviews_are_only_added() RETURNS trigger LANGUAGE plpgsql AS $$"
        " BEGIN RAISE EXCEPTION 'reviews are only added, never changed or deleted'; END $$"
    )
