//! What each chart costs: the SQL that Superset sends for it, explained on a database with many ticks. The table in docs/superset.md.
//!
//! ```sh
//! createdb large && cargo run -p schema --example large -- postgres://postgres:PASSWORD@localhost/large 10000000
//! psql large -c "ALTER ROLE large_ticks_reader PASSWORD 'reader'"
//! cargo run -p superset --example costs -- http://localhost:8088 admin PASSWORD large_ticks localhost:5432/large large_ticks_reader reader
//! ```
//!
//! Several schemas, separated by commas, are measured by the dashboard over all feeds; READER is a role that reads all of them then.
//!
//! Imports the dashboard of a feed `costs/<schema>` over that schema, asks Superset for the SQL of each chart at the default range and at
//! the longest there is, and runs each as the reader with the settings that Superset's connection has. The fastest of three is
//! shown: the first one also reads the catalogue, and the machine may be busy. Afterwards the dashboard may be deleted in Superset.

#[path = "../tests/support/mod.rs"]
mod support;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use superset::{Connection, Feed};
use support::Superset;

/// The dashboard's default, and all there is.
const RANGES: [&str; 2] = ["DATEADD(DATETIME(\"now\"), -1, day) : now", "No filter"];

/// What is too large to be read whole.
const LARGE: [&str; 4] = ["stock_data", "candle_state", "late_ticks", "quarantine"];

#[derive(Default)]
struct Cost {
    milliseconds: f64,
    pages: u64,
    rows: u64,
    indexes: Vec<String>,
    whole: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, username, password, schema, address, user, user_password] = arguments.as_slice() else {
        anyhow::bail!(
            "usage: costs SUPERSET USERNAME PASSWORD SCHEMA HOST:PORT/DATABASE READER READER_PASSWORD"
        );
    };
    let (server, database) = address.split_once('/').context("DATABASE is missing")?;
    let (host, port) = server.rsplit_once(':').context("PORT is missing")?;
    let connection = Connection {
        host: host.to_owned(),
        port: port.parse().context("PORT is not a number")?,
        database: database.to_owned(),
        user: user.clone(),
        ssl_mode: None,
        certificate_authority: None,
    };
    let feeds: Vec<Feed> = schema
        .split(',')
        .map(|schema| Feed {
            namespace: "costs".to_owned(),
            name: schema.replace('_', "-"),
            schema: schema.to_owned(),
            calls_per_day: Some(250),
            connection: connection.clone(),
        })
        .collect();
    let bundle = match feeds.as_slice() {
        [feed] => superset::feed(feed),
        feeds => superset::overview(feeds, &connection),
    };
    let superset = Superset::login(url, username, password).await?;
    superset.import(&bundle, user_password).await?;
    let options: sqlx::postgres::PgConnectOptions = format!("postgres://{address}").parse()?;
    let mut reader = PgConnection::connect_with(&options.username(user).password(user_password)).await?;
    for setting in [
        "timezone = 'UTC'",
        "jit = off",
        "default_transaction_read_only = on",
    ] {
        sqlx::raw_sql(AssertSqlSafe(format!("SET {setting}")))
            .execute(&mut reader)
            .await?;
    }
    println!("| chart | range | rows | pages | ms | by |\n|---|---|---|---|---|---|");
    for (_, name, context) in superset.charts(&bundle).await? {
        for range in RANGES {
            for sql in superset.sql(&context, range).await? {
                let cost = explain(&mut reader, &sql).await?;
                let mut by = cost.indexes.join(", ");
                if !cost.whole.is_empty() {
                    by = format!("{by} and all of {}", cost.whole.join(", "));
                }
                let range = if range == RANGES[0] { "a day" } else { "all" };
                println!(
                    "| {name} | {range} | {} | {} | {:.0} | {by} |",
                    cost.rows, cost.pages, cost.milliseconds
                );
            }
        }
    }
    Ok(())
}

async fn explain(reader: &mut PgConnection, sql: &str) -> Result<Cost> {
    let sql = sql.trim_end().trim_end_matches(';');
    let mut fastest: Option<Cost> = None;
    for _ in 0..3 {
        let plan = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
        let plan: Value = sqlx::query_scalar(AssertSqlSafe(plan))
            .fetch_one(&mut *reader)
            .await?;
        let plan = &plan[0];
        let mut cost = Cost {
            milliseconds: plan["Planning Time"].as_f64().unwrap_or_default()
                + plan["Execution Time"].as_f64().unwrap_or_default(),
            pages: plan["Plan"]["Shared Hit Blocks"].as_u64().unwrap_or_default()
                + plan["Plan"]["Shared Read Blocks"].as_u64().unwrap_or_default(),
            rows: plan["Plan"]["Actual Rows"].as_f64().unwrap_or_default() as u64,
            ..Cost::default()
        };
        walk(&plan["Plan"], &mut cost);
        if fastest
            .as_ref()
            .is_none_or(|fastest| cost.milliseconds < fastest.milliseconds)
        {
            fastest = Some(cost);
        }
    }
    fastest.context("nothing was run")
}

/// The indexes of a plan, without the numbers of weeks in their names, and the large tables that it reads whole.
fn walk(node: &Value, cost: &mut Cost) {
    if let Some(index) = node["Index Name"].as_str() {
        let name: Vec<&str> = index
            .trim_end_matches("_idx")
            .split('_')
            .filter(|part| !(part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit())))
            .collect();
        let name = name.join("_");
        if !cost.indexes.contains(&name) {
            cost.indexes.push(name);
        }
    }
    let relation = node["Relation Name"].as_str().unwrap_or_default();
    let scanned = node["Node Type"]
        .as_str()
        .is_some_and(|kind| kind.contains("Seq Scan"));
    // A week that is not there yet is empty, and the planner knows it.
    let empty = node["Actual Rows"].as_f64() == Some(0.0) && node["Shared Hit Blocks"].as_u64() == Some(0);
    if scanned
        && !empty
        && LARGE.iter().any(|large| relation.starts_with(large))
        && !cost.whole.iter().any(|name| name == relation)
    {
        cost.whole.push(relation.to_owned());
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, cost);
    }
}
