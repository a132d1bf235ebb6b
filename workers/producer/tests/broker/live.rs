//! A configuration that changes while the producer runs.

use std::{fs, time::Duration};

use serde_json::json;

use crate::support::{Feed, eventually};

#[tokio::test]
async fn symbols_and_interval_change_without_a_restart_and_without_a_lost_tick() {
    let mut feed = Feed::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    feed.config.interval = Duration::from_secs(3_600);
    feed.file = Some(path.clone());
    let write = |config: &contract::config::ProducerConfig| {
        // As Kubernetes does it: the new file takes the old one's place at once.
        let next = folder.path().join("next");
        fs::write(&next, config.render()).unwrap();
        fs::rename(&next, &path).unwrap();
    };
    write(&feed.config);
    let running = feed.start().await;
    let publisher = running.producer.publisher();
    running
        .until("/symbols", |_, body| body["quotes"]["AAPL"]["price"].is_string())
        .await;
    assert_eq!(polls(&feed), 1, "an hour between polls");

    let mut next = feed.config.clone();
    next.interval = Duration::from_millis(100);
    next.symbols = ["AAPL", "NVDA"].map(|text| text.parse().unwrap()).to_vec();
    write(&next);
    let symbols = running
        .until("/symbols", |_, body| body["quotes"]["NVDA"]["price"].is_string())
        .await;
    assert_eq!(symbols["symbols"], json!(["AAPL", "NVDA"]));
    assert!(symbols["quotes"].get("MSFT").is_none());
    let before = polls(&feed);
    eventually("the new interval is kept", async || {
        (polls(&feed) > before + 5).then_some(())
    })
    .await;

    // What cannot be used changes nothing.
    fs::write(&path, "{").unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        running.get("/symbols").await.1["symbols"],
        json!(["AAPL", "NVDA"])
    );
    assert_eq!(running.producer.publisher(), publisher);
    running.stop().await.unwrap();
    let messages = feed.consume().await.until_quiet().await;
    let ticks: u64 = messages.iter().map(|message| message.ticks().len() as u64).sum();
    let metrics_of_run = feed.simulator.report().quotes_served.values().sum::<u64>();
    assert!(ticks > 6 && ticks <= metrics_of_run);
    for message in &messages {
        assert_eq!(message.header("publisher").unwrap(), publisher.to_string());
    }
}

fn polls(feed: &Feed) -> u64 {
    let served = feed.simulator.report().quotes_served;
    served
        .iter()
        .find(|(symbol, _)| symbol.as_str() == "AAPL")
        .map_or(0, |(_, count)| *count)
}
