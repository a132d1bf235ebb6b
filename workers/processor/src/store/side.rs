//! What else a commit writes: committed sequences, quarantine, late ticks, gaps.

use std::collections::HashSet;

use contract::{event_time::EventTime, tick::Tick};
use engine::{
    key::MessageIdentity,
    partition::{Effects, Gap, PartitionState},
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
    generation: i32,
    partition: i32,
    state: &PartitionState,
    changed: &HashSet<[u8; 16]>,
) -> Result<(), Error> {
    for publisher in changed {
        let Some(sequences) = state.sequences(publisher) else {
            continue;
        };
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
    generation: i32,
    partition: i32,
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

pub(super) async fn late(connection: &mut PgConnection, effects: &Effects) -> Result<(), Error> {
    let tick = |index: usize| -> &Tick { &effects.ticks[index] };
    let late = &effects.late;
    sqlx::query(
        r#"INSERT INTO late_ticks (symbol, width, window_start, price, volume, "timestamp", watermark)
           SELECT symbol, width, timestamptz 'epoch' + window_start * interval '1 microsecond', price::numeric, volume,
                  timestamptz 'epoch' + event_time * interval '1 microsecond',
                  timestamptz 'epoch' + watermark * interval '1 microsecond'
           FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
                AS late (symbol, width, window_start, price, volume, event_time, watermark)"#,
    )
    .bind(late.iter().map(|late| tick(late.tick).symbol.as_str().to_owned()).collect::<Vec<_>>())
    .bind(late.iter().map(|late| late.width.label().to_owned()).collect::<Vec<_>>())
    .bind(late.iter().map(|late| late.window_start.as_microseconds()).collect::<Vec<_>>())
    .bind(late.iter().map(|late| tick(late.tick).price.to_string()).collect::<Vec<_>>())
    .bind(late.iter().map(|late| tick(late.tick).volume).collect::<Vec<_>>())
    .bind(late.iter().map(|late| tick(late.tick).event_time.as_microseconds()).collect::<Vec<_>>())
    .bind(late.iter().map(|late| late.watermark.as_microseconds()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .context(DatabaseSnafu { action: "write late ticks" })?;
    Ok(())
}

pub(super) async fn gaps(
    connection: &mut PgConnection,
    generation: i32,
    partition: i32,
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
