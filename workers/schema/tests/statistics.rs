//! `get_stock_statistics` composes candles, late ticks and raw ticks; what it answers is what the raw ticks alone give.

mod support;

use std::time::Duration;

use anyhow::Result;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use support::{denied, execute, login, migrated, text};

/// Ticks of two symbols over a time that holds both changes of the clocks in New York, in clusters with days between them.
/// Some come at the very start of a window, some at the same moment as another; totals are missing, or go down.
const TICKS: &str = r#"
    CREATE TEMP TABLE tick AS
    SELECT row_number() OVER (ORDER BY "timestamp" + random() * interval '3 hours', random()) AS arrival, *
    FROM (SELECT chr(65 + (random() < 0.2)::integer) AS symbol,
                 round((0.0001 + random() * 10 ^ (random() * 4))::numeric, 1 + (random() * 9)::integer) + 0.0000000001 AS price,
                 CASE WHEN day_has_totals AND random() < 0.8
                      THEN (extract(epoch FROM "timestamp" - day AT TIME ZONE 'America/New_York') + 100 * random())::bigint END AS volume,
                 "timestamp"
          FROM (SELECT day, day_has_totals,
                       CASE (random() * 8)::integer
                            WHEN 0 THEN date_trunc('hour', moment)
                            WHEN 1 THEN date_trunc('minute', moment)
                            WHEN 2 THEN day AT TIME ZONE 'America/New_York'
                            ELSE moment END AS "timestamp"
                FROM (SELECT day, random() < 0.9 AS day_has_totals, (random() * 40 * (random() < 0.8)::integer)::integer AS ticks
                      FROM (SELECT timestamp '2025-10-31' + number * interval '1 day' AS day FROM generate_series(0, 5) AS number
                            UNION ALL
                            SELECT timestamp '2026-03-06' + number * interval '1 day' FROM generate_series(0, 4) AS number) AS days) AS days,
                     generate_series(1, ticks),
                     LATERAL (SELECT (day + random() * interval '23 hours' + ticks * interval '0') AT TIME ZONE 'America/New_York' AS moment) AS moments
               ) AS moments
         ) AS ticks"#;

/// Each width of this feed, and from which arrival to which it was configured: all the time, in part, or twice.
const WIDTHS: &str = r#"
    CREATE TEMP TABLE configured AS
    SELECT width, least(a, b) AS since, CASE WHEN always THEN ticks ELSE greatest(a, b) END AS until
    FROM (SELECT width, always, ticks, CASE WHEN always THEN 0 ELSE (random() * ticks)::integer END AS a, (random() * ticks)::integer AS b
          FROM (SELECT width, random() < 0.5 AS always, (SELECT max(arrival) FROM tick) AS ticks
                FROM unnest(ARRAY['1d', '1h', '30m', '15m', '10m', '5m', '1m', '30s', '15s', '10s', '5s', '1s']) AS width
                WHERE random() < 0.3) AS widths,
               generate_series(1, 2)
          WHERE NOT always OR generate_series = 1) AS spans;
    -- What came while its width was not configured is in neither place.
    CREATE TEMP TABLE folded AS
    SELECT tick.*, width, random() < lateness AS late,
           CASE WHEN width = '1d' THEN date_trunc('day', "timestamp", 'America/New_York')
                ELSE date_bin(width::interval, "timestamp", 'epoch') END AS window_start
    FROM tick
    JOIN (SELECT DISTINCT width FROM configured) AS widths ON EXISTS (
        SELECT FROM configured WHERE configured.width = widths.width AND arrival > since AND arrival <= until)"#;

/// By the rules of the processor.
const FOLD: &str = r#"
    INSERT INTO late_ticks (symbol, width, window_start, price, volume, "timestamp", watermark)
    SELECT symbol, width, window_start, price, volume, "timestamp", now() FROM folded WHERE late;
    INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
                              last_key, volume_total, volume_key, tick_count, price_sum, price_square_sum)
    SELECT symbol, width, window_start,
           CASE WHEN width = '1d' THEN date_add(window_start, '1 day', 'America/New_York') ELSE window_start + width::interval END,
           min(("timestamp" AT TIME ZONE 'America/New_York')::date),
           (array_agg(price ORDER BY "timestamp", arrival))[1], max(price), min(price),
           (array_agg(price ORDER BY "timestamp" DESC, arrival DESC))[1], '\x00', '\x01',
           (array_agg(volume ORDER BY "timestamp" DESC, arrival DESC) FILTER (WHERE volume IS NOT NULL))[1],
           int8send(max(extract(epoch FROM "timestamp")::bigint) FILTER (WHERE volume IS NOT NULL)),
           count(*), sum(price), sum(price * price)
    FROM folded WHERE NOT late
    GROUP BY symbol, width, window_start"#;

const STORE: &str = r#"
    SELECT ensure_stock_data_partition("timestamp") FROM (SELECT DISTINCT date_trunc('day', "timestamp") AS "timestamp" FROM tick) AS days;
    INSERT INTO stock_data (symbol, price, volume, "timestamp")
    SELECT symbol, price, volume, "timestamp" FROM tick ORDER BY arrival"#;

/// The definition, over raw ticks alone.
const PLAIN: &str = r#"
    SELECT symbol, avg(price) AS avg_price, min(price) AS min_price, max(price) AS max_price, stddev(price) AS price_volatility,
           (SELECT sum(CASE WHEN total IS NOT NULL THEN greatest(total - coalesce(before, 0), 0) END)::bigint
            FROM (SELECT (array_agg(volume ORDER BY "timestamp" DESC, volume DESC) FILTER (WHERE volume IS NOT NULL AND "timestamp" >= $2))[1] AS total,
                         (array_agg(volume ORDER BY "timestamp" DESC, volume DESC) FILTER (WHERE volume IS NOT NULL AND "timestamp" < $2))[1] AS before
                  FROM stock_data
                  WHERE symbol = $1
                  GROUP BY ("timestamp" AT TIME ZONE 'America/New_York')::date) AS days) AS total_volume,
           count(*) AS tick_count
    FROM stock_data
    WHERE symbol = $1 AND "timestamp" >= $2
    GROUP BY symbol"#;

/// One comparison: both answers as text, and whether they are equal as numbers.
async fn compare(connection: &mut PgConnection, symbol: &str, since: &str) -> Result<(String, String, bool)> {
    let bind = |query: &str| {
        query
            .replace("$1", &format!("'{symbol}'"))
            .replace("$2", &format!("timestamptz '{since}'"))
    };
    let query = format!(
        "WITH plain AS ({}), composed AS ({})
         SELECT coalesce((SELECT plain::text FROM plain), 'none'), coalesce((SELECT composed::text FROM composed), 'none'),
                NOT EXISTS ((TABLE plain EXCEPT TABLE composed) UNION ALL (TABLE composed EXCEPT TABLE plain))",
        bind(PLAIN),
        bind("SELECT * FROM stock_statistics_since($1, $2)")
    );
    let row = sqlx::query(AssertSqlSafe(query)).fetch_one(connection).await?;
    Ok((row.get(0), row.get(1), row.get(2)))
}

async fn moments(connection: &mut PgConnection) -> Result<Vec<String>> {
    let query = r#"
        SELECT moment::text FROM (
            (SELECT "timestamp" + (random() * 3 - 1)::integer * interval '1 microsecond' AS moment FROM tick ORDER BY random() LIMIT 6)
            UNION ALL (SELECT date_trunc('hour', "timestamp") FROM tick ORDER BY random() LIMIT 3)
            UNION ALL (SELECT date_trunc('day', "timestamp", 'America/New_York') FROM tick ORDER BY random() LIMIT 3)
            UNION ALL (SELECT "timestamp" + random() * interval '2 days' FROM tick ORDER BY random() LIMIT 3)
            UNION ALL VALUES (timestamptz '2020-01-01'), (timestamptz '2026-06-01'), (timestamptz '2025-11-02 05:30Z'), (timestamptz '2026-03-08 06:30Z')
        ) AS moments"#;
    Ok(sqlx::query_scalar(query).fetch_all(connection).await?)
}

#[tokio::test]
async fn composed_is_what_the_raw_ticks_give() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let mut compared = 0;
    let mut from_candles = 0;
    for case in 0..20 {
        execute(
            &mut admin,
            &format!(
                "SET search_path TO {}, pg_temp; TRUNCATE stock_data, candle_state, late_ticks",
                feed.schema()
            ),
        )
        .await?;
        execute(
            &mut writer,
            &format!("SELECT setseed({case} / 100.0); DROP TABLE IF EXISTS tick, configured, folded"),
        )
        .await?;
        execute(&mut writer, TICKS).await?;
        // None, a few, or most ticks come too late.
        let lateness = ["0", "0.05", "0.7"][case % 3];
        execute(&mut writer, &WIDTHS.replace("lateness", lateness)).await?;
        execute(&mut writer, FOLD).await?;
        execute(&mut writer, STORE).await?;
        from_candles += text(&mut writer, "SELECT count(*) FROM candle_state")
            .await?
            .parse::<i64>()?;
        for since in moments(&mut writer).await? {
            for symbol in ["A", "B"] {
                let (plain, composed, equal) = compare(&mut writer, symbol, &since).await?;
                assert!(
                    equal,
                    "case {case}, {symbol} since {since}:\n   plain {plain}\ncomposed {composed}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 600 && from_candles > 1_000);
    Ok(())
}

/// A day with a candle of `1h` and `1d` for every tick.
const COMPLETE: &str = "
    CREATE TEMP TABLE configured AS SELECT width, 0 AS since, 1000000 AS until FROM unnest(ARRAY['1h', '1d']) AS width;
    CREATE TEMP TABLE folded AS
    SELECT tick.*, width, false AS late,
           CASE WHEN width = '1d' THEN date_trunc('day', \"timestamp\", 'America/New_York')
                ELSE date_trunc('hour', \"timestamp\") END AS window_start
    FROM tick, configured";

#[tokio::test]
async fn candles_answer_for_raw_ticks_that_retention_dropped() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(&mut writer, "SELECT setseed(0.5)").await?;
    execute(&mut writer, TICKS).await?;
    // Of two totals at one moment the candle has the later message's, the raw ticks only know the larger.
    execute(
        &mut writer,
        r#"DELETE FROM tick USING tick AS other
           WHERE tick.symbol = other.symbol AND tick."timestamp" = other."timestamp" AND tick.arrival > other.arrival"#,
    )
    .await?;
    for statement in [COMPLETE, FOLD, STORE] {
        execute(&mut writer, statement).await?;
    }
    let all = |since: &str| {
        format!(
            "SELECT string_agg(s::text, ' ') FROM unnest(ARRAY['A', 'B']) AS symbol, stock_statistics_since(symbol, '{since}') AS s"
        )
    };
    // From full hours on, since that is what the candles know.
    let moments = [
        "2020-01-01",
        "2025-10-31 04:00Z",
        "2025-11-02 05:00Z",
        "2025-11-02 06:00Z",
        "2025-11-03 16:00Z",
        "2026-03-08 07:00Z",
        "2026-03-09 12:00Z",
    ];
    let mut before = Vec::new();
    for since in moments {
        before.push(text(&mut writer, &all(since)).await?);
    }
    // Up to a Monday, which begins in New York's Sunday evening; then up to another.
    for week in ["2025-11-03 00:00Z", "2026-03-09 00:00Z"] {
        let age: i64 = text(
            &mut writer,
            &format!("SELECT extract(epoch FROM now() - '{week}')::bigint - 60"),
        )
        .await?
        .parse()?;
        let retained = schema::retention(&mut admin, &feed, Duration::from_secs(age.unsigned_abs())).await?;
        assert!(retained.weeks > 0);
        let oldest = text(
            &mut writer,
            "SELECT min(\"timestamp\") >= '2025-11-03 00:00Z' FROM stock_data",
        )
        .await?;
        assert_eq!(oldest, "true");
        for (since, before) in moments.iter().zip(&before) {
            assert_eq!(&text(&mut writer, &all(since)).await?, before, "since {since}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_day_without_any_total_has_no_volume() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(
        &mut writer,
        r#"SELECT ensure_stock_data_partition(now());
           INSERT INTO stock_data (symbol, price, volume, "timestamp") VALUES ('A', 1.5, NULL, now()), ('B', 2, 0, now())"#,
    )
    .await?;
    let volume = |symbol| format!("SELECT s.total_volume FROM get_stock_statistics('{symbol}') AS s");
    assert_eq!(text(&mut writer, &volume("A")).await?, "NULL");
    assert_eq!(text(&mut writer, &volume("B")).await?, "0");
    // A single tick has no deviation; spans may be as long as a number of hours can be.
    let row = text(
        &mut writer,
        "SELECT s::text FROM get_stock_statistics('A', 2147483647) AS s",
    )
    .await?;
    assert_eq!(row, "(A,1.50000000000000000000,1.5,1.5,,,1)");
    Ok(())
}

#[tokio::test]
async fn deviations_of_nearly_equal_large_prices_are_exact() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    // A float, or a rounded mean, would find nothing here or the root of a negative number.
    execute(
        &mut writer,
        r#"SELECT ensure_stock_data_partition(now());
           INSERT INTO stock_data (symbol, price, "timestamp")
           SELECT 'A', 999999999.0000000001 + (number % 3) * 0.0000000001, now() FROM generate_series(1, 300) AS number;
           INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
               last_key, tick_count, price_sum, price_square_sum)
           SELECT 'A', '1d', date_trunc('day', now(), 'America/New_York'), now() + interval '1 day', current_date,
                  min(price), max(price), min(price), max(price), '', '', count(*), sum(price), sum(price * price)
           FROM stock_data"#,
    )
    .await?;
    let plain = text(&mut writer, "SELECT round(stddev(price), 24) FROM stock_data").await?;
    assert!(plain.starts_with("0.0000000000817"), "{plain}");
    let composed = text(
        &mut writer,
        "SELECT round(s.price_volatility, 24) FROM get_stock_statistics('A') AS s",
    )
    .await?;
    assert_eq!(composed, plain);
    let day = text(
        &mut writer,
        "SELECT round(price_volatility, 24) FROM stock_analytics",
    )
    .await?;
    assert_eq!(day, plain);
    Ok(())
}

#[tokio::test]
async fn recent_ticks_are_read_as_far_as_they_are_wanted() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(
        &mut writer,
        r#"SELECT ensure_stock_data_partition(now() - week * interval '7 days') FROM generate_series(0, 30) AS week;
           INSERT INTO stock_data (symbol, price, "timestamp")
           SELECT 'A', 1, now() - number * interval '10 minutes' FROM generate_series(0, 30000) AS number"#,
    )
    .await?;
    execute(&mut admin, "ANALYZE").await?;
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    let plan = async |reader: &mut PgConnection, query: &str| -> Result<String> {
        let query = format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {query}");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(reader).await?;
        Ok(lines.join("\n"))
    };
    // Of 31 weeks one or two are looked at, and of 4,000 rows ten.
    let day = plan(&mut reader, "SELECT * FROM get_recent_stock_data('A')").await?;
    let never = day.matches("never executed").count();
    let scans = day.matches(" Scan ").count();
    assert!(scans - never <= 3, "{day}");
    let ten = plan(
        &mut reader,
        "SELECT * FROM get_recent_stock_data('A', 700) LIMIT 10",
    )
    .await?;
    assert!(ten.contains("Scan Backward") && !ten.contains("rows=4"), "{ten}");
    denied(&mut reader, "SELECT ensure_stock_data_partition(now())").await;
    Ok(())
}
