//! What was seen of a feed's queues and processors, and what follows from two looks at them. Pure: times are arguments.
//!
//! A rate is a difference between two looks. Those lie some 30 seconds apart where that is possible: counts of the broker are
//! seconds old, and a source that is polled comes in bursts. Looks are forgotten when the processors are others than before.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    processors::{Answer, Spent},
    stall::{Stall, Stalls},
};
use crate::broker::Counts;

/// Looks that are closer than that are one: the broker has not counted in between.
const LEAST_APART: Duration = Duration::from_secs(5);
/// Over what time rates are measured.
const WINDOW: Duration = Duration::from_secs(30);
/// Processors that were less at work than that, together, say too little of what they could do.
const LEAST_WORK: f64 = 0.1;

/// One look.
#[derive(Clone, Debug)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// The generation that is consumed.
    pub generation: u32,
    /// Its queues, by partition.
    pub queues: BTreeMap<u16, Counts>,
    /// What each pod answered; `None`: it did not.
    pub pods: BTreeMap<String, Option<Answer>>,
    /// Whether broker and database are as they should be.
    pub healthy: bool,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Messages that wait or are held, but for those of partitions that nobody works at.
    pub backlog: u64,
    /// Rates; `None` until they are known.
    pub load: Option<Load>,
    /// Whether there are such partitions.
    pub suspect: bool,
    /// A consumer that does not work though messages wait for it.
    pub stall: Option<Stall>,
}

/// Rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Messages that come in, each second.
    pub arrival: f64,
    /// Messages that are committed, each second, by all processors.
    pub committed: f64,
    /// Messages that one processor commits, each second, when it has no pause; `None` while none was seen at work.
    pub per_replica: Option<f64>,
    /// The share of their time that processors were at work, from 0 to 1. Those that own no partition do not count.
    pub busy: f64,
}

/// For how long it could have been fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calm {
    /// Since when fewer would have been enough, without a break.
    pub lower_for: Duration,
    /// How long ago the number last changed; `None`: not as long as is remembered.
    pub changed: Option<Duration>,
}

/// What is remembered of a feed.
#[derive(Debug, Default)]
pub struct History {
    looks: VecDeque<Look>,
    last: Option<Instant>,
    per_replica: Option<f64>,
    lower_since: Option<Instant>,
    changed: Option<Instant>,
    stalls: Stalls,
    waited: bool,
}

impl History {
    /// Whether processors of a feed are worth asking although their number is fixed: messages wait, and did before.
    pub fn wait(&mut self, waiting: bool) -> bool {
        let before = std::mem::replace(&mut self.waited, waiting);
        before && waiting
    }

    /// Takes a look in. `None`: it comes too soon after the last one to say more than that did.
    pub fn observe(&mut self, look: Look) -> Option<Measured> {
        let soon = |last: Instant| look.at.saturating_duration_since(last) < LEAST_APART;
        if self.last.is_some_and(soon) {
            return None;
        }
        self.last = Some(look.at);
        if self.looks.back().is_some_and(|last| !comparable(last, &look)) {
            self.looks.clear();
        }
        let stalled = self.stalls.observe(&look);
        let waiting = look
            .queues
            .iter()
            .filter(|(partition, _)| !stalled.suspects.contains(partition));
        let backlog = waiting.map(|(_, counts)| counts.messages).sum();
        // A look without all answers says nothing of rates, neither now nor later.
        let answered = !look.pods.is_empty() && look.pods.values().all(Option::is_some);
        let load = answered.then(|| self.rates(look)).flatten();
        Some(Measured {
            backlog,
            load,
            suspect: !stalled.suspects.is_empty(),
            stall: stalled.stall,
        })
    }

    fn rates(&mut self, look: Look) -> Option<Load> {
        let now = look.at;
        self.looks.push_back(look);
        let old = |one: &Look| now.saturating_duration_since(one.at) >= WINDOW;
        while self.looks.len() > 2 && self.looks.get(1).is_some_and(old) {
            self.looks.pop_front();
        }
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let load = load(first, last)?;
        if load.per_replica.is_some() {
            self.per_replica = load.per_replica;
        }
        Some(Load {
            per_replica: self.per_replica,
            ..load
        })
    }

    /// Notes whether fewer would be enough now. What cannot be told, as while another processor starts, breaks no calm.
    pub fn calm(&mut self, lower: Option<bool>, now: Instant) -> Calm {
        self.lower_since = match lower {
            Some(true) => Some(self.lower_since.unwrap_or(now)),
            Some(false) => None,
            None => self.lower_since,
        };
        let since = |moment: Instant| now.saturating_duration_since(moment);
        Calm {
            lower_for: self.lower_since.map_or(Duration::ZERO, since),
            changed: self.changed.map(since),
        }
    }

    /// Notes that the number of processors changes.
    pub fn changed(&mut self, now: Instant) {
        self.changed = Some(now);
    }

    /// Whether a stalled consumer may be restarted now; notes that it is.
    pub fn may_restart(&mut self, now: Instant) -> bool {
        self.stalls.may_restart(now)
    }
}

/// Whether what is between two looks is the work of the same processors.
fn comparable(one: &Look, other: &Look) -> bool {
    let pods = |look: &Look| look.pods.keys().cloned().collect::<BTreeSet<_>>();
    one.generation == other.generation && pods(one) == pods(other)
}

/// What was done between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    /// Messages that were committed.
    pub messages: u64,
    /// How the time was spent.
    pub spent: Spent,
}

/// What a pod did for a partition between two answers; `None`: it does not say, or does not own it.
pub(super) fn work(before: Option<&Answer>, now: &Answer, place: &str) -> Option<Work> {
    let partition = now.partitions.get(place)?;
    let spent = partition.spent?;
    let earlier = before
        .and_then(|before| before.partitions.get(place))
        .filter(|earlier| earlier.claimed_at == partition.claimed_at);
    Some(match earlier {
        Some(earlier) => Work {
            messages: partition.totals.messages.saturating_sub(earlier.totals.messages),
            spent: spent.since(earlier.spent.unwrap_or_default()),
        },
        // It was claimed in between, and counts from there.
        None => Work {
            messages: partition.totals.messages,
            spent,
        },
    })
}

fn load(first: &Look, last: &Look) -> Option<Load> {
    let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let (mut committed, mut at_work, mut working) = (0, 0.0, 0.0);
    for (pod, answer) in &last.pods {
        let now = answer.as_ref()?;
        let before = first.pods.get(pod).and_then(Option::as_ref);
        let mut of_pod = Work::default();
        for partition in last.queues.keys() {
            let place = format!("{}.{partition}", last.generation);
            if !now.partitions.contains_key(&place) {
                continue;
            }
            let Work { messages, spent } = work(before, now, &place)?;
            of_pod.messages += messages;
            of_pod.spent.idle_seconds += spent.idle_seconds;
            of_pod.spent.busy_seconds += spent.at_work();
        }
        committed += of_pod.messages;
        if of_pod.spent.whole() > 0.0 {
            at_work += of_pod.spent.at_work() / of_pod.spent.whole();
            working += 1.0;
        }
    }
    let committed = as_float(committed) / seconds;
    Some(Load {
        arrival: arrival(first, last, seconds, committed),
        committed,
        per_replica: (at_work >= LEAST_WORK && committed > 0.0).then(|| committed / at_work),
        busy: if working > 0.0 { at_work / working } else { 0.0 },
    })
}

/// What came in: by the broker's own count, or what was committed and what there is more of.
fn arrival(first: &Look, last: &Look, seconds: f64, committed: f64) -> f64 {
    let published = |look: &Look| {
        let counts = look.queues.values().map(|counts| counts.published);
        // A queue that nothing ever came into has no count, and a broker that does not count has none at all.
        let known: Vec<u64> = counts.flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<u64>())
    };
    if let (Some(before), Some(now)) = (published(first), published(last))
        // The broker counts anew after a restart.
        && now >= before
    {
        return as_float(now - before) / seconds;
    }
    let held = |look: &Look| as_float(look.queues.values().map(|counts| counts.messages).sum());
    ((held(last) - held(first)) / seconds + committed).max(0.0)
}

/// As a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more digits than a float has"
)]
pub(super) const fn as_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
