"""How irregular the rhythm before each beat was."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # Windows of earlier feature versions keep 0: no model of theirs reads it.
    op.execute(
        "ALTER TABLE windows ADD COLUMN rr_spread REAL DEFAULT '0' NOT NULL;"
        "COMMENT ON COLUMN windows.rr_spread IS 'Irregularity of the RRs before.';"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE windows DROP COLUMN rr_spread")
