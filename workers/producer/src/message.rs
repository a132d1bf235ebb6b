//! Turns what was fetched into messages. Pure.
//!
//! Every message has a number of its own among those of its publisher and its partition: 1, 2, 3, … without gaps. A message
//! keeps its number however often it has to be published. Another generation of queues is another publisher's.

use std::collections::{BTreeMap, BTreeSet};

use contract::{
    config::{Duplicates, QueueGeneration},
    event_time::EventTime,
    names::{heartbeat_routing_key, routing_key},
    partition::partition_of,
    symbol::Symbol,
    tick::{Tick, encode},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    source::Fetched,
    spool::{Addition, Recovered},
};

/// The most ticks in one message. All are of one symbol, because the routing key names it.
pub const MAX_TICKS: usize = 100;

/// A message that is to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// Who numbered it.
    pub publisher: Uuid,
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
    /// The body: JSON.
    pub body: String,
    /// Of a heartbeat: nothing older will follow.
    pub bound: Option<EventTime>,
}

/// What makes two quotes of a symbol the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    event_time: EventTime,
    /// The price's digits, without zeros at the end.
    price: String,
    volume: Option<i64>,
}

/// Where numbering stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Who numbers.
    pub publisher: Uuid,
    /// For which generation of queues.
    pub generation: u32,
    /// The last number of each partition.
    pub sequences: Vec<u64>,
    /// The last bound of each partition.
    pub bounds: Vec<Option<EventTime>>,
    /// Messages of all publishers that were ever added to the spool.
    pub added: u64,
}

/// Numbers messages, and knows what was published before.
#[derive(Debug)]
pub struct Composer {
    position: Position,
    last: BTreeMap<Symbol, Fingerprint>,
}

/// The messages of one poll, in the order in which they are to be published.
#[derive(Debug)]
pub struct Composed {
    /// For the spool.
    pub addition: Addition,
    /// How many ticks they hold.
    pub ticks: usize,
    /// Symbols whose quote was left out because their last one was the same.
    pub unchanged: BTreeSet<Symbol>,
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
            price: tick.price.to_string(),
            volume: tick.volume,
        }
    }
}

impl Position {
    /// Where a new publisher begins.
    fn new(publisher: Uuid, queues: QueueGeneration, added: u64) -> Self {
        let partitions = usize::from(queues.partitions);
        Self {
            publisher,
            generation: queues.generation,
            sequences: vec![0; partitions],
            bounds: vec![None; partitions],
            added,
        }
    }
}

impl Composer {
    /// Goes on where the spool says that numbering stopped. `publisher` numbers from now on when it is new, or of another
    /// generation of queues.
    #[must_use]
    pub fn new(publisher: Uuid, queues: QueueGeneration, recovered: Recovered) -> Self {
        let Recovered { position, last } = recovered;
        let added = position.as_ref().map_or(0, |position| position.added);
        let same = |position: &Position| {
            position.generation == queues.generation
                && position.sequences.len() == usize::from(queues.partitions)
                && position.bounds.len() == usize::from(queues.partitions)
        };
        Self {
            position: position
                .filter(same)
                .unwrap_or_else(|| Position::new(publisher, queues, added)),
            last: last.into_iter().collect(),
        }
    }

    /// The publisher's identity.
    #[must_use]
    pub const fn publisher(&self) -> Uuid {
        self.position.publisher
    }

    /// Composes the messages of one fetch at this moment: ticks by partition and symbol, then heartbeats.
    pub fn compose(
        &mut self,
        fetched: &Fetched,
        duplicates: Duplicates,
        trace: Trace,
        now: EventTime,
    ) -> Composed {
        let mut messages = Vec::new();
        let (mut ticks, mut unchanged, mut last) = (0, BTreeSet::new(), BTreeMap::new());
        let mut groups: BTreeMap<(u16, &Symbol), Vec<&Tick>> = BTreeMap::new();
        for tick in &fetched.ticks {
            let fingerprint = Fingerprint::from(tick);
            if self.last.get(&tick.symbol) == Some(&fingerprint) {
                if duplicates == Duplicates::Skip {
                    unchanged.insert(tick.symbol.clone());
                    continue;
                }
            } else {
                self.last.insert(tick.symbol.clone(), fingerprint.clone());
                last.insert(tick.symbol.clone(), fingerprint);
            }
            let partition = self.partition(&tick.symbol);
            groups.entry((partition, &tick.symbol)).or_default().push(tick);
        }
        for ((partition, symbol), group) in groups {
            ticks += group.len();
            for chunk in group.chunks(MAX_TICKS) {
                let chunk: Vec<Tick> = chunk.iter().map(|tick| (*tick).clone()).collect();
                let key = routing_key(self.position.generation, partition, symbol);
                messages.push(self.number(partition, key, encode(&chunk), None, (trace, now)));
            }
        }
        self.heartbeats(fetched, (trace, now), &mut messages);
        self.position.added += messages.len() as u64;
        Composed {
            addition: Addition {
                messages,
                position: self.position.clone(),
                last: last.into_iter().collect(),
            },
            ticks,
            unchanged,
        }
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
            let last = &mut self.position.bounds[usize::from(partition)];
            if last.is_some_and(|last| last >= bound) {
                continue;
            }
            *last = Some(bound);
            let key = heartbeat_routing_key(self.position.generation, partition);
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
        let publisher = self.position.publisher;
        let sequence = &mut self.position.sequences[usize::from(partition)];
        *sequence += 1;
        Outgoing {
            publisher,
            partition,
            sequence: *sequence,
            routing_key,
            message_id: format!("{publisher}/{partition}/{sequence}"),
            traceparent: trace.parent(),
            published_at,
            // Cannot fail: it is JSON.
            body: String::from_utf8(body).unwrap_or_default(),
            bound,
        }
    }

    fn partitions(&self) -> u16 {
        // Cannot fail: it was made from a u16.
        u16::try_from(self.position.sequences.len()).unwrap_or(u16::MAX)
    }

    fn partition(&self, symbol: &Symbol) -> u16 {
        partition_of(symbol, self.partitions())
    }
}

#[cfg(test)]
mod tests;
