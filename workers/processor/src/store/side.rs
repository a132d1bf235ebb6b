//! What else a commit writes: committed sequences, quarantine, late ticks, gaps.

use contract::event_time::EventTime;
use engine::{
    key::MessageIdentity,
    partition::{Gap, LateTick},
    sequence::Sequences,
};
use snafu::ResultExt;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{DatabaseSnafu, Error};
use crate::decode::Refused;

/// Stands for "says nothing about the watermark" in `publishers.bound`, which has no NULL in its arrays.
pub(super) const NO_BOUND: i64 = i64::MIN;

/// Details longer than this are cut: they are for people.
const MAX_DETAIL: usize = 500;

pub(super) async fn publishers(
    connection: &mut PgConnection,
    (generation, partition): (i32, i32),
    changed: &[([u8; 16], Sequences)],
) -> Result<(), Error> {
    for (publisher, sequences) in changed {
        let runs = sequences.runs();
        let bound = |bound: Option<EventTime>| bound.map_or(NO_BOUND, EventTime::as_microseconds);
        sqlx::query(
            "INSERT INTO publishers (generation, partition, publisher, first, last, bound, abandoned)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (generation, partition, publisher) DO UPDATE SET
                 first = excluded.first, last = excluded.last, bound = excluded.bound, abandoned = excluded.abandoned,
                 last_seen = now()",
        )
        .bind(generation)
        .bind(partition)
        .bind(Uuid::from_bytes(*publisher))
        .bind(runs.iter().map(|run| run.first.cast_signed()).collect::<Vec<_>>())
        .bind(runs.iter().map(|run| run.last.cast_signed()).collect::<Vec<_>>())
        .bind(runs.iter().map(|run| bound(run.bound)).collect::<Vec<_>>())
        .bind(sequences.abandoned().cast_signed())
        .execute(&mut *connection)
        .await
        .context(DatabaseSnafu { action: "write the committed sequences" })?;
    }
    Ok(())
}

pub(super) async fn quarantine(
    connection: &mut PgConnection,
    (generation, partition): (i32, i32),
    refused: &[(Option<MessageIdentity>, Refused)],
) -> Result<(), Error> {
    let detail = |refused: &Refused| {
        let detail = refused.why.detail.replace('\0', "\u{fffd}");
        detail.chars().take(MAX_DETAIL).collect::<String>()
    };
    sqlx::query(
        "INSERT INTO quarantine (generation, partition, reason, detail, publisher, sequence, raw)
         SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::uuid[], $6::bigint[], $7::bytea[])",
    )
    .bind(generation)
    .bind(partition)
    .bind(
        refused
            .iter()
            .map(|(_, refused)| refused.why.reason.label().to_owned())
            .collect::<Vec<_>>(),
    )
    .bind(
        refused
            .iter()
            .map(|(_, refused)| detail(refused))
            .collect::<Vec<_>>(),
    )
    .bind(
        refused
            .iter()
            .map(|(identity, _)| identity.map(|it| Uuid::from_bytes(it.publisher)))
            .collect::<Vec<_>>(),
    )
    .bind(
        refused
            .iter()
            .map(|(identity, _)| identity.map(|it| it.sequence.cast_signed()))
            .collect::<Vec<_>>(),
    )
    .bind(
        refused
            .iter()
            .map(|(_, refused)| refused.raw.clone())
            .collect::<Vec<_>>(),
    )
    .execute(connection)
    .await
    .context(DatabaseSnafu {
        action: "write to quarantine",
    })?;
    Ok(())
}

/// Deletes rows of quarantine that are dealt with.
pub(super) async fn delete_released(connection: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    sqlx::query("DELETE FROM quarantine WHERE id = ANY($1)")
        .bind(ids)
        .execute(connection)
        .await
        .context(DatabaseSnafu {
            action: "take what was released out of quarantine",
        })?;
    Ok(())
}

pub(super) async fn late(
    connection: &mut PgConnection,
    symbols: &[String],
    late: &[LateTick],
) -> Result<(), Error> {
    let name = |late: &LateTick| symbols[usize::from(late.quote.symbol.0)].as_str();
    let moment = |time: fn(&LateTick) -> EventTime| {
        let microseconds = late.iter().map(|late| time(late).as_microseconds());
        microseconds.collect::<Vec<_>>()
    };
    sqlx::query(
        r#"INSERT INTO late_ticks (symbol, width, window_start, price, volume, "timestamp", watermark)
           SELECT symbol, width, timestamptz 'epoch' + window_start * interval '1 microsecond', price::numeric, volume,
                  timestamptz 'epoch' + event_time * interval '1 microsecond',
                  timestamptz 'epoch' + watermark * interval '1 microsecond'
           FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
                AS late (symbol, width, window_start, price, volume, event_time, watermark)"#,
    )
    .bind(late.iter().map(name).collect::<Vec<_>>())
    .bind(late.iter().map(|late| late.width.label()).collect::<Vec<_>>())
    .bind(moment(|late| late.window_start))
    .bind(late.iter().map(|late| late.quote.price.to_string()).collect::<Vec<_>>())
    .bind(late.iter().map(|late| late.quote.volume).collect::<Vec<_>>())
    .bind(moment(|late| late.quote.event_time))
    .bind(moment(|late| late.watermark))
    .execute(connection)
    .await
    .context(DatabaseSnafu { action: "write late ticks" })?;
    Ok(())
}

/// A message that the broker gave up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Generation and partition of the queue that it died in; zeros when the queue is none of the feed's partitions.
    pub partition: (u32, u16),
    /// That queue.
    pub queue: String,
    /// Publisher and sequence.
    pub identity: Option<MessageIdentity>,
    /// For people.
    pub detail: String,
    /// The body.
    pub raw: Vec<u8>,
}

/// Writes dead letters to quarantine, each once however often it is written: a numbered one is known by its queue and number.
///
/// # Errors
/// When the database cannot be reached.
pub async fn dead_letters(connection: &mut PgConnection, letters: &[DeadLetter]) -> Result<u64, Error> {
    let written = sqlx::query(
        "INSERT INTO quarantine (generation, partition, reason, detail, publisher, sequence, raw, queue)
         SELECT generation, partition, 'delivery_limit', detail, publisher, sequence, raw, queue
         FROM unnest($1::integer[], $2::integer[], $3::text[], $4::uuid[], $5::bigint[], $6::bytea[], $7::text[])
              AS letter (generation, partition, detail, publisher, sequence, raw, queue)
         ON CONFLICT DO NOTHING",
    )
    .bind(letters.iter().map(|letter| letter.partition.0.cast_signed()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| i32::from(letter.partition.1)).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.detail.as_str()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.identity.map(|it| Uuid::from_bytes(it.publisher))).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.identity.map(|it| it.sequence.cast_signed())).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.raw.as_slice()).collect::<Vec<_>>())
    .bind(letters.iter().map(|letter| letter.queue.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .context(DatabaseSnafu { action: "write dead letters to quarantine" })?;
    Ok(written.rows_affected())
}

/// The identity in two columns, if both are there.
pub(super) fn identity(publisher: Option<Uuid>, sequence: Option<i64>) -> Option<MessageIdentity> {
    Some(MessageIdentity {
        publisher: publisher?.into_bytes(),
        sequence: u64::try_from(sequence?).ok()?,
    })
}

pub(super) async fn gaps(
    connection: &mut PgConnection,
    (generation, partition): (i32, i32),
    gaps: &[Gap],
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO gaps (generation, partition, publisher, first_sequence, last_sequence)
         SELECT $1, $2, * FROM unnest($3::uuid[], $4::bigint[], $5::bigint[])
         ON CONFLICT (generation, partition, publisher, first_sequence) DO UPDATE SET last_sequence = excluded.last_sequence",
    )
    .bind(generation)
    .bind(partition)
    .bind(gaps.iter().map(|gap| Uuid::from_bytes(gap.publisher)).collect::<Vec<_>>())
    .bind(gaps.iter().map(|gap| gap.first.cast_signed()).collect::<Vec<_>>())
    .bind(gaps.iter().map(|gap| gap.last.cast_signed()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .context(DatabaseSnafu { action: "write gaps" })?;
    Ok(())
}
