//! The columns that datasets promise, against a real schema, read as the reader.

use anyhow::{Context as _, Result};
use contract::names::FeedName;
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Executor as _, PgConnection, TypeInfo as _};
use superset::{Bundle, Connection, Feed};
use test_servers::TestDatabase;

/// What Superset calls the types of PostgreSQL that we use.
fn type_of(postgres: &str) -> &str {
    match postgres {
        "TIMESTAMPTZ" => "TIMESTAMP WITH TIME ZONE",
        "FLOAT8" => "DOUBLE PRECISION",
        "INT8" => "BIGINT",
        "INT4" => "INTEGER",
        other => other,
    }
}

async fn check(reader: &mut PgConnection, bundle: &Bundle) -> Result<usize> {
    let mut checked = 0;
    for (path, dataset) in bundle
        .files
        .iter()
        .filter(|(path, _)| path.starts_with("datasets/"))
    {
        let source = match dataset["sql"].as_str() {
            Some(sql) => format!("({sql}) AS virtual"),
            None => format!(
                "{}.{}",
                dataset["schema"].as_str().context("schema")?,
                dataset["table_name"].as_str().context("table_name")?
            ),
        };
        let query = format!("SELECT * FROM {source}");
        let described = (&mut *reader)
            .describe(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(query)))
            .await?;
        for column in dataset["columns"].as_array().context("columns")? {
            let name = column["column_name"].as_str().context("column_name")?;
            let found = described.columns().iter().find(|found| found.name() == name);
            let found = found.with_context(|| format!("{path}: there is no column {name}"))?;
            assert_eq!(
                type_of(found.type_info().name()),
                column["type"],
                "{path}: {name}"
            );
            assert_eq!(
                column["is_dttm"] == true,
                column["type"] == "TIMESTAMP WITH TIME ZONE",
                "{path}: {name}"
            );
        }
        for metric in dataset["metrics"].as_array().context("metrics")? {
            let expression = metric["expression"].as_str().context("expression")?;
            // Grouped as a chart groups, where there is a symbol to group by.
            let symbol = described.columns().iter().any(|column| column.name() == "symbol");
            let group = if symbol { "GROUP BY symbol" } else { "" };
            let query = format!("SELECT {expression} AS metric FROM {source} {group}");
            sqlx::raw_sql(AssertSqlSafe(query.clone()))
                .execute(&mut *reader)
                .await
                .context(query)?;
            checked += 1;
        }
    }
    Ok(checked)
}

#[tokio::test]
async fn the_reader_finds_every_column_and_can_compute_every_metric() -> Result<()> {
    let database = TestDatabase::create().await?;
    let unique: String = database.name.chars().rev().take(12).collect();
    let name = FeedName::new("markets", format!("s{unique}"))?;
    let mut admin = database.connect().await?;
    schema::roles::ensure(&mut admin, &name).await?;
    schema::migrate(&mut admin, &name).await?;
    schema::roles::set_password(
        &mut admin,
        &name.reader_role(),
        &"correct horse".to_owned().into(),
    )
    .await?;
    let options = database
        .options
        .clone()
        .username(&name.reader_role())
        .password("correct horse");
    let mut reader = PgConnection::connect_with(&options).await?;
    let feed = Feed {
        namespace: name.namespace().to_owned(),
        name: name.name().to_owned(),
        schema: name.schema(),
        calls_per_day: Some(250),
        connection: Connection {
            host: "localhost".to_owned(),
            port: 5432,
            database: database.name.clone(),
            user: name.reader_role(),
            ssl_mode: None,
            certificate_authority: None,
        },
    };
    assert!(check(&mut reader, &superset::feed(&feed)).await? > 20);
    assert!(
        check(
            &mut reader,
            &superset::overview(std::slice::from_ref(&feed), &feed.connection)
        )
        .await?
            > 5
    );
    Ok(())
}
