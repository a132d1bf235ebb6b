//! What has to be written so that the broker is as wanted. Pure.

use std::fmt;

use super::{
    password,
    topology::{Observed, Permissions, QueueSpec, Topology},
};
use crate::{api::status::reason, metrics::Heal};

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Declare the exchange.
    DeclareExchange,
    /// Declare a queue.
    DeclareQueue(QueueSpec),
    /// Bind a queue to the exchange.
    Bind {
        /// Which.
        queue: String,
        /// With which key.
        key: String,
    },
    /// Let the exchange lead to a queue no longer.
    Unbind {
        /// Which queue.
        queue: String,
        /// What the management API calls the binding.
        properties_key: String,
    },
    /// Make the user, or set its password.
    PutUser,
    /// Set the user's permissions.
    PutPermissions,
}

/// Something that differs and cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The exchange has another type or does not outlive a restart.
    Exchange(String),
    /// A partition's queue has other arguments.
    Queue {
        /// Which.
        name: String,
        /// The arguments that differ.
        arguments: Vec<String>,
    },
    /// The dead letters' queue has other arguments.
    DeadLetters {
        /// Which.
        name: String,
        /// The arguments that differ.
        arguments: Vec<String>,
    },
}

/// What has to be written, and what cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In the order they have to be performed.
    pub actions: Vec<Action>,
    /// In the way.
    pub conflicts: Vec<Conflict>,
}

/// Compares what is wanted with what is there.
#[must_use]
pub fn diff(wanted: &Topology, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    match &observed.exchange {
        None => plan.actions.push(Action::DeclareExchange),
        Some(exchange) if exchange.kind != "topic" || !exchange.durable => {
            plan.conflicts.push(Conflict::Exchange(wanted.exchange.clone()));
        }
        Some(_) => {}
    }
    for queue in wanted.queues() {
        match observed.queues.get(&queue.name) {
            None => plan.actions.push(Action::DeclareQueue(queue.clone())),
            Some(found) => {
                let mut arguments: Vec<_> = differing(&queue.arguments, &found.arguments);
                if !found.durable {
                    arguments.push("durable".to_owned());
                }
                let name = queue.name.clone();
                match wanted.place(&queue.name) {
                    _ if arguments.is_empty() => {}
                    None => plan.conflicts.push(Conflict::DeadLetters { name, arguments }),
                    // An older one is drained and goes, as it is.
                    Some((generation, _)) if generation < wanted.newest => {}
                    Some(_) => plan.conflicts.push(Conflict::Queue { name, arguments }),
                }
            }
        }
    }
    for queue in wanted.queues() {
        let Some(key) = &queue.binding else { continue };
        let bound = observed
            .bindings
            .iter()
            .any(|binding| binding.is_to_queue(&queue.name) && binding.routing_key == *key);
        if !bound {
            plan.actions.push(Action::Bind {
                queue: queue.name.clone(),
                key: key.clone(),
            });
        }
    }
    for binding in &observed.bindings {
        let place = wanted.place(&binding.destination);
        let sealed = place.is_some_and(|(generation, _)| generation < wanted.sealed_below);
        if sealed && binding.is_to_queue(&binding.destination) {
            plan.actions.push(Action::Unbind {
                queue: binding.destination.clone(),
                properties_key: binding.properties_key.clone(),
            });
        }
    }
    let user = observed.user.as_ref().is_some_and(|user| {
        user.hashing_algorithm == password::ALGORITHM
            && password::matches(&user.password_hash, &wanted.password)
    });
    if !user {
        plan.actions.push(Action::PutUser);
    }
    if observed.permissions.as_ref() != Some(&wanted.permissions()) {
        plan.actions.push(Action::PutPermissions);
    }
    plan
}

/// Names of the arguments that are missing, extra or different.
fn differing(
    wanted: &serde_json::Map<String, serde_json::Value>,
    found: &serde_json::Map<String, serde_json::Value>,
) -> Vec<String> {
    let mut names: Vec<_> = wanted.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| wanted.get(*name) != found.get(*name));
    names.into_iter().cloned().collect()
}

impl Topology {
    /// The permissions of the feed's user.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        Permissions {
            configure: self.permission.clone(),
            write: self.permission.clone(),
            read: self.permission.clone(),
        }
    }
}

impl Action {
    /// Whether it puts right what was there before, given that all generations up to `made` were. To make the queues of a
    /// newer one, and to seal an older one, is what a change of the partitions consists of.
    #[must_use]
    pub fn is_repair(&self, topology: &Topology, made: u32) -> bool {
        let was_made = |queue: &str| {
            topology
                .place(queue)
                .is_none_or(|(generation, _)| generation <= made)
        };
        match self {
            Self::DeclareQueue(queue) => was_made(&queue.name),
            Self::Bind { queue, .. } => was_made(queue),
            Self::Unbind { .. } => false,
            Self::DeclareExchange | Self::PutUser | Self::PutPermissions => true,
        }
    }

    /// What kind of thing it heals, and a few words for an Event.
    #[must_use]
    pub fn describe(&self) -> (Heal, String) {
        match self {
            Self::DeclareExchange => (Heal::Exchange, "the exchange was missing".to_owned()),
            Self::DeclareQueue(queue) => (Heal::Queue, format!("queue {} was missing", queue.name)),
            Self::Bind { queue, key } => (
                Heal::Binding,
                format!("the binding {key} of queue {queue} was missing"),
            ),
            Self::Unbind { queue, .. } => (
                Heal::Binding,
                format!("queue {queue} was bound, although nothing publishes to it"),
            ),
            Self::PutUser => (
                Heal::BrokerUser,
                "the user was missing or had another password".to_owned(),
            ),
            Self::PutPermissions => (
                Heal::Permissions,
                "the user's permissions were missing or different".to_owned(),
            ),
        }
    }
}

impl Conflict {
    /// As a condition's reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Exchange(_) => reason::EXCHANGE_DIFFERS,
            Self::Queue { .. } => reason::QUEUE_ARGUMENTS_DIFFER,
            Self::DeadLetters { .. } => reason::DEAD_LETTER_QUEUE_DIFFERS,
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(name) => write!(
                formatter,
                "exchange {name} exists but is not a durable topic exchange; remove it when nothing uses it"
            ),
            Self::Queue { name, arguments } => write!(
                formatter,
                "queue {name} exists with another {}; a new generation of queues takes its place, and it is drained",
                arguments.join(", ")
            ),
            Self::DeadLetters { name, arguments } => write!(
                formatter,
                "queue {name} exists with another {}; move its messages elsewhere and remove it",
                arguments.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests;
