-- What dashboards read: see docs/superset.md. Runs as 0001 does. Only adds, so processors of the last release go on.
--
-- A chart asks for a range of time, and a view cannot know for which. So resolution follows age: ticks of the last hour or two, candles
-- of minutes for a day, of an hour for a month, of a day before that. Each query stays small, whatever its range. All of it goes by the
-- indexes (symbol, …): symbol by symbol, and conditions on symbol and "timestamp" reach them.

-- Walks the index from symbol to symbol, as get_all_symbols() does, and is part of the query's own plan.
CREATE VIEW feed_symbols AS
WITH RECURSIVE walk AS (
    (SELECT candle.symbol FROM candle_state candle ORDER BY candle.symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT candle.symbol FROM candle_state candle WHERE candle.symbol > walk.symbol ORDER BY candle.symbol LIMIT 1)
    FROM walk
    WHERE walk.symbol IS NOT NULL
)
SELECT walk.symbol FROM walk WHERE walk.symbol IS NOT NULL;

COMMENT ON VIEW feed_symbols IS 'Every symbol that has candles.';

-- Of each zone the width that the symbol has and that fits best: the first one in the list.
CREATE VIEW candle_history AS
SELECT symbol.symbol,
       candle.window_start AS "timestamp",
       candle.width,
       candle.open::float8 AS open,
       candle.high::float8 AS high,
       candle.low::float8 AS low,
       candle.close::float8 AS close,
       candle.tick_count,
       CASE WHEN candle.tick_count > 1 THEN ((candle.close - candle.open) / candle.open * 100)::float8 END AS change_percent,
       -- For the volume, below: no column is worth a look-up for each row where nobody asks for it.
       candle.volume_total,
       candle.session_day,
       (candle.price_sum / candle.tick_count)::float8 AS average_price
FROM feed_symbols symbol
CROSS JOIN LATERAL (
    VALUES ('{5m,1m,30s,15s,10s,5s,1s,10m,15m,30m,1h,1d}'::text[],
            date_trunc('hour', now() - interval '25 hours'), 'infinity'::timestamptz),
           ('{1h,30m,15m,10m,5m,1m,30s,15s,10s,5s,1s,1d}',
            (date_trunc('day', now() AT TIME ZONE 'America/New_York') - interval '31 days') AT TIME ZONE 'America/New_York',
            date_trunc('hour', now() - interval '25 hours')),
           ('{1d,1h,30m,15m,10m,5m,1m,30s,15s,10s,5s,1s}', '-infinity',
            (date_trunc('day', now() AT TIME ZONE 'America/New_York') - interval '31 days') AT TIME ZONE 'America/New_York')
) zone (widths, zone_start, zone_end)
CROSS JOIN LATERAL (
    SELECT known.width
    FROM unnest(zone.widths) WITH ORDINALITY AS known (width, place)
    WHERE EXISTS (SELECT FROM candle_state candle WHERE candle.symbol = symbol.symbol AND candle.width = known.width)
    ORDER BY known.place
    LIMIT 1
) chosen
CROSS JOIN LATERAL (
    -- DISTINCT takes nothing away, for this is the primary key. It keeps the planner, who cannot guess how few rows a width has, from
    -- reading the table whole: this can only be asked symbol by symbol. A condition on window_start reaches it all the same.
    SELECT DISTINCT ON (one.window_start)
           one.window_start, one.width, one.session_day, one.open, one.high, one.low, one.close, one.tick_count, one.price_sum,
           one.volume_total
    FROM candle_state one
    WHERE one.symbol = symbol.symbol
      AND one.width = chosen.width
      AND one.window_start >= zone.zone_start
      AND one.window_start < zone.zone_end
    ORDER BY one.window_start
) candle;

COMMENT ON VIEW candle_history IS 'Candles, the older the wider: of minutes for a day, of an hour for a month, of a day before that.';

CREATE VIEW price_history AS
SELECT tick.symbol, tick."timestamp", 'tick'::text AS width, tick.price::float8 AS open, tick.price::float8 AS high,
       tick.price::float8 AS low, tick.price::float8 AS close
FROM feed_symbols symbol
JOIN stock_data tick ON tick.symbol = symbol.symbol
WHERE tick."timestamp" >= date_trunc('hour', now() - interval '1 hour')
UNION ALL
SELECT candle.symbol, candle."timestamp", candle.width, candle.open, candle.high, candle.low, candle.close
FROM candle_history candle
WHERE candle."timestamp" < date_trunc('hour', now() - interval '1 hour');

COMMENT ON VIEW price_history IS 'Prices, the older the coarser: ticks of the last hour or two, candle_history before.';

-- As in view candles: the growth of the day's running total.
CREATE VIEW volume_history AS
SELECT candle.symbol,
       candle."timestamp",
       candle.width,
       greatest(candle.volume_total - coalesce(previous.volume_total, 0), 0) AS volume,
       greatest(candle.volume_total - coalesce(previous.volume_total, 0), 0) * candle.average_price AS traded_value
FROM candle_history candle
LEFT JOIN LATERAL (
    SELECT earlier.volume_total
    FROM candle_state earlier
    WHERE candle.width <> '1d'
      AND earlier.symbol = candle.symbol
      AND earlier.width = candle.width
      AND earlier.window_start < candle."timestamp"
      AND earlier.window_start >= candle.session_day::timestamp AT TIME ZONE 'America/New_York'
      AND earlier.volume_total IS NOT NULL
    ORDER BY earlier.window_start DESC
    LIMIT 1
) previous ON true
WHERE candle.volume_total IS NOT NULL;

COMMENT ON VIEW volume_history IS 'What was traded, in the candles of candle_history: shares, and shares times the average price.';

CREATE VIEW latest_ticks AS
SELECT symbol.symbol,
       tick."timestamp",
       tick.price::float8 AS price,
       tick.previous_close::float8 AS previous_close,
       coalesce(tick.change_percentage, (tick.price / nullif(tick.previous_close, 0) - 1) * 100)::float8 AS change_percent,
       tick.volume,
       tick.market_cap::float8 AS market_cap,
       (tick.market_cap / tick.price)::float8 AS shares,
       tick.company_name,
       tick.exchange,
       tick.processed_at,
       extract(epoch FROM now() - tick."timestamp")::float8 AS age_seconds,
       extract(epoch FROM tick.processed_at - tick."timestamp")::float8 AS delay_seconds
FROM feed_symbols symbol
CROSS JOIN LATERAL (
    SELECT newest.*
    FROM stock_data newest
    WHERE newest.symbol = symbol.symbol
    ORDER BY newest."timestamp" DESC
    LIMIT 1
) tick;

COMMENT ON VIEW latest_ticks IS 'The newest tick of each symbol, and how old it is.';

-- A candle has no market capitalisation. It is the price times the shares outstanding, and those are known from the newest tick.
CREATE VIEW market_cap_history AS
SELECT candle.symbol, candle."timestamp", candle.width, candle.close * latest.shares AS market_cap
FROM latest_ticks latest
JOIN candle_history candle ON candle.symbol = latest.symbol
WHERE latest.shares IS NOT NULL;

COMMENT ON VIEW market_cap_history IS 'Closes times the shares outstanding that the newest tick implies.';

CREATE VIEW tick_delays AS
SELECT tick.symbol, tick."timestamp", extract(epoch FROM tick.processed_at - tick."timestamp")::float8 AS delay_seconds
FROM stock_data tick
WHERE tick."timestamp" >= date_trunc('hour', now() - interval '25 hours');

COMMENT ON VIEW tick_delays IS 'From the exchange''s time to the commit, each tick of the last day.';

-- Each hour of the last month is there with nothing in it as well, so that a chart shows that nothing happened.
CREATE VIEW quality_history AS
SELECT late."timestamp", 'late'::text AS kind, late.width AS reason, late.symbol, 1::bigint AS entries
FROM late_ticks late
WHERE late."timestamp" >= date_trunc('hour', now()) - interval '31 days'
UNION ALL
SELECT entry.received_at, 'quarantined', reason.reason, NULL, 1
FROM (
    -- From reason to reason by the index on (reason, received_at).
    WITH RECURSIVE walk AS (
        (SELECT quarantine.reason FROM quarantine ORDER BY quarantine.reason LIMIT 1)
        UNION ALL
        SELECT (SELECT quarantine.reason FROM quarantine WHERE quarantine.reason > walk.reason ORDER BY quarantine.reason LIMIT 1)
        FROM walk
        WHERE walk.reason IS NOT NULL
    )
    SELECT walk.reason FROM walk WHERE walk.reason IS NOT NULL
) reason
JOIN quarantine entry ON entry.reason = reason.reason
WHERE entry.received_at >= date_trunc('hour', now()) - interval '31 days'
UNION ALL
SELECT gap.detected_at, 'missing', 'partition ' || gap.partition, NULL, gap.last_sequence - gap.first_sequence + 1
FROM gaps gap
WHERE gap.detected_at >= date_trunc('hour', now()) - interval '31 days'
UNION ALL
SELECT hour, nothing.kind, 'none', NULL, 0
FROM generate_series(date_trunc('hour', now() - interval '31 days'), now(), interval '1 hour') AS hour,
     (VALUES ('late'), ('quarantined'), ('missing')) AS nothing (kind);

COMMENT ON VIEW quality_history IS 'Of the last 31 days: ticks too late for a candle (once for each width), entries of the quarantine, messages that never arrived.';

CREATE VIEW calls_history AS
SELECT days.day AT TIME ZONE 'America/New_York' AS "timestamp", coalesce(counted.calls, 0) AS calls
FROM generate_series((SELECT least(min(first.day), (now() AT TIME ZONE 'America/New_York')::date) FROM api_calls first)::timestamp,
                     (now() AT TIME ZONE 'America/New_York')::date::timestamp, interval '1 day') AS days (day)
LEFT JOIN api_calls counted ON counted.day = days.day::date;

COMMENT ON VIEW calls_history IS 'Calls to the source on each day of New York, with the days that had none.';

CREATE VIEW partition_health AS
SELECT partition.generation,
       partition.partition,
       coalesce(partition.last_event_time, partition.updated_at) AS "timestamp",
       partition.owner,
       partition.watermark,
       extract(epoch FROM now() - partition.watermark)::float8 AS watermark_age_seconds,
       partition.messages,
       partition.ticks,
       partition.duplicates,
       partition.late,
       partition.quarantined,
       partition.gaps
FROM partitions partition;

COMMENT ON VIEW partition_health IS 'How far each partition of the queue has been processed.';

CREATE VIEW feed_health AS
SELECT coalesce(newest.event_time, total.updated_at, now()) AS "timestamp",
       newest.event_time AS newest_tick,
       extract(epoch FROM now() - newest.event_time)::float8 AS age_seconds,
       (SELECT count(*) FROM feed_symbols) AS symbols,
       coalesce(total.ticks, 0)::bigint AS ticks,
       coalesce(total.duplicates, 0)::bigint AS duplicates,
       coalesce(total.late, 0)::bigint AS late,
       coalesce(total.quarantined, 0)::bigint AS quarantined,
       coalesce(total.gaps, 0)::bigint AS missing,
       coalesce((SELECT today.calls FROM api_calls today WHERE today.day = (now() AT TIME ZONE 'America/New_York')::date), 0) AS calls_today
FROM (SELECT max(latest."timestamp") AS event_time FROM latest_ticks latest) newest,
     (SELECT max(updated_at) AS updated_at, sum(ticks) AS ticks, sum(duplicates) AS duplicates, sum(late) AS late,
             sum(quarantined) AS quarantined, sum(gaps) AS gaps
      FROM partitions) total;

COMMENT ON VIEW feed_health IS 'The feed in one row.';

DO
$$
DECLARE
    reader text := current_schema() || '_reader';
BEGIN
    EXECUTE format('GRANT SELECT ON feed_symbols, candle_history, price_history, volume_history, latest_ticks, market_cap_history,
                        tick_delays, quality_history, calls_history, partition_health, feed_health TO %I', reader);
END
$$;
