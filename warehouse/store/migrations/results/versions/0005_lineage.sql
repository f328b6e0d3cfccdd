ALTER TABLE model_versions ADD COLUMN datasheet JSONB;
COMMENT ON COLUMN model_versions.datasheet IS 'Data sheet of its data span; null: made by an older version.';

CREATE TABLE model_recordings (
    model_version BIGINT NOT NULL,
    window_set_id BIGINT NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    pseudonym TEXT NOT NULL,
    recording_id BIGINT NOT NULL,
    recording TEXT NOT NULL,
    checksum TEXT NOT NULL,
    split TEXT NOT NULL,
    n_windows BIGINT NOT NULL,
    PRIMARY KEY (model_version, window_set_id),
    FOREIGN KEY(model_version) REFERENCES model_versions (model_version)
);
CREATE INDEX model_recordings_by_patient ON model_recordings (site, pseudonym);
CREATE INDEX model_recordings_by_recording ON model_recordings (recording_id);
COMMENT ON TABLE model_recordings IS 'Which recordings, and so which patients, a model version was made from. Written when it is registered.';
COMMENT ON COLUMN model_recordings.model_version IS 'Made from it.';
COMMENT ON COLUMN model_recordings.window_set_id IS 'warehouse.window_sets.window_set_id.';
COMMENT ON COLUMN model_recordings.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN model_recordings.pseudonym IS 'warehouse.patients.pseudonym.';
COMMENT ON COLUMN model_recordings.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN model_recordings.recording IS 'Record name.';
COMMENT ON COLUMN model_recordings.checksum IS 'warehouse.recordings.checksum.';
COMMENT ON COLUMN model_recordings.split IS 'train, calibration or test.';
COMMENT ON COLUMN model_recordings.n_windows IS 'Windows of it that the run read.';

