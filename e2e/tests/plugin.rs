//! `kubectl stockfeed`, as a person runs it: through kubectl, which finds it on the search path.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    database::{self, count},
    feed::{self, Feed, condition},
    namespace::run_in,
    wait,
    workload::running_pod,
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::Value;
use sqlx::AssertSqlSafe;

/// How soon a problem must show, and a feed must be well again.
const SHOWN: Duration = Duration::from_secs(90);
/// A rollout of both workers.
const RESTARTED: Duration = Duration::from_secs(120);

/// The plugin, for the feed of a test.
struct Plugin<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl Plugin<'_> {
    /// Runs a command, which must succeed, and returns what it printed.
    async fn run(&self, arguments: &[&str]) -> Result<String> {
        let (succeeded, output, errors) = self.outcome(arguments).await?;
        ensure!(
            succeeded,
            "kubectl stockfeed {} failed: {errors}",
            arguments.join(" ")
        );
        Ok(output)
    }

    /// Runs a command, which must fail, and returns what it said.
    async fn refused(&self, arguments: &[&str]) -> Result<String> {
        let (succeeded, output, errors) = self.outcome(arguments).await?;
        ensure!(
            !succeeded,
            "kubectl stockfeed {} succeeded: {output}",
            arguments.join(" ")
        );
        Ok(errors)
    }

    async fn outcome(&self, arguments: &[&str]) -> Result<(bool, String, String)> {
        let line = [&["stockfeed", "--namespace", self.namespace], arguments].concat();
        let output = self.cluster.kubectl(&line, None).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        ))
    }

    async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["--output", "json"]].concat()).await?;
        serde_json::from_str(&text).with_context(|| format!("it is not JSON: {text}"))
    }

    /// What psql prints as a number.
    async fn number(&self, query: &str) -> Result<i64> {
        let text = self
            .run(&["psql", "asked", "--", "-X", "-A", "-t", "-c", query])
            .await?;
        text.trim()
            .parse()
            .with_context(|| format!("psql printed {text:?}"))
    }
}

#[tokio::test]
async fn a_feed_is_explained_read_drained_restarted_and_cleaned_by_the_plugin() -> Result<()> {
    run_in("e2e-plugin", async |cluster, namespace| {
        let plugin = Plugin { cluster, namespace };
        let feed = Feed::new(cluster, namespace, "asked")?;

        feed.apply(&feed::spec()).await?;
        let missing = feed.await_condition("SourceReady", "False", SHOWN).await?;
        ensure!(
            missing.reason == "SecretNotFound",
            "the reason is {}",
            missing.reason
        );
        feed.await_condition("BrokerReady", "True", SHOWN).await?;
        feed.await_condition("SchemaReady", "True", SHOWN).await?;
        // Nothing else keeps it from being ready.
        feed.await_condition("ProcessorReady", "True", SHOWN).await?;
        the_missing_secret_is_the_root_cause(&plugin).await?;

        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        cluster
            .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
            .await?;
        feed.await_ready(SHOWN).await?;
        ready_feeds_are_shown(&plugin).await?;
        psql_reads_and_does_not_write(&plugin).await?;
        quarantine_is_listed_and_discarded(cluster, &plugin, &feed).await?;
        the_named_worker_is_restarted(cluster, &plugin, &feed).await?;
        a_drain_ends_with_everything_stored(&plugin, &feed).await?;
        a_paused_feed_says_so(&plugin, &feed).await
    })
    .await
}

async fn the_missing_secret_is_the_root_cause(plugin: &Plugin<'_>) -> Result<()> {
    let said = plugin.json(&["explain", "asked"]).await?;
    let causes = said["causes"].as_array().context("there are no causes")?;
    ensure!(
        causes.len() == 1 && causes[0]["kind"] == "SourceReady" && causes[0]["reason"] == "SecretNotFound",
        "the causes are {causes:?}"
    );
    let producer = said["effects"]
        .as_array()
        .and_then(|effects| effects.iter().find(|effect| effect["kind"] == "ProducerReady"))
        .with_context(|| format!("nothing is said of the producer: {said}"))?;
    ensure!(
        producer["because"] == "SourceReady",
        "the producer waits because of {}",
        producer["because"]
    );
    let text = plugin.run(&["explain", "asked"]).await?;
    ensure!(
        text.contains("Root cause") && text.contains("kubectl create secret"),
        "it does not say what to do: {text}"
    );
    Ok(())
}

async fn ready_feeds_are_shown(plugin: &Plugin<'_>) -> Result<()> {
    let table = plugin.run(&["status"]).await?;
    let row: Vec<_> = table
        .lines()
        .find(|line| line.starts_with("asked"))
        .with_context(|| format!("the feed is not listed: {table}"))?
        .split_whitespace()
        .collect();
    ensure!(row.get(1) == Some(&"True"), "the row is {row:?}");
    let detail = plugin.run(&["status", "asked"]).await?;
    for part in ["BrokerReady", "watermark lag", "Scaling", "Quota"] {
        ensure!(detail.contains(part), "{part} is not in {detail}");
    }
    let quota = plugin.run(&["quota", "asked"]).await?;
    ensure!(quota.contains("calls a day"), "the quota is {quota}");
    let unknown = plugin.refused(&["status", "nobody"]).await?;
    ensure!(unknown.contains("there is no feed nobody"), "it says {unknown}");
    Ok(())
}

async fn psql_reads_and_does_not_write(plugin: &Plugin<'_>) -> Result<()> {
    wait::until("psql counts rows", SHOWN, async || {
        let rows = plugin.number("SELECT count(*) FROM stock_data").await?;
        ensure!(rows > 0, "there are none");
        Ok(())
    })
    .await?;
    let denied = plugin
        .refused(&["psql", "asked", "--", "-X", "-c", "DELETE FROM stock_data"])
        .await?;
    ensure!(denied.contains("permission denied"), "it says {denied}");
    plugin
        .refused(&["psql", "asked", "--writer", "--", "-c", "SELECT 1"])
        .await?;
    Ok(())
}

async fn quarantine_is_listed_and_discarded(
    cluster: &Cluster,
    plugin: &Plugin<'_>,
    feed: &Feed,
) -> Result<()> {
    let mut admin = database::admin(cluster).await?;
    let insert = format!(
        "INSERT INTO {}.quarantine (generation, partition, reason, detail, raw) VALUES (1, 0, 'made_up', 'by a test', '{{}}')",
        feed.name.schema()
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut *admin).await?;
    let listed = plugin
        .json(&["quarantine", "list", "asked", "--reason", "made_up"])
        .await?;
    let id = listed[0]["id"]
        .as_i64()
        .context("the entry is not listed")?
        .to_string();
    ensure!(listed[0]["detail"] == "by a test", "the entry is {}", listed[0]);
    plugin.refused(&["quarantine", "discard", "asked", &id]).await?;
    ensure!(
        count(&mut admin, &feed.name, "quarantine").await? == 1,
        "it is gone without --yes"
    );
    let said = plugin
        .run(&["quarantine", "discard", "asked", &id, "--yes"])
        .await?;
    ensure!(said.starts_with("1 entry"), "it says {said}");
    ensure!(
        count(&mut admin, &feed.name, "quarantine").await? == 0,
        "it is still there"
    );
    Ok(())
}

async fn the_named_worker_is_restarted(cluster: &Cluster, plugin: &Plugin<'_>, feed: &Feed) -> Result<()> {
    let pods = cluster.api::<Pod>(plugin.namespace);
    let producer = running_pod(&pods, &feed.selector("producer")).await?.name_any();
    let processor = running_pod(&pods, &feed.selector("processor")).await?.name_any();
    plugin.run(&["restart", "asked", "--producer"]).await?;
    wait::until("the producer is another pod", RESTARTED, async || {
        let now = running_pod(&pods, &feed.selector("producer")).await?.name_any();
        ensure!(now != producer, "it is still {now}");
        Ok(())
    })
    .await?;
    ensure!(
        running_pod(&pods, &feed.selector("processor")).await?.name_any() == processor,
        "the processor was restarted too"
    );
    feed.await_ready(RESTARTED).await
}

async fn a_drain_ends_with_everything_stored(plugin: &Plugin<'_>, feed: &Feed) -> Result<()> {
    let late = plugin.refused(&["drain", "asked", "--timeout", "1s"]).await?;
    ensure!(late.contains("is not drained after 1 s"), "it says {late}");
    let said = plugin.run(&["drain", "asked", "--timeout", "3m"]).await?;
    ensure!(said.contains("is drained"), "it says {said}");
    let suspended = condition(&feed.get().await?, "Suspended").context("the condition is not there")?;
    ensure!(
        suspended.status == "True" && suspended.reason == "Drained",
        "Suspended is {}, {}",
        suspended.status,
        suspended.reason
    );
    let stored = plugin.number("SELECT count(*) FROM stock_data").await?;
    plugin.run(&["resume", "asked"]).await?;
    feed.await_condition("Suspended", "False", SHOWN).await?;
    feed.await_ready(RESTARTED).await?;
    wait::until("rows arrive again", SHOWN, async || {
        let rows = plugin.number("SELECT count(*) FROM stock_data").await?;
        ensure!(rows > stored, "there are {rows}, as before");
        Ok(())
    })
    .await
}

async fn a_paused_feed_says_so(plugin: &Plugin<'_>, feed: &Feed) -> Result<()> {
    plugin.run(&["pause", "asked"]).await?;
    feed.await_condition("Ready", "Unknown", SHOWN).await?;
    let text = plugin.run(&["explain", "asked"]).await?;
    ensure!(
        text.contains("Paused") && text.contains("kubectl stockfeed unpause asked"),
        "it says {text}"
    );
    plugin.run(&["unpause", "asked"]).await?;
    feed.await_ready(SHOWN).await
}
