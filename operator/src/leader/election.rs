//! Who may lead, decided from what a Lease says and from how long ago it was seen to change. Pure.
//!
//! A Lease has times of the clock of whoever wrote it, and clocks differ. So they are only ever compared with themselves: a
//! candidate counts, on its own monotonic clock, how long the Lease has stayed as it is. (So does client-go.)

use std::time::Duration;

use jiff::Timestamp;
use snafu::{Snafu, ensure};
use tokio::time::Instant;

/// Waits between two looks are longer by up to this part, so that candidates do not come at once.
pub const JITTER: f64 = 0.2;

/// How long a Lease lasts, and how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A candidate takes a Lease that has stayed as it is for this long.
    pub duration: Duration,
    /// A leader that could not renew for this long is none any more.
    pub renew_deadline: Duration,
    /// How often a leader renews, and a candidate looks.
    pub retry_period: Duration,
}

/// The times do not fit each other.
#[derive(Debug, PartialEq, Eq, Snafu)]
pub enum InvalidTerms {
    /// A leader would still work while another takes over.
    #[snafu(display("--lease-renew-deadline must be shorter than --lease-duration"))]
    Deadline,
    /// A leader would have no second try.
    #[snafu(display("--lease-retry-period must be less than half of --lease-renew-deadline"))]
    Retry,
    /// Leases are counted in seconds.
    #[snafu(display("--lease-duration must be whole seconds, 1s to 1h"))]
    Duration,
    /// It would never wait.
    #[snafu(display("--lease-retry-period must be at least 100ms"))]
    NoWait,
}

impl Terms {
    /// Terms that fit each other.
    ///
    /// # Errors
    /// When they do not.
    pub fn new(
        duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, InvalidTerms> {
        let whole = duration.subsec_nanos() == 0 && (1..=3_600).contains(&duration.as_secs());
        ensure!(whole, DurationSnafu);
        ensure!(retry_period >= Duration::from_millis(100), NoWaitSnafu);
        ensure!(renew_deadline < duration, DeadlineSnafu);
        ensure!(retry_period * 2 < renew_deadline, RetrySnafu);
        Ok(Self {
            duration,
            renew_deadline,
            retry_period,
        })
    }
}

/// What a Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who has it; nobody when it is empty.
    pub holder: String,
    /// How long it lasts from its last renewal.
    pub duration: Duration,
    /// When its holder took it, by that one's clock.
    pub acquired: Option<Timestamp>,
    /// When its holder renewed it last, by that one's clock.
    pub renewed: Option<Timestamp>,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// There is no Lease: make it.
    Create(Record),
    /// Take or renew it, if it is still as it was found.
    Replace(Record),
    /// Somebody else has it.
    Wait {
        /// Who.
        holder: String,
        /// For how long at least, unless it is given back or renewed.
        left: Duration,
    },
    /// This operator led, and somebody else has it, or took it away.
    Lost {
        /// Who; nobody when it is empty.
        holder: String,
    },
}

/// What one operator knows of the election.
#[derive(Debug)]
pub struct Election {
    identity: String,
    terms: Terms,
    observed: Option<(Record, Instant)>,
    leading: bool,
}

impl Election {
    /// A candidate. Its identity must be nobody else's, nor that of the same pod before a restart.
    #[must_use]
    pub const fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            observed: None,
            leading: false,
        }
    }

    /// Who this is.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The terms.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Whether the Lease was this operator's when it last wrote it.
    #[must_use]
    pub const fn is_leading(&self) -> bool {
        self.leading
    }

    /// What to do about the Lease as it is found. `wall` is only written into the Lease.
    pub fn decide(&mut self, found: Option<&Record>, now: Instant, wall: Timestamp) -> Move {
        let fresh = |acquired, transitions| Record {
            holder: self.identity.clone(),
            duration: self.terms.duration,
            acquired: Some(acquired),
            renewed: Some(wall),
            transitions,
        };
        let Some(found) = found else {
            // Somebody removed the Lease. Its holder does not know it yet and goes on until its next renewal.
            let known = self.observed.as_ref();
            let waiting = known.and_then(|(last, since)| self.wait(last, *since, now));
            return waiting.unwrap_or_else(|| Move::Create(fresh(wall, 0)));
        };
        if found.holder == self.identity {
            // Also what a write did whose answer was lost.
            return Move::Replace(fresh(found.acquired.unwrap_or(wall), found.transitions));
        }
        if self.leading {
            return Move::Lost {
                holder: found.holder.clone(),
            };
        }
        let since = match &self.observed {
            Some((last, since)) if last == found => *since,
            _ => now,
        };
        let waiting = self.wait(found, since, now);
        let taken = || Move::Replace(fresh(wall, found.transitions.saturating_add(1)));
        let decided = waiting.unwrap_or_else(taken);
        self.observed = Some((found.clone(), since));
        decided
    }

    /// The Lease was written as decided.
    pub fn confirm(&mut self, record: Record, now: Instant) {
        self.observed = Some((record, now));
        self.leading = true;
    }

    /// The Lease as it is given back: anybody may take it.
    #[must_use]
    pub fn released(&self, found: &Record, wall: Timestamp) -> Record {
        Record {
            holder: String::new(),
            duration: Duration::from_secs(1),
            acquired: found.acquired,
            renewed: Some(wall),
            transitions: found.transitions,
        }
    }

    /// Whether somebody else has the Lease, as far as is known, and for how long.
    fn wait(&self, record: &Record, since: Instant, now: Instant) -> Option<Move> {
        let left = (since + record.duration).saturating_duration_since(now);
        let others = !record.holder.is_empty() && record.holder != self.identity;
        (others && !left.is_zero()).then(|| Move::Wait {
            holder: record.holder.clone(),
            left,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn terms() -> Terms {
        Terms::new(15 * SECOND, 10 * SECOND, 2 * SECOND).unwrap()
    }

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A Lease of `holder`, renewed at a second of that one's clock.
    fn record(holder: &str, renewed: i64) -> Record {
        Record {
            holder: holder.to_owned(),
            duration: 15 * SECOND,
            acquired: Some(wall(0)),
            renewed: Some(wall(renewed)),
            transitions: 3,
        }
    }

    fn candidate() -> Election {
        Election::new("me".to_owned(), terms())
    }

    fn wait(left: Duration) -> Move {
        Move::Wait {
            holder: "other".to_owned(),
            left,
        }
    }

    #[rstest]
    #[case::as_delivered(15, 10, 2, None)]
    #[case::two_leaders(10, 10, 2, Some(InvalidTerms::Deadline))]
    #[case::one_try(15, 10, 5, Some(InvalidTerms::Retry))]
    #[case::no_wait(15, 10, 0, Some(InvalidTerms::NoWait))]
    #[case::no_lease(0, 10, 2, Some(InvalidTerms::Duration))]
    #[case::too_long(3_601, 10, 2, Some(InvalidTerms::Duration))]
    fn terms_fit_each_other(
        #[case] duration: u32,
        #[case] deadline: u32,
        #[case] retry: u32,
        #[case] expected: Option<InvalidTerms>,
    ) {
        let terms = Terms::new(duration * SECOND, deadline * SECOND, retry * SECOND);
        assert_eq!(terms.err(), expected);
    }

    #[test]
    fn a_lease_that_is_not_there_is_made() {
        let made = candidate().decide(None, Instant::now(), wall(7));
        let expected = Record {
            holder: "me".to_owned(),
            duration: 15 * SECOND,
            acquired: Some(wall(7)),
            renewed: Some(wall(7)),
            transitions: 0,
        };
        assert_eq!(made, Move::Create(expected));
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let mut election = candidate();
        let free = election.released(&record("other", 5), wall(6));
        let taken = Record {
            acquired: Some(wall(7)),
            transitions: 4,
            ..record("me", 7)
        };
        assert_eq!(
            election.decide(Some(&free), Instant::now(), wall(7)),
            Move::Replace(taken)
        );
    }

    #[test]
    fn a_lease_runs_out_by_the_candidates_own_clock_whatever_the_holders_clock_says() {
        // The holder's clock is a day behind, or a day ahead: neither makes a difference.
        for skew in [-86_400, 86_400] {
            let mut election = candidate();
            let start = Instant::now();
            let found = record("other", skew);
            assert_eq!(election.decide(Some(&found), start, wall(0)), wait(15 * SECOND));
            let moment = Duration::from_millis(1);
            let almost = start + 15 * SECOND - moment;
            assert_eq!(election.decide(Some(&found), almost, wall(15)), wait(moment));
            let taken = election.decide(Some(&found), start + 15 * SECOND, wall(15));
            assert!(
                matches!(&taken, Move::Replace(record) if record.holder == "me" && record.transitions == 4),
                "{taken:?}"
            );
        }
    }

    #[test]
    fn each_renewal_that_is_seen_starts_the_count_anew() {
        let mut election = candidate();
        let start = Instant::now();
        for second in (0..60).step_by(14) {
            let found = record("other", i64::from(second));
            let now = start + second * SECOND;
            assert_eq!(election.decide(Some(&found), now, wall(0)), wait(15 * SECOND));
        }
    }

    #[test]
    fn the_holders_own_duration_counts() {
        let mut election = candidate();
        let start = Instant::now();
        let mut found = record("other", 0);
        found.duration = 60 * SECOND;
        election.decide(Some(&found), start, wall(0));
        let later = start + 59 * SECOND;
        assert_eq!(election.decide(Some(&found), later, wall(0)), wait(SECOND));
    }

    #[test]
    fn a_lease_that_somebody_removed_is_left_to_its_holder_for_as_long_as_it_lasts() {
        let mut election = candidate();
        let start = Instant::now();
        election.decide(Some(&record("other", 0)), start, wall(0));
        assert_eq!(election.decide(None, start + 14 * SECOND, wall(14)), wait(SECOND));
        let made = election.decide(None, start + 15 * SECOND, wall(15));
        assert!(matches!(made, Move::Create(_)), "{made:?}");
    }

    #[test]
    fn a_leader_renews_and_makes_its_removed_lease_again() {
        let mut election = candidate();
        let now = Instant::now();
        let Move::Create(mine) = election.decide(None, now, wall(0)) else {
            panic!("the Lease is free");
        };
        election.confirm(mine.clone(), now);
        let renewed = election.decide(Some(&mine), now + 2 * SECOND, wall(2));
        let expected = Record {
            renewed: Some(wall(2)),
            ..mine
        };
        assert_eq!(renewed, Move::Replace(expected));
        let again = election.decide(None, now + 4 * SECOND, wall(4));
        assert!(matches!(again, Move::Create(_)), "{again:?}");
    }

    #[rstest]
    #[case::another_has_it("other")]
    #[case::somebody_gave_it_back("")]
    fn a_leader_whose_lease_is_not_its_own_has_lost(#[case] holder: &str) {
        let mut election = candidate();
        let now = Instant::now();
        election.confirm(record("me", 0), now);
        let lost = Move::Lost {
            holder: holder.to_owned(),
        };
        assert_eq!(election.decide(Some(&record(holder, 1)), now, wall(1)), lost);
        // However old it is.
        let later = now + 60 * SECOND;
        assert_eq!(election.decide(Some(&record(holder, 1)), later, wall(60)), lost);
    }
}
