//! The producer as its users meet it: the free tier, the API with its token, and a feed that changes while it runs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    database,
    feed::{self, Feed},
    forward::Forward,
    namespace::run_in,
    say, wait, workload,
};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

/// How soon anything must show: a feed that is well is looked at every minute.
const SHOWN: Duration = Duration::from_secs(90);
/// The kubelet looks at a `ConfigMap` again within a minute or so.
const TAKEN_ON: Duration = Duration::from_secs(180);

async fn with_key(cluster: &Cluster, namespace: &str, secret: &str) -> Result<()> {
    let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
    let key = value(&key, "apiKey")?;
    cluster.put_secret(namespace, secret, &[("apiKey", key)]).await
}

#[tokio::test]
async fn the_free_tier_is_stretched_and_says_so_everywhere() -> Result<()> {
    run_in("e2e-free-tier", async |cluster, namespace| {
        // Calls are counted by the key's name, and those of an earlier run of this test were made.
        let own = Api::<Namespace>::all(cluster.client.clone())
            .get(namespace)
            .await?;
        let secret = format!("fmp-{}", own.uid().unwrap_or_default());
        with_key(cluster, namespace, &secret).await?;
        let feed = Feed::new(cluster, namespace, "free")?;
        let mut spec = feed::spec();
        spec["source"]["fmp"]["apiKeySecretRef"] = json!({"name": secret});
        spec["symbols"] = json!(["AAPL", "MSFT", "GOOG", "IBM", "NVDA"]);
        spec["source"]["fmp"]["plan"] = json!("Basic");
        spec["interval"] = json!("10m");
        let left = left_of_the_day(cluster).await?;
        feed.apply(&spec).await?;
        feed.await_ready(SHOWN * 2).await?;
        let quota = feed.await_condition("QuotaSufficient", "False", SHOWN).await?;
        for words in ["720 calls a day", "250", "28m48s", "plan Starter"] {
            ensure!(
                quota.message.contains(words),
                "{words} is not in: {}",
                quota.message
            );
        }
        let status = wait::until("the status shows what is kept", SHOWN, async || {
            let status = feed.get().await?.data["status"]["quota"].clone();
            ensure!(status["usedToday"] == 5, "it is {status}");
            Ok(status)
        })
        .await?;
        let interval = status["effectiveInterval"]
            .as_str()
            .context("no effective interval")?;
        // Fifty rounds at ten minutes take 8 hours and 20 minutes. With less than that left they need not be spread.
        ensure!(
            left < 30_000 || interval != "10m",
            "{left} s are left, and the interval kept is {interval}"
        );
        let table = cluster
            .kubectl_text(&["get", "sf", "-n", namespace, "-o", "wide"])
            .await?;
        let description = cluster
            .kubectl_text(&["describe", "sf", "free", "-n", namespace])
            .await?;
        say(format!("\n{table}\n{description}"));
        ensure!(
            table.contains(interval) && description.contains("QuotaInsufficient"),
            "it is not shown"
        );
        asks_with_and_without_the_token(cluster, namespace, &feed).await
    })
    .await
}

/// Seconds until midnight in New York; waits for that when it is near, for this test counts a day's calls.
async fn left_of_the_day(cluster: &Cluster) -> Result<i64> {
    let mut admin = database::admin(cluster).await?;
    let mut ask = async || -> Result<i64> {
        let text = "SELECT extract(epoch FROM date_trunc('day', local) + interval '1 day' - local)::bigint
                    FROM (SELECT now() AT TIME ZONE 'America/New_York' AS local) AS clock";
        Ok(sqlx::query_scalar(text).fetch_one(&mut *admin).await?)
    };
    let left = ask().await?;
    if left > 300 {
        return Ok(left);
    }
    say(format!("waiting {left} s for midnight in New York"));
    tokio::time::sleep(Duration::from_secs(left.unsigned_abs() + 2)).await;
    ask().await
}

async fn asks_with_and_without_the_token(cluster: &Cluster, namespace: &str, feed: &Feed) -> Result<()> {
    let forward = Forward::open(cluster, namespace, &feed.selector("producer"), 8000).await?;
    let client = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", forward.url());
    let refused = client.get(url("/quota")).send().await?;
    ensure!(
        refused.status() == 401,
        "without a token the answer is {}",
        refused.status()
    );
    let secret = cluster.secret(namespace, "free-api-token").await?;
    let token = value(&secret, "token")?;
    let ask = async |request: reqwest::RequestBuilder| -> Result<(u16, Value)> {
        let answer = request.bearer_auth(token).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    let (status, quota) = ask(client.get(url("/quota"))).await?;
    say(format!("GET /quota: {quota}"));
    ensure!(
        status == 200 && quota["share_per_day"] == 250 && quota["used_today"] == 5,
        "{quota}"
    );
    // By hand as long as there are calls: fifty times five are a day's.
    let mut answers = Vec::new();
    for _ in 0..50 {
        let (status, body) = ask(client.post(url("/fetch-data"))).await?;
        answers.push(status);
        if status == 429 {
            ensure!(body["reason"] == "QuotaExhausted", "{body}");
            break;
        }
    }
    let fetched = answers.iter().filter(|status| **status == 200).count();
    ensure!(
        fetched == 49 && answers.last() == Some(&429),
        "the answers are {answers:?}"
    );
    let (_, quota) = ask(client.get(url("/quota"))).await?;
    ensure!(quota["used_today"] == 250 && quota["left_today"] == 0, "{quota}");
    let mut admin = database::admin(cluster).await?;
    let counted: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT sum(calls)::bigint FROM {}.api_calls",
        feed.name.schema()
    )))
    .fetch_one(&mut *admin)
    .await?;
    ensure!(counted == 250, "{counted} calls are counted");
    let source = feed.await_condition("SourceReady", "True", SHOWN).await?;
    say(format!("SourceReady: {}: {}", source.reason, source.message));
    feed.await_condition("Ready", "True", SHOWN).await?;
    wait::until("the status says that they are used up", SHOWN * 2, async || {
        let quota = feed.get().await?.data["status"]["quota"].clone();
        ensure!(
            quota["effectiveInterval"] == "used up" && quota["usedToday"] == 250,
            "it is {quota}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn symbols_and_interval_change_without_a_new_producer_and_without_a_lost_tick() -> Result<()> {
    run_in("e2e-live-change", async |cluster, namespace| {
        with_key(cluster, namespace, "fmp").await?;
        let feed = Feed::new(cluster, namespace, "live")?;
        let mut spec = feed::spec();
        spec["symbols"] = json!(["AAPL", "MSFT"]);
        feed.apply(&spec).await?;
        feed.await_ready(SHOWN * 2).await?;
        let pods = cluster.api::<Pod>(namespace);
        let before = workload::running_pod(&pods, &feed.selector("producer")).await?;
        spec["symbols"] = json!(["AAPL", "NVDA", "IBM"]);
        spec["interval"] = json!("500ms");
        feed.apply(&spec).await?;
        let mut admin = database::admin(cluster).await?;
        let schema = feed.name.schema();
        let text = format!("SELECT count(*) FROM {schema}.stock_data WHERE symbol IN ('NVDA', 'IBM')");
        wait::until("ticks of the new symbols are stored", TAKEN_ON, async || {
            let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(text.clone()))
                .fetch_one(&mut *admin)
                .await?;
            ensure!(rows > 10, "there are {rows}");
            Ok(())
        })
        .await?;
        let after = workload::running_pod(&pods, &feed.selector("producer")).await?;
        ensure!(
            before.name_any() == after.name_any(),
            "the producer's pod was replaced"
        );
        let restarts = workload::first_container(&after).map(|container| container.restart_count);
        ensure!(restarts == Some(0), "the container was restarted: {restarts:?}");
        for table in ["quarantine", "gaps"] {
            let rows = database::count(&mut admin, &feed.name, table).await?;
            ensure!(rows == 0, "{table} has {rows} rows");
        }
        Ok(())
    })
    .await
}
