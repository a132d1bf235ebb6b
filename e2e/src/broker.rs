//! RabbitMQ's management API, through a port-forward.

use anyhow::{Context as _, Result, bail};
use contract::names::FeedName;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    RELEASE, SYSTEM,
    cluster::{Cluster, value},
    forward::Forward,
    workload::system_selector,
};

/// The installation's broker, with the rights of its administrator.
#[derive(Debug)]
pub struct Broker {
    forward: Forward,
    client: reqwest::Client,
    username: String,
    password: String,
}

/// The most messages that are taken from a tap at once.
const TAKEN_AT_ONCE: usize = 2_000;

/// A message that a tap got.
#[derive(Clone, Debug, Deserialize)]
pub struct Tapped {
    /// The key it was published with.
    pub routing_key: String,
    /// Its body.
    pub payload: String,
    properties: Properties,
}

#[derive(Clone, Debug, Deserialize)]
struct Properties {
    #[serde(default)]
    headers: Value,
}

impl Tapped {
    /// The run of the producer that it came from.
    #[must_use]
    pub fn publisher(&self) -> &str {
        self.properties.headers["publisher"].as_str().unwrap_or_default()
    }
}

/// A queue.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages in it, unacknowledged ones included. Absent for a moment after the queue was made.
    #[serde(default)]
    pub messages: u64,
    /// Those that no consumer was given.
    #[serde(default)]
    pub messages_ready: u64,
    /// Absent until something happened in it.
    #[serde(default)]
    message_stats: Stats,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Stats {
    #[serde(default)]
    redeliver: u64,
}

impl Queue {
    /// Messages that were delivered again, since the queue was made.
    #[must_use]
    pub fn redelivered(&self) -> u64 {
        self.message_stats.redeliver
    }
}

impl Broker {
    /// Opens a way to it.
    ///
    /// # Errors
    /// When its Secret is not there.
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        let texts = cluster.secret(SYSTEM, &format!("{RELEASE}-rabbitmq")).await?;
        Ok(Self {
            forward: Forward::open(cluster, SYSTEM, &system_selector("rabbitmq"), 15672).await?,
            client: reqwest::Client::new(),
            username: value(&texts, "username")?.to_owned(),
            password: value(&texts, "password")?.to_owned(),
        })
    }

    /// The queues of a feed.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn queues(&self, feed: &FeedName) -> Result<Vec<Queue>> {
        let all = self
            .request(Method::GET, "queues/%2F", None)
            .await?
            .context("there is no list of queues")?;
        let all: Vec<Queue> = serde_json::from_value(all).context("failed to read the list of queues")?;
        let prefix = format!("{}.", feed.broker_user());
        Ok(all
            .into_iter()
            .filter(|queue| queue.name.starts_with(&prefix))
            .collect())
    }

    /// Whether the feed's exchange is there.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn has_exchange(&self, feed: &FeedName) -> Result<bool> {
        let found = self
            .request(Method::GET, &format!("exchanges/%2F/{}", feed.exchange()), None)
            .await?;
        Ok(found.is_some())
    }

    /// Whether the feed's user is there.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn has_user(&self, feed: &FeedName) -> Result<bool> {
        let found = self
            .request(Method::GET, &format!("users/{}", feed.broker_user()), None)
            .await?;
        Ok(found.is_some())
    }

    /// Makes a queue that gets a copy of everything that is published to the feed's exchange from now on.
    ///
    /// # Errors
    /// When the exchange is not there, or the broker does not answer.
    pub async fn tap(&self, feed: &FeedName) -> Result<()> {
        let name = tap_name(feed);
        let queue = json!({"durable": true, "arguments": {"x-queue-type": "classic"}});
        self.request(Method::PUT, &format!("queues/%2F/{name}"), Some(queue))
            .await?;
        let path = format!("bindings/%2F/e/{}/q/{name}", feed.exchange());
        let bound = self
            .request(
                Method::POST,
                &path,
                Some(json!({"routing_key": "#", "arguments": {}})),
            )
            .await?;
        bound.context("there is no exchange to tap").map(drop)
    }

    /// Takes everything that the tap got, in the order of its publication.
    ///
    /// # Errors
    /// When there is no tap, or the broker does not answer.
    pub async fn take_tapped(&self, feed: &FeedName) -> Result<Vec<Tapped>> {
        let path = format!("queues/%2F/{}/get", tap_name(feed));
        let question = json!({"count": TAKEN_AT_ONCE, "ackmode": "ack_requeue_false", "encoding": "auto"});
        let mut all = Vec::new();
        loop {
            let some = self.request(Method::POST, &path, Some(question.clone())).await?;
            let some: Vec<Tapped> = serde_json::from_value(some.context("there is no tap")?)
                .context("failed to read what was tapped")?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some);
        }
    }

    /// Removes what a feed left in the broker.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn purge(&self, feed: &FeedName) -> Result<()> {
        for queue in self.queues(feed).await? {
            self.request(Method::DELETE, &format!("queues/%2F/{}", queue.name), None)
                .await?;
        }
        for path in [
            format!("queues/%2F/{}", tap_name(feed)),
            format!("exchanges/%2F/{}", feed.exchange()),
            format!("users/{}", feed.broker_user()),
        ] {
            self.request(Method::DELETE, &path, None).await?;
        }
        Ok(())
    }

    /// The answer's body; `None` when there is no such thing.
    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Option<Value>> {
        let url = format!("{}/api/{path}", self.forward.url());
        let mut request = self
            .client
            .request(method, url)
            .basic_auth(&self.username, Some(&self.password));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.context("RabbitMQ does not answer")?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::NO_CONTENT | StatusCode::CREATED => Ok(Some(Value::Null)),
            status if status.is_success() => Ok(Some(
                response.json().await.context("RabbitMQ did not answer in JSON")?,
            )),
            status => bail!("RabbitMQ answered {status} to {path}"),
        }
    }
}

/// Not one of the feed's own names, so that neither the feed nor its deletion touches it.
fn tap_name(feed: &FeedName) -> String {
    format!("tap.{}.{}", feed.namespace(), feed.name())
}
