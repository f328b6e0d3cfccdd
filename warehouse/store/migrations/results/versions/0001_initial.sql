CREATE TABLE anomalies (
    model_version BIGINT NOT NULL,
    window_id BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    recording TEXT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    r_peak_s FLOAT NOT NULL,
    score REAL NOT NULL,
    lead TEXT NOT NULL,
    label CHAR(1) NOT NULL,
    episode_id BIGINT,
    PRIMARY KEY (model_version, window_id)
);
CREATE INDEX anomalies_by_recording ON anomalies (model_version, recording, recorded_at, window_id);
CREATE INDEX anomalies_by_score ON anomalies (model_version, score, window_id);
CREATE INDEX anomalies_by_time ON anomalies (model_version, recorded_at, window_id);
COMMENT ON TABLE anomalies IS 'Windows with verdict true, ready to list.';
COMMENT ON COLUMN anomalies.model_version IS 'Scored with.';
COMMENT ON COLUMN anomalies.window_id IS 'warehouse.windows.window_id.';
COMMENT ON COLUMN anomalies.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN anomalies.recording IS 'Record name.';
COMMENT ON COLUMN anomalies.recorded_at IS 'Of the R peak.';
COMMENT ON COLUMN anomalies.r_peak_s IS 'Seconds from the recording''s start.';
COMMENT ON COLUMN anomalies.score IS 'As in scores.';
COMMENT ON COLUMN anomalies.lead IS 'Lead that contributes most; '''' when unknown.';
COMMENT ON COLUMN anomalies.label IS 'Reference class: N S V F Q; U unlabelled.';
COMMENT ON COLUMN anomalies.episode_id IS 'episodes.episode_id; null until the recording is summarised.';

CREATE TABLE episodes (
    model_version BIGINT NOT NULL,
    episode_id BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    recording TEXT NOT NULL,
    start_time TIMESTAMP WITH TIME ZONE NOT NULL,
    end_time TIMESTAMP WITH TIME ZONE NOT NULL,
    start_s FLOAT NOT NULL,
    end_s FLOAT NOT NULL,
    peak_score REAL NOT NULL,
    n_beats INTEGER NOT NULL,
    label TEXT,
    PRIMARY KEY (model_version, episode_id)
);
CREATE INDEX ix_episodes_recording_id ON episodes (recording_id);
COMMENT ON TABLE episodes IS 'Consecutive anomalous beats of a recording.';
COMMENT ON COLUMN episodes.model_version IS 'Scored with.';
COMMENT ON COLUMN episodes.episode_id IS 'window_id of its first beat.';
COMMENT ON COLUMN episodes.recording_id IS 'In.';
COMMENT ON COLUMN episodes.recording IS 'Record name.';
COMMENT ON COLUMN episodes.start_time IS 'First R peak.';
COMMENT ON COLUMN episodes.end_time IS 'Last R peak.';
COMMENT ON COLUMN episodes.start_s IS 'First R peak, seconds from the recording''s start.';
COMMENT ON COLUMN episodes.end_s IS 'Last R peak, likewise.';
COMMENT ON COLUMN episodes.peak_score IS 'Highest score in it.';
COMMENT ON COLUMN episodes.n_beats IS 'Anomalous beats in it.';
COMMENT ON COLUMN episodes.label IS 'Set once reviewed.';

CREATE TABLE model_versions (
    model_version BIGSERIAL NOT NULL,
    model_name TEXT NOT NULL,
    feature_version TEXT NOT NULL,
    feature_spec JSONB NOT NULL,
    threshold FLOAT NOT NULL,
    digest TEXT NOT NULL,
    data_span INTEGER NOT NULL,
    run_key TEXT NOT NULL,
    card JSONB NOT NULL,
    registered_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (model_version)
);
COMMENT ON TABLE model_versions IS 'Pushed models.';
COMMENT ON COLUMN model_versions.model_version IS 'The Pusher''s directory name.';
COMMENT ON COLUMN model_versions.model_name IS 'Served name.';
COMMENT ON COLUMN model_versions.feature_version IS 'Geometry it takes.';
COMMENT ON COLUMN model_versions.feature_spec IS 'That geometry, whole.';
COMMENT ON COLUMN model_versions.threshold IS 'Score at and above which a beat is anomalous.';
COMMENT ON COLUMN model_versions.digest IS 'sha256 of the SavedModel''s files.';
COMMENT ON COLUMN model_versions.data_span IS 'warehouse.data_spans.span.';
COMMENT ON COLUMN model_versions.run_key IS 'training_runs.run_key.';
COMMENT ON COLUMN model_versions.card IS 'Model card: lineage, configuration, metrics, limits.';
COMMENT ON COLUMN model_versions.registered_at IS 'When pushed.';

CREATE TABLE recording_summaries (
    model_version BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    window_set_id BIGINT NOT NULL,
    recording TEXT NOT NULL,
    beats BIGINT NOT NULL,
    scored BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    unusable BIGINT NOT NULL,
    anomalous BIGINT NOT NULL,
    episodes BIGINT NOT NULL,
    burden_percent FLOAT NOT NULL,
    analysable_s FLOAT NOT NULL,
    duration_s FLOAT NOT NULL,
    mean_heart_rate_bpm FLOAT,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (model_version, recording_id)
);
COMMENT ON TABLE recording_summaries IS 'One row a recording and model version.';
COMMENT ON COLUMN recording_summaries.model_version IS 'Scored with.';
COMMENT ON COLUMN recording_summaries.recording_id IS 'Of.';
COMMENT ON COLUMN recording_summaries.window_set_id IS 'warehouse.window_sets.window_set_id.';
COMMENT ON COLUMN recording_summaries.recording IS 'Record name.';
COMMENT ON COLUMN recording_summaries.beats IS 'Windows and rejected beats.';
COMMENT ON COLUMN recording_summaries.scored IS 'Windows with a score.';
COMMENT ON COLUMN recording_summaries.failed IS 'Windows in score_failures.';
COMMENT ON COLUMN recording_summaries.unusable IS 'Rejected beats.';
COMMENT ON COLUMN recording_summaries.anomalous IS 'Scored windows with verdict true.';
COMMENT ON COLUMN recording_summaries.episodes IS 'Episodes.';
COMMENT ON COLUMN recording_summaries.burden_percent IS 'anomalous / scored * 100.';
COMMENT ON COLUMN recording_summaries.analysable_s IS 'Seconds that windows account for.';
COMMENT ON COLUMN recording_summaries.duration_s IS 'Length of the recording.';
COMMENT ON COLUMN recording_summaries.mean_heart_rate_bpm IS 'From the known RR intervals; null when none.';
COMMENT ON COLUMN recording_summaries.updated_at IS 'When.';

CREATE TABLE score_failures (
    model_version BIGINT NOT NULL,
    window_id BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (model_version, window_id)
);
COMMENT ON TABLE score_failures IS 'Windows the model could not score (dead letters of scoring). They are tried again with --retry-failed.';
COMMENT ON COLUMN score_failures.model_version IS 'Tried with.';
COMMENT ON COLUMN score_failures.window_id IS 'warehouse.windows.window_id.';
COMMENT ON COLUMN score_failures.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN score_failures.created_at IS 'When.';
COMMENT ON COLUMN score_failures.reason IS 'What was wrong with the window or its score.';

CREATE TABLE scores (
    model_version BIGINT NOT NULL,
    window_id BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    score REAL NOT NULL,
    verdict BOOLEAN NOT NULL,
    lead_slot SMALLINT NOT NULL,
    PRIMARY KEY (model_version, window_id)
);
COMMENT ON TABLE scores IS 'Exactly one row a window and model version.';
COMMENT ON COLUMN scores.model_version IS 'Scored with.';
COMMENT ON COLUMN scores.window_id IS 'warehouse.windows.window_id.';
COMMENT ON COLUMN scores.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN scores.recorded_at IS 'Of the R peak.';
COMMENT ON COLUMN scores.score IS '-log10 of the share of normal beats that score as high.';
COMMENT ON COLUMN scores.verdict IS 'score >= the model''s threshold.';
COMMENT ON COLUMN scores.lead_slot IS 'Slot of the lead that contributes most.';

CREATE TABLE training_runs (
    run_id BIGINT GENERATED ALWAYS AS IDENTITY,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    status TEXT NOT NULL,
    run_key TEXT NOT NULL,
    data_span INTEGER NOT NULL,
    config JSONB NOT NULL,
    code_revision TEXT NOT NULL,
    metrics JSONB,
    artifacts JSONB,
    seconds JSONB,
    model_version BIGINT,
    error TEXT,
    PRIMARY KEY (run_id)
);
COMMENT ON TABLE training_runs IS 'Experiment tracking: one row a run of pipelines.train.';
COMMENT ON COLUMN training_runs.run_id IS 'Internal number.';
COMMENT ON COLUMN training_runs.started_at IS 'Start.';
COMMENT ON COLUMN training_runs.finished_at IS 'End; null: running, or killed.';
COMMENT ON COLUMN training_runs.status IS 'running, pushed, blessed, not_blessed, data_invalid or failed.';
COMMENT ON COLUMN training_runs.run_key IS 'Of data, code and configuration: same key, same model.';
COMMENT ON COLUMN training_runs.data_span IS 'warehouse.data_spans.span.';
COMMENT ON COLUMN training_runs.config IS 'Training and evaluation settings, feature version.';
COMMENT ON COLUMN training_runs.code_revision IS 'Digest of the code; git revision where there is one.';
COMMENT ON COLUMN training_runs.metrics IS 'Evaluator''s overall metrics.';
COMMENT ON COLUMN training_runs.artifacts IS 'Stage outputs: artifact type to path.';
COMMENT ON COLUMN training_runs.seconds IS 'Wall time a stage.';
COMMENT ON COLUMN training_runs.model_version IS 'What was pushed.';
COMMENT ON COLUMN training_runs.error IS 'Why it was not.';

CREATE TABLE scoring_runs (
    run_id BIGINT GENERATED ALWAYS AS IDENTITY,
    model_version BIGINT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    status TEXT NOT NULL,
    windows_in BIGINT NOT NULL,
    scored BIGINT DEFAULT '0' NOT NULL,
    failed BIGINT DEFAULT '0' NOT NULL,
    unusable BIGINT NOT NULL,
    seconds FLOAT,
    error TEXT,
    PRIMARY KEY (run_id),
    FOREIGN KEY(model_version) REFERENCES model_versions (model_version)
);
COMMENT ON TABLE scoring_runs IS 'One row a run of pipelines.score.';
COMMENT ON COLUMN scoring_runs.run_id IS 'Internal number.';
COMMENT ON COLUMN scoring_runs.model_version IS 'Scored with.';
COMMENT ON COLUMN scoring_runs.started_at IS 'Start.';
COMMENT ON COLUMN scoring_runs.finished_at IS 'End; null: running, or killed.';
COMMENT ON COLUMN scoring_runs.status IS 'running, succeeded or failed.';
COMMENT ON COLUMN scoring_runs.windows_in IS 'Windows without a score at the start.';
COMMENT ON COLUMN scoring_runs.scored IS 'Of those, scored by this run.';
COMMENT ON COLUMN scoring_runs.failed IS 'Of those, in score_failures.';
COMMENT ON COLUMN scoring_runs.unusable IS 'Beats without a window, of the recordings covered.';
COMMENT ON COLUMN scoring_runs.seconds IS 'Wall time.';
COMMENT ON COLUMN scoring_runs.error IS 'Why it failed.';
