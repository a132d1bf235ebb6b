//! What the processor knows of itself, for `/ready` and `/state`. Plain data behind a lock that is held for moments.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use contract::event_time::EventTime;
use engine::{partition::PartitionState, sequence::Sequences};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    activity::{self, Activity, Shares},
    batch::{Batch, Change},
    committer::seconds_between,
    metrics::Metrics,
    store::PartitionId,
};

/// Commits that are remembered, over all partitions.
const CHECKPOINTS: usize = 100;
/// Errors that are remembered.
const ERRORS: usize = 20;
/// Publishers that are shown of a partition, newest first: each restart of a producer is one.
const PUBLISHERS: usize = 20;
/// The broker is asked how many messages wait for so long after somebody asked here.
const DEPTHS_WANTED: Duration = Duration::from_secs(30);

/// Shared by the partition tasks and the HTTP API.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<State>>);

/// The answer to `GET /state`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// The feed, `namespace/name`.
    pub feed: String,
    /// This replica's name.
    pub instance: String,
    /// The program's version.
    pub version: &'static str,
    /// When it was started.
    pub started_at: Option<EventTime>,
    /// Whether the broker is connected.
    pub broker_connected: bool,
    /// Queues that are being consumed, actively or waiting.
    pub consuming: usize,
    /// Queues that should be.
    pub queues: usize,
    /// Whether the last attempt to use the database succeeded.
    pub database_ok: bool,
    /// The partitions that this replica owns, by `generation.partition`.
    pub partitions: BTreeMap<String, Partition>,
    /// The last commits, newest first. Every commit is a checkpoint: state and effect in one transaction.
    pub checkpoints: VecDeque<Checkpoint>,
    /// The last errors, newest first, each with its root cause first.
    pub errors: VecDeque<Failure>,
    /// Until when somebody wants to know how many messages wait.
    #[serde(skip)]
    depths_wanted: Option<Instant>,
}

/// A queue, as the broker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// Messages that wait and are on no consumer's way.
    pub ready: u32,
    /// Consumers, the waiting ones included.
    pub consumers: u32,
    /// When the broker was asked.
    pub at: EventTime,
}

/// One partition, as it is committed.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// Since when this replica owns it.
    pub claimed_at: EventTime,
    /// The number of the last commit, over all owners there were.
    pub checkpoint: i64,
    /// Where the watermark stands.
    pub watermark: Option<EventTime>,
    /// How far it is behind the time of day, in seconds, when last looked at (every five seconds).
    pub watermark_lag_seconds: Option<f64>,
    /// The newest event time that this replica has committed.
    pub last_event_time: Option<EventTime>,
    /// Whether a missing sequence holds the watermark back.
    pub waiting_for_missing: bool,
    /// The committed sequences of the latest publishers.
    pub publishers: BTreeMap<Uuid, Committed>,
    /// How many messages the broker gives unacknowledged.
    pub prefetch: u16,
    /// What this replica has committed of it.
    pub totals: Totals,
    /// What its time was spent on, in the last five seconds.
    pub time: Shares,
    /// What its time was spent on since it was claimed, up to the moment of the question.
    pub spent: activity::Totals,
    /// Its queue; absent where nobody asked for it of late.
    pub queue: Option<Queue>,
    #[serde(skip)]
    id: PartitionId,
    #[serde(skip)]
    activity: Activity,
    #[serde(skip)]
    at_claim: activity::Totals,
}

/// What is committed of a publisher's messages.
#[derive(Clone, Debug, Serialize)]
pub struct Committed {
    /// Every sequence up to this one.
    pub through: u64,
    /// All committed ranges; one, unless something is missing.
    pub ranges: Vec<(u64, u64)>,
    /// Holes up to this sequence were given up as gaps.
    pub abandoned: u64,
}

/// Sums over commits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Messages.
    pub messages: u64,
    /// Messages dropped because they were committed before.
    pub duplicates: u64,
    /// Ticks.
    pub ticks: u64,
    /// Bytes of the bodies.
    pub bytes: u64,
    /// Tick and window pairs that came too late.
    pub late: u64,
    /// Entries put into quarantine.
    pub quarantined: u64,
    /// Messages that never arrived.
    pub gaps: u64,
}

/// One commit.
#[derive(Clone, Debug, Serialize)]
pub struct Checkpoint {
    /// Its number within the partition.
    pub id: i64,
    /// `generation.partition`.
    pub partition: String,
    /// When it was done.
    pub completed_at: EventTime,
    /// How long it took, in milliseconds.
    pub duration_milliseconds: f64,
    /// Messages in it.
    pub messages: u64,
    /// Messages that were dropped because they were committed before.
    pub duplicates: u64,
    /// Ticks in it.
    pub ticks: u64,
    /// Candles that it changed.
    pub candles: usize,
    /// Tick and window pairs that came too late.
    pub late: usize,
    /// Entries put into quarantine.
    pub quarantined: usize,
    /// Bytes of the bodies.
    pub bytes: usize,
}

/// One error.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// When.
    pub at: EventTime,
    /// What was being done, for example `partition 1.0`.
    pub scope: String,
    /// The root cause.
    pub cause: String,
    /// The whole chain, outermost first.
    pub message: String,
}

impl Board {
    /// A copy of the state.
    #[must_use]
    pub fn snapshot(&self) -> State {
        let mut state = self.lock().clone();
        for partition in state.partitions.values_mut() {
            partition.spent = partition.activity.totals().since(partition.at_claim);
        }
        state
    }

    /// Whether everything that work needs is there, or what is missing.
    ///
    /// # Errors
    /// What is missing, for people.
    pub fn ready(&self) -> Result<(), String> {
        let state = self.lock();
        if !state.broker_connected {
            return Err("the broker is not connected".to_owned());
        }
        if state.consuming < state.queues {
            return Err(format!(
                "{} of {} queues are consumed",
                state.consuming, state.queues
            ));
        }
        if !state.database_ok {
            return Err("the last attempt to use the database failed".to_owned());
        }
        Ok(())
    }

    /// Sets how many queues there are to consume.
    pub fn expect_queues(&self, queues: usize) {
        self.lock().queues = queues;
    }

    /// Notes the broker's connection. Without one nothing is consumed.
    pub fn broker(&self, connected: bool) {
        self.lock().broker_connected = connected;
    }

    /// Notes that a queue is being consumed, until the guard is dropped.
    #[must_use]
    pub fn consuming(&self) -> Consuming {
        self.lock().consuming += 1;
        Consuming(self.clone())
    }

    /// Notes whether the database could be used.
    pub fn database(&self, ok: bool) {
        self.lock().database_ok = ok;
    }

    /// Notes who this is.
    pub fn introduce(&self, feed: String, instance: String, started_at: EventTime) {
        let mut state = self.lock();
        state.feed = feed;
        state.instance = instance;
        state.version = env!("CARGO_PKG_VERSION");
        state.started_at = Some(started_at);
    }

    /// Notes that this replica owns a partition now.
    pub fn claimed(
        &self,
        id: PartitionId,
        state: &PartitionState,
        checkpoint: i64,
        claimed_at: EventTime,
        activity: Activity,
    ) {
        let publishers = state.publishers();
        let publishers = publishers.map(|(publisher, sequences)| (*publisher, sequences));
        let mut partition = Partition {
            claimed_at,
            checkpoint,
            watermark: state.watermark(),
            watermark_lag_seconds: None,
            last_event_time: None,
            waiting_for_missing: state.has_open_holes(),
            publishers: BTreeMap::new(),
            prefetch: 0,
            totals: Totals::default(),
            time: Shares::default(),
            spent: activity::Totals::default(),
            queue: None,
            id,
            at_claim: activity.totals(),
            activity,
        };
        partition.note(publishers);
        self.lock().partitions.insert(label(id), partition);
    }

    /// Forgets a partition that another replica took over.
    pub fn lost(&self, id: PartitionId) {
        self.lock().partitions.remove(&label(id));
    }

    /// Notes how many messages the broker gives unacknowledged.
    pub fn prefetch(&self, id: PartitionId, prefetch: u16) {
        if let Some(partition) = self.lock().partitions.get_mut(&label(id)) {
            partition.prefetch = prefetch;
        }
    }

    /// Somebody wants to know how many messages wait in queues: the broker is asked for a while.
    pub fn want_depths(&self) {
        self.lock().depths_wanted = Some(Instant::now() + DEPTHS_WANTED);
    }

    /// Whether somebody wants to know it. What was known is forgotten when nobody does.
    #[must_use]
    pub fn wants_depths(&self) -> bool {
        let mut state = self.lock();
        let wanted = state.depths_wanted.is_some_and(|until| Instant::now() < until);
        if !wanted && state.depths_wanted.take().is_some() {
            for partition in state.partitions.values_mut() {
                partition.queue = None;
            }
        }
        wanted
    }

    /// The partitions that this replica owns.
    #[must_use]
    pub fn owned(&self) -> Vec<PartitionId> {
        self.lock()
            .partitions
            .values()
            .map(|partition| partition.id)
            .collect()
    }

    /// Notes how a queue is.
    pub fn queue(&self, id: PartitionId, queue: Queue) {
        if let Some(partition) = self.lock().partitions.get_mut(&label(id)) {
            partition.queue = Some(queue);
        }
    }

    /// Notes a commit.
    pub fn committed(&self, id: PartitionId, change: &Change, checkpoint: Checkpoint) {
        let mut state = self.lock();
        state.database_ok = true;
        if let Some(partition) = state.partitions.get_mut(&label(id)) {
            partition.checkpoint = checkpoint.id;
            partition.watermark = change.watermark;
            partition.waiting_for_missing = change.waits_for_missing;
            let latest = change.batch.effects.last_event_time;
            partition.last_event_time = partition.last_event_time.max(latest);
            partition.totals.add(&change.batch);
            partition.note(
                change
                    .sequences
                    .iter()
                    .map(|(publisher, sequences)| (*publisher, sequences)),
            );
        }
        state.checkpoints.push_front(checkpoint);
        state.checkpoints.truncate(CHECKPOINTS);
    }

    /// Looks at what changes by itself: how the time is spent, and how far watermarks are behind. Shows it
    /// in the metrics as well.
    pub fn sample(&self, now: EventTime, metrics: &Metrics) {
        for partition in self.lock().partitions.values_mut() {
            partition.time = partition.activity.sample();
            let watermark = partition.watermark.map(|watermark| {
                let since_epoch = seconds_between(EventTime::EPOCH, watermark);
                (since_epoch, seconds_between(watermark, now))
            });
            partition.watermark_lag_seconds = watermark.map(|(_, lag)| lag);
            metrics.sampled(partition.id, partition.time, watermark);
        }
    }

    /// Notes an error.
    pub fn error(&self, at: EventTime, scope: impl Into<String>, error: &dyn std::error::Error) {
        let chain: Vec<String> = chain(error).collect();
        let cause = chain.last().cloned().unwrap_or_default();
        let errors = &mut self.lock().errors;
        errors.push_front(Failure {
            at,
            scope: scope.into(),
            cause,
            message: chain.join(": "),
        });
        errors.truncate(ERRORS);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain data behind, not a broken invariant.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, one queue more is being consumed.
#[derive(Debug)]
pub struct Consuming(Board);

impl Drop for Consuming {
    fn drop(&mut self) {
        self.0.lock().consuming -= 1;
    }
}

impl Partition {
    /// Notes the committed sequences of some publishers, and forgets the oldest beyond what is shown.
    fn note<'a>(&mut self, publishers: impl Iterator<Item = ([u8; 16], &'a Sequences)>) {
        for (publisher, sequences) in publishers {
            let ranges = sequences.runs().iter().map(|run| (run.first, run.last));
            let committed = Committed {
                through: sequences.committed_through(),
                ranges: ranges.collect(),
                abandoned: sequences.abandoned(),
            };
            self.publishers.insert(Uuid::from_bytes(publisher), committed);
        }
        // They are named by UUIDs of version 7, which sort by time.
        while self.publishers.len() > PUBLISHERS {
            self.publishers.pop_first();
        }
    }
}

impl Totals {
    fn add(&mut self, batch: &Batch) {
        let effects = &batch.effects;
        self.messages += effects.messages;
        self.duplicates += effects.duplicates;
        self.ticks += effects.ticks;
        self.bytes += batch.bytes as u64;
        self.late += effects.late.len() as u64;
        self.quarantined += batch.refused.len() as u64;
        self.gaps += batch.missing();
    }
}

/// `generation.partition`.
#[must_use]
pub fn label(
    PartitionId {
        generation,
        partition,
    }: PartitionId,
) -> String {
    format!("{generation}.{partition}")
}

/// An error and its causes, outermost first.
pub fn chain<'a>(error: &'a dyn std::error::Error) -> impl Iterator<Item = String> + 'a {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_asked_for_depths_only_after_somebody_asked() {
        let board = Board::default();
        assert!(!board.wants_depths());
        board.want_depths();
        assert!(board.wants_depths());
        board.lock().depths_wanted = Some(Instant::now());
        assert!(!board.wants_depths(), "nobody asked again");
    }
}
