//! Holds back the work of a leader that is none any more.
//!
//! A process may be stopped at any point (a debugger, a frozen machine, a laptop that is closed) and go on when another
//! operator leads long since. So it is not enough to cancel the work when a renewal fails: the work itself asks, each time
//! that it goes on, whether the Lease still holds. It holds for the renew deadline, counted from before its last renewal was
//! sent; that is shorter than the Lease lasts for others, and what is left is the time that a write may take.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use jiff::Timestamp;
use snafu::Snafu;
use tokio::time::Instant;

use crate::clock;

/// This operator does not lead, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Snafu)]
#[snafu(display("this operator does not hold the Lease"))]
pub struct NotLeading;

/// A moment on both clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: Timestamp,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: clock::now(),
        }
    }

    /// How long ago `earlier` was, by the clock that says more. The monotonic one stands still while a machine sleeps; the other
    /// one may be set back.
    fn since(&self, earlier: &Self) -> Duration {
        let monotonic = self.monotonic.saturating_duration_since(earlier.monotonic);
        let wall = Duration::try_from(self.wall.duration_since(earlier.wall)).unwrap_or_default();
        monotonic.max(wall)
    }
}

/// Whether this operator leads. Copies are of one piece.
#[derive(Clone, Debug)]
pub struct Leadership {
    standing: Arc<Mutex<Standing>>,
}

#[derive(Debug)]
enum Standing {
    /// There is no election: this operator is the only one.
    Alone,
    /// Another leads, or nobody.
    Candidate { deadline: Duration },
    /// This one leads.
    Leader { deadline: Duration, renewed: Moment },
    /// This one led, and never will again.
    Ended,
}

impl Leadership {
    /// Of an operator that is the only one.
    #[must_use]
    pub fn alone() -> Self {
        Self::of(Standing::Alone)
    }

    /// Of a candidate. A renewal is good for `deadline`.
    #[must_use]
    pub fn candidate(deadline: Duration) -> Self {
        Self::of(Standing::Candidate { deadline })
    }

    fn of(standing: Standing) -> Self {
        Self {
            standing: Arc::new(Mutex::new(standing)),
        }
    }

    /// Whether this operator leads, this very moment.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.left(&Moment::now()).is_some_and(|left| !left.is_zero())
    }

    /// How long the last renewal is still good for; `None` for whoever does not lead. Zero when it ran out.
    #[must_use]
    pub fn left(&self, now: &Moment) -> Option<Duration> {
        match &*self.lock() {
            Standing::Alone => Some(Duration::MAX),
            Standing::Leader { deadline, renewed } => Some(deadline.saturating_sub(now.since(renewed))),
            Standing::Candidate { .. } | Standing::Ended => None,
        }
    }

    /// The Lease was taken or renewed by a request that was begun then.
    pub fn renewed(&self, begun: Moment) {
        let mut standing = self.lock();
        if let Standing::Candidate { deadline } | Standing::Leader { deadline, .. } = &*standing {
            *standing = Standing::Leader {
                deadline: *deadline,
                renewed: begun,
            };
        }
    }

    /// This operator leads no more, for good.
    pub fn end(&self) {
        *self.lock() = Standing::Ended;
    }

    /// Does work for as long as this operator leads: before each step of it that is asked, and when it does not lead any more the
    /// work is dropped where it stands.
    ///
    /// # Errors
    /// When this operator does not lead, or not any more.
    pub async fn guard<W: Future>(&self, work: W) -> Result<W::Output, NotLeading> {
        let mut work = pin!(work);
        poll_fn(|task| match self.is_held() {
            true => work.as_mut().poll(task).map(Ok),
            false => Poll::Ready(Err(NotLeading)),
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // It is replaced as a whole: there is no half of it.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rstest::rstest;
    use tokio::time::{advance, sleep};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn at(monotonic: Duration, wall: i64) -> Moment {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Moment {
            monotonic: *START.get_or_init(Instant::now) + monotonic,
            wall: Timestamp::from_second(1_800_000_000 + wall).unwrap(),
        }
    }

    #[rstest]
    #[case::just_renewed(0, 0, 10)]
    #[case::a_while_ago(4, 4, 6)]
    #[case::ran_out(10, 10, 0)]
    #[case::the_machine_slept(1, 60, 0)]
    #[case::the_clock_was_set_back(12, -3_600, 0)]
    #[case::the_clock_was_set_back_a_little(3, 1, 7)]
    fn a_renewal_lasts_by_the_clock_that_says_more(
        #[case] monotonic: u64,
        #[case] wall: i64,
        #[case] left: u64,
    ) {
        let leadership = Leadership::candidate(DEADLINE);
        leadership.renewed(at(Duration::ZERO, 0));
        let now = at(Duration::from_secs(monotonic), wall);
        assert_eq!(leadership.left(&now), Some(Duration::from_secs(left)));
    }

    #[test]
    fn only_a_leader_leads() {
        assert!(Leadership::alone().is_held());
        let leadership = Leadership::candidate(DEADLINE);
        assert!(!leadership.is_held());
        leadership.renewed(Moment::now());
        assert!(leadership.is_held());
        leadership.end();
        assert!(!leadership.is_held());
        leadership.renewed(Moment::now());
        assert!(!leadership.is_held(), "an end is for good");
    }

    #[tokio::test(start_paused = true)]
    async fn work_of_a_leader_that_was_stopped_is_dropped_before_its_next_step() {
        let leadership = Leadership::candidate(DEADLINE);
        leadership.renewed(Moment::now());
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        let work = async move {
            for _ in 0..60 {
                counted.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(1)).await;
            }
        };
        let copy = leadership.clone();
        let guarded = tokio::spawn(async move { copy.guard(work).await });
        sleep(Duration::from_millis(2_500)).await;
        assert_eq!(steps.load(Ordering::Relaxed), 3);
        // Stopped: time passes and nothing runs. Then everything wakes at once.
        advance(Duration::from_secs(20)).await;
        assert_eq!(guarded.await.unwrap(), Err(NotLeading));
        assert_eq!(steps.load(Ordering::Relaxed), 3, "no step after that");
    }

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_while_the_lease_is_renewed() {
        let leadership = Leadership::candidate(DEADLINE);
        leadership.renewed(Moment::now());
        let renewing = leadership.clone();
        let work = async {
            for _ in 0..30 {
                sleep(Duration::from_secs(1)).await;
                renewing.renewed(Moment::now());
            }
            "done"
        };
        assert_eq!(leadership.guard(work).await, Ok("done"));
    }
}
