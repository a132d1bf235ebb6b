//! The weeks of `stock_data`: made ahead of time, and dropped when they are older than the retention.

use std::time::Duration;

use contract::names::FeedName;
use snafu::ResultExt;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::{Error, StatementSnafu, execute, quoted};

/// How far ahead [`partitions_ahead`] makes weeks: two of them, so that an operator may be away that long.
pub const AHEAD: Duration = Duration::from_secs(14 * 86_400);

/// How long a statement of [`retention`] waits for other transactions before it leaves the rest for the next run.
const PATIENCE: &str = "5s";

/// What the server answers when it waited that long.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A thousand years: older than any tick, and a moment that the server can still express.
const MAX_SECONDS: i64 = 1_000 * 366 * 86_400;

/// What [`retention`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Weeks of raw ticks that are gone.
    pub weeks: i32,
    /// Late ticks that went with them.
    pub late_ticks: u64,
    /// Somebody's transaction has been reading or writing for so long that the rest was left for the next run.
    pub waiting: bool,
}

/// Makes the weeks of `stock_data` from the present one to [`AHEAD`] of now, so that the processor seldom makes one while
/// ticks wait. Returns how many were missing. Cheap when none is: call it at each reconcile.
///
/// # Errors
/// When a statement fails.
pub async fn partitions_ahead(connection: &mut PgConnection, feed: &FeedName) -> Result<i32, Error> {
    let query = format!(
        "SELECT {}.ensure_stock_data_partitions($1 * interval '1 second')",
        quoted(&feed.schema())
    );
    sqlx::query_scalar(AssertSqlSafe(query))
        .bind(i64::try_from(AHEAD.as_secs()).unwrap_or(i64::MAX))
        .fetch_one(connection)
        .await
        .context(StatementSnafu {
            action: "make partitions ahead",
        })
}

/// Drops the weeks of raw ticks that lie wholly before `retention` ago, and their late ticks; candles stay, and so does
/// what is in quarantine. The connection must not be in a transaction.
///
/// Nobody waits for it: a week is detached `CONCURRENTLY`, which takes no lock that readers or writers of other weeks
/// want, and dropped when nothing knows it any more. What was interrupted is finished by the next run.
///
/// # Errors
/// When a statement fails, other than for waiting too long.
pub async fn retention(
    connection: &mut PgConnection,
    feed: &FeedName,
    retention: Duration,
) -> Result<Retained, Error> {
    set(connection, &format!("SET lock_timeout = '{PATIENCE}'")).await?;
    let done = locked(connection, feed, retention).await;
    let reset = set(connection, "RESET lock_timeout").await;
    let done = done?;
    reset?;
    Ok(done)
}

/// With the lock that whoever makes or drops a week of this feed holds: a processor that wants one of these weeks once more
/// makes it anew afterwards.
async fn locked(
    connection: &mut PgConnection,
    feed: &FeedName,
    retention: Duration,
) -> Result<Retained, Error> {
    let key = format!("{}.stock_data", feed.schema());
    let lock = sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))")
        .bind(&key)
        .execute(&mut *connection)
        .await;
    if in_time(lock.map(drop), "take the lock of the weeks")?.is_none() {
        return Ok(Retained {
            waiting: true,
            ..Retained::default()
        });
    }
    let done = drop_weeks(connection, feed, retention).await;
    let unlocked = sqlx::query("SELECT pg_advisory_unlock(hashtextextended($1, 0))")
        .bind(&key)
        .execute(connection)
        .await
        .context(StatementSnafu {
            action: "release the lock of the weeks",
        });
    let done = done?;
    unlocked?;
    Ok(done)
}

async fn drop_weeks(
    connection: &mut PgConnection,
    feed: &FeedName,
    retention: Duration,
) -> Result<Retained, Error> {
    let schema = quoted(&feed.schema());
    let seconds = i64::try_from(retention.as_secs()).map_or(MAX_SECONDS, |seconds| seconds.min(MAX_SECONDS));
    let query = format!(
        "SELECT partition, state FROM {schema}.stock_data_weeks
         WHERE week_end <= now() - $1 * interval '1 second' ORDER BY week_start"
    );
    let weeks: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(query))
        .bind(seconds)
        .fetch_all(&mut *connection)
        .await
        .context(StatementSnafu {
            action: "list the weeks",
        })?;
    let mut done = Retained::default();
    for (week, state) in weeks {
        if drop_week(connection, &schema, &week, &state).await?.is_none() {
            done.waiting = true;
            return Ok(done);
        }
        done.weeks += 1;
    }
    // Not before their week is gone: statistics count candles and late ticks against the raw ticks.
    let query = format!(
        r#"DELETE FROM {schema}.late_ticks WHERE "timestamp" < date_trunc('week', now() - $1 * interval '1 second', 'UTC')"#
    );
    let deleted = sqlx::query(AssertSqlSafe(query))
        .bind(seconds)
        .execute(connection)
        .await;
    match in_time(deleted, "delete late ticks")? {
        Some(deleted) => done.late_ticks = deleted.rows_affected(),
        None => done.waiting = true,
    }
    Ok(done)
}

/// Takes one week out and drops it; `None` when it had to wait too long for either.
async fn drop_week(
    connection: &mut PgConnection,
    schema: &str,
    week: &str,
    state: &str,
) -> Result<Option<()>, Error> {
    let partition = format!("{schema}.{}", quoted(week));
    let detach = format!("ALTER TABLE {schema}.stock_data DETACH PARTITION {partition}");
    let detach = match state {
        "attached" => Some(format!("{detach} CONCURRENTLY")),
        "detaching" => Some(format!("{detach} FINALIZE")),
        _ => None,
    };
    if let Some(detach) = detach
        && in_time(run(connection, detach).await, "detach a week")?.is_none()
    {
        return Ok(None);
    }
    in_time(
        run(connection, format!("DROP TABLE {partition}")).await,
        "drop a week",
    )
}

async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(connection)
        .await
        .map(drop)
}

async fn set(connection: &mut PgConnection, statement: &str) -> Result<(), Error> {
    execute(connection, statement.to_owned(), "set the lock timeout").await
}

/// `None` for a statement that waited too long.
fn in_time<T>(result: Result<T, sqlx::Error>, action: &'static str) -> Result<Option<T>, Error> {
    match result {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => Ok(None),
        result => result.map(Some).context(StatementSnafu { action }),
    }
}
