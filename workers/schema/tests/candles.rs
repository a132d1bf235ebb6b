//! What no candle can be.

mod support;

use anyhow::Result;
use sqlx::PgConnection;
use support::{execute, login, migrated};

/// Columns with a good value each, in the order of the statement.
const GOOD: [(&str, &str); 18] = [
    ("symbol", "'A'"),
    ("width", "'1m'"),
    ("window_start", "'2026-11-20 14:31Z'"),
    ("window_end", "'2026-11-20 14:32Z'"),
    ("session_day", "'2026-11-20'"),
    ("open", "10"),
    ("high", "12"),
    ("low", "9"),
    ("close", "11"),
    ("first_key", "'\\x00'"),
    ("last_key", "'\\x01'"),
    ("volume_total", "100"),
    ("volume_key", "'\\x01'"),
    ("tick_count", "3"),
    ("price_sum", "33"),
    ("price_square_sum", "365"),
    ("revision", "0"),
    ("is_final", "false"),
];

async fn insert(writer: &mut PgConnection, changes: &[(&str, &str)]) -> Result<()> {
    let columns: Vec<_> = GOOD.iter().map(|(column, _)| *column).collect();
    let values: Vec<_> = GOOD
        .iter()
        .map(|(column, value)| {
            let change = changes.iter().find(|(changed, _)| changed == column);
            change.map_or(*value, |(_, value)| *value)
        })
        .collect();
    let statement = format!(
        "INSERT INTO candle_state ({}) VALUES ({})",
        columns.join(", "),
        values.join(", ")
    );
    execute(writer, &statement).await
}

#[tokio::test]
async fn every_broken_candle_is_refused() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let broken: [(&[(&str, &str)], &str); 19] = [
        (&[("low", "10.5")], "candle_order"),
        (&[("low", "11.5")], "candle_order"),
        (&[("low", "13")], "candle_order"),
        (&[("high", "9.5")], "candle_order"),
        (&[("high", "10.5")], "candle_order"),
        (&[("close", "12.01")], "candle_order"),
        (&[("close", "8.99")], "candle_order"),
        (&[("open", "12.01")], "candle_order"),
        (&[("open", "8.99")], "candle_order"),
        (&[("low", "0")], "candle_order"),
        (&[("low", "-1")], "candle_order"),
        (&[("window_end", "'2026-11-20 14:31Z'")], "candle_window"),
        (&[("window_end", "'2026-11-20 14:30Z'")], "candle_window"),
        (&[("tick_count", "0")], "candle_count"),
        (&[("tick_count", "-1")], "candle_count"),
        (&[("volume_total", "-1")], "candle_count"),
        (&[("revision", "-1")], "candle_count"),
        (&[("open", "NULL")], "not-null"),
        (&[("price_sum", "NULL")], "not-null"),
    ];
    for (changes, constraint) in broken {
        let error = insert(&mut writer, changes)
            .await
            .expect_err(constraint)
            .to_string();
        assert!(error.contains(constraint), "{changes:?}: {error}");
    }
    // At the bounds, and without a total.
    insert(
        &mut writer,
        &[
            ("open", "9"),
            ("close", "12"),
            ("volume_total", "NULL"),
            ("volume_key", "NULL"),
        ],
    )
    .await?;
    let error = insert(&mut writer, &[])
        .await
        .expect_err("the window has a candle")
        .to_string();
    assert!(error.contains("candle_state_pkey"), "{error}");
    // Nor does an update break one.
    for change in [
        "high = 1",
        "tick_count = 0",
        "volume_total = -1",
        "window_end = window_start",
    ] {
        execute(&mut writer, &format!("UPDATE candle_state SET {change}"))
            .await
            .expect_err(change);
    }
    Ok(())
}

#[tokio::test]
async fn no_tick_has_a_price_of_zero_or_a_negative_total() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(&mut writer, "SELECT ensure_stock_data_partition(now())").await?;
    for (price, volume) in [("0", "1"), ("-1", "1"), ("1", "-1"), ("NULL", "1")] {
        let statement = format!(
            r#"INSERT INTO stock_data (symbol, price, volume, "timestamp") VALUES ('A', {price}, {volume}, now())"#
        );
        execute(&mut writer, &statement).await.expect_err(&statement);
    }
    Ok(())
}
