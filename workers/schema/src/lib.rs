//! The feed's SQL: roles, migrations, functions, and the schema versions that a processor accepts.
//!
//! Everything takes a connection with the right to create roles and schemas (the operator's), except [`version`],
//! which the processor asks as the writer.

use std::{ops::RangeInclusive, time::Duration};

use contract::{event_time::EventTime, names::FeedName};
use snafu::{ResultExt, Snafu};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, migrate::Migrator};

pub mod roles;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// The version that [`migrate`] brings a schema to.
pub const VERSION: i32 = 1;

/// The versions that this release's processor can write to.
pub const SUPPORTED: RangeInclusive<i32> = 1..=1;

/// Why something could not be done in the database.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum Error {
    /// A statement failed.
    #[snafu(display("failed to {action}"))]
    Statement {
        /// What was attempted.
        action: &'static str,
        /// Why.
        source: sqlx::Error,
    },
    /// A migration failed, or one that was applied is not the one we have.
    #[snafu(display("failed to migrate schema {schema}"))]
    Migrate {
        /// Which.
        schema: String,
        /// Why.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A password that SCRAM cannot carry.
    #[snafu(display("failed to prepare a password for role {role}"))]
    Password {
        /// Whose.
        role: String,
    },
}

/// What [`migrate`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; `None` when the schema was not there.
    pub from: Option<i32>,
    /// The version now.
    pub to: i32,
}

/// How far a feed's processing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The oldest partition's watermark, of the generation that is being consumed; `None` until every partition that has
    /// received something has one.
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
}

/// Makes the schema, or brings it up to [`VERSION`]. The roles must be there ([`roles::ensure`]). Nothing is written when
/// the schema is up to date. Runs of several operators wait for each other (advisory lock).
///
/// # Errors
/// When a statement fails; the schema is then at the last version that was complete.
pub async fn migrate(connection: &mut PgConnection, feed: &FeedName) -> Result<Migrated, Error> {
    let schema = feed.schema();
    let from = version(connection, feed).await?;
    if from == Some(VERSION) {
        return Ok(Migrated { from, to: VERSION });
    }
    let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&schema));
    execute(connection, create, "create the schema").await?;
    // Functions keep the search path that they were created under; pg_temp last, so that no temporary table shadows ours.
    let path = format!("SET search_path TO {}, pg_temp", quoted(&schema));
    execute(connection, path, "set the search path").await?;
    let result = MIGRATIONS.run_direct(None, &mut *connection, false).await;
    execute(
        connection,
        "RESET search_path".to_owned(),
        "reset the search path",
    )
    .await?;
    result.map_err(Box::new).context(MigrateSnafu { schema })?;
    Ok(Migrated { from, to: VERSION })
}

/// The version of the feed's schema; `None` when there is none.
///
/// # Errors
/// When the database cannot be asked.
pub async fn version(connection: &mut PgConnection, feed: &FeedName) -> Result<Option<i32>, Error> {
    let table = format!("{}._sqlx_migrations", quoted(&feed.schema()));
    let action = "read the schema's version";
    let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&table)
        .fetch_one(&mut *connection)
        .await
        .context(StatementSnafu { action })?;
    if !exists {
        return Ok(None);
    }
    let newest = format!("SELECT max(version) FROM {table} WHERE success");
    let newest: Option<i64> = sqlx::query_scalar(AssertSqlSafe(newest))
        .fetch_one(connection)
        .await
        .context(StatementSnafu { action })?;
    Ok(newest.map(|version| i32::try_from(version).unwrap_or(i32::MAX)))
}

/// Drops the schema with all it holds, and both roles. Nothing happens when they are not there.
///
/// # Errors
/// When a statement fails, for example because somebody else's objects depend on a role.
pub async fn drop(connection: &mut PgConnection, feed: &FeedName) -> Result<(), Error> {
    let mut transaction = connection.begin().await.context(StatementSnafu {
        action: "begin a transaction",
    })?;
    let schema = format!("DROP SCHEMA IF EXISTS {} CASCADE", quoted(&feed.schema()));
    execute(&mut transaction, schema, "drop the schema").await?;
    roles::drop(&mut transaction, feed).await?;
    transaction
        .commit()
        .await
        .context(StatementSnafu { action: "commit" })
}

/// How far the feed has come, over all its partitions. One generation is consumed at a time, so the one that was written last
/// is the one whose watermarks move; those of generations before it stand still for good.
///
/// # Errors
/// When the schema is not there or cannot be read.
pub async fn progress(connection: &mut PgConnection, feed: &FeedName) -> Result<Progress, Error> {
    let query = format!(
        "SELECT CASE WHEN bool_and(watermark IS NOT NULL OR generation <> consumed) THEN
                    (extract(epoch FROM min(watermark) FILTER (WHERE generation = consumed)) * 1000000)::bigint END,
                (extract(epoch FROM max(last_event_time)) * 1000000)::bigint,
                coalesce(sum(ticks), 0)::bigint, coalesce(sum(quarantined), 0)::bigint,
                coalesce(sum(late), 0)::bigint, coalesce(sum(gaps), 0)::bigint
         FROM {schema}.partitions,
              LATERAL (SELECT latest.generation AS consumed FROM {schema}.partitions latest
                       WHERE latest.messages > 0 ORDER BY latest.updated_at DESC LIMIT 1) AS latest
         WHERE messages > 0",
        schema = quoted(&feed.schema())
    );
    type Row = (Option<i64>, Option<i64>, i64, i64, i64, i64);
    let (watermark, last_tick_time, ticks, quarantined, late, gaps): Row =
        sqlx::query_as(AssertSqlSafe(query))
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
    })
}

/// Drops the partitions of raw ticks that lie wholly before `retention` ago; candles stay. Returns how many.
///
/// # Errors
/// When a statement fails.
pub async fn retention(
    connection: &mut PgConnection,
    feed: &FeedName,
    retention: Duration,
) -> Result<i32, Error> {
    let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX / 2);
    let query = format!(
        "SELECT {}.drop_stock_data_before(now() - $1 * interval '1 second')",
        quoted(&feed.schema())
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .bind(seconds)
        .fetch_one(connection)
        .await
        .context(StatementSnafu {
            action: "drop old partitions",
        })
}

/// An identifier in quotes. Every identifier of ours comes from [`FeedName`], which has no quote; this is the belt to that.
fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

async fn execute(
    connection: &mut PgConnection,
    statement: String,
    action: &'static str,
) -> Result<(), Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .context(StatementSnafu { action })?;
    Ok(())
}
