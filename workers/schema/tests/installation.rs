//! What an installation has in its database server, in a real PostgreSQL.

use contract::names::FeedName;
use schema::{
    installation::{OVERVIEW_ROLE, ensure_database, ensure_overview},
    migrate,
    roles::{self, set_password},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use test_servers::TestDatabase;

#[tokio::test]
async fn a_database_with_an_owner_of_its_own_comes_back_and_lets_nobody_else_in() {
    let database = TestDatabase::create().await.unwrap();
    let mut superuser = database.connect().await.unwrap();
    // An administrator who is no superuser, as in somebody's own server.
    let (administrator, name) = (
        format!("{}_admin", database.name),
        format!("{}_own", database.name),
    );
    let statement = format!("CREATE ROLE {administrator} LOGIN CREATEROLE CREATEDB PASSWORD 'a'");
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut superuser)
        .await
        .unwrap();
    let options = database.options.clone().username(&administrator).password("a");
    let mut admin = PgConnection::connect_with(&options).await.unwrap();

    let missing = ensure_database(&mut admin, &name).await.unwrap();
    assert_eq!(missing, ["the role", "the database"]);
    assert_eq!(ensure_database(&mut admin, &name).await.unwrap(), [""; 0]);
    set_password(&mut admin, &name, &"s3cret".into()).await.unwrap();
    let own = database
        .options
        .clone()
        .username(&name)
        .password("s3cret")
        .database(&name);
    let mut owner = PgConnection::connect_with(&own).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t ()")
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();

    let (other, statement) = (format!("{name}_other"), "LOGIN PASSWORD 'o'");
    let statement = format!("CREATE ROLE {other} {statement}");
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut superuser)
        .await
        .unwrap();
    let refused = PgConnection::connect_with(&own.clone().username(&other).password("o")).await;
    assert!(refused.is_err(), "another role may connect");

    sqlx::raw_sql(AssertSqlSafe(format!("DROP DATABASE {name}")))
        .execute(&mut superuser)
        .await
        .unwrap();
    assert_eq!(
        ensure_database(&mut admin, &name).await.unwrap(),
        ["the database"]
    );
    PgConnection::connect_with(&own).await.unwrap();
}

#[tokio::test]
async fn the_overview_reads_what_the_readers_read_and_writes_nothing() {
    let database = TestDatabase::create().await.unwrap();
    let mut superuser = database.connect().await.unwrap();
    let feed = FeedName::new(
        "overview",
        format!("o{}", &database.name[database.name.len() - 12..]),
    )
    .unwrap();
    roles::ensure(&mut superuser, &feed).await.unwrap();
    migrate(&mut superuser, &feed).await.unwrap();
    let readers = [feed.reader_role(), "a_reader_that_is_gone".to_owned()];
    assert!(ensure_overview(&mut superuser, &readers).await.unwrap());
    assert!(!ensure_overview(&mut superuser, &readers).await.unwrap());
    let select = format!(
        "SET ROLE {OVERVIEW_ROLE}; SELECT * FROM {}.stock_data",
        feed.schema()
    );
    sqlx::raw_sql(AssertSqlSafe(select))
        .execute(&mut superuser)
        .await
        .unwrap();
    let delete = format!("DELETE FROM {}.stock_data", feed.schema());
    assert!(
        sqlx::raw_sql(AssertSqlSafe(delete))
            .execute(&mut superuser)
            .await
            .is_err()
    );
}
