//! Consumers that do not work though messages wait for them. Pure: times are arguments.
//!
//! More processors are no help there, as only one consumes a partition at a time. What helps is to end the one that is stuck: the
//! broker then gives its messages to another. That a partition is not worked at is told from its owner's own figures: over several
//! looks it committed nothing of it and was idle. One that is at work, or waits for the database, is left alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    history::{Look, work},
    processors::{Answer, Spent},
};

/// So many looks in a row have to show no work,
const LOOKS: u32 = 3;
/// over so long a time at least.
const PATIENCE: Duration = Duration::from_secs(60);
/// A consumer that was at work for more of its time than that is not stuck.
const IDLE: f64 = 0.1;
/// How often the least distance of two restarts doubles.
const DOUBLINGS: u32 = 6;
/// After so long without a restart the next one is the first again.
const FORGIVEN: Duration = Duration::from_secs(2 * 3_600);

/// A consumer that does not work though messages wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Its pod.
    pub pod: String,
    /// `generation.partition`.
    pub partition: String,
    /// Messages that wait for it.
    pub messages: u64,
    /// For how long nothing was done.
    pub since: Duration,
}

/// What a look shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stalled {
    /// Partitions where messages wait and nothing was done since the last look at least.
    pub suspects: BTreeSet<u16>,
    /// One where that has been so for long enough.
    pub stall: Option<Stall>,
}

/// What is remembered of a feed's partitions.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    waits: BTreeMap<u16, Wait>,
    restarted: Option<Instant>,
    restarts: u32,
}

/// Messages wait, and nothing is done about them.
#[derive(Clone, Debug)]
struct Wait {
    since: Instant,
    looks: u32,
    generation: u32,
    holder: String,
    answer: Answer,
}

impl Stalls {
    /// Takes a look in.
    pub fn observe(&mut self, look: &Look) -> Stalled {
        let mut stalled = Stalled::default();
        let mut waits = BTreeMap::new();
        for (partition, counts) in &look.queues {
            let place = format!("{}.{partition}", look.generation);
            let Some((holder, answer)) = holder(look, &place, counts.consumer.as_deref()) else {
                continue;
            };
            let may_work = look.healthy && answer.broker_connected && answer.database_ok;
            if counts.messages == 0 || !may_work {
                continue;
            }
            let begun = Wait {
                since: look.at,
                looks: 0,
                generation: look.generation,
                holder: holder.to_owned(),
                answer: answer.clone(),
            };
            let before = self.waits.remove(partition);
            let before = before.filter(|wait| wait.goes_on(look.generation, holder, answer, &place));
            let wait = before.map_or(begun, |wait| Wait {
                looks: wait.looks + 1,
                ..wait
            });
            let since = look.at.saturating_duration_since(wait.since);
            if wait.looks > 0 {
                stalled.suspects.insert(*partition);
            }
            if wait.looks >= LOOKS && since >= PATIENCE && stalled.stall.is_none() {
                stalled.stall = Some(Stall {
                    pod: wait.holder.clone(),
                    partition: place,
                    messages: counts.messages,
                    since,
                });
            }
            waits.insert(*partition, wait);
        }
        self.waits = waits;
        stalled
    }

    /// Whether a restart is due now, which is noted. The distance to the next one doubles: where restarts do not help, more of them do
    /// not either.
    pub fn may_restart(&mut self, now: Instant) -> bool {
        let elapsed = self.restarted.map(|at| now.saturating_duration_since(at));
        if elapsed.is_some_and(|elapsed| elapsed >= FORGIVEN) {
            self.restarts = 0;
        }
        let least = PATIENCE * 2_u32.pow(self.restarts.min(DOUBLINGS));
        if elapsed.is_some_and(|elapsed| elapsed < least) {
            return false;
        }
        self.restarted = Some(now);
        self.restarts += 1;
        true
    }
}

impl Wait {
    /// Whether still nothing was done: the same pod has committed nothing more, and was idle.
    fn goes_on(&self, generation: u32, holder: &str, answer: &Answer, place: &str) -> bool {
        if self.generation != generation || self.holder != holder {
            return false;
        }
        match (self.answer.partitions.get(place), answer.partitions.get(place)) {
            // Nothing was ever delivered to it.
            (None, None) => true,
            (Some(before), Some(now)) if before.claimed_at == now.claimed_at => {
                let Some(done) = work(Some(&self.answer), answer, place) else {
                    return false;
                };
                let Spent { idle_seconds, .. } = done.spent;
                let at_work = done.spent.at_work();
                done.messages == 0 && at_work <= IDLE * (idle_seconds + at_work)
            }
            _ => false,
        }
    }
}

/// The pod that is given a partition's messages, if it answers: the broker names it in the consumer's tag. A broker that does
/// not is helped out by the pods themselves: the one that claimed the partition last.
fn holder<'a>(look: &'a Look, place: &str, consumer: Option<&str>) -> Option<(&'a str, &'a Answer)> {
    let mut answers = look
        .pods
        .iter()
        .filter_map(|(pod, answer)| Some((pod.as_str(), answer.as_ref()?)));
    match consumer.and_then(|tag| tag.split(' ').next()) {
        Some(named) => answers.find(|(pod, _)| *pod == named),
        None => answers
            .filter(|(_, answer)| answer.partitions.contains_key(place))
            .max_by_key(|(_, answer)| answer.partitions.get(place).map(|own| own.claimed_at)),
    }
}

#[cfg(test)]
mod tests;
