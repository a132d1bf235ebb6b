//! A feed that says it is suspended is at rest: what was published is stored, all of it, at that very moment.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    RELEASE, SYSTEM,
    broker::{Broker, Tapped},
    cluster::{Cluster, value},
    database::{self, Session, count, hold_commits, release_commits},
    feed::{self, Feed, condition},
    namespace::run_in,
    say,
    ticks::{compare, only_last_quotes_are_repeated, published, stored},
    wait,
};
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
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
        let key = cluster.secret(SYSTEM, &format!("{RELEASE}-simulator")).await?;
        cluster
            .put_secret(namespace, "fmp", &[("apiKey", value(&key, "apiKey")?)])
            .await?;
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
        await_more_ticks(&mut reader, &feed).await?;

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
        await_more_ticks(&mut reader, &feed).await?;
        feed.apply(&spec(true)).await?;
        await_drained(&feed).await?;
        at_rest(cluster, &feed, &broker, &mut reader, &mut tapped).await?;
        for table in ["gaps", "late_ticks", "quarantine"] {
            let rows = count(&mut reader, &feed.name, table).await?;
            ensure!(rows == 0, "table {table} has {rows} rows");
        }
        events_tell_of_it(cluster, &feed).await
    })
    .await
}

fn spec(suspend: bool) -> Value {
    let symbols: Vec<String> = (0..SYMBOLS).map(|number| format!("S{number:03}")).collect();
    let mut spec = feed::spec();
    spec["symbols"] = json!(symbols);
    spec["interval"] = json!("100ms");
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
    let stored = stored(reader).await?;
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
    tapped.extend(broker.take_tapped(&feed.name).await?);
    let published = published(tapped)?;
    only_last_quotes_are_repeated(&published)?;
    compare(&published, &stored, SYMBOLS)
}

async fn await_more_ticks(reader: &mut Session, feed: &Feed) -> Result<()> {
    let enough = count(reader, &feed.name, "stock_data").await? + 5 * i64::try_from(SYMBOLS)?;
    wait::until(
        &format!("more than {enough} ticks are stored"),
        Duration::from_secs(90),
        async || {
            let now = count(reader, &feed.name, "stock_data").await?;
            ensure!(now > enough, "{now} are");
            Ok(())
        },
    )
    .await
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
    let events = cluster
        .api::<Event>(feed.name.namespace())
        .list(&ListParams::default())
        .await?;
    let of_reason = |reason: &str| {
        let events = events.items.iter();
        events
            .filter(|event| event.reason.as_deref() == Some(reason))
            .count()
    };
    let (drained, resumed) = (of_reason("Drained"), of_reason("Resumed"));
    say(format!("Events: {drained} of Drained, {resumed} of Resumed"));
    ensure!(drained > 0 && resumed > 0, "an Event is missing");
    Ok(())
}
