//! Observations: what a feed's pods, processors and producer say, asked while somebody looks.
//!
//! What does not answer keeps what it said last, with its age, until its pod is gone or [`FORGET`] is over.

pub mod ask;
pub mod exposition;
pub mod pods;
pub mod processor;
pub mod producer;
pub mod rates;
mod watchers;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

pub use watchers::{Look, Watchers};

use crate::{
    feeds::seconds_between,
    observe::{pods::PodSeen, processor::ProcessorSeen, producer::ProducerSeen},
    percentile::Histogram,
};

/// How many feeds can be looked at at once; also how many histories are kept.
pub const MAX_LOOKED_AT: usize = 64;
/// How often a feed that is looked at is observed, in seconds.
pub const PERIOD: u32 = 5;
/// An observation that is older, in seconds, is shown as stale.
const STALE: f64 = 20.0;
/// What did not answer for so many seconds has nothing to say any more.
pub const FORGET: f64 = 60.0;
/// Percentiles are over so many observations: a minute.
const WINDOW: usize = 12;

/// All that was seen of a feed.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When; the oldest part of it counts.
    pub at: Timestamp,
    /// When its pods were listed, and what was found.
    pub pods: Vec<PodSeen>,
    /// What processors said, by pod.
    pub processors: BTreeMap<String, ProcessorSeen>,
    /// What the producer said.
    pub producer: Option<ProducerSeen>,
    /// What cannot be read, by whose it is.
    pub problems: BTreeMap<String, Trouble>,
    /// What histograms counted, in each of the last observations.
    pub counted: VecDeque<Counted>,
}

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub message: String,
    pub since: Timestamp,
}

/// What was counted between two observations, over all processors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    pub from_event: Histogram,
    pub from_publish: Histogram,
    pub commit: Histogram,
    pub requests: Histogram,
}

/// How old an observation is, for the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Freshness {
    pub at: Timestamp,
    pub age_seconds: f64,
    pub stale: bool,
    pub problems: Vec<Problem>,
}

/// What cannot be read, for the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub source: String,
    pub message: String,
    pub since: Timestamp,
}

impl Observation {
    /// How old it is.
    #[must_use]
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        let age_seconds = seconds_between(self.at, now).max(0.0);
        let problems = self.problems.iter().map(|(source, trouble)| Problem {
            source: source.clone(),
            message: trouble.message.clone(),
            since: trouble.since,
        });
        Freshness {
            at: self.at,
            age_seconds,
            stale: age_seconds >= STALE,
            problems: problems.collect(),
        }
    }

    /// What was counted in the last minute.
    #[must_use]
    pub fn lately(&self) -> Counted {
        let mut sum = Counted::default();
        for counted in &self.counted {
            sum.from_event.add(&counted.from_event);
            sum.from_publish.add(&counted.from_publish);
            sum.commit.add(&counted.commit);
            sum.requests.add(&counted.requests);
        }
        sum
    }

    /// Adds what was counted since the observation before.
    fn count(&mut self, before: Option<&Self>) {
        let mut counted = Counted::default();
        for (pod, seen) in &self.processors {
            let earlier = before.and_then(|before| before.processors.get(pod));
            // What did not answer this time is the same as before, and counted then. What is seen for the first time may have
            // counted for days.
            let Some(earlier) = earlier.filter(|earlier| earlier.at != seen.at) else {
                continue;
            };
            let (now, then) = (&seen.figures, &earlier.figures);
            counted
                .from_event
                .add(&now.from_event.since(Some(&then.from_event)));
            counted
                .from_publish
                .add(&now.from_publish.since(Some(&then.from_publish)));
            counted.commit.add(&now.commit.since(Some(&then.commit)));
        }
        let producers = self
            .producer
            .as_ref()
            .zip(before.and_then(|before| before.producer.as_ref()));
        if let Some((now, then)) = producers.filter(|(now, then)| now.pod == then.pod && now.at != then.at) {
            counted
                .requests
                .add(&now.figures.requests.since(Some(&then.figures.requests)));
        }
        self.counted = before.map(|before| before.counted.clone()).unwrap_or_default();
        self.counted.push_back(counted);
        while self.counted.len() > WINDOW {
            self.counted.pop_front();
        }
    }

    /// The partitions that processors say they own, the newest claim of each, with the pod.
    pub fn partitions(&self) -> BTreeMap<(u32, u16), (&str, &processor::Partition)> {
        let mut all: BTreeMap<(u32, u16), (&str, &processor::Partition)> = BTreeMap::new();
        for (pod, seen) in &self.processors {
            for (label, partition) in &seen.state.partitions {
                let Some(id) = processor::partition_id(label) else {
                    continue;
                };
                // One that lost its partition may not know it yet.
                let newer = all
                    .get(&id)
                    .is_none_or(|(_, other)| other.claimed_at < partition.claimed_at);
                if newer {
                    all.insert(id, (pod, partition));
                }
            }
        }
        all
    }

    /// The oldest partition's watermark.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        let partitions = self.partitions();
        // While one of them has none, the feed has none.
        let all: Option<Vec<_>> = partitions
            .values()
            .map(|(_, partition)| partition.watermark)
            .collect();
        all?.into_iter().min()
    }
}
