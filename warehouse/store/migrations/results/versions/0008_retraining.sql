CREATE TABLE retrainings (
    retraining_id BIGINT GENERATED ALWAYS AS IDENTITY,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    status TEXT NOT NULL,
    triggers JSONB NOT NULL,
    champion BIGINT NOT NULL,
    model_version BIGINT,
    reason TEXT,
    PRIMARY KEY (retraining_id)
);
CREATE INDEX retrainings_by_status ON retrainings (status, retraining_id);
COMMENT ON TABLE retrainings IS 'One row an attempt to train a successor, and what came of it (pipelines.retrain).';
COMMENT ON COLUMN retrainings.retraining_id IS 'Internal number.';
COMMENT ON COLUMN retrainings.started_at IS 'Start.';
COMMENT ON COLUMN retrainings.finished_at IS 'End; null: running, or killed.';
COMMENT ON COLUMN retrainings.status IS 'running, held, data_refused, unchanged, not_blessed, not_better, in_shadow or failed.';
COMMENT ON COLUMN retrainings.triggers IS 'Why: trigger, reason and numbers of each.';
COMMENT ON COLUMN retrainings.champion IS 'Stable version then; what it is compared with.';
COMMENT ON COLUMN retrainings.model_version IS 'What was trained and pushed; null: nothing.';
COMMENT ON COLUMN retrainings.reason IS 'Why it ended so.';

CREATE TABLE retraining_steps (
    retraining_id BIGINT NOT NULL,
    ordinal INTEGER NOT NULL,
    at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    step TEXT NOT NULL,
    passed BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    numbers JSONB NOT NULL,
    PRIMARY KEY (retraining_id, ordinal),
    FOREIGN KEY(retraining_id) REFERENCES retrainings (retraining_id)
);
COMMENT ON TABLE retraining_steps IS 'Steps of an attempt, as far as it got. Rows are only added.';
COMMENT ON COLUMN retraining_steps.retraining_id IS 'Of.';
COMMENT ON COLUMN retraining_steps.ordinal IS '1, 2, ... in order.';
COMMENT ON COLUMN retraining_steps.at IS 'When it ended.';
COMMENT ON COLUMN retraining_steps.step IS 'policy, data, train, evaluate or release.';
COMMENT ON COLUMN retraining_steps.passed IS 'Whether the attempt goes on.';
COMMENT ON COLUMN retraining_steps.reason IS 'Why.';
COMMENT ON COLUMN retraining_steps.numbers IS 'What that was based on.';

CREATE TABLE retraining_requests (
    request_id BIGINT GENERATED ALWAYS AS IDENTITY,
    requested_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    requested_by TEXT NOT NULL,
    source TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail JSONB NOT NULL,
    retraining_id BIGINT,
    PRIMARY KEY (request_id)
);
CREATE UNIQUE INDEX retraining_requests_open ON retraining_requests (fingerprint) WHERE retraining_id IS NULL;
COMMENT ON TABLE retraining_requests IS 'Alerts that asked for a new version; the next run of pipelines.retrain takes them up.';
COMMENT ON COLUMN retraining_requests.request_id IS 'Internal number.';
COMMENT ON COLUMN retraining_requests.requested_at IS 'When first.';
COMMENT ON COLUMN retraining_requests.requested_by IS 'Who, as signed in.';
COMMENT ON COLUMN retraining_requests.source IS 'alertmanager.';
COMMENT ON COLUMN retraining_requests.fingerprint IS 'The alert group''s key: one open request each.';
COMMENT ON COLUMN retraining_requests.reason IS 'In words.';
COMMENT ON COLUMN retraining_requests.detail IS 'Labels and annotations of the alerts.';
COMMENT ON COLUMN retraining_requests.retraining_id IS 'Attempt that took it up; null: open.';

