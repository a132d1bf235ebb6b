//! The broker's side of a feed in a real RabbitMQ.

use std::time::Duration;

use anyhow::Result;
use contract::{config::QueueGeneration, names::FeedName};
use k8s_openapi::ByteString;
use operator::{
    api::status::reason,
    broker::{self, BrokerPlan, Brokers, COUNT_LAG, Counts, Outcome, Publishing, Topology, password},
    connection::{BrokerConnection, Data},
    generations::{Found, Generations},
    http_client,
    metrics::{Heal, requests::Requests},
};
use reqwest::Method;
use serde_json::json;
use test_servers::TestBroker;

const PASSWORD: &str = "the-feeds-own-password";

/// Users belong to the server, not to a virtual host: every test has a feed of its own.
struct Bench {
    server: TestBroker,
    http: reqwest::Client,
    feed: FeedName,
    secret: Data,
}

impl Bench {
    async fn new() -> Result<Self> {
        let server = TestBroker::create().await?;
        let unique: String = server.vhost.chars().rev().take(12).collect();
        let management: reqwest::Url = server.management.parse()?;
        let port = management.port().unwrap_or(15672).to_string();
        let pairs = [
            ("host", management.host_str().unwrap_or_default()),
            ("managementPort", &port),
            ("username", &server.username),
            ("password", &server.password),
            ("vhost", &server.vhost),
        ];
        Ok(Self {
            secret: pairs
                .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
                .into(),
            http: http_client::build(None, Duration::from_secs(5))?,
            feed: FeedName::new("markets", format!("f{unique}"))?,
            server,
        })
    }

    fn set(&mut self, key: &str, value: &str) {
        self.secret
            .insert(key.to_owned(), ByteString(value.as_bytes().to_vec()));
    }

    async fn reconcile(&self) -> Outcome {
        self.reconcile_with(&[(1, 2)], 1).await
    }

    /// With these generations and their partitions, of which those from `from` on are published to.
    async fn reconcile_with(&self, generations: &[(u32, u16)], from: u32) -> Outcome {
        let all = generations
            .iter()
            .map(|(generation, partitions)| QueueGeneration {
                generation: *generation,
                partitions: *partitions,
            });
        let settled = true;
        let publishing = Publishing { from, settled };
        let topology = Topology::new(
            &self.feed,
            Generations::new(all).as_ref(),
            publishing,
            PASSWORD.into(),
        );
        let plan = BrokerConnection::read("s/broker", &self.secret).map(|connection| BrokerPlan {
            connection,
            topology,
            made: 1,
        });
        // A new one each time: what was seen a moment ago is of no use to a test that changes it.
        broker::reconcile(&Brokers::new(self.http.clone(), Requests::default()), plan).await
    }

    /// Publishes a message and says whether it came to a queue.
    async fn publish(&self, key: &str) -> Result<bool> {
        let message = json!({
            "properties": {"delivery_mode": 2}, "routing_key": key, "payload": "[]", "payload_encoding": "string",
        });
        let path = self.path("exchanges", &format!("{}/publish", self.feed.exchange()));
        let answer = self.server.management(Method::POST, &path, Some(message)).await?;
        Ok(answer["routed"] == true)
    }

    /// A path below the virtual host.
    fn path(&self, kind: &str, rest: &str) -> String {
        format!("{kind}/{}/{rest}", self.server.vhost)
    }

    async fn delete(&self, path: &str) -> Result<()> {
        self.server.management(Method::DELETE, path, None).await?;
        Ok(())
    }

    fn kinds(outcome: &Outcome) -> Vec<Heal> {
        outcome.written.iter().map(|(kind, _)| *kind).collect()
    }
}

#[tokio::test]
async fn everything_is_made_once_and_then_left_alone() -> Result<()> {
    let bench = Bench::new().await?;
    let first = bench.reconcile().await;
    assert!(first.verdict.is_true(), "{:?}", first.verdict);
    assert_eq!(first.written.len(), 1 + 3 + 2 + 1 + 1);
    let second = bench.reconcile().await;
    assert!(
        second.verdict.is_true() && second.written.is_empty(),
        "{:?}",
        second.written
    );

    let user = format!("users/{}", bench.feed.broker_user());
    let user = bench.server.management(Method::GET, &user, None).await?;
    let stored = user["password_hash"].as_str().unwrap_or_default();
    assert!(password::matches(stored, &PASSWORD.into()));
    assert_eq!(user["tags"], json!([]));
    Ok(())
}

#[tokio::test]
async fn what_others_removed_or_changed_is_healed() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    let (feed, server) = (&bench.feed, &bench.server);
    let user = format!("users/{}", feed.broker_user());

    bench.delete(&bench.path("queues", &feed.queue(1, 1))).await?;
    assert_eq!(
        Bench::kinds(&bench.reconcile().await),
        [Heal::Queue, Heal::Binding]
    );

    bench.delete(&bench.path("exchanges", &feed.exchange())).await?;
    assert_eq!(
        Bench::kinds(&bench.reconcile().await),
        [Heal::Exchange, Heal::Binding, Heal::Binding]
    );

    let other = json!({"password": "another", "tags": ""});
    server.management(Method::PUT, &user, Some(other)).await?;
    assert_eq!(Bench::kinds(&bench.reconcile().await), [Heal::BrokerUser]);

    let everything = json!({"configure": ".*", "write": ".*", "read": ".*"});
    let permissions = bench.path("permissions", &feed.broker_user());
    server
        .management(Method::PUT, &permissions, Some(everything))
        .await?;
    assert_eq!(Bench::kinds(&bench.reconcile().await), [Heal::Permissions]);

    bench.delete(&user).await?;
    assert_eq!(
        Bench::kinds(&bench.reconcile().await),
        [Heal::BrokerUser, Heal::Permissions]
    );
    assert!(bench.reconcile().await.written.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_reported_and_keeps_its_messages() -> Result<()> {
    let bench = Bench::new().await?;
    let queue = bench.feed.queue(1, 0);
    let other = json!({"x-queue-type": "quorum", "x-max-length": 5});
    let exchange = bench.feed.exchange();
    bench.server.declare(&exchange, &queue, "1-0.#", other).await?;
    assert!(bench.publish("1-0.AAPL").await?);

    let outcome = bench.reconcile().await;
    assert_eq!(outcome.verdict.reason, reason::QUEUE_ARGUMENTS_DIFFER);
    assert!(
        outcome.verdict.message.contains(&queue) && outcome.verdict.message.contains("x-max-length"),
        "{}",
        outcome.verdict.message
    );
    assert!(outcome.found.as_ref().is_some_and(|found| found[&1].differs));
    // The rest is made nevertheless, and what is in the queue counts once the broker has counted it.
    assert!(Bench::kinds(&outcome).contains(&Heal::Queue));
    let counted = tokio::time::timeout(Duration::from_secs(30), async {
        while bench.reconcile().await.backlog != Some(1) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    counted.await?;
    Ok(())
}

#[tokio::test]
async fn what_came_into_each_queue_is_counted() -> Result<()> {
    let bench = Bench::new().await?;
    bench.reconcile().await;
    for key in ["1-0.AAPL", "1-0.MSFT", "1-1.GOOG"] {
        assert!(bench.publish(key).await?);
    }
    let counted = |messages| {
        Some(Counts {
            messages,
            published: Some(messages),
            consumer: None,
        })
    };
    let mut last = None;
    let all = tokio::time::timeout(COUNT_LAG * 2, async {
        loop {
            last = bench.reconcile().await.counts;
            let of = |partition| last.as_ref().and_then(|all| all.get(&(1, partition)).cloned());
            if (of(0), of(1)) == (counted(2), counted(1)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    all.await.map_err(|_| anyhow::anyhow!("{last:?}"))?;
    Ok(())
}

#[tokio::test]
async fn a_generation_is_sealed_counted_and_removed_while_the_next_one_fills() -> Result<()> {
    let bench = Bench::new().await?;
    let (feed, server) = (&bench.feed, &bench.server);
    assert!(bench.reconcile().await.verdict.is_true());
    assert!(bench.publish("1-0.AAPL").await?);
    assert!(
        !bench.publish("2-0.AAPL").await?,
        "there is no second generation yet"
    );

    let made = bench.reconcile_with(&[(1, 2), (2, 3)], 1).await;
    assert!(made.verdict.is_true() && made.written.is_empty(), "{made:?}");
    assert!(bench.publish("1-1.AAPL").await? && bench.publish("2-2.AAPL").await?);

    // The producer has moved: nothing comes into the old queues any more, and what is in them stays.
    let sealed = bench.reconcile_with(&[(1, 2), (2, 3)], 2).await;
    assert!(
        sealed.verdict.is_true() && sealed.written.is_empty(),
        "{sealed:?}"
    );
    assert!(!bench.publish("1-0.AAPL").await? && bench.publish("2-0.AAPL").await?);
    let found = |partitions, messages, bound| {
        let messages = Some(messages);
        Some(Found {
            partitions,
            messages,
            bound,
            consumers: Some(0),
            differs: false,
        })
    };
    let counted = tokio::time::timeout(COUNT_LAG * 2, async {
        loop {
            let all = bench
                .reconcile_with(&[(1, 2), (2, 3)], 2)
                .await
                .found
                .unwrap_or_default();
            let both = (all.get(&1).copied(), all.get(&2).copied());
            if both == (found(2, 2, false), found(3, 2, true)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    counted.await?;

    // The lowest queue went before the operator died: the highest still says how many there were.
    let connection = BrokerConnection::read("s/broker", &bench.secret)?;
    let brokers = Brokers::new(bench.http.clone(), Requests::default());
    broker::remove(&brokers, &connection, feed, 1, 1).await?;
    let half = bench.reconcile_with(&[(2, 3)], 2).await;
    assert!(half.written.is_empty());
    assert_eq!(
        half.found
            .and_then(|all| all.get(&1).map(|found| found.partitions)),
        Some(2)
    );
    broker::remove(&brokers, &connection, feed, 1, 2).await?;
    let gone = bench.reconcile_with(&[(2, 3)], 2).await;
    let left: Vec<_> = gone.found.unwrap_or_default().into_keys().collect();
    assert_eq!(left, [2]);
    let queues = server
        .management(Method::GET, &format!("queues/{}", server.vhost), None)
        .await?;
    assert_eq!(
        queues.as_array().map(Vec::len),
        Some(1 + 3),
        "dead letters and the second generation"
    );
    Ok(())
}

#[tokio::test]
async fn trouble_has_its_own_reason_and_shows_no_password() -> Result<()> {
    let mut bench = Bench::new().await?;
    let original = bench.secret.clone();

    bench.set("password", "not-the-password");
    let refused = bench.reconcile().await.verdict;
    assert_eq!(refused.reason, reason::AUTHENTICATION_FAILED);
    assert!(
        !refused.message.contains("not-the-password"),
        "{}",
        refused.message
    );

    bench.secret = original.clone();
    bench.set("vhost", "nowhere");
    assert_eq!(bench.reconcile().await.verdict.reason, reason::VHOST_NOT_FOUND);

    bench.secret = original.clone();
    bench.set("managementPort", "1");
    assert_eq!(bench.reconcile().await.verdict.reason, reason::UNREACHABLE);

    bench.secret = original.clone();
    bench.secret.remove("host");
    assert_eq!(bench.reconcile().await.verdict.reason, reason::KEY_NOT_FOUND);

    let humble = format!("{}-humble", bench.server.vhost);
    let user = json!({"password": "humble", "tags": "management"});
    let path = format!("users/{humble}");
    bench.server.management(Method::PUT, &path, Some(user)).await?;
    bench.secret = original;
    bench.set("username", &humble);
    bench.set("password", "humble");
    let denied = bench.reconcile().await.verdict;
    bench.delete(&path).await?;
    assert_eq!(denied.reason, reason::PERMISSION_DENIED, "{}", denied.message);
    Ok(())
}

#[tokio::test]
async fn many_feeds_share_a_look_and_each_sees_what_it_wrote_itself() -> Result<()> {
    let bench = Bench::new().await?;
    let brokers = Brokers::new(bench.http.clone(), Requests::default());
    let connection = BrokerConnection::read("s/broker", &bench.secret)?;
    let broker = brokers.of(&connection)?;
    let exchange = bench.feed.exchange();
    let first = broker
        .look(&exchange)
        .await
        .map_err(|verdict| anyhow::anyhow!(verdict.message))?;
    let again = brokers
        .of(&connection)?
        .look("another")
        .await
        .map_err(|verdict| anyhow::anyhow!(verdict.message))?;
    assert_eq!(again.read_at, first.read_at, "one look for both");

    let queue = bench.feed.queue(1, 0);
    let arguments = json!({"x-queue-type": "quorum"});
    bench
        .server
        .declare(&exchange, &queue, "1-0.#", arguments)
        .await?;
    broker.writes(&exchange);
    let other = broker
        .look("another")
        .await
        .map_err(|verdict| anyhow::anyhow!(verdict.message))?;
    assert_eq!(other.read_at, first.read_at, "the other has written nothing");
    let own = broker
        .look(&exchange)
        .await
        .map_err(|verdict| anyhow::anyhow!(verdict.message))?;
    assert!(own.read_at > first.read_at && own.queues.contains_key(&queue));
    Ok(())
}
