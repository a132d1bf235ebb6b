//! How many requests a fetch may make.
//!
//! Every request is taken from the budget before it is sent, under one lock, so that requests that are under way at once
//! cannot exceed it together. First requests come before repetitions: one symbol's bad luck does not cost another its turn.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The requests of one fetch.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    made: u64,
    planned: u64,
}

impl Budget {
    /// Nothing made yet, and at most `limit` may be.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// Keeps room for so many first requests, instead of those that were planned before and not made.
    pub fn plan(&self, requests: u64) {
        self.lock().planned = requests;
    }

    /// Takes a first request; says whether it may be made.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut state = self.lock();
        state.planned = state.planned.saturating_sub(1);
        let allowed = state.made < self.limit;
        state.made += u64::from(allowed);
        allowed
    }

    /// Whether a repetition may be made at present.
    #[must_use]
    pub fn has_spare(&self) -> bool {
        self.spare(&self.lock())
    }

    /// Takes a repetition; says whether it may be made.
    #[must_use]
    pub fn take_spare(&self) -> bool {
        let mut state = self.lock();
        let allowed = self.spare(&state);
        state.made += u64::from(allowed);
        allowed
    }

    /// How many were taken.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.lock().made
    }

    const fn spare(&self, state: &State) -> bool {
        state.made.saturating_add(state.planned) < self.limit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_requests_come_before_repetitions() {
        let budget = Budget::new(3);
        budget.plan(2);
        assert!(budget.take());
        assert!(budget.take_spare(), "the third is left over");
        assert!(!budget.has_spare() && !budget.take_spare(), "the last is planned");
        assert!(budget.take());
        assert!(!budget.take());
        assert_eq!(budget.made(), 3);
    }

    #[test]
    fn none_are_none_and_the_most_never_overflows() {
        let none = Budget::new(0);
        none.plan(1);
        assert!(!none.take() && !none.take_spare());
        assert_eq!(none.made(), 0);
        let all = Budget::new(u64::MAX);
        all.plan(u64::MAX);
        assert!(all.take() && !all.has_spare());
        all.plan(1);
        assert!(all.has_spare(), "the former plan is given up");
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let budget = Budget::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let _ = budget.take();
                        let _ = budget.take_spare();
                    }
                });
            }
        });
        assert_eq!(budget.made(), 1_000);
    }
}
