CREATE FUNCTION make_partition(parent TEXT, first TIMESTAMP WITH TIME ZONE, following TIMESTAMP WITH TIME ZONE)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF parent NOT IN ('windows', 'signal_chunks') THEN
        RAISE EXCEPTION 'table % has no partitions', parent;
    END IF;
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
        parent || to_char(first AT TIME ZONE 'UTC', '"_y"YYYY"m"MM'), parent, first, following
    );
END $$;
DO $$ BEGIN -- its owner's rights must not be turned on a table of the same name elsewhere
    EXECUTE format('ALTER FUNCTION make_partition SET search_path = %I, pg_temp', current_schema());
END $$;
REVOKE EXECUTE ON FUNCTION make_partition FROM PUBLIC;
