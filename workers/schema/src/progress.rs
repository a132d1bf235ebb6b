//! How far a feed has come.

use contract::{event_time::EventTime, names::FeedName};
use snafu::ResultExt;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{Error, StatementSnafu, quoted};

/// How far a feed's processing has come. Counts are over all generations of queues that the feed has had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The oldest watermark among the partitions of the newest generation that has received anything; `None` until every
    /// partition of it that has received something has one. Partitions of older generations say nothing any more.
    pub watermark: Option<EventTime>,
    /// Event time of the newest tick.
    pub last_tick_time: Option<EventTime>,
    /// Ticks committed.
    pub ticks: i64,
    /// Entries quarantined.
    pub quarantined: i64,
    /// Tick and window pairs that came too late.
    pub late: i64,
    /// Messages that were published and never arrived.
    pub gaps: i64,
    /// Those of them whose loss was noticed within the last 24 hours.
    pub gaps_recent: i64,
    /// When the last such loss was noticed, by the database's clock.
    pub last_gap: Option<EventTime>,
}

#[derive(sqlx::FromRow)]
struct Row {
    watermark: Option<i64>,
    last_tick_time: Option<i64>,
    ticks: i64,
    quarantined: i64,
    late: i64,
    gaps: i64,
    gaps_recent: i64,
    last_gap: Option<i64>,
}

/// How far the feed has come, over all its partitions.
///
/// # Errors
/// When the schema is not there or cannot be read.
pub async fn progress(connection: &mut PgConnection, feed: &FeedName) -> Result<Progress, Error> {
    // A single loss may be of any number of messages up to 2^64, so they are added up as NUMERIC.
    let query = format!(
        "WITH received AS (SELECT * FROM {schema}.partitions WHERE messages > 0)
         SELECT (SELECT CASE WHEN bool_and(watermark IS NOT NULL) THEN (extract(epoch FROM min(watermark)) * 1000000)::bigint END
                 FROM received WHERE generation = (SELECT max(generation) FROM received)) AS watermark,
                (extract(epoch FROM max(last_event_time)) * 1000000)::bigint AS last_tick_time,
                coalesce(sum(ticks), 0)::bigint AS ticks, coalesce(sum(quarantined), 0)::bigint AS quarantined,
                coalesce(sum(late), 0)::bigint AS late, coalesce(sum(gaps), 0)::bigint AS gaps,
                (SELECT least(coalesce(sum(last_sequence::numeric - first_sequence + 1), 0), 9223372036854775807)::bigint
                 FROM {schema}.gaps WHERE detected_at > now() - interval '24 hours') AS gaps_recent,
                (SELECT (extract(epoch FROM max(detected_at)) * 1000000)::bigint FROM {schema}.gaps) AS last_gap
         FROM received",
        schema = quoted(&feed.schema())
    );
    let Row {
        watermark,
        last_tick_time,
        ticks,
        quarantined,
        late,
        gaps,
        gaps_recent,
        last_gap,
    } = sqlx::query_as(AssertSqlSafe(query))
        .fetch_one(connection)
        .await
        .context(StatementSnafu {
            action: "read the feed's progress",
        })?;
    Ok(Progress {
        watermark: watermark.and_then(EventTime::from_microseconds),
        last_tick_time: last_tick_time.and_then(EventTime::from_microseconds),
        ticks,
        quarantined,
        late,
        gaps,
        gaps_recent,
        last_gap: last_gap.and_then(EventTime::from_microseconds),
    })
}
