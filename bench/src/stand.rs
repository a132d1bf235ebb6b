//! The test stand: both servers, and feeds in them as the operator would make them.

use std::{
    cell::Cell,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use contract::{
    config::{BatchConfig, ProcessorConfig, QueueGeneration},
    names::{self, FeedName},
};
use reqwest::Method;
use schema::roles;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use test_servers::{TestBroker, TestDatabase};

use crate::{load, measure::process};

/// The generation of all queues.
pub const GENERATION: u32 = 1;
const PASSWORD: &str = "benchmark";

/// What the operator renders but for the names: the example of the contract.
const CONFIG: &str = include_str!("../../workers/contract/examples/processor.json");

/// Both servers, and the program that is measured.
#[derive(Debug)]
pub struct Stand {
    broker: TestBroker,
    database: TestDatabase,
    /// The processor's binary.
    pub processor: PathBuf,
    /// Under which all processes of the broker are.
    broker_process: u32,
    /// Under which all processes of the database are.
    database_process: u32,
    feeds: Cell<u32>,
}

/// Processor time of both servers, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct ServerTime {
    /// The broker with all it started.
    pub broker: f64,
    /// The database with all its processes.
    pub database: f64,
}

/// The versions of the servers.
#[derive(Clone, Debug, Serialize)]
pub struct Versions {
    /// RabbitMQ.
    pub broker: String,
    /// PostgreSQL.
    pub database: String,
}

impl Stand {
    /// Finds the servers by the environment that `cargo xtask bench` sets.
    pub async fn new(processor: PathBuf, broker_process: u32, database_process: u32) -> Result<Self> {
        Ok(Self {
            broker: TestBroker::create().await?,
            database: TestDatabase::create().await?,
            processor,
            broker_process,
            database_process,
            feeds: Cell::new(0),
        })
    }

    /// What the servers have used so far.
    pub fn server_time(&self) -> Result<ServerTime> {
        Ok(ServerTime {
            broker: process::tree_seconds(self.broker_process)?,
            database: process::tree_seconds(self.database_process)?,
        })
    }

    /// What the servers are.
    pub async fn versions(&self) -> Result<Versions> {
        let overview = self.broker.management(Method::GET, "overview", None).await?;
        let mut connection = self.database.connect().await?;
        Ok(Versions {
            broker: overview["rabbitmq_version"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            database: sqlx::query_scalar("SHOW server_version")
                .fetch_one(&mut connection)
                .await?,
        })
    }

    /// A feed of its own: roles, schema, queues, and credentials in folders.
    pub async fn feed(&self, partitions: u16) -> Result<Feed> {
        self.feeds.set(self.feeds.get() + 1);
        // Roles are the whole server's, and an earlier run may have left some: the database's own name makes them unique.
        let unique = &self.database.name[self.database.name.len() - 12..];
        let name = FeedName::new("bench", format!("feed{}n{unique}", self.feeds.get()))?;
        let mut admin = self.database.connect().await?;
        roles::ensure(&mut admin, &name).await?;
        schema::migrate(&mut admin, &name).await?;
        roles::set_password(&mut admin, &name.writer_role(), &PASSWORD.to_owned().into()).await?;
        self.declare(&name, partitions).await?;
        let broker = self.broker.secret()?;
        let database = self.database.secret(&name.writer_role(), PASSWORD)?;
        let mut config = ProcessorConfig::parse(CONFIG)?;
        config.feed = name.clone();
        config.symbols = load::symbols()?;
        config.queues = vec![QueueGeneration {
            generation: GENERATION,
            partitions,
        }];
        config.broker_directory = broker.path().to_owned();
        config.database_directory = database.path().to_owned();
        config.batch = BatchConfig::default();
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("processor.json");
        std::fs::write(&file, config.render())?;
        Ok(Feed {
            name,
            partitions,
            config: file,
            broker,
            database,
            _folder: folder,
        })
    }

    /// Removes a feed, so that the next run finds the servers as this one did. Then writes out what the database holds
    /// back, so that it does not do so in the middle of the next run.
    pub async fn remove(&self, feed: Feed) -> Result<()> {
        let vhost = &self.broker.vhost;
        let queues = (0..feed.partitions).map(|partition| feed.name.queue(GENERATION, partition));
        for queue in queues.chain([feed.name.dead_letter_queue()]) {
            self.broker
                .management(Method::DELETE, &format!("queues/{vhost}/{queue}"), None)
                .await?;
        }
        let mut admin = self.database.connect().await?;
        schema::drop(&mut admin, &feed.name).await?;
        self.settle().await
    }

    /// Lets both servers finish what they do in the background, before something is measured.
    pub async fn settle(&self) -> Result<()> {
        let mut admin = self.database.connect().await?;
        sqlx::raw_sql("CHECKPOINT").execute(&mut admin).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    }

    /// A superuser's connection whose search path is the feed's schema.
    pub async fn connect(&self, feed: &Feed) -> Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options(feed)).await?)
    }

    /// How to open such a connection elsewhere.
    pub fn options(&self, feed: &Feed) -> PgConnectOptions {
        let path = [("search_path", feed.name.schema())];
        self.database.options.clone().options(path)
    }

    /// Exchange and queues with the arguments of the operator (`operator/src/broker/topology.rs`).
    async fn declare(&self, name: &FeedName, partitions: u16) -> Result<()> {
        let dead = name.dead_letter_queue();
        let vhost = &self.broker.vhost;
        let dead_arguments = json!({"x-queue-type": "quorum", "x-delivery-limit": -1});
        let durable = json!({"durable": true, "arguments": dead_arguments});
        self.broker
            .management(Method::PUT, &format!("queues/{vhost}/{dead}"), Some(durable))
            .await?;
        for partition in 0..partitions {
            self.broker
                .declare(
                    &name.exchange(),
                    &name.queue(GENERATION, partition),
                    &names::binding_key(GENERATION, partition),
                    arguments(&dead),
                )
                .await
                .context("failed to declare a partition's queue")?;
        }
        Ok(())
    }
}

fn arguments(dead: &str) -> Value {
    json!({
        "x-queue-type": "quorum",
        "x-single-active-consumer": true,
        "x-delivery-limit": 200,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    })
}

/// A feed in the servers. Its folders with credentials end with it.
#[derive(Debug)]
pub struct Feed {
    /// Its name.
    pub name: FeedName,
    /// How many partitions.
    pub partitions: u16,
    /// The processor's configuration.
    pub config: PathBuf,
    broker: TempDir,
    database: TempDir,
    _folder: TempDir,
}

impl Feed {
    /// The folder of the broker's credentials.
    pub fn broker_directory(&self) -> &Path {
        self.broker.path()
    }

    /// The folder of the database's credentials.
    pub fn database_directory(&self) -> &Path {
        self.database.path()
    }

    /// The queues, joined by commas.
    pub fn queues(&self) -> String {
        (0..self.partitions)
            .map(|partition| self.name.queue(GENERATION, partition))
            .collect::<Vec<_>>()
            .join(",")
    }
}
