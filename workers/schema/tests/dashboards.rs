//! What dashboards read, compared with the tables that it comes from.

mod support;

use anyhow::Result;
use support::{denied, execute, login, migrated, text};

/// Candles of every width that a feed has by default over 40 days, of two symbols; B has no running totals.
const CANDLES: &str = r"
    INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key, last_key,
                              volume_total, volume_key, tick_count, price_sum, price_square_sum, is_final)
    SELECT symbol, width, start, start + step, (start AT TIME ZONE 'America/New_York')::date, 10, 12, 9, 11, '\x00', '\x01',
           CASE WHEN symbol = 'A' THEN 1000 + extract(epoch FROM start - date_trunc('day', start, 'America/New_York'))::bigint END,
           '\x01', 3, 33, 365, true
    FROM unnest(ARRAY['A', 'B']) AS symbol,
         (VALUES ('5m', interval '5 minutes', interval '3 days'), ('1h', '1 hour', '40 days'), ('1d', '1 day', '40 days'))
             AS width (width, step, back),
         LATERAL generate_series(date_trunc('day', now() - back, 'America/New_York'), now(), step) AS start";

/// A tick each minute for six hours.
const TICKS: &str = r#"
    SELECT ensure_stock_data_partition(now() - interval '1 day' * day) FROM generate_series(0, 1) AS day;
    INSERT INTO stock_data (symbol, price, volume, market_cap, previous_close, "timestamp", processed_at)
    SELECT 'A', 10 + minute % 3, 5000 - minute, 1000000 * (10 + minute % 3), 8, now() - minute * interval '1 minute',
           now() - minute * interval '1 minute' + interval '2 seconds'
    FROM generate_series(0, 360) AS minute"#;

#[tokio::test]
async fn the_older_the_wider_and_nothing_twice() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(&mut writer, CANDLES).await?;
    execute(&mut writer, TICKS).await?;
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    execute(&mut reader, &format!("SET search_path TO {}", feed.schema())).await?;
    execute(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    for (view, rows) in [
        ("candle_history", "count(*)"),
        ("price_history", "count(*) FILTER (WHERE width <> 'tick')"),
        ("volume_history", "count(*)"),
    ] {
        let doubled = format!(
            r#"SELECT {rows} - count(DISTINCT (symbol, "timestamp")) FILTER (WHERE width <> 'tick') FROM {view}"#
        );
        assert_eq!(text(&mut reader, &doubled).await?, "0", "{view}");
    }
    // Each minute of the last day is in a candle of five; each hour of the last month in one of an hour.
    let widths = r#"SELECT string_agg(DISTINCT width, ',') FROM candle_history WHERE "timestamp" "#;
    for (range, expected) in [
        ("> now() - interval '24 hours'", "5m"),
        (
            "BETWEEN now() - interval '30 days' AND now() - interval '27 hours'",
            "1h",
        ),
        ("< now() - interval '33 days'", "1d"),
    ] {
        assert_eq!(
            text(&mut reader, &format!("{widths}{range}")).await?,
            expected,
            "{range}"
        );
    }
    let ticks = r#"SELECT string_agg(DISTINCT width, ',') FROM price_history WHERE symbol = 'A' AND "timestamp" > now() - interval '59 minutes'"#;
    assert_eq!(text(&mut reader, ticks).await?, "tick");
    // The boundary: the hours are all there, from the first candle of five minutes back to the month's beginning.
    let hours = "SELECT count(DISTINCT date_trunc('hour', \"timestamp\")) = extract(epoch FROM date_trunc('hour', now())
                     - min(date_trunc('hour', \"timestamp\"))) / 3600 + 1
                 FROM candle_history WHERE symbol = 'A' AND width <> '1d'";
    assert_eq!(text(&mut reader, hours).await?, "true");
    Ok(())
}

#[tokio::test]
async fn volumes_and_changes_are_those_of_the_candles() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(&mut writer, CANDLES).await?;
    let path = format!("SET search_path TO {}", feed.schema());
    execute(&mut admin, &path).await?;
    let differing = r#"
        SELECT count(*) FILTER (WHERE history.volume IS DISTINCT FROM candle.volume
                                   OR abs(history.traded_value - candle.volume * candle.average_price) > 0.001)
               || ' of ' || (count(*) > 500)
        FROM volume_history history
        JOIN candles candle ON candle.symbol = history.symbol AND candle.width = history.width AND candle.window_start = history."timestamp""#;
    assert_eq!(text(&mut admin, differing).await?, "0 of true");
    assert_eq!(
        text(
            &mut admin,
            "SELECT count(*) FROM volume_history WHERE symbol = 'B'"
        )
        .await?,
        "0"
    );
    assert_eq!(
        text(
            &mut admin,
            "SELECT string_agg(DISTINCT change_percent::text, ',') FROM candle_history"
        )
        .await?,
        "10"
    );
    Ok(())
}

#[tokio::test]
async fn a_feed_with_one_width_shows_that() -> Result<()> {
    for (width, step) in [("1d", "1 day"), ("1m", "1 minute")] {
        let (_database, feed, mut admin) = migrated().await?;
        execute(&mut admin, &format!("SET search_path TO {}", feed.schema())).await?;
        execute(
            &mut admin,
            &format!(
                r"INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key, last_key,
                                            tick_count, price_sum, price_square_sum)
                  SELECT 'A', '{width}', start, start + interval '{step}', start::date, 10, 12, 9, 11, '\x00', '\x01', 3, 33, 365
                  FROM generate_series(now() - 40 * interval '{step}', now(), interval '{step}') AS start"
            ),
        )
        .await?;
        let missing = "SELECT (SELECT count(*) FROM candle_state) - (SELECT count(*) FROM candle_history)";
        assert_eq!(text(&mut admin, missing).await?, "0", "{width}");
    }
    Ok(())
}

#[tokio::test]
async fn the_newest_tick_gives_price_age_and_shares() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(&mut writer, CANDLES).await?;
    execute(&mut writer, TICKS).await?;
    execute(&mut admin, &format!("SET search_path TO {}", feed.schema())).await?;
    let latest = "SELECT concat_ws(' ', symbol, price, change_percent, volume, market_cap, shares, delay_seconds, age_seconds BETWEEN 0 AND 300)
                  FROM latest_ticks";
    assert_eq!(
        text(&mut admin, latest).await?,
        "A 10 25 5000 10000000 1000000 2 t"
    );
    // Closes are 11 in every candle, a million shares.
    let capitals = "SELECT concat_ws(' ', string_agg(DISTINCT symbol, ','), min(market_cap), max(market_cap), count(*) > 500) FROM market_cap_history";
    assert_eq!(text(&mut admin, capitals).await?, "A 11000000 11000000 t");
    assert_eq!(
        text(
            &mut admin,
            "SELECT concat_ws(' ', count(*), avg(delay_seconds)) FROM tick_delays"
        )
        .await?,
        "361 2"
    );
    Ok(())
}

#[tokio::test]
async fn what_went_wrong_is_counted_and_nothing_is_shown_as_nothing() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    execute(&mut reader, &format!("SET search_path TO {}", feed.schema())).await?;
    let nothing = r#"SELECT concat_ws(' ', count(DISTINCT kind), count(DISTINCT date_trunc('hour', "timestamp")) >= 24, sum(entries))
                     FROM quality_history WHERE "timestamp" > now() - interval '1 day'"#;
    assert_eq!(text(&mut reader, nothing).await?, "3 t 0");
    assert_eq!(
        text(
            &mut reader,
            "SELECT concat_ws(' ', count(*), sum(calls)) FROM calls_history"
        )
        .await?,
        "1 0"
    );
    assert_eq!(
        text(
            &mut reader,
            "SELECT concat_ws(' ', symbols, ticks, newest_tick IS NULL) FROM feed_health"
        )
        .await?,
        "0 0 t"
    );

    execute(
        &mut admin,
        &format!(
            r#"SET search_path TO {};
               INSERT INTO late_ticks (symbol, width, window_start, price, "timestamp", watermark) VALUES ('A', '1m', now(), 1, now(), now());
               INSERT INTO quarantine (generation, partition, reason, detail, raw)
               SELECT 1, 0, reason, '', '' FROM unnest(ARRAY['undecodable', 'invalid_price', 'invalid_price']) AS reason;
               INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence) VALUES (1, 2, gen_random_uuid(), 5, 8);
               INSERT INTO partitions (generation, partition, ticks, late, quarantined, gaps) VALUES (1, 0, 10, 1, 3, 4), (1, 1, 5, 0, 0, 0);
               INSERT INTO api_calls VALUES ((now() AT TIME ZONE 'America/New_York')::date - 2, 7), ((now() AT TIME ZONE 'America/New_York')::date, 5)"#,
            feed.schema()
        ),
    )
    .await?;
    let entries = "SELECT string_agg(concat_ws(' ', kind, reason, entries), ', ' ORDER BY kind, reason)
                   FROM (SELECT kind, reason, sum(entries) AS entries FROM quality_history WHERE entries > 0 GROUP BY kind, reason) AS all_of_it";
    assert_eq!(
        text(&mut reader, entries).await?,
        "late 1m 1, missing partition 2 4, quarantined invalid_price 2, quarantined undecodable 1"
    );
    let calls = r#"SELECT string_agg(calls::text, ' ' ORDER BY "timestamp") FROM calls_history"#;
    assert_eq!(text(&mut reader, calls).await?, "7 0 5");
    assert_eq!(
        text(
            &mut reader,
            "SELECT concat_ws(' ', ticks, late, quarantined, missing, calls_today) FROM feed_health"
        )
        .await?,
        "15 1 3 4 5"
    );
    denied(&mut reader, "DELETE FROM gaps").await;
    Ok(())
}
