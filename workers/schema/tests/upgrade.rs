//! From every version that was released, with data, to the present one.

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use support::{execute, feed, login, text};
use test_servers::TestDatabase;

/// What a processor of version 1 could have written: rows in every table.
const DATA: &str = r#"
    SELECT ensure_stock_data_partition(now() - day * interval '1 day') FROM generate_series(0, 20) AS day;
    INSERT INTO stock_data (symbol, price, volume, exchange, "timestamp")
    SELECT chr(65 + number % 3), 10 + number % 7, 1000000 - number, 'NASDAQ', now() - number * interval '5 minutes'
    FROM generate_series(1, 5000) AS number;
    INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key, last_key,
                              volume_total, volume_key, tick_count, price_sum, price_square_sum, is_final)
    SELECT symbol, '1d', start, date_add(start, '1 day', 'America/New_York'), (start AT TIME ZONE 'America/New_York')::date,
           (array_agg(price ORDER BY "timestamp"))[1], max(price), min(price), (array_agg(price ORDER BY "timestamp" DESC))[1],
           '\x00', '\x01', max(volume), '\x01', count(*), sum(price), sum(price * price), true
    FROM (SELECT *, date_trunc('day', "timestamp", 'America/New_York') AS start FROM stock_data) AS tick
    GROUP BY symbol, start;
    INSERT INTO partitions (generation, partition, version, owner, watermark, last_event_time, messages, ticks, duplicates, late, quarantined, gaps)
    VALUES (1, 0, 7, 'somebody', '2026-11-20', '2026-11-20', 5000, 5000, 3, 2, 1, 4), (1, 1, 0, '', NULL, NULL, 0, 0, 0, 0, 0, 0);
    INSERT INTO publishers (generation, partition, publisher, first, last, bound) VALUES (1, 0, gen_random_uuid(), '{1,9}', '{5,12}', '{0,1}');
    INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence) VALUES (1, 0, gen_random_uuid(), 5, 8);
    INSERT INTO quarantine (generation, partition, reason, detail, publisher, sequence, raw)
    VALUES (1, 0, 'malformed', 'not JSON', gen_random_uuid(), 3, '\xff'), (1, 0, 'malformed', 'not JSON', NULL, NULL, '\x00');
    INSERT INTO late_ticks (symbol, width, window_start, price, volume, "timestamp", watermark) VALUES ('A', '1m', now(), 1, 2, now(), now());
    INSERT INTO api_calls VALUES ('2026-11-20', 99)"#;

/// The data, table by table: what an upgrade may not change. Columns of version 1 only.
const TABLES: [&str; 8] = [
    r#"SELECT id, symbol, price, change, volume, exchange, "timestamp", processed_at FROM stock_data"#,
    "SELECT * FROM candle_state",
    "SELECT generation, partition, version, owner, watermark, last_event_time, messages, ticks, duplicates, late, quarantined, gaps, updated_at FROM partitions",
    "SELECT * FROM publishers",
    "SELECT * FROM gaps",
    "SELECT id, generation, partition, reason, detail, publisher, sequence, raw, received_at FROM quarantine",
    "SELECT * FROM late_ticks",
    "SELECT * FROM api_calls",
];

/// What users ask. `now()` is the transaction's, so the spans are of whole days around the data.
const QUESTIONS: [&str; 6] = [
    "SELECT count(*) FROM get_recent_stock_data('A', 10000)",
    "SELECT symbol, round(avg_price, 9), min_price, max_price, round(price_volatility, 9), total_volume, tick_count FROM get_stock_statistics('A', 10000)",
    "SELECT symbol, round(avg_price, 9), min_price, max_price, round(price_volatility, 9), total_volume, tick_count FROM get_stock_statistics('B', 10000)",
    "SELECT * FROM get_all_symbols()",
    "SELECT symbol, date, round(avg_price, 9), min_price, max_price, round(price_volatility, 9), total_volume, price_change, round(percent_change, 9), created_at FROM stock_analytics",
    "SELECT * FROM candles",
];

async fn answers(connection: &mut PgConnection) -> Result<Vec<String>> {
    let mut answers = Vec::new();
    for query in TABLES.iter().chain(&QUESTIONS) {
        let digest = format!(
            "SELECT concat(count(*), ' ', md5(string_agg(line::text, '|' ORDER BY line::text))) FROM ({query}) AS line"
        );
        answers.push(text(connection, &digest).await?);
    }
    Ok(answers)
}

/// One commit of a processor: the tables in its order.
const COMMIT: &str = r#"
    BEGIN;
    UPDATE partitions SET version = version + 1, ticks = ticks + 1 WHERE generation = 1 AND partition = 0;
    INSERT INTO stock_data (symbol, price, volume, "timestamp") VALUES ('W', 2, 3, now());
    INSERT INTO candle_state AS stored (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
                              last_key, tick_count, price_sum, price_square_sum)
    VALUES ('W', '1d', '2026-11-20 05:00Z', '2026-11-21 05:00Z', '2026-11-20', 2, 2, 2, 2, '\x00', '\x01', 1, 2, 4)
    ON CONFLICT (symbol, width, window_start) DO UPDATE SET tick_count = stored.tick_count + 1,
        price_sum = stored.price_sum + 2, price_square_sum = stored.price_square_sum + 4;
    UPDATE publishers SET last_seen = now();
    INSERT INTO quarantine (generation, partition, reason, detail, raw) VALUES (1, 0, 'written', '', '');
    INSERT INTO late_ticks (symbol, width, window_start, price, "timestamp", watermark) VALUES ('W', '1m', now(), 1, now(), now());
    INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence) VALUES (1, 0, gen_random_uuid(), 1, 1);
    COMMIT"#;

/// How many commits each table shows.
const COMMITTED: &str = "
    SELECT concat_ws(' ', (SELECT version - 7 FROM partitions WHERE partition = 0), (SELECT count(*) FROM stock_data WHERE symbol = 'W'),
                     (SELECT tick_count FROM candle_state WHERE symbol = 'W'), (SELECT count(*) FROM quarantine WHERE reason = 'written'),
                     (SELECT count(*) FROM late_ticks WHERE symbol = 'W'), (SELECT count(*) - 1 FROM gaps))";

#[tokio::test]
async fn every_released_version_with_data_becomes_the_present_one() -> Result<()> {
    for released in 1..schema::VERSION {
        let database = TestDatabase::create().await?;
        let feed = feed(&database);
        let mut admin = database.connect().await?;
        schema::roles::ensure(&mut admin, &feed).await?;
        let made = schema::migrate_to(&mut admin, &feed, released).await?;
        assert_eq!((made.from, made.to), (None, released));
        let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
        execute(&mut writer, DATA).await?;
        let before = answers(&mut writer).await?;

        let upgraded = schema::migrate(&mut admin, &feed).await?;
        assert_eq!((upgraded.from, upgraded.to), (Some(released), schema::VERSION));

        // A session that was open goes on, with the same answers, and a writer writes.
        assert_eq!(answers(&mut writer).await?, before, "from version {released}");
        let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
        assert_eq!(answers(&mut reader).await?, before, "from version {released}");
        execute(&mut writer, COMMIT).await?;
        assert_eq!(text(&mut writer, COMMITTED).await?, "1 1 1 1 1 1");
        assert_eq!(
            text(&mut writer, "SELECT release_quarantined_by_reason('malformed')").await?,
            "2"
        );
        assert!(schema::partitions_ahead(&mut admin, &feed).await? > 0);
        assert_eq!(schema::progress(&mut admin, &feed).await?.ticks, 5_001);
    }
    Ok(())
}

#[tokio::test]
async fn a_schema_of_a_newer_release_is_left_alone() -> Result<()> {
    let (_database, feed, mut admin) = support::migrated().await?;
    // As if a release with one more migration had been here.
    let newer = format!(
        "INSERT INTO {}._sqlx_migrations SELECT version + 1, 'newer', now(), true, checksum, 1 FROM {0}._sqlx_migrations WHERE version = {}",
        feed.schema(),
        schema::VERSION
    );
    execute(&mut admin, &newer).await?;
    schema::migrate(&mut admin, &feed).await.expect_err("it is newer");
    assert_eq!(
        schema::version(&mut admin, &feed).await?,
        Some(schema::VERSION + 1)
    );
    // The connection is as it was.
    assert_eq!(
        text(&mut admin, "SELECT to_regclass('stock_data')").await?,
        "NULL"
    );
    Ok(())
}

#[tokio::test]
async fn a_newer_schema_says_itself_which_processors_may_write_to_it() -> Result<()> {
    let (database, feed, mut admin) = support::migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    assert_eq!(schema::may_write(&mut writer, &feed).await?, Ok(schema::VERSION));
    let newer = schema::VERSION + 1;
    let statement = format!(
        "INSERT INTO {}._sqlx_migrations SELECT {newer}, 'newer', now(), true, checksum, 1 FROM {0}._sqlx_migrations WHERE version = {}",
        feed.schema(),
        schema::VERSION
    );
    execute(&mut admin, &statement).await?;
    // It only added something.
    assert_eq!(schema::may_write(&mut writer, &feed).await?, Ok(newer));
    let raise = format!(
        "UPDATE {}.compatibility SET oldest_processor = {newer}",
        feed.schema()
    );
    execute(&mut admin, &raise).await?;
    let refused = schema::Refusal::TooNew {
        found: newer,
        needed: Some(newer),
    };
    assert_eq!(schema::may_write(&mut writer, &feed).await?, Err(refused));
    support::denied(&mut writer, "UPDATE compatibility SET oldest_processor = 1").await;
    Ok(())
}

#[tokio::test]
async fn an_older_schema_is_refused_until_it_is_migrated() -> Result<()> {
    let database = TestDatabase::create().await?;
    let feed = feed(&database);
    let mut admin = database.connect().await?;
    assert_eq!(
        schema::may_write(&mut admin, &feed).await?,
        Err(schema::Refusal::Missing)
    );
    schema::roles::ensure(&mut admin, &feed).await?;
    let found = schema::OLDEST - 1;
    schema::migrate_to(&mut admin, &feed, found).await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let refused = schema::may_write(&mut writer, &feed).await?;
    assert_eq!(refused, Err(schema::Refusal::TooOld { found }));
    schema::migrate(&mut admin, &feed).await?;
    assert_eq!(schema::may_write(&mut writer, &feed).await?, Ok(schema::VERSION));
    Ok(())
}

#[tokio::test]
async fn writers_write_while_the_schema_is_migrated() -> Result<()> {
    for _ in 0..5 {
        let database = TestDatabase::create().await?;
        let feed = feed(&database);
        let mut admin = database.connect().await?;
        schema::roles::ensure(&mut admin, &feed).await?;
        schema::migrate_to(&mut admin, &feed, 1).await?;
        let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
        execute(&mut writer, DATA).await?;

        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let stop = Arc::clone(&stop);
            let mut writer = PgConnection::connect_with(
                &database
                    .options
                    .clone()
                    .username(&feed.writer_role())
                    .password("correct horse"),
            )
            .await?;
            tasks.push(tokio::spawn(async move {
                let mut commits = 0;
                // A few more afterwards, on the new schema.
                let mut after = 0;
                while after < 5 {
                    sqlx::raw_sql(AssertSqlSafe(COMMIT)).execute(&mut writer).await?;
                    commits += 1;
                    after += i32::from(stop.load(Ordering::Relaxed));
                }
                anyhow::Ok(commits)
            }));
        }
        let migrated = schema::migrate(&mut admin, &feed).await;
        stop.store(true, Ordering::Relaxed);
        let mut commits = 0;
        for task in tasks {
            commits += task.await??;
        }
        assert_eq!(migrated?.to, schema::VERSION);
        let expected = vec![commits.to_string(); 6].join(" ");
        assert_eq!(text(&mut writer, COMMITTED).await?, expected);
    }
    Ok(())
}
