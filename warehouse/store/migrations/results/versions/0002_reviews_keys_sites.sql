-- Sites: what was there before belongs to the site 'main'.
ALTER TABLE anomalies ADD COLUMN site TEXT DEFAULT 'main' NOT NULL;
COMMENT ON COLUMN anomalies.site IS 'Hospital or tenant; others never see it.';
ALTER TABLE anomalies ADD COLUMN quality REAL;
COMMENT ON COLUMN anomalies.quality IS 'Signal quality, 0 worst to 1 best; null: unknown.';
ALTER TABLE anomalies ADD COLUMN familiarity REAL;
COMMENT ON COLUMN anomalies.familiarity IS 'Likeness to the patient''s own typical beat, 0 to 1; null: unknown.';
ALTER TABLE episodes ADD COLUMN site TEXT DEFAULT 'main' NOT NULL;
COMMENT ON COLUMN episodes.site IS 'Hospital or tenant; others never see it.';
ALTER TABLE recording_summaries ADD COLUMN site TEXT DEFAULT 'main' NOT NULL;
COMMENT ON COLUMN recording_summaries.site IS 'Hospital or tenant; others never see it.';
ALTER TABLE recording_summaries ADD COLUMN device TEXT DEFAULT '' NOT NULL;
COMMENT ON COLUMN recording_summaries.device IS 'Of the recording, or empty.';
ALTER TABLE recording_summaries ADD COLUMN score_histogram INTEGER[];
COMMENT ON COLUMN recording_summaries.score_histogram IS 'Scores a bin of 0.01 from 0 on, the last bin takes all above; null: made by an older version.';

DROP INDEX anomalies_by_time, anomalies_by_score, anomalies_by_recording;
CREATE INDEX anomalies_by_recording ON anomalies (model_version, site, recording, recorded_at, window_id);
CREATE INDEX anomalies_by_score ON anomalies (model_version, site, score, window_id);
CREATE INDEX anomalies_by_time ON anomalies (model_version, site, recorded_at, window_id);
CREATE INDEX episodes_by_score ON episodes (model_version, site, peak_score, episode_id);
CREATE INDEX episodes_by_time ON episodes (model_version, site, start_time, episode_id);
CREATE INDEX recording_summaries_by_site ON recording_summaries (model_version, site);

CREATE TABLE reviews (
    review_id BIGINT GENERATED ALWAYS AS IDENTITY,
    batch_id BIGINT NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    window_id BIGINT NOT NULL,
    recording_id BIGINT NOT NULL,
    episode_id BIGINT,
    model_version BIGINT NOT NULL,
    score REAL,
    flagged BOOLEAN,
    sampled BOOLEAN NOT NULL,
    reviewer TEXT NOT NULL,
    role TEXT NOT NULL,
    action TEXT NOT NULL,
    verdict TEXT,
    label TEXT,
    cause TEXT,
    comment TEXT,
    supersedes BIGINT,
    undoes BIGINT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (review_id),
    CONSTRAINT reviews_action_known CHECK (action IN ('review', 'undo')),
    CONSTRAINT reviews_verdict_known CHECK (verdict IN ('confirm', 'reject', 'unsure')),
    CONSTRAINT reviews_label_known CHECK (label IN ('N', 'S', 'V', 'F', 'Q', 'artefact'))
);
COMMENT ON TABLE reviews IS 'What people said of beats. Rows are only added, never changed: a trigger sees to it.';
COMMENT ON COLUMN reviews.review_id IS 'Internal number, in order.';
COMMENT ON COLUMN reviews.batch_id IS 'Shared by what was said at once, such as of an episode.';
COMMENT ON COLUMN reviews.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN reviews.window_id IS 'The beat: warehouse.windows.window_id.';
COMMENT ON COLUMN reviews.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN reviews.episode_id IS 'Said of this whole episode; null: of the beat alone.';
COMMENT ON COLUMN reviews.model_version IS 'Whose result was looked at.';
COMMENT ON COLUMN reviews.score IS 'What that model said; null: it has no score.';
COMMENT ON COLUMN reviews.flagged IS 'Whether that model flagged it; null: it has no score.';
COMMENT ON COLUMN reviews.sampled IS 'Handed out by the random sample of unflagged beats.';
COMMENT ON COLUMN reviews.reviewer IS 'Who, as signed in.';
COMMENT ON COLUMN reviews.role IS 'Their role then.';
COMMENT ON COLUMN reviews.action IS 'review, or undo.';
COMMENT ON COLUMN reviews.verdict IS 'confirm (anomalous), reject (normal) or unsure; null: undo.';
COMMENT ON COLUMN reviews.label IS 'N S V F Q or artefact; null: none given.';
COMMENT ON COLUMN reviews.cause IS 'Tag of the cause; null: none given.';
COMMENT ON COLUMN reviews.comment IS 'In words; null: none.';
COMMENT ON COLUMN reviews.supersedes IS 'review_id of the same reviewer''s earlier word on it.';
COMMENT ON COLUMN reviews.undoes IS 'review_id that is taken back.';
COMMENT ON COLUMN reviews.created_at IS 'When.';
CREATE INDEX reviews_by_batch ON reviews (batch_id);
CREATE INDEX reviews_by_site ON reviews (site, review_id);
CREATE INDEX reviews_by_window ON reviews (window_id, review_id);
CREATE FUNCTION reviews_are_only_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'reviews are only added, never changed or deleted';
END $$;
CREATE TRIGGER reviews_are_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON reviews
    FOR EACH STATEMENT EXECUTE FUNCTION reviews_are_only_added();

CREATE TABLE review_states (
    window_id BIGSERIAL NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    recording_id BIGINT NOT NULL,
    status TEXT NOT NULL,
    verdict TEXT,
    label TEXT,
    cause TEXT,
    reviewers TEXT[] NOT NULL,
    sampled BOOLEAN NOT NULL,
    revision BIGINT NOT NULL,
    delivered BIGINT NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (window_id)
);
COMMENT ON TABLE review_states IS 'What reviews of a beat come to; made from reviews, in the same transaction. No row: unreviewed.';
COMMENT ON COLUMN review_states.window_id IS 'warehouse.windows.window_id.';
COMMENT ON COLUMN review_states.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN review_states.recording_id IS 'warehouse.recordings.recording_id.';
COMMENT ON COLUMN review_states.status IS 'unreviewed, confirmed, rejected, unsure, conflict, settled.';
COMMENT ON COLUMN review_states.verdict IS 'confirm or reject; null: open.';
COMMENT ON COLUMN review_states.label IS 'N S V F Q or artefact; null: open, or none given.';
COMMENT ON COLUMN review_states.cause IS 'Tag of the cause; null: none.';
COMMENT ON COLUMN review_states.reviewers IS 'Whose word counts, oldest first.';
COMMENT ON COLUMN review_states.sampled IS 'Reached by the random sample of unflagged beats.';
COMMENT ON COLUMN review_states.revision IS 'review_id of the last row it was made from.';
COMMENT ON COLUMN review_states.delivered IS 'Revision that is in warehouse.labels.';
COMMENT ON COLUMN review_states.updated_at IS 'When.';
CREATE INDEX review_states_by_status ON review_states (site, status, window_id);
CREATE INDEX review_states_undelivered ON review_states (window_id) WHERE delivered < revision;

CREATE TABLE api_keys (
    key_id TEXT NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    secret_sha256 TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    patients TEXT[],
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    revoked_at TIMESTAMP WITH TIME ZONE,
    last_used_at TIMESTAMP WITH TIME ZONE,
    PRIMARY KEY (key_id),
    CONSTRAINT api_keys_role_known CHECK (role IN ('viewer', 'reviewer', 'admin', 'device'))
);
COMMENT ON TABLE api_keys IS 'API keys, without their secrets.';
COMMENT ON COLUMN api_keys.key_id IS 'Public part, 12 hex digits.';
COMMENT ON COLUMN api_keys.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN api_keys.secret_sha256 IS 'sha256 of the secret part (256 random bits), hex.';
COMMENT ON COLUMN api_keys.name IS 'Who or what it is for; reviews carry it.';
COMMENT ON COLUMN api_keys.role IS 'viewer, reviewer, admin or device.';
COMMENT ON COLUMN api_keys.scopes IS 'What it may do, of what its role may.';
COMMENT ON COLUMN api_keys.patients IS 'Of a device: pseudonyms it may post recordings of.';
COMMENT ON COLUMN api_keys.created_at IS 'When.';
COMMENT ON COLUMN api_keys.expires_at IS 'Not accepted from then on.';
COMMENT ON COLUMN api_keys.revoked_at IS 'Not accepted since; null: not revoked.';
COMMENT ON COLUMN api_keys.last_used_at IS 'To the minute; null: never.';

CREATE TABLE sessions (
    secret_sha256 TEXT NOT NULL,
    site TEXT DEFAULT 'main' NOT NULL,
    key_id TEXT,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    scopes TEXT[] NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (secret_sha256)
);
COMMENT ON TABLE sessions IS 'Signed-in sessions of the page; signing out deletes one.';
COMMENT ON COLUMN sessions.secret_sha256 IS 'sha256 of the cookie''s value, hex.';
COMMENT ON COLUMN sessions.site IS 'Hospital or tenant; others never see it.';
COMMENT ON COLUMN sessions.key_id IS 'API key it was opened with; null: an OIDC token.';
COMMENT ON COLUMN sessions.name IS 'Who; reviews carry it.';
COMMENT ON COLUMN sessions.role IS 'Their role.';
COMMENT ON COLUMN sessions.scopes IS 'What they may do.';
COMMENT ON COLUMN sessions.created_at IS 'When.';
COMMENT ON COLUMN sessions.expires_at IS 'Not accepted from then on.';
