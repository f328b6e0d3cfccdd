-- Sites: what was there before belongs to the site 'main'.
ALTER TABLE patients ADD COLUMN site TEXT DEFAULT 'main' NOT NULL;
COMMENT ON COLUMN patients.site IS 'Hospital or tenant; others never see it.';
ALTER TABLE patients DROP CONSTRAINT patients_pseudonym_key;
ALTER TABLE patients ADD CONSTRAINT patients_site_pseudonym UNIQUE (site, pseudonym);
ALTER TABLE recordings ADD COLUMN site TEXT DEFAULT 'main' NOT NULL;
COMMENT ON COLUMN recordings.site IS 'Hospital or tenant; others never see it.';
ALTER TABLE recordings DROP CONSTRAINT recordings_source_version;
ALTER TABLE recordings ADD CONSTRAINT recordings_source_version UNIQUE (site, source_key, version);
ALTER TABLE recordings DROP CONSTRAINT recordings_checksum;
ALTER TABLE recordings ADD CONSTRAINT recordings_checksum UNIQUE (site, checksum);

CREATE TABLE signal_chunks (
    window_set_id BIGINT NOT NULL,
    first_sample BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    envelope BYTEA NOT NULL,
    samples BYTEA NOT NULL,
    PRIMARY KEY (window_set_id, first_sample, recorded_at)
)
 PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE signal_chunks IS 'The signal without gaps, a minute a row, usable or not: strips are drawn from it. Partitioned as windows.';
COMMENT ON COLUMN signal_chunks.window_set_id IS 'window_sets.window_set_id: rate and leads.';
COMMENT ON COLUMN signal_chunks.first_sample IS 'Of the recording, at the windows'' rate.';
COMMENT ON COLUMN signal_chunks.recorded_at IS 'Its start; partition key.';
COMMENT ON COLUMN signal_chunks.envelope IS 'Least and greatest of each second: int16 little-endian (seconds, leads, 2), as samples.';
COMMENT ON COLUMN signal_chunks.samples IS 'int16 little-endian (samples, leads in use), microvolts, band-passed; -32768: no sample.';
ALTER TABLE signal_chunks ALTER COLUMN samples SET STORAGE EXTERNAL;

CREATE TABLE labels (
    label_id BIGINT GENERATED ALWAYS AS IDENTITY,
    window_id BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    source TEXT NOT NULL,
    aami_class CHAR(1),
    artefact BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (label_id),
    CONSTRAINT labels_window_revision UNIQUE (window_id, revision)
);
COMMENT ON TABLE labels IS 'What reviewers said of beats. Rows are only added: the newest of a window counts.';
COMMENT ON COLUMN labels.label_id IS 'Internal number; a training run says up to which it read.';
COMMENT ON COLUMN labels.window_id IS 'windows.window_id.';
COMMENT ON COLUMN labels.revision IS 'results.review_states.revision it came from.';
COMMENT ON COLUMN labels.source IS 'reviewer.';
COMMENT ON COLUMN labels.aami_class IS 'N S V F Q; null: withdrawn, or an artefact.';
COMMENT ON COLUMN labels.artefact IS 'No beat at all.';
COMMENT ON COLUMN labels.created_at IS 'When.';

CREATE TABLE uploads (
    upload_id TEXT NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    created_by TEXT NOT NULL,
    idempotency_key TEXT,
    digest TEXT NOT NULL,
    files TEXT[] NOT NULL,
    bytes BIGINT NOT NULL,
    patients TEXT[],
    status TEXT NOT NULL,
    problem TEXT,
    recordings JSONB,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (upload_id),
    CONSTRAINT uploads_idempotency UNIQUE (site, created_by, idempotency_key)
);
COMMENT ON TABLE uploads IS 'Recordings posted to the API, and what became of them.';
COMMENT ON COLUMN uploads.upload_id IS 'Random, 32 hex digits.';
COMMENT ON COLUMN uploads.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN uploads.created_by IS 'Who posted it.';
COMMENT ON COLUMN uploads.idempotency_key IS 'The caller''s own; null: none was sent.';
COMMENT ON COLUMN uploads.digest IS 'sha256 of what was posted.';
COMMENT ON COLUMN uploads.files IS 'Names of the files.';
COMMENT ON COLUMN uploads.bytes IS 'All of them together.';
COMMENT ON COLUMN uploads.patients IS 'The only pseudonyms allowed in it; null: any.';
COMMENT ON COLUMN uploads.status IS 'waiting, ingesting, done or failed.';
COMMENT ON COLUMN uploads.problem IS 'Why it failed, and what to do.';
COMMENT ON COLUMN uploads.recordings IS 'Once done: recording_id and name of each.';
COMMENT ON COLUMN uploads.created_at IS 'When posted.';
COMMENT ON COLUMN uploads.finished_at IS 'When done or failed.';
