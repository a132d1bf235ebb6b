-- A tick a minute of three symbols for 30 hours, candles of three widths made of them, and some of everything that goes wrong.
SELECT ensure_stock_data_partition(now() - day * interval '1 day') FROM generate_series(0, 2) AS day;
INSERT INTO stock_data (symbol, price, volume, market_cap, previous_close, change_percentage, company_name, "timestamp", processed_at)
SELECT symbol,
       price,
       -- Grows over the day of New York.
       1000 * place + extract(epoch FROM moment - date_trunc('day', moment, 'America/New_York'))::bigint,
       price * 1000000 * place, 100, price - 100, symbol || ' Inc.', moment, moment + (minute % 5) * interval '100 milliseconds'
FROM unnest(ARRAY['AA', 'BB', 'CC']) WITH ORDINALITY AS known (symbol, place),
     generate_series(1, 1800) AS minute,
     LATERAL (SELECT 100 + round((20 * sin(place * minute / 90.0))::numeric, 2) AS price,
                     now() - minute * interval '1 minute' + place * interval '1 second' AS moment) AS tick;
INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key, last_key,
                          volume_total, volume_key, tick_count, price_sum, price_square_sum, is_final)
SELECT tick.symbol, width.width, window_of.start, window_of.start + width.length,
       (window_of.start AT TIME ZONE 'America/New_York')::date, (array_agg(tick.price ORDER BY tick."timestamp"))[1], max(tick.price),
       min(tick.price), (array_agg(tick.price ORDER BY tick."timestamp" DESC))[1], '\x00', '\x01', max(tick.volume), '\x01', count(*),
       sum(tick.price), sum(tick.price * tick.price), true
FROM stock_data tick,
     (VALUES ('5m', interval '5 minutes'), ('1h', '1 hour'), ('1d', '1 day')) AS width (width, length),
     LATERAL (SELECT CASE WHEN width.width = '1d' THEN date_trunc('day', tick."timestamp", 'America/New_York')
                          ELSE date_bin(width.length, tick."timestamp", 'epoch') END AS start) AS window_of
GROUP BY tick.symbol, width.width, width.length, window_of.start;
INSERT INTO late_ticks (symbol, width, window_start, price, "timestamp", watermark)
SELECT 'AA', width, now(), 1, now() - number * interval '50 minutes', now()
FROM generate_series(1, 7) AS number, unnest(ARRAY['5m', '1h']) AS width;
INSERT INTO quarantine (generation, partition, reason, detail, raw, received_at)
SELECT 1, 0, (ARRAY['undecodable', 'invalid_price'])[1 + number % 2], '', '', now() - number * interval '2 hours'
FROM generate_series(1, 5) AS number;
INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence, detected_at)
VALUES (1, 1, gen_random_uuid(), 3, 6, now() - interval '3 hours');
INSERT INTO api_calls
SELECT (now() AT TIME ZONE 'America/New_York')::date - day, 10 + day FROM generate_series(0, 4) AS day WHERE day <> 2;
INSERT INTO partitions (generation, partition, owner, watermark, last_event_time, messages, ticks, duplicates, late, quarantined, gaps)
SELECT 1, number, 'processor-' || number, now(), now(), 2700, 2700, number, 7, 2, 4 * number FROM generate_series(0, 1) AS number;
ANALYZE
