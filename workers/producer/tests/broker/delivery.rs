//! What was fetched arrives: whole, numbered, and whatever happens to the broker.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use contract::partition::partition_of;
use fmp_simulator::fault::{Fault, FaultKind};

use crate::{
    proxy::Proxy,
    support::{Feed, PARTITIONS, Received, eventually, expected, series},
};

const FROM: &str = "2012-01-03";

fn step(to: &str) -> [&str; 4] {
    ["--source=history", "--replay=step", "--from=2012-01-03", to]
}

/// The numbers of each partition, in the order in which they came.
fn sequences(messages: &[Received]) -> BTreeMap<u16, Vec<u64>> {
    let mut sequences: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for message in messages {
        sequences
            .entry(message.partition)
            .or_default()
            .push(message.sequence());
    }
    sequences
}

#[tokio::test]
async fn what_the_simulator_served_is_what_arrives() {
    let feed = Feed::new(&step("--to=2012-01-31")).await;
    let mut consumer = feed.consume().await;
    let running = feed.start().await;
    let publisher = running.producer.publisher().to_string();
    // The end of the replay, noon of the second day after the last, less the delay of one second.
    let messages = consumer.until_heartbeat("2012-02-02T11:59:59Z").await;
    running.stop().await.unwrap();
    assert_eq!(
        series(&messages),
        expected(FROM, "2012-01-31"),
        "each quote once, in order, to the digit"
    );
    for (partition, sequences) in sequences(&messages) {
        let dense: Vec<u64> = (1..=u64::try_from(sequences.len()).unwrap()).collect();
        assert_eq!(sequences, dense, "partition {partition}");
    }
    for message in &messages {
        let properties = &message.properties;
        let sequence = message.sequence();
        assert_eq!(
            properties.content_type().as_ref().unwrap().as_str(),
            "application/json"
        );
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "stockfeed.ticks.v1");
        assert_eq!(*properties.delivery_mode(), Some(2));
        let id = format!("{publisher}/{}/{sequence}", message.partition);
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id);
        assert_eq!(message.header("publisher").unwrap(), publisher);
        assert_eq!(message.header("traceparent").unwrap().len(), 55);
        let ticks = message.ticks();
        let is_heartbeat = message.header("event_time").is_some();
        assert_eq!(ticks.is_empty(), is_heartbeat);
        let word = ticks.first().map_or("heartbeat", |tick| tick.symbol.as_str());
        assert_eq!(message.routing_key, format!("1-{}.{word}", message.partition));
        assert!(
            ticks
                .iter()
                .all(|tick| partition_of(&tick.symbol, PARTITIONS) == message.partition)
        );
    }
    assert_promises_are_kept(&messages);
}

/// After a heartbeat nothing older follows, and heartbeats advance.
fn assert_promises_are_kept(messages: &[Received]) {
    let mut bounds: BTreeMap<u16, contract::event_time::EventTime> = BTreeMap::new();
    for message in messages {
        let bound = bounds.get(&message.partition).copied();
        for tick in message.ticks() {
            assert!(
                bound.is_none_or(|bound| tick.event_time >= bound),
                "{tick:?} after {bound:?}"
            );
        }
        if let Some(time) = message.header("event_time") {
            let time = time.parse().unwrap();
            assert!(bound.is_none_or(|bound| time > bound));
            bounds.insert(message.partition, time);
        }
    }
}

#[tokio::test]
async fn broken_connections_lose_nothing_and_repeat_with_the_same_number() {
    let feed = Feed::new(&step("--to=2012-03-30")).await;
    let mut consumer = feed.consume().await;
    let proxy = Proxy::start((feed.broker.host.clone(), feed.broker.port)).await;
    fs::write(feed.secret.path().join("port"), proxy.port.to_string()).unwrap();
    let running = feed.start().await;
    // Faults of the source as well, so that both sides fail at once now and then.
    feed.simulator.inject(Fault::new(FaultKind::ServerError, Some(2)));
    feed.simulator.inject(Fault::new(FaultKind::CutOff, Some(2)));
    let failures = async {
        for round in 1..=8 {
            eventually("the replay goes on", async || {
                let served: u64 = feed.simulator.report().quotes_served.values().sum();
                (served >= round * 80).then_some(())
            })
            .await;
            proxy.fail().await;
        }
        // And as an administrator would do it.
        feed.kill_connection().await;
    };
    let (messages, ()) = tokio::join!(consumer.until_heartbeat("2012-04-01T11:59:59Z"), failures);
    running.stop().await.unwrap();
    let mut distinct: BTreeMap<(u16, u64), &Received> = BTreeMap::new();
    for message in &messages {
        let first = distinct
            .entry((message.partition, message.sequence()))
            .or_insert(message);
        assert_eq!(*first, message, "a repetition is the same message");
    }
    assert!(
        messages.len() >= distinct.len() + 8,
        "each lost confirm made a repetition"
    );
    for partition in 0..PARTITIONS {
        let numbers: Vec<u64> = distinct
            .keys()
            .filter(|(of, _)| *of == partition)
            .map(|(_, number)| *number)
            .collect();
        let dense: Vec<u64> = (1..=u64::try_from(numbers.len()).unwrap()).collect();
        assert_eq!(numbers, dense, "partition {partition} has no gap");
    }
    let distinct: Vec<Received> = distinct.into_values().cloned().collect();
    assert_eq!(
        series(&distinct),
        expected(FROM, "2012-03-30"),
        "each quote, and none twice under two numbers"
    );
}

#[tokio::test]
async fn a_message_without_a_queue_is_kept_and_reported_until_it_has_one() {
    let feed = Feed::without_queues(&step("--to=2012-01-04")).await;
    // Partition 1 is MSFT's; the others have their queues.
    for partition in [0, 2, 3] {
        feed.declare(partition).await;
    }
    let running = feed.start().await;
    let ready = running
        .until("/ready", |_, body| {
            body["broker"]["reason"] == "Unroutable" && body["broker"]["held_messages"].as_u64() >= Some(2)
        })
        .await;
    let message = ready["broker"]["message"].as_str().unwrap();
    assert!(
        message.contains("markets.tech.ticks") && message.contains("/1/1"),
        "{message}"
    );
    assert!(
        running
            .metrics()
            .await
            .contains(r#"broker_failures_total{reason="Unroutable"}"#)
    );
    assert_eq!(running.get("/health").await.1["status"], "degraded");
    eventually("the other partitions go on", async || {
        let served = feed.simulator.report().quotes_served;
        served.values().all(|quotes| *quotes >= 8).then_some(())
    })
    .await;
    feed.declare(1).await;
    let mut consumer = feed.consume().await;
    let messages = consumer.until_heartbeat("2012-01-06T11:59:59Z").await;
    running
        .until("/ready", |status, body| {
            status == 200 && body["broker"]["reason"] == "Ok"
        })
        .await;
    running.stop().await.unwrap();
    assert_eq!(series(&messages), expected(FROM, "2012-01-04"));
    let numbers = sequences(&messages);
    for partition in 0..PARTITIONS {
        let distinct: BTreeSet<u64> = numbers[&partition].iter().copied().collect();
        assert_eq!(
            distinct.len(),
            numbers[&partition].len(),
            "what was confirmed is not published again"
        );
        assert_eq!(
            (distinct.first(), distinct.last()),
            (Some(&1), Some(&u64::try_from(distinct.len()).unwrap()))
        );
    }
}

#[tokio::test]
async fn a_missing_exchange_and_a_wrong_password_heal_without_a_restart() {
    let feed = Feed::without_queues(&step("--to=2012-01-04")).await;
    let password = fs::read_to_string(feed.secret.path().join("password")).unwrap();
    fs::write(feed.secret.path().join("password"), "wrong").unwrap();
    let running = feed.start().await;
    let ready = running
        .until("/ready", |_, body| body["broker"]["reason"] == "AccessRefused")
        .await;
    assert!(!ready.to_string().contains("wrong"), "{ready}");
    assert_eq!(ready["broker"]["connected"], false);
    fs::remove_file(feed.secret.path().join("password")).unwrap();
    running
        .until("/ready", |_, body| {
            body["broker"]["reason"] == "CredentialsUnreadable"
        })
        .await;
    fs::write(feed.secret.path().join("password"), password).unwrap();
    let ready = running
        .until("/ready", |_, body| body["broker"]["reason"] == "NotFound")
        .await;
    assert!(
        ready["broker"]["message"]
            .as_str()
            .unwrap()
            .contains("markets.tech.ticks"),
        "{ready}"
    );
    for partition in 0..PARTITIONS {
        feed.declare(partition).await;
    }
    let mut consumer = feed.consume().await;
    let messages = consumer.until_heartbeat("2012-01-06T11:59:59Z").await;
    running.stop().await.unwrap();
    assert_eq!(series(&messages), expected(FROM, "2012-01-04"));
}

#[tokio::test]
async fn what_is_under_way_when_the_producer_is_told_to_end_arrives() {
    let feed = Feed::new(&step("--to=2012-12-31")).await;
    let mut consumer = feed.consume().await;
    let running = feed.start().await;
    running.until("/ready", |status, _| status == 200).await;
    // An answer that is on its way: told to end meanwhile, the producer waits for it and publishes it.
    feed.simulator.inject(Fault {
        delay: Some(Duration::from_secs(1)),
        ..Fault::new(FaultKind::Slow, Some(1))
    });
    eventually("the slow answer is on its way", async || {
        feed.simulator
            .report()
            .faults_met
            .contains_key(&FaultKind::Slow)
            .then_some(())
    })
    .await;
    running.stop().await.unwrap();
    let served: u64 = feed.simulator.report().quotes_served.values().sum();
    let mut ticks = 0;
    while ticks < served {
        ticks += u64::try_from(consumer.next().await.ticks().len()).unwrap();
    }
    assert_eq!(ticks, served);
}

#[tokio::test]
async fn what_could_not_be_confirmed_is_counted_when_the_producer_ends() {
    let feed = Feed::without_queues(&step("--to=2012-01-04")).await;
    feed.declare(0).await;
    let running = feed.start().await;
    running
        .until("/ready", |_, body| body["broker"]["reason"] == "Unroutable")
        .await;
    let error = running.stop().await.unwrap_err().to_string();
    assert!(
        error.ends_with("messages were fetched and not confirmed within 20 s: they are lost"),
        "{error}"
    );
    let count: u64 = error.split(' ').next().unwrap().parse().unwrap();
    assert!(
        count >= 7,
        "four ticks, and heartbeats of three partitions: {error}"
    );
}
