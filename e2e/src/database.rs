//! Connections to PostgreSQL, through a port-forward.

use std::ops::{Deref, DerefMut};

use anyhow::{Context as _, Result};
use contract::names::FeedName;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    forward::Forward,
    workload::system_selector,
};

/// A connection; its port-forward ends with it.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    _forward: Forward,
}

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// Connects as the installation's superuser.
///
/// # Errors
/// When the server does not answer.
pub async fn admin(cluster: &Cluster) -> Result<Session> {
    connect(cluster, SYSTEM, &format!("{RELEASE}-postgresql")).await
}

/// Connects as a feed's reader role, with what its Secret says.
///
/// # Errors
/// When the Secret is not there, or the server does not answer.
pub async fn reader(cluster: &Cluster, feed: &FeedName) -> Result<Session> {
    connect(
        cluster,
        feed.namespace(),
        &format!("{}-database-reader", feed.name()),
    )
    .await
}

/// Connects as the role of a Secret in CloudNativePG's format.
///
/// # Errors
/// When the Secret is not there, or the server does not answer.
pub async fn connect(cluster: &Cluster, namespace: &str, secret: &str) -> Result<Session> {
    let texts = cluster.secret(namespace, secret).await?;
    let forward = Forward::open(cluster, SYSTEM, &system_selector("postgresql"), 5432).await?;
    let address = forward.address();
    let connection = PgConnectOptions::new_without_pgpass()
        .host(&address.ip().to_string())
        .port(address.port())
        .database(value(&texts, "dbname")?)
        .username(value(&texts, "username")?)
        .password(value(&texts, "password")?)
        .ssl_mode(PgSslMode::Disable)
        .connect()
        .await
        .with_context(|| format!("failed to connect to PostgreSQL with Secret {namespace}/{secret}"))?;
    Ok(Session {
        connection,
        _forward: forward,
    })
}

/// Whether there is a schema of this name.
///
/// # Errors
/// When the server does not answer.
pub async fn has_schema(connection: &mut PgConnection, schema: &str) -> Result<bool> {
    let query = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    Ok(sqlx::query_scalar(query)
        .bind(schema)
        .fetch_one(connection)
        .await?)
}

/// The names of a feed's roles that are there.
///
/// # Errors
/// When the server does not answer.
pub async fn roles(connection: &mut PgConnection, feed: &FeedName) -> Result<Vec<String>> {
    let query = "SELECT rolname::text FROM pg_roles WHERE rolname IN ($1, $2) ORDER BY 1";
    let rows = sqlx::query_scalar(query)
        .bind(feed.reader_role())
        .bind(feed.writer_role());
    Ok(rows.fetch_all(connection).await?)
}

/// How many rows a table of a feed has.
///
/// # Errors
/// When the table is not there.
pub async fn count(connection: &mut PgConnection, feed: &FeedName, table: &str) -> Result<i64> {
    let query = format!("SELECT count(*) FROM {}.{table}", feed.schema());
    Ok(sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(connection)
        .await?)
}

/// Keeps processors from committing, until the transaction ends (`ROLLBACK`). It can still be read.
///
/// # Errors
/// When the table is not there.
pub async fn hold_commits(admin: &mut Session, feed: &FeedName) -> Result<()> {
    let lock = format!("BEGIN; LOCK TABLE {}.stock_data IN EXCLUSIVE MODE", feed.schema());
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut **admin).await?;
    Ok(())
}

/// Lets processors commit again.
///
/// # Errors
/// When the database does not answer.
pub async fn release_commits(admin: &mut Session) -> Result<()> {
    sqlx::query("ROLLBACK").execute(&mut **admin).await?;
    Ok(())
}

/// Removes what a feed left in the database.
///
/// # Errors
/// When the server does not answer.
pub async fn purge(connection: &mut PgConnection, feed: &FeedName) -> Result<()> {
    let mut statements = format!("DROP SCHEMA IF EXISTS {} CASCADE;", feed.schema());
    for role in roles(connection, feed).await? {
        statements.push_str(&format!("DROP OWNED BY {role}; DROP ROLE {role};"));
    }
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(connection)
        .await?;
    Ok(())
}
