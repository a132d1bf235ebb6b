//! Whether data flows through a feed's queues: consumers are attached, and what waits is committed.
//!
//! A pod that runs says little. What the broker counts is some seconds old, so that one look says little as well: only what
//! stays so for a while is believed.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use schema::Progress;

use crate::generations::Found;

/// For how long a queue may be without a consumer: a processor that takes over needs seconds, and a count lags behind.
pub const UNATTENDED: Duration = Duration::from_secs(30);
/// For how long messages may wait while nothing is committed: longer than the broker's delivery to a new consumer takes, and than a
/// batch that waits for a lock of the database.
pub const STUCK: Duration = Duration::from_secs(90);

/// What was seen of the queues of all feeds. Losing it in a restart only makes the operator wait once more.
#[derive(Debug, Default)]
pub struct Flows {
    clocks: Mutex<HashMap<String, Clock>>,
}

/// How data flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Since when a queue has had no consumer.
    pub unattended: Option<Duration>,
    /// Since when messages have waited while nothing was committed.
    pub stuck: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Clock {
    unattended: Option<Instant>,
    stuck: Option<Instant>,
    progress: Option<Progress>,
}

impl Flows {
    /// Takes in what was read of the queues that are consumed and of what is committed. What could not be asked says nothing new.
    pub fn observe(
        &self,
        uid: &str,
        consumed: Option<&Found>,
        progress: Option<&Progress>,
        now: Instant,
    ) -> Flow {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = clocks.entry(uid.to_owned()).or_default();
        *clock = clock.advance(consumed, progress, now);
        let since = |when: Option<Instant>| when.map(|when| now.saturating_duration_since(when));
        Flow {
            unattended: since(clock.unattended),
            stuck: since(clock.stuck),
        }
    }

    /// The feed is gone, or is not consumed for a reason: what was seen says nothing of what comes.
    pub fn forget(&self, uid: &str) {
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.remove(uid);
    }
}

impl Clock {
    fn advance(self, consumed: Option<&Found>, progress: Option<&Progress>, now: Instant) -> Self {
        let consumers = consumed.and_then(|queues| queues.consumers);
        let unattended = match consumers {
            Some(0) => Some(self.unattended.unwrap_or(now)),
            Some(_) => None,
            None => self.unattended,
        };
        let (Some(progress), Some(messages)) = (progress, consumed.and_then(|queues| queues.messages)) else {
            // While the database is away nothing can be committed, which is its condition's to say.
            return Self {
                unattended,
                stuck: None,
                ..self
            };
        };
        let moved = self.progress.is_none_or(|before| before != *progress);
        let stuck = (messages > 0 && !moved).then(|| self.stuck.unwrap_or(now));
        Self {
            unattended,
            stuck,
            progress: Some(*progress),
        }
    }
}

impl Flow {
    /// Whether a queue has been without a consumer for too long.
    #[must_use]
    pub fn is_unattended(&self) -> bool {
        self.unattended.is_some_and(|since| since >= UNATTENDED)
    }

    /// Whether messages have waited for too long.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_some_and(|since| since >= STUCK)
    }

    /// When to look again: at the moment at which what is seen now has stayed so for too long, if that comes before `otherwise`.
    #[must_use]
    pub fn next_look(&self, otherwise: Duration) -> Duration {
        let left = |since: Option<Duration>, bound: Duration| {
            bound.checked_sub(since?).filter(|left| !left.is_zero())
        };
        [left(self.unattended, UNATTENDED), left(self.stuck, STUCK)]
            .into_iter()
            .flatten()
            .fold(otherwise, Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// (second, consumers, messages, ticks committed)
    type Look = (u64, Option<i64>, Option<i64>, Option<i64>);

    fn after(looks: &[Look]) -> Flow {
        let start = Instant::now();
        let flows = Flows::default();
        let mut flow = Flow::default();
        for (second, consumers, messages, ticks) in looks {
            let found = Found {
                consumers: *consumers,
                messages: *messages,
                ..Found::default()
            };
            let progress = ticks.map(|ticks| Progress {
                ticks,
                ..Progress::default()
            });
            let now = start + Duration::from_secs(*second);
            flow = flows.observe("a", Some(&found), progress.as_ref(), now);
        }
        flow
    }

    #[rstest]
    #[case::attended(&[(0, Some(1), Some(5), Some(1)), (100, Some(1), Some(5), Some(2))], false, false)]
    #[case::no_consumer(&[(0, Some(0), Some(0), Some(1)), (30, Some(0), Some(0), Some(1))], true, false)]
    #[case::a_hand_over(&[(0, Some(0), Some(0), Some(1)), (20, Some(1), Some(0), Some(1)), (40, Some(0), Some(0), Some(1))], false, false)]
    #[case::not_counted_meanwhile(&[(0, Some(0), Some(0), Some(1)), (20, None, None, Some(1)), (40, Some(0), Some(0), Some(1))], true, false)]
    #[case::stuck(&[(0, Some(1), Some(5), Some(1)), (10, Some(1), Some(5), Some(1)), (100, Some(1), Some(9), Some(1))], false, true)]
    #[case::empty_meanwhile(&[(0, Some(1), Some(5), Some(1)), (10, Some(1), Some(5), Some(1)), (50, Some(1), Some(0), Some(1)), (100, Some(1), Some(9), Some(1))], false, false)]
    #[case::something_was_committed(&[(0, Some(1), Some(5), Some(1)), (10, Some(1), Some(5), Some(1)), (50, Some(1), Some(5), Some(2)), (110, Some(1), Some(9), Some(2))], false, false)]
    #[case::database_was_away(&[(0, Some(1), Some(5), Some(1)), (10, Some(1), Some(5), Some(1)), (50, Some(1), Some(7), None), (110, Some(1), Some(9), Some(1))], false, false)]
    fn only_what_stays_so_is_believed(#[case] looks: &[Look], #[case] unattended: bool, #[case] stuck: bool) {
        let flow = after(looks);
        assert_eq!(
            (flow.is_unattended(), flow.is_stuck()),
            (unattended, stuck),
            "{flow:?}"
        );
    }

    #[rstest]
    #[case::nothing_is_wrong(None, None, 60)]
    #[case::no_consumer(Some(12), None, 18)]
    #[case::stuck(None, Some(80), 10)]
    #[case::both(Some(25), Some(80), 5)]
    #[case::it_is_known(Some(30), Some(90), 60)]
    #[case::another_look_comes_before(None, Some(10), 60)]
    fn what_lasts_is_seen_as_soon_as_it_is_believed(
        #[case] unattended: Option<u64>,
        #[case] stuck: Option<u64>,
        #[case] seconds: u64,
    ) {
        let flow = Flow {
            unattended: unattended.map(Duration::from_secs),
            stuck: stuck.map(Duration::from_secs),
        };
        assert_eq!(
            flow.next_look(Duration::from_secs(60)),
            Duration::from_secs(seconds)
        );
    }
}
