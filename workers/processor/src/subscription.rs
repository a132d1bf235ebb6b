//! A consumer of one queue, and how much it is given unacknowledged.
//!
//! The broker limits that by a count of messages only, fixed when a consumer begins. What the memory bears is a number of
//! bytes, so the count has to follow the size of the messages. To change it, a second consumer joins with a higher priority:
//! the broker stops delivering to the first, and hands the queue over once that has settled all that it was given. So
//! nothing is delivered twice, out of order, or to somebody else.

use std::future::pending;

use futures::{FutureExt as _, StreamExt as _};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt as _, Snafu};
use tokio::task::JoinHandle;
use tracing::debug;
use uuid::Uuid;

use crate::store::PartitionId;

/// What a consumer is given before the size of its messages is known.
const FIRST_PREFETCH: u16 = 64;
/// What a delivery takes beside its body, in bytes: its properties, and the client's bookkeeping.
const OVERHEAD: usize = 300;
/// Priorities of one replica for one queue: each change of the prefetch takes the next.
const CHANGES: i32 = 1 << 8;

/// Why a queue cannot be consumed.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The broker refused, or the channel is gone.
    #[snafu(display("failed to {action} queue {queue}"))]
    Broker {
        /// What was attempted.
        action: &'static str,
        /// Which queue.
        queue: String,
        /// Why. Boxed: it is large.
        source: Box<lapin::Error>,
    },
    /// The broker ended the consumer, for example because the queue was deleted.
    #[snafu(display("the broker cancelled the consumer of queue {queue}"))]
    Cancelled {
        /// Which queue.
        queue: String,
    },
}

/// How much may be held unacknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of bodies and what they take beside.
    pub bytes: usize,
    /// Messages.
    pub messages: u16,
}

/// Consumes one queue.
#[derive(Debug)]
pub struct Subscription<'a> {
    connection: &'a Connection,
    instance: &'a str,
    id: PartitionId,
    queue: String,
    budget: Budget,
    /// The size of a message, averaged over the last ones; zero before the first.
    average: usize,
    changes: i32,
    current: Leg,
    /// Joined with a higher priority, and waits until `current` has settled all.
    upcoming: Option<Leg>,
    /// Ends the consumer before `current`, and its channel.
    closing: Option<JoinHandle<()>>,
}

/// One channel with one consumer.
#[derive(Debug)]
struct Leg {
    channel: Channel,
    consumer: Consumer,
    prefetch: u16,
    /// The last delivery's tag. Tags count from one.
    delivered: u64,
    /// The last one that was acknowledged.
    acknowledged: u64,
    /// Whether it is the last one, which is given one message at a time.
    narrow: bool,
}

impl<'a> Subscription<'a> {
    /// Begins to consume.
    ///
    /// # Errors
    /// When the broker refuses or the connection is lost.
    pub async fn begin(
        connection: &'a Connection,
        instance: &'a str,
        id: PartitionId,
        queue: String,
        budget: Budget,
    ) -> Result<Self, Error> {
        let prefetch = FIRST_PREFETCH.min(budget.messages);
        let current = Leg::begin(connection, instance, id, &queue, prefetch, 0).await?;
        Ok(Self {
            connection,
            instance,
            id,
            queue,
            budget,
            average: 0,
            changes: 0,
            current,
            upcoming: None,
            closing: None,
        })
    }

    /// The next delivery, when there is one. May be dropped: nothing is lost.
    ///
    /// # Errors
    /// When the broker ended the consumer, or the channel is gone.
    pub async fn next(&mut self) -> Result<Delivery, Error> {
        let settled = self.current.delivered == self.current.acknowledged;
        let upcoming = async {
            match &mut self.upcoming {
                // While something of the first is unsettled the broker delivers nothing to the second.
                Some(leg) if settled => leg.consumer.next().await,
                _ => pending().await,
            }
        };
        let (received, moved) = tokio::select! {
            biased;
            received = self.current.consumer.next() => (received, false),
            received = upcoming => (received, true),
        };
        if moved {
            self.move_on();
        }
        self.accept(received)
    }

    /// A delivery that is there already.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn poll(&mut self) -> Result<Option<Delivery>, Error> {
        match self.current.consumer.next().now_or_never() {
            Some(received) => self.accept(received).map(Some),
            None => Ok(None),
        }
    }

    fn accept(&mut self, received: Option<Result<Delivery, lapin::Error>>) -> Result<Delivery, Error> {
        let queue = &self.queue;
        let delivery = received.ok_or_else(|| CancelledSnafu { queue }.build())?;
        let action = "receive from";
        let delivery = delivery
            .map_err(Box::new)
            .context(BrokerSnafu { action, queue })?;
        self.current.delivered = delivery.delivery_tag;
        Ok(delivery)
    }

    /// The second consumer has become the active one.
    fn move_on(&mut self) {
        let Some(next) = self.upcoming.take() else {
            return;
        };
        let before = std::mem::replace(&mut self.current, next);
        debug!(
            queue = self.queue,
            prefetch = self.current.prefetch,
            "The prefetch has changed"
        );
        // The channel has nothing left, so deliveries need not wait for that. The queue hears of a channel's end only later, so the
        // consumer is cancelled first: until then it could become the active one once more.
        let queue = self.queue.clone();
        self.closing = Some(tokio::spawn(async move {
            before.cancel(&queue).await.ok();
            before.channel.close(200, "done".into()).await.ok();
        }));
    }

    /// Acknowledges everything up to a tag.
    ///
    /// # Errors
    /// When the channel is gone.
    pub async fn acknowledge(&mut self, tag: u64) -> Result<(), Error> {
        let options = BasicAckOptions { multiple: true };
        let acknowledged = self.current.channel.basic_ack(tag, options).await;
        acknowledged.map_err(Box::new).context(BrokerSnafu {
            action: "acknowledge to",
            queue: &self.queue,
        })?;
        self.current.acknowledged = tag;
        Ok(())
    }

    /// Adapts the prefetch to what was just committed: `messages` of together `bytes`.
    ///
    /// # Errors
    /// When the broker refuses or the connection is lost.
    pub async fn adapt(&mut self, messages: usize, bytes: usize) -> Result<(), Error> {
        let Some(size) = bytes.checked_div(messages) else {
            return Ok(());
        };
        // Larger messages count at once, smaller ones by and by.
        self.average = match self.average {
            0 => size,
            average => size.max((average * 3 + size) / 4),
        };
        let wanted = self.budget.prefetch(self.average);
        let has = self.current.prefetch;
        let held = self.current.delivered - self.current.acknowledged;
        // Half of it was in use: more would be put to use as well.
        let grow = wanted / 2 >= has && (messages as u64 + held) * 2 >= u64::from(has);
        let shrink = wanted <= has / 2;
        // One more is left for the end.
        if self.upcoming.is_some() || !(grow || shrink) || self.changes + 2 >= CHANGES {
            return Ok(());
        }
        self.changes += 1;
        let leg = Leg::begin(
            self.connection,
            self.instance,
            self.id,
            &self.queue,
            wanted,
            self.changes,
        );
        self.upcoming = Some(leg.await?);
        Ok(())
    }

    /// How much is given unacknowledged.
    #[must_use]
    pub const fn prefetch(&self) -> u16 {
        self.current.prefetch
    }

    /// Begins to end: a second consumer joins that is given one message at a time. Once that is the active one and holds its
    /// message, nothing is on its way to this replica any more. A consumer that is simply cancelled may have been sent something
    /// that arrives after the cancellation, belongs to nobody then, and is delivered to the next owner after newer messages.
    ///
    /// Call it until [`Subscription::is_narrow`]: a change of the prefetch that is under way comes first.
    ///
    /// # Errors
    /// When the broker refuses or the connection is lost.
    pub async fn narrow(&mut self) -> Result<(), Error> {
        if self.upcoming.is_some() || self.is_narrow() {
            return Ok(());
        }
        self.changes += 1;
        let mut leg = Leg::begin(
            self.connection,
            self.instance,
            self.id,
            &self.queue,
            1,
            self.changes,
        )
        .await?;
        leg.narrow = true;
        self.upcoming = Some(leg);
        Ok(())
    }

    /// Whether the active consumer is the one that is given one message at a time.
    #[must_use]
    pub const fn is_narrow(&self) -> bool {
        self.current.narrow
    }

    /// Tells the broker to deliver no more. What it has delivered is still there: see [`Subscription::rest`].
    ///
    /// # Errors
    /// When the channel is gone.
    pub async fn cancel(&mut self) -> Result<(), Error> {
        // The consumer before would become the active one, as long as it is there, and what it was given would be delivered again.
        if let Some(closing) = self.closing.take() {
            closing.await.ok();
        }
        let settled = self.current.delivered == self.current.acknowledged;
        match &mut self.upcoming {
            // The second one is active, and becomes the current one. The first gets nothing as long as the second is there.
            Some(upcoming) if settled => {
                self.current.cancel(&self.queue).await?;
                std::mem::swap(&mut self.current, upcoming);
            }
            // Without the first one the second would become active.
            Some(upcoming) => upcoming.cancel(&self.queue).await?,
            None => {}
        }
        self.current.cancel(&self.queue).await
    }

    /// What was delivered before [`Subscription::cancel`]; `None` at its end.
    ///
    /// # Errors
    /// When the channel is gone.
    pub async fn rest(&mut self) -> Result<Option<Delivery>, Error> {
        match self.current.consumer.next().await {
            Some(received) => self.accept(Some(received)).map(Some),
            None => Ok(None),
        }
    }

    /// Goes on with the rest of the other consumer, if there is one. Everything must be acknowledged.
    pub fn move_on_with_rest(&mut self) -> bool {
        let there = self.upcoming.is_some();
        self.move_on();
        there
    }

    /// Closes the channel. What is not acknowledged goes to the next consumer at once.
    pub async fn close(self) {
        for leg in [Some(self.current), self.upcoming].into_iter().flatten() {
            if leg.channel.status().connected() {
                leg.channel.close(200, "done".into()).await.ok();
            }
        }
    }
}

impl Budget {
    /// How many messages of a size fit.
    fn prefetch(self, size: usize) -> u16 {
        let fitting = self.bytes / (size + OVERHEAD);
        u16::try_from(fitting)
            .unwrap_or(u16::MAX)
            .clamp(1, self.messages.max(1))
    }
}

impl Leg {
    async fn begin(
        connection: &Connection,
        instance: &str,
        id: PartitionId,
        queue: &str,
        prefetch: u16,
        change: i32,
    ) -> Result<Self, Error> {
        let broker = |action| BrokerSnafu { action, queue };
        let channel = connection
            .create_channel()
            .await
            .map_err(Box::new)
            .context(broker("open a channel for"))?;
        // Per consumer; a quorum queue refuses a global limit.
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await
            .map_err(Box::new)
            .context(broker("set the prefetch for"))?;
        let mut arguments = FieldTable::default();
        let priority = priority(instance, id) * CHANGES + change;
        arguments.insert("x-priority".into(), AMQPValue::LongInt(priority));
        let tag = format!("{instance} {}", Uuid::now_v7());
        let consumer = channel
            .basic_consume(
                queue.into(),
                tag.as_str().into(),
                BasicConsumeOptions::default(),
                arguments,
            )
            .await
            .map_err(Box::new)
            .context(broker("consume"))?;
        Ok(Self {
            channel,
            consumer,
            prefetch,
            delivered: 0,
            acknowledged: 0,
            narrow: false,
        })
    }

    async fn cancel(&self, queue: &str) -> Result<(), Error> {
        let tag = self.consumer.tag();
        let cancelled = self.channel.basic_cancel(tag, BasicCancelOptions::default());
        cancelled.await.map_err(Box::new).context(BrokerSnafu {
            action: "stop consuming",
            queue,
        })
    }
}

/// The broker gives a partition to the consumer of the highest priority. Each replica draws one for each partition from a
/// hash of both (rendezvous hashing), so partitions spread over replicas, and one that leaves moves only its own.
fn priority(
    instance: &str,
    PartitionId {
        generation,
        partition,
    }: PartitionId,
) -> i32 {
    let digest = Sha256::digest(format!("{instance}/{generation}/{partition}").as_bytes());
    i32::from(u16::from_be_bytes([digest[0], digest[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefetch_follows_the_size_of_messages() {
        let budget = Budget {
            bytes: 8 << 20,
            messages: 10_000,
        };
        assert_eq!(budget.prefetch(120), 10_000);
        assert_eq!(budget.prefetch(12_000), 682);
        assert_eq!(budget.prefetch(1 << 20), 7);
        assert_eq!(budget.prefetch(100 << 20), 1);
    }
}
