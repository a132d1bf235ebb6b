//! Deleting a feed takes away what it made, and keeps or drops its data as the feed says.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    broker::Broker,
    cluster::{Cluster, value},
    database::{self, count, has_schema, roles},
    feed::{self, Feed},
    namespace::run_in,
    say, wait,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
};
use kube::{Api, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::json;

#[tokio::test]
async fn deletion_keeps_the_schema_under_retain_and_drops_it_under_delete() -> Result<()> {
    run_in("e2e-deletion", async |cluster, namespace| {
        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        cluster
            .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
            .await?;
        let (kept, dropped) = (
            Feed::new(cluster, namespace, "kept")?,
            Feed::new(cluster, namespace, "dropped")?,
        );
        for (feed, policy) in [(&kept, "Retain"), (&dropped, "Delete")] {
            let mut spec = feed::spec();
            spec["deletionPolicy"] = json!(policy);
            feed.apply(&spec).await?;
        }
        let (mut admin, broker) = (database::admin(cluster).await?, Broker::open(cluster).await?);
        let mut rows = 0;
        for feed in [&kept, &dropped] {
            feed.await_ready(Duration::from_secs(120)).await?;
            rows = wait::until(
                &format!("{} has rows", feed.name),
                Duration::from_secs(60),
                async || {
                    let rows = count(&mut admin, &feed.name, "stock_data").await?;
                    ensure!(rows > 0, "it has none");
                    Ok(rows)
                },
            )
            .await?;
            let queues = broker.queues(&feed.name).await?.len();
            ensure!(
                queues == 3,
                "{} has {queues} queues, not two and one for dead letters",
                feed.name
            );
            ensure!(
                broker.has_exchange(&feed.name).await?,
                "{} has no exchange",
                feed.name
            );
            ensure!(
                broker.has_user(&feed.name).await?,
                "{} has no broker user",
                feed.name
            );
            let children = children(cluster, namespace, feed).await?;
            ensure!(
                children.len() >= 13,
                "{} has few children: {children:?}",
                feed.name
            );
        }

        kept.delete().await?;
        dropped.delete().await?;
        for feed in [&kept, &dropped] {
            feed.await_gone(Duration::from_secs(120)).await?;
            wait::until(
                &format!("the children of {} are gone", feed.name),
                Duration::from_secs(60),
                async || {
                    let left = children(cluster, namespace, feed).await?;
                    ensure!(left.is_empty(), "left: {left:?}");
                    Ok(())
                },
            )
            .await?;
            let queues = broker.queues(&feed.name).await?;
            ensure!(queues.is_empty(), "{} left queues: {queues:?}", feed.name);
            ensure!(
                !broker.has_exchange(&feed.name).await?,
                "{} left its exchange",
                feed.name
            );
            ensure!(
                !broker.has_user(&feed.name).await?,
                "{} left its broker user",
                feed.name
            );
        }

        ensure!(
            !has_schema(&mut admin, &dropped.name.schema()).await?,
            "the schema is there in spite of Delete"
        );
        let left = roles(&mut admin, &dropped.name).await?;
        ensure!(left.is_empty(), "roles are there in spite of Delete: {left:?}");
        let retained = count(&mut admin, &kept.name, "stock_data").await?;
        ensure!(retained > 0, "no row was retained");
        let stays = roles(&mut admin, &kept.name).await?;
        ensure!(stays.len() == 2, "of the roles only {stays:?} were retained");
        say(format!(
            "{retained} rows were retained (the other feed had {rows})"
        ));

        // A feed of the same name takes up where the first one ended.
        kept.apply(&feed::spec()).await?;
        kept.await_ready(Duration::from_secs(120)).await?;
        wait::until(
            "the feed goes on with its old rows",
            Duration::from_secs(60),
            async || {
                let rows = count(&mut admin, &kept.name, "stock_data").await?;
                ensure!(rows > retained, "{rows} rows, {retained} were retained");
                Ok(())
            },
        )
        .await
    })
    .await
}

/// What the operator made for a feed, pods included.
async fn children(cluster: &Cluster, namespace: &str, feed: &Feed) -> Result<Vec<String>> {
    let selector = format!(
        "app.kubernetes.io/managed-by=stockfeed-operator,app.kubernetes.io/instance={}",
        feed.name.name()
    );
    let mut all = names(&cluster.api::<Deployment>(namespace), &selector).await?;
    all.extend(names(&cluster.api::<Pod>(namespace), &selector).await?);
    all.extend(names(&cluster.api::<Service>(namespace), &selector).await?);
    all.extend(names(&cluster.api::<ServiceAccount>(namespace), &selector).await?);
    all.extend(names(&cluster.api::<ConfigMap>(namespace), &selector).await?);
    all.extend(names(&cluster.api::<Secret>(namespace), &selector).await?);
    Ok(all)
}

async fn names<K>(api: &Api<K>, selector: &str) -> Result<Vec<String>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let list = api.list(&ListParams::default().labels(selector)).await?;
    Ok(list
        .iter()
        .map(|object| format!("{} {}", K::kind(&()), object.name_any()))
        .collect())
}
