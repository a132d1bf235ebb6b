-- A processor that is older than the schema asks here whether it may write all the same. Migrations that only add leave this alone:
-- then the last release's processors go on, and can be put back. One that takes something away, or asks for something new, raises it.

CREATE TABLE compatibility (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_processor integer NOT NULL
);

COMMENT ON TABLE compatibility IS 'Which processors may write to this schema: those that know at least this version of it.';

INSERT INTO compatibility (oldest_processor) VALUES (5);

DO
$$
DECLARE
    writer text := current_schema() || '_writer';
    reader text := current_schema() || '_reader';
BEGIN
    EXECUTE format('GRANT SELECT ON compatibility TO %I, %I', writer, reader);
END
$$;
