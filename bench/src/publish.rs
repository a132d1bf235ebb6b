//! Publishing as the producer does: persistent, mandatory, confirmed.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use contract::{
    event_time::EventTime,
    names,
    tick::{CONTENT_TYPE, MESSAGE_TYPE, header},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use service::credentials::BrokerCredentials;
use uuid::Uuid;

use crate::{
    load::{self, Message},
    stand::{Feed, GENERATION},
};

/// Messages that are under way at once.
const WINDOW: usize = 4_000;
const PERSISTENT: u8 = 2;

/// One publisher with a connection of its own.
#[derive(Debug)]
pub struct Publisher {
    exchange: String,
    symbols: Vec<contract::symbol::Symbol>,
    id: Uuid,
    channel: Channel,
    connection: Connection,
    under_way: VecDeque<PublisherConfirm>,
}

impl Publisher {
    /// Connects.
    pub async fn connect(feed: &Feed) -> Result<Self> {
        let credentials = BrokerCredentials::read(feed.broker_directory())?;
        let connection = service::amqp::connect(&credentials, &feed.name, "benchmark's publisher").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self {
            exchange: feed.name.exchange(),
            symbols: load::symbols()?,
            id: Uuid::now_v7(),
            channel,
            connection,
            under_way: VecDeque::with_capacity(WINDOW),
        })
    }

    /// Publishes one message; waits only when too many are not confirmed. Returns the time in its header.
    pub async fn publish(&mut self, message: &Message) -> Result<EventTime> {
        if self.under_way.len() == WINDOW {
            self.confirm_oldest().await?;
        }
        let Message {
            partition,
            symbol,
            sequence,
            ref body,
            ..
        } = *message;
        let published_at = service::clock::event_time();
        let mut headers = FieldTable::default();
        headers.insert(
            header::PUBLISHER.into(),
            AMQPValue::LongString(self.id.to_string().into()),
        );
        headers.insert(
            header::SEQUENCE.into(),
            AMQPValue::LongLongInt(sequence.cast_signed()),
        );
        headers.insert(
            header::PUBLISHED_AT.into(),
            AMQPValue::LongLongInt(published_at.as_microseconds()),
        );
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_type(MESSAGE_TYPE.into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(format!("{}/{partition}/{sequence}", self.id).into())
            .with_headers(headers);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = self
            .channel
            .basic_publish(
                self.exchange.as_str().into(),
                names::routing_key(GENERATION, partition, &self.symbols[symbol]).into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await?;
        self.under_way.push_back(confirm);
        Ok(published_at)
    }

    /// Publishes all and waits until the broker has them.
    pub async fn fill(&mut self, messages: impl Iterator<Item = Message>) -> Result<u64> {
        let mut count = 0;
        for message in messages {
            self.publish(&message).await?;
            count += 1;
        }
        self.confirm_all().await?;
        Ok(count)
    }

    /// Waits until nothing is under way.
    pub async fn confirm_all(&mut self) -> Result<()> {
        while !self.under_way.is_empty() {
            self.confirm_oldest().await?;
        }
        Ok(())
    }

    /// Closes the connection.
    pub async fn close(mut self) -> Result<()> {
        self.confirm_all().await?;
        Ok(self.connection.close(200, "done".into()).await?)
    }

    async fn confirm_oldest(&mut self) -> Result<()> {
        if let Some(confirm) = self.under_way.pop_front() {
            let confirmation = confirm.await?;
            ensure!(
                matches!(confirmation, Confirmation::Ack(None)),
                "the broker did not take a message: {confirmation:?}"
            );
        }
        Ok(())
    }
}
