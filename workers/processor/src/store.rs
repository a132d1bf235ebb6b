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
//!
//! A partition changes hands in one of two ways. An owner that ends says so first (`draining_until`), finishes what it was
//! given, and lets go; whoever the broker chose next waits for that, so nothing is delivered twice. An owner that was killed
//! or is stuck says nothing: the next one ends its database session, which frees the row if a transaction holds it, and takes
//! the row over. Either way the version decides who may write.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use contract::{event_time::EventTime, names::FeedName, symbol::Symbol};
use engine::{key::MessageIdentity, partition::Settings};
use service::credentials::{self, DatabaseCredentials};
use snafu::{ResultExt, Snafu};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    batch::{Batch, Change},
    decode::Rules,
    fault,
};

mod binary;
mod candles;
mod copy;
mod ownership;
mod session;
mod side;

pub use copy::row;
pub use session::connect;
pub use side::{DeadLetter, dead_letters};

/// How long a commit may take before the connection is taken for dead.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(60);
/// Released rows of quarantine that are dealt with at once, and their bytes: a batch must fit the memory.
const RELEASED_ROWS: i64 = 500;

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

/// A row of `quarantine` that somebody released.
#[derive(Clone, Debug)]
pub struct Released {
    /// Its id.
    pub id: i64,
    /// The identity of the message it came from.
    pub identity: Option<MessageIdentity>,
    /// The body, or one tick of it.
    pub raw: Vec<u8>,
}

/// The database's side of one partition. Owns one connection, opened when first needed and again after an error.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    schema: String,
    id: PartitionId,
    /// The feed's symbols by id.
    symbols: Vec<String>,
    /// Those of this partition.
    ours: Vec<String>,
    settings: Settings,
    /// Seconds that every window's end is a multiple of: between two such moments nothing can become final.
    granularity: i64,
    owner: String,
    /// The owner's name for the server: unique, so that whoever takes over can end exactly our sessions.
    application: String,
    version: i64,
    /// The watermark that candles were last marked final with.
    finalized: Option<EventTime>,
    /// Weeks known to have a partition of `stock_data`.
    weeks: HashSet<i64>,
    connection: Option<PgConnection>,
}

impl Store {
    /// For one partition of a feed. `instance` is the replica's name; each store is an owner of its own.
    #[must_use]
    pub fn new(
        directory: PathBuf,
        feed: &FeedName,
        id: PartitionId,
        rules: &Rules,
        settings: Settings,
        instance: &str,
    ) -> Self {
        let unique = Uuid::now_v7();
        let text = |symbol: &Symbol| symbol.as_str().to_owned();
        let seconds = settings
            .widths
            .iter()
            .map(|width| width.seconds().unwrap_or(3_600));
        Self {
            directory,
            schema: feed.schema(),
            id,
            symbols: rules.symbols().iter().map(text).collect(),
            ours: rules.ours().map(text).collect(),
            granularity: seconds.fold(0, greatest_common_divisor).max(1),
            settings,
            owner: format!("{instance}/{unique}"),
            application: session::application(unique),
            version: 0,
            finalized: None,
            weeks: HashSet::new(),
            connection: None,
        }
    }

    /// Rows of `quarantine` that somebody released, oldest first.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn released(&mut self) -> Result<Vec<Released>, Error> {
        let mut connection = self.connect().await?;
        let rows: Vec<QuarantineRow> = sqlx::query_as(
            "SELECT id, publisher, sequence, raw FROM quarantine WHERE released_at IS NOT NULL ORDER BY id LIMIT $1",
        )
        .bind(RELEASED_ROWS)
        .fetch_all(&mut connection)
        .await
        .context(DatabaseSnafu { action: "read what was released from quarantine" })?;
        self.connection = Some(connection);
        let released = rows.into_iter().map(|(id, publisher, sequence, raw)| Released {
            id,
            identity: side::identity(publisher, sequence),
            raw,
        });
        Ok(released.collect())
    }

    /// Messages of these publishers that the broker gave up on: they are in quarantine, so they are not missing.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn given_up_by_broker(
        &mut self,
        publishers: Vec<[u8; 16]>,
    ) -> Result<Vec<MessageIdentity>, Error> {
        let (generation, partition) = self.key();
        let mut connection = self.connect().await?;
        let rows: Vec<(Option<Uuid>, Option<i64>)> = sqlx::query_as(
            "SELECT publisher, sequence FROM quarantine
             WHERE reason = 'delivery_limit' AND generation = $1 AND partition = $2 AND publisher = ANY($3)",
        )
        .bind(generation)
        .bind(partition)
        .bind(publishers.into_iter().map(Uuid::from_bytes).collect::<Vec<_>>())
        .fetch_all(&mut connection)
        .await
        .context(DatabaseSnafu {
            action: "look for missing messages in quarantine",
        })?;
        self.connection = Some(connection);
        let identities = rows
            .into_iter()
            .filter_map(|(publisher, sequence)| side::identity(publisher, sequence));
        Ok(identities.collect())
    }

    /// How many commits the partition has had: the number of the last one.
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// Commits a change that began from the version this store holds, together with the state after it.
    ///
    /// # Errors
    /// [`Error::Fenced`] when the partition has another owner. After any other error call [`Store::settle`] to learn
    /// whether the commit happened.
    pub async fn commit(&mut self, change: &Change) -> Result<(), Error> {
        let mut connection = self.connect().await?;
        let committed = tokio::time::timeout(COMMIT_TIMEOUT, self.write(&mut connection, change)).await;
        match committed {
            Ok(Ok(())) => {
                self.connection = Some(connection);
                self.version += 1;
                self.finalized = change.watermark;
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
        let mut connection = self.connect().await?;
        // The session that broke off may still be at it.
        session::end_sessions(&mut connection, &self.application).await?;
        self.connection = Some(connection);
        match self.row().await? {
            Some((version, owner)) if owner == self.owner && version == self.version => Ok(false),
            Some((version, owner)) if owner == self.owner && version == self.version + 1 => {
                self.version = version;
                Ok(true)
            }
            _ => self.fenced(),
        }
    }

    /// Whether the partition is still as this owner left it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn owns(&mut self) -> Result<bool, Error> {
        let kept = self.connection.is_some();
        let row = match self.row().await {
            // Whoever took the partition over has ended this session: the next one gets an answer.
            Err(_) if kept => self.row().await?,
            answer => answer?,
        };
        Ok(row.is_some_and(|(version, owner)| owner == self.owner && version == self.version))
    }

    /// The partition's version and owner.
    async fn row(&mut self) -> Result<Option<(i64, String)>, Error> {
        let (generation, partition) = self.key();
        let mut connection = self.connect().await?;
        let row =
            sqlx::query_as("SELECT version, owner FROM partitions WHERE generation = $1 AND partition = $2")
                .bind(generation)
                .bind(partition)
                .fetch_optional(&mut connection)
                .await
                .context(DatabaseSnafu {
                    action: "read the partition's version",
                })?;
        self.connection = Some(connection);
        Ok(row)
    }

    /// Becomes another owner, before a partition is claimed that was somebody else's meanwhile: an owner that was displaced never comes
    /// back under its name, so whatever it may have left under way stays void.
    pub async fn renew(&mut self) {
        self.close().await;
        let unique = Uuid::now_v7();
        let instance = self.owner.rsplit_once('/').map_or("", |(instance, _)| instance);
        self.owner = format!("{instance}/{unique}");
        self.application = session::application(unique);
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Nothing is under way on it; the server would notice by itself.
            connection.close().await.ok();
        }
    }

    async fn write(&mut self, connection: &mut PgConnection, change: &Change) -> Result<(), Error> {
        let Change {
            batch,
            watermark,
            sequences,
            waits_for_missing: _,
        } = change;
        let Batch {
            effects,
            rows,
            weeks,
            refused,
            gaps,
            released,
            ..
        } = batch;
        self.make_weeks(connection, weeks).await?;
        let (generation, partition) = self.key();
        fault::point!("before_begin");
        let mut transaction = connection.begin().await.context(DatabaseSnafu {
            action: "begin a transaction",
        })?;
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
        .bind(watermark.map(EventTime::as_microseconds))
        .bind(effects.last_event_time.map(EventTime::as_microseconds))
        .bind(effects.messages.cast_signed())
        .bind(effects.ticks.cast_signed())
        .bind(effects.duplicates.cast_signed())
        .bind(count(effects.late.len()))
        .bind(count(refused.len()))
        .bind(batch.missing().cast_signed())
        .execute(&mut *transaction)
        .await
        .context(DatabaseSnafu {
            action: "advance the partition",
        })?;
        if updated.rows_affected() != 1 {
            return self.fenced();
        }
        fault::point!("after_begin");
        if !rows.is_empty() {
            // The candles are made ready while the server still reads rows: it is what a commit waits for.
            let candles = async { candles::arguments(&self.symbols, &effects.candles, *watermark) };
            let (copied, candles) = tokio::join!(copy::send(&mut transaction, rows), candles);
            copied?;
            fault::point!("after_copy");
            // All of them may be too late for any candle.
            if !effects.candles.is_empty() {
                candles::merge(&mut transaction, candles).await?;
            }
        }
        if let Some(watermark) = *watermark
            && self.may_finalize(watermark)
        {
            candles::finalize(&mut transaction, &self.ours, self.finalized, watermark).await?;
        }
        side::publishers(&mut transaction, (generation, partition), sequences).await?;
        if !refused.is_empty() {
            side::quarantine(&mut transaction, (generation, partition), refused).await?;
        }
        if !released.is_empty() {
            side::delete_released(&mut transaction, released).await?;
        }
        if !effects.late.is_empty() {
            side::late(&mut transaction, &self.symbols, &effects.late).await?;
        }
        if !gaps.is_empty() {
            side::gaps(&mut transaction, (generation, partition), gaps).await?;
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
    async fn make_weeks(
        &mut self,
        connection: &mut PgConnection,
        weeks: &std::collections::BTreeSet<i64>,
    ) -> Result<(), Error> {
        for week in weeks {
            if self.weeks.contains(week) {
                continue;
            }
            sqlx::query("SELECT ensure_stock_data_partition(timestamptz 'epoch' + $1 * interval '1 second')")
                .bind((week * 7 - DAYS_BEFORE_MONDAY) * SECONDS_A_DAY)
                .execute(&mut *connection)
                .await
                .context(DatabaseSnafu {
                    action: "make a partition of stock_data",
                })?;
            self.weeks.insert(*week);
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
        connect(&credentials, &self.schema, &self.application).await
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

type QuarantineRow = (i64, Option<Uuid>, Option<i64>, Vec<u8>);
/// 1970-01-01 was a Thursday; weeks begin on Mondays, as in `ensure_stock_data_partition`.
const DAYS_BEFORE_MONDAY: i64 = 3;
const SECONDS_A_DAY: i64 = 86_400;

/// The number of a moment's week (UTC).
#[must_use]
pub fn week_of(time: EventTime) -> i64 {
    let days = time.as_microseconds().div_euclid(SECONDS_A_DAY * 1_000_000);
    (days + DAYS_BEFORE_MONDAY).div_euclid(7)
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
