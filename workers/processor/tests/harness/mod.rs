//! A feed in a real broker and a real database, with processors in this process.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use contract::{
    config::{BatchConfig, ProcessorConfig, QueueGeneration},
    event_time::EventTime,
    names::{self, FeedName},
    partition::partition_of,
    symbol::Symbol,
    tick::{self, Tick, header},
};
use futures::StreamExt as _;
use lapin::{
    BasicProperties, Channel, Connection,
    options::{
        BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
        ConfirmSelectOptions,
    },
    types::{AMQPValue, FieldTable},
};
use secrecy::SecretString;
use service::credentials::BrokerCredentials;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;
use test_servers::{TestBroker, TestDatabase};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Harness {
    pub broker: TestBroker,
    pub database: TestDatabase,
    pub feed: FeedName,
    pub config: ProcessorConfig,
    channel: Channel,
    connection: Connection,
    _secrets: (TempDir, TempDir),
}

pub struct Processor {
    shutdown: CancellationToken,
    pub task: JoinHandle<Result<()>>,
}

impl Processor {
    /// Ends it as SIGTERM does.
    pub async fn drain(self) -> Result<()> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .context("the processor did not drain")??
    }

    /// Ends it as SIGKILL does: no commit, no acknowledgement, connections cut.
    pub async fn kill(self) {
        self.task.abort();
        self.task.await.ok();
    }
}

impl Harness {
    pub async fn new(symbols: &[&str], partitions: u16) -> Result<Self> {
        Self::in_database(TestDatabase::create().await?, symbols, partitions).await
    }

    pub async fn in_database(database: TestDatabase, symbols: &[&str], partitions: u16) -> Result<Self> {
        let broker = TestBroker::create().await?;
        let feed = FeedName::new(
            "markets",
            format!("f{}", &database.name[database.name.len() - 17..]),
        )?;
        let mut admin = database.connect().await?;
        schema::roles::ensure(&mut admin, &feed).await?;
        schema::migrate(&mut admin, &feed).await?;
        schema::roles::set_password(
            &mut admin,
            &feed.writer_role(),
            &SecretString::from("secret".to_owned()),
        )
        .await?;
        declare(&broker, &feed, 1, partitions).await?;
        let secrets = (broker.secret()?, database.secret(&feed.writer_role(), "secret")?);
        let connection =
            service::amqp::connect(&BrokerCredentials::read(secrets.0.path())?, &feed, "test").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let config = ProcessorConfig {
            feed: feed.clone(),
            symbols: symbols
                .iter()
                .map(|symbol| symbol.parse())
                .collect::<Result<_, _>>()?,
            queues: vec![QueueGeneration {
                generation: 1,
                partitions,
            }],
            windows: vec!["1m".parse()?, "1d".parse()?],
            out_of_orderness: Duration::from_secs(5),
            allowed_lateness: Duration::from_secs(3_600),
            max_future: Duration::from_secs(3_600),
            max_age: None,
            gap_timeout: Duration::from_secs(1),
            batch: BatchConfig {
                max_messages: 20,
                max_bytes: 1 << 20,
                linger: Duration::from_millis(5),
            },
            broker_directory: secrets.0.path().to_owned(),
            database_directory: secrets.1.path().to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        Ok(Self {
            broker,
            database,
            feed,
            config,
            channel,
            connection,
            _secrets: secrets,
        })
    }

    /// Moves on to queues of the next generation.
    pub async fn next_generation(&mut self, partitions: u16) -> Result<()> {
        let generation = self.config.queues[0].generation + 1;
        declare(&self.broker, &self.feed, generation, partitions).await?;
        self.config.queues = vec![QueueGeneration {
            generation,
            partitions,
        }];
        Ok(())
    }

    pub fn start(&self, instance: &str) -> Processor {
        let shutdown = CancellationToken::new();
        let running = processor::run::run(self.config.clone(), instance.to_owned(), shutdown.clone());
        Processor {
            shutdown,
            task: tokio::spawn(running),
        }
    }

    pub fn partition(&self, symbol: &str) -> u16 {
        partition_of(
            &symbol.parse::<Symbol>().unwrap(),
            self.config.queues[0].partitions,
        )
    }

    /// Publishes a body and waits for the broker's confirmation.
    pub async fn publish(&self, partition: u16, body: &[u8], kind: &str, headers: FieldTable) -> Result<()> {
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(tick::CONTENT_TYPE.into())
            .with_type(kind.into())
            .with_headers(headers);
        let key = format!("{}-{partition}.any", self.config.queues[0].generation);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let exchange = self.feed.exchange();
        let confirmation = self
            .channel
            .basic_publish(
                exchange.as_str().into(),
                key.as_str().into(),
                options,
                body,
                properties,
            )
            .await?
            .await?;
        ensure!(confirmation.is_ack(), "not confirmed");
        Ok(())
    }

    /// Publishes ticks of one symbol as a numbered message.
    pub async fn ticks(&self, publisher: Uuid, sequence: i64, ticks: &[Tick]) -> Result<()> {
        let partition = self.partition(ticks[0].symbol.as_str());
        self.publish(
            partition,
            &tick::encode(ticks),
            tick::MESSAGE_TYPE,
            numbered(publisher, sequence),
        )
        .await
    }

    pub async fn heartbeat(&self, partition: u16, publisher: Uuid, sequence: i64, time: &str) -> Result<()> {
        let mut headers = numbered(publisher, sequence);
        headers.insert(header::EVENT_TIME.into(), AMQPValue::LongString(time.into()));
        self.publish(partition, b"[]", tick::MESSAGE_TYPE, headers).await
    }

    /// Takes the first message of a queue and refuses it for good, so that the broker puts it to the dead letters.
    pub async fn reject_first(&self, queue: &str) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(1, BasicQosOptions::default()).await?;
        let (consume, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel
            .basic_consume(queue.into(), "refuses".into(), consume, arguments)
            .await?;
        let message = consumer.next().await.context("the queue is gone")??;
        // Ends deliveries before there is room for another one.
        channel
            .basic_cancel("refuses".into(), BasicCancelOptions::default())
            .await?;
        message.reject(BasicRejectOptions { requeue: false }).await?;
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    /// The prefetch of each consumer of a queue, as the broker tells it.
    pub async fn consumer_prefetch(&self, queue: &str) -> Result<Vec<u64>> {
        let path = format!("consumers/{}", self.broker.vhost);
        let consumers = self.broker.management(reqwest::Method::GET, &path, None).await?;
        let of_queue = consumers
            .as_array()
            .into_iter()
            .flatten()
            .filter(|consumer| consumer["queue"]["name"] == queue);
        Ok(of_queue
            .filter_map(|consumer| consumer["prefetch_count"].as_u64())
            .collect())
    }

    /// Waits until a queue has so many consumers.
    pub async fn until_consumers(&self, queue: &str, count: usize) -> Result<()> {
        eventually(|| async { Ok(self.consumer_prefetch(queue).await?.len() == count) }).await
    }

    /// Executes a statement in the feed's schema, as the administrator.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let options = self
            .database
            .options
            .clone()
            .options([("search_path", self.feed.schema())]);
        let mut connection = PgConnection::connect_with(&options).await?;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    /// A value that a query in the feed's schema gives.
    pub async fn value(&self, query: &str) -> Result<Option<String>> {
        let options = self
            .database
            .options
            .clone()
            .options([("search_path", self.feed.schema())]);
        let mut connection = PgConnection::connect_with(&options).await?;
        let text = format!("SELECT ({query})::text");
        Ok(sqlx::query_scalar(AssertSqlSafe(text))
            .fetch_one(&mut connection)
            .await?)
    }

    /// Waits until a query gives a value.
    pub async fn until(&self, query: &str, expected: &str) -> Result<()> {
        let mut last = None;
        let wait = async {
            loop {
                last = self.value(query).await?;
                if last.as_deref() == Some(expected) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(result) => result,
            Err(_) => anyhow::bail!("{query} is {last:?}, not {expected}"),
        }
    }

    /// How many messages of a queue were delivered again, once the broker has counted that so many were acknowledged: it counts some
    /// seconds late. What a channel did in its last moments it may never count at all: with the queue empty it is waited no longer than for a
    /// few of its periods.
    pub async fn redelivered(&self, queue: &str, acknowledged: u64) -> Result<u64> {
        let path = format!("queues/{}/{queue}", self.broker.vhost);
        let wait = async {
            let mut empty = None;
            loop {
                let found = self.broker.management(reqwest::Method::GET, &path, None).await?;
                let count = |name| found["message_stats"][name].as_u64().unwrap_or_default();
                let since = (found["messages"] == 0).then(|| *empty.get_or_insert_with(Instant::now));
                if count("ack") >= acknowledged || since.is_some_and(|since| since.elapsed() > PATIENCE / 3) {
                    return Ok(count("redeliver"));
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .context("not all messages were acknowledged")?
    }

    /// Waits until the broker holds nothing of the feed, neither ready nor unacknowledged.
    pub async fn until_queues_are_empty(&self) -> Result<()> {
        let wait = async {
            loop {
                let queues = self
                    .broker
                    .management(
                        reqwest::Method::GET,
                        &format!("queues/{}", self.broker.vhost),
                        None,
                    )
                    .await?;
                let held: i64 = queues
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|queue| queue["messages"].as_i64())
                    .sum();
                if held == 0 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .context("the queues did not become empty")?
    }
}

/// Waits until something is true.
pub async fn eventually<F: Future<Output = Result<bool>>>(mut condition: impl FnMut() -> F) -> Result<()> {
    let wait = async {
        while !condition().await? {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .context("it did not become true")?
}

/// Declares the queues of a generation, and the dead letters', as the operator does.
async fn declare(broker: &TestBroker, feed: &FeedName, generation: u32, partitions: u16) -> Result<()> {
    let dead = feed.dead_letter_queue();
    let arguments = serde_json::json!({"x-queue-type": "quorum", "x-delivery-limit": -1});
    broker
        .declare(&feed.exchange(), &dead, "no.message", arguments)
        .await?;
    for partition in 0..partitions {
        let arguments = serde_json::json!({
            "x-queue-type": "quorum", "x-single-active-consumer": true, "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
        });
        let (queue, key) = (
            feed.queue(generation, partition),
            names::binding_key(generation, partition),
        );
        broker.declare(&feed.exchange(), &queue, &key, arguments).await?;
    }
    Ok(())
}

pub fn numbered(publisher: Uuid, sequence: i64) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(
        header::PUBLISHER.into(),
        AMQPValue::LongString(publisher.to_string().into()),
    );
    headers.insert(header::SEQUENCE.into(), AMQPValue::LongLongInt(sequence));
    headers
}

pub fn tick(symbol: &str, time: &str, price: &str, volume: i64) -> Tick {
    Tick {
        symbol: symbol.parse().unwrap(),
        price: price.parse().unwrap(),
        event_time: time.parse::<EventTime>().unwrap(),
        volume: Some(volume),
        market_cap: None,
        open: None,
        day_high: None,
        day_low: None,
        previous_close: None,
        change: None,
        change_percentage: None,
        exchange: Some("NASDAQ".to_owned()),
        name: Some("Tab\there, back\\slash, line\nend".to_owned()),
    }
}
