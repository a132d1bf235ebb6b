//! Deleting a feed takes away what it made, and keeps or drops its data as the feed says.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    broker::Broker,
    cluster::{Cluster, value},
    database::{self, count, has_schema, hold_commits, release_commits, roles},
    feed::{self, Feed},
    namespace::run_in,
    operator, say, ticks, wait,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
    events::v1::Event,
};
use kube::{Api, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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

/// As many as the queues shall hold when the feed is deleted.
const HELD: u64 = 50;
/// The workers' ends, a minute of draining, and the counts.
const DELETED: Duration = Duration::from_secs(240);

#[tokio::test]
async fn a_deletion_says_what_stays_and_a_feed_of_the_same_name_takes_it_up() -> Result<()> {
    run_in("e2e-deletion-plan", async |cluster, namespace| {
        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        cluster
            .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
            .await?;
        let feed = Feed::new(cluster, namespace, "kept")?;
        let mut spec = feed::spec();
        spec["deletionPolicy"] = json!("Retain");
        spec["interval"] = json!("100ms");
        spec["suspend"] = json!(true);
        feed.apply(&spec).await?;
        feed.await_ready(Duration::from_secs(120)).await?;
        let broker = Broker::open(cluster).await?;
        broker.tap(&feed.name).await?;
        spec["suspend"] = json!(false);
        feed.apply(&spec).await?;

        // Nothing can be committed, so that something is left; and the feed stays to be looked at when the operator is done with it.
        let mut admin = database::admin(cluster).await?;
        hold_commits(&mut admin, &feed.name).await?;
        wait::until("the queues hold messages", Duration::from_secs(120), async || {
            let held: u64 = broker
                .queues(&feed.name)
                .await?
                .iter()
                .map(|queue| queue.messages)
                .sum();
            ensure!(held >= HELD, "they hold {held}");
            Ok(())
        })
        .await?;
        feed.set_finalizer(Some("e2e.stockfeed.dev/look")).await?;
        feed.delete().await?;
        let generation = format!("{}1.*", feed.name.queue_prefix());
        wait::until(
            "the plan is there, with numbers",
            Duration::from_secs(30),
            async || {
                let plan = plan(&feed).await?;
                let of = |what: &str| plan.iter().find(|entry| entry["what"] == what);
                let queues = plan.iter().find(|entry| entry["name"] == generation.as_str());
                let queues = queues.context("the queues are not in it")?;
                ensure!(
                    queues["action"] == "Waiting"
                        && queues["why"].as_str().is_some_and(|why| why.contains("messages")),
                    "{queues}"
                );
                ensure!(
                    of("Schema").is_some_and(|entry| entry["action"] == "Keep"),
                    "the schema is not kept: {plan:?}"
                );
                ensure!(of("BrokerUser").is_some(), "no word of the broker user: {plan:?}");
                Ok(())
            },
        )
        .await?;
        wait::until("the operator is done", DELETED, async || {
            let object = feed.get().await?;
            let ours = object
                .finalizers()
                .iter()
                .any(|name| name == "stockfeed.dev/cleanup");
            ensure!(!ours, "it waits");
            Ok(())
        })
        .await?;
        let plan = plan(&feed).await?;
        say(format!(
            "in the end the plan says {}",
            serde_json::to_string(&plan)?
        ));
        let kept: Vec<_> = plan.iter().filter(|entry| entry["action"] == "Keep").collect();
        ensure!(
            kept.len() == plan.len() && kept.iter().any(|entry| entry["name"] == generation.as_str()),
            "it is not only what is kept"
        );
        feed.set_finalizer(None).await?;
        feed.await_gone(Duration::from_secs(30)).await?;
        release_commits(&mut admin).await?;

        // Its tap is bound no more: the exchange went. What it holds is all that was published.
        spec["suspend"] = json!(true);
        feed.apply(&spec).await?;
        feed.await_condition("Suspended", "True", Duration::from_secs(180))
            .await?;
        let messages = broker.take_tapped(&feed.name).await?;
        let mut reader = database::reader(cluster, &feed.name).await?;
        ticks::compare(
            &ticks::published(&messages)?,
            &ticks::stored(&mut reader).await?,
            1,
        )
    })
    .await
}

#[tokio::test]
async fn a_broker_that_is_gone_is_given_up_with_an_event() -> Result<()> {
    run_in("e2e-deletion-orphan", async |cluster, namespace| {
        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        cluster
            .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
            .await?;
        let texts = cluster.secret(SYSTEM, &format!("{RELEASE}-rabbitmq")).await?;
        let mut own: Vec<(&str, &str)> = texts
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        cluster.put_secret(namespace, "own-broker", &own).await?;
        let feed = Feed::new(cluster, namespace, "orphan")?;
        let mut spec = feed::spec();
        spec["broker"] = json!({"secretRef": {"name": "own-broker"}});
        feed.apply(&spec).await?;
        feed.await_ready(Duration::from_secs(120)).await?;

        // As the installation's host, in a namespace that does not exist.
        own.retain(|(key, _)| *key != "host");
        own.push(("host", "rabbitmq.gone.svc"));
        cluster.put_secret(namespace, "own-broker", &own).await?;
        feed.await_condition("BrokerReady", "False", Duration::from_secs(120))
            .await?;
        operator::with_options(cluster, &[("orphan-after", "40s")], async || {
            feed.delete().await?;
            wait::until(
                "the plan waits for the broker",
                Duration::from_secs(60),
                async || {
                    let plan = plan(&feed).await?;
                    let queues = plan.iter().find(|entry| entry["what"] == "Queues");
                    let why = queues.and_then(|entry| entry["why"].as_str()).unwrap_or_default();
                    ensure!(why.starts_with("waiting for the broker until"), "{plan:?}");
                    Ok(())
                },
            )
            .await?;
            feed.await_gone(DELETED).await
        })
        .await?;
        let events = cluster
            .api::<Event>(namespace)
            .list(&ListParams::default())
            .await?;
        let orphaned = events
            .items
            .iter()
            .find(|event| event.reason.as_deref() == Some("Orphaned"));
        let note = orphaned.and_then(|event| event.note.clone());
        let note = note.context("no Event tells of it")?;
        say(&note);
        ensure!(
            note.contains(&feed.name.queue_prefix()) && note.contains("gave up after 40s"),
            "{note}"
        );
        let mut admin = database::admin(cluster).await?;
        ensure!(
            !has_schema(&mut admin, &feed.name.schema()).await?,
            "the database was there, and its schema as well is left"
        );
        let broker = Broker::open(cluster).await?;
        ensure!(
            broker.has_exchange(&feed.name).await?,
            "the broker was not gone at all"
        );
        broker.purge(&feed.name).await
    })
    .await
}

async fn plan(feed: &Feed) -> Result<Vec<Value>> {
    let plan = feed.get().await?.data["status"]["deletionPlan"].clone();
    serde_json::from_value(plan).context("there is no plan")
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
