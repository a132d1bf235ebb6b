//! What the README's first steps show, on the sample feed that `cargo xtask up` applied.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    cluster::{Cluster, value},
    database,
    feed::Feed,
    forward::Forward,
    say, wait,
};
use rust_decimal::Decimal;
use serde_json::Value;

const NAMESPACE: &str = "markets";
const FEED: &str = "tech";

async fn sample() -> Result<(Cluster, Feed)> {
    let cluster = Cluster::connect().await?;
    let feed = Feed::new(&cluster, NAMESPACE, FEED)?;
    feed.get()
        .await
        .context("`cargo xtask up` applies the sample feed")?;
    feed.await_ready(Duration::from_secs(120)).await?;
    Ok((cluster, feed))
}

async fn symbols(feed: &Feed) -> Result<Vec<String>> {
    let spec = feed.get().await?.data["spec"].clone();
    let mut symbols: Vec<String> = serde_json::from_value(spec["symbols"].clone())?;
    symbols.sort();
    Ok(symbols)
}

#[tokio::test]
async fn kubectl_get_shows_the_columns() -> Result<()> {
    let (cluster, _) = sample().await?;
    let table = cluster
        .kubectl_text(&["get", "sf", "--namespace", NAMESPACE])
        .await?;
    println!("{table}");
    let mut lines = table.lines();
    let titles: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        titles
            == [
                "NAME", "READY", "SYMBOLS", "INTERVAL", "REPLICAS", "BACKLOG", "LAST", "TICK", "AGE"
            ],
        "the columns are {titles:?}"
    );
    let row: Vec<_> = lines
        .find(|line| line.starts_with(FEED))
        .context("the feed is not listed")?
        .split_whitespace()
        .collect();
    ensure!(
        row.len() == 8 && row[..5] == [FEED, "True", "5", "5s", "1/1"],
        "the row is {row:?}"
    );
    ensure!(row[5].parse::<u64>().is_ok(), "the backlog is {}", row[5]);
    let description = cluster
        .kubectl_text(&["describe", "sf", FEED, "--namespace", NAMESPACE])
        .await?;
    for word in [
        "SourceReady",
        "BrokerReady",
        "SchemaReady",
        "ProducerReady",
        "ProcessorReady",
        "QuotaSufficient",
        "DataComplete",
    ] {
        ensure!(
            description.contains(word),
            "`kubectl describe` does not show {word}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_producer_answers_as_it_did_before() -> Result<()> {
    let (cluster, feed) = sample().await?;
    let forward = Forward::open(&cluster, NAMESPACE, &feed.selector("producer"), 8000).await?;
    let client = reqwest::Client::new();
    let secret = cluster.secret(NAMESPACE, &format!("{FEED}-api-token")).await?;
    let token = value(&secret, "token")?;
    let get = async |path: &str| -> Result<Value> {
        let request = client.get(format!("{}{path}", forward.url()));
        let response = request.bearer_auth(token).send().await?;
        Ok(response.error_for_status()?.json().await?)
    };
    let has = |answer: &Value, path: &str, keys: &[&str]| -> Result<()> {
        say(format!("{path}: {answer}"));
        let missing: Vec<_> = keys.iter().filter(|key| answer.get(**key).is_none()).collect();
        ensure!(missing.is_empty(), "{path} lacks {missing:?}");
        Ok(())
    };
    has(&get("/").await?, "GET /", &["message", "version"])?;
    let health = get("/health").await?;
    has(
        &health,
        "GET /health",
        &["status", "rabbitmq_connected", "symbols", "timestamp"],
    )?;
    ensure!(
        health["rabbitmq_connected"] == true,
        "it says that RabbitMQ is not connected"
    );
    let answer = get("/symbols").await?;
    has(&answer, "GET /symbols", &["symbols"])?;
    let mut listed: Vec<String> = serde_json::from_value(answer["symbols"].clone())?;
    listed.sort();
    ensure!(listed == symbols(&feed).await?, "it lists {listed:?}");
    let response = client
        .post(format!("{}/fetch-data", forward.url()))
        .bearer_auth(token)
        .send()
        .await?;
    let fetched: Value = response.error_for_status()?.json().await?;
    has(&fetched, "POST /fetch-data", &["message", "symbols"])?;
    let metrics = client
        .get(format!("{}/metrics", forward.url()))
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?;
    ensure!(metrics.contains("# TYPE"), "/metrics is empty");
    let description = get("/openapi.json").await?;
    ensure!(
        description["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1")),
        "{description}"
    );
    let page = client
        .get(format!("{}/docs/", forward.url()))
        .send()
        .await?
        .error_for_status()?;
    ensure!(page.text().await?.contains("swagger"), "/docs is no page");
    let refused = client.get(format!("{}/symbols", forward.url())).send().await?;
    ensure!(
        refused.status() == 401,
        "without the token the answer is {}",
        refused.status()
    );
    Ok(())
}

#[tokio::test]
async fn the_reader_queries_ticks_candles_and_functions() -> Result<()> {
    let (cluster, feed) = sample().await?;
    let expected = symbols(&feed).await?;
    let mut reader = database::reader(&cluster, &feed.name).await?;
    wait::until(
        "every symbol has two ticks",
        Duration::from_secs(90),
        async || {
            let query = "SELECT symbol FROM stock_data GROUP BY symbol HAVING count(*) > 1 ORDER BY symbol";
            let found: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut *reader).await?;
            ensure!(found == expected, "only {found:?} have");
            Ok(())
        },
    )
    .await?;

    // The two plain queries of the compose project's users, as they stand.
    let recent = "SELECT * FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours'";
    let rows = sqlx::query(recent).fetch_all(&mut *reader).await?.len();
    ensure!(rows >= 2 * expected.len(), "{rows} recent rows");
    let statistics = "SELECT symbol, AVG(price) AS avg_price, MIN(price) AS min_price, MAX(price) AS max_price, STDDEV(price) AS volatility FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours' GROUP BY symbol";
    let found: Vec<(String, Decimal, Decimal, Decimal, Option<Decimal>)> =
        sqlx::query_as(statistics).fetch_all(&mut *reader).await?;
    ensure!(
        found.len() == expected.len(),
        "statistics of {} symbols",
        found.len()
    );
    for (symbol, average, lowest, highest, volatility) in &found {
        ensure!(
            lowest <= average && average <= highest && volatility.is_some(),
            "{symbol}: {lowest} {average} {highest}"
        );
    }

    let symbol = &expected[0];
    let recent: i64 = sqlx::query_scalar("SELECT count(*) FROM get_recent_stock_data($1)")
        .bind(symbol)
        .fetch_one(&mut *reader)
        .await?;
    ensure!(recent > 1, "get_recent_stock_data gives {recent} rows");
    let none: i64 = sqlx::query_scalar("SELECT count(*) FROM get_recent_stock_data($1, 0)")
        .bind(symbol)
        .fetch_one(&mut *reader)
        .await?;
    ensure!(none == 0, "within 0 hours there are {none} rows");
    type Statistics = (
        String,
        Decimal,
        Decimal,
        Decimal,
        Option<Decimal>,
        Option<i64>,
        i64,
    );
    let query = "SELECT symbol, avg_price, min_price, max_price, price_volatility, total_volume, tick_count FROM get_stock_statistics($1, 24)";
    let statistics: Statistics = sqlx::query_as(query).bind(symbol).fetch_one(&mut *reader).await?;
    say(format!("get_stock_statistics: {statistics:?}"));
    ensure!(
        statistics.0 == *symbol && statistics.2 <= statistics.1 && statistics.1 <= statistics.3,
        "{statistics:?}"
    );
    ensure!(
        statistics.6 >= recent,
        "{statistics:?} counts fewer than {recent} ticks"
    );
    let all: Vec<String> = sqlx::query_scalar("SELECT symbol FROM get_all_symbols() ORDER BY 1")
        .fetch_all(&mut *reader)
        .await?;
    ensure!(all == expected, "get_all_symbols gives {all:?}");
    type Analytics = (
        String,
        Decimal,
        Decimal,
        Decimal,
        Option<Decimal>,
        Option<i64>,
        Decimal,
        Decimal,
    );
    let query = "SELECT symbol, avg_price, min_price, max_price, price_volatility, total_volume, price_change, percent_change
                 FROM stock_analytics WHERE symbol = $1 AND created_at IS NOT NULL ORDER BY date DESC LIMIT 1";
    let analytics: Analytics = sqlx::query_as(query).bind(symbol).fetch_one(&mut *reader).await?;
    say(format!("stock_analytics: {analytics:?}"));
    ensure!(
        analytics.2 <= analytics.1 && analytics.1 <= analytics.3,
        "{analytics:?}"
    );
    wait::until("a candle of a minute is final", Duration::from_secs(120), async || {
        let query = "SELECT count(*) FROM candles WHERE width = '1m' AND is_final AND low <= open AND open <= high";
        let candles: i64 = sqlx::query_scalar(query).fetch_one(&mut *reader).await?;
        ensure!(candles > 0, "there is none");
        Ok(())
    })
    .await?;

    let refused = sqlx::query("INSERT INTO api_calls (day, calls) VALUES (current_date, 1)")
        .execute(&mut *reader)
        .await;
    let refused = refused.err().context("the reader may write")?;
    ensure!(refused.to_string().contains("permission denied"), "{refused}");
    Ok(())
}
