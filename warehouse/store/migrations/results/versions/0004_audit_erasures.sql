CREATE TABLE audit_log (
    audit_id BIGINT NOT NULL,
    at TIMESTAMP WITH TIME ZONE NOT NULL,
    actor TEXT NOT NULL,
    role TEXT NOT NULL,
    site TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (audit_id)
);
COMMENT ON TABLE audit_log IS 'Who read which strip, and who administered what. Rows are only added; each carries the hash of the one before.';
COMMENT ON COLUMN audit_log.audit_id IS '1, 2, ... without a gap.';
COMMENT ON COLUMN audit_log.at IS 'The database''s clock.';
COMMENT ON COLUMN audit_log.actor IS 'Who, as signed in; the operating system''s user for commands.';
COMMENT ON COLUMN audit_log.role IS 'Their role: viewer, reviewer, admin, device; command for commands.';
COMMENT ON COLUMN audit_log.site IS 'Hospital or tenant; empty: all.';
COMMENT ON COLUMN audit_log.action IS 'What was done: read, export, review, key_add, release, erase, ...';
COMMENT ON COLUMN audit_log.subject IS 'To what: a path of the API, a key''s id, a model version, ... never a direct identifier.';
COMMENT ON COLUMN audit_log.detail IS 'More, such as the request''s query; or empty.';
COMMENT ON COLUMN audit_log.previous IS 'hash of the row before; 32 zero bytes in the first.';
COMMENT ON COLUMN audit_log.hash IS 'sha256 of previous and all columns but it, each with its length before it.';

CREATE FUNCTION audit_log_chained() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    last RECORD;
    field TEXT;
    content BYTEA;
BEGIN
    PERFORM pg_advisory_xact_lock(72674904); -- one at a time, until it is committed
    SELECT a.audit_id, a.hash INTO last FROM audit_log a ORDER BY a.audit_id DESC LIMIT 1;
    NEW.audit_id := coalesce(last.audit_id, 0) + 1;
    NEW.at := clock_timestamp();
    NEW.previous := coalesce(last.hash, decode(repeat('00', 32), 'hex'));
    content := NEW.previous;
    FOREACH field IN ARRAY ARRAY[
        NEW.audit_id::text, to_char(NEW.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), NEW.actor, NEW.role,
        NEW.site, NEW.action, NEW.subject, NEW.detail
    ] LOOP
        content := content || convert_to(octet_length(convert_to(field, 'UTF8')) || ':' || field, 'UTF8');
    END LOOP;
    NEW.hash := sha256(content);
    RETURN NEW;
END $$;
DO $$ BEGIN -- its owner's rights must not be turned on a table of the same name elsewhere
    EXECUTE format('ALTER FUNCTION audit_log_chained() SET search_path = %I, pg_temp', current_schema());
END $$;
CREATE TRIGGER audit_log_chained BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION audit_log_chained();

CREATE FUNCTION audit_log_is_only_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only added to, never changed or deleted';
END $$;
CREATE TRIGGER audit_log_is_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_only_added();

CREATE TABLE erasures (
    erasure_id BIGINT GENERATED ALWAYS AS IDENTITY,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    recording_ids BIGINT[] NOT NULL,
    window_set_ids BIGINT[] NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    deleted JSONB,
    PRIMARY KEY (erasure_id),
    CONSTRAINT erasures_reason_known CHECK (reason IN ('erasure', 'retention'))
);
COMMENT ON TABLE erasures IS 'What was erased, by numbers that lead nowhere any more: goes on after a crash, and is proven again.';
COMMENT ON COLUMN erasures.erasure_id IS 'Internal number.';
COMMENT ON COLUMN erasures.subject IS 'sha256 of site and pseudonym, which cannot be turned back; empty for retention.';
COMMENT ON COLUMN erasures.reason IS 'erasure (a patient asked) or retention (too old).';
COMMENT ON COLUMN erasures.recording_ids IS 'Of the recordings that are gone.';
COMMENT ON COLUMN erasures.window_set_ids IS 'Of their window sets.';
COMMENT ON COLUMN erasures.started_at IS 'Start.';
COMMENT ON COLUMN erasures.finished_at IS 'End; null: under way, or stopped half way: the next erasure finishes it.';
COMMENT ON COLUMN erasures.deleted IS 'Rows deleted, by table, and files.';

CREATE TABLE retraining_marks (
    data_span INTEGER NOT NULL,
    reason TEXT NOT NULL,
    marked_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    PRIMARY KEY (data_span, reason)
);
COMMENT ON TABLE retraining_marks IS 'Data spans that lost a patient: a released model version trained on one is to be trained again.';
COMMENT ON COLUMN retraining_marks.data_span IS 'warehouse.data_spans.span; models know theirs, also those whose training is under way.';
COMMENT ON COLUMN retraining_marks.reason IS 'erasure.';
COMMENT ON COLUMN retraining_marks.marked_at IS 'When first.';

-- Reviews are still never changed; only an erasure, which says so, may delete them.
CREATE OR REPLACE FUNCTION reviews_are_only_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('ecg.erasing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'reviews are only added, never changed or deleted';
END $$;
