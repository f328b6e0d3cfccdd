CREATE TABLE feature_versions (
    feature_version TEXT NOT NULL,
    name TEXT NOT NULL,
    spec JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (feature_version)
);
COMMENT ON TABLE feature_versions IS 'How windows were cut: rate, window, filter, lead slots, context.';
COMMENT ON COLUMN feature_versions.feature_version IS 'Digest of the geometry.';
COMMENT ON COLUMN feature_versions.name IS 'What people call the geometry.';
COMMENT ON COLUMN feature_versions.spec IS 'The whole geometry (configs.contract.FeatureSpec).';
COMMENT ON COLUMN feature_versions.created_at IS 'First use.';

CREATE TABLE patients (
    patient_id BIGINT GENERATED ALWAYS AS IDENTITY,
    pseudonym TEXT NOT NULL,
    sex TEXT NOT NULL,
    age_band TEXT NOT NULL,
    split TEXT NOT NULL,
    first_seen TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (patient_id),
    CONSTRAINT patients_split_known CHECK (split IN ('train', 'calibration', 'test')),
    UNIQUE (pseudonym)
);
COMMENT ON TABLE patients IS 'Pseudonyms only; direct identifiers never enter.';
COMMENT ON COLUMN patients.patient_id IS 'Internal number.';
COMMENT ON COLUMN patients.pseudonym IS 'Keyed HMAC of the source''s patient id, hex.';
COMMENT ON COLUMN patients.sex IS 'female, male or unknown.';
COMMENT ON COLUMN patients.age_band IS '0-17, 18-39, 40-64, 65-79, 80+ or unknown.';
COMMENT ON COLUMN patients.split IS 'train, calibration or test: fixed when first seen.';
COMMENT ON COLUMN patients.first_seen IS 'First ingest.';

CREATE TABLE windows (
    window_id BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    r_peak_s FLOAT NOT NULL,
    samples BYTEA NOT NULL,
    lead_mask SMALLINT NOT NULL,
    rr_prev_s REAL NOT NULL,
    rr_next_s REAL NOT NULL,
    rr_median_s REAL NOT NULL,
    rr_p90_s REAL NOT NULL,
    template BYTEA NOT NULL,
    template_beats SMALLINT NOT NULL,
    quality REAL NOT NULL,
    symbol CHAR(4) NOT NULL,
    aami_class CHAR(1) NOT NULL,
    label_source CHAR(9) NOT NULL,
    PRIMARY KEY (window_id, recorded_at)
)
 PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE windows IS 'One row a beat. Partitioned by month: old data is dropped a partition at a time. Split: the patient''s.';
COMMENT ON COLUMN windows.window_id IS 'window_set_id * 2^24 + beat index.';
COMMENT ON COLUMN windows.recorded_at IS 'Of the R peak; partition key.';
COMMENT ON COLUMN windows.r_peak_s IS 'R peak, seconds from the recording''s start.';
COMMENT ON COLUMN windows.samples IS 'int16 little-endian (samples, slots), microvolts.';
COMMENT ON COLUMN windows.lead_mask IS 'Bit i: slot i is there and usable.';
COMMENT ON COLUMN windows.rr_prev_s IS 'RR before, seconds; 0 unknown.';
COMMENT ON COLUMN windows.rr_next_s IS 'RR after, seconds; 0 unknown.';
COMMENT ON COLUMN windows.rr_median_s IS 'Median of the RRs before rr_prev_s; 0 unknown.';
COMMENT ON COLUMN windows.rr_p90_s IS '90th percentile of the RRs before; 0 unknown.';
COMMENT ON COLUMN windows.template IS 'Running template, as samples; zeros when none.';
COMMENT ON COLUMN windows.template_beats IS 'Beats in the template; 0: none yet.';
COMMENT ON COLUMN windows.quality IS '0 worst to 1 best.';
COMMENT ON COLUMN windows.symbol IS 'Annotation symbol; blank when unlabelled.';
COMMENT ON COLUMN windows.aami_class IS 'N S V F Q; U unlabelled.';
COMMENT ON COLUMN windows.label_source IS 'reference, simulator, reviewer or none.';

CREATE TABLE data_spans (
    span INTEGER GENERATED ALWAYS AS IDENTITY,
    digest TEXT NOT NULL,
    feature_version TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    n_windows BIGINT NOT NULL,
    content JSONB NOT NULL,
    PRIMARY KEY (span),
    UNIQUE (digest),
    FOREIGN KEY(feature_version) REFERENCES feature_versions (feature_version)
);
COMMENT ON TABLE data_spans IS 'What a training run saw, exactly.';
COMMENT ON COLUMN data_spans.span IS 'TFX''s span number.';
COMMENT ON COLUMN data_spans.digest IS 'Of everything below: same data, same span.';
COMMENT ON COLUMN data_spans.feature_version IS 'In.';
COMMENT ON COLUMN data_spans.created_at IS 'First use.';
COMMENT ON COLUMN data_spans.n_windows IS 'All splits together.';
COMMENT ON COLUMN data_spans.content IS 'Per recording: window_set_id, split, n_windows, labels.';

CREATE TABLE recordings (
    recording_id BIGINT GENERATED ALWAYS AS IDENTITY,
    patient_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    source_format TEXT NOT NULL,
    source_key TEXT NOT NULL,
    version INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    superseded_by BIGINT,
    device TEXT NOT NULL,
    start_time TIMESTAMP WITH TIME ZONE NOT NULL,
    start_time_known BOOLEAN NOT NULL,
    sampling_rate_hz FLOAT NOT NULL,
    leads TEXT[] NOT NULL,
    duration_s FLOAT NOT NULL,
    annotated BOOLEAN NOT NULL,
    simulated BOOLEAN NOT NULL,
    ingested_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (recording_id),
    CONSTRAINT recordings_source_version UNIQUE (source_key, version),
    CONSTRAINT recordings_checksum UNIQUE (checksum),
    FOREIGN KEY(patient_id) REFERENCES patients (patient_id),
    FOREIGN KEY(superseded_by) REFERENCES recordings (recording_id)
);
CREATE INDEX ix_recordings_name ON recordings (name);
CREATE INDEX ix_recordings_patient_id ON recordings (patient_id);
COMMENT ON TABLE recordings IS 'One row a version of a recording; a row exists only when all of it is in.';
COMMENT ON COLUMN recordings.recording_id IS 'Internal number.';
COMMENT ON COLUMN recordings.patient_id IS 'Whose it is.';
COMMENT ON COLUMN recordings.name IS 'Record name, as in the file.';
COMMENT ON COLUMN recordings.source_format IS 'wfdb, edf, csv, ucr or simulated.';
COMMENT ON COLUMN recordings.source_key IS 'sha256 of where it was read from: versions share it.';
COMMENT ON COLUMN recordings.version IS '1, 2, ... of the same source.';
COMMENT ON COLUMN recordings.checksum IS 'sha256 of everything it was read from.';
COMMENT ON COLUMN recordings.superseded_by IS 'The next version; null: current.';
COMMENT ON COLUMN recordings.device IS 'Device as the source says, or empty.';
COMMENT ON COLUMN recordings.start_time IS 'Start; the ingest''s when unknown.';
COMMENT ON COLUMN recordings.start_time_known IS 'False: start_time is the time of ingest.';
COMMENT ON COLUMN recordings.sampling_rate_hz IS 'Of the source, in hertz.';
COMMENT ON COLUMN recordings.leads IS 'Lead names of the source, in order.';
COMMENT ON COLUMN recordings.duration_s IS 'Length in seconds.';
COMMENT ON COLUMN recordings.annotated IS 'Reference beat annotations were read.';
COMMENT ON COLUMN recordings.simulated IS 'Made by the simulator.';
COMMENT ON COLUMN recordings.ingested_at IS 'When committed.';

CREATE TABLE window_sets (
    window_set_id BIGINT GENERATED ALWAYS AS IDENTITY,
    recording_id BIGINT NOT NULL,
    feature_version TEXT NOT NULL,
    lead_slots TEXT[] NOT NULL,
    r_peak_source TEXT NOT NULL,
    n_windows BIGINT NOT NULL,
    n_rejected BIGINT NOT NULL,
    windowed_s FLOAT NOT NULL,
    unusable_s FLOAT NOT NULL,
    suspect_inverted TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (window_set_id),
    CONSTRAINT window_sets_recording_feature UNIQUE (recording_id, feature_version),
    FOREIGN KEY(recording_id) REFERENCES recordings (recording_id),
    FOREIGN KEY(feature_version) REFERENCES feature_versions (feature_version)
);
COMMENT ON TABLE window_sets IS 'The windows of one recording in one geometry.';
COMMENT ON COLUMN window_sets.window_set_id IS 'Upper bits of its windows'' ids.';
COMMENT ON COLUMN window_sets.recording_id IS 'Cut from.';
COMMENT ON COLUMN window_sets.feature_version IS 'Cut with.';
COMMENT ON COLUMN window_sets.lead_slots IS 'Lead in each model input slot; '''' for none.';
COMMENT ON COLUMN window_sets.r_peak_source IS 'annotations, precut, or the detector''s name.';
COMMENT ON COLUMN window_sets.n_windows IS 'Usable windows.';
COMMENT ON COLUMN window_sets.n_rejected IS 'Beats in dead_letters.';
COMMENT ON COLUMN window_sets.windowed_s IS 'Seconds that windows account for.';
COMMENT ON COLUMN window_sets.unusable_s IS 'Seconds in unusable_spans of all leads; sum: duration.';
COMMENT ON COLUMN window_sets.suspect_inverted IS 'Leads that look upside down.';
COMMENT ON COLUMN window_sets.created_at IS 'When committed.';

CREATE TABLE dead_letters (
    dead_letter_id BIGINT GENERATED ALWAYS AS IDENTITY,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    window_set_id BIGINT,
    beat_index BIGINT,
    r_peak_s FLOAT,
    symbol TEXT,
    source TEXT,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (dead_letter_id),
    FOREIGN KEY(window_set_id) REFERENCES window_sets (window_set_id)
);
CREATE INDEX ix_dead_letters_window_set_id ON dead_letters (window_set_id);
COMMENT ON TABLE dead_letters IS 'Beats and files that gave no window, and why. Nothing is dropped in silence.';
COMMENT ON COLUMN dead_letters.dead_letter_id IS 'Internal number.';
COMMENT ON COLUMN dead_letters.created_at IS 'When.';
COMMENT ON COLUMN dead_letters.window_set_id IS 'For a beat.';
COMMENT ON COLUMN dead_letters.beat_index IS 'For a beat: counts all beats of the recording.';
COMMENT ON COLUMN dead_letters.r_peak_s IS 'For a beat: from the recording''s start.';
COMMENT ON COLUMN dead_letters.symbol IS 'For a beat: its annotation symbol.';
COMMENT ON COLUMN dead_letters.source IS 'For a whole file that could not be read: its name.';
COMMENT ON COLUMN dead_letters.reason IS 'warehouse.signal.ecg.Reason, or source for a file.';
COMMENT ON COLUMN dead_letters.detail IS 'What exactly.';

CREATE TABLE unusable_spans (
    window_set_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    start_s FLOAT NOT NULL,
    end_s FLOAT NOT NULL,
    lead TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (window_set_id, ordinal),
    FOREIGN KEY(window_set_id) REFERENCES window_sets (window_set_id)
);
COMMENT ON TABLE unusable_spans IS 'Time that no window covers, and why; and single leads that could not be used.';
COMMENT ON COLUMN unusable_spans.window_set_id IS 'Of.';
COMMENT ON COLUMN unusable_spans.ordinal IS '0, 1, ... in time order.';
COMMENT ON COLUMN unusable_spans.start_s IS 'From the recording''s start.';
COMMENT ON COLUMN unusable_spans.end_s IS 'Exclusive.';
COMMENT ON COLUMN unusable_spans.lead IS 'Null: no window covers this time. Else only this lead is unusable.';
COMMENT ON COLUMN unusable_spans.reason IS 'warehouse.signal.ecg.Reason.';
