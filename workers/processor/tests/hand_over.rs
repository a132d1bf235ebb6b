//! Partitions that change hands, consumers that change their prefetch: nothing is delivered twice.

mod harness;

use anyhow::Result;
use contract::tick;
use harness::{Harness, numbered, tick as one};
use uuid::Uuid;

const DUPLICATES: &str = "SELECT coalesce(sum(duplicates), 0) FROM partitions";

/// Publishes ticks of one symbol, one a message, from one sequence to another.
async fn publish(harness: &Harness, publisher: Uuid, sequences: std::ops::RangeInclusive<i64>) -> Result<()> {
    for sequence in sequences {
        let time = format!("2026-11-20T15:{:02}:{:02}Z", sequence / 60 % 60, sequence % 60);
        harness
            .ticks(publisher, sequence, &[one("AAPL", &time, "10", sequence)])
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_drain_hands_over_without_a_redelivery() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let publisher = Uuid::now_v7();
    let mut running = harness.start("r0");
    publish(&harness, publisher, 1..=50).await?;
    harness.until("SELECT count(*) FROM stock_data", "50").await?;
    let mut last = 50;
    for round in 1..=5 {
        // The next one is there and waits, and ticks keep coming while the first one ends.
        let next = harness.start(&format!("r{round}"));
        harness.until_consumers(&harness.feed.queue(1, 0), 2).await?;
        let (published, drained) = tokio::join!(publish(&harness, publisher, last + 1..=last + 200), async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            running.drain().await
        });
        published?;
        drained?;
        last += 200;
        running = next;
    }
    harness
        .until("SELECT count(*) FROM stock_data", &last.to_string())
        .await?;
    harness.until(DUPLICATES, "0").await?;
    let redelivered = harness
        .redelivered(&harness.feed.queue(1, 0), last.cast_unsigned())
        .await?;
    assert_eq!(redelivered, 0, "messages were delivered again");
    // Rows were written in the order of their events: nobody overtook the one that was ending.
    harness
        .until(
            "SELECT bool_and(ordered) FROM (SELECT volume > lag(volume, 1, 0::bigint) OVER (ORDER BY id) AS ordered FROM stock_data) rows",
            "true",
        )
        .await?;
    running.drain().await?;
    harness.until("SELECT owner FROM partitions", "").await
}

/// What a replica holds when it is told to end may take it long to commit. That is no reason to stop in the middle of deliveries.
#[tokio::test]
async fn a_drain_with_slow_commits_hands_over_without_a_redelivery() -> Result<()> {
    let mut harness = Harness::new(&["AAPL"], 1).await?;
    harness.config.batch.max_messages = 300;
    harness
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END $$;
             GRANT EXECUTE ON FUNCTION slow() TO PUBLIC;
             CREATE TRIGGER slow BEFORE INSERT ON stock_data FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await?;
    let (queue, publisher) = (harness.feed.queue(1, 0), Uuid::now_v7());
    // Three seconds a batch, and three batches under way.
    publish(&harness, publisher, 1..=2_500).await?;
    // Of the higher priority, so that it stays the active one.
    let first = harness.start("b");
    harness
        .until("SELECT count(*) >= 900 FROM stock_data", "true")
        .await?;
    let second = harness.start("a");
    harness.until_consumers(&queue, 2).await?;
    let began = std::time::Instant::now();
    first.drain().await?;
    assert!(
        began.elapsed().as_secs_f64() > 5.0,
        "nothing was slow: {:?}",
        began.elapsed()
    );
    harness.execute("DROP TRIGGER slow ON stock_data").await?;
    harness.until("SELECT count(*) FROM stock_data", "2500").await?;
    harness.until_queues_are_empty().await?;
    let redelivered = harness.redelivered(&queue, 2_500).await?;
    assert_eq!(redelivered, 0, "messages were delivered again");
    second.drain().await
}

/// Scaling out and in again. The broker does not tell a consumer that another became the active one, nor that it is the active one again.
#[tokio::test]
async fn a_partition_that_comes_back_to_its_former_owner_is_taken_up_without_a_redelivery() -> Result<()> {
    let harness = Harness::new(&["AAPL"], 1).await?;
    let (queue, publisher) = (harness.feed.queue(1, 0), Uuid::now_v7());
    let owner = "SELECT split_part(owner, '/', 1) FROM partitions";
    let first = harness.start("a");
    let mut last = 0;
    for _ in 0..3 {
        publish(&harness, publisher, last + 1..=last + 50).await?;
        last += 50;
        harness
            .until("SELECT count(*) FROM stock_data", &last.to_string())
            .await?;
        harness.until(owner, "a").await?;
        // Of a higher priority for this partition.
        let second = harness.start("b");
        harness.until_consumers(&queue, 2).await?;
        publish(&harness, publisher, last + 1..=last + 50).await?;
        last += 50;
        harness
            .until("SELECT count(*) FROM stock_data", &last.to_string())
            .await?;
        harness.until(owner, "b").await?;
        second.drain().await?;
    }
    publish(&harness, publisher, last + 1..=last + 50).await?;
    last += 50;
    harness
        .until("SELECT count(*) FROM stock_data", &last.to_string())
        .await?;
    harness.until(owner, "a").await?;
    harness.until_queues_are_empty().await?;
    let redelivered = harness.redelivered(&queue, last.cast_unsigned()).await?;
    assert_eq!(redelivered, 0, "messages were delivered again");
    first.drain().await
}

#[tokio::test]
async fn the_prefetch_follows_the_size_of_messages_without_a_redelivery() -> Result<()> {
    let mut harness = Harness::new(&["AAPL"], 1).await?;
    harness.config.batch.max_messages = 1_000;
    harness.config.batch.max_bytes = 1 << 20;
    let publisher = Uuid::now_v7();
    // Small messages wait: the first prefetch is 64, three batches are 3,000.
    publish(&harness, publisher, 1..=2_000).await?;
    let processor = harness.start("a");
    harness.until("SELECT count(*) FROM stock_data", "2000").await?;
    let queue = harness.feed.queue(1, 0);
    harness::eventually(|| async { Ok(harness.consumer_prefetch(&queue).await? == [3_000]) }).await?;
    // Large ones, of 200 kB each: ten of them fit.
    let ticks: Vec<_> = (0..2_000)
        .map(|number| one("AAPL", "2026-11-20T16:00:00Z", "11", 10_000 + number))
        .collect();
    for sequence in 2_001..=2_060 {
        harness.ticks(publisher, sequence, &ticks).await?;
    }
    harness
        .until(
            "SELECT count(*) FROM stock_data",
            &(2_000 + 60 * 2_000).to_string(),
        )
        .await?;
    harness::eventually(|| async {
        let now = harness.consumer_prefetch(&queue).await?;
        Ok(now.len() == 1 && now[0] <= 16)
    })
    .await?;
    harness.until(DUPLICATES, "0").await?;
    harness.until_queues_are_empty().await?;
    processor.drain().await
}

#[tokio::test]
async fn a_new_generation_goes_on_where_the_old_one_stood() -> Result<()> {
    let mut harness = Harness::new(&["AAPL", "MSFT"], 2).await?;
    let publisher = Uuid::now_v7();
    let processor = harness.start("a");
    harness.heartbeat(0, publisher, 1, "2026-11-20T15:00:00Z").await?;
    harness.heartbeat(1, publisher, 1, "2026-11-20T16:00:00Z").await?;
    harness
        .until("SELECT count(*) FROM partitions WHERE watermark IS NOT NULL", "2")
        .await?;
    processor.drain().await?;
    harness.next_generation(1).await?;
    let processor = harness.start("a");
    let another = Uuid::now_v7();
    let body = tick::encode(&[one("AAPL", "2026-11-20T16:30:00Z", "10", 1)]);
    harness
        .publish(0, &body, tick::MESSAGE_TYPE, numbered(another, 2))
        .await?;
    // Its first message is missing, so it says nothing of the watermark: what shows is the lowest of the old ones.
    harness
        .until(
            "SELECT to_char(watermark AT TIME ZONE 'UTC', 'HH24:MI') FROM partitions WHERE generation = 2 AND messages = 1",
            "15:00",
        )
        .await?;
    processor.drain().await
}
