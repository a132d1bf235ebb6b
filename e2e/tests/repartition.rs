//! The number of partitions is changed while a feed runs, again and again, and nothing is lost, doubled or put out of order.
//!
//! A queue of the test's own gets a copy of every message that is published. What is stored is compared with that, not with
//! what the source may have said.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    broker::{Broker, Tapped},
    cluster::Cluster,
    database::{self, hold_commits, release_commits},
    feed::{Feed, condition},
    live::{self, await_more_ticks, nothing_was_put_aside},
    namespace::run_in,
    process, say,
    ticks::{compare, only_last_quotes_are_repeated, published, stored},
    wait, workload,
};
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::api::ListParams;
use serde_json::{Value, json};

/// As many as one call of the source takes. Each has another quote every second.
const SYMBOLS: usize = 100;
/// A change takes a restart of the producer, what is in the old queues, and some 20 seconds for the counts.
const CHANGED: Duration = Duration::from_secs(180);

#[tokio::test]
async fn partitions_change_on_a_live_feed_and_every_tick_is_stored_once_and_in_order() -> Result<()> {
    run_in("e2e-repartition", async |cluster, namespace| {
        live::put_key(cluster, namespace).await?;
        let feed = Feed::new(cluster, namespace, "resized")?;
        let broker = Broker::open(cluster).await?;
        let mut spec = live::spec(SYMBOLS);
        set_partitions(&mut spec, 4);

        // Suspended at first, so that nothing is published before the tap is there.
        spec["suspend"] = json!(true);
        feed.apply(&spec).await?;
        feed.await_ready(Duration::from_secs(120)).await?;
        broker.tap(&feed.name).await?;
        spec["suspend"] = json!(false);
        feed.apply(&spec).await?;
        feed.await_ready(Duration::from_secs(120)).await?;
        let mut reader = database::reader(cluster, &feed.name).await?;
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;

        set_partitions(&mut spec, 8);
        feed.apply(&spec).await?;
        await_listed(&feed, &[(1, 4), (2, 8)]).await?;
        let under_way = feed
            .await_condition("Reconciling", "True", Duration::from_secs(30))
            .await?;
        ensure!(
            under_way.reason == "Repartitioning",
            "the reason is {}",
            under_way.reason
        );
        say(format!("Reconciling: {}", under_way.message));
        await_settled(&feed, &broker, (2, 8)).await?;
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;

        // Nothing can be committed while the new queues fill, and then the processor dies with the old ones in its hands.
        let mut admin = database::admin(cluster).await?;
        hold_commits(&mut admin, &feed.name).await?;
        await_full_queues(&feed, &broker, 2, 5).await?;
        set_partitions(&mut spec, 2);
        feed.apply(&spec).await?;
        await_listed(&feed, &[(2, 8), (3, 2)]).await?;
        // Longer than it takes to make sure that queues are drained.
        await_full_queues(&feed, &broker, 3, 30).await?;
        let waiting = feed
            .await_condition("Reconciling", "True", Duration::from_secs(30))
            .await?;
        say(format!("Reconciling: {}", waiting.message));
        ensure!(
            waiting.message.ends_with("messages left"),
            "it does not say how many are left"
        );
        ensure!(
            listed(&feed).await? == [(2, 8), (3, 2)],
            "queues with messages were given up"
        );
        kill_the_processor(cluster, &feed).await?;
        release_commits(&mut admin).await?;
        await_settled(&feed, &broker, (3, 2)).await?;
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;

        // Somebody changes his mind.
        set_partitions(&mut spec, 5);
        feed.apply(&spec).await?;
        await_listed(&feed, &[(3, 2), (4, 5)]).await?;
        set_partitions(&mut spec, 3);
        feed.apply(&spec).await?;
        await_listed(&feed, &[(3, 2), (4, 5), (5, 3)]).await?;
        await_settled(&feed, &broker, (5, 3)).await?;
        await_more_ticks(&mut reader, &feed, SYMBOLS).await?;
        events_tell_of_it(cluster, &feed).await?;

        spec["suspend"] = json!(true);
        feed.apply(&spec).await?;
        feed.await_condition("Suspended", "True", CHANGED).await?;
        await_no_producer(cluster, &feed).await?;
        await_empty(&feed, &broker).await?;
        let messages = broker.take_tapped(&feed.name).await?;
        generations_follow_each_other(&messages)?;
        let published = published(&messages)?;
        only_last_quotes_are_repeated(&published)?;
        compare(&published, &stored(&mut reader).await?, SYMBOLS)?;
        nothing_was_put_aside(&feed, &mut reader).await?;
        feed.await_condition("DataComplete", "True", Duration::from_secs(60))
            .await?;
        feed.await_ready(Duration::from_secs(60)).await
    })
    .await
}

fn set_partitions(spec: &mut Value, partitions: u16) {
    spec["processing"]["partitions"] = json!(partitions);
}

/// Waits until the status lists these generations, each with its partitions.
async fn await_listed(feed: &Feed, expected: &[(u32, u16)]) -> Result<()> {
    let what = format!("{} lists the generations {expected:?}", feed.name);
    wait::until(&what, Duration::from_secs(60), async || {
        let found = listed(feed).await?;
        ensure!(found == expected, "it lists {found:?}");
        Ok(())
    })
    .await
}

async fn listed(feed: &Feed) -> Result<Vec<(u32, u16)>> {
    #[derive(serde::Deserialize)]
    struct Listed {
        generation: u32,
        partitions: u16,
    }
    let status = feed.get().await?.data["status"]["queues"].clone();
    let listed: Vec<Listed> = serde_json::from_value(status).context("the status lists no queues")?;
    Ok(listed
        .into_iter()
        .map(|one| (one.generation, one.partitions))
        .collect())
}

/// Waits until one generation is left, in the status and in the broker, and everything works.
async fn await_settled(feed: &Feed, broker: &Broker, (generation, partitions): (u32, u16)) -> Result<()> {
    let what = format!("{} has settled on generation {generation}", feed.name);
    let mut last_message = String::new();
    wait::until(&what, CHANGED, async || {
        let object = feed.get().await?;
        if let Some(under_way) = condition(&object, "Reconciling")
            && under_way.message != last_message
        {
            say(format!("{}: {}", under_way.reason, under_way.message));
            last_message = under_way.message;
        }
        let found = listed(feed).await?;
        ensure!(found == [(generation, partitions)], "it lists {found:?}");
        let mut expected: Vec<String> = (0..partitions)
            .map(|partition| feed.name.queue(generation, partition))
            .collect();
        expected.push(feed.name.dead_letter_queue());
        expected.sort();
        let mut queues: Vec<String> = broker
            .queues(&feed.name)
            .await?
            .into_iter()
            .map(|queue| queue.name)
            .collect();
        queues.sort();
        ensure!(queues == expected, "the broker has {queues:?}");
        let status = &object.data["status"];
        ensure!(
            status["queueGeneration"] == generation && status["partitions"] == partitions,
            "the status says generation {}, {} partitions",
            status["queueGeneration"],
            status["partitions"]
        );
        for (kind, truth) in [("Ready", "True"), ("Reconciling", "False")] {
            let found = condition(&object, kind).context("a condition is missing")?;
            ensure!(
                found.status == truth,
                "{kind} is {}: {}",
                found.status,
                found.message
            );
        }
        Ok(())
    })
    .await
}

/// Waits until a generation holds what is published in some seconds.
async fn await_full_queues(feed: &Feed, broker: &Broker, generation: u32, seconds: usize) -> Result<()> {
    let prefix = format!("{}{generation}.", feed.name.queue_prefix());
    let enough = u64::try_from(seconds * SYMBOLS)?;
    let what = format!("the queues of generation {generation} hold {enough} messages");
    wait::until(&what, Duration::from_secs(120), async || {
        let queues = broker.queues(&feed.name).await?;
        let held: u64 = queues
            .iter()
            .filter(|queue| queue.name.starts_with(&prefix))
            .map(|queue| queue.messages)
            .sum();
        ensure!(held >= enough, "they hold {held}");
        Ok(())
    })
    .await
}

async fn kill_the_processor(cluster: &Cluster, feed: &Feed) -> Result<()> {
    let (namespace, selector) = (feed.name.namespace(), feed.selector("processor"));
    let pod = workload::await_ready_pod(cluster, namespace, &selector, Duration::from_secs(60)).await?;
    process::kill(cluster, &pod).await
}

async fn await_no_producer(cluster: &Cluster, feed: &Feed) -> Result<()> {
    let pods = cluster.api::<Pod>(feed.name.namespace());
    let list = ListParams::default().labels(&feed.selector("producer"));
    wait::until("the producer has ended", Duration::from_secs(60), async || {
        let left = pods.list(&list).await?.items.len();
        ensure!(left == 0, "{left} pods are left");
        Ok(())
    })
    .await
}

/// Counts of the broker are some seconds old: they have to stay at zero for longer than that.
async fn await_empty(feed: &Feed, broker: &Broker) -> Result<()> {
    let mut empty_since = None;
    wait::until("every queue is empty", Duration::from_secs(120), async || {
        let queues = broker.queues(&feed.name).await?;
        if queues.iter().any(|queue| queue.messages > 0) {
            empty_since = None;
            bail!("{queues:?}");
        }
        let since = *empty_since.get_or_insert_with(std::time::Instant::now);
        ensure!(
            since.elapsed() > Duration::from_secs(12),
            "it may be an old count"
        );
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
        let of_it = events
            .items
            .iter()
            .filter(|event| event.reason.as_deref() == Some(reason));
        of_it.filter_map(|event| event.note.clone()).collect::<Vec<_>>()
    };
    let (started, finished) = (of_reason("RepartitionStarted"), of_reason("RepartitionFinished"));
    say(format!("started: {started:?}; finished: {finished:?}"));
    ensure!(
        started.len() == 4 && finished.len() == 3,
        "four were started, the last two finished as one"
    );
    let healed = of_reason("BrokerHealed");
    ensure!(
        healed.is_empty(),
        "what a change needs counts as a repair: {healed:?}"
    );
    Ok(())
}

/// A run of the producer publishes to one generation, and later runs to later ones.
fn generations_follow_each_other(messages: &[Tapped]) -> Result<()> {
    let mut of_publishers: Vec<(&str, u32)> = Vec::new();
    for message in messages {
        let first_word = message.routing_key.split('.').next().unwrap_or_default();
        let (generation, _) = first_word
            .split_once('-')
            .context("a routing key has no generation")?;
        let here = (message.publisher(), generation.parse()?);
        if of_publishers.last() != Some(&here) {
            of_publishers.push(here);
        }
    }
    let generations: Vec<_> = of_publishers.iter().map(|(_, generation)| *generation).collect();
    say(format!(
        "{} messages, of publishers on the generations {generations:?}",
        messages.len()
    ));
    ensure!(
        generations.is_sorted(),
        "the producer went back: {of_publishers:?}"
    );
    ensure!(
        generations.last() == Some(&5) && generations.starts_with(&[1, 2, 3]),
        "{generations:?}"
    );
    Ok(())
}
