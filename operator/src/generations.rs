//! Which generations of queues a feed has. Pure.
//!
//! A number of partitions is for good: the queue of a symbol follows from it. Another number is another generation of
//! queues, beside the ones that are there. The producer publishes to the newest; processors consume the oldest only, until
//! it is drained and goes. So nothing of a symbol in the newer queues is processed before all of it in the older ones is
//! committed.
//!
//! ```text
//!  spec 4        spec 8                                   1 is drained
//!  [1: 4]  ──►  [1: 4, 2: 8]  ── producer publishes ──►  [2: 8]
//!                └ processors      to 2, 1 is sealed      └ processors
//! ```
//!
//! The list is kept in the feed's status, and written there before anything of a new generation is declared. Where the
//! status was lost it is recovered from the names of the broker's queues.

use std::collections::{BTreeMap, BTreeSet};

use contract::config::{MAX_PARTITIONS, QueueGeneration};

use crate::{
    api::status::{QueueGenerationStatus, StockFeedStatus},
    rollout::Rollout,
};

/// The most generations that a feed may have at once. A change beyond that waits until the oldest is drained, so that
/// somebody who changes his mind every minute does not fill the broker with queues.
pub const MAX_GENERATIONS: usize = 8;

/// The generations of a feed: at least one, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generations {
    first: QueueGeneration,
    later: Vec<QueueGeneration>,
}

/// What the broker has of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// One more than the highest partition that has a queue. Queues are removed from the lowest on, so this holds when
    /// only some are left.
    pub partitions: u16,
    /// Messages in all of its queues; `None` while one of them was not counted yet.
    pub messages: Option<i64>,
    /// Whether the exchange leads to any of its queues.
    pub bound: bool,
    /// Consumers of the queue that has the fewest; `None` while one of them was not counted yet.
    pub consumers: Option<i64>,
    /// Whether a queue has other arguments than it would be declared with. They cannot be changed.
    pub differs: bool,
}

/// What is known when it is decided.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The partitions that the spec asks for.
    pub wanted: u16,
    /// The list so far; `None` when there is none yet, or it was lost.
    pub listed: Option<&'a Generations>,
    /// What the broker has.
    pub found: &'a BTreeMap<u32, Found>,
    /// Those that are empty and will stay so.
    pub drained: &'a BTreeSet<u32>,
    /// Which generations the producer may publish to.
    pub producer: &'a Rollout,
    /// Which generations the processors may consume.
    pub processors: &'a Rollout,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The list from now on.
    pub generations: Generations,
    /// Generations whose queues are needed no longer.
    pub removable: Vec<u32>,
    /// Whether something has still to be drained or removed.
    pub unfinished: bool,
}

impl Generations {
    /// One generation.
    #[must_use]
    pub const fn one(first: QueueGeneration) -> Self {
        let later = Vec::new();
        Self { first, later }
    }

    /// The list, unless a producer publishes to something newer: then it is an old one, and as good as none.
    #[must_use]
    pub fn up_to_date(self, producer: &Rollout) -> Option<Self> {
        let last = self.last().generation;
        producer
            .newest()
            .is_none_or(|newest| newest <= last)
            .then_some(self)
    }

    /// A list, if it is one: not empty, in ascending order, with numbers that can be.
    #[must_use]
    pub fn new(list: impl IntoIterator<Item = QueueGeneration>) -> Option<Self> {
        let mut list = list.into_iter();
        let first = list.next()?;
        let later: Vec<_> = list.collect();
        let generations = Self { first, later };
        let possible = |one: &QueueGeneration| {
            let QueueGeneration {
                generation,
                partitions,
            } = *one;
            (1..=MAX_PARTITIONS).contains(&partitions) && is_number(generation)
        };
        let ascending = generations
            .all()
            .zip(&generations.later)
            .all(|(one, next)| one.generation < next.generation);
        (ascending && generations.all().all(possible)).then_some(generations)
    }

    /// What a status says. A status that says nothing usable is as good as none.
    #[must_use]
    pub fn of_status(status: &StockFeedStatus) -> Option<Self> {
        let one = |generation: i32, partitions: i32| {
            let generation = u32::try_from(generation).ok()?;
            let partitions = u16::try_from(partitions).ok()?;
            Some(QueueGeneration {
                generation,
                partitions,
            })
        };
        if status.queues.is_empty() {
            // Written by a release whose feeds had one generation.
            return Self::new([one(status.queue_generation?, status.partitions?)?]);
        }
        let listed: Option<Vec<_>> = status
            .queues
            .iter()
            .map(|queues| one(queues.generation, queues.partitions))
            .collect();
        Self::new(listed?)
    }

    /// As a status says it.
    #[must_use]
    pub fn to_status(&self) -> Vec<QueueGenerationStatus> {
        let said = |one: &QueueGeneration| QueueGenerationStatus {
            generation: one.generation.cast_signed(),
            partitions: i32::from(one.partitions),
        };
        self.all().map(said).collect()
    }

    /// The oldest: what is consumed.
    #[must_use]
    pub const fn first(&self) -> QueueGeneration {
        self.first
    }

    /// The newest: what is published to.
    #[must_use]
    pub fn last(&self) -> QueueGeneration {
        self.later.last().copied().unwrap_or(self.first)
    }

    /// All, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &QueueGeneration> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.later.len()
    }

    /// Whether a generation is listed.
    #[must_use]
    pub fn has(&self, generation: u32) -> bool {
        self.all().any(|one| one.generation == generation)
    }
}

/// Whether a generation can have this number: the database keeps it with a sign, and there has to be a next one.
#[must_use]
pub const fn is_number(generation: u32) -> bool {
    generation >= 1 && generation < i32::MAX as u32
}

/// Decides. Repeated with the facts that follow from it, it comes to one generation with the partitions of the spec.
#[must_use]
pub fn decide(facts: Facts<'_>) -> Decision {
    let Facts {
        wanted,
        listed,
        found,
        drained,
        producer,
        processors,
    } = facts;
    let mut generations: BTreeMap<u32, u16> = known(listed, found);
    let oldest_first: Vec<_> = generations.keys().copied().collect();
    // The newest stays whatever it holds: it is what is published to.
    for generation in oldest_first.iter().rev().skip(1).rev() {
        // Only from the old end on: what comes later is not consumed yet.
        if !drained.contains(generation) {
            break;
        }
        generations.remove(generation);
    }
    let newest = generations
        .last_key_value()
        .map(|(number, count)| (*number, *count));
    // What is published to never goes back, even if status and queues are lost.
    let published = producer.newest().unwrap_or(0);
    let next = newest.map_or(0, |(generation, _)| generation).max(published) + 1;
    // Queues that somebody made otherwise are drained and left, as those of another number of partitions are.
    let sound = |generation| found.get(&generation).is_none_or(|queues| !queues.differs);
    let as_wanted = newest.is_some_and(|(generation, partitions)| {
        partitions == wanted && generation >= published && sound(generation)
    });
    if !as_wanted && generations.len() < MAX_GENERATIONS {
        generations.insert(next, wanted);
    }
    let list = generations
        .into_iter()
        .map(|(generation, partitions)| QueueGeneration {
            generation,
            partitions,
        });
    let generations = Generations::new(list).unwrap_or_else(|| {
        // Cannot be: at least the wanted one is in the list, and all numbers were checked where they came from.
        Generations::one(QueueGeneration {
            generation: next,
            partitions: wanted,
        })
    });
    let left: Vec<u32> = found
        .keys()
        .copied()
        .filter(|generation| !generations.has(*generation))
        .collect();
    let unfinished = generations.count() > 1 || !left.is_empty();
    let removable = left
        .into_iter()
        .filter(|generation| drained.contains(generation) && processors.has_left(*generation))
        .collect();
    Decision {
        generations,
        removable,
        unfinished,
    }
}

/// What is listed, and what the broker has beyond it that must be consumed as well.
fn known(listed: Option<&Generations>, found: &BTreeMap<u32, Found>) -> BTreeMap<u32, u16> {
    let pair = |one: &QueueGeneration| (one.generation, one.partitions);
    let mut known: BTreeMap<u32, u16> = listed
        .map(|listed| listed.all().map(pair).collect())
        .unwrap_or_default();
    let newest = known.last_key_value().map_or(0, |(newest, _)| *newest);
    for (generation, queues) in found {
        // Newer ones than listed: the status is an old one. Older ones are on their way out, unless messages came in.
        if *generation > newest || queues.messages.is_some_and(|messages| messages > 0) {
            known.entry(*generation).or_insert(queues.partitions);
        }
    }
    known
}

/// For people: how a change of the partitions stands; `None` when none is under way.
#[must_use]
pub fn progress(
    generations: &Generations,
    wanted: u16,
    found: Option<&BTreeMap<u32, Found>>,
    producer: &Rollout,
) -> Option<String> {
    let (first, last) = (generations.first(), generations.last());
    if generations.count() == 1 {
        return None;
    }
    let (number, newest) = (first.generation, last.generation);
    let messages = found
        .and_then(|found| found.get(&number))
        .and_then(|queues| queues.messages);
    let stands = match messages {
        None => format!("generation {number} is being counted"),
        Some(0) if !producer.has_left(number) => {
            format!("generation {number} is empty; the producer has still to move to generation {newest}")
        }
        Some(0) => format!("generation {number} is empty, and it is made sure that it stays so"),
        Some(1) => format!("generation {number} has 1 message left"),
        Some(messages) => format!("generation {number} has {} messages left", grouped(messages)),
    };
    let more = match generations.count() {
        2 => String::new(),
        count => format!(", {} more generations come after it", count - 1),
    };
    let later = match last.partitions == wanted {
        true => String::new(),
        false => format!("; {wanted} partitions come when it is drained"),
    };
    Some(format!(
        "from {} to {} partitions: {stands}{more}{later}",
        first.partitions, last.partitions
    ))
}

/// A number with commas, as in 1,432.
#[must_use]
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    if number < 0 {
        text.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
