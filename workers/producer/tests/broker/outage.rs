//! A broker that is away, and a producer that is killed meanwhile.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use contract::config::SpoolConfig;

use crate::{
    proxy::Proxy,
    support::{Feed, PARTITIONS, Received, eventually, expected, series},
};

/// How long the broker is away. `STOCKFEED_SOAK_SECONDS` for longer.
#[expect(
    clippy::disallowed_methods,
    reason = "somebody who wants a longer run says so in the environment"
)]
fn outage() -> Duration {
    let seconds = std::env::var("STOCKFEED_SOAK_SECONDS").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(10))
}

/// Each message once: what has the same publisher, partition and number must be the same.
fn distinct(messages: &[Received]) -> Vec<Received> {
    let mut distinct: BTreeMap<(String, u16, u64), &Received> = BTreeMap::new();
    for message in messages {
        let key = (
            message.header("publisher").unwrap(),
            message.partition,
            message.sequence(),
        );
        let first = distinct.entry(key).or_insert(message);
        assert_eq!(*first, message, "a repetition is the same message");
    }
    let publishers = distinct.keys().map(|(publisher, ..)| publisher);
    assert_eq!(publishers.collect::<std::collections::BTreeSet<_>>().len(), 1);
    for partition in 0..PARTITIONS {
        let numbers = distinct.keys().filter(|(_, of, _)| *of == partition);
        let numbers: Vec<u64> = numbers.map(|(_, _, number)| *number).collect();
        let dense: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, dense, "partition {partition} has no gap");
    }
    distinct.into_values().cloned().collect()
}

#[tokio::test]
async fn an_outage_of_the_broker_with_kills_of_the_producer_loses_nothing() {
    let mut feed = Feed::new(&[
        "--source=history",
        "--replay=step",
        "--from=2000-01-03",
        "--to=2013-03-01",
    ])
    .await;
    let folder = tempfile::tempdir().unwrap();
    feed.config.spool = Some(SpoolConfig {
        directory: folder.path().to_owned(),
        max_bytes: 256 << 20,
    });
    // The history has some 12,000 quotes of each symbol: it must last.
    feed.config.interval = feed.config.interval.max(outage() / 10_000);
    let proxy = Proxy::start((feed.broker.host.clone(), feed.broker.port)).await;
    let port = fs::read_to_string(feed.secret.path().join("port")).unwrap();
    fs::write(feed.secret.path().join("port"), proxy.port.to_string()).unwrap();
    let served = || {
        let progress = feed.simulator.report().progress;
        progress
            .values()
            .map(|progress| progress.served as u64)
            .sum::<u64>()
    };
    let running = feed.start().await;
    running.until("/ready", |status, _| status == 200).await;
    eventually("quotes are fetched", async || (served() > 100).then_some(())).await;
    // The broker is away from here on: nobody listens any more.
    drop(proxy);
    let (began, before) = (Instant::now(), served());
    running
        .until("/ready", |status, body| {
            status == 200 && body["broker"]["connected"] == false
        })
        .await;
    tokio::time::sleep(outage() / 2).await;
    let held = running.get("/ready").await.1["spool"]["messages"]
        .as_u64()
        .unwrap();
    assert!(held > 50, "polling goes on: {held} messages wait");
    // Killed: nothing is closed, nothing drained.
    drop(running);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let running = feed.start().await;
    running
        .until("/ready", |_, body| {
            body["spool"]["messages"].as_u64() >= Some(held)
        })
        .await;
    tokio::time::sleep(outage().saturating_sub(began.elapsed())).await;
    let during = served() - before;
    assert!(during > 100, "at full rate: {during} quotes");
    fs::write(feed.secret.path().join("port"), &port).unwrap();
    running
        .until("/ready", |_, body| {
            body["broker"]["connected"] == true && body["spool"]["messages"] == 0
        })
        .await;
    running.stop().await.unwrap();
    let messages = feed.consume().await.until_quiet().await;
    let seen = series(&distinct(&messages));
    let everything = expected("2000-01-03", "2013-03-01");
    let mut missing = 0;
    for (symbol, quotes) in &seen {
        let mut all = everything[symbol].iter();
        for quote in quotes {
            let skipped = all.by_ref().take_while(|next| *next != quote).count();
            missing += skipped as u64;
        }
    }
    let count: u64 = seen.values().map(|quotes| quotes.len() as u64).sum();
    // An answer that is on its way when the producer is killed was served, and never fetched.
    assert!(missing <= 4, "{missing} quotes are missing, or out of order");
    assert_eq!(
        count + missing,
        served(),
        "each quote that was fetched arrived once"
    );
    println!(
        "{during} quotes were fetched while the broker was away for {:?}",
        outage()
    );
}
