-- The weeks of stock_data: made ahead, and dropped without anybody waiting. Runs as 0001 does.

SET LOCAL lock_timeout = '10s';

-- Every week there is: as a partition, on its way out (a detach that was interrupted), or out and not yet dropped.
CREATE VIEW stock_data_weeks AS
SELECT week.relname::text AS partition,
       to_date(right(week.relname, 8), 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS week_start,
       (to_date(right(week.relname, 8), 'YYYYMMDD') + 7)::timestamp AT TIME ZONE 'UTC' AS week_end,
       CASE WHEN inheritance.inhrelid IS NULL THEN 'detached'
            WHEN inheritance.inhdetachpending THEN 'detaching'
            ELSE 'attached' END AS state
FROM pg_class parent
JOIN pg_class week ON week.relnamespace = parent.relnamespace AND week.relkind = 'r' AND week.relname ~ '^stock_data_[0-9]{8}$'
LEFT JOIN pg_inherits inheritance ON inheritance.inhrelid = week.oid AND inheritance.inhparent = parent.oid
WHERE parent.oid = 'stock_data'::regclass;

COMMENT ON VIEW stock_data_weeks IS 'The partitions of stock_data, and what retention has not finished with.';

-- As in 0001, and three things more. A week that retention took out and did not come to drop is made anew: what it holds was
-- to go. A week is vacuumed after few inserts, so that counting its ticks by the index reads no table pages. And ticks come in
-- order of time, nearly: a block range index, which costs next to nothing, finds the last hours of all symbols. Weeks that are
-- there do without it, because building it would lock writers out.
CREATE OR REPLACE FUNCTION ensure_stock_data_partition(moment timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
DECLARE
    first_day date := date_trunc('week', moment AT TIME ZONE 'UTC')::date;
    name      text := 'stock_data_' || to_char(first_day, 'YYYYMMDD');
    found     text;
BEGIN
    IF EXISTS (SELECT FROM stock_data_weeks week WHERE week.partition = name AND week.state = 'attached') THEN
        RETURN false;
    END IF;
    -- Whoever makes or drops a week of this feed holds this lock.
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '.stock_data', 0));
    SELECT week.state INTO found FROM stock_data_weeks week WHERE week.partition = name;
    IF found = 'attached' THEN
        RETURN false;
    END IF;
    IF found = 'detaching' THEN
        EXECUTE format('ALTER TABLE stock_data DETACH PARTITION %I FINALIZE', name);
    END IF;
    IF found IS NOT NULL THEN
        EXECUTE format('DROP TABLE %I', name);
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE stock_data INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
                        WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_insert_threshold = 10000)', name);
    EXECUTE format('CREATE INDEX ON %I USING brin ("timestamp") WITH (pages_per_range = 64, autosummarize = on)', name);
    EXECUTE format('ALTER TABLE stock_data ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   name, first_day || ' 00:00:00+00', (first_day + 7) || ' 00:00:00+00');
    RETURN true;
END
$$;

DO
$$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT partition FROM stock_data_weeks WHERE state = 'attached' LOOP
        EXECUTE format('ALTER TABLE %I SET (autovacuum_vacuum_insert_scale_factor = 0.02,
                                            autovacuum_vacuum_insert_threshold = 10000)', name);
    END LOOP;
END
$$;

-- Makes the weeks from the present one to now() + ahead (a year at most); returns how many were missing.
CREATE FUNCTION ensure_stock_data_partitions(ahead interval DEFAULT '14 days') RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
DECLARE
    moment timestamptz := date_trunc('week', now(), 'UTC');
    made   integer     := 0;
BEGIN
    WHILE moment <= now() + least(ahead, interval '1 year') LOOP
        made   := made + ensure_stock_data_partition(moment)::integer;
        moment := moment + interval '168 hours';
    END LOOP;
    RETURN made;
END
$$;

-- For administrators: what schema::retention does without a lock on stock_data, in one statement and with one. It gives up
-- when somebody reads or writes for longer than this, instead of making everybody else wait behind it.
CREATE OR REPLACE FUNCTION drop_stock_data_before(moment timestamptz) RETURNS integer
    LANGUAGE plpgsql SET search_path FROM CURRENT SET lock_timeout = '5s' AS
$$
DECLARE
    name    text;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '.stock_data', 0));
    FOR name IN SELECT week.partition FROM stock_data_weeks week WHERE week.week_end <= moment ORDER BY week.week_start LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- Retention takes late ticks out along with their week.
CREATE INDEX late_ticks_timestamp ON late_ticks ("timestamp");

-- The operator asks for the gaps of the last day at each reconcile.
CREATE INDEX gaps_detected_at ON gaps (detected_at);

DO
$$
DECLARE
    feed   text := current_schema();
    writer text := feed || '_writer';
    reader text := feed || '_reader';
BEGIN
    EXECUTE format('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', feed);
    EXECUTE format('GRANT SELECT ON stock_data_weeks TO %I, %I', writer, reader);
    EXECUTE format('GRANT EXECUTE ON FUNCTION ensure_stock_data_partitions(interval) TO %I', writer);
END
$$;
