//! The database's side of a feed in a real PostgreSQL.

use anyhow::Result;
use operator::{api::status::reason, connection::DatabaseConnection, database, metrics::Heal};

#[path = "support/bench.rs"]
mod bench;

use bench::{Bench, READER, WRITER, kinds};

#[tokio::test]
async fn everything_is_made_once_and_both_roles_can_log_in() -> Result<()> {
    let bench = Bench::new().await?;
    let first = bench.reconcile().await;
    assert!(first.verdict.is_true(), "{:?}", first.verdict);
    assert_eq!(
        kinds(&first),
        [Heal::Roles, Heal::Schema, Heal::RolePassword, Heal::RolePassword]
    );
    assert_eq!(first.version, Some(schema::VERSION));
    assert_eq!(first.progress, Some(schema::Progress::default()));
    bench.login(&bench.feed.writer_role(), WRITER).await?;
    bench.login(&bench.feed.reader_role(), READER).await?;
    let second = bench.reconcile().await;
    assert!(
        second.verdict.is_true() && second.written.is_empty(),
        "{:?}",
        second.written
    );
    Ok(())
}

#[tokio::test]
async fn what_others_removed_or_changed_is_healed() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    let writer = bench.feed.writer_role();

    bench
        .execute(format!("ALTER ROLE {writer} PASSWORD 'another'"))
        .await?;
    assert_eq!(kinds(&bench.reconcile().await), [Heal::RolePassword]);
    bench.login(&writer, WRITER).await?;

    bench
        .execute(format!("DROP SCHEMA {} CASCADE", bench.feed.schema()))
        .await?;
    assert_eq!(kinds(&bench.reconcile().await), [Heal::Schema]);

    bench
        .execute(format!("DROP OWNED BY {writer}; DROP ROLE {writer}"))
        .await?;
    let healed = kinds(&bench.reconcile().await);
    assert!(healed.contains(&Heal::Roles), "{healed:?}");
    assert!(bench.reconcile().await.written.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_schema_of_a_later_release_is_left_alone() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    let table = format!("{}._sqlx_migrations", bench.feed.schema());
    bench
        .execute(format!(
            "INSERT INTO {table} (version, description, success, checksum, execution_time) VALUES (1000, 'later', true, '', 0)"
        ))
        .await?;
    let outcome = bench.reconcile().await;
    assert_eq!(outcome.verdict.reason, reason::SCHEMA_TOO_NEW);
    assert!(
        outcome.verdict.message.contains("1000"),
        "{}",
        outcome.verdict.message
    );
    Ok(())
}

#[tokio::test]
async fn dropping_takes_schema_and_roles() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    let admin = DatabaseConnection::read("s/database", &bench.secret)?;
    database::drop(&bench.databases, &admin, &bench.feed).await?;
    let mut connection = bench.server.connect().await?;
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_roles WHERE rolname IN ($1, $2)) + (SELECT count(*) FROM pg_namespace WHERE nspname = $3)",
    )
    .bind(bench.feed.writer_role())
    .bind(bench.feed.reader_role())
    .bind(bench.feed.schema())
    .fetch_one(&mut connection)
    .await?;
    assert_eq!(left, 0);
    // A deletion may be tried again.
    database::drop(&bench.databases, &admin, &bench.feed).await?;
    Ok(())
}

#[tokio::test]
async fn trouble_has_its_own_reason_and_shows_no_password() -> Result<()> {
    let mut bench = Bench::new().await?;
    let original = bench.secret.clone();

    bench.set("password", "not-the-password");
    let refused = bench.reconcile().await.verdict;
    assert_eq!(refused.reason, reason::AUTHENTICATION_FAILED);
    assert!(
        !refused.message.contains("not-the-password"),
        "{}",
        refused.message
    );

    bench.secret = original.clone();
    bench.set("dbname", "nowhere");
    assert_eq!(bench.reconcile().await.verdict.reason, reason::DATABASE_NOT_FOUND);

    bench.secret = original.clone();
    bench.set("port", "1");
    assert_eq!(bench.reconcile().await.verdict.reason, reason::UNREACHABLE);

    let humble = format!("{}_humble", bench.feed.schema());
    bench
        .execute(format!("CREATE ROLE {humble} LOGIN PASSWORD 'humble'"))
        .await?;
    bench.secret = original;
    bench.set("username", &humble);
    bench.set("password", "humble");
    let denied = bench.reconcile().await.verdict;
    bench.execute(format!("DROP ROLE {humble}")).await?;
    assert_eq!(denied.reason, reason::PERMISSION_DENIED, "{}", denied.message);
    Ok(())
}
