-- Calls to a source are counted by API key, for several feeds may use the same one: in a schema of the whole database, which no
-- feed's can be called, because those have an underscore. A feed's own part is in its table api_calls as well.

SELECT pg_advisory_xact_lock(hashtextextended('stockfeed shared schema', 0));

CREATE SCHEMA IF NOT EXISTS stockfeed;

CREATE TABLE IF NOT EXISTS stockfeed.key_calls (
    api_key text   NOT NULL,
    day     date   NOT NULL,
    role    text   NOT NULL,
    calls   bigint NOT NULL CHECK (calls >= 0),
    PRIMARY KEY (api_key, day, role)
);

COMMENT ON TABLE stockfeed.key_calls IS 'Calls of each day in New York, by the name of the API key and the role of the feed that made them.';

-- Takes at most so many calls of a day, before they are made: what was taken counts, whatever becomes of the call. NULL is no
-- limit. Callers of one key wait for each other, so the limits hold however many there are. The role is the session's own.
CREATE OR REPLACE FUNCTION stockfeed.take_calls(of_key text, of_day date, wanted bigint, key_limit bigint, feed_limit bigint)
    RETURNS TABLE (granted bigint, used_by_feed bigint, used_by_key bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path TO stockfeed, pg_temp AS
$$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('stockfeed key ' || of_key, 0));
    SELECT coalesce(sum(calls) FILTER (WHERE role = session_user), 0), coalesce(sum(calls), 0)
    INTO used_by_feed, used_by_key
    FROM key_calls WHERE api_key = of_key AND day = of_day;
    -- least() passes over NULL.
    granted := greatest(least(wanted, key_limit - used_by_key, feed_limit - used_by_feed), 0);
    IF granted > 0 THEN
        INSERT INTO key_calls AS counted (api_key, day, role, calls) VALUES (of_key, of_day, session_user, granted)
        ON CONFLICT (api_key, day, role) DO UPDATE SET calls = counted.calls + excluded.calls;
        DELETE FROM key_calls WHERE api_key = of_key AND day < of_day - 90;
        used_by_feed := used_by_feed + granted;
        used_by_key := used_by_key + granted;
    END IF;
    RETURN NEXT;
END
$$;

REVOKE ALL ON FUNCTION stockfeed.take_calls(text, date, bigint, bigint, bigint) FROM PUBLIC;

DO
$$
DECLARE
    writer text := current_schema() || '_writer';
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA stockfeed TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION stockfeed.take_calls(text, date, bigint, bigint, bigint) TO %I', writer);
END
$$;
