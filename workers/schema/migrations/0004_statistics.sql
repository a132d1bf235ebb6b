-- Statistics composed from candles, exactly what the raw ticks give. Runs as 0001 does. Explained in docs/storage.md.

SET LOCAL lock_timeout = '10s';

-- The ticks of one symbol from a moment on, to the end of that day of the exchange: count, sums, extremes and shares.
--
-- A candle may be trusted as far as it holds every tick of its window that is in stock_data, save those in late_ticks. It does
-- not where its width was not configured all the time, so candles and late ticks are counted against the raw ticks, which
-- takes the index only. More than the raw ticks is right as well: retention took some of those. The widest width that passes
-- is taken, and raw ticks for what lies before its first window. If none passes all is read raw.
CREATE FUNCTION stock_statistics_of_day(of_symbol text, since timestamptz, widths text[])
    RETURNS TABLE (tick_count numeric, price_sum numeric, price_square_sum numeric, low numeric, high numeric, shares numeric)
    LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS
$$
DECLARE
    zone      constant text := 'America/New_York';
    day_start constant timestamptz := date_trunc('day', since, zone);
    day_end   constant timestamptz := ((since AT TIME ZONE zone)::date + 1)::timestamp AT TIME ZONE zone;
    raw_count bigint;
    -- The width at hand: where its first window starts, the raw ticks before and after that, and what its candles say.
    this_width text;
    edge       timestamptz;
    before     bigint;
    part       record;
    -- The best width so far, likewise. Without any, all is read raw.
    best       record;
    best_count numeric := -1;
    best_width text;
    best_edge  timestamptz := day_end;
    raw        record;
    last_total bigint;
    base_total bigint;
BEGIN
    SELECT 0::numeric AS ticks, 0::numeric AS price, 0::numeric AS square, NULL::numeric AS low, NULL::numeric AS high,
           false AS has_volume
    INTO best;
    SELECT count(*) INTO raw_count
    FROM stock_data tick
    WHERE tick.symbol = of_symbol AND tick."timestamp" >= since AND tick."timestamp" < day_end;

    FOREACH this_width IN ARRAY widths LOOP
        edge := CASE WHEN since = day_start THEN since
                     WHEN this_width = '1d' THEN day_end
                     -- The first start that is not before since. Labels of widths read as intervals.
                     ELSE date_bin(this_width::interval, since + this_width::interval - interval '1 microsecond', 'epoch') END;
        CONTINUE WHEN edge >= day_end;
        before := 0;
        IF edge > since THEN
            SELECT count(*) INTO before
            FROM stock_data tick
            WHERE tick.symbol = of_symbol AND tick."timestamp" >= since AND tick."timestamp" < edge;
        END IF;
        SELECT coalesce(sum(piece.ticks), 0) AS ticks, sum(piece.price) AS price, sum(piece.square) AS square,
               min(piece.low) AS low, max(piece.high) AS high, bool_or(piece.has_volume) AS has_volume
        INTO part
        FROM (SELECT candle.tick_count AS ticks, candle.price_sum AS price, candle.price_square_sum AS square, candle.low,
                     candle.high, candle.volume_total IS NOT NULL AS has_volume
              FROM candle_state candle
              WHERE candle.symbol = of_symbol AND candle.width = this_width
                AND candle.window_start >= edge AND candle.window_start < day_end
              UNION ALL
              SELECT 1, late.price, late.price * late.price, late.price, late.price, late.volume IS NOT NULL
              FROM late_ticks late
              WHERE late.symbol = of_symbol AND late.width = this_width
                AND late.window_start >= edge AND late.window_start < day_end) AS piece;
        CONTINUE WHEN part.ticks = 0;
        IF part.ticks >= raw_count - before AND part.ticks + before > best_count THEN
            best := part;
            best_count := part.ticks + before;
            best_width := this_width;
            best_edge := edge;
            EXIT WHEN best_count = raw_count;
        -- Where raw ticks are gone there is nothing to count against. Two widths that agree are proof enough.
        ELSIF best_count >= raw_count THEN
            EXIT;
        END IF;
    END LOOP;

    SELECT count(*) AS ticks, coalesce(sum(tick.price), 0) AS price, coalesce(sum(tick.price * tick.price), 0) AS square,
           min(tick.price) AS low, max(tick.price) AS high, coalesce(bool_or(tick.volume IS NOT NULL), false) AS has_volume
    INTO raw
    FROM stock_data tick
    WHERE tick.symbol = of_symbol AND tick."timestamp" >= since AND tick."timestamp" < best_edge;

    tick_count := raw.ticks + best.ticks;
    price_sum := raw.price + best.price;
    price_square_sum := raw.square + best.square;
    low := least(raw.low, best.low);
    high := greatest(raw.high, best.high);

    -- Shares: the last running total, less the last one before the span. Looked for only where there is one, because the walk
    -- back along the index ends at the first.
    IF raw.has_volume OR best.has_volume THEN
        SELECT tick.volume INTO last_total
        FROM stock_data tick
        WHERE tick.symbol = of_symbol AND tick."timestamp" >= since AND tick."timestamp" < day_end AND tick.volume IS NOT NULL
        ORDER BY tick."timestamp" DESC, tick.volume DESC
        LIMIT 1;
        IF last_total IS NULL THEN
            SELECT candle.volume_total INTO last_total
            FROM candle_state candle
            WHERE candle.symbol = of_symbol AND candle.width = best_width AND candle.window_start >= best_edge
              AND candle.window_start < day_end AND candle.volume_total IS NOT NULL
            ORDER BY candle.window_start DESC
            LIMIT 1;
        END IF;
        IF since > day_start THEN
            SELECT tick.volume INTO base_total
            FROM stock_data tick
            WHERE tick.symbol = of_symbol AND tick."timestamp" >= day_start AND tick."timestamp" < since AND tick.volume IS NOT NULL
            ORDER BY tick."timestamp" DESC, tick.volume DESC
            LIMIT 1;
            IF base_total IS NULL THEN
                SELECT candle.volume_total INTO base_total
                FROM candle_state candle
                WHERE candle.symbol = of_symbol AND candle.width = ANY (widths) AND candle.window_start >= day_start
                  AND candle.window_end <= since AND candle.volume_total IS NOT NULL
                ORDER BY candle.window_end DESC, candle.volume_key DESC
                LIMIT 1;
            END IF;
        END IF;
        -- A total that went down, a correction, is no volume.
        IF last_total IS NOT NULL THEN
            shares := greatest(last_total - coalesce(base_total, 0), 0);
        END IF;
    END IF;
    RETURN NEXT;
END
$$;

-- Statistics of all ticks of a symbol from a moment on; no row when there are none.
CREATE FUNCTION stock_statistics_since(symbol text, since timestamptz)
    RETURNS TABLE (symbol text, avg_price numeric, min_price numeric, max_price numeric, price_volatility numeric,
                   total_volume bigint, tick_count bigint)
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS
$$
    WITH found AS MATERIALIZED (
        -- The widths that this symbol has, widest first.
        SELECT array_agg(known.width ORDER BY known.place) AS widths
        FROM unnest(ARRAY['1d', '1h', '30m', '15m', '10m', '5m', '1m', '30s', '15s', '10s', '5s', '1s'])
             WITH ORDINALITY AS known (width, place)
        WHERE EXISTS (SELECT FROM candle_state candle WHERE candle.symbol = $1 AND candle.width = known.width)
    ), bounds AS MATERIALIZED (
        SELECT least((SELECT min(tick."timestamp") FROM stock_data tick WHERE tick.symbol = $1 AND tick."timestamp" >= $2),
                     min(candles.first)) AS first,
               greatest((SELECT max(tick."timestamp") FROM stock_data tick WHERE tick.symbol = $1 AND tick."timestamp" >= $2),
                        max(candles.last)) AS last
        FROM found
        LEFT JOIN LATERAL unnest(found.widths) AS known (width) ON true
        LEFT JOIN LATERAL (
            SELECT min(candle.window_start) AS first, max(candle.window_start) AS last
            FROM candle_state candle
            WHERE candle.symbol = $1 AND candle.width = known.width AND candle.window_start >= $2
        ) candles ON true
    ), total AS (
        SELECT sum(day.tick_count) AS ticks, sum(day.price_sum) AS price, sum(day.price_square_sum) AS square,
               min(day.low) AS low, max(day.high) AS high, sum(day.shares) AS shares
        FROM bounds,
             found,
             generate_series(date_trunc('day', bounds.first AT TIME ZONE 'America/New_York'),
                             bounds.last AT TIME ZONE 'America/New_York', interval '1 day') AS local,
             stock_statistics_of_day($1, greatest($2, local AT TIME ZONE 'America/New_York'), coalesce(found.widths, '{}')) AS day
    )
    SELECT $1, total.price / total.ticks, total.low, total.high,
           -- The sample's standard deviation from exact sums: no difference of rounded numbers.
           CASE WHEN total.ticks > 1 THEN
               sqrt(greatest(total.ticks * total.square - total.price * total.price, 0) / (total.ticks * (total.ticks - 1)))
           END,
           total.shares::bigint, total.ticks::bigint
    FROM total
    WHERE total.ticks > 0
$$;

CREATE OR REPLACE FUNCTION get_stock_statistics(symbol text, hours integer DEFAULT 24)
    RETURNS TABLE (symbol text, avg_price numeric, min_price numeric, max_price numeric, price_volatility numeric,
                   total_volume bigint, tick_count bigint)
    LANGUAGE sql STABLE SET search_path FROM CURRENT AS
$$
    -- A thousand years at most: beyond that the calendar ends.
    SELECT * FROM stock_statistics_since($1, now() - make_interval(hours => least($2, 8766000)))
$$;

-- As in 0001, with names that are resolved now instead of at each call. A function with settings of its own is a wall to the
-- planner; this one becomes part of the query that calls it, so that a LIMIT or another condition reads less.
CREATE OR REPLACE FUNCTION get_recent_stock_data(symbol text, hours integer DEFAULT 24) RETURNS SETOF stock_data
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT tick.*
    FROM stock_data tick
    WHERE tick.symbol = $1 AND tick."timestamp" >= now() - make_interval(hours => least($2, 8766000))
    ORDER BY tick."timestamp" DESC, tick.id DESC;
END;

-- As in 0001; price_volatility as above, without the rounding of sum * sum / count.
CREATE OR REPLACE VIEW stock_analytics AS
SELECT candle.symbol,
       candle.session_day AS date,
       candle.average_price AS avg_price,
       candle.low AS min_price,
       candle.high AS max_price,
       CASE
           WHEN candle.tick_count > 1 THEN
               sqrt(greatest(candle.tick_count * candle.price_square_sum - candle.price_sum * candle.price_sum, 0)
                    / (candle.tick_count::numeric * (candle.tick_count - 1)))
       END AS price_volatility,
       candle.volume AS total_volume,
       candle.close - candle.open AS price_change,
       (candle.close - candle.open) / candle.open * 100 AS percent_change,
       candle.updated_at AS created_at
FROM candles candle
WHERE candle.width = '1d';

DO
$$
DECLARE
    feed   text := current_schema();
    writer text := feed || '_writer';
    reader text := feed || '_reader';
BEGIN
    EXECUTE format('REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA %I FROM PUBLIC', feed);
    EXECUTE format('GRANT EXECUTE ON FUNCTION stock_statistics_of_day(text, timestamptz, text[]),
                        stock_statistics_since(text, timestamptz) TO %I, %I', writer, reader);
END
$$;
