//! What was refused and is released again, and what the broker gave up on.

mod harness;

use anyhow::Result;
use contract::tick;
use harness::{Harness, numbered, tick as one};
use uuid::Uuid;

const TICKS: &str = "SELECT count(*) FROM stock_data";

#[tokio::test]
async fn what_is_released_is_taken_in_once_by_the_rules_of_now() -> Result<()> {
    let mut harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    harness
        .ticks(publisher, 1, &[one("AAPL", "2026-11-20T15:00:10Z", "10", 100)])
        .await?;
    // A symbol that the feed does not have yet, and a price that no rule will ever take.
    let body = br#"[{"symbol":"MSFT","price":"20","event_time":"2026-11-20T15:00:20Z"},{"symbol":"AAPL","price":0,"event_time":"2026-11-20T15:00:30Z"}]"#;
    harness
        .publish(0, body, tick::MESSAGE_TYPE, numbered(publisher, 2))
        .await?;
    harness.heartbeat(0, publisher, 3, "2026-11-21T15:00:00Z").await?;
    harness.until("SELECT count(*) FROM quarantine", "2").await?;
    harness
        .until(
            "SELECT bool_and(is_final) FROM candles WHERE width = '1m'",
            "true",
        )
        .await?;
    processor.drain().await?;

    harness.config.symbols.push("MSFT".parse()?);
    let processor = harness.start("a");
    harness.heartbeat(0, publisher, 4, "2026-11-21T15:00:01Z").await?;
    harness
        .execute("SELECT release_quarantined(ARRAY(SELECT id FROM quarantine))")
        .await?;
    harness.until(TICKS, "2").await?;
    // A day late and all the same in its candle: somebody asked for it by name.
    harness
        .until(
            "SELECT concat_ws(' ', close, tick_count, is_final) FROM candles WHERE symbol = 'MSFT' AND width = '1m'",
            "20 1 t",
        )
        .await?;
    harness.until("SELECT count(*) FROM late_ticks", "0").await?;
    harness
        .until(
            "SELECT string_agg(reason || ' ' || (released_at IS NULL), ',') FROM quarantine",
            "price_not_positive true",
        )
        .await?;
    harness
        .execute("SELECT discard_quarantined_by_reason('price_not_positive')")
        .await?;
    harness.until("SELECT count(*) FROM quarantine", "0").await?;
    harness.until(TICKS, "2").await?;
    processor.drain().await
}

#[tokio::test]
async fn dead_letters_are_quarantined_once_and_are_no_gap() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let queue = harness.feed.queue(1, 0);
    for sequence in 1..=3 {
        let time = format!("2026-11-20T15:00:0{sequence}Z");
        harness
            .ticks(publisher, sequence, &[one("AAPL", &time, "10", sequence)])
            .await?;
    }
    // The broker gives up on the first, as it does on a message that kills its consumers.
    harness.reject_first(&queue).await?;
    let processor = harness.start("a");
    harness
        .until(
            "SELECT concat_ws(' ', reason, queue, generation, partition, sequence) FROM quarantine",
            &format!("delivery_limit {queue} 1 0 1"),
        )
        .await?;
    harness.until(TICKS, "2").await?;
    // Longer than the gap timeout: the hole is closed, because it is known what is in it.
    harness
        .until(
            "SELECT first::text || ' ' || last::text FROM publishers",
            "{1} {3}",
        )
        .await?;
    harness.until("SELECT count(*) FROM gaps", "0").await?;
    harness
        .execute("SELECT release_quarantined_by_reason('delivery_limit')")
        .await?;
    harness.until(TICKS, "3").await?;
    harness.until("SELECT count(*) FROM quarantine", "0").await?;
    harness.until_queues_are_empty().await?;
    processor.drain().await
}
