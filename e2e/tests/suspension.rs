//! A feed that says it is suspended is at rest: what was published is stored, all of it, at that very moment.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    broker::{Broker, Tapped},
    cluster::Cluster,
    database::{self, Session, hold_commits, release_commits},
    feed::{Feed, condition},
    live::{self, all_is_stored_once, await_more_ticks, notes, nothing_was_put_aside},
    namespace::run_in,
    say, wait,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};

/// Each has another quote every second.
const SYMBOLS: usize = 20;
/// The producer's end, what is in the queues, and some 20 seconds for the counts.
const DRAINED: Duration = Duration::from_secs(120);
/// Longer than two counts of the broker take to be believed.
const LONGER_THAN_COUNTING: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_suspended_feed_is_drained_and_resumes_and_nothing_is_lost() -> Result<()> {
    run_in("e2e-suspension", async |cluster, namespace| {
        live::put_key(cluster, namespace).await?;
        let feed = Feed::new(cluster, namespace, "resting")?;
        let broker = Broker::open(cluster).await?;
        let mut tapped = Vec::new();

        // Suspended from its first day: there was never a producer.
        feed.apply(&spec(true)).await?;
        await_drained(&feed).await?;
        feed.await_ready(Duration::from_secs(60)).await?;
        broker.tap(&feed.name).await?;

        feed.apply(&spec(false)).await?;
        let resumed = feed
            .await_condition("Suspended", "False", Duration::from_secs(60))
            .await?;
        ensure!(
            resumed.reason == "NotSuspended",
            "the reason is {}",
            resumed.reason
        );
        let mut reader = {
            feed.await_ready(Duration::from_secs(120)).await?;
            database::reader(cluster, &feed.name).await?
        };
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;

        // What is published cannot be committed: the queues hold it, unacknowledged, and the feed may not say that it is drained.
        let mut admin = database::admin(cluster).await?;
        hold_commits(&mut admin, &feed.name).await?;
        await_messages(&feed, &broker).await?;
        feed.apply(&spec(true)).await?;
        await_draining_with_numbers(&feed).await?;
        stays_draining(&feed).await?;
        release_commits(&mut admin).await?;
        await_drained(&feed).await?;
        at_rest(cluster, &feed, &broker, &mut reader, &mut tapped).await?;

        feed.apply(&spec(false)).await?;
        feed.await_condition("Suspended", "False", Duration::from_secs(60))
            .await?;
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;
        feed.apply(&spec(true)).await?;
        await_drained(&feed).await?;
        at_rest(cluster, &feed, &broker, &mut reader, &mut tapped).await?;
        nothing_was_put_aside(&feed, &mut reader).await?;
        events_tell_of_it(cluster, &feed).await
    })
    .await
}

fn spec(suspend: bool) -> Value {
    let mut spec = live::spec(SYMBOLS);
    spec["suspend"] = json!(suspend);
    spec
}

async fn await_drained(feed: &Feed) -> Result<()> {
    let suspended = feed.await_condition("Suspended", "True", DRAINED).await?;
    ensure!(
        suspended.reason == "Drained",
        "the reason is {}",
        suspended.reason
    );
    Ok(())
}

async fn await_draining_with_numbers(feed: &Feed) -> Result<()> {
    wait::until("the feed says how many messages are left", DRAINED, async || {
        let object = feed.get().await?;
        let suspended = condition(&object, "Suspended");
        let (reason, message) = suspended
            .map(|said| (said.reason, said.message))
            .unwrap_or_default();
        ensure!(
            reason == "Draining" && message.contains("queued or unacknowledged"),
            "it says {reason}: {message}"
        );
        let under_way = condition(&object, "Reconciling").map(|said| said.reason);
        ensure!(
            under_way.as_deref() == Some("Draining"),
            "Reconciling says {under_way:?}"
        );
        Ok(())
    })
    .await
}

/// For longer than it takes to make sure that queues are empty, the feed does not say that it is drained.
async fn stays_draining(feed: &Feed) -> Result<()> {
    let since = Instant::now();
    let mut broken = None;
    wait::until("it goes on draining", LONGER_THAN_COUNTING * 2, async || {
        let object = feed.get().await?;
        let reason = condition(&object, "Suspended").map(|said| said.reason);
        if reason.as_deref() != Some("Draining") {
            broken = reason;
        }
        ensure!(
            broken.is_some() || since.elapsed() > LONGER_THAN_COUNTING,
            "not long enough"
        );
        Ok(())
    })
    .await?;
    ensure!(broken.is_none(), "with messages in the queues it said {broken:?}");
    Ok(())
}

/// What the condition promises, looked at at once.
async fn at_rest(
    cluster: &Cluster,
    feed: &Feed,
    broker: &Broker,
    reader: &mut Session,
    tapped: &mut Vec<Tapped>,
) -> Result<()> {
    let pods = cluster.api::<Pod>(feed.name.namespace());
    let producers = pods
        .list(&ListParams::default().labels(&feed.selector("producer")))
        .await?;
    ensure!(producers.items.is_empty(), "a producer is left");
    let holding: Vec<_> = broker
        .queues(&feed.name)
        .await?
        .into_iter()
        .filter(|queue| queue.messages > 0)
        .collect();
    ensure!(holding.is_empty(), "queues hold messages: {holding:?}");
    all_is_stored_once(feed, broker, reader, tapped, SYMBOLS).await
}

async fn await_messages(feed: &Feed, broker: &Broker) -> Result<()> {
    wait::until("the queues hold messages", Duration::from_secs(60), async || {
        let queues = broker.queues(&feed.name).await?;
        let held: u64 = queues.iter().map(|queue| queue.messages).sum();
        ensure!(held >= 50, "they hold {held}");
        Ok(())
    })
    .await
}

async fn events_tell_of_it(cluster: &Cluster, feed: &Feed) -> Result<()> {
    let drained = notes(cluster, feed, "Drained").await?.len();
    let resumed = notes(cluster, feed, "Resumed").await?.len();
    say(format!("Events: {drained} of Drained, {resumed} of Resumed"));
    ensure!(drained > 0 && resumed > 0, "an Event is missing");
    Ok(())
}
