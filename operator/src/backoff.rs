//! How long to wait before a feed is looked at again: per feed, exponential, with jitter.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use rand::Rng as _;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait. External trouble that was corrected is seen within it, and healed within 30 s: half of that is left
/// for pods to start.
pub const LONGEST: Duration = Duration::from_secs(15);

/// How many times as long as it waited for its turn a feed waits for the next look, once it waits long. While there are more looks
/// than can be made they become fewer, and a turn comes within a twentieth of the time between two.
const STRETCH: u32 = 20;

/// Waits of all feeds, by UID.
#[derive(Debug)]
pub struct Backoff {
    feeds: Mutex<HashMap<String, Waits>>,
    resync: Duration,
}

/// Of one feed that is not as it should be.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    attempts: u32,
    for_its_turn: Duration,
}

impl Backoff {
    /// Waits of no feeds yet. `resync` is the wait when nothing is wrong: figures are refreshed, and what others changed outside
    /// the cluster is noticed.
    #[must_use]
    pub fn new(resync: Duration) -> Self {
        Self {
            feeds: Mutex::default(),
            resync,
        }
    }

    /// The wait of a feed that is as it should be, spread so that many feeds do not come at once.
    #[must_use]
    pub fn steady(&self) -> Duration {
        self.resync.mul_f64(rand::rng().random_range(0.8..=1.0))
    }

    /// A feed had to wait so long for its turn.
    pub fn waited(&self, uid: &str, duration: Duration) {
        if let Some(waits) = self.lock().get_mut(uid) {
            waits.for_its_turn = duration;
        }
    }

    /// The next wait of a feed that is not as it should be.
    pub fn next(&self, uid: &str) -> Duration {
        let mut feeds = self.lock();
        let waits = feeds.entry(uid.to_owned()).or_default();
        let wait = delay(waits.attempts);
        waits.attempts = waits.attempts.saturating_add(1);
        let stretched = match wait < LONGEST {
            true => wait,
            false => wait.max(waits.for_its_turn.saturating_mul(STRETCH).min(self.resync)),
        };
        stretched.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// A feed is as it should be: its next trouble begins with a short wait again.
    pub fn reset(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Waits>> {
        // A poisoned map of counters is as good as a sound one.
        self.feeds
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The wait after so many earlier ones.
fn delay(attempts: u32) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(attempts));
    doubled.min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<_> = (0..7).map(|attempts| delay(attempts).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn who_waits_for_turns_looks_less_often_but_not_less_than_a_feed_that_is_well() {
        let backoff = Backoff::new(60 * FIRST);
        for seconds in [0, 1, 2, 3, 30] {
            let uid = seconds.to_string();
            for attempt in 0..10 {
                backoff.waited(&uid, Duration::from_secs(seconds));
                let wait = backoff.next(&uid).as_secs_f64();
                let longest = match (attempt, seconds) {
                    (0..4, _) => 8.0,
                    (_, 0) => 15.0,
                    (_, seconds) => (20.0 * seconds as f64).min(60.0),
                };
                assert!(wait <= longest, "{wait}, {seconds} s for a turn");
                assert!(
                    attempt < 4 || wait >= longest / 2.0,
                    "{wait}, {seconds} s for a turn"
                );
            }
        }
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
