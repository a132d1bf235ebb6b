//! What a deletion removes and what it keeps, for `status.deletionPlan`. Pure.
//!
//! The plan is made anew at each look, from what is there then: what is gone is no longer in it.

use std::collections::{BTreeMap, BTreeSet};

use contract::names::FeedName;
use jiff::Timestamp;

use crate::{
    api::status::{DeletionAction, DeletionEntry, StockFeedStatus},
    broker::{Queue, Topology},
    generations::grouped,
    labels::Component,
};

/// How far a deletion is. The order is that of the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The producer ends.
    Producer,
    /// Processors store what is queued.
    Draining,
    /// The processors end.
    Processors,
    /// What is in the broker and the database is removed.
    Servers,
    /// Nothing is left to do.
    Over,
}

/// How a server takes part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// It was not asked yet, or it answers.
    #[default]
    Answers,
    /// What had to go is gone.
    Done,
    /// It cannot be used, and is given up then.
    Lost {
        /// Why.
        why: String,
        /// When it is given up; `None`: now.
        until: Option<Timestamp>,
    },
}

/// What is known when the plan is made.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Whose.
    pub name: &'a FeedName,
    /// Whether data stays.
    pub retain: bool,
    /// How far it is.
    pub stage: Stage,
    /// What was last counted in the broker; `None`: it has not answered.
    pub queues: Option<&'a Queues>,
    /// The broker.
    pub broker: &'a Server,
    /// The database.
    pub database: &'a Server,
}

/// What a feed may have outside the cluster, as its status tells: each is written when the first of it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Something in the broker.
    pub broker: bool,
    /// Something in the database.
    pub database: bool,
}

impl Used {
    /// What the status tells.
    #[must_use]
    pub fn of(status: Option<&StockFeedStatus>) -> Self {
        Self {
            broker: status
                .is_some_and(|status| !status.queues.is_empty() || status.queue_generation.is_some()),
            database: status.is_some_and(|status| status.schema_version.is_some()),
        }
    }
}

/// Some queues, and what they hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many.
    pub queues: usize,
    /// Messages, ready and unacknowledged; `None` while one of the queues was not counted.
    pub messages: Option<i64>,
}

/// The queues of a feed. Those of a generation go or stay together: how many there are decides which symbols are in which.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    generations: BTreeMap<u32, Counted>,
    /// Dead letters, and what is no partition's.
    others: BTreeMap<String, Counted>,
}

impl Queues {
    /// Counts them.
    #[must_use]
    pub fn new(found: &BTreeMap<String, Queue>, topology: &Topology) -> Self {
        let mut queues = Self::default();
        for queue in found.values() {
            let empty = Counted {
                queues: 0,
                messages: Some(0),
            };
            let counted = match topology.place(&queue.name) {
                Some((generation, _)) => queues.generations.entry(generation).or_insert(empty),
                None => queues.others.entry(queue.name.clone()).or_insert(empty),
            };
            counted.queues += 1;
            let both = counted.messages.zip(queue.messages());
            counted.messages = both.map(|(sum, messages)| sum + messages);
        }
        queues
    }

    /// Names of the queues that stay under `Retain`: those that hold messages, and the empty ones of the same generation. A queue
    /// that was never counted is not known to be empty.
    #[must_use]
    pub fn kept<'a>(&self, found: &'a BTreeMap<String, Queue>, topology: &Topology) -> BTreeSet<&'a str> {
        let stays = |queue: &&Queue| match topology.place(&queue.name) {
            Some((generation, _)) => self.generations.get(&generation).is_some_and(Counted::stays),
            None => self.others.get(&queue.name).is_some_and(Counted::stays),
        };
        let kept = found.values().filter(stays);
        kept.map(|queue| queue.name.as_str()).collect()
    }

    /// Messages in the generations that processors consume, up to this one; `None` when one was not counted. Those of newer
    /// generations are not waited for: a feed of the same name processes them.
    #[must_use]
    pub fn consumed(&self, up_to: Option<u32>) -> Option<i64> {
        let consumed = self
            .generations
            .iter()
            .filter(|(generation, _)| up_to.is_none_or(|up_to| **generation <= up_to));
        consumed.map(|(_, counted)| counted.messages).sum()
    }
}

impl Counted {
    fn stays(&self) -> bool {
        self.messages != Some(0)
    }

    fn words(&self) -> String {
        match self.messages {
            None => "not counted yet".to_owned(),
            Some(0) => "empty".to_owned(),
            Some(1) => "holds 1 message".to_owned(),
            Some(messages) => format!("holds {} messages", grouped(messages)),
        }
    }
}

/// The plan, in the order in which it is carried out.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Vec<DeletionEntry> {
    let mut plan = Vec::new();
    workers(facts, &mut plan);
    broker(facts, &mut plan);
    database(facts, &mut plan);
    if facts.stage < Stage::Over {
        plan.push(entry(
            "Objects",
            "ConfigMaps, Secrets, Services and others that the feed owns",
            DeletionAction::Remove,
            "Kubernetes removes them with the feed",
        ));
    }
    plan
}

fn workers(facts: &Facts<'_>, plan: &mut Vec<DeletionEntry>) {
    let name = |component: Component| component.object_name(facts.name.name());
    if facts.stage == Stage::Producer {
        plan.push(entry(
            "Producer",
            name(Component::Producer),
            DeletionAction::Remove,
            "it ends first, so that nothing new comes in",
        ));
    }
    let (action, why) = match (facts.stage, facts.retain) {
        (Stage::Producer, true) => (
            DeletionAction::Waiting,
            "they store what is queued, for at most a minute, when the producer has ended",
        ),
        (Stage::Draining, true) => (
            DeletionAction::Waiting,
            "they store what is queued, for at most a minute",
        ),
        (Stage::Producer | Stage::Draining, false) => (DeletionAction::Remove, "deletionPolicy Delete"),
        (Stage::Processors, _) => (DeletionAction::Remove, "they commit what they hold, and end"),
        (Stage::Servers | Stage::Over, _) => return,
    };
    plan.push(entry("Processors", name(Component::Processor), action, why));
}

fn broker(facts: &Facts<'_>, plan: &mut Vec<DeletionEntry>) {
    let name = facts.name;
    if let Server::Lost { why, until } = facts.broker {
        let (action, why) = lost("broker", why, *until);
        let all_queues = format!("{}*", name.queue_prefix());
        for (what, name) in [
            ("Exchange", name.exchange()),
            ("Queues", all_queues),
            ("Queues", name.dead_letter_queue()),
            ("BrokerUser", name.broker_user()),
        ] {
            plan.push(entry(what, name, action, &why));
        }
        return;
    }
    let done = *facts.broker == Server::Done;
    if facts.stage == Stage::Producer {
        let (action, why) = (DeletionAction::Waiting, "it goes when the producer has ended");
        plan.push(entry("Exchange", name.exchange(), action, why));
    }
    match facts.queues {
        Some(queues) => of_queues(facts, queues, done, plan),
        None if done => {}
        None => {
            let why = "not counted yet";
            let all = format!("{}*", name.queue_prefix());
            plan.push(entry("Queues", all, DeletionAction::Waiting, why));
        }
    }
    if !done {
        let (action, why) = match facts.stage {
            Stage::Servers | Stage::Over => (DeletionAction::Remove, "nothing uses it any more"),
            _ => (DeletionAction::Waiting, "it goes when the processors have ended"),
        };
        plan.push(entry("BrokerUser", name.broker_user(), action, why));
    }
}

fn of_queues(facts: &Facts<'_>, queues: &Queues, done: bool, plan: &mut Vec<DeletionEntry>) {
    let generations = queues.generations.iter().map(|(generation, counted)| {
        let name = format!("{}{generation}.*", facts.name.queue_prefix());
        (name, counted)
    });
    let others = queues
        .others
        .iter()
        .map(|(name, counted)| (name.clone(), counted));
    for (name, counted) in generations.chain(others) {
        let holds = counted.words();
        let (action, why) = match (facts.retain, counted.stays()) {
            _ if done && !(facts.retain && counted.stays()) => continue,
            (false, true) => (DeletionAction::Remove, format!("{holds}, deletionPolicy Delete")),
            (_, false) => (DeletionAction::Remove, holds),
            (true, true) if facts.stage < Stage::Servers => (
                DeletionAction::Waiting,
                format!("{holds}; what is left when the processors have ended is kept"),
            ),
            (true, true) => (
                DeletionAction::Keep,
                format!("{holds}, deletionPolicy Retain: a StockFeed of the same name takes them up"),
            ),
        };
        plan.push(entry("Queues", name, action, &why));
    }
}

fn database(facts: &Facts<'_>, plan: &mut Vec<DeletionEntry>) {
    let name = facts.name;
    let roles = format!("{}, {}", name.writer_role(), name.reader_role());
    let (action, why) = match (facts.database, facts.retain) {
        (_, true) => (DeletionAction::Keep, "deletionPolicy Retain".to_owned()),
        (Server::Done, false) => return,
        (Server::Lost { why, until }, false) => lost("database", why, *until),
        (Server::Answers, false) => match facts.stage {
            Stage::Servers | Stage::Over => (DeletionAction::Remove, "deletionPolicy Delete".to_owned()),
            _ => (
                DeletionAction::Waiting,
                "deletionPolicy Delete: it goes when the processors have ended".to_owned(),
            ),
        },
    };
    plan.push(entry("Schema", name.schema(), action, &why));
    plan.push(entry("Roles", roles, action, &why));
}

fn lost(server: &str, why: &str, until: Option<Timestamp>) -> (DeletionAction, String) {
    match until {
        Some(until) => (
            DeletionAction::Waiting,
            format!(
                "waiting for the {server} until {}, then it is left behind: {why}",
                seconds(until)
            ),
        ),
        None => (
            DeletionAction::Orphan,
            format!("the {server} was waited for in vain: {why}"),
        ),
    }
}

/// Whole seconds are enough for people.
#[must_use]
pub fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn entry(what: &str, name: impl Into<String>, action: DeletionAction, why: impl AsRef<str>) -> DeletionEntry {
    DeletionEntry {
        what: what.to_owned(),
        name: name.into(),
        action,
        why: why.as_ref().chars().take(MAX_WHY).collect(),
    }
}

/// The longest reason: a person reads a few lines.
const MAX_WHY: usize = 300;

#[cfg(test)]
mod tests;
