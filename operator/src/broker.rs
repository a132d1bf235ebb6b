//! The broker's side of a feed: reads what is there over RabbitMQ's management API, and writes only what differs.
//!
//! Messages are never deleted here: a queue with other arguments than declared is reported, not replaced. Only queues of a
//! generation that is drained are removed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::names::FeedName;
use snafu::Snafu;

use crate::{
    api::status::reason,
    connection::{BrokerConnection, Problem},
    generations::Found,
    http_client,
    metrics::Heal,
    status::Verdict,
};

mod client;
mod counts;
mod diff;
pub mod password;
mod snapshot;
mod topology;

pub use client::Client;
pub use counts::Counts;
pub use diff::{Action, Conflict, Plan, diff};
pub use snapshot::{Broker, Brokers, Snapshot};
pub use topology::{Observed, Publishing, Queue, QueueSpec, Topology};

/// A count of the management API is at most this old. A quorum queue reports its counts every five seconds, and the API takes
/// them in every five seconds: that is ten, and up to 7.4 s were seen within two minutes on an idle broker.
pub const COUNT_LAG: Duration = Duration::from_secs(12);

/// The broker's side, as wanted.
#[derive(Clone, Debug)]
pub struct BrokerPlan {
    /// Where, with the right to manage it.
    pub connection: BrokerConnection,
    /// What.
    pub topology: Topology,
    /// The newest generation whose queues were all there once; 0 when none was. What is missing of a newer one was never there.
    pub made: u32,
}

/// The broker's side, as it is.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all is as declared.
    pub verdict: Verdict,
    /// Messages in the feed's partition queues, ready and unacknowledged; `None` when unknown.
    pub backlog: Option<i64>,
    /// Messages that the broker gave up on and nobody has taken in yet; `None` when unknown.
    pub dead_letters: Option<i64>,
    /// What there was of each generation of queues before anything was written; `None` when unknown.
    pub found: Option<BTreeMap<u32, Found>>,
    /// What is counted of each partition's queue, by generation and partition; `None` when unknown.
    pub counts: Option<BTreeMap<(u32, u16), Counts>>,
    /// When that was asked for.
    pub read_at: Instant,
    /// What was not as declared, and was written.
    pub written: Vec<(Heal, String)>,
}

/// Why the broker could not be asked or told.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum Error {
    /// No client could be made.
    #[snafu(display("failed to set up a client of the management API"))]
    Client {
        /// Why.
        source: http_client::Error,
    },
    /// The address is none.
    #[snafu(display("failed to make an address of host {host:?}"))]
    Address {
        /// What was given.
        host: String,
    },
    /// It did not answer.
    #[snafu(display("failed to {action}"))]
    Request {
        /// What was attempted.
        action: String,
        /// Why, without the URL.
        source: reqwest::Error,
    },
    /// TLS failed.
    #[snafu(display("failed to {action}: {meaning}"))]
    Tls {
        /// What was attempted.
        action: String,
        /// What that means, and what helps.
        meaning: &'static str,
        /// Why, without the URL.
        source: reqwest::Error,
    },
    /// It refuses user or password.
    #[snafu(display("the broker refuses the user or password of the connection Secret"))]
    Authentication,
    /// It refuses what is attempted.
    #[snafu(display("the broker forbids its user to {action}"))]
    Forbidden {
        /// What was attempted.
        action: String,
    },
    /// The virtual host is not there.
    #[snafu(display("virtual host {vhost:?} does not exist"))]
    NoVhost {
        /// Which.
        vhost: String,
    },
    /// It answered with an error.
    #[snafu(display("failed to {action}: the broker answered {status}: {answer}"))]
    Answer {
        /// What was attempted.
        action: String,
        /// The status code.
        status: u16,
        /// Its words, shortened.
        answer: String,
    },
    /// Its answer is not of the expected form.
    #[snafu(display("failed to read the broker's answer to {action}"))]
    Form {
        /// What was attempted.
        action: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// As a condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Client { .. } | Self::Address { .. } => reason::SECRET_INVALID,
            Self::Request { .. } => reason::UNREACHABLE,
            Self::Tls { .. } => reason::TLS_FAILED,
            Self::Authentication => reason::AUTHENTICATION_FAILED,
            Self::Forbidden { .. } => reason::PERMISSION_DENIED,
            Self::NoVhost { .. } => reason::VHOST_NOT_FOUND,
            Self::Answer { .. } | Self::Form { .. } => reason::FAILED,
        }
    }
}

/// Makes the broker's side as wanted, and says how it is.
pub async fn reconcile(brokers: &Brokers, plan: Result<BrokerPlan, Problem>) -> Outcome {
    let outcome = match plan {
        Ok(plan) => ensure(brokers, &plan).await,
        Err(problem) => Err(Verdict::of_problem(&problem)),
    };
    outcome.unwrap_or_else(Outcome::unknown)
}

/// Removes the queues of a generation that is drained. From the lowest partition on, so that the highest says how many there
/// were for as long as one is left. RabbitMQ deletes no quorum queue on the condition that it is empty or unused, which
/// is why they are sealed and counted before.
///
/// # Errors
/// When the broker cannot be told.
pub async fn remove(
    brokers: &Brokers,
    connection: &BrokerConnection,
    feed: &FeedName,
    generation: u32,
    partitions: u16,
) -> Result<(), Error> {
    let broker = brokers.of(connection)?;
    for partition in 0..partitions {
        broker
            .client
            .delete_queue(&feed.queue(generation, partition))
            .await?;
    }
    broker.writes(&feed.exchange());
    Ok(())
}

async fn ensure(brokers: &Brokers, plan: &BrokerPlan) -> Result<Outcome, Verdict> {
    let said = |error: Error| Verdict::no(error.reason(), crate::status::chain(&error));
    let broker = brokers.of(&plan.connection).map_err(said)?;
    let snapshot = broker.look(&plan.topology.exchange).await?;
    let observed = snapshot.of(&plan.topology);
    let Plan { actions, conflicts } = diff(&plan.topology, &observed);
    let mut written = Vec::with_capacity(actions.len());
    for action in actions {
        let performed = broker.client.perform(&plan.topology, &action).await;
        // Also when it failed: the broker may have done it all the same.
        broker.writes(&plan.topology.exchange);
        performed.map_err(said)?;
        if action.is_repair(&plan.topology, plan.made) {
            written.push(action.describe());
        }
    }
    let verdict = match conflicts.first() {
        Some(conflict) => Verdict::no(conflict.reason(), conflict.to_string()),
        None => Verdict::yes(reason::AS_DECLARED, plan.topology.summary(&observed)),
    };
    Ok(Outcome {
        verdict,
        backlog: observed.backlog(&plan.topology),
        dead_letters: observed.dead_letters(&plan.topology),
        found: Some(observed.generations(&plan.topology)),
        counts: observed.counts(&plan.topology),
        read_at: snapshot.read_at,
        written,
    })
}

impl Outcome {
    fn unknown(verdict: Verdict) -> Self {
        Self {
            verdict,
            backlog: None,
            dead_letters: None,
            found: None,
            counts: None,
            read_at: Instant::now(),
            written: Vec::new(),
        }
    }
}
