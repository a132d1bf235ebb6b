//! Two years of real history, through every part of the system, while parts of it are killed.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    SYSTEM,
    broker::Broker,
    cluster::Cluster,
    database::{self, Session, count},
    feed::{self, Feed},
    history::{Bar, Tick, bars, differences, ticks},
    namespace::run_in,
    process, say,
    simulator::{self, Simulator},
    wait,
    workload::{self, system_selector},
};
use k8s_openapi::api::core::v1::Pod;
use rust_decimal::Decimal;
use serde_json::json;

const SYMBOLS: [&str; 3] = ["AAPL", "IBM", "MSFT"];
const FROM: &str = "2012-01-01";
const TO: &str = "2013-12-31";
const API_KEY: &str = "key-of-the-history-test";

/// What dies at which quote of a symbol, of 1,164.
const KILLS: [(usize, Victim); 4] = [
    (80, Victim::Processor),
    (240, Victim::Processor),
    (420, Victim::Broker),
    (600, Victim::Processor),
];

#[derive(Clone, Copy, Debug)]
enum Victim {
    Processor,
    Broker,
}

#[tokio::test]
async fn every_bar_of_two_years_arrives_exactly_once_while_processors_and_the_broker_are_killed() -> Result<()>
{
    run_in("e2e-history", async |cluster, namespace| {
        let bars = bars(&SYMBOLS, FROM.parse()?, TO.parse()?)?;
        let expected: Vec<Tick> = bars
            .iter()
            .map(ticks)
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        say(format!(
            "{} bars, {} ticks are to arrive",
            bars.len(),
            expected.len()
        ));
        ensure!(
            bars.len() == 873 && expected.len() == 3_492,
            "the file is not the one that this test is about"
        );

        let simulator = start(cluster, namespace).await?;
        let feed = Feed::new(cluster, namespace, "past")?;
        feed.apply(&spec(namespace)).await?;
        feed.await_ready(Duration::from_secs(120)).await?;

        kill_on_the_way(cluster, &feed, &simulator).await?;

        let mut reader = await_all(cluster, &feed, &simulator, expected.len(), bars.len()).await?;
        compare_candles(&mut reader, &bars).await?;
        compare_ticks(&mut reader, &expected).await?;
        nothing_went_astray(cluster, &feed, &mut reader, expected.len()).await?;
        plain_queries_work(&mut reader).await?;
        feed.await_condition("Ready", "True", Duration::from_secs(60))
            .await?;
        Ok(())
    })
    .await
}

async fn start(cluster: &Cluster, namespace: &str) -> Result<Simulator> {
    cluster
        .put_secret(namespace, "fmp", &[("apiKey", API_KEY)])
        .await?;
    let (from, to) = (format!("--from={FROM}"), format!("--to={TO}"));
    let arguments = ["--source=history", "--replay=step", "--plan=ultimate", &from, &to];
    Simulator::start(cluster, namespace, API_KEY, &arguments).await
}

fn spec(namespace: &str) -> serde_json::Value {
    let mut spec = feed::spec();
    spec["symbols"] = json!(SYMBOLS);
    spec["source"]["fmp"]["baseUrl"] = json!(simulator::base_url(namespace));
    spec["interval"] = json!("100ms");
    // With four partitions the three symbols have one each, and one partition has none: its watermark moves by heartbeats only.
    spec["processing"] = json!({"partitions": 4, "windows": ["1h", "1d"]});
    spec
}

/// Each kill comes when data flows again after the last one, and well before the replay ends.
async fn kill_on_the_way(cluster: &Cluster, feed: &Feed, simulator: &Simulator) -> Result<()> {
    let mut admin = database::admin(cluster).await?;
    let mut rows = 0;
    for (quote, victim) in KILLS {
        wait::until(
            &format!("the replay is at quote {quote}"),
            Duration::from_secs(180),
            async || {
                let report = simulator.report().await?;
                let served = report
                    .progress
                    .values()
                    .map(|progress| progress.served)
                    .min()
                    .unwrap_or(0);
                ensure!(
                    served >= quote && report.progress.len() == SYMBOLS.len(),
                    "it is at quote {served}"
                );
                Ok(())
            },
        )
        .await?;
        rows = wait::until(
            &format!("more than {rows} rows are there"),
            Duration::from_secs(180),
            async || {
                let now = count(&mut admin, &feed.name, "stock_data").await?;
                ensure!(now > rows, "there are {now}");
                Ok(now)
            },
        )
        .await?;
        ensure!(
            !simulator.report().await?.exhausted,
            "the replay ended before everything was killed"
        );
        let (namespace, selector) = match victim {
            Victim::Processor => (feed.name.namespace(), feed.selector("processor")),
            Victim::Broker => (SYSTEM, system_selector("rabbitmq")),
        };
        say(format!("with {rows} rows committed, the {victim:?} is killed"));
        let pod = workload::await_ready_pod(cluster, namespace, &selector, Duration::from_secs(120)).await?;
        match victim {
            Victim::Processor => process::kill(cluster, &pod).await?,
            Victim::Broker => process::kill_and_remove(cluster, &pod).await?,
        }
    }
    workload::await_ready_pod(
        cluster,
        SYSTEM,
        &system_selector("rabbitmq"),
        Duration::from_secs(120),
    )
    .await?;
    Ok(())
}

async fn await_all(
    cluster: &Cluster,
    feed: &Feed,
    simulator: &Simulator,
    ticks: usize,
    bars: usize,
) -> Result<Session> {
    wait::until("the replay is at its end", Duration::from_secs(300), async || {
        let report = simulator.report().await?;
        ensure!(report.exhausted, "it is at {:?}", report.progress);
        Ok(())
    })
    .await?;
    let mut reader = database::reader(cluster, &feed.name).await?;
    let (ticks, bars) = (i64::try_from(ticks)?, i64::try_from(bars)?);
    wait::until("every tick is stored and every day's candle final", Duration::from_secs(240), async || {
        let query = "SELECT (SELECT count(*) FROM stock_data), (SELECT count(*) FROM candles WHERE width = '1d' AND is_final)";
        let found: (i64, i64) = sqlx::query_as(query).fetch_one(&mut *reader).await?;
        ensure!(found.0 >= ticks && found.1 >= bars, "{} of {ticks} ticks, {} of {bars} final candles", found.0, found.1);
        Ok(())
    })
    .await?;
    Ok(reader)
}

type Candle = (
    String,
    String,
    Decimal,
    Decimal,
    Decimal,
    Decimal,
    Option<i64>,
    bool,
    i64,
);

async fn compare_candles(reader: &mut Session, bars: &[Bar]) -> Result<()> {
    // A day's window begins at midnight in New York: were it another moment, the text would say so.
    let query =
        "SELECT symbol, to_char(window_start AT TIME ZONE 'America/New_York', 'YYYY-MM-DD HH24:MI:SS.US'),
                        open, high, low, close, volume, is_final, tick_count
                 FROM candles WHERE width = '1d'";
    let found: Vec<Candle> = sqlx::query_as(query).fetch_all(&mut **reader).await?;
    let start = |bar: &Bar| format!("{} 00:00:00.000000", bar.date);
    let expected: Vec<Candle> = bars
        .iter()
        .map(|bar| {
            (
                bar.symbol.clone(),
                start(bar),
                bar.open,
                bar.high,
                bar.low,
                bar.close,
                Some(bar.volume),
                true,
                4,
            )
        })
        .collect();
    ensure_same("candles", &expected, &found)
}

async fn compare_ticks(reader: &mut Session, expected: &[Tick]) -> Result<()> {
    let query = r#"SELECT symbol, extract(epoch FROM "timestamp"), price, volume FROM stock_data"#;
    let rows: Vec<(String, Decimal, Decimal, Option<i64>)> =
        sqlx::query_as(query).fetch_all(&mut **reader).await?;
    let mut found = Vec::with_capacity(rows.len());
    for (symbol, epoch, price, volume) in rows {
        ensure!(
            epoch.fract().is_zero(),
            "a tick of {symbol} is at {epoch}, within a second"
        );
        let second = i64::try_from(epoch.trunc().normalize().mantissa()).context("a time is out of range")?;
        found.push(Tick {
            symbol,
            second,
            price,
            volume,
        });
    }
    ensure_same("ticks", expected, &found)
}

fn ensure_same<T: Clone + Ord + std::fmt::Debug>(what: &str, expected: &[T], found: &[T]) -> Result<()> {
    let differences = differences(expected, found);
    let first: Vec<_> = differences.iter().take(10).cloned().collect();
    ensure!(
        differences.is_empty(),
        "{} {what} differ from the file, the first:\n{}",
        differences.len(),
        first.join("\n")
    );
    say(format!("all {} {what} equal the file", expected.len()));
    Ok(())
}

/// No gap, nothing quarantined, nothing late, nothing left in a queue; what came twice was dropped.
async fn nothing_went_astray(
    cluster: &Cluster,
    feed: &Feed,
    reader: &mut Session,
    ticks: usize,
) -> Result<()> {
    for table in ["gaps", "quarantine", "late_ticks"] {
        let rows = count(reader, &feed.name, table).await?;
        ensure!(rows == 0, "table {table} has {rows} rows");
    }
    let query = "SELECT sum(ticks)::bigint, sum(duplicates)::bigint, sum(gaps)::bigint, sum(quarantined)::bigint, sum(late)::bigint,
                        count(*), count(watermark) FROM partitions";
    let (counted, duplicates, gaps, quarantined, late, partitions, watermarks): (
        i64,
        i64,
        i64,
        i64,
        i64,
        i64,
        i64,
    ) = sqlx::query_as(query).fetch_one(&mut **reader).await?;
    say(format!(
        "{counted} ticks counted, {duplicates} redelivered messages dropped"
    ));
    ensure!(
        counted == i64::try_from(ticks)?,
        "the partitions counted {counted} ticks"
    );
    ensure!(
        (gaps, quarantined, late) == (0, 0, 0),
        "gaps {gaps}, quarantined {quarantined}, late {late}"
    );
    ensure!(
        (partitions, watermarks) == (4, 4),
        "{watermarks} of {partitions} partitions have a watermark"
    );
    let broker = Broker::open(cluster).await?;
    wait::until(
        "no queue of the feed holds a tick",
        Duration::from_secs(60),
        async || {
            let queues = broker.queues(&feed.name).await?;
            ensure!(
                queues.len() == 5,
                "there are {} queues, not one a partition and one for dead letters",
                queues.len()
            );
            // Heartbeats go on, so a message may be on its way.
            ensure!(queues.iter().all(|queue| queue.messages <= 2), "{queues:?}");
            Ok(())
        },
    )
    .await?;
    let dead = broker
        .queues(&feed.name)
        .await?
        .into_iter()
        .find(|queue| queue.name == feed.name.dead_letter_queue());
    ensure!(
        dead.is_some_and(|queue| queue.messages == 0),
        "there are dead letters"
    );
    let processors = cluster.api::<Pod>(feed.name.namespace());
    let pod = workload::running_pod(&processors, &feed.selector("processor")).await?;
    let restarts = workload::first_container(&pod).map_or(0, |status| status.restart_count);
    say(format!("the processor was restarted {restarts} times"));
    Ok(())
}

/// The queries that users have, as they stand. The history lies outside their 24 hours.
async fn plain_queries_work(reader: &mut Session) -> Result<()> {
    let recent = "SELECT * FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours'";
    ensure!(
        sqlx::query(recent).fetch_all(&mut **reader).await?.is_empty(),
        "a tick of 2012 counts as recent"
    );
    let statistics = "SELECT symbol, AVG(price) AS avg_price, MIN(price) AS min_price, MAX(price) AS max_price, STDDEV(price) AS volatility FROM stock_data WHERE timestamp >= NOW() - INTERVAL '24 hours' GROUP BY symbol";
    ensure!(
        sqlx::query(statistics).fetch_all(&mut **reader).await?.is_empty(),
        "a tick of 2012 counts as recent"
    );
    let symbols: Vec<String> = sqlx::query_scalar("SELECT symbol FROM get_all_symbols() ORDER BY 1")
        .fetch_all(&mut **reader)
        .await?;
    ensure!(symbols == SYMBOLS, "get_all_symbols() gives {symbols:?}");
    let days: i64 = sqlx::query_scalar("SELECT count(*) FROM stock_analytics")
        .fetch_one(&mut **reader)
        .await?;
    ensure!(days == 873, "stock_analytics has {days} rows");
    Ok(())
}
