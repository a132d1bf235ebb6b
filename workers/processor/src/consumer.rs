//! One partition queue: receive, decode, commit, acknowledge.
//!
//! ```text
//!            ┌────────── next batch is received and decoded ──────────┐
//! deliveries ┤                                                        ├─► …
//!            └─ batch ─► engine ─► one transaction ─► acknowledge all ┘
//! ```
//!
//! Deliveries that are held when the channel goes are forgotten: the broker delivers them again, and what was committed
//! of them is dropped then.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use contract::{config::ProcessorConfig, event_time::EventTime};
use engine::{
    key::MessageIdentity,
    partition::{Observed, PartitionState},
};
use futures::StreamExt as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use sha2::{Digest as _, Sha256};
use snafu::{ResultExt, Snafu};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    board::{self, Board, Commit},
    decode::{self, Decoded, Rules},
    fault,
    metrics::Metrics,
    store::{self, Change, PartitionId, Store},
};

/// Waits after a failed commit: doubled each time, up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How long a drain may wait for a database that does not answer.
const DRAIN: Duration = Duration::from_secs(20);

/// Why a partition is consumed no longer.
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
    /// Something in the database.
    #[snafu(display("failed to commit what queue {queue} delivered"))]
    Store {
        /// Which queue.
        queue: String,
        /// Why.
        source: store::Error,
    },
    /// Shutdown came while a batch could not be committed. The broker delivers it to somebody else.
    #[snafu(display("gave up committing what queue {queue} delivered, because of shutdown"))]
    Interrupted {
        /// Which queue.
        queue: String,
    },
}

/// What every partition task is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration.
    pub config: std::sync::Arc<ProcessorConfig>,
    /// This replica's name.
    pub instance: String,
    /// For `/state`.
    pub board: Board,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// Cancelled at shutdown.
    pub shutdown: CancellationToken,
}

/// Consumes one partition until shutdown, which drains it, or until an error.
///
/// # Errors
/// When the broker or the partition is lost. Nothing is acknowledged that was not committed; call it again to go on.
pub async fn consume(
    context: &Context,
    connection: &Connection,
    id: PartitionId,
    partitions: u16,
) -> Result<(), Error> {
    let config = &context.config;
    let queue = config.feed.queue(id.generation, id.partition);
    let rules = Rules::new(
        &config.symbols,
        id.partition,
        partitions,
        config.max_future,
        config.max_age,
    );
    let settings = engine::partition::Settings {
        widths: config.windows.clone(),
        out_of_orderness: config.out_of_orderness,
        allowed_lateness: config.allowed_lateness,
    };
    // Unique to this consumer: the same replica that consumes anew is a new owner.
    let owner = format!("{}/{}", context.instance, Uuid::now_v7());
    let symbols = rules.symbols().iter().cloned().collect::<Vec<_>>();
    let store = Store::new(
        config.database_directory.clone(),
        &config.feed,
        id,
        symbols,
        settings,
        owner,
    );
    let (channel, consumer) = subscribe(context, connection, &queue, id).await?;
    let _consuming = context.board.consuming();
    let mut task = Task {
        context,
        id,
        queue,
        rules,
        store,
        state: None,
        holes_since: None,
        channel,
    };
    let result = task.run(consumer).await;
    task.store.close().await;
    if task.channel.status().connected() {
        // A channel that is closed hands what is not acknowledged to the next consumer at once.
        task.channel.close(200, "done".into()).await.ok();
    }
    context.board.lost(id);
    result
}

async fn subscribe(
    context: &Context,
    connection: &Connection,
    queue: &str,
    id: PartitionId,
) -> Result<(Channel, Consumer), Error> {
    let broker = |action| BrokerSnafu { action, queue };
    let channel = connection
        .create_channel()
        .await
        .map_err(Box::new)
        .context(broker("open a channel for"))?;
    // Two batches: one that commits and one that fills. Per consumer; a quorum queue refuses a global limit.
    let prefetch = context.config.batch.max_messages.saturating_mul(2);
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .map_err(Box::new)
        .context(broker("set the prefetch for"))?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-priority".into(),
        AMQPValue::LongInt(priority(&context.instance, id)),
    );
    let tag = format!("{} {}", context.instance, Uuid::now_v7());
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
    Ok((channel, consumer))
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

/// Messages that are committed together.
#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Decoded>,
    bytes: usize,
    /// Acknowledging this tag acknowledges the whole batch.
    last_tag: u64,
    since: Option<Instant>,
}

impl Batch {
    fn push(&mut self, decoded: Decoded, tag: u64) {
        self.since.get_or_insert_with(Instant::now);
        self.bytes += decoded.bytes;
        self.last_tag = tag;
        self.messages.push(decoded);
    }
}

struct Task<'a> {
    context: &'a Context,
    id: PartitionId,
    queue: String,
    rules: Rules,
    store: Store,
    /// `None` until the first delivery: whoever merely waits for a partition must not take it from its owner.
    state: Option<PartitionState>,
    /// Since when sequences are missing.
    holes_since: Option<Instant>,
    channel: Channel,
}

impl Task<'_> {
    async fn run(&mut self, mut consumer: Consumer) -> Result<(), Error> {
        let mut next = Batch::default();
        loop {
            self.fill(&mut consumer, &mut next).await?;
            let batch = std::mem::take(&mut next);
            if batch.messages.is_empty() {
                if self.context.shutdown.is_cancelled() {
                    return Ok(());
                }
                self.give_up_old_holes().await?;
                continue;
            }
            let (id, rules, channel) = (self.id, self.rules.clone(), self.channel.clone());
            let context = self.context;
            let limit = usize::from(context.config.batch.max_messages);
            let size_limit = context.config.batch.max_bytes as usize;
            let last_tag = batch.last_tag;
            {
                let mut commit = pin!(self.commit(batch));
                // Errors of the stream are kept until the commit is through: it may well succeed.
                let mut stream_error = None;
                loop {
                    let room =
                        stream_error.is_none() && next.messages.len() < limit && next.bytes < size_limit;
                    tokio::select! {
                        biased;
                        result = &mut commit => break result?,
                        delivery = consumer.next(), if room => match delivery {
                            Some(Ok(delivery)) => receive(&rules, &mut next, &delivery),
                            Some(Err(error)) => stream_error = Some(Some(error)),
                            None => stream_error = Some(None),
                        },
                    }
                }
                tracing::trace!(partition = %board::label(id), last_tag, "Committed");
                let broker = |action| BrokerSnafu {
                    action,
                    queue: context.config.feed.queue(id.generation, id.partition),
                };
                match stream_error {
                    Some(Some(error)) => return Err(Box::new(error)).context(broker("receive from")),
                    Some(None) if !context.shutdown.is_cancelled() => {
                        return CancelledSnafu {
                            queue: context.config.feed.queue(id.generation, id.partition),
                        }
                        .fail();
                    }
                    _ => {}
                }
            }
            fault::point!("before_ack");
            let options = BasicAckOptions { multiple: true };
            let acknowledged = channel.basic_ack(last_tag, options).await.map_err(Box::new);
            acknowledged.context(BrokerSnafu {
                action: "acknowledge to",
                queue: &self.queue,
            })?;
            fault::point!("during_ack");
        }
    }

    /// Receives until the batch is due: full, or old enough, or shutdown. Returns with an empty batch when holes are due.
    async fn fill(&self, consumer: &mut Consumer, batch: &mut Batch) -> Result<(), Error> {
        let config = &self.context.config.batch;
        let hole_deadline = self
            .holes_since
            .map(|since| since + self.context.config.gap_timeout);
        loop {
            let full = batch.messages.len() >= usize::from(config.max_messages)
                || batch.bytes >= config.max_bytes as usize;
            let deadline = batch.since.map(|since| since + config.linger);
            if full || deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(());
            }
            let wake = deadline.or(hole_deadline);
            tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return Ok(()),
                delivery = consumer.next() => match delivery {
                    Some(Ok(delivery)) => receive(&self.rules, batch, &delivery),
                    Some(Err(error)) => {
                        return Err(Box::new(error)).context(BrokerSnafu { action: "receive from", queue: &self.queue });
                    }
                    None => return CancelledSnafu { queue: &self.queue }.fail(),
                },
                () = sleep_until(wake) => return Ok(()),
            }
        }
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        let Batch { messages, bytes, .. } = batch;
        let mut change = Change::default();
        let mut state = self.claimed().await?.clone();
        for Decoded { message, refused, .. } in messages {
            let identity = message.identity;
            if state.observe(message, &mut change.effects) == Observed::New {
                change
                    .publishers
                    .extend(identity.map(|MessageIdentity { publisher, .. }| publisher));
                change
                    .refused
                    .extend(refused.into_iter().map(|refused| (identity, refused)));
            }
        }
        self.write(state, change, bytes).await
    }

    /// Reports holes that have been open for too long, and lets the watermark go on.
    async fn give_up_old_holes(&mut self) -> Result<(), Error> {
        let due = self
            .holes_since
            .is_some_and(|since| since.elapsed() >= self.context.config.gap_timeout);
        let Some(state) = self.state.as_ref().filter(|_| due) else {
            return Ok(());
        };
        let mut state = state.clone();
        let gaps = state.abandon_holes();
        for gap in &gaps {
            let publisher = Uuid::from_bytes(gap.publisher);
            warn!(partition = %board::label(self.id), %publisher, first = gap.first, last = gap.last, "Messages are missing");
        }
        let publishers = gaps.iter().map(|gap| gap.publisher).collect();
        self.write(
            state,
            Change {
                gaps,
                publishers,
                ..Change::default()
            },
            0,
        )
        .await
    }

    /// Commits until it is known to be done, or the partition is lost, or shutdown has waited long enough.
    async fn write(&mut self, state: PartitionState, change: Change, bytes: usize) -> Result<(), Error> {
        let started = Instant::now();
        let mut pause = RETRY.0;
        while let Err(error) = self.store.commit(&state, &change).await {
            self.failed(error)?;
            loop {
                self.pause(&mut pause).await?;
                match self.store.settle().await {
                    Ok(true) => return self.committed(state, &change, bytes, started),
                    Ok(false) => break,
                    Err(error) => self.failed(error)?,
                }
            }
        }
        self.committed(state, &change, bytes, started)
    }

    fn committed(
        &mut self,
        state: PartitionState,
        change: &Change,
        bytes: usize,
        started: Instant,
    ) -> Result<(), Error> {
        let Context { board, metrics, .. } = self.context;
        let Change {
            effects,
            refused,
            gaps,
            ..
        } = change;
        let duration = started.elapsed();
        metrics.messages.inc_by(effects.messages);
        metrics.ticks.inc_by(effects.ticks.len() as u64);
        metrics.bytes.inc_by(bytes as u64);
        metrics.duplicates.inc_by(effects.duplicates);
        metrics.late.inc_by(effects.late.len() as u64);
        metrics
            .gaps
            .inc_by(gaps.iter().map(|gap| gap.last - gap.first + 1).sum());
        for (_, refused) in refused {
            metrics
                .quarantined
                .get_or_create(&refused.why.reason.into())
                .inc();
        }
        metrics.commit_duration.observe(duration.as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has far fewer messages than a float has digits"
        )]
        metrics.batch_messages.observe(effects.messages as f64);
        let now = service::clock::event_time();
        if let Some(watermark) = state.watermark() {
            metrics
                .watermark_lag
                .get_or_create(&self.id.into())
                .set(seconds_between(watermark, now));
        }
        board.database(true);
        board.partition(self.id, &state);
        board.commit(Commit {
            partition: board::label(self.id),
            completed_at: now,
            duration_milliseconds: duration.as_secs_f64() * 1_000.0,
            messages: effects.messages,
            ticks: effects.ticks.len(),
            bytes,
        });
        self.holes_since = state
            .has_open_holes()
            .then(|| self.holes_since.unwrap_or_else(Instant::now));
        self.state = Some(state);
        Ok(())
    }

    /// The partition's state, claimed at its first delivery.
    async fn claimed(&mut self) -> Result<&PartitionState, Error> {
        let mut pause = RETRY.0;
        while self.state.is_none() {
            match self.store.claim().await {
                Ok(state) => {
                    let watermark = state.watermark().map(tracing::field::display);
                    info!(partition = %board::label(self.id), watermark, "Claimed a partition");
                    self.holes_since = state.has_open_holes().then(Instant::now);
                    self.context.board.database(true);
                    self.context.board.partition(self.id, &state);
                    self.state = Some(state);
                }
                Err(error) => {
                    self.failed(error)?;
                    self.pause(&mut pause).await?;
                }
            }
        }
        // Set by the loop above.
        self.state
            .as_ref()
            .ok_or_else(|| InterruptedSnafu { queue: &self.queue }.build())
    }

    /// Notes an error; a lost partition is final, everything else is tried again.
    fn failed(&self, error: store::Error) -> Result<(), Error> {
        let Context { board, metrics, .. } = self.context;
        let scope = format!("partition {}", board::label(self.id));
        board.error(service::clock::event_time(), scope, &error);
        if matches!(error, store::Error::Fenced { .. }) {
            metrics.fenced.inc();
            return Err(error).context(StoreSnafu { queue: &self.queue });
        }
        metrics.commit_errors.inc();
        board.database(false);
        let chain = board::chain(&error).collect::<Vec<_>>().join(": ");
        warn!(partition = %board::label(self.id), error = chain, "The database cannot be used; trying again");
        Ok(())
    }

    async fn pause(&self, pause: &mut Duration) -> Result<(), Error> {
        let shutdown = async {
            self.context.shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = tokio::time::sleep(*pause) => {}
            () = shutdown => return InterruptedSnafu { queue: &self.queue }.fail(),
        }
        *pause = (*pause * 2).min(RETRY.1);
        Ok(())
    }
}

fn receive(rules: &Rules, batch: &mut Batch, delivery: &Delivery) {
    fault::point!("before_decode");
    let now: EventTime = service::clock::event_time();
    batch.push(
        decode::decode(rules, &delivery.properties, &delivery.data, now),
        delivery.delivery_tag,
    );
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric in seconds does not need every microsecond of a millennium"
)]
fn seconds_between(earlier: EventTime, later: EventTime) -> f64 {
    (later.as_microseconds() - earlier.as_microseconds()) as f64 / 1e6
}
