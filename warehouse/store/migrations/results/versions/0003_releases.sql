CREATE TABLE releases (
    release_id BIGINT GENERATED ALWAYS AS IDENTITY,
    follows BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    operator TEXT NOT NULL,
    action TEXT NOT NULL,
    model_version BIGINT,
    reason TEXT NOT NULL,
    numbers JSONB,
    stable BIGINT NOT NULL,
    previous BIGINT,
    canary BIGINT,
    canary_percent FLOAT,
    shadow BIGINT,
    PRIMARY KEY (release_id),
    UNIQUE (follows)
);
COMMENT ON TABLE releases IS 'Which model version serves what, since when, by whom and why: a log that only grows.';
COMMENT ON COLUMN releases.release_id IS 'Internal number; the last row is the state.';
COMMENT ON COLUMN releases.follows IS 'The release before it; 0 for the first.';
COMMENT ON COLUMN releases.at IS 'When.';
COMMENT ON COLUMN releases.operator IS 'Who.';
COMMENT ON COLUMN releases.action IS 'promote, rollback, shadow, canary, stop, prune, or hold (decided not to).';
COMMENT ON COLUMN releases.model_version IS 'What it was about.';
COMMENT ON COLUMN releases.reason IS 'Why.';
COMMENT ON COLUMN releases.numbers IS 'What an automatic decision was based on.';
COMMENT ON COLUMN releases.stable IS 'Since then: serves recordings that are not the canary''s.';
COMMENT ON COLUMN releases.previous IS 'Since then: what a rollback returns to.';
COMMENT ON COLUMN releases.canary IS 'Since then: serves a share of the recordings.';
COMMENT ON COLUMN releases.canary_percent IS 'That share, by hash of the recording''s name.';
COMMENT ON COLUMN releases.shadow IS 'Since then: scores all recordings, into shadow_scores.';

CREATE TABLE shadow_scores (
    model_version BIGINT NOT NULL,
    window_id BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    score REAL NOT NULL,
    verdict BOOLEAN NOT NULL,
    lead_slot SMALLINT NOT NULL,
    PRIMARY KEY (model_version, window_id)
);
COMMENT ON TABLE shadow_scores IS 'What a version in shadow says: compared, adopted when it is promoted, never shown as a verdict.';
COMMENT ON COLUMN shadow_scores.model_version IS 'Scored with.';
COMMENT ON COLUMN shadow_scores.window_id IS 'warehouse.windows.window_id.';
COMMENT ON COLUMN shadow_scores.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN shadow_scores.recorded_at IS 'Of the R peak.';
COMMENT ON COLUMN shadow_scores.score IS '-log10 of the share of normal beats that score as high.';
COMMENT ON COLUMN shadow_scores.verdict IS 'score >= the model''s threshold.';
COMMENT ON COLUMN shadow_scores.lead_slot IS 'Slot of the lead that contributes most.';

CREATE TABLE scoring_work (
    model_version BIGINT NOT NULL,
    shadow BOOLEAN NOT NULL,
    first_id BIGINT NOT NULL,
    stop_id BIGINT NOT NULL,
    window_set_id BIGINT NOT NULL,
    holder INTEGER,
    PRIMARY KEY (model_version, shadow, first_id)
);
CREATE INDEX ix_scoring_work_window_set_id ON scoring_work (window_set_id);
COMMENT ON TABLE scoring_work IS 'Blocks of windows to score. A row goes with the commit of its scores.';
COMMENT ON COLUMN scoring_work.model_version IS 'To score with.';
COMMENT ON COLUMN scoring_work.shadow IS 'Into shadow_scores.';
COMMENT ON COLUMN scoring_work.first_id IS 'First window_id of the block.';
COMMENT ON COLUMN scoring_work.stop_id IS 'First window_id after it.';
COMMENT ON COLUMN scoring_work.window_set_id IS 'warehouse.window_sets.window_set_id.';
COMMENT ON COLUMN scoring_work.holder IS 'Who scores it: the number of an advisory lock that lives as long as they.';

ALTER TABLE scoring_runs ADD COLUMN model_seconds FLOAT DEFAULT '0' NOT NULL;
COMMENT ON COLUMN scoring_runs.model_seconds IS 'In calls of the model.';
ALTER TABLE scoring_runs ADD COLUMN shadow BOOLEAN DEFAULT false NOT NULL;
COMMENT ON COLUMN scoring_runs.shadow IS 'Into shadow_scores.';
COMMENT ON TABLE scoring_runs IS 'One row a run of pipelines.score and model version.';

-- Until now the newest version served.
INSERT INTO releases (follows, operator, action, model_version, reason, stable)
SELECT 0, 'platform', 'promote', max(model_version), 'newest version before there were releases', max(model_version)
FROM model_versions HAVING max(model_version) IS NOT NULL;
