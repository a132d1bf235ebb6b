//! Fills a feed's schema with many ticks and the candles that belong to them, and shows what the queries cost.
//!
//! ```sh
//! createdb large
//! cargo run -p schema --example large -- postgres://postgres@localhost/large 100000000
//! ```
//!
//! 50 symbols over the 91 days before now, evenly, with candles of `1m`, `5m`, `1h` and `1d`. 100 million ticks take about
//! 13 GB, and most of an hour on one busy core. A second run on the same database only measures; after an interrupted
//! one begin with a new database. A third argument names the feed, `ticks` otherwise. Afterwards: `dropdb large`, and as roles belong to
//! the server, `DROP ROLE large_ticks_writer, large_ticks_reader`.

use std::time::Instant;

use anyhow::Context as _;
use contract::names::FeedName;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

/// Whole days before today.
const DAYS: i32 = 90;

/// The bounds of the exchange's days up to now, in microseconds since the epoch. `$1` whole days.
const BOUNDS: &str = "
    SELECT (extract(epoch FROM day) * 1000000)::bigint,
           (extract(epoch FROM least(date_add(day, interval '1 day', 'America/New_York'), now())) * 1000000)::bigint
    FROM generate_series(0, $1) AS back,
         date_subtract(date_trunc('day', now(), 'America/New_York'), back * interval '1 day', 'America/New_York') AS day
    ORDER BY day";

/// Ticks number `$1` to `$2`, from `$3` on, `$4` apart (microseconds). Prices of cents wander, totals begin at 0.
const TICKS: &str = r#"
    INSERT INTO stock_data (symbol, price, volume, market_cap, previous_close, "timestamp", processed_at)
    SELECT 'SYM' || lpad((number % 50)::text, 2, '0'), price, (number - $1) * 3, price * 1000000 * (1 + number % 50),
           100 + number % 50, moment, moment + interval '200 milliseconds'
    FROM generate_series($1, $2) AS number,
         LATERAL (SELECT round((100 + number % 50 + 5 * sin(number / 300000.0) + random())::numeric, 2) AS price,
                         timestamptz 'epoch' + ($3 + (number - $1) * $4) * interval '1 microsecond' AS moment)"#;

/// Candles of a minute from the ticks between `$1` and `$2` (microseconds), by the processor's rules. The keys have its
/// length, and stand for event time only.
const MINUTES: &str = r#"
    INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
                              last_key, volume_total, volume_key, tick_count, price_sum, price_square_sum, is_final)
    SELECT symbol, '1m', start, start + interval '1 minute', min(("timestamp" AT TIME ZONE 'America/New_York')::date),
           (array_agg(price ORDER BY "timestamp"))[1], max(price), min(price),
           (array_agg(price ORDER BY "timestamp" DESC))[1], key(min("timestamp")), key(max("timestamp")), max(volume),
           key(max("timestamp")), count(*), sum(price), sum(price * price), true
    FROM (SELECT *, date_bin('1 minute', "timestamp", 'epoch') AS start
          FROM stock_data
          WHERE "timestamp" >= timestamptz 'epoch' + $1 * interval '1 microsecond'
            AND "timestamp" < timestamptz 'epoch' + $2 * interval '1 microsecond') AS tick
    GROUP BY symbol, start"#;

/// Wider candles from those of a minute between `$1` and `$2`: `$3` the width, `$4` its length.
const WIDER: &str = "
    INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
                              last_key, volume_total, volume_key, tick_count, price_sum, price_square_sum, is_final)
    SELECT symbol, $3, start, date_add(start, $4::interval, 'America/New_York'), min(session_day),
           (array_agg(open ORDER BY window_start))[1], max(high), min(low),
           (array_agg(close ORDER BY window_start DESC))[1], (array_agg(first_key ORDER BY window_start))[1],
           (array_agg(last_key ORDER BY window_start DESC))[1], max(volume_total),
           (array_agg(volume_key ORDER BY window_start DESC))[1], sum(tick_count), sum(price_sum), sum(price_square_sum), true
    FROM (SELECT *, CASE WHEN $3 = '1d' THEN date_trunc('day', window_start, 'America/New_York')
                         ELSE date_bin($4::interval, window_start, 'epoch') END AS start
          FROM candle_state
          WHERE width = '1m' AND window_start >= timestamptz 'epoch' + $1 * interval '1 microsecond'
            AND window_start < timestamptz 'epoch' + $2 * interval '1 microsecond') AS minute
    GROUP BY symbol, start";

/// What went wrong meanwhile: more than anybody should see.
const TROUBLE: &str = r#"
    INSERT INTO late_ticks (symbol, width, window_start, price, "timestamp", watermark)
    SELECT 'SYM' || lpad((number % 50)::text, 2, '0'), '1m', now(), 100, now() - number * interval '80 seconds', now()
    FROM generate_series(1, 100000) AS number;
    INSERT INTO quarantine (generation, partition, reason, detail, raw, received_at)
    SELECT 1, 0, (ARRAY['undecodable', 'unknown_symbol', 'invalid_price'])[1 + number % 3], 'made up', repeat('x', 200)::bytea,
           now() - number * interval '80 seconds'
    FROM generate_series(1, 100000) AS number;
    INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence, detected_at)
    SELECT 1, 0, gen_random_uuid(), 1, 2, now() - number * interval '3 hours' FROM generate_series(1, 700) AS number;
    INSERT INTO api_calls SELECT (now() AT TIME ZONE 'America/New_York')::date - day, 200 FROM generate_series(0, 89) AS day;
    INSERT INTO partitions (generation, partition, ticks, last_event_time, watermark)
    SELECT 1, partition, 2500000, now(), now() FROM generate_series(0, 3) AS partition"#;

/// What people ask. `EXPLAIN` shows the statements inside of a function only where it is part of the query's own plan.
const QUERIES: [&str; 8] = [
    "SELECT * FROM get_stock_statistics('SYM07', 24)",
    "SELECT * FROM get_stock_statistics('SYM07', 24 * 90)",
    "SELECT * FROM get_recent_stock_data('SYM07')",
    "SELECT * FROM get_recent_stock_data('SYM07') LIMIT 100",
    "SELECT * FROM get_all_symbols()",
    "SELECT * FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours'",
    "SELECT symbol, AVG(price) AS avg_price, MIN(price) AS min_price, MAX(price) AS max_price, STDDEV(price) AS volatility
     FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours' GROUP BY symbol",
    "SELECT * FROM stock_analytics WHERE symbol = 'SYM07' AND date >= current_date - 30",
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, rows, name) = match arguments.as_slice() {
        [url, rows] => (url, rows, "ticks"),
        [url, rows, name] => (url, rows, name.as_str()),
        _ => anyhow::bail!("usage: large DATABASE_URL ROWS [NAME]"),
    };
    let rows: i64 = rows.parse().context("ROWS is not a number")?;
    let feed = FeedName::new("large", name)?;
    let mut connection = PgConnection::connect(url).await.context("failed to connect")?;
    schema::roles::ensure(&mut connection, &feed).await?;
    schema::migrate(&mut connection, &feed).await?;
    let path = format!("SET search_path TO {}", feed.schema());
    execute(&mut connection, &path).await?;
    let filled: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM stock_data)")
        .fetch_one(&mut connection)
        .await?;
    if !filled {
        fill(&mut connection, rows).await?;
    }
    execute(&mut connection, "SET track_io_timing = on").await?;
    for query in QUERIES {
        // The second run is shown: the first one also reads the catalog.
        for shown in [false, true] {
            let plan = format!("EXPLAIN (ANALYZE, BUFFERS) {query}");
            let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(plan))
                .fetch_all(&mut connection)
                .await?;
            if shown {
                println!("\n{query}\n\n{}", lines.join("\n"));
            }
        }
    }
    Ok(())
}

async fn fill(connection: &mut PgConnection, rows: i64) -> anyhow::Result<()> {
    let began = Instant::now();
    // The processor makes keys of 36 bytes: event time, publisher, sequence and place.
    execute(
        connection,
        "CREATE FUNCTION pg_temp.key(moment timestamptz) RETURNS bytea LANGUAGE sql AS
         $$ SELECT int8send((extract(epoch FROM $1) * 1000000)::bigint # (-9223372036854775808)) || decode(repeat('00', 28), 'hex') $$",
    )
    .await?;
    let days: Vec<(i64, i64)> = sqlx::query_as(BOUNDS)
        .bind(DAYS)
        .fetch_all(&mut *connection)
        .await?;
    let (start, end) = match (days.first(), days.last()) {
        (Some((start, _)), Some((_, end))) => (*start, *end),
        _ => anyhow::bail!("there are no days"),
    };
    let step = ((end - start) / rows.max(1)).max(1);
    let minutes = MINUTES.replace("key(", "pg_temp.key(");
    let mut written = 0;
    for (start, end) in days {
        let count = (end - start) / step;
        sqlx::query(
            "SELECT ensure_stock_data_partition(timestamptz 'epoch' + moment * interval '1 microsecond')
             FROM unnest(ARRAY[$1, $2]) AS moment",
        )
        .bind(start)
        .bind(end)
        .execute(&mut *connection)
        .await?;
        let done = sqlx::query(TICKS)
            .bind(written)
            .bind(written + count - 1)
            .bind(start)
            .bind(step)
            .execute(&mut *connection)
            .await?;
        written += done.rows_affected().cast_signed();
        sqlx::query(AssertSqlSafe(minutes.clone()))
            .bind(start)
            .bind(end)
            .execute(&mut *connection)
            .await?;
        for (width, length) in [("5m", "5 minutes"), ("1h", "1 hour"), ("1d", "1 day")] {
            sqlx::query(WIDER)
                .bind(start)
                .bind(end)
                .bind(width)
                .bind(length)
                .execute(&mut *connection)
                .await?;
        }
        eprintln!("{written} ticks after {} s", began.elapsed().as_secs());
    }
    execute(connection, TROUBLE).await?;
    // What autovacuum does in time; without it index-only scans read the table as well.
    execute(
        connection,
        "VACUUM (ANALYZE) stock_data, candle_state, late_ticks, quarantine, gaps, api_calls, partitions",
    )
    .await?;
    let size = sqlx::query(
        "SELECT pg_size_pretty(pg_database_size(current_database())), (SELECT count(*) FROM candle_state)",
    )
    .fetch_one(connection)
    .await?;
    println!(
        "{written} ticks and {} candles in {} s: {}",
        size.get::<i64, _>(1),
        began.elapsed().as_secs(),
        size.get::<String, _>(0)
    );
    Ok(())
}

async fn execute(connection: &mut PgConnection, statement: &str) -> anyhow::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}
