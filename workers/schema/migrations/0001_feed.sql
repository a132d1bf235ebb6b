-- The schema of one feed. Runs with search_path set to the feed's schema; never edited once released.
-- Functions say SET search_path FROM CURRENT, so that they work from any session and cannot be led astray by one.

-- ---------------------------------------------------------------------------------------------------------------
-- What the exchange said: one row a tick, never changed. Event time in "timestamp", commit time in processed_at.

CREATE TABLE stock_data (
    id                bigint GENERATED ALWAYS AS IDENTITY,
    symbol            text        NOT NULL,
    price             numeric     NOT NULL CHECK (price > 0),
    change            numeric,
    change_percentage numeric,
    volume            bigint      CHECK (volume >= 0),
    market_cap        numeric,
    open_price        numeric,
    high_price        numeric,
    low_price         numeric,
    previous_close    numeric,
    exchange          text,
    company_name      text,
    "timestamp"       timestamptz NOT NULL,
    processed_at      timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE ("timestamp");

COMMENT ON TABLE stock_data IS 'Every tick, once. Partitioned by week (UTC), so that retention drops partitions.';
COMMENT ON COLUMN stock_data.volume IS 'The day''s running total, as the source gives it.';

CREATE INDEX stock_data_symbol_timestamp ON stock_data (symbol, "timestamp");

-- Makes the partition of a moment. The processor calls it before it writes a week for the first time: a table of its
-- own, attached afterwards, because ATTACH does not lock out readers and writers as CREATE … PARTITION OF does.
CREATE FUNCTION ensure_stock_data_partition(moment timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
$$
DECLARE
    first_day date := date_trunc('week', moment AT TIME ZONE 'UTC')::date;
    partition text := 'stock_data_' || to_char(first_day, 'YYYYMMDD');
BEGIN
    IF to_regclass(quote_ident(partition)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended(current_schema() || '.stock_data', 0));
    -- Not to_regclass() once more: this session remembers its answer, and would not hear of the table that another one made
    -- while this one waited.
    IF EXISTS (SELECT FROM pg_class WHERE relname = partition AND relnamespace = current_schema()::regnamespace) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE stock_data INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition);
    EXECUTE format('ALTER TABLE stock_data ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   partition, first_day || ' 00:00:00+00', (first_day + 7) || ' 00:00:00+00');
    RETURN true;
END
$$;

-- Drops the partitions that end before a moment; returns how many.
CREATE FUNCTION drop_stock_data_before(moment timestamptz) RETURNS integer
    LANGUAGE plpgsql SET search_path FROM CURRENT AS
$$
DECLARE
    partition text;
    dropped   integer := 0;
BEGIN
    FOR partition IN
        SELECT child.relname
        FROM pg_inherits
        JOIN pg_class child ON child.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = 'stock_data'::regclass
          AND child.relname ~ '^stock_data_[0-9]{8}$'
          AND (to_date(right(child.relname, 8), 'YYYYMMDD') + 7)::timestamp AT TIME ZONE 'UTC' <= moment
    LOOP
        EXECUTE format('DROP TABLE %I', partition);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Candles. candle_state is what the processor folds ticks into; the view candles is for people.

CREATE TABLE candle_state (
    symbol           text        NOT NULL,
    width            text        NOT NULL,
    window_start     timestamptz NOT NULL,
    window_end       timestamptz NOT NULL,
    session_day      date        NOT NULL,
    open             numeric     NOT NULL,
    high             numeric     NOT NULL,
    low              numeric     NOT NULL,
    close            numeric     NOT NULL,
    first_key        bytea       NOT NULL,
    last_key         bytea       NOT NULL,
    volume_total     bigint,
    volume_key       bytea,
    tick_count       bigint      NOT NULL,
    price_sum        numeric     NOT NULL,
    price_square_sum numeric     NOT NULL,
    revision         bigint      NOT NULL DEFAULT 0,
    is_final         boolean     NOT NULL DEFAULT false,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (symbol, width, window_start),
    CONSTRAINT candle_order CHECK (low <= open AND low <= close AND open <= high AND close <= high AND low > 0),
    CONSTRAINT candle_window CHECK (window_start < window_end),
    CONSTRAINT candle_count CHECK (tick_count > 0 AND volume_total >= 0 AND revision >= 0)
);

COMMENT ON COLUMN candle_state.first_key IS 'Event time, publisher, sequence and place of the tick that gave open; bytes in order of time.';
COMMENT ON COLUMN candle_state.volume_total IS 'The day''s running total at the last tick that had one.';
COMMENT ON COLUMN candle_state.revision IS 'Ticks that came after the candle was final.';
COMMENT ON COLUMN candle_state.session_day IS 'The exchange''s calendar day, America/New_York.';

CREATE INDEX candle_state_open ON candle_state (window_end) WHERE NOT is_final;

-- A candle's volume is the growth of the day's running total since the last candle of that day, so that the volumes of
-- a day's candles add up to the day's volume, whatever their width. The first candle of a day counts from zero.
CREATE VIEW candles AS
SELECT candle.symbol,
       candle.width,
       candle.window_start,
       candle.window_end,
       candle.open,
       candle.high,
       candle.low,
       candle.close,
       -- greatest() passes over NULL: without a total there is no volume, not zero.
       CASE WHEN candle.volume_total IS NOT NULL
            THEN greatest(candle.volume_total - coalesce(previous.volume_total, 0), 0) END AS volume,
       candle.tick_count,
       candle.price_sum / candle.tick_count AS average_price,
       candle.price_sum,
       candle.price_square_sum,
       candle.revision,
       candle.is_final,
       candle.session_day,
       candle.updated_at
FROM candle_state candle
LEFT JOIN LATERAL (
    SELECT earlier.volume_total
    FROM candle_state earlier
    WHERE earlier.symbol = candle.symbol
      AND earlier.width = candle.width
      AND earlier.window_start < candle.window_start
      AND earlier.window_start >= candle.session_day::timestamp AT TIME ZONE 'America/New_York'
      AND earlier.volume_total IS NOT NULL
    ORDER BY earlier.window_start DESC
    LIMIT 1
) previous ON candle.volume_total IS NOT NULL;

-- ---------------------------------------------------------------------------------------------------------------
-- The processor's state. It changes in the same transaction as the rows above, so the two cannot disagree.

CREATE TABLE partitions (
    generation      integer     NOT NULL,
    partition       integer     NOT NULL,
    version         bigint      NOT NULL DEFAULT 0,
    owner           text        NOT NULL DEFAULT '',
    watermark       timestamptz,
    last_event_time timestamptz,
    messages        bigint      NOT NULL DEFAULT 0,
    ticks           bigint      NOT NULL DEFAULT 0,
    duplicates      bigint      NOT NULL DEFAULT 0,
    late            bigint      NOT NULL DEFAULT 0,
    quarantined     bigint      NOT NULL DEFAULT 0,
    gaps            bigint      NOT NULL DEFAULT 0,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, partition)
);

COMMENT ON COLUMN partitions.version IS 'Counts commits. A commit names the version it began from; if it is another by then, the partition has a new owner.';

CREATE TABLE publishers (
    generation integer     NOT NULL,
    partition  integer     NOT NULL,
    publisher  uuid        NOT NULL,
    first      bigint[]    NOT NULL,
    last       bigint[]    NOT NULL,
    bound      bigint[]    NOT NULL,
    abandoned  bigint      NOT NULL DEFAULT 0,
    last_seen  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, partition, publisher)
);

COMMENT ON TABLE publishers IS 'Which sequences are committed: runs first[i]..last[i], and the event time up to which each lets the watermark go (microseconds).';
COMMENT ON COLUMN publishers.abandoned IS 'Holes up to this sequence were reported as gaps and hold the watermark back no longer.';

CREATE TABLE gaps (
    generation     integer     NOT NULL,
    partition      integer     NOT NULL,
    publisher      uuid        NOT NULL,
    first_sequence bigint      NOT NULL,
    last_sequence  bigint      NOT NULL,
    detected_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, partition, publisher, first_sequence)
);

COMMENT ON TABLE gaps IS 'Messages that were published and never arrived. One that arrives after all is counted, and stays listed.';

CREATE TABLE quarantine (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation  integer     NOT NULL,
    partition   integer     NOT NULL,
    reason      text        NOT NULL,
    detail      text        NOT NULL,
    publisher   uuid,
    sequence    bigint,
    raw         bytea       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX quarantine_reason ON quarantine (reason, received_at);
COMMENT ON TABLE quarantine IS 'What could not be used, as it came, with the reason.';

CREATE TABLE late_ticks (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol       text        NOT NULL,
    width        text        NOT NULL,
    window_start timestamptz NOT NULL,
    price        numeric     NOT NULL,
    volume       bigint,
    "timestamp"  timestamptz NOT NULL,
    watermark    timestamptz NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX late_ticks_symbol ON late_ticks (symbol, width, window_start);
COMMENT ON TABLE late_ticks IS 'Ticks that came after the allowed lateness of a candle and are not in it. They are in stock_data.';

CREATE TABLE api_calls (
    day   date   PRIMARY KEY,
    calls bigint NOT NULL DEFAULT 0 CHECK (calls >= 0)
);

-- ---------------------------------------------------------------------------------------------------------------
-- What users query.

CREATE FUNCTION get_recent_stock_data(symbol text, hours integer DEFAULT 24) RETURNS SETOF stock_data
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS
$$
    SELECT tick.*
    FROM stock_data tick
    WHERE tick.symbol = $1 AND tick."timestamp" >= now() - make_interval(hours => $2)
    ORDER BY tick."timestamp" DESC, tick.id DESC
$$;

CREATE FUNCTION get_stock_statistics(symbol text, hours integer DEFAULT 24)
    RETURNS TABLE (symbol text, avg_price numeric, min_price numeric, max_price numeric, price_volatility numeric,
                   total_volume bigint, tick_count bigint)
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS
$$
    WITH span AS (
        SELECT now() - make_interval(hours => $2) AS start
    ), ticks AS (
        SELECT tick.price, tick.volume, (tick."timestamp" AT TIME ZONE 'America/New_York')::date AS day
        FROM stock_data tick
        WHERE tick.symbol = $1 AND tick."timestamp" >= now() - make_interval(hours => $2)
    ), traded AS (
        -- The running total begins anew each day: a day contributes its last total.
        SELECT sum(daily.total) AS total FROM (SELECT max(ticks.volume) AS total FROM ticks GROUP BY ticks.day) daily
    ), before AS (
        -- What was traded on the first day before the span began.
        SELECT coalesce(max(tick.volume), 0) AS total
        FROM span, stock_data tick
        WHERE tick.symbol = $1
          AND tick."timestamp" < span.start
          AND tick."timestamp" >= date_trunc('day', span.start, 'America/New_York')
          AND EXISTS (SELECT FROM ticks WHERE ticks.day = (span.start AT TIME ZONE 'America/New_York')::date)
    )
    SELECT $1, avg(ticks.price), min(ticks.price), max(ticks.price), stddev(ticks.price),
           (SELECT greatest(traded.total - before.total, 0) FROM traded, before)::bigint, count(*)
    FROM ticks
    HAVING count(*) > 0
$$;

CREATE FUNCTION get_all_symbols() RETURNS TABLE (symbol text)
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS
$$
    -- Walks the index from symbol to symbol instead of over all rows.
    WITH RECURSIVE walk AS (
        (SELECT candle.symbol FROM candle_state candle ORDER BY candle.symbol LIMIT 1)
        UNION ALL
        SELECT (SELECT candle.symbol FROM candle_state candle WHERE candle.symbol > walk.symbol ORDER BY candle.symbol LIMIT 1)
        FROM walk
        WHERE walk.symbol IS NOT NULL
    )
    SELECT walk.symbol FROM walk WHERE walk.symbol IS NOT NULL
$$;

CREATE VIEW stock_analytics AS
SELECT candle.symbol,
       candle.session_day AS date,
       candle.average_price AS avg_price,
       candle.low AS min_price,
       candle.high AS max_price,
       CASE
           WHEN candle.tick_count > 1 THEN
               sqrt(greatest(candle.price_square_sum - candle.price_sum * candle.price_sum / candle.tick_count, 0)
                    / (candle.tick_count - 1))
       END AS price_volatility,
       candle.volume AS total_volume,
       candle.close - candle.open AS price_change,
       (candle.close - candle.open) / candle.open * 100 AS percent_change,
       candle.updated_at AS created_at
FROM candles candle
WHERE candle.width = '1d';

-- ---------------------------------------------------------------------------------------------------------------
-- Who may do what. The roles are named after the schema and exist before this runs.

DO
$$
DECLARE
    feed   text := current_schema();
    writer text := feed || '_writer';
    reader text := feed || '_reader';
BEGIN
    EXECUTE format('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', feed);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I, %I', feed, writer, reader);
    -- The writer adds rows and moves the state on. It deletes nothing and changes no tick.
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I, %I', feed, writer, reader);
    EXECUTE format('GRANT INSERT ON stock_data, candle_state, partitions, publishers, gaps, quarantine, late_ticks, api_calls TO %I', writer);
    EXECUTE format('GRANT UPDATE ON candle_state, partitions, publishers, gaps, api_calls TO %I', writer);
    EXECUTE format('GRANT DELETE ON publishers TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION ensure_stock_data_partition(timestamptz) TO %I', writer);
    EXECUTE format('GRANT EXECUTE ON FUNCTION get_recent_stock_data(text, integer), get_stock_statistics(text, integer), get_all_symbols() TO %I, %I', writer, reader);
END
$$;
