//! Which messages of a publisher are committed, and how far they let the watermark go.
//!
//! Never just the highest sequence: a quorum queue may redeliver older messages after newer ones, and a maximum would
//! then drop data. What is kept is runs of consecutive sequences, each with the event time up to which its messages
//! let the watermark go (its bound). Normally there is one run, from 1 to the newest.

use contract::event_time::EventTime;

/// Consecutive committed sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// The latest event time that one of them lets the watermark go to; `None` when none of them says.
    pub bound: Option<EventTime>,
}

/// The committed messages of one publisher in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequences {
    /// Ascending, with at least one missing sequence between two.
    runs: Vec<Run>,
    /// Holes up to this sequence hold the watermark back no longer.
    abandoned: u64,
}

impl Sequences {
    /// From stored runs, in any order.
    #[must_use]
    pub fn restore(runs: impl IntoIterator<Item = Run>, abandoned: u64) -> Self {
        let mut runs: Vec<Run> = runs
            .into_iter()
            .filter(|run| run.first >= 1 && run.first <= run.last)
            .collect();
        runs.sort_by_key(|run| run.first);
        let mut sequences = Self {
            runs: Vec::with_capacity(runs.len()),
            abandoned,
        };
        for run in runs {
            match sequences.runs.last_mut() {
                Some(previous) if run.first <= previous.last.saturating_add(1) => {
                    previous.last = previous.last.max(run.last);
                    previous.bound = previous.bound.max(run.bound);
                }
                _ => sequences.runs.push(run),
            }
        }
        sequences
    }

    /// The committed runs, ascending.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The sequence up to which holes were given up.
    #[must_use]
    pub const fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// Every sequence up to this one is committed.
    #[must_use]
    pub fn committed_through(&self) -> u64 {
        self.runs
            .first()
            .filter(|run| run.first == 1)
            .map_or(0, |run| run.last)
    }

    /// Whether a sequence is committed.
    #[must_use]
    pub fn contains(&self, sequence: u64) -> bool {
        let after = self.runs.partition_point(|run| run.first <= sequence);
        after > 0 && sequence <= self.runs[after - 1].last
    }

    /// Adds a sequence. Returns whether it is new.
    pub fn insert(&mut self, sequence: u64, bound: Option<EventTime>) -> bool {
        let after = self.runs.partition_point(|run| run.first <= sequence);
        if after > 0 && sequence <= self.runs[after - 1].last {
            return false;
        }
        let joins_previous = after > 0 && self.runs[after - 1].last + 1 == sequence;
        let joins_next = self
            .runs
            .get(after)
            .is_some_and(|next| sequence + 1 == next.first);
        match (joins_previous, joins_next) {
            (true, true) => {
                let next = self.runs.remove(after);
                let previous = &mut self.runs[after - 1];
                previous.last = next.last;
                previous.bound = previous.bound.max(next.bound).max(bound);
            }
            (true, false) => {
                let previous = &mut self.runs[after - 1];
                previous.last = sequence;
                previous.bound = previous.bound.max(bound);
            }
            (false, true) => {
                let next = &mut self.runs[after];
                next.first = sequence;
                next.bound = next.bound.max(bound);
            }
            (false, false) => self.runs.insert(
                after,
                Run {
                    first: sequence,
                    last: sequence,
                    bound,
                },
            ),
        }
        true
    }

    /// The holes that hold the watermark back: sequences that are missing below one that is committed.
    pub fn open_holes(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let lasts = std::iter::once(0).chain(self.runs.iter().map(|run| run.last));
        lasts
            .zip(&self.runs)
            .map(|(previous, run)| (previous + 1, run.first - 1))
            .filter(|(first, last)| first <= last && *last > self.abandoned)
    }

    /// Whether sequences are missing that hold the watermark back.
    #[must_use]
    pub fn has_open_holes(&self) -> bool {
        self.open_holes().next().is_some()
    }

    /// Gives up all holes there are now. What arrives in one later is still new.
    pub fn abandon_holes(&mut self) {
        if let Some(last) = self.open_holes().map(|(_, last)| last).max() {
            self.abandoned = last;
        }
    }

    /// How far these messages let the watermark go: the bounds of everything below the first open hole.
    #[must_use]
    pub fn settled_bound(&self) -> Option<EventTime> {
        let hole = self.open_holes().next().map_or(u64::MAX, |(first, _)| first);
        self.runs
            .iter()
            .take_while(|run| run.last < hole)
            .filter_map(|run| run.bound)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime::from_microseconds(second * 1_000_000).unwrap()
    }

    #[test]
    fn older_messages_redelivered_after_newer_ones_are_new() {
        // rabbitmq-server issues 6804 and 10499: the successor got 30–59 first, then 0–29.
        let mut sequences = Sequences::default();
        assert!((31..=60).all(|sequence| sequences.insert(sequence, Some(at(60)))));
        assert_eq!(sequences.committed_through(), 0);
        assert_eq!(sequences.settled_bound(), None);
        assert!((1..=30).all(|sequence| sequences.insert(sequence, Some(at(30)))));
        assert_eq!(
            sequences.runs(),
            [Run {
                first: 1,
                last: 60,
                bound: Some(at(60))
            }]
        );
        assert_eq!(sequences.settled_bound(), Some(at(60)));
        assert!((1..=60).all(|sequence| !sequences.insert(sequence, None)));
    }

    #[test]
    fn an_abandoned_hole_lets_the_watermark_go_and_still_takes_what_arrives() {
        let mut sequences = Sequences::default();
        sequences.insert(1, Some(at(1)));
        sequences.insert(4, Some(at(4)));
        assert_eq!(sequences.open_holes().collect::<Vec<_>>(), [(2, 3)]);
        assert_eq!(sequences.settled_bound(), Some(at(1)));
        sequences.abandon_holes();
        assert_eq!(sequences.settled_bound(), Some(at(4)));
        assert_eq!(sequences.open_holes().count(), 0);
        assert!(sequences.insert(2, None));
        assert!(!sequences.insert(2, None));
        sequences.insert(7, Some(at(7)));
        assert_eq!(sequences.open_holes().collect::<Vec<_>>(), [(5, 6)]);
        assert_eq!(sequences.settled_bound(), Some(at(4)));
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(inserted in proptest::collection::vec(1_u64..40, 0..80)) {
            let mut sequences = Sequences::default();
            let mut model = BTreeSet::new();
            for sequence in inserted {
                let bound = at(i64::try_from(sequence).unwrap());
                prop_assert_eq!(sequences.insert(sequence, Some(bound)), model.insert(sequence));
                prop_assert!((1..45).all(|sequence| sequences.contains(sequence) == model.contains(&sequence)));
                let through = (1..).take_while(|sequence| model.contains(sequence)).last().unwrap_or(0);
                prop_assert_eq!(sequences.committed_through(), through);
                // Bounds here are the sequences themselves, so the settled one is the contiguous prefix.
                let expected = (through > 0).then(|| at(i64::try_from(through).unwrap()));
                prop_assert_eq!(sequences.settled_bound(), expected);
                prop_assert_eq!(&Sequences::restore(sequences.runs().to_vec(), 0), &sequences);
            }
        }
    }
}
