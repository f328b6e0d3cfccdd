"""Training/serving skew beside the comparisons with the reference."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE drift_runs ADD COLUMN method TEXT DEFAULT 'reference' NOT NULL;"
        "COMMENT ON COLUMN drift_runs.method IS 'reference, or skew (TFDV''s statistics).';"
        "ALTER TABLE drift_findings ALTER COLUMN p_value DROP NOT NULL, ALTER COLUMN adjusted DROP NOT NULL;"
        "COMMENT ON COLUMN drift_findings.p_value IS 'Of this test alone; null: skew is measured, not tested.';"
        "COMMENT ON COLUMN drift_findings.adjusted IS "
        "'Over all tests of the run (Benjamini-Hochberg); null likewise.';"
    )


def downgrade() -> None:
    op.execute(
        "DELETE FROM drift_findings WHERE adjusted IS NULL;"
        "DELETE FROM drift_runs WHERE method <> 'reference';"
        "ALTER TABLE drift_runs DROP COLUMN method;"
        "ALTER TABLE drift_findings ALTER COLUMN p_value SET NOT NULL, ALTER COLUMN adjusted SET NOT NULL"
    )
