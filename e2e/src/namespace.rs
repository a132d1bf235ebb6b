//! A namespace for each test.

use std::{panic::AssertUnwindSafe, path::PathBuf, time::Duration};

use anyhow::{Result, anyhow, ensure};
use contract::names::FeedName;
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{SYSTEM, broker::Broker, cluster::Cluster, database, feed, say, wait};

/// How long feeds may take to go.
const FEEDS_GONE: Duration = Duration::from_secs(90);
/// How long the rest may take.
const NAMESPACE_GONE: Duration = Duration::from_secs(120);

/// Runs a test in a new namespace of that name, and removes it with all that its feeds made, whatever comes of the test.
/// What an aborted run left is removed first. When the test fails, what the cluster says about it is kept in a file.
///
/// # Errors
/// Those of the test.
pub async fn run_in(name: &str, test: impl AsyncFnOnce(&Cluster, &str) -> Result<()>) -> Result<()> {
    let cluster = Cluster::connect().await?;
    remove(&cluster, name).await?;
    create(&cluster, name).await?;
    let outcome = match AssertUnwindSafe(test(&cluster, name)).catch_unwind().await {
        Ok(outcome) => outcome,
        // The panic's own message was printed when it happened.
        Err(_) => Err(anyhow!("the test panicked")),
    };
    if let Err(error) = &outcome {
        say(format!("FAILED: {error:#}"));
        diagnose(&cluster, name).await;
    }
    let removed = remove(&cluster, name).await;
    outcome.and(removed)
}

async fn create(cluster: &Cluster, name: &str) -> Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {
        "name": name,
        "labels": {"pod-security.kubernetes.io/enforce": "restricted", "stockfeed.dev/e2e": "true"},
    }}))?;
    Api::<Namespace>::all(cluster.client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    say(format!("namespace {name} is made"));
    Ok(())
}

async fn remove(cluster: &Cluster, name: &str) -> Result<()> {
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    if namespaces.get_opt(name).await?.is_none() {
        return Ok(());
    }
    let feeds = remove_feeds(cluster, name).await?;
    namespaces.delete(name, &DeleteParams::default()).await?;
    wait::until(&format!("namespace {name} is gone"), NAMESPACE_GONE, async || {
        ensure!(namespaces.get_opt(name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await?;
    if feeds.is_empty() {
        return Ok(());
    }
    // What a retained or broken feed left outside the cluster.
    let mut admin = database::admin(cluster).await?;
    let broker = Broker::open(cluster).await?;
    for feed in &feeds {
        database::purge(&mut admin, feed).await?;
        broker.purge(feed).await?;
    }
    Ok(())
}

/// Deletes the feeds while their Secrets are still there. One that hangs is let go.
async fn remove_feeds(cluster: &Cluster, namespace: &str) -> Result<Vec<FeedName>> {
    let api = feed::api(cluster, namespace);
    let feeds = api.list(&ListParams::default()).await?.items;
    if feeds.is_empty() {
        return Ok(Vec::new());
    }
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    let gone = wait::until(
        &format!("the feeds of {namespace} are gone"),
        FEEDS_GONE,
        async || {
            let left = api.list(&ListParams::default()).await?.items.len();
            ensure!(left == 0, "{left} feeds are left");
            Ok(())
        },
    )
    .await;
    if let Err(error) = gone {
        say(format!("taking finalizers off: {error:#}"));
        for feed in &api.list(&ListParams::default()).await?.items {
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            api.patch(&feed.name_any(), &PatchParams::default(), &patch)
                .await?;
        }
    }
    let names = feeds
        .iter()
        .filter_map(|feed| FeedName::new(namespace, feed.name_any()).ok());
    Ok(names.collect())
}

/// Keeps what the cluster says, in `STOCKFEED_ARTEFACTS` or the folder for temporary files.
async fn diagnose(cluster: &Cluster, namespace: &str) {
    let mut text = String::new();
    let mut questions: Vec<Vec<&str>> = vec![
        vec![
            "get",
            "stockfeeds,deployments,pods,services,secrets,configmaps",
            "--namespace",
            namespace,
            "--output=wide",
        ],
        vec!["describe", "stockfeeds", "--namespace", namespace],
        vec!["describe", "pods", "--namespace", namespace],
        vec![
            "get",
            "events",
            "--namespace",
            namespace,
            "--sort-by=.lastTimestamp",
        ],
        vec!["get", "pods", "--namespace", SYSTEM, "--output=wide"],
    ];
    let pods = |namespace| ["get", "pods", "--output=name", "--namespace", namespace];
    let listed = [
        (
            namespace,
            cluster.kubectl_text(&pods(namespace)).await.unwrap_or_default(),
        ),
        (
            SYSTEM,
            cluster.kubectl_text(&pods(SYSTEM)).await.unwrap_or_default(),
        ),
    ];
    for (namespace, pods) in &listed {
        for pod in pods.lines() {
            questions.push(vec!["logs", "--tail=300", "--namespace", namespace, pod]);
            questions.push(vec![
                "logs",
                "--tail=100",
                "--previous",
                "--namespace",
                namespace,
                pod,
            ]);
        }
    }
    for question in questions {
        let answer = cluster.kubectl_text(&question).await;
        let answer = answer.unwrap_or_else(|error| format!("{error:#}\n"));
        text.push_str(&format!("\n$ kubectl {}\n{answer}", question.join(" ")));
    }
    let folder = std::env::var_os("STOCKFEED_ARTEFACTS").map_or_else(std::env::temp_dir, PathBuf::from);
    // Beside the test's own log, which is called as the namespace is.
    let path = folder.join(format!("{namespace}-cluster.log"));
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => say(format!("what the cluster says: {}", path.display())),
        Err(error) => say(format!("failed to write {}: {error}", path.display())),
    }
}
