//! The feed's SQL: roles, migrations, functions, and the schema versions that a processor accepts.
//!
//! Everything takes a connection with the right to create roles and schemas (the operator's), except [`version`],
//! and [`may_write`], which the processor asks as the writer.

use std::sync::LazyLock;

use contract::names::FeedName;
use snafu::{ResultExt, Snafu};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, migrate::Migrator};

mod compatibility;
pub mod drift;
pub mod installation;
mod progress;
pub mod roles;
mod weeks;

pub use compatibility::{OLDEST, Refusal, may_write};
pub use progress::{Progress, progress};
pub use weeks::{AHEAD, Retained, partitions_ahead, retention};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("./migrations");
    // Its lock is the database's, so that all feeds would wait for each other. There is one for each schema instead.
    migrations.set_locking(false);
    migrations
});

/// The version that [`migrate`] brings a schema to.
pub const VERSION: i32 = 8;

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

/// Makes the schema, or brings it up to [`VERSION`]. The roles must be there ([`roles::ensure`]). Nothing is written when
/// the schema is up to date. Runs of several operators wait for each other (advisory lock), those of different feeds do not: one whose
/// tables are large may take long.
///
/// # Errors
/// When a statement fails; the schema is then at the last version that was complete.
pub async fn migrate(connection: &mut PgConnection, feed: &FeedName) -> Result<Migrated, Error> {
    migrate_to(connection, feed, VERSION).await
}

/// As [`migrate`], up to an older version: what an older release made. Tests of upgrades begin from there.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_to(
    connection: &mut PgConnection,
    feed: &FeedName,
    target: i32,
) -> Result<Migrated, Error> {
    let from = version(connection, feed).await?;
    if from == Some(target) {
        return Ok(Migrated { from, to: target });
    }
    let schema = feed.schema();
    lock(
        connection,
        &schema,
        "SELECT pg_advisory_lock(hashtextextended($1, 0))",
    )
    .await?;
    let migrated = migrate_locked(connection, feed, target).await;
    // Where the session is lost, so is its lock.
    let unlocked = lock(
        connection,
        &schema,
        "SELECT pg_advisory_unlock(hashtextextended($1, 0))",
    )
    .await;
    let migrated = migrated?;
    unlocked?;
    Ok(migrated)
}

async fn lock(connection: &mut PgConnection, schema: &str, statement: &'static str) -> Result<(), Error> {
    let action = "wait for other migrations of the schema";
    sqlx::query(statement)
        .bind(format!("stockfeed migrations of {schema}"))
        .execute(connection)
        .await
        .context(StatementSnafu { action })?;
    Ok(())
}

async fn migrate_locked(
    connection: &mut PgConnection,
    feed: &FeedName,
    target: i32,
) -> Result<Migrated, Error> {
    let schema = feed.schema();
    // Another run may have been quicker.
    let from = version(connection, feed).await?;
    if from == Some(target) {
        return Ok(Migrated { from, to: target });
    }
    let create = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&schema));
    execute(connection, create, "create the schema").await?;
    // Functions keep the search path that they were created under; pg_temp last, so that no temporary table shadows ours.
    let path = format!("SET search_path TO {}, pg_temp", quoted(&schema));
    execute(connection, path, "set the search path").await?;
    let result = MIGRATIONS
        .run_direct(Some(target.into()), &mut *connection, false)
        .await;
    // Also when a migration failed: the connection is the caller's. Its own failure says less than the migration's.
    let reset = execute(
        connection,
        "RESET search_path".to_owned(),
        "reset the search path",
    )
    .await;
    result.map_err(Box::new).context(MigrateSnafu { schema })?;
    reset?;
    Ok(Migrated { from, to: target })
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
