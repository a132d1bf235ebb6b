//! The protocol against a real RabbitMQ and a real PostgreSQL.

mod harness;

use anyhow::Result;
use contract::tick;
use harness::{Harness, numbered, tick as one};
use lapin::types::FieldTable;
use uuid::Uuid;

const TICKS: &str = "SELECT count(*) FROM stock_data";
const CANDLE: &str = "SELECT concat_ws(' ', open, high, low, close, volume, tick_count, revision, is_final)
                      FROM candles WHERE symbol = 'AAPL' AND width = '1m' ORDER BY window_start LIMIT 1";

#[tokio::test]
async fn ticks_become_rows_and_candles_and_a_heartbeat_closes_them() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    harness
        .ticks(
            publisher,
            1,
            &[
                one("AAPL", "2026-11-20T15:00:10Z", "10.5", 100),
                one("AAPL", "2026-11-20T15:00:40Z", "12.25", 250),
            ],
        )
        .await?;
    harness
        .ticks(publisher, 2, &[one("AAPL", "2026-11-20T15:00:20Z", "9.75", 180)])
        .await?;
    harness.until(TICKS, "3").await?;
    harness.until(CANDLE, "10.5 12.25 9.75 12.25 250 3 0 f").await?;
    harness.heartbeat(0, publisher, 3, "2026-11-20T15:01:00Z").await?;
    harness.until(CANDLE, "10.5 12.25 9.75 12.25 250 3 0 t").await?;
    // Within the allowed lateness: a revision, and still final.
    harness
        .ticks(publisher, 4, &[one("AAPL", "2026-11-20T15:00:50Z", "8", 300)])
        .await?;
    harness.until(CANDLE, "10.5 12.25 8 8 300 4 1 t").await?;
    // Beyond it: kept aside, and among the raw ticks.
    harness.heartbeat(0, publisher, 5, "2026-11-20T18:00:00Z").await?;
    harness
        .ticks(publisher, 6, &[one("AAPL", "2026-11-20T15:00:55Z", "7", 310)])
        .await?;
    harness
        .until("SELECT string_agg(width, ',') FROM late_ticks", "1m")
        .await?;
    harness.until(TICKS, "5").await?;
    harness
        .until(
            "SELECT company_name FROM stock_data LIMIT 1",
            "Tab\there, back\\slash, line\nend",
        )
        .await?;
    harness.until_queues_are_empty().await?;
    processor.drain().await
}

#[tokio::test]
async fn what_cannot_be_used_is_quarantined_and_blocks_nothing() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    harness
        .publish(0, b"nonsense", tick::MESSAGE_TYPE, numbered(publisher, 1))
        .await?;
    harness
        .publish(0, b"\xff\x00", "another.type", FieldTable::default())
        .await?;
    let mixed = br#"[{"symbol":"AAPL","price":1,"event_time":"2026-11-20T15:00:00Z"},{"symbol":"MSFT","price":1,"event_time":"2026-11-20T15:00:00Z"},{"symbol":"AAPL","price":0,"event_time":"2026-11-20T15:00:00Z"}]"#;
    harness
        .publish(0, mixed, tick::MESSAGE_TYPE, numbered(publisher, 2))
        .await?;
    harness
        .ticks(publisher, 3, &[one("AAPL", "2026-11-20T15:00:10Z", "10", 1)])
        .await?;
    harness.until(TICKS, "2").await?;
    harness
        .until(
            "SELECT string_agg(reason, ',' ORDER BY reason) FROM quarantine",
            "price_not_positive,undecodable,unknown_symbol,unknown_type",
        )
        .await?;
    harness
        .until(
            "SELECT encode(raw, 'escape') FROM quarantine WHERE reason = 'undecodable'",
            "nonsense",
        )
        .await?;
    harness.until("SELECT sum(gaps) FROM partitions", "0").await?;
    harness.until_queues_are_empty().await?;
    processor.drain().await
}

#[tokio::test]
async fn a_message_that_comes_twice_counts_once() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    // Newer before older, each twice: what a quorum queue may do after a consumer died.
    for _ in 0..2 {
        for sequence in (31..=60).chain(1..=30) {
            let time = format!("2026-11-20T15:00:{:02}Z", sequence % 60);
            harness
                .ticks(publisher, sequence, &[one("AAPL", &time, "10", sequence)])
                .await?;
        }
    }
    harness.until_queues_are_empty().await?;
    harness.until(TICKS, "60").await?;
    harness
        .until("SELECT sum(duplicates) FROM partitions", "60")
        .await?;
    harness
        .until(
            "SELECT first::text || ' ' || last::text FROM publishers",
            "{1} {60}",
        )
        .await?;
    processor.drain().await
}

#[tokio::test]
async fn a_gap_is_reported_and_what_arrives_in_it_after_all_is_kept() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    harness
        .ticks(publisher, 1, &[one("AAPL", "2026-11-20T15:00:00Z", "10", 1)])
        .await?;
    harness
        .ticks(publisher, 4, &[one("AAPL", "2026-11-20T15:10:00Z", "10", 4)])
        .await?;
    harness
        .until("SELECT first_sequence || '-' || last_sequence FROM gaps", "2-3")
        .await?;
    harness
        .until(
            "SELECT to_char(watermark AT TIME ZONE 'UTC', 'HH24:MI:SS') FROM partitions",
            "15:09:55",
        )
        .await?;
    harness
        .ticks(publisher, 2, &[one("AAPL", "2026-11-20T15:00:02Z", "11", 2)])
        .await?;
    harness.until(TICKS, "3").await?;
    harness.until("SELECT gaps FROM partitions", "2").await?;
    processor.drain().await
}

#[tokio::test]
async fn a_processor_of_another_owner_cannot_write() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    harness
        .ticks(publisher, 1, &[one("AAPL", "2026-11-20T15:00:00Z", "10", 1)])
        .await?;
    harness.until(TICKS, "1").await?;
    let fence = "UPDATE partitions SET owner = 'somebody else', version = version + 1 RETURNING version";
    let mut admin = harness.database.connect().await?;
    let schema = harness.feed.schema();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "SET search_path TO {schema}; {fence}"
    )))
    .execute(&mut admin)
    .await?;
    harness
        .ticks(publisher, 2, &[one("AAPL", "2026-11-20T15:00:01Z", "10", 1)])
        .await?;
    // It gives the partition up, is given it again by the broker, claims it, and goes on.
    harness.until(TICKS, "2").await?;
    harness
        .until("SELECT owner LIKE 'a/%' FROM partitions", "true")
        .await?;
    processor.drain().await
}

#[tokio::test]
async fn kills_and_lost_connections_lose_and_double_nothing() -> Result<()> {
    let symbols = ["AAPL", "MSFT", "IBM", "GOOG", "FB"];
    let harness = Harness::new(&symbols, 3).await?;
    let publisher = Uuid::now_v7();
    let mut sequences = [0_i64; 3];
    let mut published = 0;
    let mut processors = vec![harness.start("a"), harness.start("b")];
    for round in 0..12 {
        for number in 0..60_i64 {
            let symbol = symbols[usize::try_from(number).unwrap() % symbols.len()];
            let partition = usize::from(harness.partition(symbol));
            sequences[partition] += 1;
            let time = format!("2026-11-20T15:{round:02}:{number:02}Z");
            harness
                .ticks(
                    publisher,
                    sequences[partition],
                    &[one(symbol, &time, &format!("{}", 100 + number), number)],
                )
                .await?;
            published += 1;
        }
        match round % 4 {
            0 => processors.remove(0).kill().await,
            1 => cut_database_connections(&harness).await?,
            2 => processors.remove(0).drain().await?,
            _ => {}
        }
        while processors.len() < 2 {
            processors.push(harness.start(&format!("r{round}")));
        }
    }
    harness.until(TICKS, &published.to_string()).await?;
    harness.until_queues_are_empty().await?;
    harness
        .until(
            "SELECT count(DISTINCT (symbol, timestamp)) FROM stock_data",
            &published.to_string(),
        )
        .await?;
    harness
        .until(
            "SELECT sum(tick_count) FROM candles WHERE width = '1m'",
            &published.to_string(),
        )
        .await?;
    harness.until("SELECT count(*) FROM gaps", "0").await?;
    // Every candle as the raw ticks give it.
    let wrong = "SELECT count(*) FROM candles candle JOIN LATERAL (
            SELECT count(*) AS ticks, min(price) AS low, max(price) AS high, sum(price) AS total,
                   (array_agg(price ORDER BY timestamp))[1] AS open, (array_agg(price ORDER BY timestamp DESC))[1] AS close
            FROM stock_data tick WHERE tick.symbol = candle.symbol AND timestamp >= window_start AND timestamp < window_end
        ) raw ON true
        WHERE (raw.ticks, raw.low, raw.high, raw.total, raw.open, raw.close)
            IS DISTINCT FROM (candle.tick_count, candle.low, candle.high, candle.price_sum, candle.open, candle.close)";
    harness.until(wrong, "0").await?;
    for processor in processors {
        processor.drain().await?;
    }
    Ok(())
}

/// As a database that restarts, or a network that breaks, does.
async fn cut_database_connections(harness: &Harness) -> Result<()> {
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::raw_sql(others)
        .execute(&mut harness.database.connect().await?)
        .await?;
    Ok(())
}
