//! AMQP with a feed's own user, through a port-forward: what anyone may publish, and a consumer of the test's own.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use contract::{
    names::{FeedName, routing_key},
    partition::partition_of,
    symbol::Symbol,
    tick::{CONTENT_TYPE, MESSAGE_TYPE, header},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use crate::{
    SYSTEM,
    cluster::{Cluster, value},
    forward::Forward,
    workload::system_selector,
};

/// The port of AMQP.
const PORT: u16 = 5672;
/// Messages that may be unconfirmed at once.
const WINDOW: usize = 2_000;
/// The generation of queues of a feed whose partitions were never changed.
const GENERATION: u32 = 1;
/// Messages are kept on disk.
const PERSISTENT: u8 = 2;
/// Before every processor's.
const FIRST_OF_ALL: i32 = i32::MAX;

/// A connection; its port-forward ends with it.
pub struct Amqp {
    connection: Connection,
    feed: FeedName,
    _forward: Forward,
}

/// A consumer that takes a few messages and does nothing with them, until it is dropped.
pub struct Holder {
    _channel: Channel,
    _consumer: Consumer,
}

impl Amqp {
    /// Connects as a feed's user, with what its Secret says.
    ///
    /// # Errors
    /// When the Secret is not there, or the broker does not answer.
    pub async fn connect(cluster: &Cluster, feed: &FeedName) -> Result<Self> {
        let secret = format!("{}-broker", feed.name());
        let texts = cluster.secret(feed.namespace(), &secret).await?;
        let forward = Forward::open(cluster, SYSTEM, &system_selector("rabbitmq"), PORT).await?;
        // Passwords of ours are letters and digits.
        let uri = format!(
            "amqp://{}:{}@{}/%2f",
            value(&texts, "username")?,
            value(&texts, "password")?,
            forward.address()
        );
        let connection = Connection::connect(&uri, ConnectionProperties::default())
            .await
            .context("failed to connect to RabbitMQ as the feed's user")?;
        Ok(Self {
            connection,
            feed: feed.clone(),
            _forward: forward,
        })
    }

    /// Publishes so many messages of one tick each, as the producer would, one symbol after the other. The ticks are of this
    /// exchange, a microsecond apart from this time on, and their volumes are 1, 2, 3, and so on. Returns when the broker has
    /// all of them.
    ///
    /// # Errors
    /// When the broker does not take one.
    pub async fn burst(
        &self,
        symbols: &[Symbol],
        partitions: u16,
        exchange: &str,
        from: jiff::Timestamp,
        messages: u32,
    ) -> Result<()> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let publisher = Uuid::now_v7().to_string();
        let mut sequences: BTreeMap<u16, i64> = BTreeMap::new();
        let mut under_way = VecDeque::with_capacity(WINDOW);
        for (number, symbol) in (1..=messages).zip(symbols.iter().cycle()) {
            let partition = partition_of(symbol, partitions);
            let sequence = sequences.entry(partition).or_default();
            *sequence += 1;
            let mut headers = FieldTable::default();
            headers.insert(
                header::PUBLISHER.into(),
                AMQPValue::LongString(publisher.clone().into()),
            );
            headers.insert(header::SEQUENCE.into(), AMQPValue::LongLongInt(*sequence));
            let properties = BasicProperties::default()
                .with_content_type(CONTENT_TYPE.into())
                .with_type(MESSAGE_TYPE.into())
                .with_delivery_mode(PERSISTENT)
                .with_headers(headers);
            let time = from + Duration::from_micros(number.into());
            let body = format!(
                r#"[{{"symbol":"{symbol}","price":"100.25","event_time":"{time}","volume":{number},"exchange":"{exchange}"}}]"#
            );
            if under_way.len() == WINDOW {
                confirm(under_way.pop_front()).await?;
            }
            let published = channel
                .basic_publish(
                    self.feed.exchange().into(),
                    routing_key(GENERATION, partition, symbol).into(),
                    BasicPublishOptions {
                        mandatory: true,
                        ..BasicPublishOptions::default()
                    },
                    body.as_bytes(),
                    properties,
                )
                .await?;
            under_way.push_back(published);
        }
        while !under_way.is_empty() {
            confirm(under_way.pop_front()).await?;
        }
        channel.close(200, "done".into()).await?;
        Ok(())
    }

    /// Takes a queue from its processor: a consumer that calls itself so, comes before all others, and acknowledges nothing.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn hold(&self, queue: &str, tag: &str) -> Result<Holder> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(5, BasicQosOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongInt(FIRST_OF_ALL));
        let consumer = channel
            .basic_consume(
                queue.into(),
                tag.into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await?;
        Ok(Holder {
            _channel: channel,
            _consumer: consumer,
        })
    }

    /// Closes it: what is held goes to others.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close(200, "done".into()).await?)
    }
}

async fn confirm(published: Option<lapin::PublisherConfirm>) -> Result<()> {
    if let Some(published) = published {
        let confirmation = published.await?;
        ensure!(
            matches!(confirmation, Confirmation::Ack(None)),
            "the broker did not take a message: {confirmation:?}"
        );
    }
    Ok(())
}
