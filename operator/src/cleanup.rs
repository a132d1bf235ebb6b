//! Takes a feed away: workers first, then what lies outside the cluster, then the finalizer.
//!
//! 1. The producer goes, then the exchange, so that nothing new comes in.
//! 2. Under `Retain`, processors finish what is queued, for at most a minute.
//! 3. The processors go; then the queues of all generations and the user. Under `Retain` a generation that still holds
//!    messages stays, with all its queues: how many there are decides which symbols are in which.
//! 4. Under `Delete` the schema goes with its two roles. Under `Retain` both stay as they are: readers that were given
//!    the reader's password go on reading. A feed of the same name finds all of it again, and sets new passwords.
//!
//! A broker or database that cannot be used for as long as `--orphan-after` says is given up with an Event, so that no namespace
//! hangs. From the first look to the last, `status.deletionPlan` says what goes, what stays, and why.

use std::time::Duration;

use contract::names::FeedName;
use kube::{ResourceExt as _, runtime::controller::Action};
use snafu::{ResultExt, Snafu};

use crate::{
    api::{DeletionPolicy, FINALIZER, StockFeed, status::DeletionEntry},
    clock,
    context::{Context, Moment},
    dereference,
    events::Reason,
    labels::Component,
    status::of_deletion,
    update_status::{self, update_status},
};

mod finalizer;
mod plan;
mod servers;
mod workers;

pub use finalizer::hold;
use plan::{Facts, Server, Stage, plan, seconds};
use servers::{Seen, Step};

/// How long processors may drain the queues, from the beginning of the deletion.
const DRAIN_TIME: Duration = Duration::from_secs(60);
/// How long pods may take to go, from the beginning of the deletion: draining and their own grace period.
const POD_TIME: Duration = Duration::from_secs(150);
/// How often to look while something goes on.
const POLL: Duration = Duration::from_secs(2);

/// Why a deletion could not go on.
#[derive(Debug, Snafu)]
pub enum Error {
    /// The API server refused or did not answer.
    #[snafu(display("failed to {action}"))]
    Kubernetes {
        /// What was attempted.
        action: &'static str,
        /// Why.
        #[snafu(source(from(kube::Error, Box::new)))]
        source: Box<kube::Error>,
    },
    /// A Secret or a worker's pods could not be read.
    #[snafu(display("failed to find the feed's connections or pods"))]
    Dereference {
        /// Why.
        source: dereference::Error,
    },
    /// The status could not be written.
    #[snafu(display("failed to say how the deletion goes"))]
    Status {
        /// Why.
        source: update_status::Error,
    },
}

/// How a deletion stands.
#[derive(Debug)]
pub enum Progress {
    /// Everything is gone that had to go.
    Done,
    /// Something is waited for; look again then.
    Waiting(Action),
}

/// What a look at a deletion came to.
struct Look {
    plan: Vec<DeletionEntry>,
    message: String,
    /// When to look again; `None`: it is over.
    wait: Option<Duration>,
}

/// Goes on with a deletion.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn cleanup(ctx: &Context, feed: &StockFeed) -> Result<Progress, Error> {
    if !feed.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Progress::Done);
    }
    // A name that cannot be part of others never had anything outside the cluster.
    let Ok(name) = crate::validate::feed_name(feed) else {
        finalizer::release(ctx, feed).await?;
        return Ok(Progress::Done);
    };
    let deletion = Deletion {
        ctx,
        feed,
        name,
        uid: feed.uid().unwrap_or_default(),
        retain: feed.spec.deletion_policy == DeletionPolicy::Retain,
        elapsed: elapsed(feed),
    };
    let Look { plan, message, wait } = deletion.advance().await?;
    let generation = feed.metadata.generation.unwrap_or_default();
    let status = of_deletion(&message, plan, generation, feed.status.as_ref(), clock::now());
    update_status(ctx, feed, &status).await.context(StatusSnafu)?;
    match wait {
        Some(wait) => Ok(Progress::Waiting(Action::requeue(wait))),
        None => {
            finalizer::release(ctx, feed).await?;
            Ok(Progress::Done)
        }
    }
}

struct Deletion<'a> {
    ctx: &'a Context,
    feed: &'a StockFeed,
    name: FeedName,
    uid: String,
    /// Whether data stays.
    retain: bool,
    /// Since the deletion began.
    elapsed: Duration,
}

impl Deletion<'_> {
    /// Does what can be done now.
    async fn advance(&self) -> Result<Look, Error> {
        self.delete_worker(Component::Producer).await?;
        if !self.retain {
            self.delete_worker(Component::Processor).await?;
        }
        if self.pods(Component::Producer).await? > 0 {
            let seen = self.look_at_broker().await?;
            let message = "waiting for the producer to end";
            return Ok(self.waiting(Stage::Producer, &seen, message));
        }

        // Pods that do not go in time are waited for no longer.
        let processors = self.pods(Component::Processor).await?;
        let broker = self.clean_broker(processors).await?;
        if let Step::Wait(message) = &broker.step {
            let stage = match processors {
                0 => Stage::Servers,
                _ => Stage::Draining,
            };
            return Ok(self.waiting(stage, &broker, message));
        }
        // The broker may be gone for good; the workers have to end in any case.
        self.delete_worker(Component::Processor).await?;
        // Their pods may go between two looks at them: what waited for that has still to be done.
        let first = matches!(broker.step, Step::ProcessorsFirst);
        if first || self.pods(Component::Processor).await? > 0 {
            let message = "waiting for the processors to end";
            return Ok(self.waiting(Stage::Processors, &broker, message));
        }
        let database = match self.retain {
            true => Step::Done,
            false => self.clean_database().await?,
        };
        self.conclude(&broker, &database).await
    }

    /// Both servers were told: it is over, unless one that is away is waited for.
    async fn conclude(&self, broker: &Seen, database: &Step) -> Result<Look, Error> {
        let servers = [
            ("broker", self.server(&broker.step, Moment::BrokerLost)),
            ("database", self.server(database, Moment::DatabaseLost)),
        ];
        let mut stuck = Vec::new();
        let mut until = None;
        for (what, server) in &servers {
            if let Server::Lost { why, until: time } = server {
                stuck.push(format!("the {what} cannot be cleaned up: {why}"));
                until = until.max(*time);
            }
        }
        let stage = match until {
            Some(_) => Stage::Servers,
            None => Stage::Over,
        };
        let [(_, of_broker), (_, of_database)] = &servers;
        let plan = plan(&Facts {
            name: &self.name,
            retain: self.retain,
            stage,
            queues: broker.queues.as_ref(),
            broker: of_broker,
            database: of_database,
        });
        let stuck = stuck.join("; ");
        if let Some(until) = until {
            return Ok(Look {
                plan,
                message: format!("{stuck}; it is waited for until {}", seconds(until)),
                wait: Some(self.ctx.backoff.next(&self.uid)),
            });
        }
        self.announce(&stuck).await;
        Ok(Look {
            plan,
            message: "everything is done; deletionPlan says what stays".to_owned(),
            wait: None,
        })
    }

    fn waiting(&self, stage: Stage, seen: &Seen, message: &str) -> Look {
        let plan = plan(&Facts {
            name: &self.name,
            retain: self.retain,
            stage,
            queues: seen.queues.as_ref(),
            broker: &self.server(&seen.step, Moment::BrokerLost),
            database: &Server::Answers,
        });
        Look {
            plan,
            message: message.to_owned(),
            wait: Some(POLL),
        }
    }

    /// Events of the end.
    async fn announce(&self, stuck: &str) {
        let events = &self.ctx.events;
        if stuck.is_empty() {
            let note = "everything outside the cluster that had to go is gone";
            events.publish(self.feed, Reason::CleanedUp, note).await;
        } else {
            let note = self.left_behind(stuck);
            events.publish(self.feed, Reason::Orphaned, &note).await;
        }
        if self.retain {
            let note = format!(
                "schema {} and its roles stay, as deletionPolicy Retain says",
                self.name.schema()
            );
            events.publish(self.feed, Reason::SchemaKept, &note).await;
        }
    }
}

fn elapsed(feed: &StockFeed) -> Duration {
    let began = feed.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let elapsed = began.map(|began| clock::now().duration_since(began));
    // A clock that runs behind the API server's has seen no time pass.
    elapsed
        .and_then(|elapsed| Duration::try_from(elapsed).ok())
        .unwrap_or_default()
}
