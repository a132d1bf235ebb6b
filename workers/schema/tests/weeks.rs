//! Partitions of `stock_data`: made ahead, dropped by retention.

mod support;

use std::time::Duration;

use anyhow::Result;
use support::{denied, execute, login, migrated, text};

const TICK: &str = r#"INSERT INTO stock_data (symbol, price, "timestamp") VALUES ('A', 1, "#;
const NINETY_DAYS: Duration = Duration::from_secs(90 * 86_400);
const WEEKS: &str = "SELECT count(*) FROM stock_data_weeks WHERE state = 'attached'";

#[tokio::test]
async fn weeks_are_made_ahead_once() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    assert_eq!(schema::partitions_ahead(&mut admin, &feed).await?, 3);
    assert_eq!(schema::partitions_ahead(&mut admin, &feed).await?, 0);
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    for ahead in ["-5 seconds", "1 day", "14 days"] {
        execute(&mut writer, &format!("{TICK} now() + interval '{ahead}')"))
            .await
            .ok();
    }
    assert_eq!(
        text(
            &mut writer,
            "SELECT count(*) FROM stock_data WHERE \"timestamp\" > now()"
        )
        .await?,
        "2"
    );
    assert_eq!(
        text(&mut writer, "SELECT ensure_stock_data_partitions('28 days')").await?,
        "2"
    );
    assert_eq!(
        text(&mut writer, "SELECT ensure_stock_data_partitions('-28 days')").await?,
        "0"
    );
    let ranges = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING brin%'";
    assert_eq!(text(&mut writer, ranges).await?, text(&mut writer, WEEKS).await?);
    // No mistake makes thousands of tables.
    assert_eq!(
        text(
            &mut writer,
            "SELECT ensure_stock_data_partitions('900 years') < 53"
        )
        .await?,
        "true"
    );
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    denied(&mut reader, "SELECT ensure_stock_data_partitions()").await;
    Ok(())
}

#[tokio::test]
async fn retention_drops_whole_weeks_and_their_late_ticks() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let one = |query: &'static str| query;
    assert_eq!(
        text(
            &mut writer,
            one("SELECT ensure_stock_data_partition('2012-01-03')")
        )
        .await?,
        "true"
    );
    assert_eq!(
        text(
            &mut writer,
            one("SELECT ensure_stock_data_partition('2012-01-04')")
        )
        .await?,
        "false"
    );
    execute(
        &mut writer,
        "SELECT ensure_stock_data_partition(now() - interval '90 days'), ensure_stock_data_partition(now())",
    )
    .await?;
    let late = "INSERT INTO late_ticks (symbol, width, window_start, price, \"timestamp\", watermark) VALUES ('A', '1m', now(), 1, ";
    for moment in ["'2012-01-03'", "now() - interval '90 days'", "now()"] {
        execute(&mut writer, &format!("{TICK} {moment})")).await?;
        execute(&mut writer, &format!("{late} {moment}, now())")).await?;
    }
    execute(
        &mut writer,
        "INSERT INTO quarantine (generation, partition, reason, detail, raw, received_at) VALUES (1, 0, 'x', 'y', '', '2012-01-03')",
    )
    .await?;
    let expected = schema::Retained {
        weeks: 1,
        late_ticks: 1,
        waiting: false,
    };
    assert_eq!(schema::retention(&mut admin, &feed, NINETY_DAYS).await?, expected);
    assert_eq!(
        schema::retention(&mut admin, &feed, NINETY_DAYS).await?,
        schema::Retained::default()
    );
    // A week that is partly within the retention stays whole, and so does what somebody has yet to decide on.
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM stock_data), (SELECT count(*) FROM late_ticks), (SELECT count(*) FROM quarantine))";
    assert_eq!(text(&mut writer, left).await?, "2 2 1");
    assert_eq!(
        text(&mut admin, "SELECT current_setting('lock_timeout')").await?,
        "0"
    );
    assert_eq!(
        schema::retention(&mut admin, &feed, Duration::MAX).await?,
        schema::Retained::default()
    );
    Ok(())
}

#[tokio::test]
async fn a_tick_of_a_dropped_week_makes_it_anew() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    for _ in 0..2 {
        execute(&mut writer, "SELECT ensure_stock_data_partition('2012-01-03')").await?;
        execute(&mut writer, &format!("{TICK} '2012-01-03')")).await?;
        assert_eq!(schema::retention(&mut admin, &feed, NINETY_DAYS).await?.weeks, 1);
        execute(&mut writer, &format!("{TICK} '2012-01-03')"))
            .await
            .expect_err("there is no such week");
    }
    Ok(())
}

#[tokio::test]
async fn retention_waits_for_no_transaction_and_makes_none_wait() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(
        &mut writer,
        "SELECT ensure_stock_data_partition('2012-01-03'), ensure_stock_data_partition(now())",
    )
    .await?;
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    execute(&mut reader, "BEGIN; SELECT count(*) FROM stock_data").await?;

    // While retention waits for the reader, a writer writes and another reader reads.
    let retention = schema::retention(&mut admin, &feed, NINETY_DAYS);
    let write = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        execute(
            &mut writer,
            &format!("SET statement_timeout = '2s'; {TICK} now())"),
        )
        .await?;
        text(&mut writer, "SELECT count(*) FROM stock_data").await
    };
    let (retained, written) = tokio::join!(retention, write);
    assert_eq!(written?, "1");
    let retained = retained?;
    assert!(retained.waiting);
    assert_eq!(retained.weeks, 0);
    assert_eq!(
        text(
            &mut writer,
            "SELECT string_agg(state, ' ' ORDER BY week_start) FROM stock_data_weeks"
        )
        .await?,
        "detaching attached"
    );

    execute(&mut reader, "COMMIT").await?;
    let retained = schema::retention(&mut admin, &feed, NINETY_DAYS).await?;
    assert_eq!((retained.weeks, retained.waiting), (1, false));
    assert_eq!(text(&mut writer, WEEKS).await?, "1");
    Ok(())
}

#[tokio::test]
async fn a_writer_that_needs_a_week_finishes_what_was_interrupted() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(&mut writer, "SELECT ensure_stock_data_partition('2012-01-03')").await?;
    let schema = feed.schema();
    // Interrupted while it waited for a reader.
    let mut reader = login(&database, &feed.reader_role(), &mut admin).await?;
    execute(&mut reader, "BEGIN; SELECT count(*) FROM stock_data").await?;
    let detach =
        format!("ALTER TABLE {schema}.stock_data DETACH PARTITION {schema}.stock_data_20120102 CONCURRENTLY");
    execute(&mut admin, "SET lock_timeout = '200ms'").await?;
    execute(&mut admin, &detach)
        .await
        .expect_err("the reader is in its way");
    execute(&mut admin, "RESET lock_timeout").await?;
    execute(&mut reader, "COMMIT").await?;
    assert_eq!(
        text(&mut writer, "SELECT ensure_stock_data_partition('2012-01-03')").await?,
        "true"
    );
    execute(&mut writer, &format!("{TICK} '2012-01-03')")).await?;
    // Interrupted between detaching and dropping.
    execute(&mut admin, &detach).await?;
    assert_eq!(
        text(&mut writer, "SELECT state FROM stock_data_weeks").await?,
        "detached"
    );
    assert_eq!(
        text(&mut writer, "SELECT ensure_stock_data_partition('2012-01-03')").await?,
        "true"
    );
    assert_eq!(text(&mut writer, "SELECT count(*) FROM stock_data").await?, "0");
    // By hand, as an administrator.
    execute(&mut admin, &detach).await?;
    assert_eq!(
        text(
            &mut admin,
            &format!("SELECT {schema}.drop_stock_data_before(now())")
        )
        .await?,
        "1"
    );
    denied(&mut writer, "SELECT drop_stock_data_before(now())").await;
    Ok(())
}

#[tokio::test]
async fn many_writers_and_a_retention_at_once() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writers = Vec::new();
    for _ in 0..4 {
        let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
        writers.push(tokio::spawn(async move {
            let mut again = 0;
            for number in 0..40 {
                let moment = format!("timestamptz '2012-01-03' + {} * interval '7 days'", number % 5);
                // As the processor does: a week that went between the two is made once more.
                loop {
                    execute(
                        &mut writer,
                        &format!("SELECT ensure_stock_data_partition({moment})"),
                    )
                    .await?;
                    match execute(&mut writer, &format!("{TICK} {moment})")).await {
                        Ok(()) => break,
                        Err(error) if error.to_string().contains("no partition of relation") => again += 1,
                        Err(error) => return Err(error),
                    }
                }
            }
            anyhow::Ok(again)
        }));
    }
    let mut dropped = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        dropped += schema::retention(&mut admin, &feed, NINETY_DAYS).await?.weeks;
    }
    for writer in writers {
        writer.await??;
    }
    assert!(dropped > 0);
    Ok(())
}
