//! What a feed wants of the broker, and what is there.

use std::collections::BTreeMap;

use contract::{
    config::{MAX_PARTITIONS, QueueGeneration},
    names::{FeedName, binding_key},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::counts::{self, MessageStats};
use crate::generations::{Found, Generations, is_number};

/// A message that was delivered this often without an answer is put aside: something in it kills its consumers.
const DELIVERY_LIMIT: i32 = 200;

/// What a feed wants.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The exchange.
    pub exchange: String,
    /// Partition queues, in the order of their generations and partitions.
    pub partitions: Vec<QueueSpec>,
    /// Nothing publishes to generations below this, and nothing ever will: they are sealed, that is, not bound.
    pub sealed_below: u32,
    /// The newest generation; 0 while it is not known.
    pub newest: u32,
    /// Where what the broker gives up on goes.
    pub dead_letters: QueueSpec,
    /// The prefix that all the feed's partition queues share.
    pub queue_prefix: String,
    /// The feed's user.
    pub user: String,
    /// Its password.
    pub password: SecretString,
    /// What it may read, write and configure.
    pub permission: String,
}

/// What is published to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publishing {
    /// The oldest generation that a producer may publish to, now or next.
    pub from: u32,
    /// Whether it is sure that none publishes to an older one any more.
    pub settled: bool,
}

/// A queue as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// Its arguments, which can never be changed.
    pub arguments: Map<String, Value>,
    /// The key it is bound to the exchange with. The dead-letter queue is not bound, nor is a queue that nothing publishes to.
    pub binding: Option<String>,
}

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The exchange.
    pub exchange: Option<Exchange>,
    /// All queues of the feed, by name.
    pub queues: BTreeMap<String, Queue>,
    /// Bindings of the exchange to queues.
    pub bindings: Vec<Binding>,
    /// The feed's user.
    pub user: Option<User>,
    /// Its permissions.
    pub permissions: Option<Permissions>,
}

/// An exchange, as the management API tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Exchange {
    /// `topic`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it outlives a restart.
    pub durable: bool,
}

/// A queue, as the management API tells it. Counts are missing until it has been counted for the first time.
#[derive(Clone, Debug, Deserialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Whether it outlives a restart.
    #[serde(default)]
    pub durable: bool,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Messages that wait.
    #[serde(default)]
    pub messages_ready: Option<i64>,
    /// Messages that a consumer holds.
    #[serde(default)]
    pub messages_unacknowledged: Option<i64>,
    /// All messages, with those that are on their way to the dead letters.
    #[serde(default)]
    pub messages: Option<i64>,
    /// Consumers that are attached.
    #[serde(default)]
    pub consumers: Option<i64>,
    /// Messages that ever came in.
    #[serde(default, deserialize_with = "counts::perhaps_empty")]
    pub message_stats: Option<MessageStats>,
    /// The consumer that is given the messages.
    #[serde(default)]
    pub single_active_consumer_tag: Option<String>,
}

/// A binding, as the management API tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Binding {
    /// The queue.
    pub destination: String,
    /// `queue` or `exchange`.
    pub destination_type: String,
    /// The key.
    pub routing_key: String,
    /// What the management API calls this binding of the queue.
    #[serde(default)]
    pub properties_key: String,
}

/// A user, as the management API tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct User {
    /// Salt and hash.
    #[serde(default)]
    pub password_hash: String,
    /// How it was hashed.
    #[serde(default)]
    pub hashing_algorithm: String,
}

/// Permissions in a virtual host, as the management API tells them.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Permissions {
    /// Regular expression.
    pub configure: String,
    /// Regular expression.
    pub write: String,
    /// Regular expression.
    pub read: String,
}

impl Topology {
    /// What a feed wants. Its queues are left as they are while it is not known which it has.
    #[must_use]
    pub fn new(
        feed: &FeedName,
        generations: Option<&Generations>,
        publishing: Publishing,
        password: SecretString,
    ) -> Self {
        let dead = feed.dead_letter_queue();
        let Publishing { from, settled } = publishing;
        let partition = |generation: u32, partition| QueueSpec {
            name: feed.queue(generation, partition),
            arguments: partition_arguments(&dead),
            binding: (generation >= from).then(|| binding_key(generation, partition)),
        };
        let queues = |queues: &QueueGeneration| {
            let generation = queues.generation;
            (0..queues.partitions).map(move |number| (generation, number))
        };
        let all = generations
            .into_iter()
            .flat_map(Generations::all)
            .flat_map(queues);
        Self {
            exchange: feed.exchange(),
            partitions: all
                .map(|(generation, number)| partition(generation, number))
                .collect(),
            sealed_below: if settled { from } else { 0 },
            newest: generations.map_or(0, |generations| generations.last().generation),
            dead_letters: QueueSpec {
                name: dead.clone(),
                arguments: dead_letter_arguments(),
                binding: None,
            },
            queue_prefix: feed.queue_prefix(),
            user: feed.broker_user(),
            password,
            permission: feed.broker_permission(),
        }
    }

    /// Every queue, the dead letters' first: the others name it.
    pub fn queues(&self) -> impl Iterator<Item = &QueueSpec> {
        std::iter::once(&self.dead_letters).chain(&self.partitions)
    }

    /// The generation and partition of a queue; `None` when it is no partition's.
    #[must_use]
    pub fn place(&self, queue: &str) -> Option<(u32, u16)> {
        let rest = queue.strip_prefix(&self.queue_prefix)?;
        let (generation, partition) = rest.split_once('.')?;
        let place = (generation.parse().ok()?, partition.parse().ok()?);
        // Written in another way it is another queue.
        let same = rest == format!("{}.{}", place.0, place.1);
        (same && is_number(place.0) && place.1 < MAX_PARTITIONS).then_some(place)
    }

    /// Whether a partition's queue is not as it would be declared: no declaration can change it.
    #[must_use]
    pub fn differs(&self, queue: &Queue) -> bool {
        !queue.durable || queue.arguments != partition_arguments(&self.dead_letters.name)
    }

    /// For people: what there is, and what is left over from an earlier generation or feed.
    #[must_use]
    pub fn summary(&self, observed: &Observed) -> String {
        let known = |name: &str| self.queues().any(|queue| queue.name == name);
        let stray = observed.queues.values().filter(|queue| !known(&queue.name));
        let (mut count, mut messages) = (0, 0);
        for queue in stray {
            count += 1;
            messages += queue.messages().unwrap_or_default();
        }
        let plain = format!("exchange {} with {} queues", self.exchange, self.partitions.len());
        match count {
            0 => plain,
            _ => format!("{plain}; {count} queues of earlier generations hold {messages} messages"),
        }
    }
}

impl Observed {
    /// Messages in all of the feed's partition queues; `None` while one of them was not counted yet.
    #[must_use]
    pub fn backlog(&self, topology: &Topology) -> Option<i64> {
        self.queues
            .values()
            .filter(|queue| queue.name.starts_with(&topology.queue_prefix))
            .map(Queue::messages)
            .sum()
    }

    /// Messages in the feed's dead-letter queue; `None` while it is not there or was not counted yet.
    #[must_use]
    pub fn dead_letters(&self, topology: &Topology) -> Option<i64> {
        self.queues
            .get(&topology.dead_letters.name)
            .and_then(Queue::messages)
    }

    /// What there is of each generation.
    #[must_use]
    pub fn generations(&self, topology: &Topology) -> BTreeMap<u32, Found> {
        let mut generations: BTreeMap<u32, Found> = BTreeMap::new();
        for queue in self.queues.values() {
            let Some((generation, partition)) = topology.place(&queue.name) else {
                continue;
            };
            let found = generations.entry(generation).or_insert_with(|| Found {
                messages: Some(0),
                consumers: Some(i64::MAX),
                ..Found::default()
            });
            found.partitions = found.partitions.max(partition + 1);
            found.messages = found
                .messages
                .zip(queue.messages())
                .map(|(sum, messages)| sum + messages);
            found.bound |= self
                .bindings
                .iter()
                .any(|binding| binding.is_to_queue(&queue.name));
            found.consumers = found
                .consumers
                .zip(queue.consumers)
                .map(|(least, consumers)| least.min(consumers));
            found.differs |= topology.differs(queue);
        }
        generations
    }
}

impl Binding {
    /// Whether it leads to this queue.
    #[must_use]
    pub fn is_to_queue(&self, queue: &str) -> bool {
        self.destination_type == "queue" && self.destination == queue
    }
}

impl Queue {
    /// Messages that wait, messages that a consumer holds, and messages on their way to the dead letters; `None` when they
    /// were not counted yet.
    #[must_use]
    pub fn messages(&self) -> Option<i64> {
        let held = self.messages_ready? + self.messages_unacknowledged?;
        Some(self.messages.map_or(held, |all| all.max(held)))
    }
}

/// Arguments of a partition's queue. At-least-once dead lettering needs `reject-publish`, or it would lose messages.
fn partition_arguments(dead: &str) -> Map<String, Value> {
    let arguments = json!({
        "x-queue-type": "quorum",
        "x-single-active-consumer": true,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    });
    object(arguments)
}

/// Arguments of the dead-letter queue. RabbitMQ 4 drops what was delivered twenty times unless it is told not to.
fn dead_letter_arguments() -> Map<String, Value> {
    object(json!({"x-queue-type": "quorum", "x-delivery-limit": -1}))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
