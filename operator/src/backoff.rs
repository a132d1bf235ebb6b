//! How long to wait before a feed is looked at again: per feed, exponential, with jitter.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use rand::Rng as _;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait. External trouble that was corrected is seen within it, and healed within 30 s: half of that is left
/// for pods to start.
pub const LONGEST: Duration = Duration::from_secs(15);

/// Waits of all feeds, by UID.
#[derive(Debug)]
pub struct Backoff {
    attempts: Mutex<HashMap<String, u32>>,
    resync: Duration,
}

impl Backoff {
    /// Waits of no feeds yet. `resync` is the wait when nothing is wrong: figures are refreshed, and what others changed outside
    /// the cluster is noticed.
    #[must_use]
    pub fn new(resync: Duration) -> Self {
        Self {
            attempts: Mutex::default(),
            resync,
        }
    }

    /// The wait of a feed that is as it should be, spread so that many feeds do not come at once.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.resync.mul_f64(rand::rng().random_range(0.8..=1.0))
    }

    /// The next wait of a feed that is not as it should be.
    pub fn next(&self, uid: &str) -> Duration {
        let mut attempts = self.lock();
        let attempt = attempts.entry(uid.to_owned()).or_insert(0);
        let wait = delay(*attempt, rand::rng().random_range(0.5..=1.0));
        *attempt = attempt.saturating_add(1);
        wait
    }

    /// A feed is as it should be: its next trouble begins with a short wait again.
    pub fn reset(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        // A poisoned map of counters is as good as a sound one.
        self.attempts
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The wait after `attempt` earlier ones. `jitter` is 0.5 to 1.
fn delay(attempt: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempt));
    doubled.min(LONGEST).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<_> = (0..7).map(|attempt| delay(attempt, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(delay(u32::MAX, 0.5), Duration::from_millis(7_500));
    }

    #[test]
    fn feeds_wait_independently_and_a_reset_starts_anew() {
        let backoff = Backoff::new(60 * FIRST);
        for _ in 0..10 {
            backoff.next("a");
        }
        assert!(backoff.next("a") >= LONGEST / 2);
        assert!(backoff.next("b") <= FIRST);
        backoff.reset("a");
        assert!(backoff.next("a") <= FIRST);
    }

    #[test]
    fn feeds_that_are_well_come_spread_over_a_fifth_of_the_period() {
        let backoff = Backoff::new(Duration::from_secs(60));
        let waits: Vec<_> = (0..200).map(|_| backoff.steady()).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= Duration::from_secs(48) && *most <= Duration::from_secs(60));
        assert!(*most - *least > Duration::from_secs(6), "they are spread");
    }
}
