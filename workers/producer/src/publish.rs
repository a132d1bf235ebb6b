//! Publishes what is in the spool, so that nothing is lost: a message leaves it only when the broker has confirmed it.
//!
//! When the connection breaks, or the broker returns or refuses a message, everything that is not confirmed is published
//! again, in order, with the same publisher and sequence: the processor drops what it has seen. Credentials are read from
//! their folder for every connection, so a rotated Secret needs no restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use contract::{
    names::FeedName,
    tick::{CONTENT_TYPE, MESSAGE_TYPE, header},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ErrorKind, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::{AMQPValue, FieldTable, ShortString},
};
use prometheus_client::encoding::EncodeLabelValue;
use serde::Serialize;
use service::{
    amqp,
    credentials::{self, BrokerCredentials},
};
use snafu::{ResultExt as _, Snafu};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    chain::chain,
    message::Outgoing,
    metrics::{MessageKind, Metrics},
    spool::{self, Spool},
    status::Status,
};

/// Messages that are under way at once.
const WINDOW: usize = 1_000;
/// How long the broker may take to confirm what is under way.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look whether the channel still stands while confirms are waited for.
const LOOK: Duration = Duration::from_millis(250);
/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The property `delivery_mode` of a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// The class of a failure at the broker. Closed: it is a metric label and a condition's reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, EncodeLabelValue)]
pub enum BrokerReason {
    /// The credentials cannot be read from their folder.
    CredentialsUnreadable,
    /// No connection.
    Unreachable,
    /// The broker refuses the credentials, or what is done with them.
    AccessRefused,
    /// The feed's exchange, or the virtual host, does not exist.
    NotFound,
    /// The connection ended.
    ConnectionLost,
    /// The broker has no queue for a message.
    Unroutable,
    /// The broker could not take a message.
    Nacked,
    /// The broker did not confirm in time.
    ConfirmTimeout,
    /// What is to be published cannot be read.
    SpoolUnusable,
}

/// Why a message is still held.
#[derive(Debug, Snafu)]
pub enum PublishError {
    /// The credentials cannot be read.
    #[snafu(display("failed to read the broker's credentials"))]
    Credentials {
        /// Which file, and why.
        source: credentials::Error,
    },
    /// There is no connection.
    #[snafu(display("failed to connect to the broker"))]
    Connect {
        /// Why.
        source: amqp::Error,
    },
    /// The connection cannot be used.
    #[snafu(display("failed to publish to exchange {exchange}"))]
    Publish {
        /// The feed's exchange.
        exchange: String,
        /// Why. Boxed: it is large.
        source: Box<lapin::Error>,
    },
    /// The channel ended, and nobody said why.
    #[snafu(display("the channel was closed while messages to exchange {exchange} were under way"))]
    Closed {
        /// The feed's exchange.
        exchange: String,
    },
    /// Messages came back.
    #[snafu(display(
        "the broker has no queue for {count} messages, the first of them {message_id} ({text}): \
         the queue of its partition must be bound to exchange {exchange}"
    ))]
    Returned {
        /// The feed's exchange.
        exchange: String,
        /// How many.
        count: usize,
        /// The first.
        message_id: String,
        /// The broker's words.
        text: String,
    },
    /// Messages were refused.
    #[snafu(display("the broker could not take {count} messages: see its log"))]
    Nacked {
        /// How many.
        count: usize,
    },
    /// No confirm.
    #[snafu(display(
        "the broker did not confirm within {} s{}",
        CONFIRM_TIMEOUT.as_secs(),
        if *blocked { ": it blocks publishers, because it is short of memory or disk space" } else { "" }
    ))]
    NotConfirmed {
        /// Whether it had said that it blocks publishers.
        blocked: bool,
    },
    /// Nothing of the broker's.
    #[snafu(transparent)]
    Spool {
        /// What, and why.
        source: spool::Error,
    },
}

impl PublishError {
    /// The class.
    #[must_use]
    pub fn reason(&self) -> BrokerReason {
        match self {
            Self::Credentials { .. } => BrokerReason::CredentialsUnreadable,
            Self::Connect {
                source: amqp::Error::Connect { source, .. },
            } => reason_of(source).unwrap_or(BrokerReason::Unreachable),
            Self::Connect { .. } => BrokerReason::Unreachable,
            Self::Publish { source, .. } => reason_of(source).unwrap_or(BrokerReason::ConnectionLost),
            Self::Closed { .. } => BrokerReason::ConnectionLost,
            Self::Returned { .. } => BrokerReason::Unroutable,
            Self::Nacked { .. } => BrokerReason::Nacked,
            Self::NotConfirmed { .. } => BrokerReason::ConfirmTimeout,
            Self::Spool { .. } => BrokerReason::SpoolUnusable,
        }
    }
}

fn reason_of(error: &lapin::Error) -> Option<BrokerReason> {
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    match error.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(BrokerReason::AccessRefused),
        // RabbitMQ says "not allowed" of a virtual host that does not exist or is not this user's.
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
            Some(BrokerReason::NotFound)
        }
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => None,
    }
}

/// Publishes for one feed.
#[derive(Debug)]
pub struct Publisher {
    feed: FeedName,
    exchange: String,
    directory: PathBuf,
    session: Option<Session>,
    /// Messages came back, or were refused: until none is any more only the first of each partition is tried, so that none
    /// overtakes another of its partition.
    cautious: bool,
    spool: Arc<Spool>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Session {
    connection: Connection,
    channel: Channel,
}

/// What became of the messages of one attempt.
#[derive(Debug, Default)]
struct Outcome {
    /// Whether each message, by its place, was acknowledged. Those beyond the end were not.
    acknowledged: Vec<bool>,
    /// The messages that came back, by their `message_id`. lapin hands a returned message to whichever confirm comes next,
    /// so it is the id that says which it was.
    returned: BTreeMap<String, String>,
}

impl Publisher {
    /// A publisher that is not connected yet.
    #[must_use]
    pub fn new(
        feed: FeedName,
        directory: PathBuf,
        spool: Arc<Spool>,
        status: Arc<Status>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            exchange: feed.exchange(),
            feed,
            directory,
            session: None,
            cautious: false,
            spool,
            status,
            metrics,
        }
    }

    /// Publishes what is in the spool, and what is added, until `ended` is cancelled and nothing is left.
    ///
    /// May be dropped half way: nothing that is not confirmed leaves the spool.
    pub async fn run(&mut self, ended: &CancellationToken) {
        let mut delays = delays();
        loop {
            self.show_held();
            let before = self.spool.state().messages;
            let attempt = if before > 0 || !self.connected() {
                self.attempt().await
            } else {
                Ok(())
            };
            let after = self.spool.state().messages;
            self.show_held();
            match attempt {
                Ok(()) if after > 0 => {}
                Ok(()) => {
                    self.status.broker_works();
                    delays = self::delays();
                    tokio::select! {
                        biased;
                        () = self.spool.added() => {}
                        () = ended.cancelled() => return,
                        // Looked after while there is nothing to publish as well, so that health is true and the next poll not late.
                        () = self.lost() => {}
                    }
                }
                Err(error) => {
                    self.report(&error);
                    if after < before {
                        delays = self::delays();
                    }
                    if after == 0 && ended.is_cancelled() {
                        return;
                    }
                    tokio::time::sleep(delays.next().unwrap_or(MAX_DELAY)).await;
                }
            }
        }
    }

    /// Whether the connection stands.
    fn connected(&self) -> bool {
        let usable = |session: &Session| {
            session.connection.status().connected() && session.channel.status().connected()
        };
        self.session.as_ref().is_some_and(usable)
    }

    /// Returns when the connection does not stand; at once if there is none.
    async fn lost(&self) {
        while self.connected() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Closes the connection in order.
    pub async fn close(&mut self) {
        let Some(Session { connection, channel }) = self.session.take() else {
            return;
        };
        let closing = async {
            channel.close(200, "the producer ends".into()).await?;
            connection.close(200, "the producer ends".into()).await
        };
        match tokio::time::timeout(CLOSE_TIMEOUT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "The connection to the broker was not closed in order"),
            Err(_) => warn!("The broker did not answer when the connection was closed"),
        }
    }

    async fn open(&mut self) -> Result<(), PublishError> {
        self.session = None;
        let credentials = BrokerCredentials::read(&self.directory).context(CredentialsSnafu)?;
        let connection = amqp::connect(&credentials, &self.feed, "producer")
            .await
            .context(ConnectSnafu)?;
        let exchange = &self.exchange;
        let channel = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            // Asked for by name, a missing exchange is an answer; a message to it only ends the channel, at some moment.
            let passive = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            channel
                .exchange_declare(
                    exchange.as_str().into(),
                    ExchangeKind::Topic,
                    passive,
                    FieldTable::default(),
                )
                .await?;
            Ok(channel)
        };
        let channel = match tokio::time::timeout(amqp::CONNECT_TIMEOUT, channel).await {
            Ok(channel) => channel.map_err(Box::new).context(PublishSnafu { exchange })?,
            Err(_) => return NotConfirmedSnafu { blocked: false }.fail(),
        };
        info!(broker.host = %credentials.host, broker.port = credentials.port, "Connected to the broker");
        self.status.broker_connected(connection.status().clone());
        self.session = Some(Session { connection, channel });
        Ok(())
    }

    /// Publishes the first messages of the spool, and removes those that are confirmed.
    async fn attempt(&mut self) -> Result<(), PublishError> {
        if !self.connected() {
            self.open().await?;
        }
        let Some(session) = &self.session else {
            return Ok(());
        };
        let mut window = self.spool.first(WINDOW)?;
        if self.cautious {
            let mut seen = BTreeSet::new();
            window.retain(|(_, message)| seen.insert((message.publisher, message.partition)));
        }
        let mut outcome = Outcome::default();
        let under_way = self.send(&session.channel, &window, &mut outcome);
        let exchange = &self.exchange;
        let ended = tokio::select! {
            sent = under_way => sent.map_err(Box::new).context(PublishSnafu { exchange }),
            () = closed(&session.channel) => ClosedSnafu { exchange }.fail(),
            () = tokio::time::sleep(CONFIRM_TIMEOUT) => {
                NotConfirmedSnafu { blocked: session.connection.status().blocked() }.fail()
            }
        };
        if ended.is_err() {
            self.session = None;
            if !outcome.returned.is_empty() {
                // Another returned message may not have been seen any more. To publish too much is harmless.
                outcome.acknowledged.clear();
            }
        }
        let nacked = outcome
            .acknowledged
            .iter()
            .filter(|acknowledged| !**acknowledged)
            .count();
        self.release(&window, &outcome)?;
        self.cautious = nacked > 0 || !outcome.returned.is_empty();
        ended?;
        if let Some((message_id, text)) = outcome.returned.first_key_value() {
            return ReturnedSnafu {
                exchange: &self.exchange,
                count: outcome.returned.len(),
                message_id,
                text,
            }
            .fail();
        }
        if nacked > 0 {
            return NackedSnafu { count: nacked }.fail();
        }
        Ok(())
    }

    async fn send(
        &self,
        channel: &Channel,
        window: &[(u64, Outgoing)],
        outcome: &mut Outcome,
    ) -> Result<(), lapin::Error> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut confirms = Vec::with_capacity(window.len());
        for (_, message) in window {
            let confirm = channel
                .basic_publish(
                    self.exchange.as_str().into(),
                    message.routing_key.as_str().into(),
                    options,
                    message.body.as_bytes(),
                    properties(message),
                )
                .await?;
            confirms.push(confirm);
        }
        for confirm in confirms {
            let (acknowledged, returned) = match confirm.await? {
                Confirmation::Ack(returned) => (true, returned),
                Confirmation::Nack(returned) => (false, returned),
                Confirmation::NotRequested => (false, None),
            };
            outcome.acknowledged.push(acknowledged);
            if let Some(message) = returned {
                let id = message.delivery.properties.message_id().as_ref();
                let id = id.map(ToString::to_string).unwrap_or_default();
                outcome.returned.insert(id, message.reply_text.to_string());
            }
        }
        Ok(())
    }

    /// Removes what was acknowledged and did not come back.
    fn release(&self, window: &[(u64, Outgoing)], outcome: &Outcome) -> Result<(), spool::Error> {
        let mut confirmed = Vec::new();
        for ((key, message), acknowledged) in window.iter().zip(&outcome.acknowledged) {
            if *acknowledged && !outcome.returned.contains_key(&message.message_id) {
                confirmed.push(*key);
                self.metrics.count_message(match message.bound {
                    Some(_) => MessageKind::Heartbeat,
                    None => MessageKind::Ticks,
                });
            }
        }
        if confirmed.is_empty() {
            return Ok(());
        }
        self.spool.remove(&confirmed)
    }

    fn report(&self, error: &PublishError) {
        let reason = error.reason();
        let message = chain(error);
        warn!(
            ?reason,
            held = self.spool.state().messages,
            "Not published: {message}"
        );
        self.metrics.count_broker_failure(reason);
        self.status.broker_failed(reason, message);
    }

    fn show_held(&self) {
        let state = self.spool.state();
        self.metrics.set_held(state.messages);
        self.metrics.set_spool(state.bytes);
    }
}

fn properties(message: &Outgoing) -> BasicProperties {
    let mut headers = FieldTable::default();
    let publisher = message.publisher.to_string();
    headers.insert(header::PUBLISHER.into(), AMQPValue::LongString(publisher.into()));
    let sequence = i64::try_from(message.sequence).unwrap_or(i64::MAX);
    headers.insert(header::SEQUENCE.into(), AMQPValue::LongLongInt(sequence));
    let traceparent = message.traceparent.as_str();
    headers.insert(
        header::TRACEPARENT.into(),
        AMQPValue::LongString(traceparent.into()),
    );
    let published_at = message.published_at.as_microseconds();
    headers.insert(header::PUBLISHED_AT.into(), AMQPValue::LongLongInt(published_at));
    if let Some(bound) = message.bound {
        let bound = bound.to_string();
        headers.insert(header::EVENT_TIME.into(), AMQPValue::LongString(bound.into()));
    }
    BasicProperties::default()
        .with_content_type(ShortString::from(CONTENT_TYPE))
        .with_type(ShortString::from(MESSAGE_TYPE))
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.message_id.as_str().into())
        .with_headers(headers)
}

/// Returns when the channel is closed, a moment later: confirms that are waited for may say more about it, but need not.
async fn closed(channel: &Channel) {
    while channel.status().connected() {
        tokio::time::sleep(LOOK).await;
    }
    tokio::time::sleep(LOOK).await;
}

/// The longest time between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(5);

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(MAX_DELAY)
        .without_max_times()
        .with_jitter()
        .build()
}
