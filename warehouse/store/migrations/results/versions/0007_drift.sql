CREATE TABLE drift_runs (
    drift_run_id BIGINT GENERATED ALWAYS AS IDENTITY,
    site TEXT DEFAULT 'main' NOT NULL,
    model_version BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    arrived_after TIMESTAMP WITH TIME ZONE NOT NULL,
    status TEXT NOT NULL,
    recordings BIGINT NOT NULL,
    windows BIGINT NOT NULL,
    tests BIGINT NOT NULL,
    gaps JSONB NOT NULL,
    seconds FLOAT NOT NULL,
    PRIMARY KEY (drift_run_id)
);
CREATE INDEX drift_runs_by_site ON drift_runs (site, drift_run_id);
COMMENT ON TABLE drift_runs IS 'Comparisons of live windows with the reference of a model version.';
COMMENT ON COLUMN drift_runs.drift_run_id IS 'Internal number.';
COMMENT ON COLUMN drift_runs.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN drift_runs.model_version IS 'Whose reference was compared with.';
COMMENT ON COLUMN drift_runs.at IS 'When.';
COMMENT ON COLUMN drift_runs.arrived_after IS 'Recordings that came since are live.';
COMMENT ON COLUMN drift_runs.status IS 'compared, no_data, or no_reference (an older model).';
COMMENT ON COLUMN drift_runs.recordings IS 'Live recordings.';
COMMENT ON COLUMN drift_runs.windows IS 'Live windows looked at.';
COMMENT ON COLUMN drift_runs.tests IS 'Questions asked; findings account for all of them.';
COMMENT ON COLUMN drift_runs.gaps IS 'What could not be compared: reason to how often.';
COMMENT ON COLUMN drift_runs.seconds IS 'How long it took.';

CREATE TABLE drift_findings (
    drift_finding_id BIGINT GENERATED ALWAYS AS IDENTITY,
    drift_run_id BIGINT NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    model_version BIGINT NOT NULL,
    kind TEXT NOT NULL,
    drift TEXT NOT NULL,
    feature TEXT NOT NULL,
    lead TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    recording_id BIGINT,
    before FLOAT NOT NULL,
    after FLOAT NOT NULL,
    unit TEXT NOT NULL,
    effect FLOAT NOT NULL,
    p_value FLOAT NOT NULL,
    adjusted FLOAT NOT NULL,
    windows BIGINT NOT NULL,
    recordings BIGINT[] NOT NULL,
    devices TEXT[] NOT NULL,
    examples BIGINT[] NOT NULL,
    since TIMESTAMP WITH TIME ZONE,
    detail TEXT NOT NULL,
    PRIMARY KEY (drift_finding_id),
    FOREIGN KEY(drift_run_id) REFERENCES drift_runs (drift_run_id)
);
CREATE INDEX ix_drift_findings_drift_run_id ON drift_findings (drift_run_id);
COMMENT ON TABLE drift_findings IS 'What moved, by how much, and what makes it.';
COMMENT ON COLUMN drift_findings.drift_finding_id IS 'Internal number.';
COMMENT ON COLUMN drift_findings.drift_run_id IS 'Found by.';
COMMENT ON COLUMN drift_findings.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN drift_findings.model_version IS 'As of the run.';
COMMENT ON COLUMN drift_findings.kind IS 'gradual (against the reference) or sudden (at a moment).';
COMMENT ON COLUMN drift_findings.drift IS 'input, prediction, concept or skew.';
COMMENT ON COLUMN drift_findings.feature IS 'What moved.';
COMMENT ON COLUMN drift_findings.lead IS 'In which lead; '''' for features of the whole window.';
COMMENT ON COLUMN drift_findings.scope IS 'What moved together: site, device or recording.';
COMMENT ON COLUMN drift_findings.subject IS 'Its name.';
COMMENT ON COLUMN drift_findings.recording_id IS 'When the scope is a recording: the row goes with it. Else null.';
COMMENT ON COLUMN drift_findings.before IS 'Mean of the reference, or before the change.';
COMMENT ON COLUMN drift_findings.after IS 'Mean of live windows, or after the change.';
COMMENT ON COLUMN drift_findings.unit IS 'Of both; '''' for none.';
COMMENT ON COLUMN drift_findings.effect IS 'The difference in spreads of single windows.';
COMMENT ON COLUMN drift_findings.p_value IS 'Of this test alone.';
COMMENT ON COLUMN drift_findings.adjusted IS 'Over all tests of the run (Benjamini-Hochberg).';
COMMENT ON COLUMN drift_findings.windows IS 'Live windows the test saw.';
COMMENT ON COLUMN drift_findings.recordings IS 'recording_id, most telling first.';
COMMENT ON COLUMN drift_findings.devices IS 'Their devices.';
COMMENT ON COLUMN drift_findings.examples IS 'window_id, most telling first.';
COMMENT ON COLUMN drift_findings.since IS 'When it began; null: not known.';
COMMENT ON COLUMN drift_findings.detail IS 'In words.';

