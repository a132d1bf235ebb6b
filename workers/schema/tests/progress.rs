//! What the operator is told about a feed's progress.

mod support;

use anyhow::Result;
use support::{execute, login, migrated};

#[tokio::test]
async fn nothing_is_known_of_a_feed_that_received_nothing() -> Result<()> {
    let (_database, feed, mut admin) = migrated().await?;
    assert_eq!(
        schema::progress(&mut admin, &feed).await?,
        schema::Progress::default()
    );
    Ok(())
}

#[tokio::test]
async fn partitions_of_older_generations_count_but_hold_no_watermark_back() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    let mut add = async |rows: &str| {
        let insert = format!(
            "INSERT INTO partitions (generation, partition, watermark, last_event_time, messages, ticks) VALUES {rows}"
        );
        execute(&mut writer, &insert).await
    };
    add("(1, 0, '2026-11-20 10:00Z', '2026-11-20 10:05Z', 3, 2), (1, 1, '2026-11-20 09:00Z', '2026-11-20 09:05Z', 4, 5),
         (1, 2, NULL, NULL, 0, 0)")
    .await?;
    let progress = schema::progress(&mut admin, &feed).await?;
    assert_eq!(progress.watermark.unwrap().to_string(), "2026-11-20T09:00:00Z");
    assert_eq!(
        progress.last_tick_time.unwrap().to_string(),
        "2026-11-20T10:05:00Z"
    );
    assert_eq!(progress.ticks, 7);

    // A new generation that has received nothing yet says nothing, even if its rows inherited a watermark.
    add("(2, 0, '2026-11-20 11:00Z', NULL, 0, 0)").await?;
    let progress = schema::progress(&mut admin, &feed).await?;
    assert_eq!(progress.watermark.unwrap().to_string(), "2026-11-20T09:00:00Z");

    add("(2, 1, '2026-11-20 12:00Z', '2026-11-20 12:05Z', 1, 1)").await?;
    let progress = schema::progress(&mut admin, &feed).await?;
    assert_eq!(progress.watermark.unwrap().to_string(), "2026-11-20T12:00:00Z");
    assert_eq!(progress.ticks, 8);

    add("(2, 2, NULL, '2026-11-20 12:06Z', 1, 1)").await?;
    assert_eq!(schema::progress(&mut admin, &feed).await?.watermark, None);
    Ok(())
}

#[tokio::test]
async fn gaps_of_the_last_day_are_told_apart() -> Result<()> {
    let (database, feed, mut admin) = migrated().await?;
    let mut writer = login(&database, &feed.writer_role(), &mut admin).await?;
    execute(
        &mut writer,
        "INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence, detected_at) VALUES
             (1, 0, gen_random_uuid(), 5, 5, '2026-01-01 00:00Z'), (1, 0, gen_random_uuid(), 3, 7, now() - interval '23 hours'),
             (1, 1, gen_random_uuid(), 1, 2, now() - interval '25 hours')",
    )
    .await?;
    let progress = schema::progress(&mut admin, &feed).await?;
    assert_eq!(progress.gaps_recent, 5);
    let last: i64 =
        sqlx::query_scalar("SELECT (extract(epoch FROM max(detected_at)) * 1000000)::bigint FROM gaps")
            .fetch_one(&mut writer)
            .await?;
    assert_eq!(progress.last_gap.unwrap().as_microseconds(), last);

    // A publisher that jumps to the end of numbers does not break the sum.
    execute(
        &mut writer,
        "INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence)
         VALUES (1, 0, gen_random_uuid(), 1, 9223372036854775807)",
    )
    .await?;
    assert_eq!(schema::progress(&mut admin, &feed).await?.gaps_recent, i64::MAX);
    Ok(())
}
