//! A partition's state and effects in PostgreSQL, in one transaction a batch.
//!
//! The protocol, for one batch that began from version `v` of the partition's row:
//!
//! ```text
//! BEGIN
//! UPDATE partitions SET version = v + 1 … WHERE version = v AND owner = me     0 rows: somebody else owns it → ROLLBACK
//! COPY stock_data; merge candle_state; mark final; publishers; quarantine; late_ticks; gaps
//! COMMIT
//! ```
//!
//! When the connection breaks around COMMIT nobody knows whether it happened. The row does: `v` says no, `v + 1` with our
//! name says yes, anything else says that the partition has a new owner.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use contract::{event_time::EventTime, names::FeedName, symbol::Symbol};
use engine::{
    partition::{Effects, Gap, PartitionState, Settings},
    sequence::{Run, Sequences},
};
use service::credentials::{self, DatabaseCredentials};
use snafu::{ResultExt, Snafu};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{decode::Refused, fault};

mod candles;
mod copy;
mod side;

/// How long a commit may take before the connection is taken for dead.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a publisher is remembered after its last message. Far beyond anything the broker redelivers.
const PUBLISHER_MEMORY: &str = "30 days";

/// Why something did not work in the database.
#[derive(Debug, Snafu)]
pub enum Error {
    /// Another processor owns the partition now. Nothing was written.
    #[snafu(display("partition {generation}.{partition} has another owner"))]
    Fenced {
        /// Its generation.
        generation: u32,
        /// Its number.
        partition: u16,
    },
    /// The credentials cannot be read.
    #[snafu(display("failed to read the database's credentials"))]
    Credentials {
        /// Which file and why.
        source: credentials::Error,
    },
    /// A statement failed.
    #[snafu(display("failed to {action}"))]
    Database {
        /// What was attempted.
        action: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// The database did not answer in time.
    #[snafu(display("the database did not answer within {} s", COMMIT_TIMEOUT.as_secs()))]
    Timeout,
}

/// Which partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// Its queue generation.
    pub generation: u32,
    /// Its number.
    pub partition: u16,
}

/// What one commit writes.
#[derive(Debug, Default)]
pub struct Change {
    /// What the engine says.
    pub effects: Effects,
    /// What the decoder refused, with the message's identity if it has one.
    pub refused: Vec<(Option<engine::key::MessageIdentity>, Refused)>,
    /// Holes that were given up.
    pub gaps: Vec<Gap>,
    /// Publishers whose sequences changed.
    pub publishers: HashSet<[u8; 16]>,
}

/// The database's side of one partition. Owns one connection, opened when first needed and again after an error.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    schema: String,
    id: PartitionId,
    symbols: Vec<String>,
    settings: Settings,
    /// Seconds that every window's end is a multiple of: between two such moments nothing can become final.
    granularity: i64,
    owner: String,
    version: i64,
    /// The watermark that candles were last marked final with.
    finalized: Option<EventTime>,
    /// Weeks known to have a partition of `stock_data`.
    weeks: HashSet<i64>,
    connection: Option<PgConnection>,
}

impl Store {
    /// For one partition of a feed. `owner` is unique to this consumer.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        feed: &FeedName,
        id: PartitionId,
        symbols: impl IntoIterator<Item = Symbol>,
        settings: Settings,
        owner: String,
    ) -> Self {
        let seconds = settings
            .widths
            .iter()
            .map(|width| width.seconds().unwrap_or(3_600));
        Self {
            directory,
            schema: feed.schema(),
            id,
            symbols: symbols.into_iter().map(String::from).collect(),
            granularity: seconds.fold(0, greatest_common_divisor).max(1),
            settings,
            owner,
            version: 0,
            finalized: None,
            weeks: HashSet::new(),
            connection: None,
        }
    }

    /// Takes the partition over: whoever had it can no longer commit. Returns its state.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses.
    pub async fn claim(&mut self) -> Result<PartitionState, Error> {
        let (generation, partition) = self.key();
        let owner = self.owner.clone();
        let action = "claim the partition";
        let mut connection = self.connect().await?;
        let mut transaction = connection.begin().await.context(DatabaseSnafu { action })?;
        sqlx::query("INSERT INTO partitions (generation, partition) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(generation)
            .bind(partition)
            .execute(&mut *transaction)
            .await
            .context(DatabaseSnafu { action })?;
        let (version, watermark): (i64, Option<i64>) = sqlx::query_as(
            "UPDATE partitions SET version = version + 1, owner = $3, updated_at = now()
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

    /// Commits a change that began from the version this store holds, together with the state after it.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the partition has another owner. After any other error call [`Store::settle`] to learn
    /// whether the commit happened.
    pub async fn commit(&mut self, state: &PartitionState, change: &Change) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        let committed =
            tokio::time::timeout(COMMIT_TIMEOUT, self.write(&mut connection, state, change)).await;
        match committed {
            Ok(Ok(())) => {
                self.connection = Some(connection);
                self.version += 1;
                self.finalized = state.watermark();
                Ok(())
            }
            // The connection is dropped, and with it the transaction.
            Ok(Err(error)) => {
                self.weeks.clear();
                Err(error)
            }
            Err(_) => TimeoutSnafu.fail(),
        }
    }

    /// After a failed commit: whether it happened all the same.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the partition has another owner, or the database cannot be reached.
    pub async fn settle(&mut self) -> Result<bool, Error> {
        let (generation, partition) = self.key();
        let mut connection = self.connect().await?;
        let row: Option<(i64, String)> =
            sqlx::query_as("SELECT version, owner FROM partitions WHERE generation = $1 AND partition = $2")
                .bind(generation)
                .bind(partition)
                .fetch_optional(&mut connection)
                .await
                .context(DatabaseSnafu {
                    action: "read the partition's version",
                })?;
        self.connection = Some(connection);
        match row {
            Some((version, owner)) if owner == self.owner && version == self.version => Ok(false),
            Some((version, owner)) if owner == self.owner && version == self.version + 1 => {
                self.version = version;
                Ok(true)
            }
            _ => self.fenced(),
        }
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Nothing is under way on it; the server would notice by itself.
            connection.close().await.ok();
        }
    }

    async fn write(
        &mut self,
        connection: &mut PgConnection,
        state: &PartitionState,
        change: &Change,
    ) -> Result<(), Error> {
        let Change {
            effects,
            refused,
            gaps,
            publishers,
        } = change;
        self.make_weeks(connection, effects).await?;
        let (generation, partition) = self.key();
        fault::point!("before_begin");
        let mut transaction = connection.begin().await.context(DatabaseSnafu {
            action: "begin a transaction",
        })?;
        let missing: u64 = gaps.iter().map(|gap| gap.last - gap.first + 1).sum();
        let updated = sqlx::query(
            "UPDATE partitions SET
                 version = version + 1,
                 watermark = greatest(watermark, timestamptz 'epoch' + $5 * interval '1 microsecond'),
                 last_event_time = greatest(last_event_time, timestamptz 'epoch' + $6 * interval '1 microsecond'),
                 messages = messages + $7, ticks = ticks + $8, duplicates = duplicates + $9, late = late + $10,
                 quarantined = quarantined + $11, gaps = gaps + $12, updated_at = now()
             WHERE generation = $1 AND partition = $2 AND version = $3 AND owner = $4",
        )
        .bind(generation)
        .bind(partition)
        .bind(self.version)
        .bind(&self.owner)
        .bind(state.watermark().map(EventTime::as_microseconds))
        .bind(effects.last_event_time.map(EventTime::as_microseconds))
        .bind(effects.messages.cast_signed())
        .bind(count(effects.ticks.len()))
        .bind(effects.duplicates.cast_signed())
        .bind(count(effects.late.len()))
        .bind(count(refused.len()))
        .bind(missing.cast_signed())
        .execute(&mut *transaction)
        .await
        .context(DatabaseSnafu { action: "advance the partition" })?;
        if updated.rows_affected() != 1 {
            return self.fenced();
        }
        fault::point!("after_begin");
        if !effects.ticks.is_empty() {
            copy::ticks(&mut transaction, &effects.ticks).await?;
            fault::point!("after_copy");
        }
        if !effects.candles.is_empty() {
            candles::merge(&mut transaction, &effects.candles, state.watermark()).await?;
        }
        if let Some(watermark) = state.watermark()
            && self.may_finalize(watermark)
        {
            candles::finalize(&mut transaction, &self.symbols, watermark).await?;
        }
        side::publishers(&mut transaction, generation, partition, state, publishers).await?;
        if !refused.is_empty() {
            side::quarantine(&mut transaction, generation, partition, refused).await?;
        }
        if !effects.late.is_empty() {
            side::late(&mut transaction, effects).await?;
        }
        if !gaps.is_empty() {
            side::gaps(&mut transaction, generation, partition, gaps).await?;
        }
        fault::point!("before_commit");
        transaction
            .commit()
            .await
            .context(DatabaseSnafu { action: "commit" })?;
        fault::point!("after_commit");
        Ok(())
    }

    /// Makes the partitions of `stock_data` that the ticks need, in transactions of their own.
    async fn make_weeks(&mut self, connection: &mut PgConnection, effects: &Effects) -> Result<(), Error> {
        for tick in &effects.ticks {
            let week = week_of(tick.event_time);
            if self.weeks.contains(&week) {
                continue;
            }
            sqlx::query(
                "SELECT ensure_stock_data_partition(timestamptz 'epoch' + $1 * interval '1 microsecond')",
            )
            .bind(tick.event_time.as_microseconds())
            .execute(&mut *connection)
            .await
            .context(DatabaseSnafu {
                action: "make a partition of stock_data",
            })?;
            self.weeks.insert(week);
        }
        Ok(())
    }

    fn may_finalize(&self, watermark: EventTime) -> bool {
        let step = |time: EventTime| time.as_microseconds().div_euclid(self.granularity * 1_000_000);
        self.finalized.is_none_or(|before| step(watermark) > step(before))
    }

    async fn connect(&mut self) -> Result<PgConnection, Error> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let credentials = DatabaseCredentials::read(&self.directory).context(CredentialsSnafu)?;
        connect(&credentials, &self.schema).await
    }

    fn key(&self) -> (i32, i32) {
        (self.id.generation.cast_signed(), i32::from(self.id.partition))
    }

    fn fenced<T>(&self) -> Result<T, Error> {
        FencedSnafu {
            generation: self.id.generation,
            partition: self.id.partition,
        }
        .fail()
    }
}

/// Connects as the feed's writer, with the feed's schema as search path whatever the role's setting says.
///
/// # Errors
/// When the database refuses or does not answer.
pub async fn connect(credentials: &DatabaseCredentials, schema: &str) -> Result<PgConnection, Error> {
    let options =
        service::postgres::options(credentials, "stockfeed processor").options([("search_path", schema)]);
    let action = "connect to the database";
    match tokio::time::timeout(
        service::postgres::ACQUIRE_TIMEOUT,
        PgConnection::connect_with(&options),
    )
    .await
    {
        Ok(connection) => connection.context(DatabaseSnafu { action }),
        Err(_) => TimeoutSnafu.fail(),
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

fn week_of(time: EventTime) -> i64 {
    // 1970-01-01 was a Thursday: weeks begin on Mondays, as in ensure_stock_data_partition.
    let days = time.as_microseconds().div_euclid(86_400_000_000);
    (days + 3).div_euclid(7)
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn greatest_common_divisor(left: i64, right: i64) -> i64 {
    if right == 0 {
        left
    } else {
        greatest_common_divisor(right, left % right)
    }
}
