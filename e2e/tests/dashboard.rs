//! The dashboard of the chart, opened in a browser: its own page, and Flink's in front of its REST API. What they show is what database
//! and broker say, and what a person may do by them is what that person's rights allow.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    SYSTEM,
    broker::Broker,
    browser,
    cluster::Cluster,
    database::{self, Session, hold_commits, release_commits},
    feed::Feed,
    forward::Forward,
    live::{self, await_more_ticks},
    namespace::run_in,
    say, wait,
    workload::{running_pod, system_selector},
};
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

const SYMBOLS: usize = 20;
const READY: Duration = Duration::from_secs(120);
/// Whose candles are looked at, and how wide they are: so narrow that some are final soon.
const CANDLES: (&str, &str) = ("S000", "10s");
/// More than a processor is given at first in each partition.
const WAITING: u64 = 30;

#[tokio::test]
async fn its_pages_open_in_a_browser_and_show_what_database_and_broker_say() -> Result<()> {
    run_in("e2e-dashboard", async |cluster, namespace| {
        let feed = live_feed(cluster, namespace).await?;
        let mut admin = database::admin(cluster).await?;
        wait::until("some candles are final", READY, async || {
            let final_ones = candles(&mut admin, &feed).await?.len();
            ensure!(final_ones >= 5, "{final_ones} are");
            Ok(())
        })
        .await?;
        // Before they are shown: what becomes final afterwards was shown as it was.
        let final_ones = candles(&mut admin, &feed).await?;
        let forward = Forward::open(cluster, SYSTEM, &system_selector("dashboard"), 8081).await?;
        let url = format!("http://{}", forward.address());
        run_browser(&feed, &url, "STOCKFEED_BROWSER_TESTS", &[]).await?;
        let report = std::fs::read(artefacts()?.join("report.json")).context("there is no report")?;
        let report: Value = serde_json::from_slice(&report)?;
        candles_are_the_tables(&report, &final_ones)?;

        // Nothing moves any more: numbers that go on changing could not be compared.
        let broker = Broker::open(cluster).await?;
        hold_commits(&mut admin, &feed.name).await?;
        let compared = queues_are_the_brokers(&feed, &broker, &url).await;
        release_commits(&mut admin).await?;
        compared?;
        partitions_are_the_tables(&feed, &mut admin, &url).await
    })
    .await
}

#[tokio::test]
async fn flinks_own_page_opens_in_front_of_it() -> Result<()> {
    run_in("e2e-flink", async |cluster, namespace| {
        let feed = live_feed(cluster, namespace).await?;
        let mut reader = database::reader(cluster, &feed.name).await?;
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;
        let forward = Forward::open(cluster, SYSTEM, &system_selector("dashboard"), 8081).await?;
        run_browser(&feed, &format!("http://{}", forward.address()), "flink.mjs", &[]).await
    })
    .await
}

#[tokio::test]
async fn actions_of_its_page_do_what_the_rights_of_a_person_allow() -> Result<()> {
    run_in("e2e-actions", async |cluster, namespace| {
        let feed = live_feed(cluster, namespace).await?;
        let tokens = [
            ("DASHBOARD_VIEWER", token(cluster, namespace, "view").await?),
            ("DASHBOARD_EDITOR", token(cluster, namespace, "edit").await?),
        ];
        let pods: Api<Pod> = cluster.api(namespace);
        let uid = async |component| -> Result<Option<String>> {
            Ok(running_pod(&pods, &feed.selector(component)).await?.uid())
        };
        let before = (uid("producer").await?, uid("processor").await?);
        let forward = Forward::open(cluster, SYSTEM, &system_selector("dashboard"), 8081).await?;
        let url = format!("http://{}", forward.address());
        run_browser(&feed, &url, "actions.mjs", &tokens).await?;

        let events = cluster
            .api::<Event>(namespace)
            .list(&ListParams::default())
            .await?;
        let reasons: BTreeSet<_> = events
            .items
            .into_iter()
            .filter_map(|event| event.reason)
            .collect();
        for reason in ["Drained", "Resumed"] {
            ensure!(reasons.contains(reason), "no Event {reason} among {reasons:?}");
        }
        wait::until("the producer's pod is another one", READY, async || {
            ensure!(uid("producer").await? != before.0, "it is the same");
            Ok(())
        })
        .await?;
        feed.await_ready(READY).await?;
        ensure!(
            uid("processor").await? == before.1,
            "the processor was restarted as well"
        );
        let suspended = &feed.get().await?.data["spec"]["suspend"];
        ensure!(suspended == &json!(false), "spec.suspend is {suspended}");
        Ok(())
    })
    .await
}

/// A token of somebody who has a role of the cluster in a namespace.
async fn token(cluster: &Cluster, namespace: &str, role: &str) -> Result<String> {
    let (in_namespace, account) = (format!("--namespace={namespace}"), format!("{namespace}:{role}"));
    for arguments in [
        &["create", "serviceaccount", role][..],
        &[
            "create",
            "rolebinding",
            role,
            &format!("--clusterrole={role}"),
            &format!("--serviceaccount={account}"),
        ],
    ] {
        let arguments = [&[in_namespace.as_str()], arguments].concat();
        cluster.kubectl_text(&arguments).await?;
    }
    let token = cluster
        .kubectl_text(&[&in_namespace, "create", "token", role])
        .await?;
    Ok(token.trim().to_owned())
}

async fn live_feed(cluster: &Cluster, namespace: &str) -> Result<Feed> {
    live::put_key(cluster, namespace).await?;
    let feed = Feed::new(cluster, namespace, "shown")?;
    let mut spec = live::spec(SYMBOLS);
    spec["processing"]["windows"] = json!([CANDLES.1, "1m", "1d"]);
    feed.apply(&spec).await?;
    feed.await_ready(READY).await?;
    Ok(feed)
}

/// Where the browser's tests put their pictures.
fn artefacts() -> Result<PathBuf> {
    browser::artefacts("dashboard-in-cluster")
}

/// Runs a script of the page's tests: the one that a variable names, or one beside it.
async fn run_browser(feed: &Feed, url: &str, script: &str, more: &[(&str, String)]) -> Result<()> {
    let own = PathBuf::from(browser::variable("STOCKFEED_BROWSER_TESTS")?);
    let script = match script {
        "STOCKFEED_BROWSER_TESTS" => own,
        other => own.with_file_name(other),
    };
    let name = format!("{}/{}", feed.name.namespace(), feed.name.name());
    let artefacts = artefacts()?.into_os_string();
    let mut variables = vec![
        ("DASHBOARD_URL", OsStr::new(url)),
        ("DASHBOARD_FEED", name.as_ref()),
        ("DASHBOARD_SYMBOL", CANDLES.0.as_ref()),
        ("DASHBOARD_WINDOW", CANDLES.1.as_ref()),
        ("DASHBOARD_ARTEFACTS", &artefacts),
    ];
    variables.extend(more.iter().map(|(name, value)| (*name, OsStr::new(value))));
    browser::run(&script, &variables).await
}

/// Final candles by the second that they begin at: open, high, low and close.
async fn candles(admin: &mut Session, feed: &Feed) -> Result<BTreeMap<i64, String>> {
    let (symbol, width) = CANDLES;
    let query = format!(
        "SELECT extract(epoch FROM window_start)::bigint,
                concat_ws(' ', trim_scale(open), trim_scale(high), trim_scale(low), trim_scale(close))
         FROM {}.candles WHERE symbol = '{symbol}' AND width = '{width}' AND is_final",
        feed.name.schema()
    );
    let rows: Vec<(i64, String)> = sqlx::query_as(AssertSqlSafe(query))
        .fetch_all(&mut **admin)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Every final candle that the page showed is the table's, to the last digit.
fn candles_are_the_tables(report: &Value, stored: &BTreeMap<i64, String>) -> Result<()> {
    let shown = report["pages"]["candles"]["candles"]
        .as_array()
        .context("the report has no candles")?;
    let mut compared = 0;
    for candle in shown {
        let (start, prices) = (candle["candle"].as_str(), candle["ohlc"].as_str());
        let (start, prices) = start.zip(prices).context("a candle without prices")?;
        let second = start.parse::<jiff::Timestamp>()?.as_second();
        if let Some(expected) = stored.get(&second) {
            let prices: Vec<String> = prices
                .split(' ')
                .map(|price| Ok(price.parse::<rust_decimal::Decimal>()?.normalize().to_string()))
                .collect::<Result<_>>()?;
            ensure!(
                prices.join(" ") == *expected,
                "{start}: {prices:?}, and in the table {expected}"
            );
            compared += 1;
        }
    }
    say(format!(
        "{compared} of {} candles that were shown are compared",
        shown.len()
    ));
    ensure!(compared >= 3, "only {compared} candles could be compared");
    Ok(())
}

/// What the dashboard says of a feed.
async fn shown(feed: &Feed, url: &str) -> Result<Value> {
    let path = format!(
        "{url}/api/v1/feeds/{}/{}",
        feed.name.namespace(),
        feed.name.name()
    );
    let answer = reqwest::get(&path).await?.error_for_status()?;
    Ok(answer.json().await?)
}

async fn queues_are_the_brokers(feed: &Feed, broker: &Broker, url: &str) -> Result<()> {
    wait::until("messages wait in the queues", READY, async || {
        let waiting: u64 = broker
            .queues(&feed.name)
            .await?
            .iter()
            .map(|queue| queue.messages_ready)
            .sum();
        ensure!(waiting > WAITING, "{waiting} wait");
        Ok(())
    })
    .await?;
    let mut spec = live::spec(SYMBOLS);
    spec["processing"]["windows"] = json!([CANDLES.1, "1m", "1d"]);
    spec["suspend"] = json!(true);
    feed.apply(&spec).await?;
    wait::until("the dashboard shows what waits", READY, async || {
        let page = shown(feed, url).await?;
        let partitions = page["partitions"].as_array().context("no partitions")?;
        let queues = broker.queues(&feed.name).await?;
        let mut total = 0;
        for partition in partitions {
            let (generation, number) = (&partition["generation"], &partition["partition"]);
            let name = feed.name.queue(
                u32::try_from(generation.as_u64().context("no generation")?)?,
                u16::try_from(number.as_u64().context("no number")?)?,
            );
            let queue = queues
                .iter()
                .find(|queue| queue.name == name)
                .with_context(|| format!("the broker has no {name}"))?;
            ensure!(
                partition["queue"]["ready"] == queue.messages_ready,
                "{name}: {} shown, {} wait",
                partition["queue"]["ready"],
                queue.messages_ready
            );
            total += queue.messages_ready;
        }
        ensure!(total > WAITING, "{total} wait");
        say(format!(
            "{total} messages wait in {} partitions",
            partitions.len()
        ));
        Ok(())
    })
    .await
}

/// Once everything is stored: checkpoints are the versions of the table's rows.
async fn partitions_are_the_tables(feed: &Feed, admin: &mut Session, url: &str) -> Result<()> {
    feed.await_condition("Suspended", "True", READY).await?;
    let query = format!(
        "SELECT generation || '.' || partition, version, messages FROM {}.partitions",
        feed.name.schema()
    );
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(AssertSqlSafe(query))
        .fetch_all(&mut **admin)
        .await?;
    wait::until("the dashboard shows the last checkpoints", READY, async || {
        let page = shown(feed, url).await?;
        let partitions = page["partitions"].as_array().context("no partitions")?;
        ensure!(partitions.len() == rows.len(), "{} partitions", partitions.len());
        for (id, version, messages) in &rows {
            let partition = partitions
                .iter()
                .find(|partition| partition["id"] == id.as_str())
                .with_context(|| format!("partition {id} is not shown"))?;
            let totals = &partition["totals"]["messages"];
            ensure!(
                partition["checkpoint"] == *version && totals == messages,
                "{id}: {partition}, and in the table {version}, {messages}"
            );
        }
        say(format!("checkpoints and messages: {rows:?}"));
        Ok(())
    })
    .await
}
