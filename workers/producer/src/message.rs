//! Turns what was fetched into messages. Pure.
//!
//! Every message has a number of its own among those of this publisher and its partition: 1, 2, 3, … without gaps. A message
//! keeps its number however often it has to be published.

use std::collections::{BTreeMap, BTreeSet};

use contract::{
    config::QueueGeneration,
    event_time::EventTime,
    names::{heartbeat_routing_key, routing_key},
    partition::partition_of,
    price::Price,
    symbol::Symbol,
    tick::{Tick, encode},
};
use uuid::Uuid;

use crate::source::Fetched;

/// The most ticks in one message. All are of one symbol, because the routing key names it.
pub const MAX_TICKS: usize = 100;

/// A message that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub partition: u16,
    /// Its number.
    pub sequence: u64,
    /// The routing key.
    pub routing_key: String,
    /// The property `message_id`.
    pub message_id: String,
    /// W3C trace context.
    pub traceparent: String,
    /// When it was composed, which is when it was first sent, but for a broker that is away.
    pub published_at: EventTime,
    /// The body.
    pub body: Vec<u8>,
    /// Of a heartbeat: nothing older will follow.
    pub bound: Option<EventTime>,
}

/// What makes two quotes of a symbol the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    event_time: EventTime,
    price: Price,
    volume: Option<i64>,
}

/// Numbers messages, and knows what was published before.
#[derive(Debug)]
pub struct Composer {
    publisher: Uuid,
    generation: u32,
    /// The last number of each partition.
    sequences: Vec<u64>,
    /// The last bound of each partition.
    bounds: Vec<Option<EventTime>>,
    last: BTreeMap<Symbol, Fingerprint>,
}

/// The messages of one poll, in the order in which they are to be published.
#[derive(Debug, Default)]
pub struct Composed {
    /// The messages.
    pub messages: Vec<Outgoing>,
    /// How many ticks they hold.
    pub ticks: usize,
    /// Quotes that were left out because the last one of their symbol was the same.
    pub unchanged: usize,
}

/// The trace that the messages of one poll belong to.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// Identifies the trace; not zero.
    pub id: u128,
    /// Identifies the poll in it; not zero.
    pub span: u64,
}

impl Trace {
    fn parent(self) -> String {
        format!("00-{:032x}-{:016x}-01", self.id, self.span)
    }
}

impl From<&Tick> for Fingerprint {
    fn from(tick: &Tick) -> Self {
        Self {
            event_time: tick.event_time,
            price: tick.price,
            volume: tick.volume,
        }
    }
}

impl Composer {
    /// The start of a publisher's run.
    #[must_use]
    pub fn new(publisher: Uuid, queues: QueueGeneration) -> Self {
        let QueueGeneration {
            generation,
            partitions,
        } = queues;
        Self {
            publisher,
            generation,
            sequences: vec![0; usize::from(partitions)],
            bounds: vec![None; usize::from(partitions)],
            last: BTreeMap::new(),
        }
    }

    /// The publisher's identity.
    #[must_use]
    pub const fn publisher(&self) -> Uuid {
        self.publisher
    }

    /// Composes the messages of one fetch at this moment: ticks by partition and symbol, then heartbeats.
    pub fn compose(&mut self, fetched: &Fetched, trace: Trace, now: EventTime) -> Composed {
        let mut composed = Composed::default();
        let mut groups: BTreeMap<(u16, &Symbol), Vec<&Tick>> = BTreeMap::new();
        for tick in &fetched.ticks {
            let fingerprint = Fingerprint::from(tick);
            if self.last.insert(tick.symbol.clone(), fingerprint) == Some(fingerprint) {
                composed.unchanged += 1;
                continue;
            }
            let partition = self.partition(&tick.symbol);
            groups.entry((partition, &tick.symbol)).or_default().push(tick);
        }
        for ((partition, symbol), ticks) in groups {
            composed.ticks += ticks.len();
            for chunk in ticks.chunks(MAX_TICKS) {
                let chunk: Vec<Tick> = chunk.iter().map(|tick| (*tick).clone()).collect();
                let message = self.number(
                    partition,
                    routing_key(self.generation, partition, symbol),
                    encode(&chunk),
                    None,
                    (trace, now),
                );
                composed.messages.push(message);
            }
        }
        self.heartbeats(fetched, (trace, now), &mut composed.messages);
        composed
    }

    /// A heartbeat for each partition whose bound advanced. A partition of which a symbol's quote may still be on its way,
    /// because a request failed, gets none: the promise would not be true.
    fn heartbeats(&mut self, fetched: &Fetched, origin: (Trace, EventTime), messages: &mut Vec<Outgoing>) {
        let Some(bound) = fetched.bound else {
            return;
        };
        let passing = fetched
            .failures
            .iter()
            .filter(|failure| !failure.error.is_refusal_by_plan());
        let unsure: BTreeSet<u16> = passing
            .flat_map(|failure| &failure.symbols)
            .map(|symbol| self.partition(symbol))
            .collect();
        for partition in (0..self.partitions()).filter(|partition| !unsure.contains(partition)) {
            let last = &mut self.bounds[usize::from(partition)];
            if last.is_some_and(|last| last >= bound) {
                continue;
            }
            *last = Some(bound);
            let key = heartbeat_routing_key(self.generation, partition);
            messages.push(self.number(partition, key, encode(&[]), Some(bound), origin));
        }
    }

    fn number(
        &mut self,
        partition: u16,
        routing_key: String,
        body: Vec<u8>,
        bound: Option<EventTime>,
        (trace, published_at): (Trace, EventTime),
    ) -> Outgoing {
        let sequence = &mut self.sequences[usize::from(partition)];
        *sequence += 1;
        Outgoing {
            partition,
            sequence: *sequence,
            routing_key,
            message_id: format!("{}/{partition}/{sequence}", self.publisher),
            traceparent: trace.parent(),
            published_at,
            body,
            bound,
        }
    }

    fn partitions(&self) -> u16 {
        // Cannot fail: it was made from a u16.
        u16::try_from(self.sequences.len()).unwrap_or(u16::MAX)
    }

    fn partition(&self, symbol: &Symbol) -> u16 {
        partition_of(symbol, self.partitions())
    }
}

#[cfg(test)]
mod tests;
