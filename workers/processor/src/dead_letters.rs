//! What the broker gave up on, because it was delivered too often without an answer: from the feed's dead-letter queue into
//! quarantine. Every replica does it; each letter is written once, and acknowledged when it is.

use std::{pin::pin, time::Duration};

use futures::StreamExt as _;
use lapin::{
    Connection,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use service::credentials::{self, DatabaseCredentials};
use snafu::{ResultExt as _, Snafu};
use tracing::warn;

use crate::{
    consumer::Context,
    decode,
    store::{self, DeadLetter},
};

/// Letters that are held at once.
const PREFETCH: u16 = 100;
/// How long to wait for more before some are written.
const LINGER: Duration = Duration::from_millis(200);

/// Why letters stay where they are for now.
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
    /// The credentials cannot be read.
    #[snafu(display("failed to read the database's credentials"))]
    Credentials {
        /// Which file and why.
        source: credentials::Error,
    },
    /// They could not be written.
    #[snafu(display("failed to write dead letters to quarantine"))]
    Write {
        /// Why.
        source: store::Error,
    },
}

/// Drains the dead-letter queue until shutdown or an error.
///
/// # Errors
/// When the broker or the database cannot be used. Nothing is acknowledged that was not written.
pub async fn drain(context: &Context, connection: &Connection) -> Result<(), Error> {
    let queue = context.config.feed.dead_letter_queue();
    let broker = |action| BrokerSnafu {
        action,
        queue: &queue,
    };
    let channel = connection
        .create_channel()
        .await
        .map_err(Box::new)
        .context(broker("open a channel for"))?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await
        .map_err(Box::new)
        .context(broker("set the prefetch for"))?;
    let consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(Box::new)
        .context(broker("consume"))?;
    let mut letters = pin!(consumer.take_until(context.shutdown.cancelled()));
    while let Some(first) = letters.next().await {
        let mut batch = vec![first.map_err(Box::new).context(broker("receive from"))?];
        while batch.len() < usize::from(PREFETCH) {
            match tokio::time::timeout(LINGER, letters.next()).await {
                Ok(Some(letter)) => batch.push(letter.map_err(Box::new).context(broker("receive from"))?),
                Ok(None) | Err(_) => break,
            }
        }
        let last_tag = batch.last().map_or(0, |letter| letter.delivery_tag);
        let written = write(context, &batch).await?;
        warn!(
            letters = batch.len(),
            written, "The broker gave up on messages; they are in quarantine"
        );
        context.metrics.dead_letters.inc_by(written);
        channel
            .basic_ack(last_tag, BasicAckOptions { multiple: true })
            .await
            .map_err(Box::new)
            .context(broker("acknowledge to"))?;
    }
    channel.close(200, "done".into()).await.ok();
    Ok(())
}

/// A connection of its own for each batch: there is hardly ever one.
async fn write(context: &Context, batch: &[Delivery]) -> Result<u64, Error> {
    let config = &context.config;
    let credentials = DatabaseCredentials::read(&config.database_directory).context(CredentialsSnafu)?;
    let letters: Vec<_> = batch
        .iter()
        .map(|letter| letter_of(letter, &config.feed.queue_prefix()))
        .collect();
    let application = "stockfeed processor, dead letters";
    let mut connection = store::connect(&credentials, &config.feed.schema(), application)
        .await
        .context(WriteSnafu)?;
    store::dead_letters(&mut connection, &letters)
        .await
        .context(WriteSnafu)
}

fn letter_of(delivery: &Delivery, prefix: &str) -> DeadLetter {
    let empty = FieldTable::default();
    let headers = delivery.properties.headers().as_ref().unwrap_or(&empty);
    let death = Death::of(headers);
    DeadLetter {
        partition: partition_of(&death.queue, prefix).unwrap_or_default(),
        identity: decode::identity(headers).ok().flatten(),
        detail: format!("queue {} gave up on it: {}", death.queue, death.reason),
        queue: death.queue,
        raw: delivery.data.clone(),
    }
}

/// The broker's own account: <https://www.rabbitmq.com/docs/dlx#effects>.
struct Death {
    queue: String,
    reason: String,
}

impl Death {
    fn of(headers: &FieldTable) -> Self {
        let header = |name: &str| {
            let value = headers.inner().get(name)?;
            decode::text(value).map(str::to_owned)
        };
        let latest = match headers.inner().get("x-death") {
            Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().first().cloned(),
            _ => None,
        };
        let of_latest = |name: &str| match &latest {
            Some(AMQPValue::FieldTable(death)) => {
                death.inner().get(name).and_then(decode::text).map(str::to_owned)
            }
            _ => None,
        };
        let find = |name: &str, first: &str| of_latest(name).or_else(|| header(first)).unwrap_or_default();
        Self {
            queue: find("queue", "x-first-death-queue"),
            reason: find("reason", "x-first-death-reason"),
        }
    }
}

/// Generation and partition of a queue's name.
fn partition_of(queue: &str, prefix: &str) -> Option<(u32, u16)> {
    let (generation, partition) = queue.strip_prefix(prefix)?.split_once('.')?;
    Some((generation.parse().ok()?, partition.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_name_tells_its_partition() {
        assert_eq!(
            partition_of("markets.tech.ticks.3.12", "markets.tech.ticks."),
            Some((3, 12))
        );
        assert_eq!(partition_of("elsewhere", "markets.tech.ticks."), None);
    }
}
