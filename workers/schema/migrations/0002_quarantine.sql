-- What was refused can be tried again or thrown away, and dead letters are kept with it. Runs as 0001 does.

-- Rather fail, and be tried again by the operator, than let every writer queue behind this one for long.
SET LOCAL lock_timeout = '10s';

ALTER TABLE quarantine
    ADD COLUMN released_at timestamptz,
    ADD COLUMN queue       text;

COMMENT ON COLUMN quarantine.released_at IS 'When somebody asked for another try. The processor takes the row out when it succeeds, and sets this back when it does not.';
COMMENT ON COLUMN quarantine.queue IS 'Of a dead letter: the queue that it died in.';

-- What the processor looks for, again and again: nearly always nothing.
CREATE INDEX quarantine_released ON quarantine (released_at, id) WHERE released_at IS NOT NULL;

-- The broker may deliver a dead letter more than once. Those without publisher and sequence cannot be told apart.
CREATE UNIQUE INDEX quarantine_dead_letter ON quarantine (generation, partition, publisher, sequence)
    WHERE reason = 'delivery_limit';

-- Bytes as text: as it is when it is UTF-8, otherwise with escapes (\377, \000, \\).
CREATE FUNCTION quarantine_text(raw bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS
$$
BEGIN
    RETURN convert_from(raw, 'UTF8');
EXCEPTION
    -- Not UTF-8, a zero byte, or a character that the database's encoding does not have.
    WHEN character_not_in_repertoire OR untranslatable_character THEN
        RETURN encode(raw, 'escape');
END
$$;

-- The newest entries, of one reason or of all.
CREATE FUNCTION list_quarantine(reason text DEFAULT NULL, max_rows integer DEFAULT 100)
    RETURNS TABLE (id bigint, received_at timestamptz, reason text, detail text, publisher uuid, sequence bigint, raw text,
                   released_at timestamptz, queue text)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS
$$
    SELECT entry.id, entry.received_at, entry.reason, entry.detail, entry.publisher, entry.sequence,
           quarantine_text(entry.raw), entry.released_at, entry.queue
    FROM quarantine entry
    WHERE $1 IS NULL OR entry.reason = $1
    ORDER BY entry.received_at DESC, entry.id DESC
    LIMIT greatest($2, 0)
$$;

-- Asks for another try by the present rules; returns how many. What is released already stays as it is.
CREATE FUNCTION release_quarantined(ids bigint[]) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
    WITH released AS (
        UPDATE quarantine entry SET released_at = now() WHERE entry.id = ANY ($1) AND entry.released_at IS NULL RETURNING 1
    )
    SELECT count(*) FROM released
$$;

CREATE FUNCTION release_quarantined_by_reason(reason text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
    WITH released AS (
        UPDATE quarantine entry SET released_at = now() WHERE entry.reason = $1 AND entry.released_at IS NULL RETURNING 1
    )
    SELECT count(*) FROM released
$$;

-- Throws entries away; returns how many.
CREATE FUNCTION discard_quarantined(ids bigint[]) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
    WITH discarded AS (DELETE FROM quarantine entry WHERE entry.id = ANY ($1) RETURNING 1)
    SELECT count(*) FROM discarded
$$;

CREATE FUNCTION discard_quarantined_by_reason(reason text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
    WITH discarded AS (DELETE FROM quarantine entry WHERE entry.reason = $1 RETURNING 1)
    SELECT count(*) FROM discarded
$$;

DO
$$
DECLARE
    feed   text := current_schema();
    writer text := feed || '_writer';
    reader text := feed || '_reader';
BEGIN
    EXECUTE format('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', feed);
    -- The processor takes out what a second try brought into stock_data, and writes the new reason on what it did not.
    EXECUTE format('GRANT UPDATE (released_at, reason, detail), DELETE ON quarantine TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION list_quarantine(text, integer) TO %I, %I', writer, reader);
    EXECUTE format('GRANT EXECUTE ON FUNCTION release_quarantined(bigint[]), release_quarantined_by_reason(text),
                        discard_quarantined(bigint[]), discard_quarantined_by_reason(text) TO %I', writer);
END
$$;
