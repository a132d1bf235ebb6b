//! A publisher that keeps what the broker has not confirmed, and sends it again under the same number.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use contract::{
    names::FeedName,
    tick::{self, header},
};
use futures::stream::{FuturesUnordered, StreamExt as _};
use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use service::credentials::BrokerCredentials;
use uuid::Uuid;

/// How long a confirmation may take before the connection is taken for dead.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_millis(200);

/// A message as it goes over the wire.
#[derive(Clone, Debug)]
pub struct Letter {
    pub routing_key: String,
    pub kind: &'static str,
    pub publisher: Uuid,
    pub sequence: u64,
    /// Microseconds since the epoch, of a heartbeat.
    pub heartbeat: Option<String>,
    pub body: Vec<u8>,
}

pub struct Outbox {
    feed: FeedName,
    credentials: PathBuf,
    link: Option<(Connection, Channel)>,
    /// Letters that were sent more than once.
    pub repeated: u64,
}

impl Outbox {
    pub fn new(feed: FeedName, credentials: PathBuf) -> Self {
        Self {
            feed,
            credentials,
            link: None,
            repeated: 0,
        }
    }

    /// Publishes letters in their order and returns when the broker has confirmed all of them. After a lost connection all
    /// that are not confirmed are sent again, though the broker may well have them.
    pub async fn send(&mut self, letters: &[Letter]) {
        let mut waiting: Vec<&Letter> = letters.iter().collect();
        loop {
            match self.attempt(&mut waiting).await {
                Ok(()) => return,
                Err(_broken) => {
                    // That servers go is what these tests are about; whether everything arrived is seen at their end.
                    self.repeated += waiting.len() as u64;
                    self.link = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Publishes what waits; what is confirmed waits no longer, whether all of it was or not.
    async fn attempt(&mut self, waiting: &mut Vec<&Letter>) -> Result<()> {
        let exchange = self.feed.exchange();
        let channel = self.channel().await?.clone();
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut confirmed = vec![false; waiting.len()];
        let mut confirmations = FuturesUnordered::new();
        let mut result = anyhow::Ok(());
        for (place, letter) in waiting.iter().enumerate() {
            let published = channel
                .basic_publish(
                    exchange.as_str().into(),
                    letter.routing_key.as_str().into(),
                    options,
                    &letter.body,
                    letter.properties(),
                )
                .await;
            match published {
                Ok(confirmation) => confirmations.push(async move { (place, confirmation.await) }),
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        let all = async {
            while let Some((place, confirmation)) = confirmations.next().await {
                let confirmation = confirmation?;
                // One that was returned is acknowledged too, but it is in no queue.
                confirmed[place] = confirmation.is_ack() && confirmation.take_message().is_none();
            }
            anyhow::Ok(())
        };
        let all = tokio::time::timeout(CONFIRMED_WITHIN, all)
            .await
            .context("no confirmation");
        let mut places = confirmed.iter();
        waiting.retain(|_| !places.next().copied().unwrap_or_default());
        result?;
        all??;
        ensure!(waiting.is_empty(), "{} letters were refused", waiting.len());
        Ok(())
    }

    async fn channel(&mut self) -> Result<&Channel> {
        let usable = |(connection, channel): &(Connection, Channel)| {
            connection.status().connected() && channel.status().connected()
        };
        if !self.link.as_ref().is_some_and(usable) {
            self.link = None;
            let credentials = BrokerCredentials::read(&self.credentials)?;
            let connection = service::amqp::connect(&credentials, &self.feed, "publisher").await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            self.link = Some((connection, channel));
        }
        let (_, channel) = self.link.as_ref().context("not connected")?;
        Ok(channel)
    }
}

impl Letter {
    fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        let publisher = AMQPValue::LongString(self.publisher.to_string().into());
        headers.insert(header::PUBLISHER.into(), publisher);
        let sequence = AMQPValue::LongLongInt(self.sequence.cast_signed());
        headers.insert(header::SEQUENCE.into(), sequence);
        if let Some(time) = &self.heartbeat {
            let time = AMQPValue::LongString(time.as_str().into());
            headers.insert(header::EVENT_TIME.into(), time);
        }
        BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type(tick::CONTENT_TYPE.into())
            .with_type(self.kind.into())
            .with_headers(headers)
    }
}
