//! The HTTP API.

use std::time::Duration;

use contract::config::SpoolConfig;
use fmp_simulator::fault::{Fault, FaultKind};
use serde_json::json;

use crate::support::{Feed, SYMBOLS, eventually};

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn users_find_what_they_had() {
    let mut feed = Feed::new(&["--source=history", "--replay=step", "--from=2012-01-03"]).await;
    feed.config.interval = HOUR;
    let running = feed.start().await;
    running
        .until("/symbols", |_, body| {
            body["quotes"]["AAPL"]["price"] != json!(null)
        })
        .await;
    let (status, root) = running.get("/").await;
    assert_eq!(status, 200);
    assert!(
        root["message"].is_string() && root["version"].is_string(),
        "{root}"
    );
    let health = running
        .until("/health", |_, body| body["status"] == "healthy")
        .await;
    assert_eq!(health["rabbitmq_connected"], true);
    assert_eq!(health["symbols"], json!(SYMBOLS));
    assert!(health["timestamp"].is_string());
    let (status, ready) = running.get("/ready").await;
    assert_eq!((status, &ready["ready"]), (200, &json!(true)));
    assert_eq!(
        ready["broker"],
        json!({ "connected": true, "reason": "Ok", "message": null, "held_messages": 0 })
    );
    assert_eq!(ready["source"]["bound"], "2012-01-03T14:29:59Z");
    assert_eq!(ready["source"]["batches"], true);
    let (_, symbols) = running.get("/symbols").await;
    assert_eq!(symbols["symbols"], json!(SYMBOLS));
    let aapl =
        json!({ "price": "409.4", "event_time": "2012-01-03T14:30:00Z", "volume": 2_698_400, "error": null });
    assert_eq!(symbols["quotes"]["AAPL"], aapl);
    // The next quote comes at once, although the interval is an hour.
    let (status, fetched) = running.fetch_data().await;
    assert_eq!(status, 200);
    assert_eq!(fetched["message"], "Fetched 4 of 4 symbols");
    assert_eq!(fetched["symbols"], json!(SYMBOLS));
    assert_eq!(
        (&fetched["published"], &fetched["errors"]),
        (&json!(4), &json!([]))
    );
    // It does not wait for the broker.
    running
        .until("/ready", |_, body| body["spool"]["messages"] == 0)
        .await;
    let metrics = running.metrics().await;
    for line in [
        r#"stockfeed_producer_source_requests_total{endpoint="BatchQuote",outcome="Ok"} 2"#,
        r#"stockfeed_producer_quotes_total{outcome="Published"} 8"#,
        r#"stockfeed_producer_messages_confirmed_total{kind="Ticks"} 8"#,
        r#"stockfeed_producer_messages_confirmed_total{kind="Heartbeat"} 8"#,
        r#"stockfeed_producer_polls_total{outcome="Ok"} 2"#,
        "stockfeed_producer_broker_connected 1",
        "stockfeed_producer_messages_held 0",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("AAPL"), "a symbol is no label");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_source_that_fails_is_seen_and_named() {
    let mut feed = Feed::new(&[]).await;
    feed.config.interval = HOUR;
    feed.simulator.inject(Fault::new(FaultKind::WrongKey, None));
    let running = feed.start().await;
    let ready = running
        .until("/ready", |_, body| {
            body["source"]["problem"]["reason"] == "InvalidKey"
        })
        .await;
    assert_eq!(
        (&ready["ready"], &ready["broker"]["connected"]),
        (&json!(false), &json!(true))
    );
    assert!(
        ready["source"]["problem"]["message"]
            .as_str()
            .unwrap()
            .contains("Invalid API KEY")
    );
    assert_eq!(ready["source"]["last_success"], json!(null));
    let (status, health) = running.get("/health").await;
    assert_eq!(
        (status, &health["status"]),
        (200, &json!("degraded")),
        "alive, and honest"
    );
    let (status, refused) = running.fetch_data().await;
    assert_eq!((status, &refused["reason"]), (502, &json!("InvalidKey")));
    let (_, symbols) = running.get("/symbols").await;
    assert_eq!(symbols["quotes"]["IBM"]["error"]["reason"], "InvalidKey");
    feed.simulator.clear_faults();
    let (status, _) = running.fetch_data().await;
    assert_eq!(status, 200);
    let ready = running.until("/ready", |status, _| status == 200).await;
    assert_eq!(ready["source"]["problem"], json!(null));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_pause_that_the_source_asks_for_is_kept() {
    let feed = Feed::new(&[]).await;
    let fault = Fault {
        retry_after_seconds: Some(3),
        ..Fault::new(FaultKind::RateLimit, Some(1))
    };
    feed.simulator.inject(fault);
    let running = feed.start().await;
    running
        .until("/ready", |_, body| {
            body["source"]["problem"]["reason"] == "RateLimited"
        })
        .await;
    let (status, refused) = running.fetch_data().await;
    assert_eq!((status, &refused["reason"]), (429, &json!("RateLimited")));
    let requests = |status: u16| {
        let report = feed.simulator.report();
        report
            .requests
            .values()
            .filter_map(|statuses| statuses.get(&status))
            .sum::<u64>()
    };
    assert_eq!(
        (requests(429), requests(200)),
        (1, 0),
        "not asked again before the pause is over"
    );
    let ready = running.until("/ready", |status, _| status == 200).await;
    assert_eq!(ready["source"]["problem"], json!(null), "and it heals by itself");
    assert_eq!(requests(429), 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_key_that_was_corrected_is_found_within_a_poll() {
    let keys = tempfile::tempdir().unwrap();
    std::fs::write(keys.path().join("keys"), "right").unwrap();
    let flag = format!("--api-key-file={}", keys.path().join("keys").display());
    let feed = Feed::new(&[&flag]).await;
    let running = feed.start().await;
    running
        .until("/ready", |_, body| {
            body["source"]["problem"]["reason"] == "InvalidKey"
        })
        .await;
    feed.write_key("right\n");
    running.until("/ready", |status, _| status == 200).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_that_is_away_is_seen_and_polling_goes_on() {
    let feed = Feed::new(&[]).await;
    std::fs::write(feed.secret.path().join("port"), "1").unwrap();
    let running = feed.start().await;
    let ready = running
        .until("/ready", |_, body| {
            body["broker"]["reason"] == "Unreachable" && body["spool"]["messages"].as_u64() > Some(20)
        })
        .await;
    assert_eq!(ready["broker"]["connected"], false);
    assert_eq!(ready["ready"], true, "there is room for what is fetched");
    let (status, health) = running.get("/health").await;
    assert_eq!((status, &health["rabbitmq_connected"]), (200, &json!(false)));
    assert_eq!(health["status"], "degraded");
    let (status, fetched) = running.fetch_data().await;
    assert_eq!((status, &fetched["errors"]), (200, &json!([])));
    std::fs::write(feed.secret.path().join("port"), feed.broker.port.to_string()).unwrap();
    running
        .until("/ready", |_, body| {
            body["broker"]["connected"] == true && body["broker"]["reason"] == "Ok"
        })
        .await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_spool_stops_fetching_and_says_so() {
    let mut feed = Feed::new(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    feed.config.spool = Some(SpoolConfig {
        directory: folder.path().to_owned(),
        max_bytes: 20_000,
    });
    let port = std::fs::read_to_string(feed.secret.path().join("port")).unwrap();
    std::fs::write(feed.secret.path().join("port"), "1").unwrap();
    let running = feed.start().await;
    let ready = running
        .until("/ready", |_, body| body["spool"]["full"] == true)
        .await;
    assert_eq!(ready["ready"], false, "{ready}");
    let requests = || {
        let report = feed.simulator.report();
        report
            .requests
            .values()
            .flat_map(|statuses| statuses.values())
            .sum::<u64>()
    };
    let before = requests();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(requests(), before, "nothing is fetched that there is no room for");
    let (status, refused) = running.fetch_data().await;
    assert_eq!((status, &refused["reason"]), (503, &json!("SpoolFull")));
    std::fs::write(feed.secret.path().join("port"), &port).unwrap();
    running.until("/ready", |status, _| status == 200).await;
    eventually("polling goes on", async || (requests() > before).then_some(())).await;
    running.stop().await.unwrap();
}
