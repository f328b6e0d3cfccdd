"""What the band-pass took out of the signal: baseline and mains, which drift is looked for in."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE signal_chunks ADD COLUMN removed BYTEA;"
        "COMMENT ON COLUMN signal_chunks.removed IS 'What the band-pass took out of each second: its level, and its "
        "root mean square above the band; int16 little-endian (seconds, leads in use, 2), microvolts. Null: ingested "
        "by an older version.';"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE signal_chunks DROP COLUMN removed")
