//! RabbitMQ's management API, through a port-forward.

use anyhow::{Context as _, Result, bail};
use contract::names::FeedName;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

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

/// A queue.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages in it, unacknowledged ones included. Absent for a moment after the queue was made.
    #[serde(default)]
    pub messages: u64,
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
            .request(Method::GET, "queues/%2F")
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
            .request(Method::GET, &format!("exchanges/%2F/{}", feed.exchange()))
            .await?;
        Ok(found.is_some())
    }

    /// Whether the feed's user is there.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn has_user(&self, feed: &FeedName) -> Result<bool> {
        let found = self
            .request(Method::GET, &format!("users/{}", feed.broker_user()))
            .await?;
        Ok(found.is_some())
    }

    /// Removes what a feed left in the broker.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn purge(&self, feed: &FeedName) -> Result<()> {
        for queue in self.queues(feed).await? {
            self.request(Method::DELETE, &format!("queues/%2F/{}", queue.name))
                .await?;
        }
        self.request(Method::DELETE, &format!("exchanges/%2F/{}", feed.exchange()))
            .await?;
        self.request(Method::DELETE, &format!("users/{}", feed.broker_user()))
            .await?;
        Ok(())
    }

    /// The answer's body; `None` when there is no such thing.
    async fn request(&self, method: Method, path: &str) -> Result<Option<Value>> {
        let url = format!("{}/api/{path}", self.forward.url());
        let request = self
            .client
            .request(method, url)
            .basic_auth(&self.username, Some(&self.password));
        let response = request.send().await.context("RabbitMQ does not answer")?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::NO_CONTENT => Ok(Some(Value::Null)),
            status if status.is_success() => Ok(Some(
                response.json().await.context("RabbitMQ did not answer in JSON")?,
            )),
            status => bail!("RabbitMQ answered {status} to {path}"),
        }
    }
}
