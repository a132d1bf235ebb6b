//! When a generation of queues is drained: empty, and sure to stay so.
//!
//! The broker's counts are some seconds old ([`COUNT_LAG`]), so that "empty" alone says little. A generation is drained
//! when, in this order, nobody publishes to it, the exchange leads to none of its queues any more (it is sealed), a count
//! that is newer than that says zero, and so does another one later. As nothing can come in after the sealing, it was empty then and is
//! for good. A message leaves a queue when it is acknowledged, which is after it was committed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{broker::COUNT_LAG, generations::Found, rollout::Rollout};

/// The least time between the two counts.
const BETWEEN_COUNTS: Duration = Duration::from_secs(5);

/// What was seen of the generations of all feeds. Losing it in a restart only makes the operator wait once more.
#[derive(Debug, Default)]
pub struct Drains {
    clocks: Mutex<HashMap<(String, u32), Clock>>,
    feeds: Mutex<HashMap<String, Clock>>,
}

/// Since when something has been so, without a break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Clock {
    sealed: Option<Instant>,
    empty: Option<Instant>,
}

impl Drains {
    /// Takes in what was read of a feed's queues, at `read_at` or later, and says which generations are drained.
    pub fn observe(
        &self,
        uid: &str,
        found: &BTreeMap<u32, Found>,
        producer: &Rollout,
        read_at: Instant,
    ) -> BTreeSet<u32> {
        let now = Instant::now();
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.retain(|(owner, generation), _| owner != uid || found.contains_key(generation));
        let mut drained = BTreeSet::new();
        for (generation, queues) in found {
            let clock = clocks.entry((uid.to_owned(), *generation)).or_default();
            let sealed = !queues.bound && producer.has_left(*generation);
            *clock = clock.advance(sealed, queues.messages == Some(0), read_at, now);
            if clock.is_drained(read_at) {
                drained.insert(*generation);
            }
        }
        drained
    }

    /// Takes in what was read of all of a feed's queues together, at `read_at` or later, and says whether the feed is drained:
    /// `ended` says that nothing of ours publishes any more, `empty` what the count said.
    pub fn observe_feed(&self, uid: &str, ended: bool, empty: bool, read_at: Instant) -> bool {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        if !ended {
            feeds.remove(uid);
            return false;
        }
        let clock = feeds.entry(uid.to_owned()).or_default();
        *clock = clock.advance(ended, empty, read_at, Instant::now());
        clock.is_drained(read_at)
    }

    /// The feed is gone.
    pub fn forget(&self, uid: &str) {
        let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
        feeds.remove(uid);
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        clocks.retain(|(owner, _), _| owner != uid);
    }
}

impl Clock {
    /// After another look. That it is sealed is known since `now`; a count is as old as `read_at` less the lag.
    fn advance(self, sealed: bool, empty: bool, read_at: Instant, now: Instant) -> Self {
        let sealed = sealed.then(|| self.sealed.unwrap_or(now));
        let fresh = sealed.is_some_and(|sealed| read_at.saturating_duration_since(sealed) >= COUNT_LAG);
        let empty = (fresh && empty).then(|| self.empty.unwrap_or(read_at));
        Self { sealed, empty }
    }

    fn is_drained(self, read_at: Instant) -> bool {
        self.empty
            .is_some_and(|first| read_at.saturating_duration_since(first) >= BETWEEN_COUNTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at these seconds, each as (second, sealed, empty); says at which it was drained.
    fn drained_at(looks: &[(u64, bool, bool)]) -> Vec<u64> {
        let start = Instant::now();
        let mut clock = Clock::default();
        let mut drained = Vec::new();
        for (second, sealed, empty) in looks {
            let at = start + Duration::from_secs(*second);
            clock = clock.advance(*sealed, *empty, at, at);
            if clock.is_drained(at) {
                drained.push(*second);
            }
        }
        drained
    }

    #[test]
    fn two_counts_later_than_the_sealing_by_more_than_their_lag_have_to_be_zero() {
        let lag = COUNT_LAG.as_secs();
        assert_eq!(
            drained_at(&[
                (0, true, true),
                (lag - 1, true, true),
                (lag, true, true),
                (lag + 4, true, true),
                (lag + 5, true, true)
            ]),
            [lag + 5]
        );
    }

    #[test]
    fn a_count_that_is_not_zero_and_a_binding_that_is_back_start_it_anew() {
        let lag = COUNT_LAG.as_secs();
        let filled = [
            (0, true, true),
            (lag, true, true),
            (lag + 3, true, false),
            (lag + 6, true, true),
            (lag + 11, true, true),
        ];
        assert_eq!(drained_at(&filled), [lag + 11]);
        let bound = [
            (0, true, true),
            (lag, true, true),
            (lag + 3, false, true),
            (lag + 6, true, true),
            (lag + 11, true, true),
        ];
        assert_eq!(drained_at(&bound), [] as [u64; 0]);
    }

    #[test]
    fn a_long_reconciliation_does_not_make_a_count_younger() {
        let start = Instant::now();
        let later = start + Duration::from_secs(60);
        // Read at the beginning, known to be sealed at the end.
        let clock = Clock::default().advance(true, true, start, later);
        assert_eq!(clock.empty, None);
        assert_eq!(
            clock
                .advance(true, true, later + COUNT_LAG / 2, later + COUNT_LAG)
                .empty,
            None
        );
    }

    #[test]
    fn generations_are_told_apart_and_a_feed_that_is_gone_is_forgotten() {
        let drains = Drains::default();
        let empty = Found {
            partitions: 1,
            messages: Some(0),
            ..Found::default()
        };
        let found = BTreeMap::from([(1, empty), (2, empty)]);
        let producer = Rollout {
            generations: [2].into(),
            settled: true,
            ..Rollout::default()
        };
        let start = Instant::now();
        drains.observe("a", &found, &producer, start);
        let fresh = Instant::now() + COUNT_LAG;
        drains.observe("a", &found, &producer, fresh);
        let drained = drains.observe("a", &found, &producer, fresh + BETWEEN_COUNTS);
        assert_eq!(drained, [1].into(), "the second is published to");
        drains.forget("a");
        assert!(
            drains
                .observe("a", &found, &producer, fresh + BETWEEN_COUNTS)
                .is_empty()
        );
    }
    #[test]
    fn a_feed_is_drained_when_two_counts_after_the_end_of_its_producer_are_zero() {
        let drains = Drains::default();
        let start = Instant::now();
        assert!(!drains.observe_feed("a", true, true, start));
        let fresh = Instant::now() + COUNT_LAG;
        assert!(!drains.observe_feed("a", true, true, fresh), "one count");
        assert!(drains.observe_feed("a", true, true, fresh + BETWEEN_COUNTS));
        // A pod is back: everything is to be proven anew.
        let later = fresh + BETWEEN_COUNTS;
        assert!(!drains.observe_feed("a", false, true, later));
        assert!(!drains.observe_feed("a", true, true, later + BETWEEN_COUNTS));
        assert!(!drains.observe_feed("b", true, true, later + BETWEEN_COUNTS));
    }
}
