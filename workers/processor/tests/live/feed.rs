//! The feed: its queues as the operator declares them, its schema, its credentials, its configuration.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use contract::{
    config::{BatchConfig, ProcessorConfig, QueueGeneration},
    names::{self, FeedName},
};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::json;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, postgres::PgRow};
use tempfile::TempDir;
use test_servers::{Addresses, TestBroker, TestDatabase};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that a test waits for.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub struct Feed {
    pub broker: TestBroker,
    pub database: TestDatabase,
    pub name: FeedName,
    symbols: Vec<String>,
    secrets: (TempDir, TempDir),
}

impl Feed {
    pub async fn new(addresses: &Addresses, symbols: &[&str]) -> Result<Self> {
        let broker = TestBroker::create_at(addresses).await?;
        let database = TestDatabase::create_at(addresses).await?;
        let name = FeedName::new("markets", format!("f{}", &database.name[20..]))?;
        let mut admin = database.connect().await?;
        schema::roles::ensure(&mut admin, &name).await?;
        schema::migrate(&mut admin, &name).await?;
        let password = SecretString::from("secret".to_owned());
        schema::roles::set_password(&mut admin, &name.writer_role(), &password).await?;
        let secrets = (broker.secret()?, database.secret(&name.writer_role(), "secret")?);
        let dead = json!({"durable": true, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": -1}});
        let path = format!("queues/{}/{}", broker.vhost, name.dead_letter_queue());
        broker.management(Method::PUT, &path, Some(dead)).await?;
        Ok(Self {
            broker,
            database,
            name,
            symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
            secrets,
        })
    }

    /// Declares a generation's queues, with the arguments of `operator/src/broker/topology.rs`.
    pub async fn declare(&self, queues: QueueGeneration) -> Result<()> {
        for partition in 0..queues.partitions {
            let arguments = json!({
                "x-queue-type": "quorum",
                "x-single-active-consumer": true,
                "x-delivery-limit": 200,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.name.dead_letter_queue(),
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            });
            let queue = self.name.queue(queues.generation, partition);
            let key = names::binding_key(queues.generation, partition);
            self.broker
                .declare(&self.name.exchange(), &queue, &key, arguments)
                .await?;
        }
        Ok(())
    }

    /// A configuration as the operator renders it; a test changes what it wants otherwise.
    pub fn config(&self, queues: QueueGeneration) -> Result<ProcessorConfig> {
        Ok(ProcessorConfig {
            feed: self.name.clone(),
            symbols: self
                .symbols
                .iter()
                .map(|symbol| symbol.parse())
                .collect::<Result<_, _>>()?,
            queues: vec![queues],
            windows: vec!["1m".parse()?],
            out_of_orderness: Duration::from_secs(5),
            allowed_lateness: Duration::from_secs(12 * 3_600),
            max_future: Duration::from_secs(3_600),
            max_age: None,
            // Beyond every outage that a test makes: what is late is not lost, and must not be reported as lost.
            gap_timeout: PATIENCE,
            batch: BatchConfig::default(),
            broker_directory: self.secrets.0.path().to_owned(),
            database_directory: self.secrets.1.path().to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    }

    pub fn broker_directory(&self) -> &Path {
        self.secrets.0.path()
    }

    /// The database's credentials with another port: somebody stands between.
    pub fn database_secret_at(&self, port: u16) -> Result<TempDir> {
        let folder = self.database.secret(&self.name.writer_role(), "secret")?;
        std::fs::write(folder.path().join("port"), port.to_string())?;
        Ok(folder)
    }

    /// A connection of the superuser in the feed's schema. It may write when nobody else may.
    pub async fn connect(&self) -> Result<PgConnection> {
        let settings = [
            ("search_path", self.name.schema()),
            ("default_transaction_read_only", "off".to_owned()),
        ];
        let options = self
            .database
            .options
            .clone()
            .application_name("test")
            .options(settings);
        Ok(sqlx::ConnectOptions::connect(&options).await?)
    }

    pub async fn execute(&self, statements: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    pub async fn rows<T: for<'row> FromRow<'row, PgRow> + Send + Unpin>(
        &self,
        query: &str,
    ) -> Result<Vec<T>> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query_as(AssertSqlSafe(query.to_owned())).fetch_all(&mut connection);
        Ok(rows.await?)
    }

    /// One number. What `sum` gives of nothing is zero.
    pub async fn number(&self, query: &str) -> Result<i64> {
        let rows: Vec<(Option<i64>,)> = self.rows(&format!("SELECT ({query})::bigint")).await?;
        Ok(rows.first().and_then(|row| row.0).unwrap_or_default())
    }

    /// Waits until a query gives a number; servers that are down meanwhile are waited for too.
    pub async fn until_number(&self, query: &str, expected: i64, patience: Duration) -> Result<()> {
        let mut last = None;
        until(patience, async || {
            last = self.number(query).await.ok();
            Ok(last == Some(expected))
        })
        .await
        .with_context(|| format!("{query} is {last:?}, not {expected}"))
    }

    /// Messages in the queues whose name begins with a prefix, ready and unacknowledged.
    pub async fn messages_in(&self, prefix: &str) -> Result<i64> {
        let path = format!("queues/{}", self.broker.vhost);
        let queues = self.broker.management(Method::GET, &path, None).await?;
        let mut messages = 0;
        for queue in queues.as_array().into_iter().flatten() {
            if queue["name"]
                .as_str()
                .is_some_and(|name| name.starts_with(prefix))
            {
                // Not counted yet is not empty.
                messages += queue["messages"].as_i64().unwrap_or(1);
            }
        }
        Ok(messages)
    }

    pub async fn until_empty(&self, prefix: &str, patience: Duration) -> Result<()> {
        let mut last = None;
        until(patience, async || {
            last = self.messages_in(prefix).await.ok();
            Ok(last == Some(0))
        })
        .await
        .with_context(|| format!("queues {prefix}* hold {last:?} messages"))
    }
}

/// Looks at a condition until it holds.
pub async fn until(patience: Duration, mut holds: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let wait = async {
        while !holds().await? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    };
    tokio::time::timeout(patience, wait)
        .await
        .context("waited too long")?
}
