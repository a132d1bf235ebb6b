//! What a partition's task spends its time on, in Flink's sense: busy, idle, or held up by what is downstream.
//!
//! <https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/monitoring/back_pressure/>

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

/// What a task does at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has nothing to do: nothing was delivered.
    Idle,
    /// It decodes, folds, commits or acknowledges.
    Busy,
    /// It could take more in, but what it holds has to be committed first.
    Backpressured,
}

/// Shares of the time, from 0 to 1; together 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Nothing to do.
    pub idle: f64,
    /// At work.
    pub busy: f64,
    /// Held up by the database.
    pub backpressured: f64,
}

/// Seconds that were spent in each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Nothing to do.
    pub idle_seconds: f64,
    /// At work.
    pub busy_seconds: f64,
    /// Held up by the database.
    pub backpressured_seconds: f64,
}

impl Totals {
    /// What was spent since an earlier time.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            idle_seconds: self.idle_seconds - earlier.idle_seconds,
            busy_seconds: self.busy_seconds - earlier.busy_seconds,
            backpressured_seconds: self.backpressured_seconds - earlier.backpressured_seconds,
        }
    }
}

/// The time a task has spent in each phase.
#[derive(Clone, Debug)]
pub struct Activity(Arc<Mutex<Spent>>);

#[derive(Debug)]
struct Spent {
    phase: Phase,
    since: Instant,
    totals: [Duration; 3],
    sampled: [Duration; 3],
}

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Spent {
            phase: Phase::Idle,
            since: Instant::now(),
            totals: [Duration::ZERO; 3],
            sampled: [Duration::ZERO; 3],
        })))
    }
}

impl Activity {
    /// Notes that the task does something else from now on.
    pub fn enter(&self, phase: Phase) {
        let mut spent = self.lock();
        if spent.phase != phase {
            spent.settle();
            spent.phase = phase;
        }
    }

    /// The shares since the last call.
    #[must_use]
    pub fn sample(&self) -> Shares {
        let mut spent = self.lock();
        spent.settle();
        let [idle, busy, backpressured] = [Phase::Idle, Phase::Busy, Phase::Backpressured]
            .map(|phase| (spent.totals[phase as usize] - spent.sampled[phase as usize]).as_secs_f64());
        spent.sampled = spent.totals;
        let whole = (idle + busy + backpressured).max(f64::MIN_POSITIVE);
        Shares {
            idle: idle / whole,
            busy: busy / whole,
            backpressured: backpressured / whole,
        }
    }

    /// All the time since the beginning, up to now: what differences over any time can be made of.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut spent = self.lock();
        spent.settle();
        let [idle_seconds, busy_seconds, backpressured_seconds] =
            [Phase::Idle, Phase::Busy, Phase::Backpressured]
                .map(|phase| spent.totals[phase as usize].as_secs_f64());
        Totals {
            idle_seconds,
            busy_seconds,
            backpressured_seconds,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        // A panic elsewhere leaves plain numbers behind, not a broken invariant.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn settle(&mut self) {
        let now = Instant::now();
        self.totals[self.phase as usize] += now - self.since;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_begin_anew_with_each_sample() {
        let activity = Activity::default();
        activity.enter(Phase::Busy);
        std::thread::sleep(Duration::from_millis(20));
        activity.enter(Phase::Backpressured);
        std::thread::sleep(Duration::from_millis(10));
        let shares = activity.sample();
        assert!((shares.idle + shares.busy + shares.backpressured - 1.0).abs() < 1e-9);
        assert!(shares.busy > 0.1 && shares.backpressured > 0.1, "{shares:?}");
        std::thread::sleep(Duration::from_millis(5));
        assert!(activity.sample().backpressured > 0.99);
    }

    #[test]
    fn totals_go_on_whatever_is_sampled() {
        let activity = Activity::default();
        activity.enter(Phase::Busy);
        std::thread::sleep(Duration::from_millis(20));
        let before = activity.totals();
        let _sampled = activity.sample();
        std::thread::sleep(Duration::from_millis(10));
        let after = activity.totals().since(before);
        assert!(before.busy_seconds >= 0.02, "{before:?}");
        assert!(after.busy_seconds >= 0.01, "{after:?}");
        assert!(after.backpressured_seconds.abs() < f64::EPSILON, "{after:?}");
    }
}
