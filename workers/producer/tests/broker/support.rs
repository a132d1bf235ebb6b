//! A feed of one's own: simulator, broker with its topology, and a producer between them.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Parser as _;
use contract::{
    config::{
        Duplicates, FmpConfig, MarketHours, ProducerConfig, QueueGeneration, QuotaConfig, SourceConfig,
    },
    names::{FeedName, binding_key},
    symbol::Symbol,
    tick::{Tick, decode},
};
use fmp_simulator::{Simulator, options::Options};
use futures::StreamExt as _;
use lapin::{
    Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions},
    types::FieldTable,
};
use producer::Producer;
use reqwest::Method;
use serde_json::{Value, json};
use service::{amqp, credentials::BrokerCredentials};
use tempfile::TempDir;
use test_servers::TestBroker;
use tokio_util::sync::CancellationToken;

pub const PARTITIONS: u16 = 4;
pub const SYMBOLS: [&str; 4] = ["AAPL", "GOOG", "IBM", "MSFT"];
/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything around a producer.
pub struct Feed {
    pub broker: TestBroker,
    pub simulator: Simulator,
    pub feed: FeedName,
    pub secret: TempDir,
    pub config: ProducerConfig,
    /// Where the configuration is watched, if it is.
    pub file: Option<PathBuf>,
    key: TempDir,
}

impl Feed {
    /// A feed whose queues are declared.
    pub async fn new(simulator_flags: &[&str]) -> Self {
        let feed = Self::without_queues(simulator_flags).await;
        for partition in 0..PARTITIONS {
            feed.declare(partition).await;
        }
        feed
    }

    pub async fn without_queues(simulator_flags: &[&str]) -> Self {
        let broker = TestBroker::create().await.unwrap();
        let common = [
            "fmp-simulator",
            "--listen=127.0.0.1:0",
            "--control-listen=127.0.0.1:0",
        ];
        let options = Options::parse_from(common.iter().chain(simulator_flags));
        let simulator = fmp_simulator::start(options, CancellationToken::new())
            .await
            .unwrap();
        let feed = FeedName::new("markets", "tech").unwrap();
        let secret = broker.secret().unwrap();
        let key = tempfile::tempdir().unwrap();
        fs::write(key.path().join("apiKey"), "any").unwrap();
        let config = ProducerConfig {
            feed: feed.clone(),
            symbols: SYMBOLS.map(|text| text.parse().unwrap()).to_vec(),
            source: SourceConfig::Fmp(FmpConfig {
                base_url: simulator.base_url(),
                api_key_file: key.path().join("apiKey"),
                batch: true,
                delay: Duration::from_secs(1),
                timeout: Duration::from_secs(10),
            }),
            interval: Duration::from_millis(20),
            queues: QueueGeneration {
                generation: 1,
                partitions: PARTITIONS,
            },
            market_hours: MarketHours::Always,
            duplicates: Duplicates::Skip,
            quota: QuotaConfig::default(),
            spool: None,
            database_directory: None,
            token_directory: None,
            broker_directory: secret.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
        };
        Self {
            broker,
            simulator,
            feed,
            secret,
            config,
            file: None,
            key,
        }
    }

    /// Declares the exchange, and the queue of one partition as the operator does.
    pub async fn declare(&self, partition: u16) {
        let arguments = json!({ "x-queue-type": "quorum", "x-single-active-consumer": true });
        let queue = self.feed.queue(1, partition);
        self.broker
            .declare(
                &self.feed.exchange(),
                &queue,
                &binding_key(1, partition),
                arguments,
            )
            .await
            .unwrap();
    }

    pub async fn start(&self) -> Running {
        let token = CancellationToken::new();
        let producer = producer::start(self.config.clone(), self.file.clone(), token.clone())
            .await
            .unwrap();
        let url = format!("http://{}", producer.address());
        Running { producer, token, url }
    }

    /// Overwrites the file that holds the API key.
    pub fn write_key(&self, key: &str) {
        fs::write(self.key.path().join("apiKey"), key).unwrap();
    }

    pub async fn consume(&self) -> Consumer {
        let credentials = BrokerCredentials::read(self.secret.path()).unwrap();
        let connection = amqp::connect(&credentials, &self.feed, "test").await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let mut queues = Vec::new();
        for partition in 0..PARTITIONS {
            let (queue, tag) = (self.feed.queue(1, partition), format!("test-{partition}"));
            let options = BasicConsumeOptions::default();
            let consumer = channel
                .basic_consume(queue.into(), tag.into(), options, FieldTable::default())
                .await
                .unwrap();
            queues.push(
                consumer
                    .map(move |delivery| (partition, delivery.unwrap()))
                    .boxed(),
            );
        }
        Consumer {
            deliveries: futures::stream::select_all(queues),
            _connection: connection,
        }
    }

    /// Closes the producer's connection as an administrator would; waits until there is one.
    pub async fn kill_connection(&self) {
        let path = format!("vhosts/{}/connections", self.broker.vhost);
        eventually("the producer's connection is listed", async || {
            let connections = self.broker.management(Method::GET, &path, None).await.unwrap();
            let name = connections.as_array().unwrap().iter().find_map(|one| {
                let is_producer = one["client_properties"]["connection_name"] == "markets/tech producer";
                is_producer.then(|| one["name"].as_str().unwrap().to_owned())
            })?;
            let encoded = name.replace(' ', "%20").replace('>', "%3E");
            let path = format!("connections/{encoded}");
            // It may have gone meanwhile, and the list not know it yet.
            self.broker.management(Method::DELETE, &path, None).await.ok()
        })
        .await;
    }
}

/// A producer that runs.
pub struct Running {
    pub producer: Producer,
    pub token: CancellationToken,
    pub url: String,
}

impl Running {
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let response = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn fetch_data(&self) -> (u16, Value) {
        let response = reqwest::Client::new()
            .post(format!("{}/fetch-data", self.url))
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn metrics(&self) -> String {
        reqwest::get(format!("{}/metrics", self.url))
            .await
            .unwrap()
            .text()
            .await
            .unwrap()
    }

    /// Waits for an answer of `GET` that satisfies a condition.
    pub async fn until(&self, path: &str, condition: impl Fn(u16, &Value) -> bool) -> Value {
        eventually(path, async || {
            let (status, body) = self.get(path).await;
            condition(status, &body).then_some(body)
        })
        .await
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.token.cancel();
        self.producer.wait().await
    }
}

/// Reads all partitions.
pub struct Consumer {
    deliveries: futures::stream::SelectAll<futures::stream::BoxStream<'static, (u16, Delivery)>>,
    _connection: Connection,
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub partition: u16,
    pub routing_key: String,
    pub properties: lapin::BasicProperties,
    pub body: Vec<u8>,
}

impl Consumer {
    /// The next message.
    pub async fn next(&mut self) -> Received {
        let next = tokio::time::timeout(PATIENCE, self.deliveries.next());
        let (partition, delivery) = next.await.expect("a message should have come").unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        Received {
            partition,
            routing_key: delivery.routing_key.to_string(),
            properties: delivery.properties,
            body: delivery.data,
        }
    }

    /// All messages, until none has come for two seconds.
    pub async fn until_quiet(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        while let Ok(message) = tokio::time::timeout(Duration::from_secs(2), self.next()).await {
            received.push(message);
        }
        received
    }

    /// All messages up to the heartbeat of that time in each partition.
    pub async fn until_heartbeat(&mut self, time: &str) -> Vec<Received> {
        let mut received = Vec::new();
        let mut reached = BTreeMap::new();
        while reached.len() < usize::from(PARTITIONS) {
            let message = self.next().await;
            if message.header("event_time").as_deref() == Some(time) {
                reached.insert(message.partition, ());
            }
            received.push(message);
        }
        received
    }
}

impl Received {
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.properties.headers().as_ref()?.inner().get(name)?;
        Some(match value {
            lapin::types::AMQPValue::LongString(text) => text.to_string(),
            lapin::types::AMQPValue::LongLongInt(number) => number.to_string(),
            other => format!("{other:?}"),
        })
    }

    pub fn sequence(&self) -> u64 {
        self.header("sequence").unwrap().parse().unwrap()
    }

    pub fn ticks(&self) -> Vec<Tick> {
        decode(&self.body)
            .unwrap()
            .into_iter()
            .map(|entry| entry.unwrap().to_tick().unwrap())
            .collect()
    }
}

/// Price, seconds and volume of each symbol's ticks, in the order in which they came.
pub type Series = BTreeMap<Symbol, Vec<(String, i64, Option<i64>)>>;

pub fn series(messages: &[Received]) -> Series {
    let mut series = Series::new();
    for tick in messages.iter().flat_map(Received::ticks) {
        let seconds = tick.event_time.as_microseconds() / 1_000_000;
        let entry = (tick.price.to_string(), seconds, tick.volume);
        series.entry(tick.symbol).or_default().push(entry);
    }
    series
}

/// What the simulator serves in a replay of these days, from its own history.
pub fn expected(from: &str, to: &str) -> Series {
    use fmp_simulator::{bars, history};

    let zone = jiff::tz::TimeZone::get(history::EXCHANGE_ZONE).unwrap();
    let date = |text: &str| Some(text.parse().unwrap());
    let history = history::History::new(bars::sample().unwrap(), date(from), date(to), &zone).unwrap();
    let of = |symbol: &str| {
        let symbol: Symbol = symbol.parse().unwrap();
        let track = history.track(&symbol).unwrap();
        let quotes = (0..track.len()).map(|number| track.quote(number));
        let entries = quotes.map(|quote| {
            (
                quote.price.normalize().to_string(),
                quote.timestamp,
                Some(quote.volume),
            )
        });
        (symbol, entries.collect())
    };
    SYMBOLS.map(of).into()
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
