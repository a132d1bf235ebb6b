//! A feed of one's own in a database of one's own.

#![allow(
    dead_code,
    reason = "every test binary compiles this, and none uses all of it"
)]

use anyhow::Result;
use contract::names::FeedName;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use test_servers::TestDatabase;

/// Roles belong to the server, not to a database: every test has a feed of its own.
pub fn feed(database: &TestDatabase) -> FeedName {
    let unique: String = database.name.chars().rev().take(12).collect();
    FeedName::new("markets", format!("f{unique}")).expect("a label")
}

/// A feed whose schema has the present version, and the administrator's connection.
pub async fn migrated() -> Result<(TestDatabase, FeedName, PgConnection)> {
    let database = TestDatabase::create().await?;
    let feed = feed(&database);
    let mut admin = database.connect().await?;
    assert!(schema::roles::ensure(&mut admin, &feed).await?);
    schema::migrate(&mut admin, &feed).await?;
    Ok((database, feed, admin))
}

/// Logs in as a role, which gets a password for it.
pub async fn login(database: &TestDatabase, role: &str, admin: &mut PgConnection) -> Result<PgConnection> {
    schema::roles::set_password(admin, role, &"correct horse".to_owned().into()).await?;
    let options = database.options.clone().username(role).password("correct horse");
    Ok(PgConnection::connect_with(&options).await?)
}

pub async fn execute(connection: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

/// One text of one row.
pub async fn text(connection: &mut PgConnection, query: &str) -> Result<String> {
    let query = format!("SELECT coalesce(answer::text, 'NULL') FROM ({query}) AS one (answer)");
    Ok(sqlx::query_scalar(AssertSqlSafe(query))
        .fetch_one(connection)
        .await?)
}

/// Runs what the role may not do.
pub async fn denied(connection: &mut PgConnection, statement: &str) {
    let error = execute(connection, statement)
        .await
        .expect_err(statement)
        .to_string();
    assert!(
        error.contains("permission denied") || error.contains("must be owner"),
        "{statement}: {error}"
    );
}
