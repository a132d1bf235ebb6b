//! A Superset imports the dashboards of a feed whose ticks are known: each chart's own endpoint answers what a plain query of the
//! ticks does, a second import changes nothing, and what somebody changes is seen.

mod support;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use contract::names::FeedName;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use superset::{Bundle, Connection, Difference, Feed};
use support::Superset;
use test_servers::{TestDatabase, TestSuperset};
use uuid::Uuid;

const PASSWORD: &str = "correct horse";

/// A tick a minute of three symbols for 30 hours, and the candles that a processor makes of them.
const DATA: &str = include_str!("data.sql");

/// A chart, the columns that tell its rows apart, and a query of the ticks that says the same. Of a chart over time the query has
/// the columns `t`, `series` and `value`.
#[derive(serde::Deserialize)]
struct Expected {
    chart: String,
    #[serde(default)]
    by: Vec<String>,
    /// Columns that tell of the present moment.
    #[serde(default)]
    ignored: Vec<String>,
    /// One symbol, as the dashboard's filter asks for it.
    symbol: Option<String>,
    /// By how much a number may differ, of what changes with the clock.
    #[serde(default)]
    tolerance: f64,
    /// A histogram: how many there are in all of its bins.
    #[serde(default)]
    sum: bool,
    query: String,
}

fn expected(file: &str, feed: &Feed) -> Result<Vec<Expected>> {
    Ok(serde_yaml::from_str(&file.replace(
        "{feed}",
        &format!("{}/{}", feed.namespace, feed.name),
    ))?)
}

/// The bundle under names and UUIDs of its own: other tests use the same Superset, and an operator in it removes what belongs to no feed
/// that it knows.
fn apart(bundle: &Bundle, unique: &str) -> Result<Bundle> {
    let mut text = serde_json::to_string(&bundle.files)?;
    for uuid in bundle.uuids().values() {
        text = text.replace(
            &uuid.to_string(),
            &Uuid::new_v5(uuid, unique.as_bytes()).to_string(),
        );
    }
    let mut files: BTreeMap<String, Value> = serde_json::from_str(&text)?;
    for (path, file) in &mut files {
        if path.starts_with("dashboards/") {
            file["slug"] = json!(format!("test-{unique}"));
        }
        if path.starts_with("databases/") {
            file["database_name"] = json!(format!("test {unique}"));
        }
    }
    Ok(Bundle { files })
}

struct World {
    /// Goes with this value.
    _database: TestDatabase,
    admin: PgConnection,
    feed: Feed,
    superset: Superset,
}

async fn world() -> Result<World> {
    let database = TestDatabase::create().await?;
    let unique: String = database.name.chars().rev().take(12).collect();
    let name = FeedName::new("markets", format!("c{unique}"))?;
    let mut admin = database.connect().await?;
    schema::roles::ensure(&mut admin, &name).await?;
    schema::migrate(&mut admin, &name).await?;
    schema::roles::set_password(&mut admin, &name.reader_role(), &PASSWORD.to_owned().into()).await?;
    execute(&mut admin, &format!("SET search_path TO {}", name.schema())).await?;
    execute(&mut admin, DATA).await?;
    let feed = Feed {
        namespace: name.namespace().to_owned(),
        name: name.name().to_owned(),
        schema: name.schema(),
        calls_per_day: Some(250),
        connection: Connection {
            host: database.options.get_host().to_owned(),
            port: database.options.get_port(),
            database: database.name.clone(),
            user: name.reader_role(),
            ssl_mode: None,
            certificate_authority: None,
        },
    };
    let server = TestSuperset::ready().await?;
    let superset = Superset::login(&server.url, "stockfeed-operator", &server.password).await?;
    Ok(World {
        _database: database,
        admin,
        feed,
        superset,
    })
}

async fn execute(connection: &mut PgConnection, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await?;
    Ok(())
}

/// Cells by what tells their row apart and their column; those without a value are left out.
type Cells = BTreeMap<(String, String), Value>;

fn cells(rows: &[Value], by: &[String], ignored: &[String]) -> Result<Cells> {
    let mut cells = Cells::new();
    for row in rows {
        let row = row.as_object().context("a row")?;
        let key: Vec<String> = by
            .iter()
            // Milliseconds, as text: a float of them has rounding of its own.
            .map(|column| {
                row.get(column).map_or_else(String::new, |value| {
                    value
                        .as_f64()
                        .map_or_else(|| value.to_string(), |number| format!("{number:.0}"))
                })
            })
            .collect();
        for (column, value) in row {
            if !value.is_null() && !by.contains(column) && !ignored.contains(column) {
                let twice = cells.insert((key.join(" "), column.clone()), value.clone());
                ensure!(twice.is_none(), "two rows {key:?}");
            }
        }
    }
    Ok(cells)
}

async fn plain(admin: &mut PgConnection, expected: &Expected) -> Result<Cells> {
    let query = format!(
        "SELECT coalesce(jsonb_agg(to_jsonb(one)), '[]') FROM ({}) AS one",
        expected.query
    );
    let rows: Value = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(admin).await?;
    let rows = rows.as_array().context("rows")?;
    if rows.first().is_some_and(|row| row.get("series").is_some()) {
        let cell = |row: &Value| {
            let moment = row["t"]
                .as_f64()
                .map_or_else(|| row["t"].to_string(), |t| format!("{t:.0}"));
            (
                (moment, row["series"].as_str().unwrap_or_default().to_owned()),
                row["value"].clone(),
            )
        };
        return Ok(rows
            .iter()
            .map(cell)
            .filter(|(_, value)| !value.is_null())
            .collect());
    }
    cells(rows, &expected.by, &expected.ignored)
}

fn same(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    match (ours.as_f64(), theirs.as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= tolerance.max(1e-9 * ours.abs().max(1.0)),
        _ => ours == theirs,
    }
}

fn compare(expected: &Expected, wanted: &Cells, found: &Cells) -> Result<()> {
    let chart = &expected.chart;
    for (key, value) in wanted {
        let answer = found.get(key).unwrap_or(&Value::Null);
        ensure!(
            same(value, answer, expected.tolerance),
            "{chart}, {key:?}: {value} in PostgreSQL, {answer} in Superset"
        );
    }
    // What a chart says beside that has to be nothing.
    for (key, value) in found {
        ensure!(
            wanted.contains_key(key) || value.as_f64() == Some(0.0),
            "{chart}, {key:?}: {value} in Superset only"
        );
    }
    ensure!(!wanted.is_empty(), "{chart}: nothing to compare");
    Ok(())
}

async fn check(world: &mut World, bundle: &Bundle, all: &[Expected]) -> Result<()> {
    let charts = world.superset.charts(bundle).await?;
    for expected in all {
        let (id, _, context) = charts
            .iter()
            .find(|(_, name, _)| *name == expected.chart)
            .with_context(|| format!("there is no chart {}", expected.chart))?;
        let found = match &expected.symbol {
            None => world.superset.rows(*id).await,
            Some(symbol) => world.superset.rows_of(context, symbol).await,
        };
        let found = found.with_context(|| expected.chart.clone())?;
        let by = if expected.by.is_empty() {
            vec!["timestamp".to_owned()]
        } else {
            expected.by.clone()
        };
        let mut merged = Cells::new();
        for rows in &found {
            merged.extend(cells(rows, &by, &expected.ignored)?);
        }
        if expected.sum {
            let mut totals = BTreeMap::<String, f64>::new();
            for ((row, _), count) in &merged {
                *totals.entry(row.clone()).or_default() += count.as_f64().context("a count")?;
            }
            merged = totals
                .into_iter()
                .map(|(row, total)| ((row, "candles".to_owned()), json!(total)))
                .collect();
        }
        let wanted = plain(&mut world.admin, expected)
            .await
            .with_context(|| expected.chart.clone())?;
        compare(expected, &wanted, &merged)?;
    }
    let unchecked: Vec<&String> = charts
        .iter()
        .map(|(_, name, _)| name)
        .filter(|name| !all.iter().any(|expected| expected.chart == **name))
        .collect();
    ensure!(unchecked.is_empty(), "no query is written for {unchecked:?}");
    Ok(())
}

/// The views go by the hour: what was asked before and after a full hour is not the same.
async fn check_within_an_hour(world: &mut World, bundle: &Bundle, file: &str) -> Result<()> {
    let all = expected(file, &world.feed)?;
    for _ in 0..2 {
        let hour = "SELECT date_trunc('hour', now())::text";
        let before: String = sqlx::query_scalar(hour).fetch_one(&mut world.admin).await?;
        let result = check(world, bundle, &all).await;
        let after: String = sqlx::query_scalar(hour).fetch_one(&mut world.admin).await?;
        if before == after {
            return result;
        }
    }
    anyhow::bail!("it took more than an hour")
}

#[tokio::test]
async fn each_chart_of_a_feed_says_what_the_ticks_say() -> Result<()> {
    let mut world = world().await?;
    let bundle = apart(&superset::feed(&world.feed), &world.feed.name)?;
    world.superset.import(&bundle, PASSWORD).await?;
    check_within_an_hour(&mut world, &bundle, include_str!("feed.yaml")).await?;
    world.superset.remove(&bundle).await
}

#[tokio::test]
async fn each_chart_over_all_feeds_says_what_the_ticks_say() -> Result<()> {
    let mut world = world().await?;
    let overview = superset::overview(std::slice::from_ref(&world.feed), &world.feed.connection);
    let bundle = apart(&overview, &world.feed.name)?;
    world.superset.import(&bundle, PASSWORD).await?;
    check_within_an_hour(&mut world, &bundle, include_str!("overview.yaml")).await?;
    world.superset.remove(&bundle).await
}

#[tokio::test]
async fn a_second_import_changes_nothing_and_a_change_is_seen() -> Result<()> {
    let world = world().await?;
    let bundle = apart(&superset::feed(&world.feed), &world.feed.name)?;
    world.superset.import(&bundle, PASSWORD).await?;
    assert_eq!(
        bundle.differences(&world.superset.export(&bundle).await?)?,
        vec![]
    );
    // No password is needed for one that is there.
    world.superset.import(&bundle, superset::PASSWORD_MASK).await?;
    assert_eq!(
        bundle.differences(&world.superset.export(&bundle).await?)?,
        vec![]
    );

    let charts = world.superset.charts(&bundle).await?;
    let (volume, ..) = charts
        .iter()
        .find(|(_, name, _)| name == "Volume")
        .context("Volume")?;
    let path = format!("/api/v1/chart/{volume}");
    world
        .superset
        .send(Method::PUT, &path, &json!({"description": "mine"}))
        .await?;
    let changed = vec![Difference {
        asset: "chart \"Volume\"".to_owned(),
        key: "description".to_owned(),
    }];
    assert_eq!(
        bundle.differences(&world.superset.export(&bundle).await?)?,
        changed
    );

    world.superset.import(&bundle, PASSWORD).await?;
    assert_eq!(
        bundle.differences(&world.superset.export(&bundle).await?)?,
        vec![]
    );
    world.superset.remove(&bundle).await
}
