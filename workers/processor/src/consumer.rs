//! One partition queue: receive, fold, commit, acknowledge.
//!
//! ```text
//!            ┌───────── next batch is received and folded ──────────┐
//! deliveries ┤                                                      ├─► …
//!            └─ batch ─► one transaction ─► acknowledge all of it ──┘
//! ```
//!
//! Deliveries that are held when the channel goes are forgotten, with the state that they were folded into: the broker
//! delivers them again, and what was committed of them is dropped then.

use std::time::{Duration, Instant};

use contract::{config::ProcessorConfig, event_time::EventTime};
use engine::partition::PartitionState;
use lapin::{Connection, message::Delivery};
use snafu::{ResultExt, Snafu};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    activity::{Activity, Phase},
    batch::{Batch, Change},
    board::{self, Board},
    committer::{self, Committer},
    decode::Rules,
    fault,
    metrics::Metrics,
    store::{PartitionId, Store},
    subscription::{self, Budget, Subscription},
};

/// While a batch commits, how often to look what was delivered meanwhile. To be woken for each delivery would cost more than
/// decoding it.
const LOOK: Duration = Duration::from_millis(1);
/// Deliveries that are taken in at one go while a batch commits. In between the commit gets its turn.
const STRIDE: usize = 200;
/// With so many messages in a batch after its linger the feed is in a hurry, and the batch may take so many times the linger:
/// what a commit costs beside its rows is then shared by more of them.
const CALM: usize = 50;
const HURRIED: u32 = 5;
/// With so many it is behind. They have waited for long, and a fuller batch is what lets it catch up.
const BACKLOG: usize = 1_000;
const BEHIND: u32 = 40;
/// With nothing delivered for so long the partition may have been another replica's meanwhile: the broker tells a consumer neither
/// that it is no longer the active one nor that it is again.
const ELSEWHERE: Duration = Duration::from_millis(100);
/// How long nothing must come for a queue to be taken for empty at the end. What comes in the milliseconds of the cancellation that
/// follows would be delivered again: with a message in hand nothing does.
const QUIET: Duration = Duration::from_secs(2);
/// How long a drain waits for deliveries to run dry at most: what is held then is still to be committed before the pod's time is over.
const NARROWED_WITHIN: Duration = Duration::from_secs(30);
/// How often a drain says that it goes on: well within the time for which the next owner takes its word.
const STILL_DRAINING: Duration = Duration::from_secs(4);
/// How often to look for rows of quarantine that somebody released.
const RELEASE_PERIOD: Duration = Duration::from_secs(5);

/// Why a partition is consumed no longer.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The queue cannot be consumed.
    #[snafu(transparent)]
    Subscription {
        /// Why.
        source: subscription::Error,
    },
    /// Something in the database.
    #[snafu(display("failed to commit what queue {queue} delivered"))]
    Commit {
        /// Which queue.
        queue: String,
        /// Why.
        source: committer::Error,
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
    let store = Store::new(
        config.database_directory.clone(),
        &config.feed,
        id,
        &rules,
        settings,
        &context.instance,
    );
    let share = Share::of(config);
    // Two batches, one that commits and one that fills; and, of small messages, a third that is on its way.
    let budget = Budget {
        bytes: share.bytes * 2,
        messages: u16::try_from(share.messages * 3).unwrap_or(u16::MAX),
    };
    let subscription = Subscription::begin(connection, &context.instance, id, queue.clone(), budget).await?;
    let _consuming = context.board.consuming();
    let activity = Activity::default();
    let mut task = Task {
        context,
        id,
        queue,
        intake: Intake {
            rules,
            state: None,
            batch: Batch::default(),
            spare: Vec::new(),
            idle_since: None,
            subscription,
            activity: activity.clone(),
            share,
        },
        committer: Committer::new(context, id, store, activity),
        next_release: Instant::now(),
        announced: None,
    };
    let result = task.run().await;
    task.committer.close().await;
    task.intake.subscription.close().await;
    context.board.lost(id);
    context.metrics.forget(id);
    result
}

struct Task<'a> {
    context: &'a Context,
    id: PartitionId,
    queue: String,
    intake: Intake<'a>,
    committer: Committer<'a>,
    next_release: Instant,
    /// When it was last said to the next owner that this one ends.
    announced: Option<Instant>,
}

/// Takes deliveries in, batch after batch.
struct Intake<'a> {
    rules: Rules,
    /// As it will be when everything that was taken in is committed. `None` until the first delivery: whoever merely waits
    /// for a partition must not take it from its owner.
    state: Option<PartitionState>,
    batch: Batch,
    /// The buffer of the last committed batch's rows: to give megabytes back and take them anew each time is what would make
    /// the memory grow.
    spare: Vec<u8>,
    /// Since when nothing was delivered.
    idle_since: Option<Instant>,
    subscription: Subscription<'a>,
    activity: Activity,
    share: Share,
}

/// The size of one partition's batches. All partitions of a replica share what the configuration allows: how many it will be
/// given nobody knows, and its memory is to stay the same.
#[derive(Clone, Copy, Debug)]
struct Share {
    messages: usize,
    bytes: usize,
}

impl Share {
    /// Less than this would make commits that are mostly overhead.
    const LEAST: Self = Self {
        messages: 100,
        bytes: 64 * 1024,
    };

    fn of(config: &ProcessorConfig) -> Self {
        let partitions = config.queues.iter().map(|queues| usize::from(queues.partitions));
        let partitions = partitions.sum::<usize>().max(1);
        let (messages, bytes) = (config.batch.max_messages, config.batch.max_bytes);
        let most = (usize::from(messages), bytes as usize);
        Self {
            messages: (most.0 / partitions).max(Self::LEAST.messages).min(most.0),
            bytes: (most.1 / partitions).max(Self::LEAST.bytes).min(most.1),
        }
    }
}

/// Why a batch is not waited for any longer.
enum Filled {
    /// It is due.
    Due,
    /// Nothing was delivered, and there are other things to see to.
    Quiet,
    /// Shutdown.
    Shutdown,
}

impl Task<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.fill().await? {
                Filled::Due => self.commit().await?,
                Filled::Quiet => {}
                Filled::Shutdown => return self.drain().await,
            }
            self.keep_house().await?;
        }
    }

    /// Waits until a batch is due: full, or old enough.
    async fn fill(&mut self) -> Result<Filled, Error> {
        let linger = self.context.config.batch.linger;
        let shutdown = self.context.shutdown.clone();
        // Under load there is always a batch that is due.
        if shutdown.is_cancelled() {
            return Ok(Filled::Shutdown);
        }
        if self.intake.batch.is_empty() {
            self.intake.activity.enter(Phase::Idle);
            let wake = self.wake();
            let since = self.intake.idle_since.unwrap_or_else(Instant::now);
            self.intake.idle_since = Some(since);
            let delivery = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Filled::Shutdown),
                delivery = self.intake.subscription.next() => delivery?,
                () = sleep_until(wake) => return Ok(Filled::Quiet),
            };
            self.intake.activity.enter(Phase::Busy);
            self.intake.idle_since = None;
            self.make_sure(since.elapsed()).await?;
            self.intake.take(&delivery);
        }
        while !self.intake.take_what_is_there(usize::MAX)? {
            let patience = match self.intake.batch.messages {
                0..CALM => linger,
                CALM..BACKLOG => linger * HURRIED,
                _ => linger * BEHIND,
            };
            let due = self.intake.batch.since.map(|since| since + patience);
            if due.is_none_or(|due| due <= Instant::now()) {
                break;
            }
            self.intake.activity.enter(Phase::Idle);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Filled::Shutdown),
                () = sleep_until(due) => {}
            }
            self.intake.activity.enter(Phase::Busy);
        }
        Ok(Filled::Due)
    }

    /// Claims the partition when it is not this one's: never was, or was another replica's while nothing was delivered. What comes
    /// after that must not be folded into a state that is no longer so: it could not be committed, and all of it would be delivered again.
    async fn make_sure(&mut self, idle: Duration) -> Result<(), Error> {
        let claimed = if self.intake.state.is_none() {
            self.committer.claim().await
        } else if idle >= ELSEWHERE && !self.owns().await? {
            self.committer.claim_again().await
        } else {
            return Ok(());
        };
        self.intake.state = Some(self.of_committer(claimed)?);
        Ok(())
    }

    async fn owns(&mut self) -> Result<bool, Error> {
        let owns = self.committer.owns().await;
        self.of_committer(owns)
    }

    /// When something is to be done although nothing is delivered.
    fn wake(&self) -> Option<Instant> {
        self.intake.state.as_ref()?;
        let release = self.releases().then_some(self.next_release);
        [self.committer.holes_due(), release].into_iter().flatten().min()
    }

    /// Commits the batch and acknowledges it. The next one is taken in meanwhile.
    async fn commit(&mut self) -> Result<(), Error> {
        let Some(change) = self.intake.seal() else {
            return Ok(());
        };
        let (messages, bytes, tag) = (change.batch.messages, change.batch.bytes, change.batch.last_tag);
        let committed = {
            let receiving = self.intake.keep_taking();
            tokio::select! {
                biased;
                committed = self.committer.commit(change) => committed,
                error = receiving => return Err(error),
            }
        };
        self.intake.activity.enter(Phase::Busy);
        self.intake.spare = self.of_committer(committed)?;
        if messages > 0 {
            fault::point!("before_ack");
            self.intake.subscription.acknowledge(tag).await?;
            fault::point!("during_ack");
            self.intake.subscription.adapt(messages, bytes).await?;
            let prefetch = self.intake.subscription.prefetch();
            self.context.board.prefetch(self.id, prefetch);
        }
        Ok(())
    }

    /// Sees to what nobody delivers: holes that have been open for too long, and what was released from quarantine.
    async fn keep_house(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.committer.holes_due().is_some_and(|due| due <= now) {
            self.give_up_holes().await?;
        }
        if self.releases() && self.next_release <= now {
            self.take_released().await?;
        }
        Ok(())
    }

    /// Reports sequences that have been missing for too long, and lets the watermark go on. What the broker gave up on is not
    /// missing: it is in quarantine.
    async fn give_up_holes(&mut self) -> Result<(), Error> {
        let Intake {
            state: Some(state),
            batch,
            ..
        } = &mut self.intake
        else {
            return Ok(());
        };
        let holed = state
            .publishers()
            .filter(|(_, sequences)| sequences.has_open_holes())
            .map(|(publisher, _)| *publisher)
            .collect();
        let given_up = self.committer.given_up_by_broker(holed).await;
        let given_up = given_up.context(CommitSnafu { queue: &self.queue })?;
        for identity in given_up {
            batch.settle_elsewhere(state, identity);
        }
        batch.give_up_holes(state);
        self.commit().await
    }

    /// One replica does it for the whole feed: whoever owns the first partition.
    const fn releases(&self) -> bool {
        self.id.partition == 0 && self.intake.state.is_some()
    }

    async fn take_released(&mut self) -> Result<(), Error> {
        self.next_release = Instant::now() + RELEASE_PERIOD;
        let Intake {
            state: Some(state),
            batch,
            rules,
            ..
        } = &mut self.intake
        else {
            return Ok(());
        };
        let released = self.committer.released().await;
        let released = released.context(CommitSnafu { queue: &self.queue })?;
        if released.is_empty() {
            return Ok(());
        }
        let now = service::clock::event_time();
        for row in &released {
            batch.take_released(rules, state, row, now);
        }
        info!(
            rows = released.len(),
            "Taking in what was released from quarantine"
        );
        // There may be more of it.
        self.next_release = Instant::now();
        self.commit().await
    }

    /// Ends without a message being delivered twice: says that it ends, lets deliveries run dry, stops them, commits and
    /// acknowledges what was delivered, and lets the partition go.
    async fn drain(&mut self) -> Result<(), Error> {
        if self.intake.state.is_none() {
            // Nothing was ever delivered to this replica.
            return Ok(());
        }
        match self.committer.announce_drain().await {
            Ok(()) => {
                self.announced = Some(Instant::now());
                self.narrow().await?;
            }
            // Then the next owner does not wait, and gets delivered again what is not acknowledged by then. Perhaps there is one
            // already, and nothing to hand over.
            Err(error) => {
                let error = board::chain(&error).collect::<Vec<_>>().join(": ");
                warn!(partition = %board::label(self.id), error, "Could not announce the end to the next owner");
            }
        }
        self.intake.subscription.cancel().await?;
        loop {
            // Ends at once when all that was delivered before has been given out.
            while let Some(delivery) = self.intake.subscription.rest().await? {
                self.intake.take(&delivery);
                if self.intake.is_full() {
                    self.commit_last().await?;
                }
            }
            if !self.intake.batch.is_empty() {
                self.commit_last().await?;
            }
            if !self.intake.subscription.move_on_with_rest() {
                break;
            }
        }
        let released = self.committer.release().await;
        self.of_committer(released)
    }

    /// Goes on until nothing is on its way to this replica but what it holds: one message, or none where none comes.
    async fn narrow(&mut self) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + NARROWED_WITHIN;
        while !self.intake.subscription.is_narrow() {
            self.intake.take_what_is_there(usize::MAX)?;
            if !self.intake.batch.is_empty() {
                self.commit_last().await?;
            }
            self.intake.subscription.narrow().await?;
            let quiet = deadline.min(tokio::time::Instant::now() + QUIET);
            match tokio::time::timeout_at(quiet, self.intake.subscription.next()).await {
                Ok(delivery) => self.intake.take(&delivery?),
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Commits and acknowledges, with nothing being taken in beside.
    async fn commit_last(&mut self) -> Result<(), Error> {
        // Commits may be slow, and are several: the next owner would not wait for all of them.
        if self
            .announced
            .is_some_and(|since| since.elapsed() >= STILL_DRAINING)
        {
            let announced = self.committer.announce_drain().await;
            self.of_committer(announced)?;
            self.announced = Some(Instant::now());
        }
        let Some(change) = self.intake.seal() else {
            return Ok(());
        };
        let (messages, tag) = (change.batch.messages, change.batch.last_tag);
        let committed = self.committer.commit(change).await;
        self.intake.spare = self.of_committer(committed)?;
        if messages > 0 {
            fault::point!("before_ack");
            self.intake.subscription.acknowledge(tag).await?;
            fault::point!("during_ack");
        }
        Ok(())
    }

    fn of_committer<T>(&self, result: Result<T, committer::Error>) -> Result<T, Error> {
        result.context(CommitSnafu { queue: &self.queue })
    }
}

impl Intake<'_> {
    /// Closes the batch; `None` before the partition is claimed.
    fn seal(&mut self) -> Option<Change> {
        let rows = std::mem::take(&mut self.spare);
        self.state.as_ref().map(|state| self.batch.seal(state, rows))
    }

    fn take(&mut self, delivery: &Delivery) {
        fault::point!("before_decode");
        let now: EventTime = service::clock::event_time();
        if let Some(state) = &mut self.state {
            self.batch.take(&self.rules, state, delivery, now);
        }
    }

    fn is_full(&self) -> bool {
        self.batch.messages >= self.share.messages || self.batch.bytes >= self.share.bytes
    }

    /// Takes in what is there, at most so many. Returns whether the batch is full.
    fn take_what_is_there(&mut self, most: usize) -> Result<bool, Error> {
        for _ in 0..most {
            if self.is_full() {
                return Ok(true);
            }
            match self.subscription.poll()? {
                Some(delivery) => self.take(&delivery),
                None => return Ok(false),
            }
        }
        Ok(self.is_full())
    }

    /// Takes in what comes until it is dropped, as far as the batch has room. Returns only with an error.
    async fn keep_taking(&mut self) -> Error {
        loop {
            let before = self.batch.messages;
            match self.take_what_is_there(STRIDE) {
                Ok(true) => self.activity.enter(Phase::Backpressured),
                Ok(false) => {}
                // What is being committed may well succeed, and is known to have when it is delivered again.
                Err(error) => return error,
            }
            if self.batch.messages - before < STRIDE {
                tokio::time::sleep(LOOK).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
