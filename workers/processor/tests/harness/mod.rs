//! A feed in a real broker and a real database, with processors in this process.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use contract::{
    config::{BatchConfig, ProcessorConfig, QueueGeneration},
    event_time::EventTime,
    names::{self, FeedName},
    partition::partition_of,
    symbol::Symbol,
    tick::{self, Tick, header},
};
use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
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
    _connection: Connection,
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
        let (broker, database) = (TestBroker::create().await?, TestDatabase::create().await?);
        let feed = FeedName::new("markets", format!("f{}", &database.name[20..]))?;
        let mut admin = database.connect().await?;
        schema::roles::ensure(&mut admin, &feed).await?;
        schema::migrate(&mut admin, &feed).await?;
        schema::roles::set_password(
            &mut admin,
            &feed.writer_role(),
            &SecretString::from("secret".to_owned()),
        )
        .await?;
        for partition in 0..partitions {
            let arguments = serde_json::json!({"x-queue-type": "quorum", "x-single-active-consumer": true});
            broker
                .declare(
                    &feed.exchange(),
                    &feed.queue(1, partition),
                    &names::binding_key(1, partition),
                    arguments,
                )
                .await?;
        }
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
            _connection: connection,
            _secrets: secrets,
        })
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
        let key = format!("1-{partition}.any");
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
