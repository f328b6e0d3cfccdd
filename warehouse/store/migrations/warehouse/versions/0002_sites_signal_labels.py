"""Sites; the signal without gaps; reviewers' labels; uploads."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(
        "DROP TABLE signal_chunks, labels, uploads;"
        "ALTER TABLE recordings DROP CONSTRAINT recordings_source_version, DROP CONSTRAINT recordings_checksum,"
        " DROP COLUMN site;"
        "ALTER TABLE recordings ADD CONSTRAINT recordings_source_version UNIQUE (source_key, version),"
        " ADD CONSTRAINT recordings_checksum UNIQUE (checksum);"
        "ALTER TABLE patients DROP CONSTRAINT patients_site_pseudonym, DROP COLUMN site;"
        "ALTER TABLE patients ADD CONSTRAINT patients_pseudonym_key UNIQUE (pseudonym);"
    )
