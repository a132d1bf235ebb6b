//! Who owns a partition: taking it over, and letting it go.

use contract::event_time::EventTime;
use engine::{
    partition::PartitionState,
    sequence::{Run, Sequences},
};
use snafu::ResultExt;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::time::Duration;
use uuid::Uuid;

use super::{
    DatabaseSnafu, Error, Store,
    session::{application, end_sessions},
    side,
};

/// How long a claim waits for the row. Whoever holds it has been told to go by then; another attempt tells whoever it is now.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '10s'";
/// How long an owner that ends may take to finish what it holds, in seconds.
const DRAIN_SECONDS: f64 = 15.0;
/// How often to look whether it has.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long a publisher is remembered after its last message. Far beyond anything the broker redelivers.
const PUBLISHER_MEMORY: &str = "30 days";

impl Store {
    /// Takes the partition over: whoever had it can no longer commit. Returns its state.
    ///
    /// An owner that is finishing what it holds is waited for.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses.
    pub async fn claim(&mut self) -> Result<PartitionState, Error> {
        let (generation, partition) = self.key();
        let owner = self.owner.clone();
        let action = "claim the partition";
        let mut connection = self.connect().await?;
        // A new generation goes on where the one before it stood: its symbols' watermarks are at least the lowest there.
        // A row that is there must not be tried: the server would wait for whoever is changing it, and that may be the owner who is
        // stuck.
        sqlx::query(
            "INSERT INTO partitions (generation, partition, watermark)
             SELECT $1, $2, (SELECT min(earlier.watermark) FROM partitions earlier
                             WHERE earlier.generation = (SELECT max(generation) FROM partitions WHERE generation < $1))
             WHERE NOT EXISTS (SELECT FROM partitions WHERE generation = $1 AND partition = $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(generation)
        .bind(partition)
        .execute(&mut connection)
        .await
        .context(DatabaseSnafu { action })?;
        self.displace(&mut connection).await?;
        let mut transaction = connection.begin().await.context(DatabaseSnafu { action })?;
        sqlx::raw_sql(LOCK_TIMEOUT)
            .execute(&mut *transaction)
            .await
            .context(DatabaseSnafu { action })?;
        let (version, watermark): (i64, Option<i64>) = sqlx::query_as(
            "UPDATE partitions SET version = version + 1, owner = $3, draining_until = NULL, updated_at = now()
             WHERE generation = $1 AND partition = $2
             RETURNING version, (extract(epoch FROM watermark) * 1000000)::bigint",
        )
        .bind(generation)
        .bind(partition)
        .bind(&owner)
        .fetch_one(&mut *transaction)
        .await
        .context(DatabaseSnafu { action })?;
        sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM publishers WHERE generation = $1 AND partition = $2 AND last_seen < now() - interval '{PUBLISHER_MEMORY}'"
        )))
        .bind(generation)
        .bind(partition)
        .execute(&mut *transaction)
        .await
        .context(DatabaseSnafu { action })?;
        let publishers = read_publishers(&mut transaction, generation, partition).await?;
        transaction.commit().await.context(DatabaseSnafu { action })?;
        self.connection = Some(connection);
        self.version = version;
        self.finalized = None;
        let watermark = watermark.and_then(EventTime::from_microseconds);
        Ok(PartitionState::restore(
            self.settings.clone(),
            watermark,
            publishers,
        ))
    }

    /// Waits for an owner that is draining, and ends the sessions of one that is not: if it is stuck in a transaction, that
    /// would hold the row.
    async fn displace(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let (generation, partition) = self.key();
        let action = "take the partition from its owner";
        loop {
            let (owner, draining): (String, bool) = sqlx::query_as(
                "SELECT owner, coalesce(draining_until > now(), false) FROM partitions WHERE generation = $1 AND partition = $2",
            )
            .bind(generation)
            .bind(partition)
            .fetch_one(&mut *connection)
            .await
            .context(DatabaseSnafu { action })?;
            if draining {
                tokio::time::sleep(DRAIN_LOOK).await;
                continue;
            }
            let unique = owner
                .rsplit('/')
                .next()
                .and_then(|text| Uuid::try_parse(text).ok());
            if let Some(unique) = unique {
                end_sessions(connection, &application(unique)).await?;
            }
            return Ok(());
        }
    }

    /// Says that this owner ends and is about to finish what it holds, so that the next one waits for it.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the partition has another owner, or the database cannot be reached.
    pub async fn announce_drain(&mut self) -> Result<(), Error> {
        let query = "UPDATE partitions SET draining_until = now() + $5 * interval '1 second'
             WHERE generation = $1 AND partition = $2 AND version = $3 AND owner = $4";
        self.mark(query, DRAIN_SECONDS).await
    }

    /// Lets the partition go: everything that was taken in is committed.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the partition has another owner, or the database cannot be reached.
    pub async fn release(&mut self) -> Result<(), Error> {
        let query = "UPDATE partitions SET draining_until = NULL, owner = '', version = version + 1, updated_at = now()
             WHERE generation = $1 AND partition = $2 AND version = $3 AND owner = $4 AND $5 IS NOT NULL";
        self.mark(query, DRAIN_SECONDS).await
    }

    async fn mark(&mut self, query: &'static str, seconds: f64) -> Result<(), Error> {
        let (generation, partition) = self.key();
        let mut connection = self.connect().await?;
        let done = sqlx::query(query)
            .bind(generation)
            .bind(partition)
            .bind(self.version)
            .bind(&self.owner)
            .bind(seconds)
            .execute(&mut connection)
            .await
            .context(DatabaseSnafu {
                action: "hand the partition over",
            })?;
        self.connection = Some(connection);
        if done.rows_affected() != 1 {
            return self.fenced();
        }
        Ok(())
    }
}

type PublisherRow = (Uuid, Vec<i64>, Vec<i64>, Vec<i64>, i64);

async fn read_publishers(
    connection: &mut PgConnection,
    generation: i32,
    partition: i32,
) -> Result<Vec<([u8; 16], Sequences)>, Error> {
    let rows: Vec<PublisherRow> = sqlx::query_as(
        "SELECT publisher, first, last, bound, abandoned FROM publishers WHERE generation = $1 AND partition = $2",
    )
    .bind(generation)
    .bind(partition)
    .fetch_all(connection)
    .await
    .context(DatabaseSnafu { action: "read the committed sequences" })?;
    let sequences = rows
        .into_iter()
        .map(|(publisher, first, last, bound, abandoned)| {
            let runs = first
                .into_iter()
                .zip(last)
                .zip(bound)
                .map(|((first, last), bound)| Run {
                    first: first.cast_unsigned(),
                    last: last.cast_unsigned(),
                    bound: (bound != side::NO_BOUND)
                        .then(|| EventTime::from_microseconds(bound))
                        .flatten(),
                });
            (
                publisher.into_bytes(),
                Sequences::restore(runs, abandoned.cast_unsigned()),
            )
        });
    Ok(sequences.collect())
}
