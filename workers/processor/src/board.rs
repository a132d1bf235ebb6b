//! What the processor knows of itself, for `/ready` and `/state`. Plain data behind a lock that is held for moments.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use contract::event_time::EventTime;
use engine::partition::PartitionState;
use serde::Serialize;
use uuid::Uuid;

use crate::store::PartitionId;

/// Commits that are remembered, over all partitions.
const COMMITS: usize = 100;
/// Errors that are remembered.
const ERRORS: usize = 20;

/// Shared by the partition tasks and the HTTP API.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<State>>);

/// The answer to `GET /state`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// Whether the broker is connected.
    pub broker_connected: bool,
    /// Queues that are being consumed, actively or waiting.
    pub consuming: usize,
    /// Queues that should be.
    pub queues: usize,
    /// Whether the last attempt to use the database succeeded.
    pub database_ok: bool,
    /// The partitions that this replica has been active for, `generation.partition`.
    pub partitions: BTreeMap<String, Partition>,
    /// The last commits, newest first. Every commit is a checkpoint: state and effect in one transaction.
    pub commits: VecDeque<Commit>,
    /// The last errors, newest first, each with its root cause first.
    pub errors: VecDeque<Failure>,
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// Where the watermark stands.
    pub watermark: Option<EventTime>,
    /// Whether a missing sequence holds it back.
    pub waiting_for_missing: bool,
    /// For each publisher, the sequence up to which everything is committed.
    pub committed_through: BTreeMap<Uuid, u64>,
}

/// One commit.
#[derive(Clone, Debug, Serialize)]
pub struct Commit {
    /// `generation.partition`.
    pub partition: String,
    /// When it was done.
    pub completed_at: EventTime,
    /// How long it took, in milliseconds.
    pub duration_milliseconds: f64,
    /// Messages in it.
    pub messages: u64,
    /// Ticks in it.
    pub ticks: usize,
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
        self.lock().clone()
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

    /// Notes a partition's state.
    pub fn partition(&self, id: PartitionId, state: &PartitionState) {
        let committed = state
            .publishers()
            .map(|(id, sequences)| (Uuid::from_bytes(*id), sequences.committed_through()));
        let partition = Partition {
            watermark: state.watermark(),
            waiting_for_missing: state.has_open_holes(),
            committed_through: committed.collect(),
        };
        self.lock().partitions.insert(label(id), partition);
    }

    /// Forgets a partition that another replica took over.
    pub fn lost(&self, id: PartitionId) {
        self.lock().partitions.remove(&label(id));
    }

    /// Notes a commit.
    pub fn commit(&self, commit: Commit) {
        let commits = &mut self.lock().commits;
        commits.push_front(commit);
        commits.truncate(COMMITS);
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
