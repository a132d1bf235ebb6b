//! The feed's schema in a real PostgreSQL.

mod support;

use anyhow::Result;
use contract::names::FeedName;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use support::{denied, execute, login, migrated};
use test_servers::TestDatabase;

const TICK: &str = r#"INSERT INTO stock_data (symbol, price, volume, "timestamp") VALUES "#;

#[tokio::test]
async fn a_second_run_changes_nothing() -> Result<()> {
    let (_database, feed, mut admin) = migrated().await?;
    assert!(!schema::roles::ensure(&mut admin, &feed).await?);
    let again = schema::migrate(&mut admin, &feed).await?;
    assert_eq!(
        again,
        schema::Migrated {
            from: Some(schema::VERSION),
            to: schema::VERSION
        }
    );
    Ok(())
}

#[tokio::test]
async fn the_queries_that_users_have_work_for_the_reader_as_they_stand() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(
        &mut writer,
        "SELECT ensure_stock_data_partition(now()), ensure_stock_data_partition(now() - interval '8 days')",
    )
    .await?;
    let values = "('A', 10, 100, now() - interval '3 minutes'), ('A', 12, 160, now() - interval '2 minutes'),
                  ('A', 11, 190, now() - interval '1 minute'), ('B', 5, NULL, now()), ('A', 99, 7, now() - interval '8 days')";
    execute(&mut writer, &format!("{TICK}{values}")).await?;
    execute(
        &mut writer,
        "INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close, first_key,
             last_key, tick_count, price_sum, price_square_sum)
         SELECT symbol, '1d', now() - interval '1 hour', now(), current_date, 10, 12, 10, 11, '\\x00', '\\x01', 3, 33, 365
         FROM unnest(ARRAY['B', 'A']) AS symbol",
    )
    .await?;

    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    let recent = sqlx::query("SELECT * FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours'")
        .fetch_all(&mut reader)
        .await?;
    assert_eq!(recent.len(), 4);
    let averages = sqlx::query(
        "SELECT symbol, AVG(price) AS avg_price, MIN(price) AS min_price, MAX(price) AS max_price, STDDEV(price) AS volatility FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours' GROUP BY symbol",
    )
    .fetch_all(&mut reader)
    .await?;
    assert_eq!(averages.len(), 2);

    let recent = sqlx::query("SELECT * FROM get_recent_stock_data('A')")
        .fetch_all(&mut reader)
        .await?;
    assert_eq!(
        recent
            .iter()
            .map(|row| row.get::<i64, _>("volume"))
            .collect::<Vec<_>>(),
        [190, 160, 100]
    );
    assert_eq!(
        sqlx::query("SELECT * FROM get_recent_stock_data('A', 240)")
            .fetch_all(&mut reader)
            .await?
            .len(),
        4
    );

    let row = sqlx::query("SELECT symbol, avg_price::text, min_price::text, max_price::text, price_volatility::text, total_volume, tick_count FROM get_stock_statistics('A')")
        .fetch_one(&mut reader)
        .await?;
    assert_eq!(row.get::<String, _>(0), "A");
    assert_eq!(row.get::<String, _>(1).trim_end_matches('0'), "11.");
    assert_eq!(
        (row.get::<String, _>(2), row.get::<String, _>(3)),
        ("10".into(), "12".into())
    );
    assert_eq!(row.get::<String, _>(4).trim_end_matches('0'), "1.");
    assert_eq!(row.get::<i64, _>(6), 3);
    assert!(
        sqlx::query("SELECT * FROM get_stock_statistics('NONE')")
            .fetch_optional(&mut reader)
            .await?
            .is_none()
    );

    let symbols: Vec<String> = sqlx::query_scalar("SELECT * FROM get_all_symbols()")
        .fetch_all(&mut reader)
        .await?;
    assert_eq!(symbols, ["A", "B"]);
    let day = sqlx::query("SELECT price_volatility::text, price_change::text, percent_change::text FROM stock_analytics WHERE symbol = 'A'")
        .fetch_one(&mut reader)
        .await?;
    assert_eq!(day.get::<String, _>(0).trim_end_matches('0'), "1.");
    assert_eq!(day.get::<String, _>(1), "1");
    Ok(())
}

#[tokio::test]
async fn total_volume_is_the_growth_of_the_running_totals() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    // Noon in New York, so that an hour before is the same day, whenever the test runs.
    execute(&mut writer, "SELECT ensure_stock_data_partition(now() - day * interval '1 day') FROM generate_series(0, 3) AS day").await?;
    let noon = "(date_trunc('day', now(), 'America/New_York') + interval '12 hours')";
    let values = format!(
        "('A', 1, 500, {noon} - interval '2 days'), ('A', 1, 900, {noon} - interval '47 hours'),
         ('A', 1, 50, {noon} - interval '1 day'), ('A', 1, 80, {noon} - interval '23 hours')"
    );
    execute(&mut writer, &format!("{TICK}{values}")).await?;
    // A span that begins between the first two ticks holds 900 - 500 of the first day and the second day's 80.
    let hours: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT ceil(extract(epoch FROM now() - ({noon} - interval '47 hours 30 minutes')) / 3600)::bigint"
    )))
    .fetch_one(&mut writer)
    .await?;
    let start_is_between: bool = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT now() - make_interval(hours => {hours}) > {noon} - interval '2 days'"
    )))
    .fetch_one(&mut writer)
    .await?;
    let total: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT total_volume FROM get_stock_statistics('A', {hours})"
    )))
    .fetch_one(&mut writer)
    .await?;
    // An hour is the finest span there is: it may reach back over the first tick, and then holds all of that day.
    assert_eq!(total, if start_is_between { 480 } else { 980 });
    Ok(())
}

#[tokio::test]
async fn the_volumes_of_a_days_candles_add_up_to_the_day() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    for (width, start, end, total) in [
        ("1h", "2026-11-20 14:00Z", "2026-11-20 15:00Z", "100"),
        ("1h", "2026-11-20 15:00Z", "2026-11-20 16:00Z", "NULL"),
        ("1h", "2026-11-20 16:00Z", "2026-11-20 17:00Z", "250"),
        ("1h", "2026-11-21 14:00Z", "2026-11-21 15:00Z", "30"),
        ("1d", "2026-11-20 05:00Z", "2026-11-21 05:00Z", "250"),
        ("1d", "2026-11-21 05:00Z", "2026-11-22 05:00Z", "30"),
    ] {
        execute(
            &mut writer,
            &format!(
                "INSERT INTO candle_state (symbol, width, window_start, window_end, session_day, open, high, low, close,
                     first_key, last_key, volume_total, volume_key, tick_count, price_sum, price_square_sum)
                 VALUES ('A', '{width}', '{start}', '{end}', '{}', 1, 1, 1, 1, '\\x00', '\\x00', {total}, '\\x00', 1, 1, 1)",
                &start[..10]
            ),
        )
        .await?;
    }
    let volumes: Vec<Option<i64>> =
        sqlx::query_scalar("SELECT volume FROM candles ORDER BY width DESC, window_start")
            .fetch_all(&mut writer)
            .await?;
    assert_eq!(
        volumes,
        [Some(100), None, Some(150), Some(30), Some(250), Some(30)]
    );
    Ok(())
}

#[tokio::test]
async fn each_role_may_do_its_work_and_no_more() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    assert_eq!(schema::version(&mut writer, &feed).await?, Some(schema::VERSION));
    denied(&mut writer, "DELETE FROM stock_data").await;
    denied(&mut writer, "UPDATE stock_data SET price = 1").await;
    denied(&mut writer, "DROP TABLE stock_data").await;
    denied(&mut writer, "CREATE TABLE mine ()").await;
    denied(&mut writer, "SELECT drop_stock_data_before(now())").await;
    denied(&mut reader, "INSERT INTO api_calls VALUES (now(), 1)").await;
    denied(&mut reader, "SELECT ensure_stock_data_partition(now())").await;

    let other = TestDatabase::create().await?;
    let neighbour = FeedName::new("markets", format!("n{}", &other.name[20..])).unwrap();
    schema::roles::ensure(&mut admin, &neighbour).await?;
    schema::migrate(&mut admin, &neighbour).await?;
    denied(
        &mut reader,
        &format!("SELECT * FROM {}.stock_data", neighbour.schema()),
    )
    .await;
    Ok(())
}

#[tokio::test]
async fn drop_takes_schema_and_roles() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let writer = login(&database, &feed.writer_role(), &mut admin).await?;
    writer.close().await?;
    schema::drop(&mut admin, &feed).await?;
    assert_eq!(schema::version(&mut admin, &feed).await?, None);
    schema::drop(&mut admin, &feed).await?;
    Ok(())
}

#[tokio::test]
async fn several_feeds_migrate_at_once() -> Result<()> {
    let database = TestDatabase::create().await?;
    let mut tasks = Vec::new();
    for number in 0..6 {
        let database = database.clone();
        let feed = FeedName::new(format!("m{number}"), format!("f{}", &database.name[20..])).unwrap();
        tasks.push(tokio::spawn(async move {
            let mut admin = database.connect().await?;
            schema::roles::ensure(&mut admin, &feed).await?;
            schema::migrate(&mut admin, &feed).await?;
            schema::version(&mut admin, &feed)
                .await
                .map_err(anyhow::Error::from)
        }));
    }
    for task in tasks {
        assert_eq!(task.await??, Some(schema::VERSION));
    }
    Ok(())
}
