//! A broker that speaks TLS only, and only with who shows a certificate.

use std::collections::BTreeMap;

use test_servers::tls::{TestAuthority, TestCertificate};

use crate::support::{Feed, PARTITIONS, eventually};

#[tokio::test]
async fn a_producer_publishes_over_mutual_tls_and_takes_a_renewed_certificate_without_a_restart() {
    let mut feed = Feed::new(&["--source=history", "--replay=step", "--from=2012-01-03"]).await;
    let authority = TestAuthority::of_the_servers().unwrap();
    let folder = feed.broker.tls_secret(&authority).unwrap();
    feed.config.broker_directory = folder.path().to_owned();
    let mut consumer = feed.consume().await;
    let put = |client: TestCertificate| client.write(folder.path()).unwrap();
    let shown = async |name: &str| {
        let expected = [format!("CN={name}")];
        let look = async || {
            let shown = feed.broker.shown_by("producer").await;
            shown.is_ok_and(|shown| shown == expected).then_some(())
        };
        eventually(name, look).await;
    };

    put(authority.client("first").unwrap());
    let running = feed.start().await;
    let mut received = vec![consumer.next().await];
    shown("first").await;

    put(authority.client("second").unwrap());
    feed.kill_connection().await;
    shown("second").await;

    // One of another authority: what is fetched waits.
    put(TestAuthority::unknown().unwrap().client("third").unwrap());
    feed.kill_connection().await;
    running
        .until("/health", |_, health| health["rabbitmq_connected"] == false)
        .await;
    put(authority.client("fourth").unwrap());
    shown("fourth").await;
    running.stop().await.unwrap();

    received.extend(consumer.until_quiet().await);
    let mut numbers: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for message in &received {
        let numbers = numbers.entry(message.partition).or_default();
        // What was sent and not confirmed when a connection ended is sent again.
        if !numbers.contains(&message.sequence()) {
            numbers.push(message.sequence());
        }
    }
    assert_eq!(numbers.len(), usize::from(PARTITIONS));
    for (partition, numbers) in numbers {
        let dense: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, dense, "partition {partition}");
    }
}
